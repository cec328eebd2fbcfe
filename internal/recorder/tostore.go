package recorder

import (
	"context"
	"errors"
	"slices"
	"time"

	"furrow/internal/bus"
	"furrow/internal/enrich"
	"furrow/internal/event"
	"furrow/internal/store"
)

// load is what one transaction stores and acknowledges.
type load struct {
	tally
	rows    []store.Row
	badRows []event.BadRow
	bytes   int64       // in memory
	begun   time.Time   // when its first record was taken
	acks    []bus.Batch // the last one of each partition
}

func (l *load) add(b bus.Batch, results []enrich.Result) {
	for i := range results {
		res, m := &results[i], &b.Messages[i]
		l.bytes += resultBytes(m.Value, res)
		for _, e := range res.Events {
			l.rows = append(l.rows, store.Row{Event: e, Record: res.Record})
		}
		l.badRows = append(l.badRows, res.Bad...)
		l.tally.add(m, res)
	}
	b.Messages = nil
	for i := range l.acks {
		if l.acks[i].Partition == b.Partition {
			l.acks[i] = b
			return
		}
	}
	l.acks = append(l.acks, b)
}

// flight is a load on its way into the database.
type flight struct {
	load    *load
	done    context.Context // ends when it landed
	doubles int             // these two are read after done
	err     error
}

// toStore moves records into the database: while one load is being written, the
// next is gathered and enriched.
type toStore struct {
	*Recorder
	g      *group
	sub    bus.Subscription
	next   *load
	flight *flight
	more   []bus.Batch // pieces of the batch taken last that are not enriched yet
}

func (r *Recorder) runStore() error {
	sub, err := r.subscribe(r.store)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Close() }() // what it would lose comes again
	t := &toStore{Recorder: r, g: r.store, sub: sub, next: new(load)}
	for {
		if done, err := t.step(); done || err != nil {
			return err
		}
	}
}

// step gathers a load and launches it once the one before has landed. It is done
// when Run is to end.
func (t *toStore) step() (done bool, err error) {
	stopped := t.gather()
	if err := t.land(); err != nil {
		return false, err
	}
	settle := stopped == nil && t.g.asked()
	if len(t.next.acks) > 0 && (stopped != nil || settle || t.ripe()) {
		t.launch()
	}
	if stopped == nil && !settle {
		return false, nil
	}
	if err := t.land(); err != nil {
		return false, err
	}
	switch {
	case settle: // nothing is held, and nothing was enriched meanwhile
		t.g.answer(nil)
		return false, nil
	case t.g.ended.Err() == nil:
		return true, stopped
	default:
		return true, nil
	}
}

func (t *toStore) full() bool {
	return len(t.next.rows)+len(t.next.badRows) >= t.cfg.BatchEvents || t.next.bytes >= t.cfg.BatchBytes
}

// crowded reports whether the loads hold so much already that the flight should
// land before anything is added: one record may come to many times the size of a
// load.
func (t *toStore) crowded() bool {
	return t.flight != nil && t.flight.load.bytes+t.next.bytes >= 2*t.cfg.BatchBytes
}

// ripe reports whether the next load should be written now.
func (t *toStore) ripe() bool {
	return t.full() || time.Since(t.next.begun) >= t.cfg.BatchAge
}

// gather takes records until the load is ripe, the flight has landed or somebody
// asks to settle. It fails when Run is to end or the bus was closed; what was gathered then still counts.
func (t *toStore) gather() error {
	for !t.full() && !t.crowded() && !t.g.asked() {
		b, err := t.take()
		switch {
		case t.g.ended.Err() != nil:
			return t.g.ended.Err()
		case errors.Is(err, bus.ErrClosed):
			return err
		case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
			return nil // the flight landed, the load is old enough, or somebody asks
		case err != nil:
			t.g.fails(err)
			t.g.wait(t.g.ended, t.cfg.RetryMax)
			continue
		}
		if b.Notice != bus.Delivery {
			continue // rows of a lost partition do no harm, and Ack says ErrLost
		}
		results, err := t.feed.enrich(t.g.ended, storeSide, b)
		if err != nil {
			return err
		}
		if len(t.next.acks) == 0 {
			t.next.begun = time.Now()
		}
		t.next.add(b, results)
		t.note()
	}
	return nil
}

// take returns the next piece of what the bus delivers.
func (t *toStore) take() (bus.Batch, error) {
	if len(t.more) == 0 {
		b, err := t.wait()
		if err != nil || b.Notice != bus.Delivery {
			return b, err
		}
		t.more = slices.Collect(pieces(b, t.cfg.BatchBytes))
	}
	piece := t.more[0]
	t.more[0] = bus.Batch{}
	t.more = t.more[1:]
	return piece, nil
}

// wait asks the bus for records, for as long as there is nothing else to do.
func (t *toStore) wait() (bus.Batch, error) {
	ctx, cancel := t.g.waitForBus()
	defer cancel()
	switch {
	case t.flight != nil:
		defer context.AfterFunc(t.flight.done, cancel)()
	case len(t.next.acks) > 0:
		ctx, cancel = context.WithDeadline(ctx, t.next.begun.Add(t.cfg.BatchAge))
		defer cancel()
	}
	return t.sub.Next(ctx)
}

func (t *toStore) note() {
	oldest := t.next.oldest
	if t.flight != nil {
		oldest = earlier(oldest, t.flight.load.oldest)
	}
	t.g.waiting(oldest)
}

// launch starts writing the load.
func (t *toStore) launch() {
	done, landed := context.WithCancel(context.WithoutCancel(t.g.ended))
	f := &flight{load: t.next, done: done}
	t.flight, t.next = f, new(load)
	go func() {
		defer landed()
		f.doubles, f.err = t.write(f.load)
	}()
}

// write makes the load durable and shows it to the tap. It returns how many of its
// events the database had.
func (t *toStore) write(l *load) (doubles int, err error) {
	if len(l.rows)+len(l.badRows) == 0 {
		return 0, nil // a stretch of the bus without records for us, or all forgotten
	}
	if err := t.g.hold(); err != nil {
		return 0, err
	}
	var inserted store.Inserted
	err = t.g.persist(nil, func(ctx context.Context) (err error) {
		inserted, err = t.opts.Store.Insert(ctx, l.rows, l.badRows)
		return err
	})
	if err != nil {
		return 0, err
	}
	t.metrics.freshness.Observe(max(t.opts.Now().Sub(l.oldest), 0).Seconds())
	if t.opts.Tap != nil {
		events := make([]*event.Event, len(l.rows))
		for i := range l.rows {
			events[i] = l.rows[i].Event
		}
		t.opts.Tap.Recorded(events, l.badRows)
	}
	return inserted.Doubles, nil
}

// land waits for the flight, if there is one, and acknowledges what it stored.
func (t *toStore) land() error {
	f := t.flight
	if f == nil {
		return nil
	}
	<-f.done.Done()
	t.flight = nil
	if f.err != nil {
		return f.err
	}
	for _, b := range f.load.acks {
		if err := t.g.ack(t.sub, b); err != nil {
			return err
		}
	}
	t.g.handled(&f.load.tally, f.doubles)
	t.note()
	return nil
}
