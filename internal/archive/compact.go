package archive

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"github.com/parquet-go/parquet-go"

	"furrow/internal/event"
)

const (
	mergedBytes    = 256 << 20 // of a merged file
	alwaysMerged   = 16 << 20  // merged files up to this size are merged again with late ones
	worthMerging   = 4         // larger ones when they have at most this many times the bytes of what is merged
	compactPerCall = 4 << 30   // input bytes of one Compact

	failuresPerCall = 3 // hours that cannot be merged before a Compact gives up
)

// Compacted says what a Compact did.
type Compacted struct {
	Hours       int   `json:"hours"` // merged
	FilesBefore int64 `json:"filesBefore"`
	FilesAfter  int64 `json:"filesAfter"`
	BytesBefore int64 `json:"bytesBefore"`
	BytesAfter  int64 `json:"bytesAfter"`
	Rows        int64 `json:"rows"`       // written, all datasets
	Doubles     int64 `json:"doubles"`    // events dropped: their id was there
	Conflicts   int64 `json:"conflicts"`  // the same, but with other content
	RawDoubles  int64 `json:"rawDoubles"` // records
	BadDoubles  int64 `json:"badDoubles"` // bad rows
	Left        int   `json:"left"`       // closed hours that are still to be merged
}

// Compaction is what Status tells of all merging since Open.
type Compaction struct {
	Compacted
	Last    time.Time `json:"last,omitzero"`
	Pending int       `json:"pending"` // hours with files that are not merged, the open ones too
}

func (g *generations) status() Compaction {
	g.mu.Lock()
	defer g.mu.Unlock()
	sum := g.sum
	sum.Pending = len(g.due)
	return sum
}

// Compact merges the files of closed hours, the oldest first, but last those that
// could not be merged the time before: afterwards they are
// few, raw has each record of its hour once, bad each bad row, and events has each
// event id once within DedupDays in either direction. The first that was merged
// stays. It does a bounded amount of work; call it about once a minute, and again
// at once while Left says so. Of several processes one at a time does anything.
func (a *Archive) Compact(ctx context.Context, now time.Time) (Compacted, error) {
	var sum Compacted
	if a.cfg.Compact.After <= 0 {
		return sum, nil
	}
	if err := a.ensureStock(ctx); err != nil {
		return sum, err
	}
	closed := a.closed(now)
	a.gens.mu.Lock()
	unswept := a.gens.unswept
	a.gens.mu.Unlock()
	if len(closed) == 0 && !unswept {
		return sum, nil
	}
	if busy, err := a.recoverFirst(ctx); busy || err != nil {
		sum.Left = len(closed)
		return sum, err
	}
	closed = a.closed(now)
	ahead := &backlog{}
	var failed []error
	for i, h := range closed {
		if sum.BytesBefore >= compactPerCall || ctx.Err() != nil {
			sum.Left += len(closed) - i
			break
		}
		if _, ok := ahead.hours[h]; !ok {
			ahead = a.foresee(ctx, closed[i:])
		}
		err := a.compactInTurn(ctx, h, ahead, &sum)
		if errors.Is(err, errBusy) || errors.Is(err, errLost) {
			sum.Left += len(closed) - i
			break
		}
		if err == nil {
			continue
		}
		sum.Left++
		a.gens.failed(h)
		failed = append(failed, fmt.Errorf("merge %s: %w", h.time(), err))
		if len(failed) >= failuresPerCall {
			sum.Left += len(closed) - i - 1
			break
		}
	}
	return sum, errors.Join(failed...)
}

func (a *Archive) recoverFirst(ctx context.Context) (bool, error) {
	release, err := a.gens.take(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	err = a.recover(ctx, false)
	if errors.Is(err, errBusy) {
		return true, nil
	}
	return false, err
}

// closed returns the hours to merge: over for long enough, and no open range holds
// rows of them.
func (a *Archive) closed(now time.Time) []hour {
	due := a.gens.dueHours()
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.DeleteFunc(due, func(h hour) bool {
		if now.Sub(h.time().Add(time.Hour)) < a.cfg.Compact.After {
			return true
		}
		for r := range a.open {
			if _, ok := r.touched[h]; ok {
				return true
			}
		}
		return false
	})
}

func (a *Archive) compactInTurn(ctx context.Context, h hour, ahead *backlog, sum *Compacted) error {
	release, err := a.gens.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	began := a.now()
	one, err := a.compactHour(ctx, h, ahead)
	if err != nil {
		return err
	}
	a.gens.done(h)
	if one.Hours == 0 {
		return nil
	}
	sum.add(one)
	a.gens.mu.Lock()
	a.gens.sum.add(one)
	a.gens.sum.Last = a.now()
	a.gens.mu.Unlock()
	a.metrics.compacted(one, a.now().Sub(began))
	a.log.Info("archive hour merged", "hour", h.time(), "filesBefore", one.FilesBefore, "filesAfter", one.FilesAfter,
		"bytesBefore", one.BytesBefore, "bytesAfter", one.BytesAfter, "doubles", one.Doubles, "conflicts", one.Conflicts)
	return nil
}

func (c *Compacted) add(o Compacted) {
	c.Hours += o.Hours
	c.FilesBefore += o.FilesBefore
	c.FilesAfter += o.FilesAfter
	c.BytesBefore += o.BytesBefore
	c.BytesAfter += o.BytesAfter
	c.Rows += o.Rows
	c.Doubles += o.Doubles
	c.Conflicts += o.Conflicts
	c.RawDoubles += o.RawDoubles
	c.BadDoubles += o.BadDoubles
}

// compactHour merges the files of one hour. The caller has the turn.
func (a *Archive) compactHour(ctx context.Context, h hour, ahead *backlog) (Compacted, error) {
	var c Compacted
	before, err := a.files(ctx, h, rawSet, eventSet, badSet)
	if err != nil {
		return c, err
	}
	var inputs, stay [numDatasets][]liveFile
	var all []liveFile
	for d := range numDatasets {
		inputs[d], stay[d] = a.toMerge(before.live[d])
		all = append(all, inputs[d]...)
	}
	if len(all) == 0 {
		if len(before.dead) > 0 || before.state.open > 0 {
			_, err = a.sweep(ctx, h, false)
		}
		return c, err
	}
	c.Hours = 1
	for d := range numDatasets {
		for _, f := range before.live[d] {
			c.FilesBefore++
			c.BytesBefore += f.size
		}
	}
	ahead.current(before, inputs[eventSet])
	m := merge{archive: a, hour: h, inputs: inputs, stay: stay, ahead: ahead, sum: &c}
	var v verdict
	var list string
	err = a.generate(ctx, before, "compact", all, func(g *generation) error {
		err := m.build(ctx, g)
		v, list = g.verdict(), h.decision(g.number, idsKind)
		return err
	})
	if err != nil {
		return c, err
	}
	ahead.merged(h, list)
	for _, f := range v.Files {
		c.FilesAfter++
		c.BytesAfter += f.Bytes
	}
	_, err = a.sweep(ctx, h, false)
	return c, err
}

// toMerge parts the files of a dataset of an hour into those to merge and those
// that stay: all that are not merged yet, and the last merged ones while they are
// small beside them.
func (a *Archive) toMerge(live []liveFile) (inputs, stay []liveFile) {
	first := slices.IndexFunc(live, func(f liveFile) bool { return f.stands != "" })
	if first < 0 {
		return nil, live
	}
	size := int64(0)
	for _, f := range live[first:] {
		size += f.size
	}
	for first > 0 {
		f := live[first-1]
		if f.size >= a.gens.target/2 || f.size > alwaysMerged && f.size > worthMerging*size {
			break
		}
		size += f.size
		first--
	}
	return live[first:], live[:first]
}

// merge is the work of one generation.
type merge struct {
	archive      *Archive
	hour         hour
	inputs, stay [numDatasets][]liveFile
	ahead        *backlog
	sum          *Compacted
}

func (m *merge) build(ctx context.Context, g *generation) error {
	for d := range numDatasets {
		// Late files of one dataset leave the others alone, and their lists of ids.
		if len(m.inputs[d]) == 0 && (d != eventSet || len(m.stay[d]) == 0) {
			continue
		}
		s := &sieve{archive: m.archive, set: d, hour: m.hour, stay: m.stay[d], inputs: m.inputs[d], ahead: m.ahead}
		if err := m.sift(ctx, g, s); err != nil {
			return err
		}
		var err error
		if d == badSet {
			err = m.writeBad(ctx, g, s)
		} else {
			err = m.write(ctx, g, s)
		}
		if err != nil {
			return err
		}
	}
	for _, f := range g.outputs {
		m.sum.Rows += f.Rows
	}
	g.news.Doubles, g.news.Conflicts = m.sum.Doubles, m.sum.Conflicts
	return nil
}

// sift finds the doubles of a dataset.
func (m *merge) sift(ctx context.Context, g *generation, s *sieve) (err error) {
	if s.set == eventSet {
		s.lists = m.archive.otherLists(g.decisions, m.hour)
		s.sortByTime(ctx)
	}
	if err := m.archive.listIDs(ctx, g, s); err != nil {
		return err
	}
	switch s.set {
	case rawSet:
		m.sum.RawDoubles += s.doubles
	case badSet:
		m.sum.BadDoubles += s.doubles
	default:
		m.sum.Doubles += s.doubles
		m.sum.Conflicts += s.conflicts
	}
	return nil
}

// listIDs runs a sieve, and for events places the list of what it leaves.
func (a *Archive) listIDs(ctx context.Context, g *generation, s *sieve) (err error) {
	if s.set != eventSet {
		return s.run(ctx)
	}
	local := g.local(idsKind)
	if s.ids, err = newIDsWriter(local); err != nil {
		return err
	}
	if err := s.run(ctx); err != nil {
		s.ids.discard()
		return err
	}
	if err := s.ids.finish(); err != nil {
		return err
	}
	name := g.hour.decision(g.number, idsKind)
	if err := a.place.put(ctx, local, name); err != nil {
		return fmt.Errorf("archive: place %s: %w", name, err)
	}
	os.Remove(local)
	return nil
}

// window is for how many hours before and after an event its id must be unique.
func (a *Archive) window() hour { return hour(max(0, a.cfg.DedupDays)) * 24 }

// otherLists returns the lists of ids of the other hours in which an id must be
// unique.
func (a *Archive) otherLists(decisions map[hour][]record, h hour) []idList {
	var lists []idList
	for other, records := range decisions {
		if other == h || other < h-a.window() || other > h+a.window() {
			continue
		}
		for _, name := range listsOf(records) {
			lists = append(lists, idList{other, name})
		}
	}
	slices.SortFunc(lists, func(x, y idList) int { return int(x.hour - y.hour) })
	return lists
}

// listsOf returns the names of the lists of ids of an hour. There is one, but while
// a generation that was aborted is not swept: what the newest lacks may be there.
func listsOf(records []record) []string {
	var names []string
	for _, r := range records {
		if r.kind == idsKind {
			names = append(names, r.name)
		}
	}
	return names
}

// sortByTime puts files of the same time next to each other, so that the bounds of
// row groups tell something; the order of rows in a file stays the bus's. A file
// whose bounds cannot be read keeps its place.
func (s *sieve) sortByTime(ctx context.Context) {
	first := make(map[string]int64, len(s.inputs))
	for _, f := range s.inputs {
		first[f.name] = s.archive.firstTime(ctx, f)
	}
	slices.SortStableFunc(s.inputs, func(x, y liveFile) int {
		if (x.stands == "") != (y.stands == "") {
			return inOrder(x, y) // what was there first wins
		}
		return int(max(-1, min(1, first[x.name]-first[y.name])))
	})
}

// firstTime is the smallest collector time of a file, 0 when its footer tells none.
func (a *Archive) firstTime(ctx context.Context, f liveFile) int64 {
	in, err := a.openFile(ctx, f.name)
	if err != nil {
		return 0 // whoever reads it next says so
	}
	defer in.close()
	at := in.columnsOf(event.CollectorTstamp.Name())[0]
	if at < 0 {
		return 0
	}
	least := int64(math.MaxInt64)
	for _, group := range in.RowGroups() {
		if c, ok := group.ColumnChunks()[at].(*parquet.FileColumnChunk); ok {
			if lo, _, ok := c.Bounds(); ok {
				least = min(least, lo.Int64())
			}
		}
	}
	return least
}

// write writes what the sieve left of raw or events, column by column; imported
// events keep files of their own.
func (m *merge) write(ctx context.Context, g *generation, s *sieve) error {
	return errors.Join(m.writeKind(ctx, g, s, false), m.writeKind(ctx, g, s, true))
}

func (m *merge) writeKind(ctx context.Context, g *generation, s *sieve, imported bool) error {
	o := &outlet[struct{}]{ctx: ctx, g: g, set: s.set, imported: imported}
	defer o.discard()
	offset := int64(0)
	for _, f := range s.inputs {
		if f.imported() == imported {
			if err := copyFile(ctx, o, f.name, s.drop, offset); err != nil {
				return err
			}
		}
		offset += f.rows
	}
	return o.end()
}

// writeBad writes what the sieve left of bad, row by row: when the first of a run
// goes, the next takes over the record.
func (m *merge) writeBad(ctx context.Context, g *generation, s *sieve) error {
	o := newBadOutlet(ctx, g)
	defer o.discard()
	row := int64(0)
	for _, f := range s.inputs {
		err := m.archive.eachBad(ctx, f.name, func(b event.BadRow) error {
			row++
			if s.drop.has(row - 1) {
				return nil
			}
			return o.add(b)
		})
		if err != nil {
			return err
		}
	}
	return o.end()
}
