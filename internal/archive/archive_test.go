package archive

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/bus"
	"furrow/internal/event"
)

var day = time.Date(2026, 11, 22, 9, 30, 0, 0, time.UTC)

// position returns positions that compare as strings, as the bus promises.
func position(n int) bus.Position { return bus.Position(fmt.Sprintf("%012d", n)) }

// entry makes a record with one event.
func entry(n int, at time.Time) Entry {
	record := fmt.Appendf(nil, "record %d", n)
	id := event.NewRecordID(record)
	return Entry{
		Record: record, ID: id, Key: fmt.Appendf(nil, "user %d", n%7), Time: at,
		Events: []*event.Event{pageView(event.DeriveEventID(id, 0), at)},
	}
}

func pageView(id string, at time.Time) *event.Event {
	e := &event.Event{}
	e.SetText(event.EventID, id)
	e.SetTime(event.CollectorTstamp, at)
	e.SetText(event.VCollector, "furrow")
	e.SetText(event.VEtl, "furrow")
	e.SetText(event.EventType, "page_view")
	return e
}

// stockOf is the status of an archive that took stock.
func stockOf(tb testing.TB, a *Archive) Status {
	tb.Helper()
	if err := a.ensureStock(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return a.Status()
}

func begin(tb testing.TB, a *Archive, partition string, first int) *Range {
	tb.Helper()
	r, err := a.Begin(tb.Context(), "raw", partition, position(first))
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// write archives entries as one range that starts at a position.
func write(tb testing.TB, a *Archive, partition string, first int, entries ...Entry) {
	tb.Helper()
	r := begin(tb, a, partition, first)
	for _, e := range entries {
		if err := r.Add(e); err != nil {
			tb.Fatal(err)
		}
	}
	if err := r.Commit(tb.Context(), position(first+len(entries)-1)); err != nil {
		tb.Fatal(err)
	}
}

func eventIDs(tb testing.TB, a *Archive, from, to time.Time) []string {
	tb.Helper()
	var ids []string
	err := a.ReadEvents(context.Background(), from, to, func(id string, _ time.Time) error {
		ids = append(ids, id)
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	slices.Sort(ids)
	return ids
}

func rawRows(tb testing.TB, a *Archive, from, to time.Time) []RawRow {
	tb.Helper()
	var rows []RawRow
	err := a.ReadRaw(context.Background(), from, to, func(r RawRow) error {
		rows = append(rows, r)
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return rows
}

func TestRecordsComeBack(t *testing.T) {
	t.Parallel()
	for name, where := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := openAt(t, where(t))
			// Records a visitor could send: empty, with NUL and broken UTF-8, and huge.
			bodies := []string{"", "a\x00b\xff\xfe", strings.Repeat("x\x00y", 1<<20), "ünï"}
			var want []RawRow
			r := begin(t, a, "0", 1)
			for i, body := range bodies {
				e := entry(i, day)
				e.Record, e.ID = []byte(body), event.NewRecordID([]byte(body))
				e.Key = []byte("k\x00")
				if i == 0 {
					e.Key = nil
				}
				e.Bad = []event.BadRow{{ID: event.BadRowID(e.ID, event.WholeRecord), Record: e.ID, Index: event.WholeRecord, Time: day, Schema: "iglu:x", Failure: []byte(`{}`), Payload: e.Record}}
				if err := r.Add(e); err != nil {
					t.Fatal(err)
				}
				want = append(want, RawRow{ID: e.ID.String(), Time: day, Key: e.Key, Record: e.Record})
			}
			if err := r.Commit(t.Context(), position(9)); err != nil {
				t.Fatal(err)
			}
			got := rawRows(t, a, time.Time{}, time.Time{})
			text := func(r RawRow) string { return fmt.Sprintf("%s %s %q %q", r.ID, r.Time, r.Key, r.Record) }
			if len(got) != len(want) {
				t.Fatalf("%d rows, want %d", len(got), len(want))
			}
			for i := range want {
				if text(got[i]) != text(want[i]) {
					t.Errorf("row %d differs", i)
				}
			}
			n := 0
			err := a.ReadBad(t.Context(), time.Time{}, time.Time{}, func(b event.BadRow) error {
				if string(b.Payload) != bodies[n] || b.Index != event.WholeRecord || string(b.Failure) != "{}" || b.ID != event.BadRowID(b.Record, -1) {
					t.Errorf("bad row %d came back as %.200v", n, b)
				}
				n++
				return nil
			})
			if err != nil || n != len(bodies) {
				t.Errorf("%d bad rows, error %v", n, err)
			}
		})
	}
}

func TestHourBoundaries(t *testing.T) {
	t.Parallel()
	for name, where := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := where(t)
			a := openAt(t, dir)
			midnight := time.Date(2026, 12, 31, 23, 59, 59, 999e6, time.UTC)
			odd := []time.Time{time.UnixMilli(math.MinInt64), time.UnixMilli(math.MaxInt64), {}}
			times := append([]time.Time{midnight, midnight.Add(time.Millisecond), midnight.Add(time.Hour)}, odd...)
			var entries []Entry
			for i, at := range times {
				entries = append(entries, entry(i, at))
			}
			write(t, a, "0", 1, entries...)
			if n := len(eventIDs(t, a, time.Time{}, time.Time{})); n != len(times) {
				t.Errorf("%d events, want %d", n, len(times))
			}
			for i := range 3 {
				if got := eventIDs(t, a, times[i], times[i].Add(time.Millisecond)); !cmp.Equal(got, []string{entries[i].Events[0].ID()}) {
					t.Errorf("at %s: %v", times[i], got)
				}
			}
			for _, h := range []string{"2026-12-31/hour=23", "2027-01-01/hour=00", "1970-01-01/hour=00", "9999-12-31/hour=23"} {
				seen := 0
				if err := a.place.list(t.Context(), "events/date="+h+"/", func(string, int64) error { seen++; return nil }); err != nil || seen == 0 {
					t.Errorf("no file in %s (%v)", h, err)
				}
			}
			// The same folder opened again has the same stock.
			before, after := stockOf(t, a), stockOf(t, openAt(t, dir))
			before.Rows, before.LastCommit, before.BytesPerEvent, before.Compaction = after.Rows, after.LastCommit, after.BytesPerEvent, after.Compaction
			if d := cmp.Diff(before, after); d != "" {
				t.Errorf("stock differs after reopening:\n%s", d)
			}
		})
	}
}

func TestEventIsInRangeOnce(t *testing.T) {
	t.Parallel()
	for name, where := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := openAt(t, where(t))
			one, two := entry(1, day), entry(2, day.Add(time.Hour))
			two.Events = append(two.Events, one.Events[0], pageView("no uuid", day), pageView("no uuid", day), pageView("NO UUID", day))
			write(t, a, "0", 1, one, two, one)
			if n := len(eventIDs(t, a, time.Time{}, time.Time{})); n != 4 {
				t.Errorf("%d events, want 4", n)
			}
			if n := len(rawRows(t, a, time.Time{}, time.Time{})); n != 3 {
				t.Errorf("%d records, want 3", n)
			}
			if s := a.Status(); s.DoublesDropped != 3 || s.Rows["events"] != 4 || s.BytesPerEvent == 0 {
				t.Errorf("status %+v", s)
			}
		})
	}
}
