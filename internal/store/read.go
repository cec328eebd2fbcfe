package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"furrow/internal/event"
)

// Column is one cell of a stored event. Value is nil, string, int64 or float64.
type Column struct {
	Name  string
	Value any
}

// Status describes the database as it is now.
type Status struct {
	Path          string    `json:"path"`
	Events        int64     `json:"events"`
	Bad           int64     `json:"bad"`
	Bytes         int64     `json:"bytes"`         // on disk, the write-ahead log included
	BytesPerEvent int64     `json:"bytesPerEvent"` // used space over events, indices and bad rows included; 0 when there are none
	Oldest        time.Time `json:"oldest"`        // collector time of the oldest event, zero when there is none
	Newest        time.Time `json:"newest"`
}

var selectEvent = func() string {
	names := make([]string, 0, len(columns))
	for _, f := range columns {
		names = append(names, `"`+f.Name()+`"`)
	}
	return "SELECT " + strings.Join(names, ", ") + " FROM events WHERE event_id = ?"
}()

// Event returns the stored event with the id, its columns in table order, and
// whether there is one.
func (s *SQLite) Event(ctx context.Context, id string) ([]Column, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ReadTimeout)
	defer cancel()
	row := make([]Column, len(columns))
	into := make([]any, len(columns))
	for i, f := range columns {
		row[i].Name = f.Name()
		into[i] = &row[i].Value
	}
	err := s.pool.QueryRowContext(ctx, selectEvent, id).Scan(into...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("store: read event %s: %w", id, err)
	}
	return row, true, nil
}

// Bad returns the newest bad rows, newest first.
func (s *SQLite) Bad(ctx context.Context, limit int) ([]event.BadRow, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ReadTimeout)
	defer cancel()
	rows, err := s.pool.QueryContext(ctx, `SELECT id, time, schema, failure, record, event_index
FROM bad_rows ORDER BY time DESC, rowid DESC LIMIT ?`, limit)
	if err != nil {
		return nil, fmt.Errorf("store: read bad rows: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells what went wrong
	var out []event.BadRow
	for rows.Next() {
		var b event.BadRow
		var at, failure string
		if err := rows.Scan(&b.ID, &at, &b.Schema, &failure, &b.Payload, &b.Index); err != nil {
			return nil, fmt.Errorf("store: read bad rows: %w", err)
		}
		b.Failure = []byte(failure)
		b.Record = event.NewRecordID(b.Payload)
		if b.Time, err = time.Parse(timeLayout, at); err != nil {
			return nil, fmt.Errorf("store: bad row %s: %w", b.ID, err)
		}
		out = append(out, b)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("store: read bad rows: %w", err)
	}
	return out, nil
}

// Status reads the state of the database. It is cheap at any size.
func (s *SQLite) Status(ctx context.Context) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ReadTimeout)
	defer cancel()
	st := Status{Path: s.path, Bytes: s.diskBytes()}
	var oldest, newest sql.NullString
	var pages, free, pageSize int64
	err := s.pool.QueryRowContext(
		ctx, `SELECT
  (SELECT rows FROM totals WHERE name = 'events'),
  (SELECT rows FROM totals WHERE name = 'bad_rows'),
  (SELECT min(collector_tstamp) FROM events),
  (SELECT max(collector_tstamp) FROM events),
  (SELECT page_count FROM pragma_page_count()),
  (SELECT freelist_count FROM pragma_freelist_count()),
  (SELECT page_size FROM pragma_page_size())`,
	).Scan(&st.Events, &st.Bad, &oldest, &newest, &pages, &free, &pageSize)
	if err != nil {
		return Status{}, fmt.Errorf("store: read the status: %w", err)
	}
	if st.Events > 0 {
		st.BytesPerEvent = (pages - free) * pageSize / st.Events
	}
	if oldest.Valid && newest.Valid {
		var errs [2]error
		st.Oldest, errs[0] = time.Parse(timeLayout, oldest.String)
		st.Newest, errs[1] = time.Parse(timeLayout, newest.String)
		if err := errors.Join(errs[:]...); err != nil {
			return Status{}, fmt.Errorf("store: read the status: %w", err)
		}
	}
	return st, nil
}

// diskBytes is what the files of the database take. One that is missing takes
// nothing.
func (s *SQLite) diskBytes() int64 {
	var n int64
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if info, err := os.Stat(s.path + suffix); err == nil {
			n += info.Size()
		}
	}
	return n
}
