package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// pgDay is a UTC day as the number of days since 1970-01-01.
type pgDay int32

func dayOf(t time.Time) pgDay { return dayOfMillis(t.UnixMilli()) }

func dayOfMillis(ms int64) pgDay {
	day := ms / dayMillis
	if ms%dayMillis < 0 {
		day--
	}
	return pgDay(day) //nolint:gosec // callers stay within the years 1 to 9999
}

func (d pgDay) time() time.Time { return time.Unix(int64(d)*86400, 0).UTC() }

const partitionLayout = "events_20060102"

// partition is the name of the day's partition, without its schema.
func (d pgDay) partition() string { return d.time().Format(partitionLayout) }

// partition is a table that holds a part of atomic.events.
type partition struct {
	table string // quoted, with its schema
	day   pgDay
	ours  bool // made by Furrow for that day; others may attach their own
}

const (
	pgDaysAtOnce = 16 // partitions of one transaction: each takes a dozen locks
	// pgDDLWait bounds how long others queue behind a table lock that we wait for.
	pgDDLWait = "1s"
)

// listPartitions returns the partitions, oldest first.
func listPartitions(ctx context.Context, c *pgConn) ([]partition, error) {
	rows, err := c.Query(ctx, `SELECT n.nspname, c.relname FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.inhparent = 'atomic.events'::regclass ORDER BY c.relname`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (partition, error) {
		var schema, name string
		if err := row.Scan(&schema, &name); err != nil {
			return partition{}, err
		}
		p := partition{table: pgx.Identifier{schema, name}.Sanitize()}
		base, number, _ := strings.Cut(strings.TrimPrefix(name, "events_"), "_")
		if at, err := time.Parse(partitionLayout, "events_"+base); err == nil && schema == "atomic" && len(number) < 3 {
			p.day, p.ours = dayOf(at), true
		}
		return p, nil
	})
}

// daysOfPartitions returns the days that have a partition of ours, and whether there
// are others.
func daysOfPartitions(ctx context.Context, c *pgConn) (days []pgDay, others bool, err error) {
	parts, err := listPartitions(ctx, c)
	for _, part := range parts {
		if part.ours {
			days = append(days, part.day)
		} else {
			others = true
		}
	}
	return days, others, err
}

// ensure makes partitions for the days that have none.
func (p *Postgres) ensure(ctx context.Context, days []pgDay) error {
	missing := p.unknown(days)
	if len(missing) == 0 {
		return nil
	}
	return p.writing(ctx, func(ctx context.Context, c *pgConn) error {
		have, _, err := daysOfPartitions(ctx, c)
		if err != nil {
			return err
		}
		p.know(have)
		for some := range slices.Chunk(p.unknown(missing), pgDaysAtOnce) {
			if err := c.transact(ctx, func() error { return makePartitions(ctx, c, some) }); err != nil {
				return err
			}
			p.know(some)
		}
		return nil
	})
}

func (p *Postgres) know(days []pgDay) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range days {
		p.days[d] = true
	}
}

func (p *Postgres) unknown(days []pgDay) []pgDay {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []pgDay
	for _, d := range days {
		if !p.days[d] {
			out = append(out, d)
		}
	}
	return out
}

// forgetDays makes the next ensure look again.
func (p *Postgres) forgetDays() {
	p.mu.Lock()
	clear(p.days)
	p.mu.Unlock()
}

func makePartitions(ctx context.Context, c *pgConn, days []pgDay) error {
	if _, err := c.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(pgLockTables)); err != nil {
		return err
	}
	have, _, err := daysOfPartitions(ctx, c)
	if err != nil {
		return err
	}
	for _, d := range days {
		if slices.Contains(have, d) {
			continue
		}
		if err := makePartition(ctx, c, d); err != nil {
			return err
		}
	}
	return nil
}

// freeName is the name of the day's partition, with a number when there is a table
// of that name: a partition that its owner detached to keep it.
func freeName(ctx context.Context, c *pgConn, d pgDay) (string, error) {
	name := d.partition()
	for n := 2; ; n++ {
		there, err := hasTable(ctx, c, name)
		if err != nil || !there {
			return name, err
		}
		if n > 99 {
			return "", fmt.Errorf("there are tables atomic.%s to atomic.%s that are no partitions of atomic.events: drop or rename some", d.partition(), name)
		}
		name = fmt.Sprintf("%s_%d", d.partition(), n)
	}
}

// makePartition makes a table and then attaches it: PARTITION OF would wait for
// every reader, and attaching waits for nobody.
func makePartition(ctx context.Context, c *pgConn, d pgDay) error {
	name, err := freeName(ctx, c, d)
	if err != nil {
		return err
	}
	if _, err := c.Exec(ctx, "SAVEPOINT making"); err != nil {
		return err
	}
	const layout = "2006-01-02"
	statements := []string{
		"CREATE TABLE atomic." + name + " (LIKE atomic.events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)",
		fmt.Sprintf("ALTER TABLE atomic.events ATTACH PARTITION atomic.%s FOR VALUES FROM ('%s') TO ('%s')",
			name, d.time().Format(layout), (d + 1).time().Format(layout)),
	}
	for _, s := range statements {
		if _, err := c.Exec(ctx, s); err != nil {
			if sqlState(err) != "42P17" { // it would overlap: a partition of the owner's covers the day
				return fmt.Errorf("make partition %s: %w", name, err)
			}
			_, err := c.Exec(ctx, "ROLLBACK TO SAVEPOINT making")
			return err
		}
	}
	if _, err := c.Exec(ctx, "RELEASE SAVEPOINT making"); err != nil {
		return err
	}
	// It is empty: what was counted went with a partition that somebody else dropped.
	_, err = c.Exec(ctx, "DELETE FROM atomic.totals WHERE name = 'events' AND day = $1", d.time())
	return err
}

// dropPartition drops a day with all its rows, and returns how many they were. It
// waits only a moment for those who use the table, since others queue behind it.
func dropPartition(ctx context.Context, c *pgConn, part partition) (int, error) {
	var n int
	err := c.transact(ctx, func() error {
		if _, err := c.Exec(ctx, "SELECT pg_advisory_xact_lock($1), set_config('lock_timeout', $2, true)", int64(pgLockTables), pgDDLWait); err != nil {
			return err
		}
		if _, err := c.Exec(ctx, "DROP TABLE IF EXISTS "+part.table); err != nil {
			return err
		}
		if _, err := c.Exec(ctx, "INSERT INTO atomic.past_days (day) VALUES ($1) ON CONFLICT DO NOTHING", part.day.time()); err != nil {
			return err
		}
		// The lock on events is ours, so nobody is counting rows of that day.
		return c.QueryRow(ctx, `WITH gone AS (DELETE FROM atomic.totals WHERE name = 'events' AND day = $1 RETURNING rows)
SELECT coalesce(sum(rows), 0)::bigint FROM gone`, part.day.time()).Scan(&n)
	})
	if err != nil {
		return 0, fmt.Errorf("drop partition %s: %w", strings.ReplaceAll(part.table, `"`, ""), err)
	}
	return n, nil
}
