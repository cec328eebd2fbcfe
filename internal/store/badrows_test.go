package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/event"
)

// noise is a record that does not compress and holds what a stranger may send.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	rnd := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = rnd.Read(b) // never fails
	return b
}

// badRows makes n bad rows of one record.
func badRows(record []byte, n int, at time.Time) []event.BadRow {
	id := event.NewRecordID(record)
	rows := make([]event.BadRow, n)
	for i := range rows {
		rows[i] = event.BadRow{
			ID: event.BadRowID(id, i), Record: id, Index: i, Time: at, Payload: record,
			Schema:  "iglu:com.snowplowanalytics.snowplow.badrows/schema_violations/jsonschema/2-0-1",
			Failure: fmt.Appendf(nil, `{"timestamp":"2026-11-22T12:00:00Z","messages":[{"json":{"n":%d},"error":"INVALID_DATA_PAYLOAD"}]}`, i),
		}
	}
	return rows
}

func count(tb testing.TB, s *SQLite, query string) int64 {
	tb.Helper()
	var n int64
	if err := s.pool.QueryRowContext(tb.Context(), query).Scan(&n); err != nil {
		tb.Fatalf("%s: %v", query, err)
	}
	return n
}

// TestRecordWithManyFailuresIsKeptOnce is the request of two megabytes whose
// events all fail: the database must not hold it twenty thousand times.
func TestRecordWithManyFailuresIsKeptOnce(t *testing.T) {
	t.Parallel()
	s := open(t, Default())
	const n = 20_000
	record := noise(1, 2<<20)
	bad := badRows(record, n, noon)
	for from := 0; from < n; from += 1000 { // as a consumer's transactions may cut it
		insert(t, s, nil, bad[from:from+1000]...)
	}
	if done := insert(t, s, nil, bad...); done.Bad != 0 || done.BadDoubles != n {
		t.Errorf("a replay: %+v", done)
	}
	used, err := s.usedBytes()
	if err != nil {
		t.Fatal(err)
	}
	if limit := int64(len(record) + n*700); used > limit {
		t.Errorf("%d bytes used, want at most %d", used, limit)
	}
	if n := count(t, s, "SELECT count(*) FROM bad_records"); n != 1 {
		t.Errorf("the record is there %d times", n)
	}
	checkView(t, s, bad)
	if st, err := s.Status(t.Context()); err != nil || st.Bad != n || count(t, s, "SELECT count(*) FROM bad_rows") != n {
		t.Errorf("%+v, %v", st, err)
	}
	newest, err := s.Bad(t.Context(), 5000) // 10 GB if each had its own
	if err != nil || len(newest) != 5000 {
		t.Fatalf("%d rows, %v", len(newest), err)
	}
	for _, b := range newest {
		if diff := cmp.Diff(bad[b.Index].Failure, b.Failure); b.Record != bad[0].Record || &b.Payload[0] != &newest[0].Payload[0] || diff != "" {
			t.Fatalf("row %d does not share the record, or differs: %s", b.Index, diff)
		}
	}
}

// checkView compares bad_rows with the bad rows of one record, the bytes of the
// record with a sample of them: twenty thousand times would be gigabytes.
func checkView(t *testing.T, s *SQLite, bad []event.BadRow) {
	t.Helper()
	rows, err := s.pool.QueryContext(t.Context(), `SELECT id, time, schema, failure, length(record),
CASE WHEN event_index % 500 = 0 THEN record END, event_index FROM bad_rows ORDER BY event_index`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	i := 0
	for ; rows.Next(); i++ {
		var id, at, schema, failure string
		var record []byte
		var length, index int
		if err := rows.Scan(&id, &at, &schema, &failure, &length, &record, &index); err != nil {
			t.Fatal(err)
		}
		want := &bad[i]
		if id != want.ID || at != timeText(want.Time) || schema != want.Schema || failure != string(want.Failure) || index != want.Index {
			t.Fatalf("row %d came back as %s %s %s %s %d", i, id, at, schema, failure, index)
		}
		if length != len(want.Payload) || i%500 == 0 && !bytes.Equal(record, want.Payload) {
			t.Fatalf("row %d has another record, of %d bytes", i, length)
		}
	}
	if err := rows.Err(); err != nil || i != len(bad) {
		t.Errorf("%d rows, want %d; %v", i, len(bad), err)
	}
}

// TestViewHasTheColumnsThatReadersKnow keeps queries of outsiders working.
func TestViewHasTheColumnsThatReadersKnow(t *testing.T) {
	t.Parallel()
	s := open(t, Default())
	rows, err := s.pool.QueryContext(t.Context(), "SELECT * FROM bad_rows")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if diff := cmp.Diff([]string{"id", "time", "schema", "failure", "record", "event_index"}, names); err != nil || diff != "" {
		t.Errorf("%v, %s", err, diff)
	}
	if err := rows.Err(); err != nil {
		t.Error(err)
	}
}

// TestRecordsAreDeletedWithTheirLastRow cuts a record's rows in two by age.
func TestRecordsAreDeletedWithTheirLastRow(t *testing.T) {
	t.Parallel()
	cfg := Default()
	cfg.Retention = 24 * time.Hour
	s := open(t, cfg)
	now := noon.Add(48 * time.Hour)
	whole, half, fresh := badRows(noise(1, 1<<20), 1200, noon), badRows(noise(2, 1000), 10, noon), badRows(nil, 1, now)
	for i := range half[5:] {
		half[5+i].Time = now
	}
	insert(t, s, nil, append(append(whole, half...), fresh...)...)
	if n := count(t, s, "SELECT count(*) FROM bad_records"); n != 3 {
		t.Fatalf("%d records", n)
	}
	got, err := s.Trim(t.Context(), now)
	if err != nil || got != (Trimmed{Bad: 1205}) {
		t.Errorf("%+v, %v", got, err)
	}
	left, err := s.Bad(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 6 || len(left[0].Payload) != 0 {
		t.Errorf("%d rows are left", len(left))
	}
	for _, b := range left[1:] {
		if !bytes.Equal(b.Payload, half[0].Payload) {
			t.Errorf("row %d lost its record", b.Index)
		}
	}
	if n := count(t, s, "SELECT count(*) FROM bad_records"); n != 2 {
		t.Errorf("%d records are left of 3", n)
	}
	if n := count(t, s, "SELECT rows FROM totals WHERE name = 'bad_rows'"); n != 6 {
		t.Errorf("the total says %d", n)
	}
}

// TestConflictsOfOneRecordShareIt gives a batch whose event ids are all taken by
// others, besides a bad row of the same record.
func TestConflictsOfOneRecordShareIt(t *testing.T) {
	t.Parallel()
	s := open(t, Default())
	insert(t, s, samples(0, 300, noon))
	record := noise(3, 1<<20)
	rows := samples(0, 300, noon.Add(time.Hour))
	for i := range rows {
		rows[i].Record = record
		rows[i].Event.Record, rows[i].Event.Index = event.NewRecordID(record), i
		rows[i].Event.Content++
	}
	other := samples(1000, 1, noon)
	bad := badRows(record, 301, noon)[300]
	done := insert(t, s, append(rows, other...), bad)
	if diff := cmp.Diff(Inserted{Events: 1, Conflicts: 300, Bad: 301}, done); diff != "" {
		t.Error(diff)
	}
	if n := count(t, s, "SELECT count(*) FROM bad_records"); n != 1 {
		t.Errorf("%d records", n)
	}
	if n := count(t, s, "SELECT count(*) FROM bad_rows WHERE length(record) = 1048576"); n != 301 {
		t.Errorf("%d rows have the record", n)
	}
	if r := badReasons(t, s); !strings.Contains(r, "already stored with other content") {
		t.Errorf("reason %s", r)
	}
}

// TestFailedInsertForgetsItsRecord repeats a transaction that was undone after it
// had stored the record.
func TestFailedInsertForgetsItsRecord(t *testing.T) {
	t.Parallel()
	s := open(t, Default())
	if _, err := s.writer.exec(`CREATE TRIGGER choosy BEFORE INSERT ON bad_failures WHEN NEW.event_index = 2
BEGIN SELECT RAISE(ABORT, 'not now'); END`); err != nil {
		t.Fatal(err)
	}
	bad := badRows(noise(4, 1000), 3, noon)
	if _, err := s.Insert(t.Context(), nil, bad); err == nil {
		t.Fatal("a bad row that was refused did not fail the call")
	}
	if _, err := s.writer.exec("DROP TRIGGER choosy"); err != nil {
		t.Fatal(err)
	}
	insert(t, s, nil, bad...)
	got, err := s.Bad(t.Context(), 10)
	if err != nil || len(got) != 3 || !bytes.Equal(got[0].Payload, bad[0].Payload) {
		t.Errorf("%d rows, %v", len(got), err)
	}
}
