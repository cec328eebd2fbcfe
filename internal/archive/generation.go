package archive

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrChanged says that another process replaced the files of an hour while they
// were being read, after rows of it had been handed out. Read that hour again.
var ErrChanged = errors.New("archive: the files of an hour were replaced while it was read, read it again")

const (
	compactFolder = "_compact"
	compactPrefix = "compact-"
	redactPrefix  = "redacted-" // stands for one file of a range, and is still to be merged
	importPrefix  = importStream + "-"
	importStream  = "import"
	maxRecord     = 256 << 20 // bytes of a decision: it names all replaced files of an hour
	readAttempts  = 8         // of an hour whose decisions change meanwhile
)

// Kinds of the objects that tell of a generation.
const (
	intentKind  = "intent"
	verdictKind = "verdict"
	idsKind     = "ids"
)

const (
	outcomeCommitted = "committed"
	outcomeAborted   = "aborted"
)

// genIntent says who is replacing files of an hour. It stays until the files that
// do not count any more are deleted.
type genIntent struct {
	Format int       `json:"format"`
	By     string    `json:"by"`
	At     time.Time `json:"at"`
	Why    string    `json:"why"`
	Inputs []string  `json:"inputs"`
}

// verdict decides a generation. A committed one says all there is to know about
// the rewritten files of its hour, so the ones before it do not matter any more.
type verdict struct {
	Format    int                 `json:"format"`
	Outcome   string              `json:"outcome"`
	By        string              `json:"by"`
	At        time.Time           `json:"at"`
	Files     []genFile           `json:"files,omitempty"` // what counts, in the order in which it is read
	Dead      map[string][]string `json:"dead,omitempty"`  // by dataset: files of ranges that were replaced
	Doubles   int64               `json:"doubles,omitempty"`
	Conflicts int64               `json:"conflicts,omitempty"`
}

// genFile is a file that a generation wrote.
type genFile struct {
	Set   string `json:"set"`
	Name  string `json:"name"`          // without its folder
	For   string `json:"for,omitempty"` // the one file of a range that it stands for; it is still to be merged
	Rows  int64  `json:"rows"`
	Bytes int64  `json:"bytes"`
}

// hourState is what was decided about an hour.
type hourState struct {
	hour      hour
	decided   int // newest generation with a verdict, 0: none
	committed int // newest that was committed
	open      int // newest without a verdict, 0: none
	files     []genFile
	dead      [numDatasets]map[string]struct{}
	records   []record
}

// record is one object in an hour's folder of decisions.
type record struct {
	name   string
	number int
	kind   string
}

func (h hour) decisions() string { return h.time().Format(compactFolder + "/2006-01-02/15/") }

func (h hour) decision(number int, kind string) string {
	return fmt.Sprintf("%s%06d.%s", h.decisions(), number, kind)
}

// parseDecision finds the hour and what it is in the name of an object under
// _compact.
func parseDecision(name string) (hour, record, bool) {
	rest, ok := strings.CutPrefix(name, compactFolder+"/")
	if !ok {
		return 0, record{}, false
	}
	i := strings.LastIndexByte(rest, '/')
	if i < 0 {
		return 0, record{}, false
	}
	t, err := time.Parse("2006-01-02/15", rest[:i])
	if err != nil {
		return 0, record{}, false
	}
	digits, kind, _ := strings.Cut(rest[i+1:], ".")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 {
		return 0, record{}, false
	}
	h := hourOf(t)
	return h, record{name, n, kind}, h.decision(n, kind) == name
}

// rewritten reports of which generation the file name is, and whether there is one:
// compact-N-K or redacted-N-K, of imported events with import- in front, which no
// range ever writes.
func rewritten(base string) (int, bool) {
	s, ok := strings.CutSuffix(strings.TrimPrefix(base, importPrefix), fileSuffix)
	if !ok {
		return 0, false
	}
	numbers, ok := strings.CutPrefix(s, compactPrefix)
	if !ok {
		if numbers, ok = strings.CutPrefix(s, redactPrefix); !ok {
			return 0, false
		}
	}
	number, part, ok := strings.Cut(numbers, "-")
	if !ok || len(number) < 6 || len(part) < 3 {
		return 0, false
	}
	n, err1 := strconv.ParseUint(number, 10, 31)
	_, err2 := strconv.ParseUint(part, 10, 31)
	return int(n), err1 == nil && err2 == nil
}

// merged reports whether the file name is of a merged file.
func merged(base string) bool {
	_, ok := rewritten(base)
	return ok && strings.HasPrefix(strings.TrimPrefix(base, importPrefix), compactPrefix)
}

// readDecisions returns what was decided about an hour.
func (a *Archive) readDecisions(ctx context.Context, h hour) (*hourState, error) {
	for range readAttempts {
		s, err := a.tryDecisions(ctx, h)
		if !errors.Is(err, fs.ErrNotExist) { // else a newer one replaced what was listed
			return s, err
		}
	}
	return nil, fmt.Errorf("archive: the decisions about %s change faster than they can be read", h.time())
}

func (a *Archive) tryDecisions(ctx context.Context, h hour) (*hourState, error) {
	s := &hourState{hour: h}
	err := a.place.list(ctx, h.decisions(), func(name string, _ int64) error {
		if at, r, ok := parseDecision(name); ok && at == h {
			s.records = append(s.records, r)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("archive: list %s: %w", h.decisions(), err)
	}
	slices.SortFunc(s.records, func(x, y record) int { return cmp.Compare(y.number, x.number) })
	for _, r := range s.records { // newest first
		if r.kind != verdictKind {
			continue
		}
		s.decided = max(s.decided, r.number)
		v, err := a.readVerdict(ctx, r.name)
		if err != nil {
			return nil, err
		}
		if v.Outcome == outcomeCommitted {
			s.take(r.number, v)
			break
		}
	}
	for _, r := range s.records {
		if r.kind == intentKind && r.number > s.decided {
			s.open = max(s.open, r.number)
		}
	}
	return s, nil
}

// take makes the committed verdict of a generation the state.
func (s *hourState) take(number int, v *verdict) {
	s.committed, s.files = number, v.Files
	for d := range numDatasets {
		s.dead[d] = make(map[string]struct{})
		for _, name := range v.Dead[d.String()] {
			s.dead[d][name] = struct{}{}
		}
	}
}

// readVerdict reads a decision. A torn one was never answered as made, so it
// counts as aborted.
func (a *Archive) readVerdict(ctx context.Context, name string) (*verdict, error) {
	data, err := a.readSmall(ctx, name)
	if err != nil {
		return nil, err
	}
	v := &verdict{}
	if err := json.Unmarshal(data, v); err != nil || v.Format < 1 {
		a.log.Warn("torn decision is taken as aborted", "name", name, "error", err)
		return &verdict{Outcome: outcomeAborted}, nil
	}
	if v.Format > formatVersion {
		return nil, fmt.Errorf("archive: %s: %w", name, errNewer)
	}
	for _, f := range v.Files {
		if _, ok := rewritten(f.Name); !ok || strings.ContainsAny(f.Name, `/\`) {
			return nil, fmt.Errorf("archive: %s names %q, which no generation writes", name, f.Name)
		}
	}
	return v, nil
}

// readSmall returns the content of a small object.
func (a *Archive) readSmall(ctx context.Context, name string) ([]byte, error) {
	obj, err := a.place.open(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("archive: %s: %w", name, err)
	}
	defer obj.Close()
	data, err := io.ReadAll(io.NewSectionReader(obj, 0, min(obj.size(), maxRecord)))
	if err != nil {
		return nil, fmt.Errorf("archive: %s: %w", name, err)
	}
	return data, nil
}

// liveFile is a file that counts.
type liveFile struct {
	name   string // relative to the archive
	set    dataset
	stands string // base name of the range's file it is or stands for; empty: merged
	rows   int64  // -1: in its footer
	size   int64
}

func (f liveFile) base() string   { return path.Base(f.name) }
func (f liveFile) imported() bool { return strings.HasPrefix(f.base(), importPrefix) }

// hourFiles are the files of an hour.
type hourFiles struct {
	state *hourState
	live  [numDatasets][]liveFile // in the order in which they are read
	dead  []string                // names of files that do not count and that nobody is writing
}

// files returns what counts of some datasets in an hour. The folders are listed
// before the decisions are read: what a decision replaced in between is then known
// as dead, and what it wrote is known from the decision itself.
func (a *Archive) files(ctx context.Context, h hour, sets ...dataset) (*hourFiles, error) {
	sizes := make(map[string]int64)
	for _, d := range sets {
		err := a.place.list(ctx, h.folder(d), func(name string, size int64) error {
			if dataFile(name) {
				sizes[name] = size
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("archive: list %s: %w", h.folder(d), err)
		}
	}
	state, err := a.readDecisions(ctx, h)
	if err != nil {
		return nil, err
	}
	all := &hourFiles{state: state}
	for _, f := range state.files {
		if d, ok := datasetOf(f.Set); ok && slices.Contains(sets, d) {
			name := h.folder(d) + f.Name
			all.live[d] = append(all.live[d], liveFile{name: name, set: d, stands: f.For, rows: f.Rows, size: f.Bytes})
			delete(sizes, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sizes)) {
		d, _, _ := parseName(name)
		base := path.Base(name)
		_, dead := state.dead[d][base]
		number, written := rewritten(base)
		switch {
		case dead, written && number <= state.decided:
			all.dead = append(all.dead, name)
		case written: // of a generation that is not decided
		default:
			all.live[d] = append(all.live[d], liveFile{name: name, set: d, stands: base, rows: -1, size: sizes[name]})
		}
	}
	for d := range all.live {
		slices.SortStableFunc(all.live[d], inOrder)
	}
	return all, nil
}

// inOrder puts merged files first, as their decision lists them, and then the
// files of ranges by stream, partition, first position and part.
func inOrder(x, y liveFile) int {
	if x.stands == "" || y.stands == "" {
		return cmp.Compare(min(1, len(x.stands)), min(1, len(y.stands)))
	}
	xs, xn := splitPart(x.stands)
	ys, yn := splitPart(y.stands)
	return cmp.Or(strings.Compare(xs, ys), cmp.Compare(xn, yn))
}

// splitPart parts a range's file name into its start and the number of the part.
func splitPart(base string) (string, int) {
	base = strings.TrimSuffix(base, fileSuffix)
	i := strings.LastIndexByte(base, '-')
	n, err := strconv.Atoi(base[i+1:])
	if i < 0 || err != nil {
		return base, 0
	}
	return base[:i], n
}

func datasetOf(name string) (dataset, bool) {
	i := slices.Index(datasetNames[:], name)
	return dataset(max(0, i)), i >= 0 //nolint:gosec // one of three
}
