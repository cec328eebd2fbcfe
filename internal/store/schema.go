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

func insertEvent() string {
	names := make([]string, 0, len(columns)+1)
	for _, f := range columns {
		names = append(names, `"`+f.Name()+`"`)
	}
	names = append(names, "content_hash")
	return "INSERT INTO events (" + strings.Join(names, ", ") + ") VALUES (?" +
		strings.Repeat(", ?", len(names)-1) + ") ON CONFLICT(event_id) DO NOTHING"
}

const (
	insertBad = `INSERT INTO bad_rows (id, time, schema, failure, record, event_index)
VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT(id) DO NOTHING`
	selectContent = "SELECT content_hash FROM events WHERE event_id = ?"
	addTotal      = "UPDATE totals SET rows = rows + ? WHERE name = ?"
)

// migrations bring a database from version n to n+1. A released one is never
// changed; columns are only appended.
var migrations = [][]string{
	{
		createEvents(),
		`CREATE INDEX events_collector_tstamp ON events (collector_tstamp)`,
		`CREATE TABLE bad_rows (
  id TEXT NOT NULL PRIMARY KEY,
  time TEXT NOT NULL,
  schema TEXT NOT NULL,
  failure TEXT NOT NULL,
  record BLOB NOT NULL,
  event_index INTEGER NOT NULL
)`,
		`CREATE INDEX bad_rows_time ON bad_rows (time)`,
		// Counting a large table reads all of it; these are kept by the
		// transactions that change the tables.
		`CREATE TABLE totals (name TEXT NOT NULL PRIMARY KEY, rows INTEGER NOT NULL)`,
		`INSERT INTO totals (name, rows) VALUES ('events', 0), ('bad_rows', 0)`,
	},
}
