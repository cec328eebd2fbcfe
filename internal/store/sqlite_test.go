package store

import (
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
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

// TestSQLiteUnderstandsTheTimes, and documents are the very text.
func TestSQLiteUnderstandsTheTimes(t *testing.T) {
	t.Parallel()
	s := open(t, Default())
	r := sample(1, noon)
	insert(t, s, []Row{r})
	var hour int
	if err := s.pool.QueryRowContext(t.Context(), "SELECT strftime('%H', collector_tstamp) FROM events").Scan(&hour); err != nil || hour != 12 {
		t.Errorf("hour %d, %v", hour, err)
	}
	if got := column(t, s, r.Event.ID(), "contexts"); got != r.Event.Text(event.Contexts) {
		t.Errorf("contexts %v", got)
	}
}

// TestFileIsFoundAgain under a name that needs escaping.
func TestFileIsFoundAgain(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a folder?", "50%.db")
	s := openAt(t, path, Default())
	rows, bad := samples(0, 100, noon), badRows([]byte("x"), 1, noon)
	insert(t, s, rows, bad...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantInserted(t, Inserted{Doubles: 100, BadDoubles: 1}, insert(t, openAt(t, path, Default()), rows, bad...))
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

func TestRowThatTheDatabaseRefusesDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	s := open(t, Default())
	if _, err := s.writer.exec(`CREATE TRIGGER choosy BEFORE INSERT ON events WHEN NEW.app_id = 'poison'
BEGIN SELECT RAISE(ABORT, 'too much of it'); END`); err != nil {
		t.Fatal(err)
	}
	rows := samples(0, 50, noon)
	rows[20].Event.SetText(event.AppID, "poison")
	rows[49].Event.SetText(event.AppID, "poison")
	done := insert(t, s, rows)
	if diff := cmp.Diff(Inserted{Events: 48, Refused: 2, Bad: 2}, done); diff != "" {
		t.Error(diff)
	}
	if r := badReasons(t, s); !strings.Contains(r, "too much of it") {
		t.Errorf("no bad row names the reason: %s", r)
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

func TestRetentionGivesSpaceBack(t *testing.T) {
	t.Parallel()
	cfg := Default()
	cfg.Retention = 24 * time.Hour
	s := open(t, cfg)
	now := noon.Add(48 * time.Hour)
	insert(t, s, append(samples(0, 1200, noon), samples(2000, 30, now)...))
	before := s.diskBytes()
	if got, err := s.Trim(t.Context(), now); err != nil || got != (Trimmed{Events: 1200}) {
		t.Errorf("%+v, %v", got, err)
	}
	// Once the log has been folded in.
	if _, err := s.writer.first("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	if after := s.diskBytes(); after > before/4 {
		t.Errorf("%d bytes before, %d after", before, after)
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
