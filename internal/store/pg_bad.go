package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"furrow/internal/event"
)

const insertPgBad = `INSERT INTO atomic.bad_failures (id, time, schema, failure, record_id, event_index)
SELECT id, time, schema, failure::json, record_id, event_index
FROM unnest($1::text[], $2::timestamp[], $3::text[], $4::text[], $5::bytea[], $6::int4[])
  AS given (id, time, schema, failure, record_id, event_index)
ON CONFLICT (id) DO NOTHING RETURNING record_id`

// insertBadRows inserts the bad rows that are new, in the order of their ids, then
// their records in the order of theirs. It returns how many were new.
func insertBadRows(ctx context.Context, c *pgConn, bad []event.BadRow) (int, error) {
	order := make([]*event.BadRow, len(bad))
	records := map[event.RecordID][]byte{}
	for i := range bad {
		order[i] = &bad[i]
		records[recordOf(&bad[i])] = bad[i].Payload
	}
	slices.SortStableFunc(order, func(a, b *event.BadRow) int { return strings.Compare(a.ID, b.ID) })
	n := 0
	fresh := map[event.RecordID]bool{}
	for len(order) > 0 {
		some := 0
		for size := 0; some < min(len(order), pageRows) && size < pageBytes; some++ {
			size += len(order[some].Failure)
		}
		ids, err := insertFailures(ctx, c, order[:some])
		if err != nil {
			return n, err
		}
		n += len(ids)
		for _, id := range ids {
			fresh[id] = true
		}
		order = order[some:]
	}
	return n, insertRecords(ctx, c, fresh, records)
}

// recordOf is the id of the bad row's record; derived when nobody gave it, lest
// records be mixed up.
func recordOf(b *event.BadRow) event.RecordID {
	if b.Record == (event.RecordID{}) {
		return event.NewRecordID(b.Payload)
	}
	return b.Record
}

func insertFailures(ctx context.Context, c *pgConn, bad []*event.BadRow) ([]event.RecordID, error) {
	var ids, schemas, failures []string
	var times []time.Time
	var records [][]byte
	var indexes []int32
	for _, b := range bad {
		record := recordOf(b)
		ids = append(ids, mendText(b.ID))
		times = append(times, badTime(b.Time))
		schemas = append(schemas, mendText(b.Schema))
		failures = append(failures, mendFailure(b.Failure))
		records = append(records, record[:])
		indexes = append(indexes, int32(b.Index)) //nolint:gosec // a position in one request
	}
	rows, err := c.Query(ctx, insertPgBad, ids, times, schemas, failures, records, indexes)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanRecordID)
}

func scanRecordID(row pgx.CollectableRow) (event.RecordID, error) {
	var raw []byte
	if err := row.Scan(&raw); err != nil {
		return event.RecordID{}, err
	}
	return toRecordID(raw)
}

func toRecordID(raw []byte) (id event.RecordID, err error) {
	if len(raw) != len(id) {
		return id, fmt.Errorf("a record_id has %d bytes, want %d", len(raw), len(id))
	}
	return event.RecordID(raw), nil
}

// badTime is the time as the table holds it. A bad row is never refused for its
// time, so one beyond the years 1 to 9999 is held at their end.
func badTime(t time.Time) time.Time {
	ms := min(max(t.UnixMilli(), dayFirstMillis), dayEndMillis-1)
	return time.UnixMilli(ms).UTC()
}

func insertRecords(ctx context.Context, c *pgConn, fresh map[event.RecordID]bool, records map[event.RecordID][]byte) error {
	order := make([]event.RecordID, 0, len(fresh))
	for id := range fresh {
		order = append(order, id)
	}
	slices.SortFunc(order, func(a, b event.RecordID) int { return slices.Compare(a[:], b[:]) })
	for len(order) > 0 {
		var ids, bytes [][]byte
		for size := 0; len(order) > 0 && size < pageBytes; order = order[1:] {
			record := records[order[0]]
			if record == nil {
				record = []byte{} // nil would be null
			}
			id := order[0]
			ids, bytes = append(ids, id[:]), append(bytes, record)
			size += len(record)
		}
		const query = `INSERT INTO atomic.bad_records (record_id, record)
SELECT * FROM unnest($1::bytea[], $2::bytea[]) ON CONFLICT (record_id) DO NOTHING`
		if _, err := c.Exec(ctx, query, ids, bytes); err != nil {
			return err
		}
	}
	return nil
}

// mendBad rewrites the failures of bad rows that the database refuses, for a depth
// that no JSON column takes for example: a bad row must not be lost.
func (p *Postgres) mendBad(ctx context.Context, b *pgBatch, cause error) error {
	mended := false
	err := p.culprits(ctx, len(b.bad), cause, bisection{
		try: func(ctx context.Context, c *pgConn, from, to int) error {
			_, err := insertBadRows(ctx, c, b.bad[from:to])
			return err
		},
		found: func(i int, _ error) {
			if json.Valid(b.bad[i].Failure) && b.bad[i].Failure[0] == '"' {
				return // a string already: it is not for the failure
			}
			mended = true
			b.bad[i].Failure = []byte(quoteFailure(b.bad[i].Failure))
		},
	})
	if err == nil && !mended {
		return cause
	}
	return err
}

const selectPgBad = "SELECT id, time, schema, failure::text, record_id, event_index, seq FROM atomic.bad_failures "

// pgBadLine is a bad row and its place among those of its record.
type pgBadLine struct {
	event.BadRow
	seq int64
}

func scanPgBad(row pgx.CollectableRow) (pgBadLine, error) {
	var b pgBadLine
	var record []byte
	var failure string
	if err := row.Scan(&b.ID, &b.Time, &b.Schema, &failure, &record, &b.Index, &b.seq); err != nil {
		return b, err
	}
	b.Time, b.Failure = b.Time.UTC(), []byte(failure)
	var err error
	b.Record, err = toRecordID(record)
	return b, err
}

// Bad returns the newest bad rows, newest first. Rows of one record share its
// memory, which must not be changed.
func (p *Postgres) Bad(ctx context.Context, limit int) ([]event.BadRow, error) {
	var out []event.BadRow
	err := p.reading(ctx, func(ctx context.Context, c *pgConn) error {
		rows, err := c.Query(ctx, selectPgBad+"ORDER BY time DESC, seq DESC LIMIT $1", max(limit, 0))
		if err != nil {
			return err
		}
		lines, err := pgx.CollectRows(rows, scanPgBad)
		if err != nil {
			return err
		}
		records := map[event.RecordID][]byte{}
		for i := range lines {
			b := lines[i].BadRow
			record, have := records[b.Record]
			if !have {
				there := false
				if record, there, err = selectRecord(ctx, c, b.Record); err != nil {
					return err
				}
				if !there { // deleted since
					continue
				}
				records[b.Record] = record
			}
			b.Payload = record
			out = append(out, b)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("store: read bad rows: %w", err)
	}
	return out, nil
}

func selectRecord(ctx context.Context, c *pgConn, id event.RecordID) (record []byte, there bool, err error) {
	rows, err := c.Query(ctx, "SELECT record FROM atomic.bad_records WHERE record_id = $1", id[:])
	if err != nil {
		return nil, false, err
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil || len(found) == 0 {
		return nil, false, err
	}
	return found[0], true, nil
}

// EachBad calls fn for every bad row that the filter selects, by record. Nothing is
// held on the server while fn runs. Rows of one record share its memory, which must
// not be changed.
func (p *Postgres) EachBad(ctx context.Context, filter BadFilter, fn func(event.BadRow) error) error {
	var ids []string // nil: all
	if len(filter.IDs) > 0 {
		ids = make([]string, 0, len(filter.IDs))
		for _, id := range filter.IDs {
			ids = append(ids, mendText(id))
		}
	}
	var after pgBadLine
	records := recordReader{read: p.badRecord}
	for first := true; ; first = false {
		lines, err := p.badPage(ctx, filter, ids, after, first)
		if err != nil {
			return fmt.Errorf("store: read bad rows: %w", err)
		}
		if len(lines) == 0 {
			return nil
		}
		after = lines[len(lines)-1]
		for i := range lines {
			if err := records.pass(ctx, &lines[i].BadRow, filter, fn); err != nil {
				return err
			}
		}
	}
}

// badPage returns the next rows of the filter's ids and times.
func (p *Postgres) badPage(ctx context.Context, filter BadFilter, ids []string, after pgBadLine, first bool) ([]pgBadLine, error) {
	var lines []pgBadLine
	err := p.reading(ctx, func(ctx context.Context, c *pgConn) error {
		from, to := time.UnixMilli(dayFirstMillis).UTC(), time.UnixMilli(dayEndMillis).UTC()
		if !filter.From.IsZero() {
			from = badTime(filter.From)
		}
		if !filter.To.IsZero() {
			to = badTime(filter.To).Add(time.Millisecond) // selects knows exactly
		}
		key := after.Record[:]
		if first {
			key = []byte{}
		}
		rows, err := c.Query(ctx, selectPgBad+`WHERE (record_id, seq) > ($1, $2) AND ($3::text[] IS NULL OR id = ANY ($3))
AND time >= $4 AND time < $5 ORDER BY record_id, seq LIMIT $6`, key, after.seq, ids, from, to, pageRows)
		if err != nil {
			return err
		}
		lines, err = pgx.CollectRows(rows, scanPgBad)
		return err
	})
	return lines, err
}

func (p *Postgres) badRecord(ctx context.Context, id event.RecordID) (record []byte, there bool, err error) {
	err = p.reading(ctx, func(ctx context.Context, c *pgConn) error {
		record, there, err = selectRecord(ctx, c, id)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("store: read record %s: %w", id, err)
	}
	return record, there, nil
}

// DeleteBad deletes bad rows by id, and records with their last row. It returns
// how many there were, also when it fails on the way.
func (p *Postgres) DeleteBad(ctx context.Context, ids []string) (int, error) {
	gone := 0
	for some := range slices.Chunk(ids, badBatch) {
		mended := make([]string, len(some))
		for i, id := range some {
			mended[i] = mendText(id)
		}
		n, err := p.deleteBad(ctx, "id = ANY ($1)", mended)
		gone += n
		if err != nil {
			return gone, fmt.Errorf("store: delete %d bad rows: %w", len(ids), err)
		}
	}
	return gone, nil
}

// deleteBad deletes the bad rows of a condition with one argument.
func (p *Postgres) deleteBad(ctx context.Context, condition string, argument any) (int, error) {
	n := 0
	err := p.writing(ctx, func(ctx context.Context, c *pgConn) error {
		return c.transact(ctx, func() error {
			var err error
			if err = lockBad(ctx, c); err != nil {
				return err
			}
			n, err = p.deleteBadRows(ctx, c, condition, argument)
			return err
		})
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// lockBad keeps inserts of bad rows out until the transaction ends: one could add
// a row to a record that is just going with its last.
func lockBad(ctx context.Context, c *pgConn) error {
	_, err := c.Exec(ctx, "LOCK TABLE atomic.bad_failures IN SHARE ROW EXCLUSIVE MODE")
	return err
}

func (p *Postgres) deleteBadRows(ctx context.Context, c *pgConn, condition string, argument any) (int, error) {
	rows, err := c.Query(ctx, "DELETE FROM atomic.bad_failures WHERE "+condition+" RETURNING record_id", argument)
	if err != nil {
		return 0, err
	}
	records, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil || len(records) == 0 {
		return 0, err
	}
	n := len(records)
	slices.SortFunc(records, slices.Compare[[]byte])
	records = slices.CompactFunc(records, slices.Equal[[]byte])
	const unused = `DELETE FROM atomic.bad_records AS r WHERE record_id = ANY ($1)
AND NOT EXISTS (SELECT FROM atomic.bad_failures AS f WHERE f.record_id = r.record_id)`
	if _, err := c.Exec(ctx, unused, records); err != nil {
		return 0, err
	}
	var batch pgx.Batch
	p.queueTotals(&batch, []total{{name: "bad_rows", rows: -int64(n)}})
	return n, c.SendBatch(ctx, &batch).Close()
}
