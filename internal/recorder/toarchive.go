package recorder

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"furrow/internal/archive"
	"furrow/internal/bus"
	"furrow/internal/enrich"
)

// archiveRange is an archive.Range as the recorder uses it.
type archiveRange interface {
	Intended() (bus.Position, bool)
	Add(e archive.Entry) error
	Full(now time.Time) bool
	Commit(ctx context.Context, last bus.Position) error
	Abort()
}

const (
	rollCheck   = time.Second
	archiveSpan = "raw" // both streams of a partition share its positions, and so its ranges
)

// errAgain asks for the positions since the last acknowledged ones once more.
var errAgain = errors.New("recorder: a range has to begin again")

// errSettled asks for the same, because somebody waits until nothing is held.
var errSettled = errors.New("recorder: an open range is given up to settle")

// span is the open range of one partition.
type span struct {
	archiveRange
	tally
	first, last bus.Position
	declaredEnd bus.Position // where an earlier owner declared that it ends
	declared    bool
}

// toArchive moves records into ranges of the archive.
type toArchive struct {
	*Recorder
	g     *group
	sub   bus.Subscription
	spans map[string]*span
}

func (r *Recorder) runArchive() error {
	g := r.archive
	for {
		err := r.archiveOnce()
		if errors.Is(err, errSettled) && g.ended.Err() == nil {
			g.answer(nil) // what was held has been dropped and comes again
			continue
		}
		if !errors.Is(err, errAgain) || g.ended.Err() != nil {
			return err
		}
		g.fails(err)
		g.wait(g.ended, r.cfg.RetryMax)
	}
}

// archiveOnce subscribes and archives until Run is to end, or until a range has
// to begin again: closing the subscription makes all that was not acknowledged
// come again.
func (r *Recorder) archiveOnce() error {
	sub, err := r.subscribe(r.archive)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Close() }() // what it would lose comes again
	t := &toArchive{Recorder: r, g: r.archive, sub: sub, spans: map[string]*span{}}
	defer func() {
		for _, s := range t.spans { // their records come again: the group is as late as before
			s.Abort()
		}
		if len(t.spans) == 0 {
			t.g.waiting(time.Time{})
		}
	}()
	for {
		var b bus.Batch
		var err error
		settle := t.g.asked()
		if !settle {
			b, err = t.wait()
		}
		switch {
		case t.g.ended.Err() != nil:
			return t.drain()
		case settle:
			err = t.settle()
		case errors.Is(err, context.Canceled):
			continue // somebody asks to settle
		case errors.Is(err, bus.ErrClosed):
			return err
		case errors.Is(err, context.DeadlineExceeded):
			err = t.roll()
		case err != nil:
			t.g.fails(err)
			t.g.wait(t.g.ended, t.cfg.RetryMax)
			continue
		default:
			err = t.handle(b)
		}
		if err != nil && t.g.ended.Err() != nil && errors.Is(err, context.Canceled) && t.g.deadline.Err() == nil {
			return t.drain() // told to stop while enriching
		}
		if err != nil {
			return err
		}
		t.note()
	}
}

// wait asks the bus for records; while ranges are open it returns now and then,
// so that they end in time.
func (t *toArchive) wait() (bus.Batch, error) {
	ctx, cancel := t.g.waitForBus()
	defer cancel()
	if len(t.spans) > 0 {
		ctx, cancel = context.WithTimeout(ctx, rollCheck)
		defer cancel()
	}
	return t.sub.Next(ctx)
}

// note tells how far behind the group is, with what it has just taken.
func (t *toArchive) note(taken ...bus.Message) {
	var oldest time.Time
	if len(taken) > 0 {
		oldest = taken[0].Time
	}
	for _, s := range t.spans {
		oldest = earlier(oldest, s.oldest)
	}
	t.g.waiting(oldest)
}

func (t *toArchive) handle(b bus.Batch) error {
	switch b.Notice {
	case bus.Revoked, bus.Assigned:
		if s := t.spans[b.Partition]; s != nil { // its new owner begins it again
			s.Abort()
			delete(t.spans, b.Partition)
		}
		return nil
	case bus.Delivery:
	}
	if len(b.Messages) > 0 {
		t.note(b.Messages...) // an archive that is away keeps us here for long
		if err := t.g.hold(); err != nil {
			return err
		}
	}
	for piece := range pieces(b, t.cfg.BatchBytes) {
		results, err := t.feed.enrich(t.g.ended, archiveSide, piece)
		if err != nil {
			return err
		}
		for i, res := range results {
			results[i] = enrich.Result{} // may be large, and is not needed further
			if err := t.add(b.Partition, &piece.Messages[i], &res); err != nil {
				return err
			}
		}
	}
	return t.pass(b)
}

// pass accounts for what the batch left out after its last message.
func (t *toArchive) pass(b bus.Batch) error {
	s := t.spans[b.Partition]
	switch {
	case s == nil && len(b.Messages) > 0 && b.Messages[len(b.Messages)-1].Position == b.Last:
		return nil // acknowledged when its range was committed
	case s == nil:
		return t.g.ack(t.sub, bus.Batch{Partition: b.Partition, First: b.First, Last: b.Last})
	case s.declared && b.Last >= s.declaredEnd:
		if err := t.commit(b.Partition, s, s.declaredEnd); err != nil || b.Last == s.declaredEnd {
			return err
		}
		return t.g.ack(t.sub, bus.Batch{Partition: b.Partition, First: b.First, Last: b.Last})
	default:
		s.last = b.Last
		return nil
	}
}

// add puts one record into the range of its partition, and commits the range
// where it ends. A record of which nothing is left names the range all the same, if
// it is the first: what the range holds may change, but not which range it is.
func (t *toArchive) add(partition string, m *bus.Message, res *enrich.Result) error {
	s := t.spans[partition]
	if s != nil && s.declared && m.Position > s.declaredEnd {
		if err := t.commit(partition, s, s.declaredEnd); err != nil {
			return err
		}
		s = nil
	}
	if s == nil {
		var err error
		if s, err = t.open(partition, m.Position); err != nil {
			return err
		}
	}
	at := m.Time
	if res.Payload != nil {
		at = res.Payload.Time()
	}
	entry := archive.Entry{
		Record: res.Record, ID: res.RecordID, Key: m.Key, Time: at, Events: res.Events, Bad: res.Bad,
		NoRaw: m.Stream != bus.Raw || res.Record == nil,
	}
	if !bytes.Equal(res.Record, m.Value) {
		entry.Key = nil // it may be the identifier of somebody who was taken out
	}
	if err := s.Add(entry); err != nil {
		return errors.Join(errAgain, err)
	}
	s.last = m.Position
	s.add(m, res)
	// The first record may show that what was declared is of another bus.
	s.declaredEnd, s.declared = s.Intended()
	if s.declared && m.Position == s.declaredEnd || s.Full(t.opts.Now()) {
		return t.commit(partition, s, s.last)
	}
	return nil
}

func (t *toArchive) open(partition string, first bus.Position) (*span, error) {
	s := &span{first: first, last: first}
	err := t.g.persist(nil, func(ctx context.Context) (err error) {
		s.archiveRange, err = t.begin(ctx, archiveSpan, partition, first)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.declaredEnd, s.declared = s.Intended()
	t.spans[partition] = s
	return s, nil
}

// commit makes the range durable up to a position and acknowledges it.
func (t *toArchive) commit(partition string, s *span, last bus.Position) error {
	if err := t.g.hold(); err != nil {
		return err
	}
	again := func(err error) bool {
		return errors.Is(err, archive.ErrBroken) || errors.Is(err, archive.ErrTaken)
	}
	err := t.g.persist(again, func(ctx context.Context) error { return s.Commit(ctx, last) })
	if err != nil {
		if again(err) {
			err = errors.Join(errAgain, err)
		}
		return err
	}
	delete(t.spans, partition)
	if err := t.g.ack(t.sub, bus.Batch{Partition: partition, First: s.first, Last: last}); err != nil {
		return err
	}
	t.g.handled(&s.tally, 0)
	return nil
}

// roll commits the ranges that are old enough.
func (t *toArchive) roll() error {
	now := t.opts.Now()
	for _, p := range slices.Sorted(maps.Keys(t.spans)) {
		if s := t.spans[p]; s.Full(now) {
			if err := t.commit(p, s, s.last); err != nil {
				return err
			}
		}
	}
	return nil
}

// settle commits all open ranges for those who asked. One that can end only later is
// dropped with the subscription, so that its records come again.
func (t *toArchive) settle() error {
	for _, p := range slices.Sorted(maps.Keys(t.spans)) {
		if s := t.spans[p]; !s.declared {
			if err := t.commit(p, s, s.last); err != nil {
				return err
			}
		}
	}
	if len(t.spans) > 0 {
		return errSettled
	}
	t.g.answer(nil)
	return nil
}

// drain commits all open ranges. One that an earlier owner declared with a later
// end is left to be begun again, since it can end nowhere else.
func (t *toArchive) drain() error {
	var errs []error
	for _, p := range slices.Sorted(maps.Keys(t.spans)) {
		if s := t.spans[p]; !s.declared {
			if err := t.commit(p, s, s.last); err != nil && !errors.Is(err, errAgain) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
