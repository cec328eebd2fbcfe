package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"furrow/internal/event"
)

const (
	scanRows   = 2000 // row numbers that one read looks at
	forgetRows = 200  // rows of one deleting transaction; they lie scattered
)

// ofPerson selects the events of a list of identifiers up to a time. The plus
// keeps SQLite from walking the index of times.
const ofPerson = `+collector_tstamp <= ?1 AND (
  user_id IN (SELECT value FROM json_each(?2)) OR
  domain_userid IN (SELECT value FROM json_each(?2)) OR
  network_userid IN (SELECT value FROM json_each(?2)))`

// Forget deletes people's events and bad rows in small transactions, between which
// inserts run, then clears the free space of the file and its log. After an error
// or a crash it may be repeated with the same order.
//
// It reads the whole file twice, and waits for readers that keep the log alive.
func (s *SQLite) Forget(ctx context.Context, order Forgetting) (Forgotten, error) {
	var done Forgotten
	if err := s.forgetEvents(ctx, order, &done); err != nil {
		return done, fmt.Errorf("store: forget the events of %d identifiers: %w", len(order.Identifiers), err)
	}
	if err := s.forgetRecords(ctx, order, &done); err != nil {
		return done, fmt.Errorf("store: forget in bad rows: %w", err)
	}
	if err := s.scrub(ctx); err != nil {
		return done, fmt.Errorf("store: clear what was deleted from %s: %w", s.path, err)
	}
	return done, nil
}

func (s *SQLite) forgetEvents(ctx context.Context, order Forgetting, done *Forgotten) error {
	identifiers, err := textList(slices.DeleteFunc(slices.Clone(order.Identifiers), func(i string) bool { return i == "" }))
	if err != nil || identifiers == "[]" {
		return err
	}
	until := timeText(order.Until)
	const query = "SELECT rowid FROM events WHERE rowid BETWEEN ?3 AND ?4 AND " + ofPerson
	return s.eachRange(ctx, func(first, last int64) error {
		var found []int64
		err := s.read(ctx, query, []any{until, identifiers, first, last}, func(rows *sql.Rows) (bool, error) {
			var n int64
			err := rows.Scan(&n)
			found = append(found, n)
			return true, err
		})
		if err != nil {
			return err
		}
		for some := range slices.Chunk(found, forgetRows) {
			n, err := s.forgetSome(ctx, some, until, identifiers)
			done.Events += n
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// eachRange calls fn for ranges of row numbers until it has passed the last row of
// events, those included that came meanwhile.
func (s *SQLite) eachRange(ctx context.Context, fn func(first, last int64) error) error {
	for after := int64(math.MinInt64); ; {
		var first sql.NullInt64
		err := s.read(ctx, "SELECT min(rowid) FROM events WHERE rowid > ?", []any{after}, func(rows *sql.Rows) (bool, error) {
			return false, rows.Scan(&first)
		})
		if err != nil || !first.Valid {
			return err
		}
		after = math.MaxInt64
		if first.Int64 < math.MaxInt64-scanRows {
			after = first.Int64 + scanRows - 1
		}
		if err := fn(first.Int64, after); err != nil {
			return err
		}
	}
}

func numberList(numbers []int64) (string, error) {
	list, err := json.Marshal(numbers)
	return string(list), err
}

var (
	// The rows are judged again: a number may have passed to another row since.
	personsRows = "FROM events WHERE rowid IN (SELECT value FROM json_each(?3)) AND " + ofPerson
	forgetIDs   = "DELETE FROM past_ids WHERE event_id IN (SELECT " + pastKeySQL("event_id") + " " + personsRows + ")"
)

func (s *SQLite) forgetSome(ctx context.Context, rowids []int64, until, identifiers string) (int64, error) {
	list, err := numberList(rowids)
	if err != nil {
		return 0, err
	}
	if err := s.acquire(ctx); err != nil {
		return 0, err
	}
	defer s.release()
	return s.change(func() (int64, error) {
		past, err := s.writer.exec(forgetIDs, until, identifiers, list)
		if err != nil {
			return 0, err
		}
		n, err := s.writer.exec("DELETE "+personsRows, until, identifiers, list)
		if err != nil {
			return 0, err
		}
		return n, s.count(-n, 0, -past)
	})
}

// keptRecord is a record of bad rows as it lies in the table.
type keptRecord struct {
	rowid int64
	id    string
	bytes []byte
}

func (s *SQLite) forgetRecords(ctx context.Context, order Forgetting, done *Forgotten) error {
	if order.Record == nil {
		return nil
	}
	for after := int64(math.MinInt64); ; {
		records, err := s.recordsAfter(ctx, after)
		if err != nil || len(records) == 0 {
			return err
		}
		for _, r := range records {
			after = r.rowid
			if ctx.Err() != nil {
				return ctx.Err()
			}
			id, err := recordID(r.id)
			if err != nil {
				return err
			}
			kept, gone, changed := order.Record(id, r.bytes)
			if !changed {
				continue
			}
			if err := s.redact(ctx, id, kept, gone, done); err != nil {
				return fmt.Errorf("record %s: %w", id, err)
			}
		}
	}
}

func (s *SQLite) recordsAfter(ctx context.Context, after int64) ([]keptRecord, error) {
	var records []keptRecord
	size := 0
	const query = "SELECT rowid, record_id, record FROM bad_records WHERE rowid > ? ORDER BY rowid LIMIT ?"
	err := s.read(ctx, query, []any{after, pageRows}, func(rows *sql.Rows) (bool, error) {
		var r keptRecord
		if err := rows.Scan(&r.rowid, &r.id, &r.bytes); err != nil {
			return false, err
		}
		records = append(records, r)
		size += len(r.bytes)
		return size < pageBytes, nil
	})
	return records, err
}

// redact takes a record's rows out, a few at a time, and then rewrites it: a crash
// between leaves a record that is judged as before.
func (s *SQLite) redact(ctx context.Context, id event.RecordID, kept []byte, gone func(int) bool, done *Forgotten) error {
	goes := func(index int64) bool { return kept == nil || gone != nil && gone(int(index)) }
	var ids []string
	const query = "SELECT id, event_index FROM bad_failures WHERE record_id = ?"
	err := s.read(ctx, query, []any{id.String()}, func(rows *sql.Rows) (bool, error) {
		var row string
		var index int64
		if err := rows.Scan(&row, &index); err != nil {
			return false, err
		}
		if goes(index) {
			ids = append(ids, row)
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	for len(ids) > badBatch {
		n, err := s.deleteBad(ctx, ids[:badBatch])
		done.BadRows += n
		if err != nil {
			return err
		}
		ids = ids[badBatch:]
	}
	n, err := s.redactLast(ctx, id.String(), kept, goes)
	done.BadRows += n
	if err == nil {
		done.Records++
	}
	return err
}

// redactLast deletes what is left of the rows that go, those included that came
// since, and rewrites the record. With its last row a trigger deletes the record.
func (s *SQLite) redactLast(ctx context.Context, id string, kept []byte, goes func(int64) bool) (int64, error) {
	if err := s.acquire(ctx); err != nil {
		return 0, err
	}
	defer s.release()
	return s.change(func() (int64, error) {
		rows, err := s.writer.all("SELECT id, event_index FROM bad_failures WHERE record_id = ?", id)
		if err != nil {
			return 0, err
		}
		var n int64
		for _, row := range rows {
			index, ok := row[1].(int64)
			if !ok || !goes(index) {
				continue
			}
			deleted, err := s.writer.exec("DELETE FROM bad_failures WHERE id = ?", row[0])
			if err != nil {
				return 0, err
			}
			n += deleted
		}
		if kept != nil {
			if _, err := s.writer.exec("UPDATE bad_records SET record = ? WHERE record_id = ?", kept, id); err != nil {
				return 0, err
			}
		}
		return n, s.count(0, -n, 0)
	})
}

// scrub clears the file and its log of what was deleted. secure_delete has
// overwritten rows where they lay; what is left are free pages that an older
// program made, rows that SQLite had moved from one page to another before they
// were deleted, and the log.
func (s *SQLite) scrub(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.vacuum:
	}
	defer func() { s.vacuum <- struct{}{} }()
	for {
		more, err := s.vacuumSome(ctx, func(int64) int64 { return 0 })
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	if err := s.scrubPages(ctx); err != nil {
		return err
	}
	return s.emptyLog(ctx)
}

const (
	logWait  = 50 * time.Millisecond // for readers, while inserts wait too
	logRest  = 50 * time.Millisecond // between two tries
	logTries = 50                    // before somebody is told
)

// emptyLog folds the log into the file and truncates it, as soon as no reader
// needs it.
func (s *SQLite) emptyLog(ctx context.Context) error {
	for tries := 1; ; tries++ {
		empty, err := s.truncateLog(ctx)
		if err != nil || empty {
			return err
		}
		if tries == logTries {
			s.log.Warn("a reader holds the log of the database, forgetting waits until it ends", "path", s.path)
		}
		rest := time.NewTimer(logRest)
		select {
		case <-ctx.Done():
			rest.Stop()
			return fmt.Errorf("a reader holds the log %s-wal, end it and repeat: %w", s.path, ctx.Err())
		case <-rest.C:
		}
	}
}

func (s *SQLite) truncateLog(ctx context.Context) (empty bool, err error) {
	if err := s.acquire(ctx); err != nil {
		return false, err
	}
	defer s.release()
	if _, err := s.writer.first(fmt.Sprintf("PRAGMA busy_timeout=%d", logWait.Milliseconds())); err != nil {
		return false, err
	}
	busy, err := s.writer.number("PRAGMA wal_checkpoint(TRUNCATE)")
	if _, back := s.writer.first(fmt.Sprintf("PRAGMA busy_timeout=%d", busyTimeout.Milliseconds())); err == nil {
		err = back
	}
	return busy == 0, err
}
