package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	pgTrimBad = 1000 // bad rows of one deleting transaction
	// Blocks of the table of ids, each of some hundred ids, that one deleting
	// transaction reads.
	pgTrimBlocks = 1000
)

// Run makes partitions ahead and applies the retention until ctx ends. Several
// recorders may run it on one database.
func (p *Postgres) Run(ctx context.Context) error {
	ticker := time.NewTicker(trimEvery)
	defer ticker.Stop()
	failing := false
	for {
		err := p.tend(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !failing {
			p.log.Warn("cannot make partitions or delete old rows, will try again", "error", err)
		} else if err == nil && failing {
			p.log.Info("partitions are made and old rows are deleted again")
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (p *Postgres) tend(ctx context.Context) error {
	today := dayOf(p.clock())
	days := make([]pgDay, 0, p.cfg.PartitionsAhead+1)
	for d := today; d <= today+pgDay(p.cfg.PartitionsAhead); d++ { //nolint:gosec // at most 366
		days = append(days, d)
	}
	if err := p.ensure(ctx, days); err != nil {
		return fmt.Errorf("store: make partitions ahead: %w", err)
	}
	_, err := p.Trim(ctx, p.clock())
	return err
}

// Trim drops the days that are over the retention as a whole, and bad rows by
// their time; then the oldest days until the database fits its size, never today's
// or later ones; then ids that no longer need to be unique. A partition that
// somebody reads is left for the next time.
func (p *Postgres) Trim(ctx context.Context, now time.Time) (Trimmed, error) {
	total, err := p.trim(ctx, now)
	p.metrics.deleted.WithLabelValues("events").Add(float64(total.Events))
	p.metrics.deleted.WithLabelValues("bad_rows").Add(float64(total.Bad))
	if total != (Trimmed{}) {
		p.log.Info("old rows deleted", "events", total.Events, "bad_rows", total.Bad)
	}
	if err != nil {
		return total, fmt.Errorf("store: delete old rows: %w", err)
	}
	return total, nil
}

func (p *Postgres) trim(ctx context.Context, now time.Time) (Trimmed, error) {
	var total Trimmed
	if p.cfg.Retention > 0 {
		// The day of the cut itself still has rows that are to be kept.
		n, err := p.dropBefore(ctx, dayOf(now.Add(-p.cfg.Retention)))
		total.add(n)
		if err != nil {
			return total, err
		}
		n, err = p.trimBad(ctx, now.Add(-p.cfg.Retention))
		total.add(n)
		if err != nil {
			return total, err
		}
	}
	n, err := p.fit(ctx, dayOf(now))
	total.add(n)
	if err != nil {
		return total, err
	}
	if err := p.noteDropped(ctx); err != nil {
		return total, err
	}
	return total, p.forgetIDs(ctx, dayOf(now)-pgDay(p.cfg.DedupDays)) //nolint:gosec // some years at most
}

// dropBefore drops the partitions of the days before. It goes on past one that is
// in use, and then returns that error.
func (p *Postgres) dropBefore(ctx context.Context, before pgDay) (Trimmed, error) {
	var total Trimmed
	parts, err := p.partitions(ctx)
	if err != nil {
		return total, err
	}
	var errs []error
	for _, part := range parts {
		if !part.ours || part.day >= before {
			continue
		}
		n, err := p.drop(ctx, part)
		total.Events += n
		if errs = append(errs, err); ctx.Err() != nil {
			break
		}
	}
	return total, errors.Join(errs...)
}

func (p *Postgres) drop(ctx context.Context, part partition) (n int, err error) {
	err = p.writing(ctx, func(ctx context.Context, c *pgConn) error {
		n, err = dropPartition(ctx, c, part)
		return err
	})
	p.mu.Lock()
	delete(p.days, part.day)
	p.measured = time.Time{}
	p.mu.Unlock()
	return n, err
}

// trimBad deletes bad rows, a few at a time.
func (p *Postgres) trimBad(ctx context.Context, before time.Time) (Trimmed, error) {
	var total Trimmed
	condition := fmt.Sprintf(`id = ANY (ARRAY(
  SELECT id FROM atomic.bad_failures WHERE time < $1 ORDER BY time LIMIT %d))`, pgTrimBad)
	for {
		n, err := p.deleteBad(ctx, condition, badTime(before))
		total.Bad += n
		if err != nil || n < pgTrimBad {
			return total, err
		}
	}
}

// fit drops the oldest days, and bad rows of the same age, while the tables are
// larger than they may be.
func (p *Postgres) fit(ctx context.Context, today pgDay) (Trimmed, error) {
	var total Trimmed
	size, err := p.measure(ctx)
	if err != nil || p.cfg.MaxBytes == 0 || size <= p.cfg.MaxBytes {
		return total, err
	}
	parts, err := p.partitions(ctx)
	if err != nil {
		return total, err
	}
	parts = slices.DeleteFunc(parts, func(part partition) bool { return !part.ours || part.day >= today })
	slices.SortFunc(parts, func(a, b partition) int { return int(a.day - b.day) })
	for _, part := range parts {
		if size <= p.cfg.MaxBytes {
			break
		}
		n, err := p.drop(ctx, part)
		total.Events += n
		if err != nil {
			return total, err
		}
		gone, err := p.trimBad(ctx, (part.day + 1).time())
		total.add(gone)
		if err != nil {
			return total, err
		}
		if gone.Bad > 0 { // its pages are free for the next bad rows
			if err := p.vacuum(ctx, "atomic.bad_failures, atomic.bad_records"); err != nil {
				return total, err
			}
		}
		if size, err = p.measure(ctx); err != nil {
			return total, err
		}
	}
	if size > p.cfg.MaxBytes {
		p.log.Warn("the database is above its size and has no day left to drop but today's", "bytes", size, "max_bytes", p.cfg.MaxBytes)
	}
	return total, nil
}

func (p *Postgres) measure(ctx context.Context) (size int64, err error) {
	err = p.writing(ctx, func(ctx context.Context, c *pgConn) error {
		size, err = p.bytes(ctx, c, 0)
		return err
	})
	if err == nil {
		p.metrics.size.Set(float64(size))
	}
	return size, err
}

// noteDropped notes the days whose partition somebody else dropped or detached, as if
// the retention had, so that their rows are not counted and their ids end. Where the
// owner has partitions of other spans it is not known which days those hold.
func (p *Postgres) noteDropped(ctx context.Context) error {
	return p.writing(ctx, func(ctx context.Context, c *pgConn) error {
		return c.transact(ctx, func() error {
			// Nobody makes or drops a partition meanwhile.
			if _, err := c.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(pgLockTables)); err != nil {
				return err
			}
			have, others, err := daysOfPartitions(ctx, c)
			if err != nil || others {
				return err
			}
			days := make([]time.Time, 0, len(have))
			for _, d := range have {
				days = append(days, d.time())
			}
			_, err = c.Exec(ctx, `WITH gone AS (DELETE FROM atomic.totals WHERE name = 'events' AND day <> ALL ($1::date[]) RETURNING day)
INSERT INTO atomic.past_days (day) SELECT DISTINCT day FROM gone ON CONFLICT DO NOTHING`, days)
			return err
		})
	})
}

// forgetIDs deletes the ids of days before unique whose partition is gone. An id is
// unique for as long as its event is stored, and for the days of the configuration
// in any case.
func (p *Postgres) forgetIDs(ctx context.Context, unique pgDay) error {
	var days []time.Time
	err := p.writing(ctx, func(ctx context.Context, c *pgConn) error {
		rows, err := c.Query(ctx, "SELECT day FROM atomic.past_days WHERE day < $1 ORDER BY day", unique.time())
		if err != nil {
			return err
		}
		days, err = pgx.CollectRows(rows, pgx.RowTo[time.Time])
		return err
	})
	if err != nil {
		return err
	}
	if len(days) == 0 {
		return nil
	}
	for block, more := int64(0), true; more; block += pgTrimBlocks {
		err := p.writing(ctx, func(ctx context.Context, c *pgConn) error {
			return c.transact(ctx, func() (err error) {
				more, err = forgetSomeIDs(ctx, c, days, block)
				return err
			})
		})
		if err != nil {
			return fmt.Errorf("ids of %d days: %w", len(days), err)
		}
	}
	return nil
}

// deleteSomeIDs deletes from a range of the table's blocks, which are read as they
// lie: ids of all days come to lie mixed.
const deleteSomeIDs = `DELETE FROM atomic.event_ids WHERE ctid >= $2::text::tid AND ctid < $3::text::tid AND day = ANY ($1::date[])`

// forgetSomeIDs deletes the ids of days from some blocks, unless a day has a
// partition again, and says whether there are more blocks. With the last it deletes
// the notes about the days.
func forgetSomeIDs(ctx context.Context, c *pgConn, days []time.Time, block int64) (more bool, err error) {
	// Nobody makes a partition again meanwhile.
	if _, err := c.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(pgLockTables)); err != nil {
		return false, err
	}
	have, _, err := daysOfPartitions(ctx, c)
	if err != nil {
		return false, err
	}
	gone := slices.DeleteFunc(slices.Clone(days), func(d time.Time) bool { return slices.Contains(have, dayOf(d)) })
	tid := func(block int64) string { return fmt.Sprintf("(%d,0)", block) }
	if _, err := c.Exec(ctx, deleteSomeIDs, gone, tid(block), tid(block+pgTrimBlocks)); err != nil {
		return false, err
	}
	const blocks = "SELECT pg_relation_size('atomic.event_ids') / current_setting('block_size')::int8 > $1"
	if err := c.QueryRow(ctx, blocks, block+pgTrimBlocks).Scan(&more); err != nil || more {
		return more, err
	}
	// Dropping a partition again notes its day again.
	_, err = c.Exec(ctx, "DELETE FROM atomic.past_days WHERE day = ANY ($1::date[])", days)
	return false, err
}
