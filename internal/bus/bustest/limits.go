package bustest

import (
	"errors"
	"fmt"
	"time"

	"furrow/internal/bus"
)

func testFull(s session) {
	t, a := s.T, s.Adapter
	if a.Small == nil {
		t.Log("the adapter has no limit of its own")
		return
	}
	b := a.Small(t)
	t.Cleanup(func() { _ = b.Close() })
	r := subscribe(t, b, "g", bus.Start{})
	stored := 0
	value := make([]byte, 10_000)
	var err error
	for stored < 6400 {
		err = b.Publish(within(t), bus.Message{Stream: bus.Raw, Key: []byte("k"), Value: fmt.Appendf(value[:0:0], "%09d%s", stored, value)})
		if err != nil {
			break
		}
		stored++
	}
	if !errors.Is(err, bus.ErrFull) || stored == 0 {
		t.Fatalf("after %d messages Publish returned %v, want ErrFull", stored, err)
	}
	// What was confirmed is still there, and nothing else.
	for i, m := range r.read(stored) {
		if want := fmt.Sprintf("%09d", i); string(m.Value[:9]) != want {
			t.Fatalf("message %d is %q", i, m.Value[:9])
		}
	}
	r.ack()
	if a.MakeRoom != nil {
		a.MakeRoom(t, b)
	}
	again := texts("k", "again")
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	ctx := within(t)
	for {
		if err = b.Publish(ctx, again...); err == nil {
			break
		}
		if !errors.Is(err, bus.ErrFull) || ctx.Err() != nil {
			t.Fatalf("after room was made, Publish returned %v", err)
		}
		<-tick.C
	}
	r.expect("again")
}

func testPartitions(s session) {
	t, a := s.T, s.Adapter
	if a.Partitions < 2 {
		t.Log("the adapter has a single partition")
		return
	}
	b := openBus(t, a)
	const keys, each = 40, 5
	for i := range each {
		for k := range keys {
			publish(t, b, numbered(fmt.Sprint("key", k), i, i+1)...)
		}
	}
	r := subscribe(t, b, "g", bus.Start{})
	home, seen := map[string]string{}, map[string]int{}
	for n := 0; n < keys*each; {
		got := r.batch()
		for _, m := range got.Messages {
			key := string(m.Key)
			if p, ok := home[key]; ok && p != got.Partition {
				t.Fatalf("key %q is in partitions %q and %q", key, p, got.Partition)
			}
			home[key] = got.Partition
			seen[got.Partition]++
			n++
		}
	}
	if len(seen) != a.Partitions {
		t.Errorf("%d keys went to %d partitions of %d", keys, len(seen), a.Partitions)
	}
	// Only one partition is acknowledged: the others come again.
	acked := home["key0"]
	if err := r.sub.Ack(within(t), r.last[acked]); err != nil {
		t.Fatal(err)
	}
	r.close()
	for _, m := range subscribe(t, b, "g", bus.Start{}).read(keys*each - seen[acked]) {
		if home[string(m.Key)] == acked {
			t.Fatalf("%q came again after it was acknowledged", m.Value)
		}
	}
}

func testRevocation(s session) {
	t, a := s.T, s.Adapter
	if a.Revoke == nil {
		t.Log("the adapter never takes a partition away")
		return
	}
	b := openBus(t, a)
	publish(t, b, texts("k", "a", "b")...)
	r := subscribe(t, b, "g", bus.Start{})
	got := r.batch()
	for len(got.Messages) == 0 {
		got = r.batch()
	}
	giveBack := a.Revoke(t, b, "g", got.Partition)
	r.notice(bus.Revoked, got.Partition)
	if err := r.sub.Ack(within(t), got); !errors.Is(err, bus.ErrLost) {
		t.Fatalf("Ack of a lost partition returned %v, want ErrLost", err)
	}
	giveBack()
	r.notice(bus.Assigned, got.Partition)
	r.expect("a", "b")
	r.ack()
}

// notice waits for one notice about one partition.
func (r *reader) notice(kind bus.Notice, partition string) {
	r.t.Helper()
	ctx := within(r.t)
	for {
		b, err := r.sub.Next(ctx)
		if err != nil {
			r.t.Fatalf("waiting for notice %d about %q: %v", kind, partition, err)
		}
		if b.Notice == kind && b.Partition == partition {
			return
		}
	}
}
