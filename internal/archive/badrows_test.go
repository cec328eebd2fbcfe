package archive

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/event"
)

// allFail makes an entry whose n events all failed.
func allFail(record []byte, n int, at time.Time) Entry {
	id := event.NewRecordID(record)
	e := Entry{Record: record, ID: id, Time: at}
	for i := range n {
		e.Bad = append(e.Bad, event.BadRow{
			ID: event.BadRowID(id, i), Record: id, Index: i, Time: at, Schema: "iglu:a/b/jsonschema/1-0-0",
			Failure: fmt.Appendf(nil, `{"messages":[{"n":%d}]}`, i), Payload: record,
		})
	}
	return e
}

func badRowsOf(tb testing.TB, a *Archive, from, to time.Time) []event.BadRow {
	tb.Helper()
	var rows []event.BadRow
	err := a.ReadBad(tb.Context(), from, to, func(b event.BadRow) error {
		rows = append(rows, b)
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return rows
}

// TestRecordWithManyFailuresIsWrittenOnce is the request of two megabytes whose
// events all fail: with the record in every row it would be 40 GB.
func TestRecordWithManyFailuresIsWrittenOnce(t *testing.T) {
	t.Parallel()
	const n = 20_000
	a := openAt(t, t.TempDir())
	e := allFail(noise(2<<20), n, day)
	write(t, a, "0", 1, e)
	if s := a.Status(); s.Bytes["bad"] > 5<<20 || s.Rows["bad"] != n {
		t.Errorf("%d rows take %d bytes", s.Rows["bad"], s.Bytes["bad"])
	}
	got := badRowsOf(t, a, time.Time{}, time.Time{})
	if len(got) != n {
		t.Fatalf("%d rows, want %d", len(got), n)
	}
	if !bytes.Equal(got[0].Payload, e.Record) {
		t.Fatal("the record came back as another")
	}
	shared := &got[0].Payload[0]
	for i, b := range got {
		if &b.Payload[0] != shared || len(b.Payload) != len(e.Record) {
			t.Fatalf("row %d does not share the record", i)
		}
		got[i].Payload = nil
		e.Bad[i].Payload = nil
	}
	if diff := cmp.Diff(e.Bad, got); diff != "" {
		t.Error(diff)
	}
}

// TestEveryBadRowFindsItsRecord mixes records, hours and files: more hours than
// may be open, records that come again, and an empty one.
func TestEveryBadRowFindsItsRecord(t *testing.T) {
	t.Parallel()
	a := openAt(t, t.TempDir(), func(c *Config) { c.OpenHours = 1 })
	var entries []Entry
	want := map[string]string{}
	for i := range 12 {
		record := fmt.Appendf(nil, "record %d", i%5)
		if i%5 == 4 {
			record = nil
		}
		e := allFail(record, 3, day.Add(time.Duration(i/2%3)*time.Hour))
		if i == 7 { // no run of rows has one time, for once
			e.Bad[1].Time = e.Bad[1].Time.Add(-time.Hour)
		}
		for _, b := range e.Bad {
			want[b.ID] = string(record)
		}
		entries = append(entries, e)
	}
	write(t, a, "0", 1, entries[:7]...)
	write(t, a, "0", 8, entries[7:]...)
	got := badRowsOf(t, a, time.Time{}, time.Time{})
	if len(got) != 36 {
		t.Errorf("%d rows", len(got))
	}
	for _, b := range got {
		if record, ok := want[b.ID]; !ok || record != string(b.Payload) || b.Record != event.NewRecordID(b.Payload) {
			t.Errorf("row %s of record %s came back with %q", b.ID, b.Record, b.Payload)
		}
	}
	// As another reader sees it: in a file, the record stands with the first row of
	// a run, and the id with all.
	filled := 0
	for _, row := range readAll(t, a, badSet) {
		if record, ok := row["record"].(string); ok {
			filled++
			if id := event.NewRecordID([]byte(record)).String(); row["record_id"] != id {
				t.Errorf("record %q has id %s", record, row["record_id"])
			}
		} else if row["event_index"] == int32(0) {
			t.Errorf("the first row of %s has no record", row["record_id"])
		}
	}
	if filled < 12 || filled > 14 {
		t.Errorf("%d rows of 12 records hold them", filled)
	}
}

// TestBoundsCutARunOfRows reads from a time after the row that holds the record.
func TestBoundsCutARunOfRows(t *testing.T) {
	t.Parallel()
	a := openAt(t, t.TempDir())
	e := allFail([]byte("a record"), 3, day)
	for i := range e.Bad {
		e.Bad[i].Time = day.Add(time.Duration(i) * time.Minute)
	}
	write(t, a, "0", 1, e)
	got := badRowsOf(t, a, day.Add(time.Minute), time.Time{})
	if len(got) != 2 || string(got[0].Payload) != "a record" || string(got[1].Payload) != "a record" {
		t.Errorf("%+v", got)
	}
}

// TestRawHoldsCollectorPayloadsOnly: what the collector says itself about a request
// that it refused is a bad row and no payload to replay.
func TestRawHoldsCollectorPayloadsOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := openAt(t, dir)
	door := allFail([]byte(`{"schema":"iglu:x"}`), 1, day)
	door.NoRaw = true
	write(t, a, "0", 1, door) // a range of nothing else
	write(t, a, "0", 2, entry(1, day), door)
	if rows := rawRows(t, a, time.Time{}, time.Time{}); len(rows) != 1 || string(rows[0].Record) != "record 1" {
		t.Errorf("%d rows in raw", len(rows))
	}
	if got := badRowsOf(t, a, time.Time{}, time.Time{}); len(got) != 2 || string(got[1].Payload) != string(door.Record) {
		t.Errorf("%+v", got)
	}
	sameStock(t, a, dir)
	r := begin(t, a, "0", 1)
	if last, ok := r.Intended(); !ok || last != position(1) {
		t.Errorf("the range of one such record was not declared: %q", last)
	}
	r.Abort()
}
