package store

import (
	"database/sql"
	"log/slog"
	"math"
	"path/filepath"
	"testing"
	"time"

	"furrow/internal/event"
)

const benchBatch = 1000

// BenchmarkInsert stores page views, a thousand to a transaction. Compare with
// BenchmarkBareSQLite: same file settings, same table, same rows.
func BenchmarkInsert(b *testing.B) {
	s, err := Open(filepath.Join(b.TempDir(), "furrow.db"), Default(), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	b.ReportAllocs()
	n, used := 0, time.Duration(0)
	for b.Loop() {
		b.StopTimer()
		rows := samples(n, benchBatch, noon)
		n += benchBatch
		b.StartTimer()
		cpu := processorTime()
		if _, err := s.Insert(b.Context(), rows, nil); err != nil {
			b.Fatal(err)
		}
		used += processorTime() - cpu
	}
	b.ReportMetric(float64(used.Nanoseconds())/1000/float64(n), "cpu-µs/row")
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(s.diskBytes())/float64(n), "B/row")
}

// BenchmarkDoubles gives every event a second time.
func BenchmarkDoubles(b *testing.B) {
	s := open(b, Default())
	rows := samples(0, benchBatch, noon)
	insert(b, s, rows)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		insert(b, s, rows)
		n += benchBatch
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkBareSQLite is what the library does in the usual way: database/sql, a
// prepared statement, a transaction per batch, values converted beforehand.
func BenchmarkBareSQLite(b *testing.B) {
	path := filepath.Join(b.TempDir(), "furrow.db")
	s, err := Open(path, Default(), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	db, err := sql.Open("sqlite", path+"?_pragma=synchronous(FULL)&_pragma=cache_size(-65536)&_pragma=wal_autocheckpoint(8192)&_txlock=immediate")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	b.ReportAllocs()
	n, used := 0, time.Duration(0)
	for b.Loop() {
		b.StopTimer()
		rows := make([][]any, 0, benchBatch)
		for _, r := range samples(n, benchBatch, noon) {
			rows = append(rows, plain(r.Event))
		}
		n += benchBatch
		b.StartTimer()
		cpu := processorTime()
		if err := bareInsert(b, db, rows); err != nil {
			b.Fatal(err)
		}
		used += processorTime() - cpu
	}
	b.ReportMetric(float64(used.Nanoseconds())/1000/float64(n), "cpu-µs/row")
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
}

func bareInsert(b *testing.B, db *sql.DB, rows [][]any) error {
	b.Helper()
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	st, err := tx.Prepare(insertEvent(columns))
	if err != nil {
		return err
	}
	defer st.Close()
	for _, r := range rows {
		if _, err := st.Exec(r...); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func plain(e *event.Event) []any {
	row := make([]any, 0, len(columns)+1)
	for _, f := range columns {
		switch c := e.Cell(f); {
		case !c.Set:
			row = append(row, nil)
		case f.Kind() == event.Int || f.Kind() == event.Bool:
			row = append(row, c.Num)
		case f.Kind() == event.Time:
			row = append(row, time.UnixMilli(c.Num).UTC().Format(timeLayout))
		case f.Kind() == event.Float:
			row = append(row, float64(math.Float32frombits(uint32(c.Num))))
		default:
			row = append(row, c.Text)
		}
	}
	return append(row, int64(e.Content))
}
