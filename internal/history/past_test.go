package history

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/archive"
	"furrow/internal/bus"
	"furrow/internal/bus/mem"
	"furrow/internal/enrich"
	"furrow/internal/event"
	"furrow/internal/snowplow"
	"furrow/internal/store"
)

// past is a process with real stores, and what was sent to it.
type past struct {
	tb       testing.TB
	dir      string
	archive  *archive.Archive
	db       *store.SQLite
	bus      *mem.Bus
	enricher *enrich.Enricher
	change   func(*Options)
	often    bool // note how far operations are whenever they can
	position int
	sent     []bus.Message // raw, in order

	mu      sync.Mutex
	covered map[string]bool // identifiers of forgotten persons
}

func newPast(tb testing.TB) *past {
	tb.Helper()
	p := &past{tb: tb, dir: tb.TempDir(), bus: mem.New(mem.Options{}), covered: map[string]bool{}}
	var err error
	p.enricher, err = enrich.New(enrich.Options{Artifact: "furrow", Version: "0.3.0", Forgotten: p.forgotten})
	if err != nil {
		tb.Fatal(err)
	}
	p.openArchive()
	p.db = p.database("furrow.db")
	return p
}

func (p *past) forgotten(userID, domainUserID, networkUserID string, _ time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.covered[userID] || p.covered[domainUserID] || p.covered[networkUserID]
}

func (p *past) forget(identifier string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.covered[identifier] = true
}

// openArchive opens the archive, as a process does that starts.
func (p *past) openArchive() {
	p.tb.Helper()
	var err error
	p.archive, err = archive.Open(filepath.Join(p.dir, "archive"), archive.Default(), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		p.tb.Fatal(err)
	}
}

func (p *past) database(name string) *store.SQLite {
	p.tb.Helper()
	cfg := store.Default()
	cfg.CacheBytes = 8 << 20
	db, err := store.Open(filepath.Join(p.dir, name), cfg, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		p.tb.Fatal(err)
	}
	p.tb.Cleanup(func() { db.Close() })
	return db
}

// history is what a process that starts has.
func (p *past) history() *History {
	p.tb.Helper()
	opts := Options{
		Dir: filepath.Join(p.dir, "state"), Archive: p.archive, Database: p.db, Bus: p.bus, Enricher: p.enricher,
		Forgotten: p.forgotten, Log: slog.New(slog.DiscardHandler),
	}
	if p.change != nil {
		p.change(&opts)
	}
	h, err := New(opts)
	if err != nil {
		p.tb.Fatal(err)
	}
	if p.often {
		h.saveEvery = 0
	}
	h.patience = patience{attempts: 3, first: time.Millisecond, longest: 2 * time.Millisecond}
	return h
}

var start = time.Date(2026, 11, 20, 9, 30, 0, 0, time.UTC)

// visitEvent is one event as a tracker sends it.
func visitEvent(n int, user string) map[string]string {
	m := map[string]string{
		"eid": event.DeriveEventID(event.NewRecordID(fmt.Appendf(nil, "past %d", n)), 0),
		"e":   "pv", "p": "web", "tv": "js-4.0.0", "aid": "shop", "duid": user, "url": fmt.Sprintf("https://shop.example/p/%d?utm_source=x", n),
		"page": "Ünder", "dtm": fmt.Sprint(start.UnixMilli() + int64(n)), "vid": "2", "res": "1280x720",
	}
	switch n % 5 {
	case 1:
		m["e"], m["se_ca"], m["se_ac"], m["se_va"] = "se", "cart", "add", "3.10"
	case 2:
		m["e"], m["pp_mix"], m["pp_max"], m["aid"] = "pp", "0", "120", "blog"
	case 3:
		m["co"] = `{"schema":"iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0","data":[{"schema":"iglu:com.acme/user/jsonschema/1-0-0","data":{"n":` + fmt.Sprint(n) + `}}]}`
	case 4:
		m["e"], m["ue_pr"] = "ue", `{"schema":"iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0","data":{"schema":"iglu:com.acme/add_to_cart/jsonschema/1-0-0","data":{"sku":"a\tb"}}}`
	}
	return m
}

// postOf makes the record of a POST.
func postOf(at time.Time, events ...map[string]string) []byte {
	var b strings.Builder
	b.WriteString(`{"schema":"iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4","data":[`)
	for i, e := range events {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('{')
		for j, key := range slices.Sorted(maps.Keys(e)) {
			if j > 0 {
				b.WriteByte(',')
			}
			b.Write(snowplow.AppendJSONText(nil, key))
			b.WriteByte(':')
			b.Write(snowplow.AppendJSONText(nil, e[key]))
		}
		b.WriteByte('}')
	}
	b.WriteString(`]}`)
	return snowplow.AppendPayload(nil, &event.Payload{
		IPAddress: "203.0.113.9", Timestamp: at.UnixMilli(), Encoding: "UTF-8", Collector: "furrow-0.3.0",
		UserAgent: event.Some("Mozilla/5.0"), Path: event.Some("/com.snowplowanalytics.snowplow/tp2"),
		Body: event.Some(b.String()), ContentType: event.Some("application/json"), Hostname: event.Some("sp.shop.example"),
		NetworkUserID: event.Some("75a13583-5c99-40e3-81fc-541084dfc784"),
	})
}

// live gives records to database and archive, as the recorder does, one range for
// all of them.
func (p *past) live(records ...bus.Message) {
	p.tb.Helper()
	ctx := context.Background()
	must := func(err error) {
		p.tb.Helper()
		if err != nil {
			p.tb.Fatal(err)
		}
	}
	r, err := p.archive.Begin(ctx, "raw", "0", position(int64(p.position)))
	must(err)
	var rows []store.Row
	var bad []event.BadRow
	for i, m := range records {
		entry := archive.Entry{Record: m.Value, Key: m.Key, Time: m.Time, NoRaw: m.Stream == bus.Bad}
		if m.Stream == bus.Bad {
			entry.ID = event.NewRecordID(m.Value)
			entry.Bad = []event.BadRow{{
				ID: event.BadRowID(entry.ID, event.WholeRecord), Record: entry.ID, Index: event.WholeRecord, Time: m.Time,
				Schema: sizeViolation, Failure: []byte(`{}`), Payload: m.Value,
			}}
		} else {
			result, err := p.enricher.Do(ctx, m.Value, start.Add(time.Duration(i)*time.Second))
			must(err)
			entry.ID, entry.Events, entry.Bad = result.RecordID, result.Events, result.Bad
			if result.Payload != nil {
				entry.Time = result.Payload.Time()
			}
			p.sent = append(p.sent, m)
		}
		for _, e := range entry.Events {
			rows = append(rows, store.Row{Event: e, Record: m.Value})
		}
		bad = append(bad, entry.Bad...)
		must(r.Add(entry))
		p.position++
	}
	_, err = p.db.Insert(ctx, rows, bad)
	must(err)
	must(r.Commit(ctx, position(int64(p.position-1))))
}

// week sends posts of one to four events over some days, broken ones, and some that
// the collector refused.
func (p *past) week(posts int) {
	p.tb.Helper()
	random := rand.New(rand.NewPCG(7, uint64(posts)))
	var batch []bus.Message
	n := p.position * 10
	for i := range posts {
		at := start.Add(time.Duration(i) * 20 * time.Hour / time.Duration(posts))
		user := fmt.Sprintf("user-%d", i%9)
		var events []map[string]string
		for range 1 + random.IntN(4) {
			events = append(events, visitEvent(n, user))
			n++
		}
		switch i % 25 {
		case 7:
			events[0]["vid"] = "not a number"
		case 8:
			delete(events[0], "eid") // derived
		}
		m := bus.Message{Stream: bus.Raw, Key: []byte(user), Value: postOf(at, events...), Time: at}
		switch i % 50 {
		case 11:
			m.Value = fmt.Appendf(nil, "no payload %d", i)
		case 12:
			m = bus.Message{Stream: bus.Bad, Value: fmt.Appendf(nil, `{"schema":"size","data":{"failure":{},"n":%d}}`, i), Time: at}
		}
		batch = append(batch, m)
		if i%7 == 0 {
			batch = append(batch, m) // raw is at least once
		}
	}
	for part := range slices.Chunk(batch, max(1, len(batch)/3+1)) {
		p.live(part...)
	}
}

// contents are the rows of a database as text, by id, but for some columns.
func contents(tb testing.TB, db *store.SQLite, but ...string) (events, bad map[string]string) {
	tb.Helper()
	ctx := context.Background()
	events, bad = map[string]string{}, map[string]string{}
	rows, err := db.Bad(ctx, 1_000_000)
	if err != nil {
		tb.Fatal(err)
	}
	for _, b := range rows {
		bad[b.ID] = fmt.Sprintf("%s %d %s %q", b.Record, b.Index, b.Schema, b.Payload)
	}
	status, err := db.Status(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	file, err := sql.Open("sqlite", "file:"+status.Path+"?mode=ro")
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	found, err := file.QueryContext(ctx, "SELECT * FROM events")
	if err != nil {
		tb.Fatal(err)
	}
	defer found.Close()
	names, err := found.Columns()
	if err != nil {
		tb.Fatal(err)
	}
	values, into := make([]any, len(names)), make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	for found.Next() {
		if err := found.Scan(into...); err != nil {
			tb.Fatal(err)
		}
		id := ""
		var text strings.Builder
		for i, name := range names {
			if name == event.EventID.Name() {
				id = values[i].(string)
			}
			if !slices.Contains(but, name) {
				fmt.Fprintf(&text, "%s=%v\n", name, values[i])
			}
		}
		events[id] = text.String()
	}
	if err := found.Err(); err != nil {
		tb.Fatal(err)
	}
	return events, bad
}

// equalContents compares two databases, row by row and column by column.
func equalContents(t *testing.T, want, got *store.SQLite, but ...string) {
	t.Helper()
	but = append(but, event.EtlTstamp.Name())
	wantEvents, wantBad := contents(t, want, but...)
	gotEvents, gotBad := contents(t, got, but...)
	if len(wantEvents) == 0 {
		t.Fatal("there is nothing to compare")
	}
	if diff := cmp.Diff(wantEvents, gotEvents); diff != "" {
		t.Errorf("events (-want +got):\n%.3000s", diff)
	}
	if diff := cmp.Diff(wantBad, gotBad); diff != "" {
		t.Errorf("bad rows (-want +got):\n%.3000s", diff)
	}
}
