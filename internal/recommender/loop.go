package recommender

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"furrow/internal/bus"
	"furrow/internal/event"
)

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

// loop is a run: it owns the subscription.
type loop struct {
	r    *Recommender
	sub  bus.Subscription // nil: to be made, from where from says
	from bus.Start
	skip bus.Positions // what is applied already, of what a subscription that was rewound gives again
	w    *writer
	// orders are carried out between two batches, while whoever gave one waits.
	orders chan func(ctx context.Context)
	ended  chan struct{}
}

// Run consumes the bus until ctx ends, then writes a last snapshot and returns
// nil. It may be called once.
func (r *Recommender) Run(ctx context.Context) error {
	if r.opt.Bus == nil {
		return errors.New("recommender: Run needs a Bus")
	}
	l, err := r.begin(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // told to stop before it began
		}
		return err
	}
	err = l.consume(ctx)
	return errors.Join(err, l.end(ctx))
}

func (r *Recommender) begin(ctx context.Context) (*loop, error) {
	r.gate.Lock()
	defer r.gate.Unlock()
	if r.opt.Head != nil {
		head := r.opt.Head()
		r.target.Store(&head)
		if r.progress.forget(head) {
			r.log.Warn("the snapshot is ahead of the bus, so this is another bus; what was learned is kept, the bus is read from its beginning")
			r.start.Positions = r.progress.positions()
		}
	}
	l := &loop{r: r, from: r.start, orders: make(chan func(context.Context)), ended: make(chan struct{})}
	if err := l.subscribe(ctx); err != nil {
		return nil, fmt.Errorf("recommender: subscribe: %w", err)
	}
	l.w = newWriter(r)
	r.loop = l
	r.running.Store(true)
	return l, nil
}

// end writes the last snapshot, unless a rebuild is about to write a better one;
// the bus keeps what neither holds.
func (l *loop) end(ctx context.Context) error {
	r := l.r
	r.gate.Lock()
	defer r.gate.Unlock()
	close(l.ended)
	r.loop = nil
	r.start = bus.Start{Kind: bus.StartPositions, Positions: r.progress.positions()}
	r.running.Store(false)
	var err error
	if !r.held.Load() {
		err = l.w.finish(ctx, l.sub)
	}
	if l.sub == nil {
		return err
	}
	return errors.Join(err, l.sub.Close())
}

func (l *loop) subscribe(ctx context.Context) error {
	sub, err := l.r.opt.Bus.Subscribe(ctx, l.r.cfg.Group, []bus.Stream{bus.Raw}, l.from)
	if err == nil {
		l.sub = sub
	}
	return err
}

// rewind reads the bus again from a place. What was applied already is skipped.
// When it fails, the loop goes on trying.
func (l *loop) rewind(ctx context.Context, to bus.Positions) error {
	l.from = bus.Start{Kind: bus.StartPositions, Positions: to}
	l.skip = l.r.progress.positions()
	if l.sub != nil {
		sub := l.sub
		l.sub = nil
		if err := sub.Close(); err != nil {
			return fmt.Errorf("recommender: rewind: %w", err)
		}
	}
	if err := l.subscribe(ctx); err != nil {
		return fmt.Errorf("recommender: rewind: %w", err)
	}
	return nil
}

func (l *loop) consume(ctx context.Context) error {
	r, backoff := l.r, minBackoff
	for {
		l.obey(ctx)
		head, patience := r.patience()
		b, err := l.next(ctx, patience)
		switch {
		case err == nil:
			backoff = minBackoff
			if b.Notice == bus.Delivery {
				l.w.input += r.apply(l.fresh(b))
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
		if !r.held.Load() {
			l.w.step(ctx, l.sub)
		}
	}
}

// obey carries out an order that waits.
func (l *loop) obey(ctx context.Context) {
	select {
	case do := <-l.orders:
		do(ctx)
	default:
	}
}

func (l *loop) next(ctx context.Context, patience time.Duration) (bus.Batch, error) {
	if l.sub == nil {
		if err := l.subscribe(ctx); err != nil {
			return bus.Batch{}, err
		}
	}
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return l.sub.Next(waiting)
}

// fresh returns the part of a batch that was not applied yet.
func (l *loop) fresh(b bus.Batch) bus.Batch {
	at, ok := l.skip[b.Partition]
	if !ok {
		return b
	}
	if b.Last > at {
		delete(l.skip, b.Partition)
	}
	b.Messages = newer(b.Messages, at)
	return b
}

// newer returns the messages after a position.
func newer(messages []bus.Message, at bus.Position) []bus.Message {
	i := slices.IndexFunc(messages, func(m bus.Message) bool { return m.Position > at })
	if i < 0 {
		return nil
	}
	return messages[i:]
}

// between has an order carried out between two batches: by the loop when it runs,
// with itself and its context, else here, while no loop can begin.
func (r *Recommender) between(ctx context.Context, order func(ctx context.Context, l *loop) error) error {
	for {
		r.gate.Lock()
		l := r.loop
		if l == nil {
			defer r.gate.Unlock()
			return order(ctx, nil)
		}
		r.gate.Unlock()
		done := make(chan error, 1)
		select {
		case l.orders <- func(ctx context.Context) { done <- order(ctx, l) }:
			return <-done
		case <-l.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// patience returns the head of the bus, and how long to wait for a message: not
// long while the head says that there is one, or an order may come.
func (r *Recommender) patience() (bus.Positions, time.Duration) {
	if r.opt.Head == nil {
		return nil, tick
	}
	head := r.opt.Head()
	if ok, _ := r.progress.reached(head); ok && r.rebuild.Load() == nil {
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

// parse returns the events of a record.
func (r *Recommender) parse(record []byte, now time.Time) []*event.Event {
	r.parsing.Lock()
	defer r.parsing.Unlock()
	return r.opt.Parse(record, now)
}

// apply learns a batch and returns its bytes.
func (r *Recommender) apply(b bus.Batch) (size int64) {
	now, learned := r.opt.Now(), r.state.Load()
	var pending []*found
	flush := func() {
		learned.mu.Lock()
		for _, f := range pending {
			learned.learn(f)
		}
		learned.mu.Unlock()
		pending = pending[:0]
	}
	var published time.Time
	for _, m := range b.Messages {
		size += int64(len(m.Value))
		for _, e := range r.parse(m.Value, now) {
			if f := learned.inspect(e, now); f != nil {
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
