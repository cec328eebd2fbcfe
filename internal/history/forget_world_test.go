package history

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"furrow/internal/archive"
	"furrow/internal/bus"
	"furrow/internal/bus/mem"
	"furrow/internal/enrich"
	"furrow/internal/event"
	"furrow/internal/snowplow"
	"furrow/internal/store"
	"furrow/internal/tombstone"
)

// morning is when the events of these tests were collected, an hour before now.
var (
	morning = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	noonish = morning.Add(time.Hour)
)

// visit is one event as a tracker sends it.
type visit map[string]string

func page(fields ...string) visit {
	v := visit{"e": "pv", "p": "web", "tv": "js-4", "aid": "shop"}
	for i := 0; i+1 < len(fields); i += 2 {
		v[fields[i]] = fields[i+1]
	}
	return v
}

// post is the record of a POST with events of several people.
func post(at time.Time, networkUserID string, visits ...visit) []byte {
	body, err := json.Marshal(map[string]any{
		"schema": "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4", "data": visits,
	})
	if err != nil {
		panic(err)
	}
	return postBody(at, networkUserID, string(body))
}

func postBody(at time.Time, networkUserID, body string) []byte {
	return snowplow.AppendPayload(nil, &event.Payload{
		IPAddress: "203.0.113.9", Timestamp: at.UnixMilli(), Encoding: "UTF-8", Collector: "furrow-0.2.0",
		Path: event.Some("/com.snowplowanalytics.snowplow/tp2"), Body: event.Some(body),
		ContentType: event.Some("application/json"), Hostname: event.Some("sp.shop.localhost"),
		NetworkUserID: event.Optional{Value: networkUserID, Set: networkUserID != ""},
	})
}

// world is a process with real stores whose consumer runs when the test says so.
type world struct {
	tb       tester
	dir      string
	bus      *mem.Bus
	db       *store.SQLite
	archive  *archive.Archive
	set      *tombstone.Set
	enricher *wary
	history  *History
	opts     Options
	change   func(*Options) // of what every open makes
	consumed bus.Positions
	taken    int          // messages
	clock    atomic.Int64 // seconds after noonish
	rebuilds int
	drops    func(record event.RecordID, index int) bool // a consumer that never saw some events
}

// tester is a test, or one try of a property.
type tester interface {
	Helper()
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// wary is the real enricher with the tombstones of the moment, and a rule that some
// events break until it is lifted.
type wary struct {
	real   *enrich.Enricher
	lifted atomic.Bool
	drops  func(record event.RecordID, index int) bool // nil: none
}

const brokenCategory = "broken"

func (w *wary) Do(ctx context.Context, record []byte, now time.Time) (enrich.Result, error) {
	result, err := w.real.Do(ctx, record, now)
	if err != nil {
		return result, err
	}
	if w.drops != nil {
		w.drop(&result)
	}
	if w.lifted.Load() {
		return result, nil
	}
	var events []*event.Event
	for _, e := range result.Events {
		if e.Text(event.SeCategory) != brokenCategory {
			events = append(events, e)
			continue
		}
		result.Bad = append(result.Bad, event.BadRow{
			ID: event.BadRowID(e.Record, e.Index), Record: e.Record, Index: e.Index, Time: e.Time(event.CollectorTstamp),
			Schema:  snowplow.SchemaViolations,
			Failure: snowplow.EventFailure(e.Time(event.CollectorTstamp), snowplow.UnknownSchemaMessage("iglu:com.acme/thing/jsonschema/1-0-0")),
			Payload: record,
		})
	}
	result.Events = events
	return result, nil
}

// drop leaves out what is never to be seen.
func (w *wary) drop(result *enrich.Result) {
	before := len(result.Events) + len(result.Bad)
	id := result.RecordID
	result.Events = slices.DeleteFunc(result.Events, func(e *event.Event) bool { return w.drops(id, e.Index) })
	result.Bad = slices.DeleteFunc(result.Bad, func(b event.BadRow) bool { return w.drops(id, b.Index) })
	after := len(result.Events) + len(result.Bad)
	result.Forgotten = before - after
	if after == 0 {
		result.Record = nil
	}
}

func newForgetWorld(tb testing.TB) *world {
	tb.Helper()
	w := newWorldIn(tb, tb.TempDir(), nil)
	tb.Cleanup(w.close)
	return w
}

func newWorldIn(tb tester, dir string, drops func(event.RecordID, int) bool) *world {
	w := &world{tb: tb, dir: dir, bus: mem.New(mem.Options{}), drops: drops}
	w.open()
	return w
}

// open starts the process over what is on disk.
func (w *world) open() {
	w.tb.Helper()
	must := func(err error) {
		w.tb.Helper()
		if err != nil {
			w.tb.Fatal(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	var err error
	w.set, err = tombstone.Open(filepath.Join(w.dir, "tombstones"))
	must(err)
	w.db, err = store.Open(filepath.Join(w.dir, "furrow.db"), store.Default(), nil, log)
	must(err)
	w.archive, err = archive.Open(filepath.Join(w.dir, "archive"), archive.Default(), nil, log)
	must(err)
	real, err := enrich.New(enrich.Options{Artifact: "furrow", Version: "0.1.0", Forgotten: w.set.Event})
	must(err)
	lifted := w.enricher != nil && w.enricher.lifted.Load()
	w.enricher = &wary{real: real, drops: w.drops}
	w.enricher.lifted.Store(lifted)
	w.opts = Options{
		Dir: filepath.Join(w.dir, "history"), Database: w.db, Bus: w.bus, Enricher: w.enricher,
		Forgotten: w.set.Event, Tombstones: w.set, Log: log,
		Now: func() time.Time { return noonish.Add(time.Duration(w.clock.Load()) * time.Second) },
		Rebuild: func(ctx context.Context, _, _ time.Time, _ func(int64)) error {
			w.rebuilds++
			return ctx.Err()
		},
	}
	if a, ok := any(w.archive).(Archive); ok {
		w.opts.Archive = a
	}
	if a, ok := any(w.archive).(Cleaner); ok {
		w.opts.Cleaner = a
	}
	w.remake()
}

// remake makes the History again, with the changes that the test wants.
func (w *world) remake() {
	w.tb.Helper()
	opts := w.opts
	if w.change != nil {
		w.change(&opts)
	}
	var err error
	if w.history, err = New(opts); err != nil {
		w.tb.Fatal(err)
	}
}

func (w *world) close() {
	if w.db != nil {
		if err := w.db.Close(); err != nil {
			w.tb.Error(err)
		}
		if c, ok := any(w.archive).(interface{ Close() }); ok {
			c.Close()
		}
	}
	w.db = nil
}

func (w *world) restart() {
	w.tb.Helper()
	w.close()
	w.open()
}

// send puts records on the bus and lets the consumers take them.
func (w *world) send(records ...[]byte) {
	w.tb.Helper()
	w.publish(records...)
	w.consume()
}

func (w *world) publish(records ...[]byte) {
	w.tb.Helper()
	for _, record := range records {
		if err := w.bus.Publish(context.Background(), bus.Message{Stream: bus.Raw, Key: []byte("k"), Value: record}); err != nil {
			w.tb.Fatal(err)
		}
	}
}

// consume does what the recorder does with everything that is new on the bus.
func (w *world) consume() {
	w.tb.Helper()
	for w.taken < w.bus.Len() { // which keeps everything, for it has no group
		w.take(w.recordBatch)
	}
}

// take hands on the next batch.
func (w *world) take(fn func(bus.Batch)) {
	w.tb.Helper()
	ctx := context.Background()
	sub, err := w.bus.Subscribe(ctx, "", []bus.Stream{bus.Raw, bus.Bad}, bus.Start{Kind: bus.StartPositions, Positions: w.consumed})
	if err != nil {
		w.tb.Fatal(err)
	}
	defer sub.Close()
	for {
		b, err := sub.Next(ctx)
		if err != nil {
			w.tb.Fatal(err)
		}
		if b.Notice == bus.Delivery && len(b.Messages) > 0 {
			w.consumed = bus.Positions{b.Partition: b.Last}
			w.taken += len(b.Messages)
			fn(b)
			return
		}
	}
}

func (w *world) recordBatch(b bus.Batch) {
	w.tb.Helper()
	ctx := context.Background()
	var rows []store.Row
	var bad []event.BadRow
	span, err := w.archive.Begin(ctx, "raw", b.Partition, b.First)
	if err != nil {
		w.tb.Fatal(err)
	}
	for _, m := range b.Messages {
		result, err := w.enricher.Do(ctx, m.Value, noonish)
		if err != nil {
			w.tb.Fatal(err)
		}
		record := m.Value
		if result.Forgotten > 0 {
			record = result.Record
		}
		for _, e := range result.Events {
			rows = append(rows, store.Row{Event: e, Record: record})
		}
		bad = append(bad, result.Bad...)
		if record == nil {
			continue
		}
		at := m.Time
		if result.Payload != nil {
			at = result.Payload.Time()
		}
		entry := archive.Entry{Record: record, ID: result.RecordID, Key: m.Key, Time: at, Events: result.Events, Bad: result.Bad}
		if err := span.Add(entry); err != nil {
			w.tb.Fatal(err)
		}
	}
	if _, err := w.db.Insert(ctx, rows, bad); err != nil {
		w.tb.Fatal(err)
	}
	if err := span.Commit(ctx, b.Last); err != nil {
		w.tb.Fatal(err)
	}
}

// badRows returns the bad rows of the database by id.
func (w *world) badRows() map[string]event.BadRow {
	w.tb.Helper()
	rows := map[string]event.BadRow{}
	err := w.db.EachBad(context.Background(), store.BadFilter{Records: true}, func(row event.BadRow) error {
		rows[row.ID] = row
		return nil
	})
	if err != nil {
		w.tb.Fatal(err)
	}
	return rows
}

func (w *world) known(ids ...string) int {
	w.tb.Helper()
	n, err := w.db.Known(context.Background(), ids)
	if err != nil {
		w.tb.Fatal(err)
	}
	return n
}

// raw returns what is on the stream raw.
func (w *world) raw() [][]byte {
	w.tb.Helper()
	sub, err := w.bus.Subscribe(context.Background(), "", []bus.Stream{bus.Raw}, bus.Start{Kind: bus.Earliest})
	if err != nil {
		w.tb.Fatal(err)
	}
	defer sub.Close()
	var all [][]byte
	for len(all) < w.bus.Len() {
		b, err := sub.Next(context.Background())
		if err != nil {
			w.tb.Fatal(err)
		}
		for _, m := range b.Messages {
			all = append(all, m.Value)
		}
	}
	return all
}

func eid(n int) string {
	return event.DeriveEventID(event.NewRecordID(fmt.Appendf(nil, "event %d", n)), 0)
}

// copyTree copies a folder, as a backup does.
func copyTree(tb tester, from, to string) {
	tb.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		tb.Fatal(err)
	}
}

// holds returns the files under a folder that contain a text.
func holds(tb tester, folder, text string) (files []string) {
	tb.Helper()
	err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if strings.Contains(string(content), text) {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return files
}

func longText(n int) string { return strings.Repeat(strconv.Itoa(n%10), 1200) }
