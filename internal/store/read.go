package store

import (
	"context"
	"database/sql"
	"encoding/hex"
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

// Bad returns the newest bad rows, newest first. Rows of one record share its
// memory, which must not be changed.
func (s *SQLite) Bad(ctx context.Context, limit int) ([]event.BadRow, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ReadTimeout)
	defer cancel()
	// One view of the database, so that no record is deleted between the reads.
	tx, err := s.pool.BeginTx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("store: read bad rows: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // it only reads
	out, err := failures(ctx, tx, limit)
	if err != nil {
		return nil, fmt.Errorf("store: read bad rows: %w", err)
	}
	records := map[event.RecordID][]byte{}
	for i := range out {
		b := &out[i]
		record, ok := records[b.Record]
		if !ok {
			const query = "SELECT record FROM bad_records WHERE record_id = ?"
			if err := tx.QueryRowContext(ctx, query, b.Record.String()).Scan(&record); err != nil {
				return nil, fmt.Errorf("store: record %s of bad row %s: %w", b.Record, b.ID, err)
			}
			records[b.Record] = record
		}
		b.Payload = record
	}
	return out, nil
}

// failures returns the newest bad rows without their records.
func failures(ctx context.Context, tx *sql.Tx, limit int) ([]event.BadRow, error) {
	rows, err := tx.QueryContext(ctx, `SELECT id, time, schema, failure, record_id, event_index
FROM bad_failures ORDER BY time DESC, rowid DESC LIMIT ?`, limit)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells what went wrong
	var out []event.BadRow
	for rows.Next() {
		var b event.BadRow
		var at, record string
		if err := rows.Scan(&b.ID, &at, &b.Schema, &b.Failure, &record, &b.Index); err != nil {
			return nil, err
		}
		id, err := hex.DecodeString(record)
		if err != nil || len(id) != len(b.Record) {
			return nil, fmt.Errorf("bad row %s: record_id %q is not 64 hex digits", b.ID, record)
		}
		b.Record = event.RecordID(id)
		if b.Time, err = time.Parse(timeLayout, at); err != nil {
			return nil, fmt.Errorf("bad row %s: %w", b.ID, err)
		}
		out = append(out, b)
	}
	return out, rows.Err()
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
