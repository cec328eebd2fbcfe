package history

import (
	"context"
	"fmt"
	"testing"
	"time"

	"furrow/internal/archive"
	"furrow/internal/bus"
	"furrow/internal/event"
	"furrow/internal/store"
)

// fill stores n events of n/100 people, 25 a day's minute, in requests of 4, of
// which one in fifty fails.
func (w *world) fill(n int) {
	w.tb.Helper()
	ctx := context.Background()
	for first := 0; first < n; {
		span, err := w.archive.Begin(ctx, "raw", "0", fillPosition(first))
		if err != nil {
			w.tb.Fatal(err)
		}
		last := min(first+20_000, n)
		var rows []store.Row
		var bad []event.BadRow
		for ; first < last; first += 4 {
			record := post(morning.Add(time.Duration(first)*40*time.Millisecond), "", fillVisit(first, n), fillVisit(first+1, n), fillVisit(first+2, n), fillVisit(first+3, n))
			result, err := w.enricher.Do(ctx, record, noonish)
			if err != nil {
				w.tb.Fatal(err)
			}
			for _, e := range result.Events {
				rows = append(rows, store.Row{Event: e, Record: record})
			}
			bad = append(bad, result.Bad...)
			entry := archive.Entry{Record: record, ID: result.RecordID, Time: result.Payload.Time(), Events: result.Events, Bad: result.Bad}
			if err := span.Add(entry); err != nil {
				w.tb.Fatal(err)
			}
		}
		if _, err := w.db.Insert(ctx, rows, bad); err != nil {
			w.tb.Fatal(err)
		}
		if err := span.Commit(ctx, fillPosition(last-1)); err != nil {
			w.tb.Fatal(err)
		}
	}
}

func fillPosition(n int) bus.Position { return bus.Position(fmt.Sprintf("%020d", n)) }

func fillVisit(n, all int) visit {
	v := page("eid", eid(n), "uid", fmt.Sprintf("user-%d", n%max(all/100, 1)), "duid", fmt.Sprintf("device-%d", n%max(all/100, 1)),
		"url", fmt.Sprintf("https://shop.example.com/products/%d?ref=home", n%5000), "page", fmt.Sprintf("Product %d", n%5000))
	if n%50 == 0 {
		v["tna"] = longText(n)
	}
	return v
}

// One person among 100,000 events.
func BenchmarkForget(b *testing.B) {
	w := newForgetWorld(b)
	w.fill(100_000)
	w.clock.Store(1 << 20)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		report := w.forget(fmt.Sprintf("user-%d", n))
		if report.Database.Events == 0 {
			b.Fatalf("%+v", report)
		}
	}
}

// As many bad rows as 100,000 events have, grouped and tried again in a preview.
func BenchmarkBadPreview(b *testing.B) {
	w := newForgetWorld(b)
	w.fill(100_000)
	b.ReportAllocs()
	for b.Loop() {
		report, err := w.history.BadRetry(b.Context(), BadRetrySpec{Preview: true}, nil)
		if err != nil || report.Rows != 2000 || report.Fail != 2000 {
			b.Fatalf("%+v, %v", report, err)
		}
	}
}
