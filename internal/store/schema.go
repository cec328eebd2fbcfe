package store

import (
	"fmt"
	"strings"

	"furrow/internal/event"
)

// columns are the fields of the events table in column order: the 128 columns of
// atomic.events, then the three JSON fields.
var columns = func() []event.Field {
	var plain, documents []event.Field
	for _, f := range event.Fields() {
		if f.Kind() == event.JSON {
			documents = append(documents, f)
		} else {
			plain = append(plain, f)
		}
	}
	// The TSV has derived_contexts last; unstruct_event comes between the two.
	return append(plain, documents...)
}()

// required are the columns that are never null in atomic.events.
var required = map[event.Field]bool{
	event.EventID: true, event.CollectorTstamp: true, event.VCollector: true, event.VEtl: true,
}

// sqlType is how SQLite holds a kind. Money and coordinates are REAL as the
// Postgres loader has them; times are text, which sorts, reads well and is
// understood by SQLite's own date functions; booleans are 0 and 1.
func sqlType(k event.Kind) string {
	switch k {
	case event.Int, event.Bool:
		return "INTEGER"
	case event.Float, event.Decimal:
		return "REAL"
	default:
		return "TEXT"
	}
}

func createEvents() string {
	var b strings.Builder
	b.WriteString("CREATE TABLE events (\n")
	for _, f := range columns {
		fmt.Fprintf(&b, "  %q %s", f.Name(), sqlType(f.Kind()))
		switch {
		case f == event.EventID:
			b.WriteString(" NOT NULL PRIMARY KEY")
		case required[f]:
			b.WriteString(" NOT NULL")
		}
		b.WriteString(",\n")
	}
	b.WriteString("  content_hash INTEGER NOT NULL\n)")
	return b.String()
}

// insertEvent stores an event of which the other columns are null.
func insertEvent(filled []event.Field) string {
	into, values := insertInto(filled)
	return into + " VALUES (" + values + ") ON CONFLICT(event_id) DO NOTHING"
}

// insertNewEvent is insertEvent for a database that remembers past ids; the last
// argument is the event's key among them.
func insertNewEvent(filled []event.Field) string {
	into, values := insertInto(filled)
	return into + " SELECT " + values +
		" WHERE NOT EXISTS (SELECT 1 FROM past_ids WHERE event_id = ?) ON CONFLICT(event_id) DO NOTHING"
}

func insertInto(filled []event.Field) (into, values string) {
	names := make([]string, 0, len(filled)+1)
	for _, f := range filled {
		names = append(names, `"`+f.Name()+`"`)
	}
	names = append(names, "content_hash")
	return "INSERT INTO events (" + strings.Join(names, ", ") + ")", "?" + strings.Repeat(", ?", len(names)-1)
}

const (
	insertFailure = `INSERT INTO bad_failures (id, time, schema, failure, record_id, event_index)
VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT(id) DO NOTHING`
	insertRecord = "INSERT INTO bad_records (record_id, record) VALUES (?, ?) ON CONFLICT(record_id) DO NOTHING"
	// The first stored wins, also where a row of it is no longer kept.
	selectContent = `SELECT content_hash FROM events WHERE event_id = ?1
UNION ALL SELECT content_hash FROM past_ids WHERE event_id = ?2`
	addTotal = "UPDATE totals SET rows = rows + ? WHERE name = ?"
)

// migrations bring a database from version n to n+1. A released one is never
// changed; columns are only appended.
var migrations = [][]string{
	{
		createEvents(),
		`CREATE INDEX events_collector_tstamp ON events (collector_tstamp)`,
		// A record is kept once however many of its events fail: one request of
		// megabytes may hold tens of thousands.
		`CREATE TABLE bad_records (
  record_id TEXT NOT NULL PRIMARY KEY,
  record BLOB NOT NULL
)`,
		`CREATE TABLE bad_failures (
  id TEXT NOT NULL PRIMARY KEY,
  time TEXT NOT NULL,
  schema TEXT NOT NULL,
  failure TEXT NOT NULL,
  record_id TEXT NOT NULL,
  event_index INTEGER NOT NULL
)`,
		`CREATE INDEX bad_failures_time ON bad_failures (time)`,
		`CREATE INDEX bad_failures_record_id ON bad_failures (record_id)`,
		`CREATE TRIGGER bad_records_unused AFTER DELETE ON bad_failures
WHEN NOT EXISTS (SELECT 1 FROM bad_failures WHERE record_id = OLD.record_id)
BEGIN
  DELETE FROM bad_records WHERE record_id = OLD.record_id;
END`,
		// What readers use. The outer join lets SQLite count rows without a look
		// at their records.
		`CREATE VIEW bad_rows AS
SELECT f.id AS id, f.time AS time, f.schema AS schema, f.failure AS failure, r.record AS record, f.event_index AS event_index
FROM bad_failures AS f LEFT JOIN bad_records AS r ON r.record_id = f.record_id`,
		// Counting a large table reads all of it; these are kept by the
		// transactions that change the tables.
		`CREATE TABLE totals (name TEXT NOT NULL PRIMARY KEY, rows INTEGER NOT NULL)`,
		`INSERT INTO totals (name, rows) VALUES ('events', 0), ('bad_rows', 0)`,
	}, {
		// Ids of events that the retention deleted, for as long as an id is unique.
		// event_id is the 16 bytes of a UUID, else its text. The day, counted from
		// the epoch, is the collector's.
		`CREATE TABLE past_ids (
  event_id BLOB NOT NULL PRIMARY KEY,
  content_hash INTEGER NOT NULL,
  day INTEGER NOT NULL
) WITHOUT ROWID`,
		`CREATE INDEX past_ids_day ON past_ids (day)`,
		`INSERT INTO totals (name, rows) VALUES ('past_ids', 0)`,
		// Which tombstones were applied to this file, see package tombstone.
		`CREATE TABLE tombstones (
  key BLOB NOT NULL,
  hash BLOB NOT NULL,
  until TEXT NOT NULL,
  PRIMARY KEY (key, hash, until)
) WITHOUT ROWID`,
	},
}
