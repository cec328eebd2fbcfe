package store

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"furrow/internal/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestColumnsAreThoseOfAtomicEvents(t *testing.T) {
	t.Parallel()
	s := open(t, Default())
	rows, err := s.pool.QueryContext(t.Context(), "SELECT name, type, pk FROM pragma_table_info('events')")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var names []string
	types := map[string]string{}
	for rows.Next() {
		var name, typ string
		var pk int
		if err := rows.Scan(&name, &typ, &pk); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
		types[name] = typ
		if (pk != 0) != (name == "event_id") {
			t.Errorf("primary key part %d is %s", pk, name)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if len(names) != 132 {
		t.Fatalf("%d columns, want 128 and three documents and the hash", len(names))
	}
	// Columns 1, 30, 53, 57, 60, 76, 122 and 128 of the table in the specification.
	for n, want := range map[int]string{
		1: "app_id TEXT", 30: "page_url TEXT", 53: "se_category TEXT", 57: "se_value REAL", 60: "tr_total REAL",
		76: "useragent TEXT", 101: "dvce_ismobile INTEGER", 122: "derived_tstamp TEXT", 128: "true_tstamp TEXT",
		129: "contexts TEXT", 130: "unstruct_event TEXT", 131: "derived_contexts TEXT", 132: "content_hash INTEGER",
	} {
		if got := names[n-1] + " " + types[names[n-1]]; got != want {
			t.Errorf("column %d is %s, want %s", n, got, want)
		}
	}
}

func TestCellsAsAReaderSeesThem(t *testing.T) {
	t.Parallel()
	s := open(t, Default())
	r := sample(1, noon)
	e := r.Event
	e.SetText(event.TrTotal, "3.10")
	e.SetText(event.TrTax, "1E-7")
	e.SetText(event.TrShipping, "10")
	e.SetText(event.TiPrice, "-9E+999")
	e.SetText(event.PageTitle, "Grüße, 'quoted' \"twice\"")
	e.SetInt(event.BrFeaturesPdf, 0)
	e.SetFloat(event.GeoLatitude, 48.2)
	e.SetTime(event.TrueTstamp, time.UnixMilli(-1))
	e.Content = 1<<63 + 5
	insert(t, s, []Row{r})
	for name, want := range map[string]any{
		"tr_total": 3.1, "tr_tax": 1e-7, "tr_shipping": 10.0, "ti_price": -1.7976931348623157e308,
		"page_title": "Grüße, 'quoted' \"twice\"", "br_features_pdf": int64(0), "br_cookies": int64(1),
		"geo_latitude": 48.2, "collector_tstamp": "2026-11-22 12:00:00.123", "true_tstamp": "1969-12-31 23:59:59.999",
		"user_id": nil, "contexts": e.Text(event.Contexts), "doc_height": int64(4201),
	} {
		if diff := cmp.Diff(want, column(t, s, e.ID(), name)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	// SQLite itself understands the times.
	var hour int
	if err := s.pool.QueryRowContext(t.Context(), "SELECT strftime('%H', collector_tstamp) FROM events").Scan(&hour); err != nil || hour != 12 {
		t.Errorf("hour %d, %v", hour, err)
	}
	if _, ok, err := s.Event(t.Context(), "none"); ok || err != nil {
		t.Errorf("an unknown id: found %v, %v", ok, err)
	}
}

func TestBinderKeepsNothingOfTheRowBefore(t *testing.T) {
	t.Parallel()
	b := newBinder()
	full, empty := sample(1, noon).Event, &event.Event{}
	b.bind(full, true)
	b.bind(empty, false)
	if got := b.filled(); len(got) != 1 || got[0].Ordinal != 1 {
		t.Errorf("an empty event has the arguments %v, want its hash", got)
	}
	for i, a := range b.all()[:len(columns)] {
		if a.Value != nil {
			t.Errorf("%s is %v, want null", columns[i].Name(), a.Value)
		}
	}
	for _, ms := range []int64{0, -1, 1, 1234567890123, -62135596800000, 253402300799999, dayMillis - 1, dayMillis} {
		if got, want := b.time(ms), timeText(time.UnixMilli(ms)); got != want {
			t.Errorf("%d is %s, want %s", ms, got, want)
		}
	}
}

// TestShapesOfEvents: many combinations of columns, common ones and strange ones.
func TestShapesOfEvents(t *testing.T) {
	t.Parallel()
	for _, past := range []bool{false, true} {
		s := open(t, Default())
		if past {
			if _, err := s.writer.exec("INSERT INTO past_ids VALUES ('x', 0, 20000)"); err != nil {
				t.Fatal(err)
			}
			if err := s.count(0, 0, 1); err != nil {
				t.Fatal(err)
			}
		}
		optional := []event.Field{
			event.UserID, event.PageURL, event.Contexts, event.GeoLatitude, event.BrCookies, event.Useragent, event.TrueTstamp,
		}
		var rows []Row
		for n := range 6000 {
			r := sample(n, noon)
			r.Event.SetText(event.UserID, "someone")
			r.Event.SetTime(event.TrueTstamp, noon)
			for i, f := range optional {
				if n/shapeAfter>>i&1 == 1 { // 94 shapes, more than are kept
					r.Event.Clear(f)
				}
			}
			if n%100 == 99 { // one that stays rare
				r.Event.SetText(columns[n/100], "1")
			}
			rows = append(rows, r)
		}
		for _, some := range [][]Row{rows[:1000], rows[1000:], rows[:100]} {
			insert(t, s, some)
		}
		if n := len(s.shapes.prepared); n == 0 || n > shapesMost {
			t.Errorf("%d statements are kept", n)
		}
		b := newBinder()
		for n := 0; n < len(rows); n += 37 {
			e := rows[n].Event
			b.bind(e, false)
			got, ok, err := s.Event(t.Context(), e.ID())
			if err != nil || !ok {
				t.Fatalf("event %d: found %v, %v", n, ok, err)
			}
			for i, c := range got {
				if want := b.args[i].Value; c.Value != want {
					t.Fatalf("event %d: %s is %v, want %v", n, c.Name, c.Value, want)
				}
			}
		}
		checkTotals(t, s)
	}
}

func TestInsertIsIdempotent(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a folder?", "50%.db")
	s := openAt(t, path, Default())
	rows := samples(0, 100, noon)
	bad := event.BadRow{
		ID: event.BadRowID(event.NewRecordID([]byte("x")), event.WholeRecord), Record: event.NewRecordID([]byte("x")),
		Index: event.WholeRecord, Time: noon, Schema: "iglu:a/b/jsonschema/1-0-0", Failure: []byte(`{"a":1}`), Payload: []byte("x"),
	}
	first := insert(t, s, append(rows[:100:100], rows[3]), bad) // one is twice in the batch
	if diff := cmp.Diff(Inserted{Events: 100, Doubles: 1, Bad: 1}, first); diff != "" {
		t.Error(diff)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, path, Default()) // a restart
	again := insert(t, s, append(samples(0, 100, noon), sample(100, noon.AddDate(0, 0, 40))), bad)
	if diff := cmp.Diff(Inserted{Events: 1, Doubles: 100, BadDoubles: 1}, again); diff != "" {
		t.Error(diff)
	}
	st, err := s.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if st.Events != 101 || st.Bad != 1 || st.Bytes == 0 || st.BytesPerEvent == 0 ||
		!st.Oldest.Equal(noon) || !st.Newest.Equal(noon.AddDate(0, 0, 40)) {
		t.Errorf("status %+v", st)
	}
	kept, err := s.Bad(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]event.BadRow{bad}, kept); diff != "" {
		t.Error(diff)
	}
}

func TestSameIDWithOtherContentIsKeptAsABadRow(t *testing.T) {
	t.Parallel()
	s := open(t, Default())
	first := sample(1, noon)
	other := sample(2, noon.Add(time.Hour))
	other.Event.SetText(event.EventID, first.Event.ID())
	insert(t, s, []Row{first})
	for range 2 { // a replay makes the same bad row
		done := insert(t, s, []Row{other})
		if done.Conflicts != 1 || done.Events != 0 {
			t.Errorf("%+v", done)
		}
	}
	bad, err := s.Bad(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(bad) != 1 || string(bad[0].Payload) != "record 2" || bad[0].ID != event.BadRowID(other.Event.Record, 0) ||
		bad[0].Index != 0 || bad[0].Record != other.Event.Record || !bad[0].Time.Equal(noon.Add(time.Hour)) {
		t.Errorf("bad rows %+v", bad)
	}
	if r := badReasons(t, s); !strings.Contains(r, "already stored with other content") {
		t.Errorf("reason %s", r)
	}
	if got := column(t, s, first.Event.ID(), "collector_tstamp"); got != "2026-11-22 12:00:00.123" {
		t.Errorf("the first event was replaced by one of %v", got)
	}
}

func TestRowThatTheDatabaseRefusesDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	s := open(t, Default())
	if _, err := s.writer.exec(`CREATE TRIGGER choosy BEFORE INSERT ON events WHEN NEW.app_id = 'poison'
BEGIN SELECT RAISE(ABORT, 'too much of it'); END`); err != nil {
		t.Fatal(err)
	}
	rows := samples(0, 50, noon)
	rows[7].Event.Clear(event.VEtl)               // not null in the table
	rows[20].Event.SetText(event.AppID, "poison") // refused by a constraint of its own
	rows[49].Event.SetText(event.AppID, "poison")
	done := insert(t, s, rows)
	if diff := cmp.Diff(Inserted{Events: 47, Refused: 3, Bad: 3}, done); diff != "" {
		t.Error(diff)
	}
	reasons := badReasons(t, s)
	for _, want := range []string{"v_etl", "too much of it"} {
		if !strings.Contains(reasons, want) {
			t.Errorf("no bad row names %q: %s", want, reasons)
		}
	}
}

func TestFailureStoresNothingAndCanBeRepeated(t *testing.T) {
	t.Parallel()
	s := open(t, Default())
	if _, err := s.writer.first("PRAGMA busy_timeout=1"); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", s.path+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.Begin() // somebody's shell holds the lock
	if err != nil {
		t.Fatal(err)
	}
	rows := samples(0, 10, noon)
	if _, err := s.Insert(t.Context(), rows, nil); err == nil {
		t.Fatal("insert succeeded under a foreign lock")
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Insert(ended, rows, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
	if done := insert(t, s, rows); done.Events != 10 {
		t.Errorf("%+v", done)
	}
}

func TestFullDiskFailsAndRecovers(t *testing.T) {
	t.Parallel()
	s := open(t, Default())
	insert(t, s, samples(0, 10, noon))
	pages, err := s.writer.number("PRAGMA page_count")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.writer.first("PRAGMA max_page_count=1"); err != nil { // what is there is the limit
		t.Fatal(err)
	}
	if _, err := s.Insert(t.Context(), samples(10, 5000, noon), nil); err == nil {
		t.Fatalf("5000 rows fit in %d pages", pages)
	}
	if _, err := s.writer.first("PRAGMA max_page_count=1000000"); err != nil {
		t.Fatal(err)
	}
	if done := insert(t, s, samples(10, 5000, noon)); done.Events != 5000 {
		t.Errorf("%+v", done)
	}
}

func TestRetentionByAge(t *testing.T) {
	t.Parallel()
	cfg := Default()
	cfg.Retention = 24 * time.Hour
	s := open(t, cfg)
	now := noon.Add(48 * time.Hour)
	bad := event.BadRow{ID: "old", Time: noon, Schema: "s", Payload: []byte("x"), Index: event.WholeRecord}
	fresh := bad
	fresh.ID, fresh.Time = "new", now
	insert(t, s, append(samples(0, 1200, noon), samples(2000, 30, now)...), bad, fresh)
	before := s.diskBytes()
	got, err := s.Trim(t.Context(), now)
	if err != nil {
		t.Fatal(err)
	}
	if got != (Trimmed{Events: 1200, Bad: 1}) {
		t.Errorf("%+v", got)
	}
	st, err := s.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if st.Events != 30 || st.Bad != 1 || st.Oldest.Before(now) {
		t.Errorf("%+v", st)
	}
	// The space returns once the log has been folded in.
	if _, err := s.writer.first("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	if after := s.diskBytes(); after > before/4 {
		t.Errorf("%d bytes before, %d after", before, after)
	}
	if again, err := s.Trim(t.Context(), now); err != nil || again != (Trimmed{}) {
		t.Errorf("a second time: %+v, %v", again, err)
	}
}

func TestRetentionBySize(t *testing.T) {
	t.Parallel()
	cfg := Default()
	cfg.MaxBytes = 2 << 20
	s := open(t, cfg)
	insert(t, s, samples(0, 4000, noon))
	got, err := s.Trim(t.Context(), noon)
	if err != nil {
		t.Fatal(err)
	}
	st, err := s.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if used := st.BytesPerEvent * st.Events; used > cfg.MaxBytes || used < cfg.MaxBytes/4 {
		t.Errorf("%d bytes used of %d after deleting %+v", used, cfg.MaxBytes, got)
	}
	if first := noon.Add(time.Duration(got.Events) * time.Millisecond); !st.Oldest.Equal(first) {
		t.Errorf("the oldest is of %v, want %v: not the oldest were deleted", st.Oldest, first)
	}
}

func TestRetentionRunsBesideInserts(t *testing.T) {
	t.Parallel()
	cfg := Default()
	cfg.Retention = time.Hour
	s := open(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		for ctx.Err() == nil {
			if _, err := s.Trim(ctx, noon.Add(10*time.Hour)); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	})
	for i := range 20 {
		insert(t, s, samples(i*100, 100, noon))
		if _, err := s.Status(t.Context()); err != nil {
			t.Error(err)
		}
	}
	cancel()
	wg.Wait()
	if _, err := s.Trim(t.Context(), noon.Add(10*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if st, err := s.Status(t.Context()); err != nil || st.Events != 0 {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestOpenRefusesWhatItCannotKeep(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	notes := filepath.Join(t.TempDir(), "notes.db")
	if err := os.WriteFile(notes, []byte(strings.Repeat("this is no database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(notes, Default(), nil, log); err == nil || !strings.Contains(err.Error(), notes) {
		t.Errorf("a text file: %v", err)
	}
	newer := filepath.Join(t.TempDir(), "newer.db")
	s := openAt(t, newer, Default())
	if _, err := s.writer.exec("INSERT INTO schema_version VALUES (999, '')"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(newer, Default(), nil, log); err == nil || !strings.Contains(err.Error(), "version 999") {
		t.Errorf("a database of a newer program: %v", err)
	}
	if _, err := s.Insert(t.Context(), samples(0, 1, noon), nil); !errors.Is(err, errClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	Default().Validate(func(key, rule string) { t.Errorf("default %s %s", key, rule) })
	var keys []string
	Config{Retention: time.Minute, MaxBytes: 1}.Validate(func(key, _ string) { keys = append(keys, key) })
	if diff := cmp.Diff([]string{"retention", "maxBytes", "cacheBytes", "readTimeout", "readers", "writeTimeout", "partitionsAhead"}, keys); diff != "" {
		t.Error(diff)
	}
}

func TestMetricNames(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	m := newMetrics(reg)
	m.deleted.WithLabelValues("events")
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	want := []string{
		"furrow_store_bad_rows_total", "furrow_store_conflicts_total", "furrow_store_deleted_rows_total",
		"furrow_store_doubles_total", "furrow_store_events_total", "furrow_store_insert_failures_total",
		"furrow_store_insert_seconds", "furrow_store_refused_total", "furrow_store_size_bytes",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}
