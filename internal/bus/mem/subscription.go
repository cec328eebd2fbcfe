package mem

import (
	"context"
	"fmt"
	"slices"

	"furrow/internal/bus"
)

// batchMessages is how many messages a batch holds at most.
const batchMessages = 100

type subscription struct {
	bus     *Bus
	group   *group // nil for the empty group
	streams []bus.Stream
	parts   []cursor
	turn    int // the partition to look at first, so that none starves
	closed  bool
}

// cursor is a subscription's place in one partition.
type cursor struct {
	next     int // the message to deliver next
	acked    int
	since    int64 // deliver nothing before the first message of this time, Unix ms
	assigned bool
}

// Subscribe implements bus.Subscriber.
func (b *Bus) Subscribe(ctx context.Context, name string, streams []bus.Stream, from bus.Start) (bus.Subscription, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("mem: subscribe: %w", err)
	}
	s := b.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.closed {
		return nil, bus.ErrClosed
	}
	sub := &subscription{bus: b, streams: slices.Clone(streams), parts: make([]cursor, len(s.parts))}
	if name != "" {
		g := s.groups[name]
		if g == nil {
			g = &group{acked: make([]int, len(s.parts)), denied: make([]bool, len(s.parts))}
			s.groups[name] = g
		}
		if g.sub != nil {
			return nil, fmt.Errorf("mem: group %q: %w", name, errTwice)
		}
		sub.group = g
	}
	for i, p := range s.parts {
		c, err := sub.start(i, p, from)
		if err != nil {
			return nil, err
		}
		sub.parts[i] = c
	}
	if sub.group != nil {
		sub.group.sub = sub
	}
	b.subs[sub] = struct{}{}
	return sub, nil
}

func (s *subscription) start(i int, p *partition, from bus.Start) (cursor, error) {
	c := cursor{}
	switch from.Kind {
	case bus.Committed:
		if s.group != nil {
			c.next = s.group.acked[i] + 1
		}
	case bus.Earliest:
	case bus.Latest:
		c.next = p.first + len(p.kept)
	case bus.StartTime:
		c.since = from.Time.UnixMilli()
	case bus.StartPositions:
		if at, ok := from.Positions[p.name]; ok {
			n, err := number(at)
			if err != nil {
				return c, err
			}
			c.next = n + 1
		}
	default:
		return c, fmt.Errorf("mem: start kind %d is not known", from.Kind)
	}
	c.next = max(c.next, p.first)
	c.acked = c.next - 1
	return c, nil
}

// Next implements bus.Subscription.
func (s *subscription) Next(ctx context.Context) (bus.Batch, error) {
	st := s.bus.store
	for {
		if err := ctx.Err(); err != nil {
			return bus.Batch{}, err
		}
		st.mu.Lock()
		if s.closed || s.bus.closed {
			st.mu.Unlock()
			return bus.Batch{}, bus.ErrClosed
		}
		b, ok := s.look()
		changed := st.changed
		st.mu.Unlock()
		if ok {
			return b, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// look returns the next batch or notice, if there is one.
func (s *subscription) look() (bus.Batch, bool) {
	parts := s.bus.store.parts
	for k := range parts {
		i := (s.turn + k) % len(parts)
		p, c := parts[i], &s.parts[i]
		denied := s.group != nil && s.group.denied[i]
		if denied == c.assigned { // what the group may have and what it was told differ
			c.assigned = !denied
			if denied {
				c.next = s.group.acked[i] + 1
				c.acked = s.group.acked[i]
				return bus.Batch{Notice: bus.Revoked, Partition: p.name}, true
			}
			return bus.Batch{Notice: bus.Assigned, Partition: p.name}, true
		}
		if denied {
			continue
		}
		if b, ok := s.take(p, c); ok {
			s.turn = i + 1
			return b, true
		}
	}
	return bus.Batch{}, false
}

func (s *subscription) take(p *partition, c *cursor) (bus.Batch, bool) {
	b := bus.Batch{Partition: p.name}
	c.next = max(c.next, p.first)
	for c.next < p.first+len(p.kept) && len(b.Messages) < batchMessages {
		m := p.kept[c.next-p.first]
		c.next++
		b.Last = m.Position
		if b.First == "" {
			b.First = m.Position
		}
		if m.Time.UnixMilli() < c.since {
			continue
		}
		c.since = 0
		if len(s.streams) == 0 || slices.Contains(s.streams, m.Stream) {
			b.Messages = append(b.Messages, m)
		}
	}
	return b, b.Last != ""
}

// Ack implements bus.Subscription.
func (s *subscription) Ack(_ context.Context, b bus.Batch) error {
	if b.Last == "" {
		return nil // a notice
	}
	n, err := number(b.Last)
	if err != nil {
		return err
	}
	st := s.bus.store
	st.mu.Lock()
	defer st.mu.Unlock()
	if s.closed || s.bus.closed {
		return bus.ErrClosed
	}
	i := slices.IndexFunc(st.parts, func(p *partition) bool { return p.name == b.Partition })
	if i < 0 || n >= st.parts[i].first+len(st.parts[i].kept) {
		return fmt.Errorf("mem: position %s of partition %q was never published", b.Last, b.Partition)
	}
	if s.group == nil {
		return nil
	}
	if !s.parts[i].assigned || s.group.denied[i] {
		return bus.ErrLost
	}
	if n > s.parts[i].acked {
		s.parts[i].acked = n
		s.group.acked[i] = n
	}
	return nil
}

// Close implements bus.Subscription.
func (s *subscription) Close() error {
	st := s.bus.store
	st.mu.Lock()
	defer st.mu.Unlock()
	s.leave()
	st.wake()
	return nil
}

// leave gives the group free. Callers hold the store's mu.
func (s *subscription) leave() {
	s.closed = true
	delete(s.bus.subs, s)
	if s.group != nil && s.group.sub == s {
		s.group.sub = nil
	}
}
