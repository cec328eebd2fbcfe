package recommender

import (
	"context"
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
	Bus bus.Subscriber
	Dir string // folder of the snapshot; made when missing
	// Parse returns the events of a record, and nothing of what is bad in it. It
	// is called from one goroutine and must not use the network.
	Parse func(record []byte, now time.Time) []*event.Event
	// Head returns the last position published of each partition. nil: requests
	// wait for nothing, and the room is ready once it has nothing left to read.
	Head       func() bus.Positions
	Registerer prometheus.Registerer // nil: no metrics
	Log        *slog.Logger          // nil: none
	Now        func() time.Time      // nil: time.Now
}

// Recommender learns from the bus and answers requests.
type Recommender struct {
	cfg      Config
	opt      Options
	log      *slog.Logger
	state    *state
	params   knn.Params
	progress *progress
	start    bus.Start
	metrics  *metrics
	level    atomic.Bool // has caught up with what was there at the start
	running  atomic.Bool
	target   atomic.Pointer[bus.Positions]

	mu       sync.Mutex // guards what follows
	last     snapshotResult
	lastErr  error
	reported counts // what was added to the metrics
}

// New checks the configuration and reads the snapshot. A snapshot that is damaged
// or of another format is set aside with a warning, and everything that the bus
// still has is learned anew.
func New(cfg Config, opt Options) (*Recommender, error) {
	var problems []error
	cfg.Validate(func(key, rule string) { problems = append(problems, fmt.Errorf("recommender.%s %s", key, rule)) })
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	if opt.Bus == nil || opt.Parse == nil || opt.Dir == "" {
		return nil, errors.New("recommender: Bus, Parse and Dir are required")
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	r := &Recommender{cfg: cfg, opt: opt, log: opt.Log, params: cfg.Algorithm.params()}
	var err error
	if r.state, err = newState(cfg); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(opt.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("recommender: %w", err)
	}
	at, aside, reason, err := r.state.load(opt.Dir)
	if err != nil {
		return nil, err
	}
	if aside != "" {
		r.log.Warn("the snapshot cannot be used; learning anew from what the bus still has", "reason", reason, "setAside", aside)
	}
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

const (
	// tick is how often the loop looks at its clock while nothing arrives.
	tick       = time.Second
	shortTick  = 100 * time.Millisecond
	minBackoff = 50 * time.Millisecond
	maxBackoff = 5 * time.Second
	// atOnce is how many interactions are applied under one lock, so that no
	// request waits long.
	atOnce = 64
)

// Run consumes the bus until ctx ends, then writes a last snapshot and returns
// nil. It may be called once.
func (r *Recommender) Run(ctx context.Context) error {
	if r.opt.Head != nil {
		head := r.opt.Head()
		r.target.Store(&head)
		if r.progress.forget(head) {
			r.log.Warn("the snapshot is ahead of the bus, so this is another bus; what was learned is kept, the bus is read from its beginning")
			r.start.Positions = r.progress.positions()
		}
	}
	sub, err := r.opt.Bus.Subscribe(ctx, r.cfg.Group, []bus.Stream{bus.Raw}, r.start)
	if err != nil {
		return fmt.Errorf("recommender: subscribe: %w", err)
	}
	r.running.Store(true)
	defer r.running.Store(false)
	w := newWriter(r, sub)
	err = r.consume(ctx, sub, w)
	return errors.Join(err, w.finish(ctx), sub.Close())
}

func (r *Recommender) consume(ctx context.Context, sub bus.Subscription, w *writer) error {
	backoff := minBackoff
	for {
		head, patience := r.patience()
		waiting, cancel := context.WithTimeout(ctx, patience)
		b, err := sub.Next(waiting)
		cancel()
		switch {
		case err == nil:
			backoff = minBackoff
			if b.Notice == bus.Delivery {
				w.input += r.apply(b)
			}
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the end of ctx is the wish to stop
		case errors.Is(err, bus.ErrClosed):
			return fmt.Errorf("recommender: next: %w", err)
		case errors.Is(err, context.DeadlineExceeded):
			r.progress.settle(head)
			if r.opt.Head == nil {
				r.level.Store(true)
			}
		default:
			r.log.Warn("reading from the bus failed; trying again", "error", err, "in", backoff)
			if !pause(ctx, backoff) {
				return nil
			}
			backoff = min(2*backoff, maxBackoff)
		}
		r.checkLevel()
		w.step(ctx)
	}
}

// patience returns the head of the bus, and how long to wait for a message: not
// long while the head says that there is one.
func (r *Recommender) patience() (bus.Positions, time.Duration) {
	if r.opt.Head == nil {
		return nil, tick
	}
	head := r.opt.Head()
	if ok, _ := r.progress.reached(head); ok {
		return head, tick
	}
	return head, shortTick
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// apply learns a batch and returns its bytes.
func (r *Recommender) apply(b bus.Batch) (size int64) {
	now := r.opt.Now()
	var pending []*found
	flush := func() {
		r.state.mu.Lock()
		for _, f := range pending {
			r.state.learn(f)
		}
		r.state.mu.Unlock()
		pending = pending[:0]
	}
	var published time.Time
	for _, m := range b.Messages {
		size += int64(len(m.Value))
		for _, e := range r.opt.Parse(m.Value, now) {
			if f := r.state.inspect(e, now); f != nil {
				pending = append(pending, f)
			}
		}
		if len(pending) >= atOnce {
			flush()
		}
		published = m.Time
	}
	flush()
	if b.Last != "" {
		r.progress.advance(b.Partition, b.Last, published)
	}
	visible := r.opt.Now()
	for _, m := range b.Messages {
		if !m.Time.IsZero() && r.level.Load() {
			r.metrics.freshness.Observe(max(0, visible.Sub(m.Time).Seconds()))
		}
	}
	r.count()
	return size
}

// count adds what was learned since the last call to the metrics.
func (r *Recommender) count() {
	r.state.mu.RLock()
	c := r.state.counts
	r.state.mu.RUnlock()
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

func (r *Recommender) checkLevel() {
	if target := r.target.Load(); target != nil && !r.level.Load() {
		if ok, _ := r.progress.reached(*target); ok {
			r.level.Store(true)
		}
	}
}

// Ready returns nil once everything that was on the bus at the start is learned,
// and why not before that.
func (r *Recommender) Ready() error {
	if !r.running.Load() {
		return errors.New("recommender: not running")
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
}

// Status returns how the room is.
func (r *Recommender) Status() Status {
	s := Status{Model: r.model(), Positions: r.progress.positions(), LagMillis: r.lag().Milliseconds(), BoundBytes: r.cfg.Bound()}
	if err := r.Ready(); err != nil {
		s.Reason = err.Error()
	} else {
		s.Ready = true
	}
	r.state.mu.RLock()
	s.Sessions, s.Neighbours = r.state.index.Sessions()
	s.Items, s.Users, s.IndexBytes = r.state.index.Items(), r.state.users.len(), r.state.index.Bytes()
	for _, n := range r.state.counts.interactions {
		s.Interactions += n
	}
	s.Doubles, s.Late, s.Robots = r.state.counts.doubles, r.state.counts.late, r.state.counts.robots
	s.AsOf = r.state.asOf()
	s.PageItems = r.state.pageItems()
	r.state.mu.RUnlock()
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
	r.state.mu.RLock()
	defer r.state.mu.RUnlock()
	return r.state.coverage.report(r.state.pageItems())
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
