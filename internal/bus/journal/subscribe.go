package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"

	"furrow/internal/bus"
)

var errTwice = errors.New("the group has a subscription already")

// subscription reads the journal for one consumer.
type subscription struct {
	journal *Journal
	group   *group // nil for the empty group
	done    chan struct{}
	once    sync.Once
	told    bool // the partition was announced; only Next uses it

	mu     sync.Mutex // held while reading, taken before Journal.mu
	reader reader

	floor uint64 // the last acknowledged, the start before that; guarded by Journal.mu
}

// Subscribe implements bus.Subscriber. Positions past the head are of another
// journal, so they start at the earliest record.
func (j *Journal) Subscribe(ctx context.Context, name string, streams []bus.Stream, from bus.Start) (bus.Subscription, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("journal: subscribe: %w", err)
	}
	if name != "" && !groupName.MatchString(name) {
		return nil, fmt.Errorf("journal: %q cannot name a group; use letters, digits, '.', '_' and '-'", name)
	}
	s := &subscription{journal: j, done: make(chan struct{})}
	s.reader = reader{journal: j, streams: slices.Clone(streams), chunk: minChunk}
	j.mu.Lock()
	defer j.mu.Unlock()
	select {
	case <-j.closing:
		return nil, bus.ErrClosed
	default:
	}
	var committed uint64
	if g := j.groups[name]; g != nil {
		if g.sub != nil {
			return nil, fmt.Errorf("journal: group %q: %w", name, errTwice)
		}
		committed = g.acked
	}
	if err := s.reader.start(from, committed); err != nil {
		return nil, err
	}
	s.floor = s.reader.passed
	if name != "" {
		s.group = j.group(name)
		s.group.sub = s
	}
	j.subs[s] = struct{}{}
	return s, nil
}

// start finds the place to read from. Callers hold Journal.mu.
func (r *reader) start(from bus.Start, committed uint64) error {
	head := r.journal.head.Load()
	switch from.Kind {
	case bus.Committed:
		r.passed = committed
	case bus.Earliest:
	case bus.Latest:
		r.passed = head
	case bus.StartTime:
		r.since = from.Time.UnixMilli()
		for _, s := range r.journal.segments {
			if e := s.extent.Load(); !e.sealed || s.maxTime >= r.since {
				break
			}
			r.passed = s.extent.Load().last
		}
	case bus.StartPositions:
		at, ok := from.Positions[Partition]
		if !ok {
			return nil
		}
		seq, err := parsePosition(at)
		if err != nil {
			return err
		}
		if seq > head {
			r.journal.log.Warn("journal: a start position lies behind the head, starting at the earliest record",
				slog.String("position", string(at)), slog.Uint64("head", head))
			return nil
		}
		r.passed = seq
	default:
		return fmt.Errorf("journal: start kind %d is not known", from.Kind)
	}
	return nil
}

// Next implements bus.Subscription. The first batch announces the partition.
func (s *subscription) Next(ctx context.Context) (bus.Batch, error) {
	for {
		if err := ctx.Err(); err != nil {
			return bus.Batch{}, err
		}
		if s.closed() {
			return bus.Batch{}, bus.ErrClosed
		}
		if !s.told {
			s.told = true
			return bus.Batch{Notice: bus.Assigned, Partition: Partition}, nil
		}
		b, ok, err := s.poll()
		if ok || err != nil {
			return b, err
		}
		woken := s.journal.commits.wait()
		if b, ok, err = s.poll(); ok || err != nil { // a commit may have come in between
			return b, err
		}
		select {
		case <-woken:
		case <-ctx.Done():
		case <-s.done:
		case <-s.journal.closing:
		}
	}
}

func (s *subscription) closed() bool {
	select {
	case <-s.done:
		return true
	case <-s.journal.closing:
		return true
	default:
		return false
	}
}

// poll reads what is there.
func (s *subscription) poll() (bus.Batch, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed() { // Close may have released the file
		return bus.Batch{}, false, nil
	}
	return s.reader.next()
}

// Ack implements bus.Subscription. It accepts any position up to the head, so
// that a consumer can acknowledge what its own snapshot holds.
func (s *subscription) Ack(_ context.Context, b bus.Batch) error {
	if b.Notice != bus.Delivery || b.Last == "" {
		return nil
	}
	if b.Partition != Partition {
		return fmt.Errorf("journal: there is no partition %q", b.Partition)
	}
	seq, err := parsePosition(b.Last)
	if err != nil {
		return err
	}
	if s.closed() {
		return bus.ErrClosed
	}
	j := s.journal
	if head := j.head.Load(); seq > head {
		return fmt.Errorf("journal: position %s lies behind the head %s", b.Last, formatPosition(head))
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if s.group == nil || s.group.sub != s || seq <= s.floor {
		return nil
	}
	s.floor = seq
	s.group.acked = seq
	s.group.dirty = true
	return nil
}

// Close implements bus.Subscription.
func (s *subscription) Close() error {
	s.once.Do(func() {
		close(s.done)
		s.mu.Lock()
		s.reader.release()
		s.mu.Unlock()
		j := s.journal
		j.mu.Lock()
		delete(j.subs, s)
		if s.group != nil && s.group.sub == s {
			s.group.sub = nil
		}
		j.mu.Unlock()
	})
	return nil
}

// subscriptions returns those that are open.
func (j *Journal) subscriptions() []*subscription {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Collect(maps.Keys(j.subs))
}

// after returns the first segment with records that are newer than seq, and the
// offset from which to look for them.
func (j *Journal) after(seq uint64) (*segment, int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.segments {
		if s.extent.Load().last <= seq || s.empty() {
			continue
		}
		if m, ok := s.before(seq + 1); ok {
			return s, m.offset
		}
		return s, segmentHeader
	}
	return nil, 0
}

// openSegment returns false when the file is gone.
func openSegment(s *segment) (*os.File, bool, error) {
	f, err := os.Open(s.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("journal: %w", err)
	}
	return f, true, nil
}
