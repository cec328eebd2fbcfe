package bustest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"furrow/internal/bus"
)

func testOneSubscription(s session) {
	t, a := s.T, s.Adapter
	b := openBus(t, a)
	r := subscribe(t, b, "g", bus.Start{})
	if second, err := b.Subscribe(within(t), "g", everything, bus.Start{}); err == nil {
		_ = second.Close()
		t.Fatal("a second subscription of one group was given out")
	}
	subscribe(t, b, "", bus.Start{})
	subscribe(t, b, "", bus.Start{})
	r.close()
	subscribe(t, b, "g", bus.Start{})
}

func testGroups(s session) {
	t, a := s.T, s.Adapter
	b := openBus(t, a)
	publish(t, b, texts("k", "a", "b")...)
	one, two := subscribe(t, b, "one", bus.Start{}), subscribe(t, b, "two", bus.Start{})
	one.expect("a", "b")
	one.ack()
	publish(t, b, texts("k", "c")...)
	one.expect("c")
	two.read(3) // one's acknowledgements took nothing away
	one.close()
	two.close()
	subscribe(t, b, "one", bus.Start{}).expect("c")
	subscribe(t, b, "two", bus.Start{}).expect("a", "b", "c")
}

func testEphemeral(s session) {
	t, a := s.T, s.Adapter
	b := openBus(t, a)
	publish(t, b, texts("k", "a")...)
	for range 2 {
		r := subscribe(t, b, "", bus.Start{})
		r.expect("a")
		r.ack()
		r.close()
	}
	subscribe(t, b, "g", bus.Start{}).expect("a")
}

func onStream(s bus.Stream, values ...string) []bus.Message {
	msgs := texts("k", values...)
	for i := range msgs {
		msgs[i].Stream = s
	}
	return msgs
}

func testStreams(s session) {
	t, a := s.T, s.Adapter
	b := openBus(t, a)
	publish(t, b, slices.Concat(onStream(bus.Raw, "r1"), onStream(bus.Bad, "b1"), onStream(bus.Raw, "r2"))...)
	publish(t, b, onStream(bus.Bad, "b2")...)
	r := subscribe(t, b, "raw", bus.Start{}, bus.Raw)
	r.expect("r1", "r2")
	bad := subscribe(t, b, "bad", bus.Start{}, bus.Bad)
	bad.expect("b1", "b2")
	both := values(subscribe(t, b, "both", bus.Start{}, bus.Raw, bus.Bad).read(4))
	slices.Sort(both)
	if !slices.Equal(both, []string{"b1", "b2", "r1", "r2"}) {
		t.Errorf("both streams gave %q", both)
	}
	r.idle()
	bad.idle()
}

// testFilteredProgress: what a group filters out does not come again and does
// not hide what follows.
func testFilteredProgress(s session) {
	t, a := s.T, s.Adapter
	b := openBus(t, a)
	publish(t, b, onStream(bus.Bad, values(numbered("b", 0, 50))...)...)
	publish(t, b, onStream(bus.Raw, "r1")...)
	publish(t, b, onStream(bus.Bad, values(numbered("b", 50, 100))...)...)
	r := subscribe(t, b, "raw", bus.Start{}, bus.Raw)
	r.expect("r1")
	r.ack()
	r.close()
	publish(t, b, onStream(bus.Raw, "r2")...)
	r = subscribe(t, b, "raw", bus.Start{}, bus.Raw)
	r.expect("r2")
	r.idle()
}

func testStartEnds(s session) {
	t, a := s.T, s.Adapter
	b := openBus(t, a)
	publish(t, b, texts("k", "a", "b")...)
	earliest := subscribe(t, b, "", bus.Start{Kind: bus.Earliest})
	latest := subscribe(t, b, "", bus.Start{Kind: bus.Latest})
	fresh := subscribe(t, b, "fresh", bus.Start{Kind: bus.Committed})
	publish(t, b, texts("k", "c")...)
	earliest.expect("a", "b", "c")
	latest.expect("c")
	fresh.expect("a", "b", "c")
}

func testStartTime(s session) {
	t, a := s.T, s.Adapter
	b := openBus(t, a)
	r := subscribe(t, b, "", bus.Start{})
	publish(t, b, texts("k", "a")...)
	first := r.read(1)[0]
	var second bus.Message
	var sent []string
	for i := 0; ; i++ { // until the clock of the bus has moved on
		sent = append(sent, fmt.Sprintf("b%03d", i))
		publish(t, b, texts("k", sent[i])...)
		if second = r.read(1)[0]; second.Time.After(first.Time) {
			break
		}
	}
	publish(t, b, texts("k", "c")...)
	subscribe(t, b, "", bus.Start{Kind: bus.StartTime, Time: second.Time}).expect(sent[len(sent)-1], "c")
	all := append([]string{"a"}, append(sent, "c")...)
	subscribe(t, b, "", bus.Start{Kind: bus.StartTime, Time: first.Time.Add(-time.Hour)}).expect(all...)
	future := subscribe(t, b, "", bus.Start{Kind: bus.StartTime, Time: time.Now().Add(time.Hour)})
	future.idle()
}

func testStartPositions(s session) {
	t, a := s.T, s.Adapter
	b := openBus(t, a)
	publish(t, b, texts("k", "a", "b", "c")...)
	r := subscribe(t, b, "", bus.Start{})
	at := bus.Positions{}
	for n := 0; n < 3; {
		got := r.batch()
		for _, m := range got.Messages {
			if n++; string(m.Value) == "b" {
				at[got.Partition] = m.Position
			}
		}
	}
	subscribe(t, b, "", bus.Start{Kind: bus.StartPositions, Positions: at}).expect("c")
	subscribe(t, b, "", bus.Start{Kind: bus.StartPositions}).expect("a", "b", "c")
	subscribe(t, b, "named", bus.Start{Kind: bus.StartPositions, Positions: at}).expect("c")
}

func testRewind(s session) {
	t, a := s.T, s.Adapter
	b := openBus(t, a)
	publish(t, b, numbered("k", 0, 6)...)
	r := subscribe(t, b, "g", bus.Start{})
	r.read(6)
	r.ack()
	r.close()

	r = subscribe(t, b, "g", bus.Start{Kind: bus.Earliest})
	r.read(6)
	r.close() // nothing acknowledged: the old position stands
	r = subscribe(t, b, "g", bus.Start{})
	r.idle()
	r.close()

	r = subscribe(t, b, "g", bus.Start{Kind: bus.Earliest})
	got := r.batch()
	for len(got.Messages) == 0 {
		got = r.batch()
	}
	if err := r.sub.Ack(within(t), got.Head(0)); err != nil {
		t.Fatal(err)
	}
	r.close()
	subscribe(t, b, "g", bus.Start{}).expect(values(numbered("k", 1, 6))...)
}

func testNextContext(s session) {
	t, a := s.T, s.Adapter
	b := openBus(t, a)
	r := subscribe(t, b, "g", bus.Start{})
	r.idle()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for { // notices may come first
		_, err := r.sub.Next(ctx)
		if errors.Is(err, context.Canceled) {
			break
		}
		if err != nil {
			t.Fatalf("Next with a cancelled context: %v", err)
		}
	}
	publish(t, b, texts("k", "a")...)
	r.expect("a") // the subscription survived
}

// blocked starts a Next that finds nothing and returns its result.
func blocked(t *testing.T, r *reader) <-chan error {
	t.Helper()
	r.idle()
	result := make(chan error, 1)
	ctx := within(t)
	go func() {
		for {
			b, err := r.sub.Next(ctx)
			if err != nil || len(b.Messages) > 0 {
				result <- err
				return
			}
		}
	}()
	return result
}

func testSubscriptionClosed(s session) {
	t, a := s.T, s.Adapter
	b := openBus(t, a)
	r := subscribe(t, b, "g", bus.Start{})
	result := blocked(t, r)
	r.close()
	if err := <-result; !errors.Is(err, bus.ErrClosed) {
		t.Errorf("a waiting Next returned %v, want ErrClosed", err)
	}
	if _, err := r.sub.Next(within(t)); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("Next returned %v, want ErrClosed", err)
	}
	r.close() // twice is harmless
}

func testClosed(s session) {
	t, a := s.T, s.Adapter
	b := openBus(t, a)
	publish(t, b, texts("k", "a")...)
	r := subscribe(t, b, "g", bus.Start{})
	r.expect("a")
	result := blocked(t, r)
	if err := b.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	if err := <-result; !errors.Is(err, bus.ErrClosed) {
		t.Errorf("a waiting Next returned %v, want ErrClosed", err)
	}
	if _, err := r.sub.Next(within(t)); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("Next returned %v, want ErrClosed", err)
	}
	if err := b.Publish(within(t), texts("k", "b")...); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("Publish returned %v, want ErrClosed", err)
	}
	if _, err := b.Subscribe(within(t), "h", everything, bus.Start{}); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("Subscribe returned %v, want ErrClosed", err)
	}
	r.close()
	if err := b.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}
