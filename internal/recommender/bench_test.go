package recommender

import (
	"context"
	"fmt"
	"testing"
	"time"

	"furrow/internal/bus"
	"furrow/internal/event"
)

// BenchmarkFreshness publishes a click of one visitor and asks for another
// visitor's list, which must know the click.
func BenchmarkFreshness(b *testing.B) {
	r := start(b, newDouble(), b.TempDir(), nil)
	for i := range 5000 {
		shop(r.bus, fmt.Sprintf("s%d p%d p%d p%d", i, i%997, i*7%997, i*13%997))
	}
	ask(b, r, "/v1/recommend?session_id=s1")
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		r.bus.publish(doc{Session: fmt.Sprintf("n%d", i), Path: fmt.Sprintf("/product/p%d", i%997), At: day0 + int64(i)}.record())
		if a := ask(b, r, "/v1/recommend?session_id=s1"); a.Stale {
			b.Fatal("stale")
		}
	}
}

// BenchmarkLearn measures the whole way of an event but for parsing: rules,
// doubles, sessions, index, popularity.
func BenchmarkLearn(b *testing.B) {
	s, err := newState(Default())
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		e := parsed(doc{Session: fmt.Sprintf("s%d", i/5), Domain: fmt.Sprintf("d%d", i/20), Path: fmt.Sprintf("/product/p%d", i*7919%50_000), At: day0 + int64(i)})
		b.StopTimer()
		b.StartTimer()
		s.learn(s.inspect(e, now))
	}
}

// BenchmarkRequest measures an answer with its HTTP and JSON.
func BenchmarkRequest(b *testing.B) {
	r, err := New(Default(), Options{Bus: newDouble(), Dir: b.TempDir(), Parse: parseDoc})
	if err != nil {
		b.Fatal(err)
	}
	l := &live{Recommender: r}
	for i := range 20_000 {
		r.apply(bus.Batch{Partition: partition, Messages: []bus.Message{
			{Value: doc{Session: fmt.Sprintf("s%d", i/5), Path: fmt.Sprintf("/product/p%d", i*7919%2000), At: day0 + int64(i)}.record()},
		}})
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		ask(b, l, fmt.Sprintf("/v1/recommend?session_id=s%d", i%4000))
	}
}

// BenchmarkRebuild learns half a million events from a history in memory: what
// reading and decoding history costs comes on top.
func BenchmarkRebuild(b *testing.B) {
	const n = 500_000
	const agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
	all := make([]*event.Event, n)
	for i := range all {
		all[i] = parsed(doc{
			Session: fmt.Sprintf("s%d", i/5), Domain: fmt.Sprintf("d%d", i/20), Agent: agent,
			Path: fmt.Sprintf("/product/p%d", i*7919%50_000), At: day0 + int64(i)*100,
		})
	}
	history := History{Events: func(_ context.Context, since time.Time, fn func([]*event.Event) error) error {
		for from := 0; from < n; from += 1000 {
			if all[from+999].Time(event.CollectorTstamp).Before(since) {
				continue
			}
			if err := fn(all[from : from+1000]); err != nil {
				return err
			}
		}
		return nil
	}}
	r, err := New(Default(), Options{Dir: b.TempDir(), Parse: parseDoc})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	read := int64(0)
	history.Progress = func(done int64) { read = done }
	for b.Loop() {
		if err := r.Rebuild(b.Context(), history); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(read)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
