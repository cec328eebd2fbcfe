package recommender

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"furrow/internal/bus"
	"furrow/internal/event"
)

// History is what was recorded, to learn anew from.
type History struct {
	// Events calls fn with batches of the events that were collected at since or
	// later, of all events when since is zero, oldest first; events of one time may
	// come in any order, and an event more than once. It ends with the first error of
	// fn and returns it. Events are not changed, and may not change once they were
	// handed over. nil: there is no history.
	Events func(ctx context.Context, since time.Time, fn func([]*event.Event) error) error
	// Level returns positions on the bus: a call of Events that begins later gives
	// the events of everything up to them. It never goes back. nil, or a partition
	// that is not named: nothing is certain, and the bus is read from its beginning.
	Level func() bus.Positions
	// Progress is told how many events were read; nil: nobody asks. It must not block.
	Progress func(done int64)
	// Late is how much later than others an event may enter history that was
	// collected at the same time. 0: an hour.
	Late time.Duration
}

// Rebuilding says how far a rebuild is.
type Rebuilding struct {
	Since time.Time `json:"since"` // when it began
	Done  int64     `json:"done"`  // events of history that were read, those read again included
}

// Errors of Rebuild that callers branch on.
var (
	ErrRebuilding = errors.New("recommender: a rebuild is running already")
	ErrForgotten  = errors.New("recommender: people were forgotten again and again while learning from history; rebuild once more")
)

const (
	defaultLate = time.Hour
	// shortPass is how long a pass over history may have taken for the next to be the
	// last: what is new on the bus meanwhile is pinned there.
	shortPass = time.Minute
	maxPasses = 5
	// attempts is how often a rebuild begins anew because somebody was forgotten.
	attempts = 3
	// maxQuiet is how many ticks nothing comes from the bus until there is nothing; a
	// subscription that gave something already is believed at once.
	maxQuiet = 3
)

// errForgottenNow ends an attempt: what it learned may hold what is forgotten now.
var errForgottenNow = errors.New("recommender: somebody was forgotten while learning from history")

// rebuild is a state that is being learned from history while another serves.
type rebuild struct {
	r     *Recommender
	h     History
	since time.Time
	done  atomic.Int64

	// Of one attempt:
	state     *state
	recall    *recall
	newest    int64 // collector time, milliseconds
	at        bus.Positions
	sub       bus.Subscription // nil: there is no bus
	published time.Time        // of the newest message that was learned
	unsaved   int64            // bytes learned since the snapshot
	heard     bool             // the bus gave something, be it a notice
	settled   bool             // the bus gives no more
}

// Rebuild learns everything anew from history, and from the bus what history does
// not hold yet, while requests get the lists of before; then the new lists take
// over. It works with and without Run. When it returns nil, a snapshot of what was
// learned is on disk, and acknowledged when Run runs. On an error, the end of ctx
// included, everything is as it was. One rebuild runs at a time: ErrRebuilding.
//
// No event is missed or counted twice that enters history at most History.Late
// after others of its time; up to recallIDs events that history holds beyond Level
// are told from what the bus gives.
func (r *Recommender) Rebuild(ctx context.Context, h History) error {
	if h.Late <= 0 {
		h.Late = defaultLate
	}
	b := &rebuild{r: r, h: h, since: r.opt.Now()}
	if !r.rebuild.CompareAndSwap(nil, b) {
		return ErrRebuilding
	}
	defer r.rebuild.Store(nil)
	err := b.run(ctx)
	result := "done"
	if err != nil {
		result = "failed"
	}
	r.metrics.rebuilds.WithLabelValues(result).Inc()
	return err
}

func (b *rebuild) status() *Rebuilding {
	if b == nil {
		return nil
	}
	return &Rebuilding{Since: b.since, Done: b.done.Load()}
}

func (b *rebuild) run(ctx context.Context) error {
	for range attempts {
		err := b.attempt(ctx)
		if !errors.Is(err, errForgottenNow) {
			return err
		}
		b.r.log.Info("somebody was forgotten while learning from history; beginning anew")
	}
	return ErrForgotten
}

func (b *rebuild) attempt(ctx context.Context) (err error) {
	r := b.r
	b.done.Store(0)
	b.recall, b.newest, b.at, b.published, b.unsaved, b.heard, b.settled = newRecall(recallIDs), 0, nil, time.Time{}, 0, false, false
	if b.state, err = newState(r.cfg); err != nil {
		return err
	}
	b.state.forgotten = r.opt.Forgotten()
	defer r.held.Store(false)
	if err := b.passes(ctx); err != nil {
		return err
	}
	if r.opt.Bus != nil {
		b.sub, err = r.opt.Bus.Subscribe(ctx, "", []bus.Stream{bus.Raw}, bus.Start{Kind: bus.StartPositions, Positions: maps.Clone(b.at)})
		if err != nil {
			return fmt.Errorf("recommender: rebuild: subscribe: %w", err)
		}
		defer func() { err = errors.Join(err, b.sub.Close()) }()
		if err := b.catchUp(ctx); err != nil {
			return err
		}
	}
	if err := b.check(); err != nil {
		return err
	}
	result := r.write(r.encode(b.state, maps.Clone(b.at)))
	if result.err != nil {
		return result.err
	}
	if err := sweep(r.opt.Dir); err != nil {
		return err
	}
	// The rest is read while the loop waits; little should be left by then.
	b.settled = false
	if err := b.follow(ctx, maxQuiet, b.reached); err != nil {
		return err
	}
	return r.between(ctx, func(running context.Context, l *loop) error {
		return b.takeOver(ctx, running, l, result)
	})
}

// check says whether what was learned is still what may be served.
func (b *rebuild) check() error {
	if b.r.opt.Forgotten() != b.state.forgotten {
		return errForgottenNow
	}
	return nil
}

// passes reads history: first all of it, then what is newer than the last pass
// knew, until that takes little time. Before the last pass the bus is pinned at the
// place from which it will be read; what was deleted there until then is in history,
// and that pass finds it.
func (b *rebuild) passes(ctx context.Context) error {
	var since time.Time
	var took time.Duration
	for n := 1; ; n++ {
		last := n > 1 && took <= shortPass || n == maxPasses
		if last {
			if err := b.pin(ctx); err != nil {
				return err
			}
		}
		began, clock := b.r.opt.Now(), time.Now()
		if err := b.pass(ctx, since, n > 1); err != nil {
			return fmt.Errorf("recommender: learn from history: %w", err)
		}
		if err := b.check(); err != nil || last {
			return err
		}
		took, since = time.Since(clock), b.resume(began)
	}
}

// resume returns the time from which the next pass reads.
func (b *rebuild) resume(began time.Time) time.Time {
	if b.newest == 0 {
		return time.Time{}
	}
	if newest := time.UnixMilli(b.newest); newest.Before(began) {
		began = newest // history lags
	}
	return began.Add(-b.h.Late)
}

func (b *rebuild) pass(ctx context.Context, since time.Time, again bool) error {
	if b.h.Events != nil {
		err := b.h.Events(ctx, since, func(events []*event.Event) error {
			b.learn(events, again)
			done := b.done.Add(int64(len(events)))
			b.r.metrics.rebuilt.Add(float64(len(events)))
			if b.h.Progress != nil {
				b.h.Progress(done)
			}
			return ctx.Err()
		})
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// learn takes events in; again says that they may have been taken in before.
func (b *rebuild) learn(events []*event.Event, again bool) {
	now := b.r.opt.Now()
	for _, e := range events {
		collected := int64(0)
		if e.Has(event.CollectorTstamp) {
			collected = e.Time(event.CollectorTstamp).UnixMilli()
		}
		b.newest = max(b.newest, collected)
		f := b.state.inspect(e, now)
		switch {
		case f == nil:
		case b.recall.add(f.id[0], collected, again):
			b.state.learn(f)
		case !again:
			b.state.counts.doubles++
		}
	}
}

// pin fixes the place on the bus from which it will be read, and keeps the bus from
// deleting what lies behind it.
func (b *rebuild) pin(ctx context.Context) error {
	r := b.r
	b.at = bus.Positions{}
	if b.h.Level != nil {
		maps.Copy(b.at, b.h.Level())
	}
	if r.opt.Head != nil {
		for partition, head := range r.opt.Head() {
			if b.at[partition] > head { // of another bus
				delete(b.at, partition)
			}
		}
	}
	return r.between(ctx, func(running context.Context, l *loop) error {
		r.held.Store(true)
		if l == nil {
			return nil
		}
		l.w.drain(running, l.sub)
		applied := r.progress.positions()
		from := lower(b.at, applied)
		if r.cfg.Group == "" || maps.Equal(from, applied) {
			return nil // nothing can be pinned, or is by not acknowledging
		}
		return l.rewind(running, from)
	})
}

// lower returns the positions that both have passed.
func lower(a, b bus.Positions) bus.Positions {
	low := bus.Positions{}
	for partition, position := range a {
		if other, ok := b[partition]; ok {
			low[partition] = min(position, other)
		}
	}
	return low
}

// catchUp reads the bus up to what was published when the last pass over history
// ended: so whatever that pass can have seen is told from what comes after it.
func (b *rebuild) catchUp(ctx context.Context) error {
	if b.r.opt.Head != nil {
		head := b.r.opt.Head()
		return b.follow(ctx, maxQuiet, func() bool { return covers(b.at, head) && b.reached() })
	}
	ended := b.r.opt.Now()
	return b.follow(ctx, 1, func() bool { return !b.published.Before(ended) && b.reached() })
}

// reached reports whether the state has everything that the one which serves has.
func (b *rebuild) reached() bool { return covers(b.at, b.r.progress.positions()) }

func covers(at, target bus.Positions) bool {
	for partition, position := range target {
		if at[partition] < position {
			return false
		}
	}
	return true
}

// follow learns from the bus until it is enough, or nothing came for so many ticks.
func (b *rebuild) follow(ctx context.Context, patience int, enough func() bool) error {
	backoff, quiet := minBackoff, 0
	for b.sub != nil && !b.settled && !enough() {
		waiting, cancel := context.WithTimeout(ctx, tick)
		batch, err := b.sub.Next(waiting)
		cancel()
		switch {
		case err == nil:
			backoff, quiet, b.heard = minBackoff, 0, true
			b.apply(batch)
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, context.DeadlineExceeded):
			quiet++
			b.settled = quiet >= patience || b.heard
		case errors.Is(err, bus.ErrClosed):
			return fmt.Errorf("recommender: rebuild: next: %w", err)
		default:
			b.r.log.Warn("reading from the bus failed; trying again", "error", err, "in", backoff)
			if !pause(ctx, backoff) {
				return ctx.Err()
			}
			backoff = min(2*backoff, maxBackoff)
		}
	}
	return nil
}

func (b *rebuild) apply(batch bus.Batch) {
	if batch.Notice != bus.Delivery {
		return
	}
	now := b.r.opt.Now()
	for _, m := range batch.Messages {
		b.unsaved += int64(len(m.Value))
		b.learn(b.r.parse(m.Value, now), true)
		if m.Time.After(b.published) {
			b.published = m.Time
		}
	}
	if batch.Last != "" {
		b.at[batch.Partition] = max(b.at[batch.Partition], batch.Last)
	}
}

// takeOver lets the new state serve. It is called between two batches, so nothing
// is applied meanwhile.
func (b *rebuild) takeOver(ctx, running context.Context, l *loop, saved snapshotResult) error {
	r := b.r
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(running, cancel)()
	if err := b.follow(ctx, maxQuiet, b.reached); err != nil {
		return err
	}
	if err := b.check(); err != nil {
		return err
	}
	behind := !b.reached()
	r.state.Store(b.state)
	r.progress.replace(b.at, b.published)
	r.mu.Lock()
	r.reported = b.state.counts
	r.mu.Unlock()
	r.damaged.Store(false)
	r.held.Store(false)
	r.checkLevel()
	if l == nil {
		r.start = bus.Start{Kind: bus.StartPositions, Positions: maps.Clone(b.at)}
		r.note(saved)
		return nil
	}
	l.w.input, l.w.next = 0, r.opt.Now().Add(r.cfg.Snapshot.Interval)
	if !maps.Equal(b.at, saved.positions) {
		l.w.input = max(1, b.unsaved)
	}
	l.w.done(running, l.sub, saved)
	if !behind {
		l.skip = maps.Clone(b.at)
		return nil
	}
	r.log.Warn("the bus does not have all that was learned from it before; reading it from where it begins")
	if err := l.rewind(running, b.at); err != nil {
		r.log.Warn("reading the bus again failed; trying again", "error", err)
	}
	return nil
}
