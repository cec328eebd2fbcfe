package recorder

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"furrow/internal/archive"
	"furrow/internal/bus"
	"furrow/internal/bus/mem"
	"furrow/internal/enrich"
	"furrow/internal/store"
)

// BenchmarkRecorder is everything behind the bus: enrichment, the database and the
// archive, both durable, from a bus that has the records at hand.
func BenchmarkRecorder(b *testing.B) {
	for _, sinks := range []string{"store", "archive", "both"} {
		b.Run(sinks, func(b *testing.B) { benchRecorder(b, sinks) })
	}
}

func benchRecorder(b *testing.B, sinks string) {
	b.Helper()
	const records = 20_000
	log := slog.New(slog.DiscardHandler)
	enricher, err := enrich.New(enrich.Options{Artifact: "furrow", Version: "0.1.0"})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		queue := mem.New(mem.Options{})
		for i := range records {
			m := bus.Message{Stream: bus.Raw, Key: fmt.Appendf(nil, "user %d", i/8), Value: record(i)}
			if err := queue.Publish(b.Context(), m); err != nil {
				b.Fatal(err)
			}
		}
		opts := Options{Bus: queue, Enricher: enricher, Log: log}
		if sinks != "archive" {
			s, err := store.Open(filepath.Join(dir, "furrow.db"), store.Default(), nil, log)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			opts.Store = s
		}
		if sinks != "store" {
			cfg := archive.Default()
			cfg.RollAge = time.Second
			if opts.Archive, err = archive.Open(filepath.Join(dir, "archive"), cfg, nil, log); err != nil {
				b.Fatal(err)
			}
		}
		r, err := New(Default(), opts)
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		ctx, cancel := context.WithCancel(b.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		waitFor(b, r, records)
		cancel()
		if err := <-ended; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(records*b.N)/b.Elapsed().Seconds(), "records/s")
}

func waitFor(b *testing.B, r *Recorder, records int64) {
	b.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		level := true
		for _, s := range r.Status() {
			level = level && s.Records >= records
		}
		if level {
			return
		}
		<-tick.C
	}
}
