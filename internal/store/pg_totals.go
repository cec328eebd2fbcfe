package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

const addTotals = `INSERT INTO atomic.totals AS t (name, day, slot, rows)
SELECT name, date '1970-01-01' + day, $4, n FROM unnest($1::text[], $2::int4[], $3::int8[]) AS given (name, day, n)
ON CONFLICT (name, day, slot) DO UPDATE SET rows = t.rows + excluded.rows`

// total is a change of a count. Bad rows are counted under day 0.
type total struct {
	name string
	day  pgDay
	rows int64
}

// queueTotals adds to the counts, in the order in which everybody does.
func (p *Postgres) queueTotals(batch *pgx.Batch, changes []total) {
	slices.SortFunc(changes, func(a, b total) int {
		if a.name != b.name {
			return bytes.Compare([]byte(a.name), []byte(b.name))
		}
		return int(a.day - b.day)
	})
	var names []string
	var days []int32
	var counts []int64
	for _, t := range changes {
		names, days, counts = append(names, t.name), append(days, int32(t.day)), append(counts, t.rows)
	}
	if len(names) > 0 {
		batch.Queue(addTotals, names, days, counts, p.slot)
	}
}

// finish moves the counts with the tables and commits.
func (p *Postgres) finish(ctx context.Context, c *pgConn, items []pgItem, bad int) error {
	var changes []total
	for i := range items {
		if items[i].verdict != stored {
			continue
		}
		at := slices.IndexFunc(changes, func(t total) bool { return t.day == items[i].day })
		if at < 0 {
			at = len(changes)
			changes = append(changes, total{name: "events", day: items[i].day})
		}
		changes[at].rows++
	}
	if bad > 0 {
		changes = append(changes, total{name: "bad_rows", rows: int64(bad)})
	}
	return p.commit(ctx, c, changes)
}

func (p *Postgres) commit(ctx context.Context, c *pgConn, changes []total) error {
	var batch pgx.Batch
	p.queueTotals(&batch, changes)
	batch.Queue("COMMIT")
	results := c.SendBatch(ctx, &batch)
	for range batch.Len() - 1 {
		if _, err := results.Exec(); err != nil {
			return errors.Join(err, results.Close())
		}
	}
	// COMMIT of a transaction that failed says ROLLBACK, and no error.
	tag, err := results.Exec()
	if err == nil && tag.String() != "COMMIT" {
		err = fmt.Errorf("the server answered %q to COMMIT", tag)
	}
	return errors.Join(err, results.Close())
}
