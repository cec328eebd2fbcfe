package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"furrow/internal/event"
	"furrow/internal/store/pgtest"
)

// TestEverythingAtOnce: recorders insert overlapping batches of days that the
// retention drops under them, while people are forgotten and bad rows deleted.
// Nobody waits in a circle, and in the end tables, ids and counts agree.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Setting("deadlock_timeout", "100ms"))
	url := server.Database(t)
	cfg := Default()
	cfg.Retention, cfg.DedupDays = 24*time.Hour, 3
	const writers, rounds, days = 3, 12, 6
	ctx, cancel := context.WithCancel(t.Context())
	var writing, others sync.WaitGroup
	fails := func(what string, err error) {
		if err != nil && ctx.Err() == nil && sqlState(err) != "55P03" { // dropping gave way
			t.Errorf("%s: %v", what, err)
		}
	}
	for w := range writers {
		p := openPostgresAt(t, url, cfg)
		writing.Go(func() {
			rnd := rand.New(rand.NewPCG(7, uint64(w)))
			for range rounds {
				from := rnd.IntN(5) * 100
				rows := samples(from, 200, noon)
				for i := range rows {
					rows[i].Event.SetTime(event.CollectorTstamp, noon.AddDate(0, 0, (from+i)%days))
				}
				rnd.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
				_, err := p.Insert(ctx, rows, badRows(fmt.Appendf(nil, "record %d", from), 30, noon.AddDate(0, 0, from/100)))
				fails("Insert", err)
			}
		})
		others.Go(func() {
			rnd := rand.New(rand.NewPCG(8, uint64(w)))
			for ctx.Err() == nil {
				_, err := p.Trim(ctx, noon.AddDate(0, 0, rnd.IntN(days)))
				fails("Trim", err)
				_, err = p.Forget(ctx, Forgetting{
					Identifiers: []string{uuid("user", rnd.IntN(25)), uuid("network", rnd.IntN(25))}, Until: noon.AddDate(0, 0, days),
					Record: func(_ event.RecordID, record []byte) ([]byte, func(int) bool, bool) {
						return record, func(i int) bool { return i%7 == 0 }, rnd.IntN(3) == 0
					},
				})
				fails("Forget", err)
				ids := make([]string, 10)
				for i := range ids {
					ids[i] = event.BadRowID(event.NewRecordID(fmt.Appendf(nil, "record %d", rnd.IntN(5)*100)), rnd.IntN(30))
				}
				_, err = p.DeleteBad(ctx, ids)
				fails("DeleteBad", err)
				_, err = p.Status(ctx)
				fails("Status", err)
			}
		})
	}
	writing.Wait()
	cancel()
	others.Wait()
	p := openPostgresAt(t, url, cfg)
	if n := query[int64](t, p, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"); n != 0 {
		t.Errorf("%d deadlocks", n)
	}
	for statement, want := range map[string]int64{
		"SELECT count(*) - count(DISTINCT event_id) FROM atomic.events":                                                               0,
		"SELECT count(*) FROM atomic.events e LEFT JOIN atomic.event_ids i ON i.event_id = e.event_id::uuid WHERE i.event_id IS NULL": 0,
		// An id without its event is of a day that was dropped.
		`SELECT count(*) FROM atomic.event_ids i LEFT JOIN atomic.events e ON i.event_id = e.event_id::uuid
WHERE e.event_id IS NULL AND i.day > date '2026-11-22' + 5`: 0,
		"SELECT count(*) - (SELECT coalesce(sum(rows), 0) FROM atomic.totals WHERE name = 'events') FROM atomic.events":         0,
		"SELECT count(*) - (SELECT coalesce(sum(rows), 0) FROM atomic.totals WHERE name = 'bad_rows') FROM atomic.bad_failures": 0,
		"SELECT count(*) FROM atomic.bad_rows WHERE record IS NULL":                                                             0,
		"SELECT count(*) FROM atomic.bad_records WHERE record_id NOT IN (SELECT record_id FROM atomic.bad_failures)":            0,
	} {
		if n := query[int64](t, p, "SELECT ("+statement+")::int8"); n != want {
			t.Errorf("%s: %d, want %d", statement, n, want)
		}
	}
	left, seen := status(t, p), query[int64](t, p, "SELECT count(*) FROM atomic.event_ids")
	t.Logf("%d events, %d bad rows, %d ids are left", left.Events, left.Bad, seen)
}
