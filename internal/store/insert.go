package store

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"furrow/internal/event"
)

// Row is an event and the exact record it came from, which is kept when the event
// cannot be.
type Row struct {
	Event  *event.Event
	Record []byte
}

// Inserted says what became of the rows of one Insert.
type Inserted struct {
	Events     int // new rows in events
	Doubles    int // events whose id was there with the same content: dropped
	Conflicts  int // events whose id was there with other content: now in bad_rows
	Refused    int // events that the database cannot hold: now in bad_rows
	Bad        int // new rows in bad_rows, the two above included
	BadDoubles int // bad rows whose id was there: dropped
}

// GenericError is the Iglu schema of the bad rows that the store makes.
const GenericError = "iglu:com.snowplowanalytics.snowplow.badrows/generic_error/jsonschema/1-0-0"

// Insert stores events and bad rows in one transaction and returns when they are
// on disk. On an error nothing was stored; the caller repeats the call.
func (s *SQLite) Insert(ctx context.Context, rows []Row, bad []event.BadRow) (Inserted, error) {
	if len(rows) == 0 && len(bad) == 0 {
		return Inserted{}, nil
	}
	if err := s.acquire(ctx); err != nil {
		return Inserted{}, err
	}
	defer s.release()
	defer s.binder.reset()
	start := time.Now()
	done, err := s.insert(ctx, rows, bad)
	if err != nil {
		s.writer.rollback()
		s.metrics.failures.Inc()
		return Inserted{}, fmt.Errorf("store: insert %d events and %d bad rows: %w", len(rows), len(bad), err)
	}
	s.metrics.inserted(done, time.Since(start))
	return done, nil
}

func (s *SQLite) insert(ctx context.Context, rows []Row, bad []event.BadRow) (Inserted, error) {
	var done Inserted
	s.last = lastRecord{}
	if err := s.writer.begin(); err != nil {
		return done, err
	}
	past, err := s.pastIDs()
	if err != nil {
		return done, err
	}
	s.past = past > 0
	for i, row := range rows {
		if i%64 == 0 && ctx.Err() != nil {
			return done, ctx.Err()
		}
		if err := s.insertRow(row, &done); err != nil {
			return done, err
		}
	}
	for i := range bad {
		if i%64 == 0 && ctx.Err() != nil {
			return done, ctx.Err()
		}
		if err := s.insertBad(&bad[i], &done); err != nil {
			return done, err
		}
	}
	if err := s.count(int64(done.Events), int64(done.Bad), 0); err != nil {
		return done, err
	}
	return done, s.writer.commit()
}

// count moves the totals with the tables, in the same transaction.
func (s *SQLite) count(events, bad, past int64) error {
	for name, n := range map[string]int64{"events": events, "bad_rows": bad, "past_ids": past} {
		if n == 0 {
			continue
		}
		if _, err := s.writer.exec(addTotal, n, name); err != nil {
			return err
		}
	}
	return nil
}

func (s *SQLite) insertRow(row Row, done *Inserted) error {
	n, err := s.insertEvent(row.Event)
	switch {
	case err == nil && n > 0:
		done.Events++
		return nil
	case err == nil:
		return s.settle(row, done)
	case refused(err):
		done.Refused++
		return s.insertBad(badRow(row, fmt.Sprintf("the database refuses the event: %v", err)), done)
	default:
		return err
	}
}

// insertEvent stores an event unless its id is there, and returns how many rows it
// stored.
func (s *SQLite) insertEvent(e *event.Event) (int64, error) {
	s.binder.bind(e, s.past)
	st, err := s.shapes.statement(s.writer, s.binder.shape)
	switch {
	case err != nil:
		return 0, err
	case st != nil:
		return st.exec(s.binder.filled())
	case s.past:
		return s.newEvents.exec(s.binder.all())
	default:
		return s.events.exec(s.binder.all())
	}
}

// settle decides about an event whose id is there already: a resend is dropped,
// another event with the same id is kept where it can be seen.
func (s *SQLite) settle(row Row, done *Inserted) error {
	id := row.Event.ID()
	stored, err := s.content.number(id, pastKey(id))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err == nil && sameContent(stored, contentHash(row.Event)) {
		done.Doubles++
		return nil
	}
	done.Conflicts++
	return s.insertBad(badRow(row, fmt.Sprintf("event_id %s is already stored with other content", row.Event.ID())), done)
}

// sameContent compares two content hashes. 0 is that of an event whose content
// nobody knows, such as one imported from TSV.
func sameContent(a, b int64) bool { return a == b || a == 0 || b == 0 }

func (s *SQLite) insertBad(b *event.BadRow, done *Inserted) error {
	failure := b.Failure
	if failure == nil {
		failure = []byte("{}")
	}
	s.last.is(b)
	args := named([]driver.Value{b.ID, timeText(b.Time), b.Schema, string(failure), s.last.text, int64(b.Index)})
	n, err := s.bad.exec(args)
	if err != nil {
		return fmt.Errorf("bad row %s: %w", b.ID, err)
	}
	if n == 0 {
		done.BadDoubles++
		return nil
	}
	done.Bad++
	return s.keepRecord(b)
}

// lastRecord is the record of the bad row before, within one transaction. The rows
// of a record follow each other, so its bytes go to the database once.
type lastRecord struct {
	id   event.RecordID
	text string // id in hex; empty before the first bad row
	kept bool   // the transaction has stored it
}

// is makes the bad row's record the last one, if it is another.
func (l *lastRecord) is(b *event.BadRow) {
	id := b.Record
	if id == (event.RecordID{}) { // nobody's hash: derived, lest records be mixed up
		id = event.NewRecordID(b.Payload)
	}
	if l.text == "" || l.id != id {
		*l = lastRecord{id: id, text: id.String()}
	}
}

func (s *SQLite) keepRecord(b *event.BadRow) error {
	if s.last.kept {
		return nil
	}
	record := b.Payload
	if record == nil {
		record = []byte{} // the driver binds nil as null
	}
	if _, err := s.record.exec(named([]driver.Value{s.last.text, record})); err != nil {
		return fmt.Errorf("record %s: %w", s.last.text, err)
	}
	s.last.kept = true
	return nil
}

// badRow makes the bad row of an event that was not stored. Its time is the
// collector's, so that a replay makes the same row.
func badRow(row Row, reason string) *event.BadRow {
	e := row.Event
	at := e.Time(event.CollectorTstamp)
	failure, err := json.Marshal(struct {
		Timestamp string   `json:"timestamp"`
		Errors    []string `json:"errors"`
	}{at.Format("2006-01-02T15:04:05.000Z"), []string{reason}})
	if err != nil {
		failure = nil // strings always marshal
	}
	return &event.BadRow{
		ID: event.BadRowID(e.Record, e.Index), Record: e.Record, Index: e.Index, Time: at,
		Schema: GenericError, Failure: failure, Payload: row.Record,
	}
}
