package recorder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"furrow/internal/bus"
	"furrow/internal/enrich"
)

const (
	retryMin  = 20 * time.Millisecond
	pausePoll = 200 * time.Millisecond
)

var (
	errStopped = errors.New("recorder: stopped before it began")
	// errPaused ends a group that is to stop while it may not write.
	errPaused = errors.New("recorder: stopped while paused")
)

// group is what the two loops have in common: positions, patience and state.
type group struct {
	name     string
	log      *slog.Logger
	now      func() time.Time
	retryMax time.Duration
	paused   func(group string) (string, bool)
	metrics  groupMetrics
	ended    context.Context // of Run's caller: gather no more
	deadline context.Context // ends the drain timeout later: give up

	mu      sync.Mutex
	status  GroupStatus
	running bool
	asks    []chan<- error     // of those who wait until the group is settled
	wake    context.CancelFunc // ends the wait for the bus; nil while there is none
}

func (g *group) start(ended, deadline context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended, g.deadline, g.running = ended, deadline, true
}

// outcome says what the end of a loop means for Run. What could not be stored
// because of an orderly stop comes again and is no failure.
func (g *group) outcome(err error) error {
	stopping := g.ended.Err() != nil
	switch {
	case err == nil, errors.Is(err, errStopped):
		return nil
	case stopping && (errors.Is(err, errPaused) || errors.Is(err, errAgain) || errors.Is(err, bus.ErrClosed)):
		g.log.Warn("stopped before everything was stored, the rest comes again", "reason", err)
		return nil
	default:
		return fmt.Errorf("recorder: %s: %w", g.name, err)
	}
}

// persist calls do until it succeeds, with growing pauses. It fails when the drain
// deadline has passed, or with an error that final recognises.
func (g *group) persist(final func(error) bool, do func(context.Context) error) error {
	pause := retryMin
	for {
		err := do(g.deadline)
		if err == nil {
			g.works()
			return nil
		}
		if final != nil && final(err) {
			return err
		}
		if g.deadline.Err() != nil {
			return errors.Join(g.deadline.Err(), err)
		}
		g.fails(err)
		g.wait(g.deadline, pause/2+rand.N(pause)) //nolint:gosec // spreads retries, no secret
		pause = min(2*pause, g.retryMax)
	}
}

func (*group) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// hold waits while writing is not allowed. It fails when Run is to end meanwhile.
func (g *group) hold() error {
	for {
		reason, paused := "", false
		if g.paused != nil {
			reason, paused = g.paused(g.name)
		}
		g.mu.Lock()
		was := g.status.Paused
		g.status.Paused = ""
		if paused {
			g.status.Paused = reason
		}
		g.mu.Unlock()
		switch {
		case paused && was == "":
			g.metrics.paused.Set(1)
			g.log.Warn("recording is paused", "reason", reason)
		case !paused && was != "":
			g.metrics.paused.Set(0)
			g.log.Info("recording goes on")
		}
		if !paused {
			return nil
		}
		g.answer(fmt.Errorf("recorder: %s is paused and holds what it may not store: %s", g.name, reason))
		if g.ended.Err() != nil {
			return errPaused
		}
		g.wait(g.ended, pausePoll)
	}
}

// fails and works note the state and log its changes only.
func (g *group) fails(err error) {
	g.metrics.retries.Inc()
	g.mu.Lock()
	first := g.status.Error == ""
	if first {
		g.status.ErrorSince = g.now()
	}
	g.status.Error = err.Error()
	g.mu.Unlock()
	if first {
		g.log.Error("recording fails, will try until it succeeds", "error", err)
	}
}

func (g *group) works() {
	g.mu.Lock()
	failed, since := g.status.Error != "", g.status.ErrorSince
	g.status.Error, g.status.ErrorSince = "", time.Time{}
	g.mu.Unlock()
	if failed {
		g.log.Info("recording works again", "after", g.now().Sub(since))
	}
}

// tally is what a load or a range holds.
type tally struct {
	records, events, bad, forgotten int
	oldest, newest                  time.Time // publish times
}

func (t *tally) add(m *bus.Message, res *enrich.Result) {
	t.records++
	t.events += len(res.Events)
	t.bad += len(res.Bad)
	t.forgotten += res.Forgotten
	t.oldest = earlier(t.oldest, m.Time)
	if m.Time.After(t.newest) {
		t.newest = m.Time
	}
}

// handled counts what became durable and was acknowledged.
func (g *group) handled(t *tally, doubles int) {
	g.metrics.records.Add(float64(t.records))
	g.metrics.events.Add(float64(t.events))
	g.metrics.bad.Add(float64(t.bad))
	g.metrics.forgotten.Add(float64(t.forgotten))
	g.mu.Lock()
	defer g.mu.Unlock()
	g.status.Records += int64(t.records)
	g.status.Events += int64(t.events)
	g.status.Bad += int64(t.bad)
	g.status.Forgotten += int64(t.forgotten)
	g.status.Doubles += int64(doubles)
	if t.newest.After(g.status.Newest) {
		g.status.Newest = t.newest
	}
}

// waiting notes the publish time of the oldest record that was taken from the bus
// and is not acknowledged; the zero time when there is none.
func (g *group) waiting(oldest time.Time) {
	g.mu.Lock()
	g.status.Oldest = oldest
	g.mu.Unlock()
}

func (g *group) report() GroupStatus {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.status
	s.Group = g.name
	if !s.Oldest.IsZero() {
		s.Lag = max(g.now().Sub(s.Oldest), 0)
	}
	return s
}

// ack acknowledges a batch. One whose partition was taken away is not ours to
// acknowledge; its new owner stores it again, which changes nothing.
func (g *group) ack(sub bus.Subscription, b bus.Batch) error {
	err := g.persist(func(err error) bool {
		return errors.Is(err, bus.ErrLost) || errors.Is(err, bus.ErrClosed)
	}, func(ctx context.Context) error { return sub.Ack(ctx, b) })
	if errors.Is(err, bus.ErrLost) {
		g.log.Info("partition was taken away before it was acknowledged", "partition", b.Partition)
		return nil
	}
	return err
}

type groupMetrics struct {
	records, events, bad, forgotten, retries prometheus.Counter
	paused                                   prometheus.Gauge
}

// earlier returns the earlier of two times of which either may be zero.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
