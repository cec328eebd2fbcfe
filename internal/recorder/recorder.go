package recorder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"furrow/internal/archive"
	"furrow/internal/bus"
	"furrow/internal/enrich"
	"furrow/internal/event"
	"furrow/internal/store"
)

// The consumer groups of the recorder.
const (
	GroupStore   = "recorder-store"
	GroupArchive = "recorder-archive"
)

// Enricher turns a record into events and bad rows; it fails only when ctx ends.
type Enricher interface {
	Do(ctx context.Context, record []byte, now time.Time) (enrich.Result, error)
	// Forgets says whether a record that is no payload, of that time, is to be left
	// out.
	Forgets(record []byte, at time.Time) bool
}

// Store keeps rows durably in one transaction, and may be given the same rows again.
type Store interface {
	Insert(ctx context.Context, rows []store.Row, bad []event.BadRow) (store.Inserted, error)
}

// Tap sees what has just been committed to the database, doubles included. It must
// not block and must not change what it sees.
type Tap interface {
	Recorded(events []*event.Event, bad []event.BadRow)
}

// Options are what the recorder works with. Store or Archive may be nil, then that
// group does not run; Tap and Paused may be nil.
type Options struct {
	Bus        bus.Subscriber
	Enricher   Enricher
	Store      Store
	Archive    *archive.Archive
	Tap        Tap
	Paused     func(group string) (reason string, paused bool) // true: the group writes nothing now
	Registerer prometheus.Registerer
	Log        *slog.Logger
	Now        func() time.Time
}

// Recorder stores what comes over the bus.
type Recorder struct {
	cfg     Config
	opts    Options
	feed    *feed
	metrics *metrics
	store   *group // nil when the group does not run
	archive *group
	begin   func(ctx context.Context, stream, partition string, first bus.Position) (archiveRange, error)
}

// New returns a recorder; Run makes it work.
func New(cfg Config, opts Options) (*Recorder, error) {
	var errs []error
	cfg.Validate(func(key, rule string) { errs = append(errs, fmt.Errorf("recorder: %s %s", key, rule)) })
	if opts.Bus == nil || opts.Enricher == nil || opts.Log == nil {
		errs = append(errs, errors.New("recorder: needs a bus, an enricher and a log"))
	}
	if opts.Store == nil && opts.Archive == nil {
		errs = append(errs, errors.New("recorder: needs a store, an archive or both"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	r := &Recorder{cfg: cfg, opts: opts, metrics: newMetrics(opts.Registerer)}
	r.feed = &feed{enricher: opts.Enricher, now: opts.Now, log: opts.Log, metrics: r.metrics}
	if opts.Store != nil {
		r.store = r.group(GroupStore)
	}
	if opts.Archive != nil {
		r.archive = r.group(GroupArchive)
		r.begin = func(ctx context.Context, stream, partition string, first bus.Position) (archiveRange, error) {
			return opts.Archive.Begin(ctx, stream, partition, first)
		}
	}
	if r.store != nil && r.archive != nil && cfg.MemoBytes > 0 {
		r.feed.memo = newMemo(cfg.MemoBytes)
	}
	return r, nil
}

func (r *Recorder) group(name string) *group {
	g := &group{
		name: name, log: r.opts.Log.With("group", name), now: r.opts.Now,
		retryMax: r.cfg.RetryMax, paused: r.opts.Paused,
	}
	g.metrics = r.metrics.group(g, r.opts.Registerer)
	return g
}

// Run records until ctx ends, then stores what it has begun, commits the open
// ranges of the archive, acknowledges, and returns nil. What is not stored when
// the drain timeout ends comes again at the next start; Run then says so. It is
// called once.
func (r *Recorder) Run(ctx context.Context) error {
	deadline, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		timer := time.NewTimer(r.cfg.DrainTimeout)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-deadline.Done():
		}
	})()
	var loops errgroup.Group // without its context: neither group ends the other
	for _, l := range []struct {
		group *group
		run   func() error
	}{{r.store, r.runStore}, {r.archive, r.runArchive}} {
		if l.group == nil {
			continue
		}
		l.group.start(ctx, deadline)
		loops.Go(func() error {
			err := l.group.outcome(l.run())
			l.group.leave(err)
			return err
		})
	}
	return loops.Wait()
}

// subscribe joins the group of the loop.
func (r *Recorder) subscribe(g *group) (bus.Subscription, error) {
	sub, err := r.opts.Bus.Subscribe(g.ended, g.name, []bus.Stream{bus.Raw, bus.Bad}, bus.Start{Kind: bus.Committed})
	if err != nil && g.ended.Err() != nil {
		return nil, errStopped
	}
	return sub, err
}

// GroupStatus is the state of one group.
type GroupStatus struct {
	Group      string        `json:"group"`
	Records    int64         `json:"records"` // acknowledged since the start
	Events     int64         `json:"events"`
	Bad        int64         `json:"bad"`
	Forgotten  int64         `json:"forgotten"`           // events and bad rows that were left out
	Doubles    int64         `json:"doubles"`             // events the database had already; of the store only
	Newest     time.Time     `json:"newest"`              // when the newest acknowledged record was published
	Oldest     time.Time     `json:"oldest"`              // when the oldest record that is held and not acknowledged was published; zero: none
	Lag        time.Duration `json:"lag"`                 // age of Oldest; the archive holds a range open for minutes by design
	Paused     string        `json:"paused,omitempty"`    // why writing is not allowed
	Error      string        `json:"error,omitempty"`     // what fails now
	ErrorSince time.Time     `json:"errorSince,omitzero"` // since when
}

// Status returns the state of the groups that run.
func (r *Recorder) Status() []GroupStatus {
	var all []GroupStatus
	for _, g := range []*group{r.store, r.archive} {
		if g != nil {
			all = append(all, g.report())
		}
	}
	return all
}

// Ready says why a group does not record now, nil when both do.
func (r *Recorder) Ready() error {
	var errs []error
	for _, s := range r.Status() {
		switch {
		case s.Error != "":
			errs = append(errs, fmt.Errorf("%s: %s", s.Group, s.Error))
		case s.Paused != "":
			errs = append(errs, fmt.Errorf("%s is paused: %s", s.Group, s.Paused))
		}
	}
	return errors.Join(errs...)
}
