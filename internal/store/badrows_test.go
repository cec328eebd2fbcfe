package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
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

// TestViewOfBadRows is what outsiders read.
func TestViewOfBadRows(t *testing.T) {
	t.Parallel()
	s := open(t, Default())
	bad := badRows(noise(1, 2<<20), 2000, noon)
	insert(t, s, nil, bad...)
	checkView(t, s, bad)
}

// checkView compares bad_rows with the bad rows of one record, the bytes of the
// record with a sample of them: thousands of times would be gigabytes.
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
