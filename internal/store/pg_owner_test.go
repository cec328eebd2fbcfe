package store

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"furrow/internal/store/pgtest"
)

// TestPartitionsThatTheirOwnerTookAway, by hand: their rows are not counted any more,
// their ids end when they would have, and events of their days are taken.
func TestPartitionsThatTheirOwnerTookAway(t *testing.T) {
	t.Parallel()
	cfg := Default()
	cfg.DedupDays = 10
	p := openPostgres(t, cfg)
	days := []time.Time{noon, noon.AddDate(0, 0, 1), noon.AddDate(0, 0, 2)}
	for i, day := range days {
		put(t, p, samples(i*10, 10, day))
	}
	execute(t, p, "DROP TABLE atomic."+dayOf(days[0]).partition())
	execute(t, p, "ALTER TABLE atomic.events DETACH PARTITION atomic."+dayOf(days[1]).partition())
	if _, err := p.Trim(t.Context(), days[2]); err != nil {
		t.Fatal(err)
	}
	if st := status(t, p); st.Events != 10 || !st.Oldest.Equal(days[2].Add(20*time.Millisecond)) {
		t.Errorf("%+v", st)
	}
	if n, err := p.Known(t.Context(), []string{uuid("event", 0), uuid("event", 10), uuid("event", 20)}); n != 3 || err != nil {
		t.Errorf("known: %d, %v", n, err)
	}
	wantInserted(t, Inserted{Events: 1, Doubles: 10}, put(t, p, append(samples(10, 10, days[1]), sample(100, days[1]))))
	for range 2 {
		if _, err := p.Trim(t.Context(), days[0].AddDate(0, 0, 11)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := p.Known(t.Context(), []string{uuid("event", 0), uuid("event", 10), uuid("event", 20)}); n != 2 || err != nil {
		t.Errorf("known in the end: %d, %v", n, err)
	}
	if st := status(t, p); st.Events != 11 || query[int64](t, p, "SELECT count(*) FROM atomic.events") != 11 {
		t.Errorf("%+v", st)
	}
	cfg.Retention = 24 * time.Hour // and ours is found by the name that it was given
	p.cfg = cfg
	if got, err := p.Trim(t.Context(), days[2].AddDate(0, 0, 30)); err != nil || got.Events != 11 {
		t.Errorf("%+v, %v", got, err)
	}
	if n := query[int64](t, p, "SELECT count(*) FROM atomic."+dayOf(days[1]).partition()); n != 10 {
		t.Errorf("%d rows of 10 are in the detached table", n)
	}
}

// TestMorePartitionsThanLocks: reads and writes touch the partitions that they need,
// however often they are repeated.
func TestMorePartitionsThanLocks(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Setting("max_connections", "10"), pgtest.Setting("max_locks_per_transaction", "15"), pgtest.Setting("max_wal_senders", "0"))
	p := openPostgresAt(t, server.Database(t), Default())
	const days = 120 // with eight indices each
	rows := samples(0, days, noon)
	for i := range rows {
		rows[i] = sample(i, noon.AddDate(0, 0, -i))
	}
	wantInserted(t, Inserted{Events: days}, put(t, p, rows))
	for range 12 {
		status(t, p)
		cell(t, p, rows[7].Event.ID(), "event_id")
		wantInserted(t, Inserted{Doubles: 1}, put(t, p, rows[7:8]))
		if _, err := p.Person(t.Context(), []string{"nobody"}); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Trim(t.Context(), noon); err != nil {
			t.Fatal(err)
		}
	}
	if done, err := p.Forget(t.Context(), Forgetting{Identifiers: []string{rows[0].Event.Text(0)}, Until: noon}); err != nil {
		t.Errorf("%+v, %v", done, err)
	}
	if err := p.EachIdentifier(t.Context(), func(string) error { return nil }); err != nil {
		t.Error(err)
	}
}

// TestIDsThatLieMixed: those of a day that ended are deleted from all over the table,
// in steps that read a part of it each.
func TestIDsThatLieMixed(t *testing.T) {
	t.Parallel()
	cfg := Default()
	cfg.Retention, cfg.DedupDays = 24*time.Hour, 10
	p := openPostgres(t, cfg)
	put(t, p, samples(0, 1, noon))
	execute(t, p, "ALTER TABLE atomic.event_ids SET (fillfactor = 10)")
	execute(t, p, `INSERT INTO atomic.event_ids SELECT gen_random_uuid(), date '2026-11-22' + n % 30, 0, 0 FROM generate_series(1, 30000) AS n`)
	if n := query[int64](t, p, "SELECT pg_relation_size('atomic.event_ids') / 8192"); n < 2*pgTrimBlocks {
		t.Fatalf("%d blocks are no test", n)
	}
	execute(t, p, "ANALYZE atomic.event_ids")
	plan := ""
	err := p.writing(t.Context(), func(ctx context.Context, c *pgConn) error {
		rows, err := c.Query(ctx, "EXPLAIN "+deleteSomeIDs, pgx.QueryExecModeExec, []time.Time{noon}, "(0,0)", "(1000,0)")
		if err != nil {
			return err
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		plan = strings.Join(lines, "\n")
		return err
	})
	if err != nil || !strings.Contains(plan, "Tid Range Scan") {
		t.Errorf("%v, %s", err, plan)
	}
	if _, err := p.Trim(t.Context(), noon.AddDate(0, 0, 11)); err != nil {
		t.Fatal(err)
	}
	for statement, want := range map[string]int64{
		"SELECT count(*) FROM atomic.event_ids WHERE day = '2026-11-22'": 0,
		"SELECT count(*) FROM atomic.event_ids":                          29000,
		"SELECT count(*) FROM atomic.past_days":                          0,
	} {
		if n := query[int64](t, p, statement); n != want {
			t.Errorf("%s: %d, want %d", statement, n, want)
		}
	}
}

// TestRoleThatMayLittle has a schema that an administrator made, and no right to make
// one, or to use the schema public.
func TestRoleThatMayLittle(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	address := server.Database(t)
	name := address[strings.LastIndex(address, "/")+1 : strings.Index(address, "?")]
	const rights = `CREATE ROLE clerk LOGIN; REVOKE CREATE ON DATABASE %[1]s FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC;
CREATE SCHEMA evil AUTHORIZATION clerk; ALTER ROLE clerk SET search_path = evil;
CREATE TABLE evil.totals (n int); CREATE VIEW evil.seen AS SELECT 1 AS identifier; CREATE TYPE evil.date AS (x int)`
	if out, err := server.SQL(name, fmt.Sprintf(rights, name)); err != nil {
		t.Fatal(out, err)
	}
	p := openPostgresAt(t, strings.Replace(address, "furrow:secret", "clerk", 1), Default())
	_, err := p.Insert(t.Context(), samples(0, 1, noon), nil)
	if err == nil || !strings.Contains(err.Error(), "permission denied for database") {
		t.Fatalf("without a schema: %v", err)
	}
	if out, err := server.SQL(name, "CREATE SCHEMA atomic AUTHORIZATION clerk"); err != nil {
		t.Fatal(out, err)
	}
	put(t, p, people(), badRows([]byte("x"), 3, noon)...)
	wantConsistent(t, p, 6, 3)
	n := 0
	if err := p.EachIdentifier(t.Context(), func(string) error { n++; return nil }); err != nil || n != 8 {
		t.Errorf("%d identifiers, %v", n, err)
	}
	if done, err := p.Forget(t.Context(), Forgetting{Identifiers: []string{"ada@example"}, Until: noon.AddDate(0, 0, 2)}); err != nil || done.Events != 3 {
		t.Errorf("%+v, %v", done, err)
	}
	if err := p.tend(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestServerThatRefusesUs: the error says why, and no password.
func TestServerThatRefusesUs(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	const password = "s3cr/t %&?"
	const rules = `ALTER SYSTEM SET password_encryption = 'scram-sha-256'; CREATE ROLE clerk LOGIN PASSWORD 'right'; GRANT CREATE ON DATABASE postgres TO clerk;
CREATE FUNCTION allow() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
EXECUTE format('COPY (SELECT %L) TO %L', 'host all clerk 127.0.0.1/32 scram-sha-256', current_setting('hba_file'));
PERFORM pg_reload_conf(); END $$`
	for _, s := range strings.SplitAfterN(rules, ";", 4) {
		if out, err := server.SQL("postgres", s); err != nil {
			t.Fatal(out, err)
		}
	}
	if out, err := server.SQL("postgres", "SELECT allow()"); err != nil {
		t.Fatal(out, err)
	}
	at := func(userinfo, rest string) string { return "postgres://" + userinfo + "@" + server.Addr() + "/" + rest }
	for address, want := range map[string]string{
		at("clerk:s3cr%2Ft%20%25%26%3F", "postgres?sslmode=disable"):  "password authentication failed",
		at("clerk:right", "nothing?sslmode=disable"):                  `database "nothing" does not exist`,
		at("stranger:s3cr%2Ft%20%25%26%3F", "postgres?sslmode=allow"): "no pg_hba.conf entry",
		at("clerk:right", "postgres?sslmode=require"):                 "TLS",
		at("clerk:right", "postgres?sslmode=verify-full"):             "TLS",
	} {
		p := openPostgresAt(t, address, Default())
		_, err := p.Insert(t.Context(), samples(0, 1, noon), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", p.cfg.Place(), err)
			continue
		}
		for _, secret := range []string{password, "s3cr", "right"} {
			if strings.Contains(err.Error(), secret) || strings.Contains(p.cfg.Place(), secret) {
				t.Errorf("the password is shown: %v", err)
			}
		}
	}
	if st := status(t, openPostgresAt(t, at("clerk:right", "postgres?sslmode=prefer"), Default())); st.Events != 0 {
		t.Errorf("%+v", st)
	}
}
