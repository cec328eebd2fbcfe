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

// Bus is an open adapter.
type Bus interface {
	bus.Publisher
	bus.Subscriber
	Close() error
}

// Adapter tells the suite how to handle one adapter with a store of its own.
type Adapter struct {
	// Open opens the bus. After Close it is called again and must find what was
	// stored, and the positions of the groups.
	Open func(t *testing.T) Bus

	// Small opens an empty bus whose limit binds before 64 MB of messages are
	// stored. Nil when the adapter has no limit of its own.
	Small func(t *testing.T) Bus
	// MakeRoom frees space in the bus that Small opened. Nil when it is enough
	// that the only group acknowledges everything.
	MakeRoom func(t *testing.T, b Bus)

	// Partitions is how many the bus has; zero means one.
	Partitions int

	// Revoke takes a partition from the group's subscription as another process
	// would, and returns a function that gives it back. Nil when the adapter has
	// a single owner by nature.
	Revoke func(t *testing.T, b Bus, group, partition string) (giveBack func())
}

// Factory makes an adapter with an empty store. It cleans up through t.
type Factory func(t *testing.T) Adapter

// Run runs the whole suite.
func Run(t *testing.T, open Factory) {
	t.Helper()
	cases := []struct {
		name string
		test func(s session)
	}{
		{"fields survive", testFields},
		{"assigned comes first", testAssigned},
		{"order per key", testOrder},
		{"positions increase", testPositions},
		{"acknowledgement is cumulative", testCumulative},
		{"head acknowledges a prefix", testHead},
		{"redelivery after closing the subscription", testRedelivery},
		{"redelivery after reopening the bus", testReopen},
		{"at least once under random errors", testAtLeastOnce},
		{"one subscription per group", testOneSubscription},
		{"groups are independent", testGroups},
		{"an empty group remembers nothing", testEphemeral},
		{"streams are filtered", testStreams},
		{"a filtered group gets past the others", testFilteredProgress},
		{"start earliest and latest", testStartEnds},
		{"start at a time", testStartTime},
		{"start after positions", testStartPositions},
		{"an explicit start rewinds at the first acknowledgement", testRewind},
		{"next ends with its context", testNextContext},
		{"closed subscription", testSubscriptionClosed},
		{"closed bus", testClosed},
		{"full", testFull},
		{"partitions", testPartitions},
		{"revocation", testRevocation},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.test(session{t, open(t)}) })
	}
}

// session is what one case works with.
type session struct {
	*testing.T
	Adapter
}

// patience is how long one expected thing may take, network adapters included.
const patience = 30 * time.Second

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// openBus opens the bus and closes it when the test ends.
func openBus(t *testing.T, a Adapter) Bus {
	t.Helper()
	b := a.Open(t)
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func publish(t *testing.T, b Bus, msgs ...bus.Message) {
	t.Helper()
	if err := b.Publish(within(t), msgs...); err != nil {
		t.Fatalf("Publish: %v", err)
	}
}

// texts makes messages of one key on the raw stream, one per value.
func texts(key string, values ...string) []bus.Message {
	msgs := make([]bus.Message, len(values))
	for i, v := range values {
		msgs[i] = bus.Message{Stream: bus.Raw, Key: []byte(key), Value: []byte(v)}
	}
	return msgs
}

func numbered(key string, from, to int) []bus.Message {
	var values []string
	for i := from; i < to; i++ {
		values = append(values, fmt.Sprintf("%s-%04d", key, i))
	}
	return texts(key, values...)
}

var everything = []bus.Stream{bus.Raw, bus.Bad, bus.Events}

// reader is a subscription with what the suite keeps about it.
type reader struct {
	t   *testing.T
	sub bus.Subscription
	// last is the newest batch of each partition.
	last map[string]bus.Batch
}

func subscribe(t *testing.T, b Bus, group string, from bus.Start, streams ...bus.Stream) *reader {
	t.Helper()
	if len(streams) == 0 {
		streams = everything
	}
	sub, err := b.Subscribe(within(t), group, streams, from)
	if err != nil {
		t.Fatalf("Subscribe(%q): %v", group, err)
	}
	t.Cleanup(func() { _ = sub.Close() })
	return &reader{t: t, sub: sub, last: map[string]bus.Batch{}}
}

// batch returns the next delivery, skipping notices.
func (r *reader) batch() bus.Batch {
	r.t.Helper()
	ctx := within(r.t)
	for {
		b, err := r.sub.Next(ctx)
		if err != nil {
			r.t.Fatalf("Next: %v", err)
		}
		if b.Notice == bus.Delivery {
			r.last[b.Partition] = b
			return b
		}
	}
}

// read returns n messages. More than n is an error, since nothing else was
// published.
func (r *reader) read(n int) []bus.Message {
	r.t.Helper()
	var got []bus.Message
	for len(got) < n {
		got = append(got, r.batch().Messages...)
	}
	if len(got) > n {
		r.t.Fatalf("read %d messages, want %d; the last is %q", len(got), n, got[len(got)-1].Value)
	}
	return got
}

// expect reads exactly these values, in this order when there is one key.
func (r *reader) expect(want ...string) {
	r.t.Helper()
	if got := values(r.read(len(want))); !slices.Equal(got, want) {
		r.t.Fatalf("read %q, want %q", got, want)
	}
}

// idle checks that nothing is delivered for a moment.
func (r *reader) idle() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 50*time.Millisecond)
	defer cancel()
	for {
		b, err := r.sub.Next(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			return
		}
		if err != nil {
			r.t.Fatalf("Next: %v", err)
		}
		if len(b.Messages) > 0 {
			r.t.Fatalf("unexpected message %q", b.Messages[0].Value)
		}
	}
}

// ack acknowledges the newest batch of every partition.
func (r *reader) ack() {
	r.t.Helper()
	for _, b := range r.last {
		if err := r.sub.Ack(within(r.t), b); err != nil {
			r.t.Fatalf("Ack: %v", err)
		}
	}
}

func (r *reader) close() {
	r.t.Helper()
	if err := r.sub.Close(); err != nil {
		r.t.Fatalf("Subscription.Close: %v", err)
	}
}

func values(msgs []bus.Message) []string {
	out := make([]string, len(msgs))
	for i, m := range msgs {
		out[i] = string(m.Value)
	}
	return out
}
