package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"furrow/internal/event"
)

const (
	pageRows  = 1000    // rows that one read takes
	pageBytes = 4 << 20 // and their size, if one row is not larger
	badBatch  = 500     // bad rows of one deleting transaction
)

func storable(text string) bool { return utf8.ValidString(text) && !strings.ContainsRune(text, 0) }

// badKey is a place in the order in which bad rows are read: by record, so that
// the rows of one stay together, then as they came.
type badKey struct {
	record string
	rowid  int64
}

type badLine struct {
	event.BadRow
	key badKey
}

// EachBad calls fn for every bad row that the filter selects, by record. No
// transaction is open while fn runs, so it may take its time and write. Rows of
// one record share its memory, which must not be changed.
func (s *SQLite) EachBad(ctx context.Context, filter BadFilter, fn func(event.BadRow) error) error {
	page := s.badByRecord
	if len(filter.IDs) > 0 {
		keys, err := s.badKeys(ctx, filter.IDs)
		if err != nil {
			return fmt.Errorf("store: find %d bad rows: %w", len(filter.IDs), err)
		}
		page = func(ctx context.Context, after badKey) ([]badLine, error) { return s.badByKey(ctx, keys, after) }
	}
	records := recordReader{read: s.badRecord}
	for after := (badKey{rowid: math.MinInt64}); ; {
		lines, err := page(ctx, after)
		if err != nil {
			return fmt.Errorf("store: read bad rows: %w", err)
		}
		if len(lines) == 0 {
			return nil
		}
		after = lines[len(lines)-1].key
		for i := range lines {
			if err := records.pass(ctx, &lines[i].BadRow, filter, fn); err != nil {
				return err
			}
		}
	}
}

// recordReader reads records, keeping the last one for the rows that follow.
type recordReader struct {
	read   func(ctx context.Context, id event.RecordID) (record []byte, there bool, err error)
	id     event.RecordID
	record []byte
	there  bool
}

// pass calls fn with a bad row that the filter selects.
func (r *recordReader) pass(ctx context.Context, b *event.BadRow, filter BadFilter, fn func(event.BadRow) error) error {
	if !filter.selects(b) {
		return nil
	}
	if filter.Records {
		there, err := r.fill(ctx, b)
		if err != nil || !there { // deleted meanwhile
			return err
		}
	}
	return fn(*b)
}

// fill gives a bad row its record, and reports whether there is one.
func (r *recordReader) fill(ctx context.Context, b *event.BadRow) (bool, error) {
	if !r.there || r.id != b.Record {
		record, there, err := r.read(ctx, b.Record)
		if err != nil {
			return false, err
		}
		r.id, r.record, r.there = b.Record, record, there
	}
	b.Payload = r.record
	return r.there, nil
}

// selects applies what is not looked up through an index.
func (f *BadFilter) selects(b *event.BadRow) bool {
	if !f.From.IsZero() && b.Time.Before(f.From) || !f.To.IsZero() && !b.Time.Before(f.To) {
		return false
	}
	if f.Schema == "" || f.Schema == b.Schema {
		return true
	}
	// iglu:VENDOR/NAME/FORMAT/VERSION
	parts := strings.Split(strings.TrimPrefix(b.Schema, "iglu:"), "/")
	return len(parts) == 4 && parts[1] == f.Schema
}

const badColumns = "SELECT id, time, schema, failure, record_id, event_index, rowid FROM bad_failures "

func (s *SQLite) badByRecord(ctx context.Context, after badKey) ([]badLine, error) {
	return s.badPage(ctx, badColumns+"WHERE (record_id, rowid) > (?, ?) ORDER BY record_id, rowid LIMIT ?",
		after.record, after.rowid, pageRows)
}

// badByKey is badByRecord for some rows only, whose sorted keys it gets.
func (s *SQLite) badByKey(ctx context.Context, keys []badKey, after badKey) ([]badLine, error) {
	at, found := slices.BinarySearchFunc(keys, after, compareKeys)
	if found {
		at++
	}
	for at < len(keys) {
		some := keys[at:min(at+pageRows, len(keys))]
		rowids := make([]int64, len(some))
		for i, k := range some {
			rowids[i] = k.rowid
		}
		list, err := numberList(rowids)
		if err != nil {
			return nil, err
		}
		lines, err := s.badPage(ctx, badColumns+"WHERE rowid IN (SELECT value FROM json_each(?)) ORDER BY record_id, rowid", list)
		if err != nil || len(lines) > 0 {
			return lines, err
		}
		at += len(some) // all of them were deleted meanwhile
	}
	return nil, nil
}

func compareKeys(a, b badKey) int {
	if c := strings.Compare(a.record, b.record); c != 0 {
		return c
	}
	switch {
	case a.rowid < b.rowid:
		return -1
	case a.rowid > b.rowid:
		return 1
	}
	return 0
}

// badKeys returns where the bad rows with these ids are, in order.
func (s *SQLite) badKeys(ctx context.Context, ids []string) ([]badKey, error) {
	var keys []badKey
	for some := range slices.Chunk(ids, pageRows) {
		list, err := textList(some)
		if err != nil {
			return nil, err
		}
		const query = "SELECT record_id, rowid FROM bad_failures WHERE id IN (SELECT value FROM json_each(?))"
		err = s.read(ctx, query, []any{list}, func(rows *sql.Rows) (bool, error) {
			var k badKey
			if err := rows.Scan(&k.record, &k.rowid); err != nil {
				return false, err
			}
			keys = append(keys, k)
			return true, nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(keys, compareKeys)
	return slices.Compact(keys), nil
}

func (s *SQLite) badPage(ctx context.Context, query string, args ...any) ([]badLine, error) {
	var lines []badLine
	size := 0
	err := s.read(ctx, query, args, func(rows *sql.Rows) (bool, error) {
		line, err := scanBad(rows)
		if err != nil {
			return false, err
		}
		lines = append(lines, line)
		size += len(line.Failure)
		return size < pageBytes, nil
	})
	return lines, err
}

func scanBad(rows *sql.Rows) (badLine, error) {
	var b badLine
	var at string
	if err := rows.Scan(&b.ID, &at, &b.Schema, &b.Failure, &b.key.record, &b.Index, &b.key.rowid); err != nil {
		return b, err
	}
	var err error
	if b.Record, err = recordID(b.key.record); err != nil {
		return b, fmt.Errorf("bad row %s: %w", b.ID, err)
	}
	if b.Time, err = time.Parse(timeLayout, at); err != nil {
		return b, fmt.Errorf("bad row %s: %w", b.ID, err)
	}
	return b, nil
}

func recordID(text string) (event.RecordID, error) {
	var id event.RecordID
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(id) {
		return id, fmt.Errorf("record_id %q is not 64 hex digits", text)
	}
	return event.RecordID(raw), nil
}

// badRecord returns a record, and whether it is there.
func (s *SQLite) badRecord(ctx context.Context, id event.RecordID) (record []byte, ok bool, err error) {
	err = s.read(ctx, "SELECT record FROM bad_records WHERE record_id = ?", []any{id.String()}, func(rows *sql.Rows) (bool, error) {
		ok = true
		return false, rows.Scan(&record)
	})
	if err != nil {
		return nil, false, fmt.Errorf("store: read record %s: %w", id, err)
	}
	return record, ok, nil
}

// read calls each for the rows of one read with a deadline, until each says that
// it has enough.
func (s *SQLite) read(ctx context.Context, query string, args []any, each func(*sql.Rows) (more bool, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ReadTimeout)
	defer cancel()
	rows, err := s.pool.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells what went wrong
	for rows.Next() {
		more, err := each(rows)
		if err != nil || !more {
			return errors.Join(err, rows.Close())
		}
	}
	return rows.Err()
}

// DeleteBad deletes bad rows by id, and records with their last row. It returns
// how many there were, also when it fails on the way.
func (s *SQLite) DeleteBad(ctx context.Context, ids []string) (int, error) {
	total := 0
	for some := range slices.Chunk(ids, badBatch) {
		n, err := s.deleteBad(ctx, some)
		total += int(n)
		if err != nil {
			return total, fmt.Errorf("store: delete %d bad rows: %w", len(ids), err)
		}
	}
	return total, nil
}

func (s *SQLite) deleteBad(ctx context.Context, ids []string) (int64, error) {
	list, err := textList(ids)
	if err != nil {
		return 0, err
	}
	if err := s.acquire(ctx); err != nil {
		return 0, err
	}
	defer s.release()
	return s.change(func() (int64, error) {
		n, err := s.writer.exec("DELETE FROM bad_failures WHERE id IN (SELECT value FROM json_each(?))", list)
		if err != nil {
			return 0, err
		}
		return n, s.count(0, -n, 0)
	})
}
