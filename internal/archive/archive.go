package archive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Archive is an open archive. Its methods are safe for concurrent use.
type Archive struct {
	cfg     Config
	tmp     string // local folder for files being written
	place   place
	where   string
	log     *slog.Logger
	metrics *metrics
	now     func() time.Time
	budget  budget
	gens    *generations

	placing sync.RWMutex // held for writing while hours are deleted

	stocking  chan struct{} // holds one token: taking stock, one at a time
	stockedAt atomic.Int64  // when stock was taken, in Unix nanoseconds; 0: not yet
	release   func()        // lets go of connections

	mu         sync.Mutex
	hours      inventory
	booked     int64               // changes of hours
	touched    map[folder]struct{} // written to while stock is being taken; nil: it is not
	open       map[*Range]struct{}
	rows       [numDatasets]int64 // since Open
	written    [numDatasets]int64 // since Open
	doubles    int64
	conflicts  int64
	lastCommit time.Time
	declared   int64 // ranges since the intents were last pruned

	keepIntents  int   // newest intents kept of a partition
	intentsEvery int64 // ranges between two looks at the intents
}

// Open opens or creates the archive that cfg.URL names, in dir when it names none,
// and removes files that a crash left unfinished. dir holds the files being
// written to an archive on S3. Of a folder Open takes stock; S3 it does not ask
// anything, so that a process starts while S3 is away: stock is taken by Prune, or
// before the first read. reg may be nil.
func Open(dir string, cfg Config, reg prometheus.Registerer, log *slog.Logger) (*Archive, error) {
	var problems []error
	cfg.Validate(func(key, rule string) {
		problems = append(problems, fmt.Errorf("archive: %s %s", key, rule))
	})
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	at, err := parseLocation(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("archive: url %w", err)
	}
	if at.folder != "" {
		dir = at.folder
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	tmp := filepath.Join(dir, tempFolder)
	if err := os.RemoveAll(tmp); err != nil {
		return nil, fmt.Errorf("archive: empty the folder of unfinished files: %w", err)
	}
	if err := makeFolder(tmp); err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	a := &Archive{
		cfg: cfg, tmp: tmp, log: log, now: time.Now, release: func() {}, stocking: make(chan struct{}, 1),
		open: make(map[*Range]struct{}), hours: make(inventory), gens: newGenerations(at.bucket == ""),
		keepIntents: keepIntents, intentsEvery: keepIntents / 4, declared: keepIntents,
	}
	a.budget.limit = cfg.MemoryBytes
	if at.bucket == "" {
		a.place, a.where = disk{root: dir, tmp: tmp}, dir
		if a.metrics, err = newMetrics(reg); err != nil {
			return nil, err
		}
		return a, a.takeStock(context.Background())
	}
	requests := newRequests()
	b, err := newBucket(context.Background(), at, cfg.S3, tmp, requests, log)
	if err != nil {
		return nil, err
	}
	a.place, a.where, a.release = b, at.String(), b.close
	if a.metrics, err = newMetrics(reg, requests); err != nil {
		return nil, err
	}
	return a, nil
}

// Place returns where the archive is: a folder, or s3://BUCKET/PREFIX.
func (a *Archive) Place() string { return a.where }

// Close lets go of idle connections to S3. Ranges and readers are to be closed
// before; the archive may be used on.
func (a *Archive) Close() { a.release() }

// enter registers an open range; a partition has one at a time.
func (a *Archive) enter(r *Range) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for other := range a.open {
		if other.stream == r.stream && other.partition == r.partition {
			return fmt.Errorf("archive: %s/%s has an open range from %s; commit or abort it first", r.stream, r.partition, other.first)
		}
	}
	a.open[r] = struct{}{}
	return nil
}

func (a *Archive) leave(r *Range) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.open, r)
}

// Status is the archive at one moment.
type Status struct {
	Place          string           `json:"place"`      // as Archive.Place
	StockKnown     bool             `json:"stockKnown"` // false while the archive could not be listed since start: what it held before is not in the figures
	Files          int64            `json:"files"`
	Bytes          map[string]int64 `json:"bytes"`          // at rest, by dataset
	Rows           map[string]int64 `json:"rows"`           // committed since start, by dataset
	DoublesDropped int64            `json:"doublesDropped"` // since start, within ranges
	Conflicts      int64            `json:"conflicts"`      // since start, within ranges: the id was there with other content
	Compaction     Compaction       `json:"compaction"`     // since start
	BytesPerEvent  float64          `json:"bytesPerEvent"`  // of the events dataset, since start; 0 before the first commit
	OldestHour     time.Time        `json:"oldestHour"`     // zero when the archive is empty
	NewestHour     time.Time        `json:"newestHour"`
	LastCommit     time.Time        `json:"lastCommit"` // zero before the first since start
	Open           []OpenRange      `json:"open"`
}

// OpenRange is a range that is not committed yet.
type OpenRange struct {
	Stream    string        `json:"stream"`
	Partition string        `json:"partition"`
	First     string        `json:"first"`
	Records   int64         `json:"records"`
	Bytes     int64         `json:"bytes"` // of the records
	Age       time.Duration `json:"age"`   // since Begin
}

// Status returns what the archive holds and what it is doing.
func (a *Archive) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := Status{
		Place: a.where, StockKnown: a.stockedAt.Load() != 0,
		Bytes: make(map[string]int64), Rows: make(map[string]int64),
		DoublesDropped: a.doubles, Conflicts: a.conflicts, Compaction: a.gens.status(), LastCommit: a.lastCommit, Open: []OpenRange{},
	}
	totals := a.hours.totals()
	for d := range numDatasets {
		s.Files += totals[d].files
		s.Bytes[d.String()] = totals[d].bytes
		s.Rows[d.String()] = a.rows[d]
	}
	if a.rows[eventSet] > 0 {
		s.BytesPerEvent = float64(a.written[eventSet]) / float64(a.rows[eventSet])
	}
	if hours := a.hours.sorted(); len(hours) > 0 {
		s.OldestHour, s.NewestHour = hours[0].time(), hours[len(hours)-1].time()
	}
	for r := range a.open {
		s.Open = append(s.Open, OpenRange{
			Stream: r.stream, Partition: r.partition, First: string(r.first),
			Records: r.rows.Load(), Bytes: r.bytes.Load(), Age: a.now().Sub(r.started),
		})
	}
	slices.SortFunc(s.Open, func(x, y OpenRange) int {
		return strings.Compare(x.Stream+"/"+x.Partition, y.Stream+"/"+y.Partition)
	})
	return s
}
