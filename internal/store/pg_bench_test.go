package store

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"furrow/internal/store/pgtest"
)

// BenchmarkPostgresInsert stores page views, a thousand to a transaction, durably.
// Compare with the two bare ones: same server, same settings, an identically
// defined table with the same indices, same rows.
func BenchmarkPostgresInsert(b *testing.B) {
	p := benchPostgres(b)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		b.StopTimer()
		rows := samples(n, benchBatch, noon)
		n += benchBatch
		b.StartTimer()
		if _, err := p.Insert(b.Context(), rows, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkPostgresBareCopy copies the same rows, encoded beforehand: all that is
// left is the server's work.
func BenchmarkPostgresBareCopy(b *testing.B) {
	conn := benchBare(b)
	statement := strings.ReplaceAll(copyEvents, "atomic.events", "bare.events")
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		b.StopTimer()
		var batch pgBatch
		batch.prepare(samples(n, benchBatch, noon), nil)
		batch.encode()
		n += benchBatch
		b.StartTimer()
		reader := &copyReader{buf: batch.tuples.buf, spans: [][2]int{{0, len(batch.tuples.buf)}}, piece: []byte(copyHeader)}
		if _, err := conn.PgConn().CopyFrom(b.Context(), reader, statement); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkPostgresUsualCopy copies the same rows in the library's usual way, from
// values that were converted beforehand.
func BenchmarkPostgresUsualCopy(b *testing.B) {
	conn := benchBare(b)
	names := make([]string, 0, len(columns)+1)
	for _, f := range columns {
		names = append(names, f.Name())
	}
	names = append(names, "content_hash")
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		b.StopTimer()
		rows := make([][]any, 0, benchBatch)
		for _, r := range samples(n, benchBatch, noon) {
			rows = append(rows, usual(r))
		}
		n += benchBatch
		b.StartTimer()
		if _, err := conn.CopyFrom(b.Context(), pgx.Identifier{"bare", "events"}, names, pgx.CopyFromRows(rows)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkPostgresDoubles gives every event a second time.
func BenchmarkPostgresDoubles(b *testing.B) {
	p := benchPostgres(b)
	rows := samples(0, benchBatch, noon)
	put(b, p, rows)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		put(b, p, rows)
		n += benchBatch
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
}

func usual(r Row) []any {
	values := plain(r.Event)
	for i, f := range columns {
		if pgType(f) == "timestamp" && values[i] != nil {
			values[i] = r.Event.Time(f)
		}
		if pgType(f) == "boolean" && values[i] != nil {
			values[i] = values[i] == int64(1)
		}
	}
	return values
}

func benchPostgres(b *testing.B) *Postgres {
	b.Helper()
	return openPostgresAt(b, pgtest.Start(b, pgtest.Fsync()).Database(b), Default())
}

// benchBare makes the bare table and returns a connection with the settings that
// Insert has.
func benchBare(b *testing.B) *pgx.Conn {
	b.Helper()
	return benchBareOn(b, benchPostgres(b))
}

func benchBareOn(b *testing.B, p *Postgres) *pgx.Conn {
	b.Helper()
	put(b, p, samples(-1, 1, noon)) // makes the tables
	c, err := p.acquire(b.Context(), p.write)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.release)
	statements := []string{"CREATE SCHEMA bare"}
	for _, s := range pgMigrations[0] {
		if strings.Contains(s, "atomic.events (") || strings.Contains(s, "ON atomic.events ") {
			statements = append(statements, strings.ReplaceAll(s, "atomic.events", "bare.events"))
		}
	}
	statements = append(statements, "CREATE TABLE bare.day PARTITION OF bare.events FOR VALUES FROM ('2026-11-22') TO ('2026-11-23')")
	if !slices.ContainsFunc(statements, func(s string) bool { return strings.Contains(s, "event_name)") }) {
		b.Fatal("the bare table has no indices")
	}
	for _, s := range statements {
		if _, err := c.Exec(b.Context(), s); err != nil {
			b.Fatal(err)
		}
	}
	return c.Conn
}

// BenchmarkPostgresShare takes turns between Insert and the bare copy of the same
// rows on one server, so that whatever else the machine does falls on both.
func BenchmarkPostgresShare(b *testing.B) {
	server := pgtest.Start(b, pgtest.Fsync())
	p := openPostgresAt(b, server.Database(b), Default())
	conn := benchBareOn(b, p)
	statement := strings.ReplaceAll(copyEvents, "atomic.events", "bare.events")
	var ours, bare time.Duration
	n := 0
	for b.Loop() {
		rows := samples(n, benchBatch, noon)
		var batch pgBatch
		batch.prepare(rows, nil)
		batch.encode()
		n += benchBatch
		start := time.Now()
		if _, err := p.Insert(b.Context(), rows, nil); err != nil {
			b.Fatal(err)
		}
		ours += time.Since(start)
		start = time.Now()
		reader := &copyReader{buf: batch.tuples.buf, spans: [][2]int{{0, len(batch.tuples.buf)}}, piece: []byte(copyHeader)}
		if _, err := conn.PgConn().CopyFrom(b.Context(), reader, statement); err != nil {
			b.Fatal(err)
		}
		bare += time.Since(start)
	}
	b.ReportMetric(float64(n)/ours.Seconds(), "rows/s")
	b.ReportMetric(float64(n)/bare.Seconds(), "bare-rows/s")
	b.ReportMetric(bare.Seconds()/ours.Seconds(), "share")
}
