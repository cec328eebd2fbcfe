package journal

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"furrow/internal/bus"
)

// load publishes n records of 1.5 KB from so many goroutines.
func load(tb testing.TB, j *Journal, writers, n int) {
	tb.Helper()
	m := bus.Message{Stream: bus.Raw, Key: []byte("0f1e2d3c-4b5a-6978"), Value: make([]byte, 1500)}
	var left atomic.Int64
	left.Store(int64(n))
	var work sync.WaitGroup
	for range writers {
		work.Go(func() {
			for left.Add(-1) >= 0 {
				if err := j.Publish(context.Background(), m); err != nil {
					tb.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
}

// TestOneCoreBatches: on one core the flusher must not sync each record alone
// although it could run as soon as the first has come. It counts, since time
// depends on the machine.
func TestOneCoreBatches(t *testing.T) { // not parallel: it changes the whole process
	before := runtime.GOMAXPROCS(1)
	defer runtime.GOMAXPROCS(before)
	d := &faultyDisk{instant: true}
	cfg := small()
	cfg.SegmentBytes = 64 * mib
	j := mustOpenWith(t, t.TempDir(), cfg, hooks{disk: d})
	const records = 5120
	load(t, j, 512, records)
	d.mu.Lock()
	syncs := d.syncs
	d.mu.Unlock()
	if per := records / syncs; per < 100 {
		t.Errorf("%d records a sync with 512 writers, want at least 100", per)
	} else {
		t.Logf("%d records a sync", per)
	}
}

func BenchmarkPublish(b *testing.B) {
	for _, procs := range []int{0, 1} {
		for _, writers := range []int{1, 64, 512} {
			name := fmt.Sprintf("writers=%d", writers)
			if procs == 1 {
				name = fmt.Sprintf("onecore/writers=%d", writers)
			}
			b.Run(name, func(b *testing.B) {
				if procs > 0 {
					before := runtime.GOMAXPROCS(procs)
					defer runtime.GOMAXPROCS(before)
				}
				d := &faultyDisk{}
				cfg := Default()
				cfg.MaxBytes, cfg.Retention = gib, 0 // without a group the oldest segments go
				j := mustOpenWith(b, b.TempDir(), cfg, hooks{disk: d})
				b.ReportAllocs()
				b.ResetTimer()
				load(b, j, writers, b.N)
				b.StopTimer()
				d.mu.Lock()
				defer d.mu.Unlock()
				b.ReportMetric(float64(b.N)/float64(d.syncs), "records/sync")
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

func BenchmarkRead(b *testing.B) {
	cfg := Default()
	j := mustOpen(b, b.TempDir(), cfg)
	const records = 100_000
	load(b, j, 64, records)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		sub, err := j.Subscribe(context.Background(), "", []bus.Stream{bus.Raw}, bus.Start{Kind: bus.Earliest})
		if err != nil {
			b.Fatal(err)
		}
		for k := 0; k < records && n < b.N; {
			batch, err := sub.Next(context.Background())
			if err != nil {
				b.Fatal(err)
			}
			k += len(batch.Messages)
			n += len(batch.Messages)
		}
		_ = sub.Close()
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkWake measures from the moment that a commit is durable for its
// publisher to the moment that a waiting consumer has the message.
func BenchmarkWake(b *testing.B) {
	j := mustOpen(b, b.TempDir(), Default())
	sub, err := j.Subscribe(context.Background(), "", nil, bus.Start{Kind: bus.Latest})
	if err != nil {
		b.Fatal(err)
	}
	arrived := make(chan time.Time, 1)
	var work sync.WaitGroup
	work.Go(func() {
		for {
			batch, err := sub.Next(context.Background())
			if err != nil {
				return
			}
			if len(batch.Messages) > 0 {
				arrived <- time.Now()
			}
		}
	})
	m := bus.Message{Stream: bus.Raw, Value: make([]byte, 1500)}
	var late []time.Duration
	b.ReportAllocs()
	for b.Loop() {
		if err := j.Publish(context.Background(), m); err != nil {
			b.Fatal(err)
		}
		stored := time.Now()
		late = append(late, (<-arrived).Sub(stored))
	}
	b.StopTimer()
	_ = sub.Close()
	work.Wait()
	slices.Sort(late)
	b.ReportMetric(float64(late[len(late)/2].Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(late[len(late)*99/100].Nanoseconds()), "p99-ns")
}
