package bustest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"furrow/internal/bus"
)

func testFields(s session) {
	t, a := s.T, s.Adapter
	b := openBus(t, a)
	before := time.Now().Add(-time.Minute)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	sent := []bus.Message{
		{Stream: bus.Raw, Key: all, Value: bytes.Repeat(all, 400)},
		{Stream: bus.Bad, Key: []byte("k"), Value: []byte{0}},
		{Stream: bus.Raw, Key: []byte("k"), Value: []byte("v"), Time: time.Now()},
	}
	for _, m := range sent {
		publish(t, b, m)
	}
	got := subscribe(t, b, "", bus.Start{Kind: bus.Earliest}).read(len(sent))
	for _, want := range sent {
		i := slices.IndexFunc(got, func(m bus.Message) bool { return bytes.Equal(m.Value, want.Value) })
		if i < 0 {
			t.Fatalf("a value of %d bytes is missing", len(want.Value))
		}
		m := got[i]
		if m.Stream != want.Stream || !bytes.Equal(m.Key, want.Key) || m.Position == "" {
			t.Errorf("got %q %q at %q, want %q %q", m.Stream, m.Key, m.Position, want.Stream, want.Key)
		}
		if m.Time.Before(before) || m.Time.After(time.Now().Add(time.Minute)) {
			t.Errorf("time %v is not about now", m.Time)
		}
	}
	publish(t, b) // nothing to store is no error
}

func testAssigned(s session) {
	t, a := s.T, s.Adapter
	b := openBus(t, a)
	publish(t, b, texts("k", "a")...)
	for _, group := range []string{"g", ""} {
		r := subscribe(t, b, group, bus.Start{Kind: bus.Earliest})
		assigned := map[string]bool{}
		for done := false; !done; {
			got, err := r.sub.Next(within(t))
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case got.Notice == bus.Assigned && assigned[got.Partition]:
				t.Fatalf("partition %q was assigned twice", got.Partition)
			case got.Notice == bus.Assigned:
				assigned[got.Partition] = true
			case !assigned[got.Partition]:
				t.Fatalf("notice %d for partition %q before it was assigned", got.Notice, got.Partition)
			default:
				done = len(got.Messages) > 0
			}
		}
	}
}

func testOrder(s session) {
	t, a := s.T, s.Adapter
	b := openBus(t, a)
	const writers, calls, perCall = 8, 25, 4
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			key := fmt.Sprintf("user-%d", w)
			for c := range calls {
				if err := b.Publish(t.Context(), numbered(key, c*perCall, (c+1)*perCall)...); err != nil {
					t.Errorf("Publish: %v", err)
				}
			}
		})
	}
	r := subscribe(t, b, "g", bus.Start{Kind: bus.Earliest})
	next := map[string]int{}
	for _, m := range r.read(writers * calls * perCall) {
		key := string(m.Key)
		if want := fmt.Sprintf("%s-%04d", key, next[key]); string(m.Value) != want {
			t.Fatalf("got %q, want %q", m.Value, want)
		}
		next[key]++
	}
	group.Wait()
}

func testPositions(s session) {
	t, a := s.T, s.Adapter
	b := openBus(t, a)
	for i := range 40 {
		publish(t, b, numbered(fmt.Sprint("k", i%3), i*5, i*5+5)...)
	}
	r := subscribe(t, b, "", bus.Start{Kind: bus.Earliest})
	last := map[string]bus.Position{}
	for n := 0; n < 200; {
		got := r.batch()
		for _, m := range got.Messages {
			if m.Position <= last[got.Partition] {
				t.Fatalf("position %q follows %q", m.Position, last[got.Partition])
			}
			last[got.Partition] = m.Position
		}
		if k := len(got.Messages); k > 0 {
			n += k
			if got.First > got.Messages[0].Position || got.Last < got.Messages[k-1].Position {
				t.Fatalf("batch %q to %q does not span its messages", got.First, got.Last)
			}
		}
	}
}

func testCumulative(s session) {
	t, a := s.T, s.Adapter
	b := openBus(t, a)
	publish(t, b, texts("k", "a", "b")...)
	r := subscribe(t, b, "g", bus.Start{})
	first := r.read(2)
	early := r.last
	r.last = map[string]bus.Batch{}
	publish(t, b, texts("k", "c", "d")...)
	r.expect("c", "d")
	r.ack() // covers a and b as well
	for _, old := range early {
		if err := r.sub.Ack(within(t), old); err != nil {
			t.Fatalf("Ack of %q, which was covered: %v", values(first), err)
		}
	}
	r.close()
	publish(t, b, texts("k", "e")...)
	subscribe(t, b, "g", bus.Start{}).expect("e")
}

func testHead(s session) {
	t, a := s.T, s.Adapter
	b := openBus(t, a)
	publish(t, b, numbered("k", 0, 10)...)
	r := subscribe(t, b, "g", bus.Start{})
	done := 0
	for done < 4 {
		got := r.batch()
		if len(got.Messages) == 0 {
			continue
		}
		i := min(len(got.Messages), 4-done) - 1
		if err := r.sub.Ack(within(t), got.Head(i)); err != nil {
			t.Fatal(err)
		}
		done += i + 1
	}
	r.close()
	r = subscribe(t, b, "g", bus.Start{})
	r.expect(values(numbered("k", 4, 10))...)
}

func testRedelivery(s session) {
	t, a := s.T, s.Adapter
	b := openBus(t, a)
	publish(t, b, texts("k", "a", "b")...)
	for range 3 {
		r := subscribe(t, b, "g", bus.Start{})
		r.expect("a", "b")
		r.close()
	}
	r := subscribe(t, b, "g", bus.Start{})
	r.expect("a", "b")
	r.ack()
	r.close()
	publish(t, b, texts("k", "c")...)
	subscribe(t, b, "g", bus.Start{}).expect("c")
}

func testReopen(s session) {
	t, a := s.T, s.Adapter
	b := openBus(t, a)
	publish(t, b, texts("k", "a", "b", "c")...)
	r := subscribe(t, b, "acked", bus.Start{})
	r.expect("a", "b", "c")
	r.ack()
	subscribe(t, b, "lazy", bus.Start{}).expect("a", "b", "c")
	if err := b.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}

	b = openBus(t, a)
	publish(t, b, texts("k", "d")...)
	subscribe(t, b, "acked", bus.Start{}).expect("d")
	r = subscribe(t, b, "lazy", bus.Start{})
	r.expect("a", "b", "c", "d")
	for _, m := range subscribe(t, b, "", bus.Start{Kind: bus.Earliest}).read(4) {
		if m.Position == "" || m.Time.IsZero() {
			t.Errorf("message %q lost its position or time", m.Value)
		}
	}
}

// testAtLeastOnce lets publishers give up at random and a consumer crash at
// random; what was confirmed must be handled, in the order of its key.
func testAtLeastOnce(s session) {
	t, a := s.T, s.Adapter
	b := openBus(t, a)
	const writers, each = 6, 60
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 1)) //nolint:gosec // chance, not secrecy
			for i := range each {
				m := numbered(fmt.Sprintf("w%d", w), i, i+1)
				for impatient(t, b, rnd, m) != nil && t.Context().Err() == nil {
					continue
				}
			}
		})
	}
	c := crasher{t: t, b: b, handled: map[string]bool{}, newest: map[string]string{}}
	c.run(writers * each)
	group.Wait()
}

// impatient publishes and often gives up after a moment.
func impatient(t *testing.T, b Bus, rnd *rand.Rand, msgs []bus.Message) error {
	t.Helper()
	wait := patience
	if rnd.IntN(3) == 0 {
		wait = time.Duration(rnd.IntN(2000)) * time.Microsecond
	}
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	return b.Publish(ctx, msgs...)
}

// crasher consumes with random crashes: it forgets what it had not acknowledged.
type crasher struct {
	t       *testing.T
	b       Bus
	handled map[string]bool
	newest  map[string]string // per key, of what was handled
}

func (c *crasher) run(total int) {
	rnd := rand.New(rand.NewPCG(7, 7)) //nolint:gosec // chance, not secrecy
	for len(c.handled) < total {
		r := subscribe(c.t, c.b, "g", bus.Start{})
		for len(c.handled) < total {
			got := r.batch()
			if n := len(got.Messages); n > 0 && rnd.IntN(2) == 0 {
				got = got.Head(rnd.IntN(n))
			}
			if rnd.IntN(4) == 0 {
				break // crashed before handling
			}
			c.handle(got.Messages)
			if rnd.IntN(4) == 0 {
				break // crashed after handling, before acknowledging
			}
			if err := r.sub.Ack(within(c.t), got); err != nil {
				c.t.Fatalf("Ack: %v", err)
			}
			if r.last[got.Partition].Last != got.Last {
				break // the rest of the batch comes again in a new subscription
			}
		}
		r.close()
	}
}

func (c *crasher) handle(msgs []bus.Message) {
	for _, m := range msgs {
		key, v := string(m.Key), string(m.Value)
		if !c.handled[v] && v < c.newest[key] {
			c.t.Fatalf("%q was first delivered after %q", v, c.newest[key])
		}
		c.handled[v] = true
		c.newest[key] = max(c.newest[key], v)
	}
}
