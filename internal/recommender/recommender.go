package recommender

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"furrow/internal/bus"
	"furrow/internal/event"
	"furrow/internal/recommender/knn"
)

// Options are what a Recommender needs from the house.
type Options struct {
	// Bus may be nil where only Rebuild is called.
	Bus bus.Subscriber
	Dir string // folder of the snapshot; made when missing
	// Parse returns the events of a record, and nothing of what is bad in it or was
	// forgotten. It is called once at a time and must not use the network.
	Parse func(record []byte, now time.Time) []*event.Event
	// Head returns the last position published of each partition. nil: requests
	// wait for nothing, and the room is ready once it has nothing left to read.
	Head func() bus.Positions
	// Forgotten returns the digest of the tombstones that Parse obeys, empty when
	// there is none. A snapshot that was learned under another is not served. nil:
	// nobody is ever forgotten.
	Forgotten  func() string
	Registerer prometheus.Registerer // nil: no metrics
	Log        *slog.Logger          // nil: none
	Now        func() time.Time      // nil: time.Now
}

// Recommender learns from the bus and answers requests.
type Recommender struct {
	cfg      Config
	opt      Options
	log      *slog.Logger
	state    atomic.Pointer[state]
	params   knn.Params
	progress *progress
	metrics  *metrics
	parsing  sync.Mutex  // held while Parse runs
	level    atomic.Bool // has caught up with what was there at the start
	running  atomic.Bool
	damaged  atomic.Bool // a snapshot was set aside
	target   atomic.Pointer[bus.Positions]
	rebuild  atomic.Pointer[rebuild] // nil: none is running
	held     atomic.Bool             // no snapshot is to be written but by the rebuild

	gate  sync.Mutex // guards what follows; held while Run starts and ends
	loop  *loop      // nil: not running
	start bus.Start

	mu       sync.Mutex // guards what follows
	last     snapshotResult
	lastErr  error
	reported counts // what was added to the metrics
}

// New checks the configuration and reads the snapshot. A snapshot that is damaged
// or of another format is set aside with a warning, and everything that the bus
// still has is learned anew. So it is with a snapshot that was learned before
// somebody was forgotten, but that one is left in its place, and the room is not
// ready until Rebuild was called: see NeedsRebuild.
func New(cfg Config, opt Options) (*Recommender, error) {
	var problems []error
	cfg.Validate(func(key, rule string) { problems = append(problems, fmt.Errorf("recommender.%s %s", key, rule)) })
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	if opt.Parse == nil || opt.Dir == "" {
		return nil, errors.New("recommender: Parse and Dir are required")
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Forgotten == nil {
		opt.Forgotten = func() string { return "" }
	}
	r := &Recommender{cfg: cfg, opt: opt, log: opt.Log, params: cfg.Algorithm.params()}
	learned, err := newState(cfg)
	if err != nil {
		return nil, err
	}
	learned.forgotten = opt.Forgotten()
	if err := os.MkdirAll(opt.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("recommender: %w", err)
	}
	at, aside, reason, err := learned.load(opt.Dir)
	if err != nil {
		return nil, err
	}
	if aside != "" {
		r.damaged.Store(true)
		r.log.Warn("the snapshot cannot be used; learning anew from what the bus still has", "reason", reason, "setAside", aside)
	} else if learned.partial {
		r.log.Warn("the snapshot was learned before somebody was forgotten; it must be rebuilt from history")
	}
	r.state.Store(learned)
	r.progress = newProgress(at)
	r.start = bus.Start{Kind: bus.Earliest}
	if at != nil {
		r.start = bus.Start{Kind: bus.StartPositions, Positions: at}
	}
	if r.metrics, err = newMetrics(opt.Registerer, r); err != nil {
		return nil, fmt.Errorf("recommender: metrics: %w", err)
	}
	return r, nil
}

// count adds what was learned since the last call to the metrics.
func (r *Recommender) count() {
	c := r.counts()
	r.mu.Lock()
	defer r.mu.Unlock()
	for kind := View; int(kind) < len(c.interactions); kind++ {
		r.metrics.interactions.WithLabelValues(kind.String()).Add(float64(c.interactions[kind] - r.reported.interactions[kind]))
	}
	for reason, n := range map[string]int64{
		"double": c.doubles - r.reported.doubles, "late": c.late - r.reported.late, "robot": c.robots - r.reported.robots,
	} {
		r.metrics.ignored.WithLabelValues(reason).Add(float64(n))
	}
	r.reported = c
}

func (r *Recommender) counts() counts {
	s := r.state.Load()
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.counts
}

func (r *Recommender) checkLevel() {
	if target := r.target.Load(); target != nil && !r.level.Load() {
		if ok, _ := r.progress.reached(*target); ok {
			r.level.Store(true)
		}
	}
}

// NeedsRebuild reports whether what was learned is not what history holds without
// those who were forgotten: the snapshot that was found is older than a tombstone,
// or damaged, or a tombstone came since. Rebuild puts it right, with an empty
// history if there is none.
func (r *Recommender) NeedsRebuild() bool {
	s := r.state.Load()
	return s.partial || r.damaged.Load() || s.forgotten != r.opt.Forgotten()
}

// Ready returns nil once everything that was on the bus at the start is learned,
// and why not before that. A rebuild changes nothing about it, but where there was
// no snapshot that could be served.
func (r *Recommender) Ready() error {
	if !r.running.Load() {
		return errors.New("recommender: not running")
	}
	if r.state.Load().partial {
		return errors.New("recommender: the snapshot was older than the last forgetting; learning anew from history")
	}
	if r.level.Load() {
		return nil
	}
	published := r.progress.published()
	if published.IsZero() {
		return errors.New("recommender: catching up: nothing read yet")
	}
	return fmt.Errorf("recommender: catching up: %s behind", max(0, r.opt.Now().Sub(published)).Round(time.Millisecond))
}

// lag returns how far the lists are behind what was published: 0 when nothing is
// missing.
func (r *Recommender) lag() time.Duration {
	if r.opt.Head == nil {
		return 0
	}
	if ok, _ := r.progress.reached(r.opt.Head()); ok {
		return 0
	}
	published := r.progress.published()
	if published.IsZero() {
		return 0
	}
	return max(0, r.opt.Now().Sub(published))
}

// Status says how the room is.
type Status struct {
	Ready         bool          `json:"ready"`
	Reason        string        `json:"reason,omitempty"` // why not ready
	Model         string        `json:"model"`
	Sessions      int           `json:"sessions"`
	Neighbours    int           `json:"neighbours"` // sessions that can be neighbours
	Items         int           `json:"items"`
	Users         int           `json:"users"`
	IndexBytes    int64         `json:"indexBytes"`
	BoundBytes    int64         `json:"boundBytes"` // Config.Bound
	Interactions  int64         `json:"interactions"`
	Doubles       int64         `json:"doubles"`
	Late          int64         `json:"late"`
	Robots        int64         `json:"robots"`
	AsOf          time.Time     `json:"asOf"` // time of the newest event learned
	LagMillis     int64         `json:"lagMillis"`
	PageItems     bool          `json:"pageItems"` // pages are items, because no rule has matched yet
	Positions     bus.Positions `json:"positions"`
	SnapshotAt    time.Time     `json:"snapshotAt"` // the last one written by this process
	SnapshotBytes int64         `json:"snapshotBytes"`
	SnapshotError string        `json:"snapshotError,omitempty"`
	NeedsRebuild  bool          `json:"needsRebuild"` // see Recommender.NeedsRebuild
	Rebuilding    *Rebuilding   `json:"rebuilding,omitempty"`
}

// Status returns how the room is.
func (r *Recommender) Status() Status {
	s := Status{Model: r.model(), Positions: r.progress.positions(), LagMillis: r.lag().Milliseconds(), BoundBytes: r.cfg.Bound()}
	s.NeedsRebuild, s.Rebuilding = r.NeedsRebuild(), r.rebuild.Load().status()
	if err := r.Ready(); err != nil {
		s.Reason = err.Error()
	} else {
		s.Ready = true
	}
	learned := r.state.Load()
	learned.mu.RLock()
	s.Sessions, s.Neighbours = learned.index.Sessions()
	s.Items, s.Users, s.IndexBytes = learned.index.Items(), learned.users.len(), learned.index.Bytes()
	for _, n := range learned.counts.interactions {
		s.Interactions += n
	}
	s.Doubles, s.Late, s.Robots = learned.counts.doubles, learned.counts.late, learned.counts.robots
	s.AsOf = learned.asOf()
	s.PageItems = learned.pageItems()
	learned.mu.RUnlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	s.SnapshotAt, s.SnapshotBytes = r.last.at, r.last.size
	if r.lastErr != nil {
		s.SnapshotError = r.lastErr.Error()
	}
	return s
}

// Coverage says how much of what visitors look at becomes interactions.
func (r *Recommender) Coverage() Coverage {
	s := r.state.Load()
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.coverage.report(s.pageItems())
}

func (r *Recommender) model() string { return r.cfg.Algorithm.Name + "-1" }

func (s *state) pageItems() bool {
	return s.cfg.PageItems == "always" || s.cfg.PageItems == "auto" && !s.ruled
}

func (s *state) asOf() time.Time {
	if s.newest == 0 {
		return time.Time{}
	}
	return time.UnixMilli(s.newest).UTC()
}
