package history

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"furrow/internal/bus"
	"furrow/internal/event"
)

// archivedPast has one event in each of n records, over six hours.
func archivedPast(b *testing.B, n int) *past {
	b.Helper()
	p := newPast(b)
	records := make([]bus.Message, n)
	for i := range records {
		at := start.Add(time.Duration(i) * 6 * time.Hour / time.Duration(n))
		records[i] = bus.Message{Stream: bus.Raw, Key: fmt.Appendf(nil, "user-%d", i%500), Value: postOf(at, visitEvent(i, fmt.Sprintf("user-%d", i%500))), Time: at}
	}
	p.live(records...)
	return p
}

const benchEvents = 20_000

func BenchmarkReplayToDatabase(b *testing.B) {
	p := archivedPast(b, benchEvents)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		p.db = p.database(fmt.Sprintf("%d.db", n))
		if r := p.replay(ReplaySpec{Target: ToDatabase}); r.New != benchEvents {
			b.Fatalf("%+v", r)
		}
		n++
	}
	b.ReportMetric(float64(n*benchEvents)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkReplayToBus(b *testing.B) {
	p := archivedPast(b, benchEvents)
	p.change = func(o *Options) { o.Bus = &gatedBus{} }
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		p.replay(ReplaySpec{Target: ToBus})
		n++
	}
	b.ReportMetric(float64(n*benchEvents)/b.Elapsed().Seconds(), "records/s")
}

func BenchmarkEvents(b *testing.B) {
	p := archivedPast(b, benchEvents)
	h := p.history()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		err := h.Events(b.Context(), time.Time{}, time.Time{}, nil, func(events []*event.Event) error {
			n += len(events)
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkImport(b *testing.B) {
	text := archivedPast(b, benchEvents).exported()
	for _, c := range []struct {
		name string
		spec ImportSpec
	}{{"database", ImportSpec{NoArchive: true}}, {"archive", ImportSpec{NoDatabase: true}}, {"both", ImportSpec{}}} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			n := 0
			p := newPast(b)
			for b.Loop() {
				p.db = p.database(fmt.Sprintf("%d.db", n))
				spec := c.spec
				spec.Name, spec.Size = fmt.Sprint(n), int64(len(text))
				r, err := p.history().Import(b.Context(), spec, sourceOf(text), nil)
				if err != nil || r.Events != int64(strings.Count(text, "\n")) {
					b.Fatalf("%+v, %v", r, err)
				}
				n++
			}
			b.ReportMetric(float64(n*benchEvents)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
