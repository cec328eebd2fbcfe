package mem

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"sync"
	"time"

	"furrow/internal/bus"
)

// Options shape a Bus. The zero value is one partition without a limit.
type Options struct {
	Partitions int // default 1, at most 10
	// MaxMessages makes Publish return ErrFull once so many messages are kept
	// that a group has not acknowledged; zero is no limit.
	MaxMessages int
}

// Bus is an in-memory bus. Its methods are safe for concurrent use.
type Bus struct {
	store  *store
	closed bool // under store.mu
	subs   map[*subscription]struct{}
}

// store is what outlives a Bus and is found again by Reopen.
type store struct {
	mu      sync.Mutex
	options Options
	parts   []*partition
	groups  map[string]*group
	changed chan struct{} // closed and replaced when something happened
}

type partition struct {
	name  string
	first int // number of messages[0]; messages count from 1
	kept  []bus.Message
}

// group is what the bus remembers of a consumer group.
type group struct {
	acked  []int // per partition, the last acknowledged message
	sub    *subscription
	denied []bool // per partition, held by another since Revoke
}

// New returns an empty bus.
func New(o Options) *Bus {
	o.Partitions = min(max(o.Partitions, 1), 10)
	s := &store{options: o, groups: map[string]*group{}, changed: make(chan struct{})}
	for i := range o.Partitions {
		s.parts = append(s.parts, &partition{name: strconv.Itoa(i), first: 1})
	}
	return &Bus{store: s, subs: map[*subscription]struct{}{}}
}

// Reopen closes the bus and returns a new one over the same messages and
// positions, as a restart would.
func (b *Bus) Reopen() *Bus {
	_ = b.Close()
	return &Bus{store: b.store, subs: map[*subscription]struct{}{}}
}

// Close ends every subscription and refuses further messages.
func (b *Bus) Close() error {
	s := b.store
	s.mu.Lock()
	defer s.mu.Unlock()
	b.closed = true
	for sub := range b.subs {
		sub.leave()
	}
	s.wake()
	return nil
}

// wake lets every waiting Next look again. Callers hold mu.
func (s *store) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Publish stores the messages, all or none.
func (b *Bus) Publish(ctx context.Context, msgs ...bus.Message) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("mem: publish: %w", err)
	}
	s := b.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.closed {
		return bus.ErrClosed
	}
	if limit := s.options.MaxMessages; limit > 0 && s.makeRoom()+len(msgs) > limit {
		return fmt.Errorf("mem: %d messages are not acknowledged: %w", limit, bus.ErrFull)
	}
	now := time.Now()
	for _, m := range msgs {
		if m.Time.IsZero() {
			m.Time = now
		}
		m.Time = time.UnixMilli(m.Time.UnixMilli()).UTC()
		p := s.parts[0]
		if n := len(s.parts); n > 1 {
			h := fnv.New32a()
			_, _ = h.Write(m.Key)
			p = s.parts[h.Sum32()%uint32(n)] //nolint:gosec // at most 10
		}
		m.Position = position(p.first + len(p.kept))
		m.Key, m.Value = slices.Clone(m.Key), slices.Clone(m.Value)
		p.kept = append(p.kept, m)
	}
	s.wake()
	return nil
}

// makeRoom drops what every group acknowledged and returns how many messages
// are left. Without a group everything is kept.
func (s *store) makeRoom() (left int) {
	for i, p := range s.parts {
		passed := 0
		for _, g := range s.groups {
			if passed == 0 || g.acked[i] < passed {
				passed = g.acked[i]
			}
			if passed == 0 {
				break
			}
		}
		if n := passed - p.first + 1; n > 0 {
			p.kept = slices.Clone(p.kept[n:])
			p.first += n
		}
		left += len(p.kept)
	}
	return left
}

// Len returns how many messages are kept.
func (b *Bus) Len() int {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	n := 0
	for _, p := range b.store.parts {
		n += len(p.kept)
	}
	return n
}

// Revoke takes a partition from the group's subscription, as if another process
// had it, until giveBack is called.
func (b *Bus) Revoke(name, part string) (giveBack func(), err error) {
	s := b.store
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[name]
	i := slices.IndexFunc(s.parts, func(p *partition) bool { return p.name == part })
	if g == nil || i < 0 {
		return nil, fmt.Errorf("mem: group %q or partition %q is not known", name, part)
	}
	set := func(v bool) {
		g.denied[i] = v
		s.wake()
	}
	set(true)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		set(false)
	}, nil
}

const digits = 20

func position(n int) bus.Position { return bus.Position(fmt.Sprintf("%0*d", digits, n)) }

func number(p bus.Position) (int, error) {
	n, err := strconv.Atoi(string(p))
	if err != nil || n < 0 || len(p) != digits {
		return 0, fmt.Errorf("mem: %q is not a position of this bus", p)
	}
	return n, nil
}

var errTwice = errors.New("the group has a subscription already")
