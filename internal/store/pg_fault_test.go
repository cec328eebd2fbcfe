package store

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"furrow/internal/event"
	"furrow/internal/store/pgtest"
)

// persist repeats an insert until it succeeds, as the recorder does, and returns
// how often it failed.
func persist(tb testing.TB, p *Postgres, rows []Row, bad []event.BadRow) int {
	tb.Helper()
	failed := 0
	for deadline := time.Now().Add(60 * time.Second); ; failed++ {
		_, err := p.Insert(tb.Context(), rows, bad)
		if err == nil {
			return failed
		}
		if time.Now().After(deadline) || tb.Context().Err() != nil {
			tb.Errorf("gave up: %v", err)
			return failed
		}
		select {
		case <-tb.Context().Done():
		case <-time.After(20 * time.Millisecond): // a backoff, not a synchronisation
		}
	}
}

// wantConsistent checks that tables, ids and counts agree, and how much there is.
func wantConsistent(tb testing.TB, p *Postgres, events, bad int64) {
	tb.Helper()
	for statement, want := range map[string]int64{
		"SELECT count(*) FROM atomic.events":                                                                                 events,
		"SELECT count(DISTINCT event_id) FROM atomic.events":                                                                 events,
		"SELECT count(*) FROM atomic.event_ids":                                                                              events,
		"SELECT sum(rows)::int8 FROM atomic.totals WHERE name = 'events'":                                                    events,
		"SELECT count(*) FROM atomic.bad_failures":                                                                           bad,
		"SELECT coalesce(sum(rows), 0)::int8 FROM atomic.totals WHERE name = 'bad_rows'":                                     bad,
		"SELECT count(*) FROM atomic.bad_rows WHERE record IS NULL":                                                          0,
		"SELECT count(*) FROM atomic.bad_records WHERE record_id NOT IN (SELECT record_id FROM atomic.bad_failures)":         0,
		"SELECT count(*) FROM atomic.events e LEFT JOIN atomic.event_ids i ON i.event_id = e.event_id::uuid WHERE i IS NULL": 0,
	} {
		if n := query[int64](tb, p, statement); n != want {
			tb.Errorf("%s: %d, want %d", statement, n, want)
		}
	}
}

// TestWritersWithOverlappingBatches has several recorders store shuffled, mostly
// overlapping batches of several days at once, from the first table on.
func TestWritersWithOverlappingBatches(t *testing.T) {
	t.Parallel()
	url := pgtest.Shared(t).Database(t)
	const events, writers = 600, 5
	var wg sync.WaitGroup
	var stored, badRowsStored atomic.Int64
	for w := range writers {
		p := openPostgresAt(t, url, Default())
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(w)))
			for range 3 {
				for _, from := range rnd.Perm(6) {
					rows := samples(from*100, min(150, events-from*100), noon)
					for i := range rows {
						rows[i].Event.SetTime(event.CollectorTstamp, noon.AddDate(0, 0, i%4))
					}
					rnd.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
					bad := badRows(fmt.Appendf(nil, "record %d", from), 20, noon)
					rnd.Shuffle(len(bad), func(i, j int) { bad[i], bad[j] = bad[j], bad[i] })
					done, err := p.Insert(t.Context(), rows, bad)
					if err != nil {
						t.Errorf("writer %d: %v", w, err)
					}
					stored.Add(int64(done.Events))
					badRowsStored.Add(int64(done.Bad))
				}
			}
		})
	}
	wg.Wait()
	if stored.Load() != events || badRowsStored.Load() != 120 {
		t.Errorf("%d events and %d bad rows were said to be new", stored.Load(), badRowsStored.Load())
	}
	wantConsistent(t, openPostgresAt(t, url, Default()), events, 120)
}

// TestBackendsThatAreTerminated ends the server's processes at random moments
// during inserts.
func TestBackendsThatAreTerminated(t *testing.T) {
	t.Parallel()
	url := pgtest.Shared(t).Database(t)
	killer := openPostgresAt(t, url, Default())
	put(t, killer, samples(0, 1, noon))
	ctx, cancel := context.WithCancel(t.Context())
	var killing sync.WaitGroup
	killing.Go(func() {
		for ctx.Err() == nil {
			_ = killer.writing(ctx, func(ctx context.Context, c *pgConn) error { // it may be hit too
				_, err := c.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < 0.5`)
				return err
			})
			select {
			case <-ctx.Done():
			case <-time.After(rand.N(40 * time.Millisecond)):
			}
		}
	})
	const writers, batches = 3, 25
	var wg sync.WaitGroup
	var failed atomic.Int64
	for w := range writers {
		p := openPostgresAt(t, url, Default())
		wg.Go(func() {
			for i := range batches {
				from := (w*batches/2 + i) * 40 // half of each writer's are also the next one's
				failed.Add(int64(persist(t, p, samples(from, 40, noon), badRows(fmt.Appendf(nil, "%d", from), 5, noon))))
			}
		})
	}
	wg.Wait()
	cancel()
	killing.Wait()
	t.Logf("%d inserts failed and were repeated", failed.Load())
	seen := map[int]bool{}
	for w := range writers {
		for i := range batches {
			seen[w*batches/2+i] = true
		}
	}
	wantConsistent(t, openPostgresAt(t, url, Default()), int64(len(seen)*40), int64(len(seen)*5))
}

// TestServerThatIsAway opens while the server is down, and goes on through crashes
// of the server in the middle of inserts.
func TestServerThatIsAway(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	url := server.Database(t)
	server.Stop()
	p := openPostgresAt(t, url, Default())
	if _, err := p.Insert(t.Context(), samples(0, 1, noon), nil); err == nil {
		t.Fatal("an insert succeeded without a server")
	}
	if _, err := p.Status(t.Context()); err == nil {
		t.Fatal("a status without a server")
	}
	const batches = 60
	done := make(chan int)
	go func() {
		failed := 0
		for i := range batches {
			failed += persist(t, p, samples(i*50, 50, noon), badRows(fmt.Appendf(nil, "%d", i), 2, noon))
		}
		done <- failed
	}()
	server.Restart("fast")
	for i := 0; ; i++ {
		select {
		case failed := <-done:
			t.Logf("%d restarts, %d inserts failed and were repeated", i, failed)
			wantConsistent(t, p, batches*50, batches*2)
			return
		case <-time.After(300 * time.Millisecond):
			if i < 3 {
				server.Restart("immediate")
			}
		}
	}
}

// TestStandbyIsLeft makes the server read-only, as it is after a failover.
func TestStandbyIsLeft(t *testing.T) {
	t.Parallel()
	p := openPostgres(t, Default())
	put(t, p, samples(0, 10, noon))
	name := query[string](t, p, "SELECT current_database()")
	server := pgtest.Shared(t)
	if _, err := server.SQL("postgres", "ALTER DATABASE "+name+" SET default_transaction_read_only = on"); err != nil {
		t.Fatal(err)
	}
	execute(t, p, "SET default_transaction_read_only = on") // the connection that is open
	if _, err := p.Insert(t.Context(), samples(10, 10, noon), nil); err == nil {
		t.Fatal("an insert into a read-only database succeeded")
	}
	if _, err := p.Insert(t.Context(), samples(10, 10, noon), nil); err == nil {
		t.Fatal("a connection to a read-only database was accepted")
	}
	if _, err := server.SQL("postgres", "ALTER DATABASE "+name+" RESET default_transaction_read_only"); err != nil {
		t.Fatal(err)
	}
	wantInserted(t, Inserted{Events: 10}, put(t, p, samples(10, 10, noon)))
}

// TestTablesThatWereDropped are made again.
func TestTablesThatWereDropped(t *testing.T) {
	t.Parallel()
	p := openPostgres(t, Default())
	put(t, p, samples(0, 10, noon))
	execute(t, p, "DROP TABLE atomic."+dayOf(noon).partition())
	wantInserted(t, Inserted{Events: 5, Doubles: 10}, put(t, p, samples(0, 15, noon))) // the partition, by the same call
	execute(t, p, "DROP SCHEMA atomic CASCADE")
	if failed := persist(t, p, samples(0, 15, noon), nil); failed > 1 {
		t.Errorf("%d calls failed", failed)
	}
	wantConsistent(t, p, 15, 0)
}

func TestPostgresRefusesTablesOfANewerProgram(t *testing.T) {
	t.Parallel()
	url := pgtest.Shared(t).Database(t)
	first := openPostgresAt(t, url, Default())
	put(t, first, samples(0, 1, noon))
	execute(t, first, "INSERT INTO atomic.schema_version (version) VALUES (999)")
	second := openPostgresAt(t, url, Default())
	if _, err := second.Insert(t.Context(), samples(0, 1, noon), nil); err == nil || !strings.Contains(err.Error(), "version 999") {
		t.Errorf("%v", err)
	}
}

func TestURLsThatAreRefused(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	for _, url := range []string{
		"", "furrow.db", "mysql://u:s3cret@h/d", "postgres://u:s3cret@h:port/d", "postgres://u:s3c%ret@h/d", "postgres://u:s3cret@h/d/e",
		"postgres://u:s3cret@h/d?sslmode=maybe", "postgres://h/d?password=s3cret&connect_timeout=x", "host=h password=s3cret",
		"postgres://u:s3cret/x@h/d", "postgres://u:p#s3cret@h/d", "postgres://u:s3cret@h:99999999/d",
	} {
		cfg := Default()
		cfg.URL = url
		_, err := OpenPostgres(cfg, nil, log)
		if err == nil {
			t.Errorf("%q was accepted", url)
			continue
		}
		for _, secret := range []string{"s3cret", "s3c%ret"} {
			if strings.Contains(err.Error(), secret) || strings.Contains(cfg.Place(), secret) {
				t.Errorf("the password is shown: %v, %s", err, cfg.Place())
			}
		}
	}
	for url, want := range map[string]string{
		"postgres://u:s3cret@h:5432/d?sslmode=disable": "postgres://u:xxxxx@h:5432/d?sslmode=disable",
		"postgresql://h/d?user=u&password=s3cret":      "postgresql://h/d?password=xxxxx&user=u",
		"postgres://u@h1,h2/d":                         "postgres://u@h1,h2/d",
		"":                                             "",
	} {
		if got := (Config{URL: url}).Place(); got != want {
			t.Errorf("%s is shown as %s", want, got)
		}
	}
	cfg := Default()
	cfg.URL = "postgres://u:s3cret@127.0.0.1:1/d"
	p, err := OpenPostgres(cfg, prometheus.NewRegistry(), log)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.Insert(t.Context(), samples(0, 1, noon), nil); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("%v", err)
	}
}

func TestPostgresRetentionBySize(t *testing.T) {
	t.Parallel()
	cfg := Default()
	cfg.MaxBytes = 9 << 20
	p := openPostgres(t, cfg)
	for day := range 4 {
		put(t, p, samples(day*1500, 1500, noon.AddDate(0, 0, day)))
	}
	today := noon.AddDate(0, 0, 3)
	put(t, p, nil, append(badRows([]byte("old"), 2, noon), badRows([]byte("new"), 2, today)...)...)
	before := status(t, p)
	got, err := p.Trim(t.Context(), today)
	if err != nil {
		t.Fatal(err)
	}
	st := status(t, p)
	switch {
	case before.Bytes <= cfg.MaxBytes:
		t.Fatalf("%d bytes are no test", before.Bytes)
	case got.Events == 0 || got.Events%1500 != 0 || st.Events != int64(6000-got.Events) || st.Bytes > cfg.MaxBytes && st.Events > 1500:
		t.Errorf("%+v deleted, %+v", got, st)
	case got.Bad != 2 || st.Bad != 2 || st.Oldest.Before(noon.AddDate(0, 0, got.Events/1500)):
		t.Errorf("%+v deleted, %+v", got, st)
	}
	if n := query[int64](t, p, "SELECT sum(rows)::int8 FROM atomic.totals WHERE name = 'events'"); n != st.Events {
		t.Errorf("counted %d", n)
	}
	if n, err := p.Known(t.Context(), []string{uuid("event", 0)}); n != 1 || err != nil {
		t.Errorf("the id of a dropped row: %d, %v", n, err)
	}
}

// TestPartitionsStandReady, and a reader of an old one delays only its end.
func TestPartitionsStandReady(t *testing.T) {
	t.Parallel()
	cfg := Default()
	cfg.Retention, cfg.PartitionsAhead = 24*time.Hour, 3
	p := openPostgres(t, cfg)
	p.clock = func() time.Time { return noon }
	if err := p.tend(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		name := dayOf(noon.AddDate(0, 0, i)).partition()
		if !query[bool](t, p, "SELECT to_regclass('atomic."+name+"') IS NOT NULL") {
			t.Errorf("no partition %s", name)
		}
	}
	put(t, p, samples(0, 10, noon))
	now := noon.AddDate(0, 0, 2)
	reader, err := p.acquire(t.Context(), p.write)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"BEGIN", "SELECT FROM atomic.events LIMIT 1"} {
		if _, err := reader.Exec(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Trim(t.Context(), now); sqlState(err) != "55P03" {
		t.Errorf("a partition that is read was dropped: %v", err)
	}
	put(t, p, samples(10, 10, now))
	reader.rollback(t.Context())
	reader.release()
	if got, err := p.Trim(t.Context(), now); err != nil || got.Events != 10 {
		t.Errorf("%+v, %v", got, err)
	}
}
