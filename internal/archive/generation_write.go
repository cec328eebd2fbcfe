package archive

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Reasons why a generation is not made now.
var (
	errBusy = errors.New("archive: another process is replacing files")
	errLost = errors.New("archive: another process decided otherwise")
)

const (
	// abandonAfter is for how long a generation of another process may stay undecided
	// before it counts as abandoned. Aborting one that is alive costs its work only.
	abandonAfter = 30 * time.Minute
	lastWord     = 10 * time.Second // to abort what cannot be finished
)

// generations is the part of an Archive that replaces files.
type generations struct {
	owner     string
	alone     bool          // nobody else has this place: what is undecided is of a process that died
	turn      chan struct{} // holds a token while files are replaced or hours deleted
	target    int64         // bytes of a merged file
	idsAtOnce int64         // ids compared in one pass; 0: what the memory limit allows

	mu       sync.Mutex
	pins     map[hour]int // hours that are being read
	unpinned chan struct{}
	due      map[hour]bool // true: merging failed the last time
	unswept  bool          // files that do not count may be left
	sum      Compaction
}

func newGenerations(alone bool) *generations {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	host, _ := os.Hostname()
	return &generations{
		alone: alone,
		owner: fmt.Sprintf("%s/%d/%s", host, os.Getpid(), hex.EncodeToString(id[:])),
		turn:  make(chan struct{}, 1), target: mergedBytes, pins: make(map[hour]int),
		unpinned: make(chan struct{}), due: make(map[hour]bool), unswept: true,
	}
}

// take waits until nothing else replaces or deletes files.
func (g *generations) take(ctx context.Context) (release func(), err error) {
	select {
	case g.turn <- struct{}{}:
		return func() { <-g.turn }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("archive: %w", ctx.Err())
	}
}

// pin keeps the files of an hour in place while it is read.
func (g *generations) pin(h hour) (unpin func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pins[h]++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.pins[h]--; g.pins[h] == 0 {
			delete(g.pins, h)
			close(g.unpinned)
			g.unpinned = make(chan struct{})
		}
	}
}

func (g *generations) pinned(h hour) (bool, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.pins[h] > 0, g.unpinned
}

// late notes that an hour has a file that is not merged.
func (g *generations) late(h hour) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.due[h]; !ok {
		g.due[h] = false
	}
}

// failed puts an hour behind the others: one damaged file must not stop them all.
func (g *generations) failed(h hour) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.due[h] = true
}

func (g *generations) done(h hour) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.due, h)
}

func (g *generations) dueHours() []hour {
	g.mu.Lock()
	defer g.mu.Unlock()
	hours := slices.Sorted(maps.Keys(g.due))
	slices.SortStableFunc(hours, func(x, y hour) int {
		switch {
		case g.due[x] == g.due[y]:
			return 0
		case g.due[y]:
			return -1
		default:
			return 1
		}
	})
	return hours
}

// generation is one replacement of files of an hour.
type generation struct {
	archive *Archive
	hour    hour
	number  int
	before  *hourFiles
	folder  string // local
	inputs  []liveFile
	outputs []genFile
	instead map[string]genFile // outputs that take the place of a merged input, by its dataset and name
	news    verdict            // its counts

	decisions map[hour][]record // of the whole archive, once it was declared: until it is decided nobody makes others
}

// allDecisions lists every decision.
func (a *Archive) allDecisions(ctx context.Context) (map[hour][]record, error) {
	all := make(map[hour][]record)
	err := a.place.list(ctx, compactFolder+"/", func(name string, _ int64) error {
		if h, r, ok := parseDecision(name); ok {
			all[h] = append(all[h], r)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("archive: list %s: %w", compactFolder, err)
	}
	return all, nil
}

// undecided returns the newest generation of an hour without a verdict, 0: none.
func undecided(records []record) int {
	decided, open := 0, 0
	for _, r := range records {
		switch r.kind {
		case verdictKind:
			decided = max(decided, r.number)
		case intentKind:
			open = max(open, r.number)
		}
	}
	if open <= decided {
		return 0
	}
	return open
}

// recover ends what crashed processes left: it aborts their undecided generations
// and deletes what does not count. It answers errBusy when another process is at
// work; force takes its work away.
func (a *Archive) recover(ctx context.Context, force bool) error {
	all, err := a.allDecisions(ctx)
	if err != nil {
		return err
	}
	left := false
	for _, h := range slices.Sorted(maps.Keys(all)) {
		if !slices.ContainsFunc(all[h], func(r record) bool { return r.kind == intentKind }) {
			continue
		}
		if n := undecided(all[h]); n > 0 {
			if !force && !a.abandoned(ctx, h, n) {
				return errBusy
			}
			if err := a.abort(ctx, h, n); err != nil {
				return err
			}
			a.gens.late(h) // its inputs wait to be merged
		}
		swept, err := a.sweep(ctx, h, force)
		if err != nil {
			return err
		}
		left = left || !swept
	}
	a.gens.mu.Lock()
	a.gens.unswept = left
	a.gens.mu.Unlock()
	return nil
}

func (a *Archive) abandoned(ctx context.Context, h hour, number int) bool {
	if a.gens.alone {
		return true
	}
	data, err := a.readSmall(ctx, h.decision(number, intentKind))
	if err != nil {
		return false
	}
	var in genIntent
	if json.Unmarshal(data, &in) != nil {
		return true // torn: whoever wrote it died
	}
	return in.By == a.gens.owner || a.now().Sub(in.At).Abs() > abandonAfter // a clock that runs ahead stops nobody
}

// abort decides that a generation does not count, unless it was decided.
func (a *Archive) abort(ctx context.Context, h hour, number int) error {
	v := verdict{Format: formatVersion, Outcome: outcomeAborted, By: a.gens.owner, At: a.now().UTC()}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	if _, err := a.place.create(ctx, h.decision(number, verdictKind), data); err != nil {
		return fmt.Errorf("archive: abort generation %d of %s: %w", number, h.time(), err)
	}
	return nil
}

// sweep deletes the files of an hour that do not count, and then the decisions that
// do not matter any more. It leaves an hour alone that is being read, and tells
// that by false, or waits for its readers.
func (a *Archive) sweep(ctx context.Context, h hour, wait bool) (bool, error) {
	if free, err := a.gens.free(ctx, h, wait); err != nil || !free {
		return false, err
	}
	a.placing.Lock()
	defer a.placing.Unlock()
	all, err := a.files(ctx, h, rawSet, eventSet, badSet)
	if err != nil {
		return false, err
	}
	names := all.dead
	for _, kind := range []string{idsKind, verdictKind, intentKind} { // the intent last: it says that this is to do
		for _, r := range all.state.records {
			if r.kind == kind && all.state.outlived(r) {
				names = append(names, r.name)
			}
		}
	}
	for _, name := range names {
		if err := a.place.remove(ctx, name); err != nil {
			return false, fmt.Errorf("archive: delete %s: %w", name, err)
		}
	}
	a.restock(ctx, h)
	return true, nil
}

// outlived reports whether an object does not matter any more once the files that do
// not count are deleted. The newest verdict stays even if it says aborted: it keeps
// its number from being used again.
func (s *hourState) outlived(r record) bool {
	if r.number < s.committed {
		return true
	}
	switch r.kind {
	case intentKind:
		return r.number <= s.decided
	case idsKind:
		return r.number <= s.decided && r.number != s.committed
	default:
		return false
	}
}

// free reports that nobody reads an hour; it may wait for that.
func (g *generations) free(ctx context.Context, h hour, wait bool) (bool, error) {
	for {
		pinned, unpinned := g.pinned(h)
		if !pinned || !wait {
			return !pinned, nil
		}
		select {
		case <-unpinned:
		case <-ctx.Done():
			return false, fmt.Errorf("archive: wait for the readers of %s: %w", h.time(), ctx.Err())
		}
	}
}

// restock takes stock of an hour again.
func (a *Archive) restock(ctx context.Context, h hour) {
	folders := make(map[folder]struct{}, numDatasets)
	for d := range numDatasets {
		folders[folder{d, h}] = struct{}{}
	}
	a.recount(ctx, folders)
}

// generate replaces the inputs in an hour by what build writes. The caller has the
// turn. When it returns nil the replacement is durable; errLost and errBusy say
// that another process stood in the way and that nothing changed.
func (a *Archive) generate(ctx context.Context, before *hourFiles, why string, inputs []liveFile, build func(*generation) error) (err error) {
	g := &generation{archive: a, hour: before.state.hour, before: before, inputs: inputs, instead: make(map[string]genFile)}
	g.number = max(before.state.decided, before.state.open) + 1
	for _, r := range before.state.records {
		g.number = max(g.number, r.number+1)
	}
	if before.state.open > 0 {
		return errBusy
	}
	if g.folder, err = os.MkdirTemp(a.tmp, "generation-*"); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	defer os.RemoveAll(g.folder)
	if err := g.declare(ctx, why); err != nil {
		return err
	}
	a.gens.mu.Lock()
	a.gens.unswept = true
	a.gens.mu.Unlock()
	if err := g.finish(ctx, build); err != nil {
		// Whether it was decided or not: a verdict that is there stays.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWord)
		defer cancel()
		if e := a.abort(last, g.hour, g.number); e == nil {
			_, e = a.sweep(last, g.hour, false)
			err = errors.Join(err, e)
		}
		return err
	}
	return nil
}

// declare makes the intent durable and looks whether anybody else is at work.
func (g *generation) declare(ctx context.Context, why string) error {
	a := g.archive
	in := genIntent{Format: formatVersion, By: a.gens.owner, At: a.now().UTC(), Why: why}
	for _, f := range g.inputs {
		in.Inputs = append(in.Inputs, f.name)
	}
	data, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	name := g.hour.decision(g.number, intentKind)
	created, err := a.place.create(ctx, name, data)
	if err != nil {
		return fmt.Errorf("archive: %s: %w", name, err)
	}
	if !created {
		return errBusy
	}
	// Whoever declares second sees the first; then at least one of two gives way.
	all, err := a.allDecisions(ctx)
	if err != nil {
		return err
	}
	for h, records := range all {
		n := undecided(records)
		if h == g.hour && n == g.number || h != g.hour && n == 0 {
			continue
		}
		return errors.Join(errBusy, a.abort(ctx, g.hour, g.number))
	}
	g.decisions = all
	return nil
}

func (g *generation) finish(ctx context.Context, build func(*generation) error) error {
	if err := build(g); err != nil {
		return err
	}
	return g.commit(ctx)
}

// place moves a finished local file to its name.
func (g *generation) place(ctx context.Context, local string, f genFile) error {
	d, _ := datasetOf(f.Set)
	name := g.hour.folder(d) + f.Name
	if err := g.archive.place.put(ctx, local, name); err != nil {
		return fmt.Errorf("archive: place %s: %w", name, err)
	}
	g.outputs = append(g.outputs, f)
	return nil
}

// commit makes the verdict.
func (g *generation) commit(ctx context.Context) error {
	a := g.archive
	v := g.verdict()
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	name := g.hour.decision(g.number, verdictKind)
	created, err := a.place.create(ctx, name, data)
	if err != nil {
		other, e := a.readVerdict(ctx, name)
		if e != nil || other.By != v.By || other.Outcome != outcomeCommitted {
			return fmt.Errorf("archive: %s: %w", name, err)
		}
		created = true // it was stored, only the answer was lost
	}
	if !created {
		return errLost
	}
	return nil
}

// verdict says what counts in the hour from now on: what stood there and is no
// input, and the outputs; an output that stands for a range's file takes the
// place that its name gives it, one that replaces a merged file that file's place.
func (g *generation) verdict() verdict {
	v := g.news
	v.Format, v.Outcome, v.By, v.At = formatVersion, outcomeCommitted, g.archive.gens.owner, g.archive.now().UTC()
	gone := make(map[string]bool)
	dead := g.before.state.dead
	v.Dead = make(map[string][]string)
	for d := range numDatasets {
		v.Dead[d.String()] = slices.Collect(maps.Keys(dead[d]))
	}
	for _, f := range g.inputs {
		gone[f.set.String()+f.base()] = true
		if _, ok := rewritten(f.base()); !ok {
			v.Dead[f.set.String()] = append(v.Dead[f.set.String()], f.base())
		}
	}
	for d := range numDatasets {
		slices.Sort(v.Dead[d.String()])
	}
	for _, f := range g.before.state.files {
		if !gone[f.Set+f.Name] {
			v.Files = append(v.Files, f)
		} else if instead, ok := g.instead[f.Set+f.Name]; ok {
			v.Files = append(v.Files, instead)
		}
	}
	for _, f := range g.outputs {
		if !slices.ContainsFunc(v.Files, func(o genFile) bool { return o.Set == f.Set && o.Name == f.Name }) {
			v.Files = append(v.Files, f)
		}
	}
	return v
}

// outputName is the next file name of the generation in a dataset.
func (g *generation) outputName(imported bool, stands string) string {
	prefix := compactPrefix
	if stands != "" {
		prefix = redactPrefix
	}
	if imported {
		prefix = importPrefix + prefix
	}
	return fmt.Sprintf("%s%06d-%03d%s", prefix, g.number, len(g.outputs), fileSuffix)
}

func (g *generation) local(name string) string { return filepath.Join(g.folder, name) }
