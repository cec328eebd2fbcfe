package history

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"furrow/internal/archive"
	"furrow/internal/enrich"
	"furrow/internal/event"
	"furrow/internal/snowplow"
	"furrow/internal/store"
)

// dump is all that the outputs of a process say, in a form that compares: records
// by what they give, since a redacted one has other bytes.
type dump struct {
	Events   map[string]string // id to the columns, etl_tstamp aside
	Bad      map[string]string
	Raw      map[string]string // record id to what it gives
	Archived []string          // ids
	OldBad   map[string]string // of the archive
}

func (w *world) dump() dump {
	w.tb.Helper()
	d := dump{Bad: map[string]string{}, OldBad: map[string]string{}, Raw: map[string]string{}}
	ctx := context.Background()
	failed := func(err error) {
		w.tb.Helper()
		if err != nil {
			w.tb.Fatal(err)
		}
	}
	err := w.archive.ReadEvents(ctx, time.Time{}, time.Time{}, func(id string, _ time.Time) error {
		d.Archived = append(d.Archived, id)
		return nil
	})
	failed(err)
	slices.Sort(d.Archived)
	d.Archived = slices.Compact(d.Archived) // ranges may share a resend
	failed(w.archive.ReadRaw(ctx, time.Time{}, time.Time{}, func(row archive.RawRow) error {
		d.Raw[row.ID] = row.Time.String() + w.gives(row.Record)
		return nil
	}))
	failed(w.archive.ReadBad(ctx, time.Time{}, time.Time{}, func(b event.BadRow) error {
		d.OldBad[b.ID] = w.describe(&b)
		return nil
	}))
	failed(w.db.EachBad(ctx, store.BadFilter{Records: true}, func(b event.BadRow) error {
		d.Bad[b.ID] = w.describe(&b)
		return nil
	}))
	d.Events = w.rows(w.db)
	return d
}

// rows returns the events of a database that are in the archive, or on the bus.
func (w *world) rows(db *store.SQLite) map[string]string {
	w.tb.Helper()
	rows := map[string]string{}
	status, err := db.Status(context.Background())
	if err != nil {
		w.tb.Fatal(err)
	}
	for _, record := range w.raw() {
		result := w.plain(record)
		for _, e := range result.Events {
			columns, found, err := db.Event(context.Background(), e.ID())
			if err != nil {
				w.tb.Fatal(err)
			}
			if found {
				rows[e.ID()] = columnText(columns)
			}
		}
	}
	if int(status.Events) != len(rows) {
		w.tb.Errorf("the database counts %d events and has %d", status.Events, len(rows))
	}
	return rows
}

func columnText(columns []store.Column) string {
	var b strings.Builder
	for _, c := range columns {
		if c.Value != nil && c.Name != "etl_tstamp" {
			fmt.Fprintf(&b, "%s=%v ", c.Name, c.Value)
		}
	}
	return b.String()
}

// describe writes a bad row with what its record gives.
func (w *world) describe(b *event.BadRow) string {
	return fmt.Sprint(b.Record, b.Index, b.Time, b.Schema, string(b.Failure), w.gives(b.Payload))
}

// gives says what a record is enriched to without any tombstone.
func (w *world) gives(record []byte) string {
	result := w.plain(record)
	if w.drops != nil {
		w.enricher.drop(&result)
	}
	var parts []string
	for _, e := range result.Events {
		parts = append(parts, string(snowplow.AppendTSV(nil, e)))
	}
	for _, b := range result.Bad {
		parts = append(parts, fmt.Sprint(b.ID, b.Index, b.Schema, string(b.Failure)))
	}
	return result.RecordID.String() + strings.Join(parts, "\n")
}

// plain enriches a record as if nobody had been forgotten, and lets no event be
// broken.
func (w *world) plain(record []byte) enrich.Result {
	w.tb.Helper()
	plain, err := enrich.New(enrich.Options{Artifact: "furrow", Version: "0.1.0"})
	if err != nil {
		w.tb.Fatal(err)
	}
	return plain.Parse(record, noonish)
}

// again puts what the archive has into an empty database.
func (w *world) again() map[string]string {
	w.tb.Helper()
	db, err := store.Open(filepath.Join(w.dir, "again.db"), store.Default(), nil, w.opts.Log)
	if err != nil {
		w.tb.Fatal(err)
	}
	defer db.Close()
	err = w.archive.ReadRaw(context.Background(), time.Time{}, time.Time{}, func(row archive.RawRow) error {
		result, err := w.enricher.Do(context.Background(), row.Record, w.opts.Now())
		if err != nil {
			return err
		}
		var rows []store.Row
		for _, e := range result.Events {
			rows = append(rows, store.Row{Event: e, Record: row.Record})
		}
		_, err = db.Insert(context.Background(), rows, result.Bad)
		return err
	})
	if err != nil {
		w.tb.Fatal(err)
	}
	return w.rows(db)
}
