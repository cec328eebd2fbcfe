package recorder

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	runtimemetrics "runtime/metrics"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"furrow/internal/bus"
	"furrow/internal/enrich"
	"furrow/internal/event"
	"furrow/internal/snowplow"
	"furrow/internal/store"
)

// batchRecord is a POST with n copies of an event.
func batchRecord(n, events int, object string) []byte {
	return snowplow.AppendPayload(nil, &event.Payload{
		IPAddress: "203.0.113.9", Timestamp: noon.UnixMilli() + int64(n), Encoding: "UTF-8", Collector: "furrow-0.1.0",
		Path:        event.Some("/com.snowplowanalytics.snowplow/tp2"),
		ContentType: event.Some("application/json"),
		Body: event.Some(`{"schema":"iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4","data":[` +
			strings.Join(slices.Repeat([]string{object}, events), ",") + `]}`),
		NetworkUserID: event.Some("11111111-1111-4111-8111-111111111111"),
	})
}

const (
	minimal  = `{"e":"pv","p":"web","tv":"c"}`
	hopeless = `{"e":"pv","p":"web","tv":"c","co":"{}"}`
)

// watcher samples the live heap where results are made and stored.
type watcher struct {
	Enricher
	stored  atomic.Int64
	bad     atomic.Int64
	highest atomic.Uint64
}

func (w *watcher) look() {
	runtime.GC()
	// What was marked as live; MemStats would count what others allocated since.
	live := []runtimemetrics.Sample{{Name: "/gc/heap/live:bytes"}}
	runtimemetrics.Read(live)
	for {
		old, now := w.highest.Load(), live[0].Value.Uint64()
		if now <= old || w.highest.CompareAndSwap(old, now) {
			return
		}
	}
}

func (w *watcher) Do(ctx context.Context, record []byte, now time.Time) (enrich.Result, error) {
	r, err := w.Enricher.Do(ctx, record, now)
	w.look()
	return r, err
}

func (w *watcher) Insert(_ context.Context, rows []store.Row, bad []event.BadRow) (store.Inserted, error) {
	w.look()
	w.stored.Add(int64(len(rows)))
	w.bad.Add(int64(len(bad)))
	return store.Inserted{Events: len(rows), Bad: len(bad)}, nil
}

// TestLargeResultsDoNotPileUp sends twenty requests of 130 KB that come to 22 MB
// each, 440 MB together. It runs alone, since it looks at the whole heap.
func TestLargeResultsDoNotPileUp(t *testing.T) { //nolint:paralleltest // see above
	const records, events, each = 20, 5000, 5000 * eventBytes
	w := newWorld(t, 1)
	w.cfg.BatchBytes, w.cfg.MemoBytes = 1<<20, 4<<20
	w.archCfg.MemoryBytes = 8 << 20
	w.openAgain()
	watch := &watcher{Enricher: w.enricher}
	w.opts = func(o *Options) { o.Store, o.Enricher = watch, watch }
	for i := range records {
		w.send(bus.Message{Stream: bus.Raw, Value: batchRecord(i, events, minimal)})
	}
	watch.look()
	before := watch.highest.Load()
	w.start()
	w.settled(records)
	w.mustStop()
	if n := watch.stored.Load(); n != records*events {
		t.Errorf("%d events, want %d", n, records*events)
	}
	// As DESIGN.md states, the archive's own memory, and what the test itself holds;
	// what is allocated while the collector marks counts as live too.
	limit := uint64(2*w.cfg.BatchBytes+w.cfg.MemoBytes+2*each+w.archCfg.MemoryBytes) + 48<<20
	if peak := watch.highest.Load() - before; peak > limit {
		t.Errorf("%d MB were held, want at most %d", peak>>20, limit>>20)
	} else {
		t.Logf("%d MB were held of %d allowed", peak>>20, limit>>20)
	}
}

// TestRecordWithManyFailures goes through both sinks: the database and the archive
// grow by about the record and a small row for each event.
func TestRecordWithManyFailures(t *testing.T) {
	t.Parallel()
	const n = 20_000
	w := newWorld(t, 1)
	record := batchRecord(0, n, hopeless)
	w.start()
	w.send(bus.Message{Stream: bus.Raw, Value: record})
	w.settled(1)
	w.mustStop()
	st := w.rows()
	if limit := int64(len(record)) + n*1200; st.Bad != n || st.Bytes > 2*limit { // the log besides the file
		t.Errorf("%+v", st)
	}
	if s := w.archive.Status(); s.Bytes["bad"] > int64(len(record))+n*200 || s.Rows["bad"] != n {
		t.Errorf("%+v", s)
	}
	rows, err := w.store.Bad(t.Context(), n)
	if err != nil || len(rows) != n {
		t.Fatalf("%d bad rows, %v", len(rows), err)
	}
	want := map[string]bool{}
	for _, b := range rows {
		want[b.ID] = true
		if !bytes.Equal(b.Payload, record) {
			t.Fatalf("row %d has another record", b.Index)
		}
	}
	err = w.archive.ReadBad(t.Context(), time.Time{}, time.Time{}, func(b event.BadRow) error {
		if !want[b.ID] || !bytes.Equal(b.Payload, record) {
			return fmt.Errorf("row %d is not the database's, or has another record", b.Index)
		}
		delete(want, b.ID)
		return nil
	})
	if err != nil || len(want) != 0 {
		t.Errorf("%d bad rows are not in the archive, %v", len(want), err)
	}
}

func TestWeights(t *testing.T) {
	t.Parallel()
	real, err := enrich.New(enrich.Options{Artifact: "furrow", Version: "0.1.0"})
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string][]byte{
		"GET": record(1), "events": batchRecord(1, 3000, minimal), "failures": batchRecord(1, 3000, hopeless),
		"no payload": []byte("x"),
	} {
		r := real.Parse(value, noon)
		weight, most := resultBytes(value, &r), mostBytes(value)
		if weight > most {
			t.Errorf("%s: %d bytes, foretold were at most %d", name, weight, most)
		}
		// The rows of a record share it: its size counts a few times, not for each.
		if bound := int64(copies*len(value) + 5000*(len(r.Events)+1) + 1200*len(r.Bad)); weight > bound {
			t.Errorf("%s: %d bytes, want at most %d", name, weight, bound)
		}
	}
}

func TestPieces(t *testing.T) {
	t.Parallel()
	b := bus.Batch{Partition: "0", First: "00", Last: "99"}
	for i := range 30 {
		value := record(i)
		if i%10 == 5 {
			value = batchRecord(i, 1000, minimal)
		}
		b.Messages = append(b.Messages, bus.Message{Position: bus.Position(fmt.Sprintf("%02d", i)), Value: value})
	}
	const limit = 1 << 20
	var got []bus.Message
	last, n := bus.Position(""), 0
	for p := range pieces(b, limit) {
		weight := int64(0)
		for _, m := range p.Messages {
			weight += mostBytes(m.Value)
		}
		if len(p.Messages) == 0 || len(p.Messages) > 1 && weight > limit {
			t.Errorf("a piece of %d messages and %d bytes", len(p.Messages), weight)
		}
		if p.Last <= last || p.First > p.Messages[0].Position || p.Partition != "0" {
			t.Errorf("a piece from %s to %s after %s", p.First, p.Last, last)
		}
		last, n = p.Last, n+1
		got = append(got, p.Messages...)
	}
	if last != b.Last || len(got) != len(b.Messages) || n < 4 || n > 10 {
		t.Errorf("%d pieces with %d messages up to %s", n, len(got), last)
	}
	n = 0
	for p := range pieces(bus.Batch{Partition: "0", First: "1", Last: "9"}, limit) {
		if n++; p.Last != "9" || len(p.Messages) != 0 {
			t.Errorf("%+v", p)
		}
	}
	if n != 1 {
		t.Errorf("a stretch without records is %d pieces", n)
	}
}

func TestMemoDoesNotMakeRoomForWhatItCannotHold(t *testing.T) {
	t.Parallel()
	m := newMemo(10_000)
	small, _ := m.claim(storeSide, place{"0", "1"}, 100)
	m.fill(small, enrich.Result{}, 5000, true)
	large, _ := m.claim(storeSide, place{"0", "2"}, 100)
	m.fill(large, enrich.Result{}, 20_000, true)
	if m.size != 5000 || len(m.entries) != 1 {
		t.Errorf("%d bytes in %d entries", m.size, len(m.entries))
	}
	if e, fill := m.claim(archiveSide, place{"0", "1"}, 100); fill || e != small {
		t.Error("the small result was pushed out")
	}
}
