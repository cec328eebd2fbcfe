package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"furrow/internal/event"
)

// pgSizeAge is how old the size in a status may be: asking for it looks at every
// file of the tables.
const pgSizeAge = 10 * time.Second

// selectPgEvent casts what readers get as text or as a number.
var selectPgEvent = func() string {
	names := make([]string, 0, len(columns))
	for _, f := range columns {
		name := f.Name()
		switch f.Kind() {
		case event.JSON:
			name += "::text"
		case event.Decimal:
			name += "::text"
		case event.Bool:
			name += "::int4"
		}
		names = append(names, name)
	}
	return "SELECT " + strings.Join(names, ", ") + " FROM atomic.events WHERE collector_tstamp = $1 AND event_id = $2"
}()

// Event returns the stored event with the id, its columns in table order, and
// whether there is one.
func (p *Postgres) Event(ctx context.Context, id string) ([]Column, bool, error) {
	key, ok := parseUUID(id)
	if !ok {
		return nil, false, nil
	}
	var row []Column
	err := p.reading(ctx, func(ctx context.Context, c *pgConn) error {
		// The ids know the time, which leads to the partition and the place in it.
		var at time.Time
		const when = "SELECT day + day_millis * interval '1 millisecond' FROM atomic.event_ids WHERE event_id = $1"
		rows, err := c.Query(ctx, when, key)
		if err != nil {
			return err
		}
		found := 0
		if _, err = pgx.ForEachRow(rows, []any{&at}, func() error { found++; return nil }); err != nil || found == 0 {
			return err
		}
		if rows, err = c.Query(ctx, selectPgEvent, at, id); err != nil {
			return err
		}
		events, err := pgx.CollectRows(rows, scanPgEvent)
		if err == nil && len(events) > 0 {
			row = events[0]
		}
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("store: read event %s: %w", id, err)
	}
	return row, row != nil, nil
}

func scanPgEvent(row pgx.CollectableRow) ([]Column, error) {
	values, err := row.Values()
	if err != nil {
		return nil, err
	}
	out := make([]Column, len(columns))
	for i, f := range columns {
		out[i].Name = f.Name()
		switch v := values[i].(type) {
		case nil:
		case int32:
			out[i].Value = int64(v)
		case time.Time:
			out[i].Value = v.Format(timeLayout)
		case string:
			out[i].Value = v
			if f.Kind() == event.Decimal {
				out[i].Value = decimal(v)
			}
		default:
			out[i].Value = v
		}
	}
	return out, nil
}

// Known returns how many of the event ids are stored, or were within the window in
// which an id is unique. An id that is given twice counts once.
func (p *Postgres) Known(ctx context.Context, ids []string) (int, error) {
	distinct := make(map[[16]byte]bool, len(ids))
	for _, id := range ids {
		if key, ok := parseUUID(id); ok {
			distinct[key] = true
		}
	}
	keys := make([][16]byte, 0, len(distinct))
	for key := range distinct {
		keys = append(keys, key)
	}
	known := 0
	for some := range slices.Chunk(keys, knownBatch) {
		err := p.reading(ctx, func(ctx context.Context, c *pgConn) error {
			var n int
			err := c.QueryRow(ctx, "SELECT count(*) FROM atomic.event_ids WHERE event_id = ANY ($1)", some).Scan(&n)
			known += n
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("store: look for %d event ids: %w", len(ids), err)
		}
	}
	return known, nil
}

// Status reads the state of the database. It is cheap at any size: the counts are
// kept, and of the partitions only the first and the last with rows are asked.
func (p *Postgres) Status(ctx context.Context) (Status, error) {
	st := Status{Path: p.place}
	err := p.reading(ctx, func(ctx context.Context, c *pgConn) error {
		var err error
		if st.Bytes, err = p.bytes(ctx, c, pgSizeAge); err != nil {
			return err
		}
		var first, last *time.Time
		err = c.QueryRow(ctx, `WITH days AS (SELECT day, sum(rows) AS rows FROM atomic.totals WHERE name = 'events' GROUP BY day)
SELECT coalesce(sum(rows), 0)::int8, min(day) FILTER (WHERE rows > 0), max(day) FILTER (WHERE rows > 0),
  (SELECT coalesce(sum(rows), 0)::int8 FROM atomic.totals WHERE name = 'bad_rows') FROM days`).Scan(&st.Events, &first, &last, &st.Bad)
		if err != nil || first == nil || last == nil {
			return err
		}
		if st.Oldest, err = edge(ctx, c, "min", *first); err != nil {
			return err
		}
		st.Newest, err = edge(ctx, c, "max", *last)
		return err
	})
	if err != nil {
		return Status{}, fmt.Errorf("store: read the status: %w", err)
	}
	if st.Events > 0 {
		st.BytesPerEvent = st.Bytes / st.Events
	}
	return st, nil
}

// edge is the first or last collector time of a day; zero when its rows went since
// they were counted.
func edge(ctx context.Context, c *pgConn, function string, day time.Time) (time.Time, error) {
	var at *time.Time
	query := "SELECT " + function + "(collector_tstamp) FROM atomic.events WHERE collector_tstamp >= $1 AND collector_tstamp < $2"
	err := c.QueryRow(ctx, query, day, day.AddDate(0, 0, 1)).Scan(&at)
	if err != nil || at == nil {
		return time.Time{}, err
	}
	return at.UTC(), nil
}

// bytes is what the tables take with indices and all, at most so old.
func (p *Postgres) bytes(ctx context.Context, c *pgConn, age time.Duration) (int64, error) {
	p.mu.Lock()
	size, measured := p.size, p.measured
	p.mu.Unlock()
	if !measured.IsZero() && time.Since(measured) < age {
		return size, nil
	}
	err := c.QueryRow(ctx, `SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::int8 FROM pg_class c
WHERE c.relnamespace = 'atomic'::regnamespace AND c.relkind = 'r'`).Scan(&size)
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	p.size, p.measured = size, time.Now()
	p.mu.Unlock()
	return size, nil
}
