package store

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/event"
)

// trimmed is a database whose retention a test applies by itself.
type trimmed interface {
	Database
	Trim(ctx context.Context, now time.Time) (Trimmed, error)
}

// suite is what both databases must do.
func suite(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, func(testing.TB, Config) trimmed){
		"repeating changes nothing":        suiteRepeat,
		"what a cell holds":                suiteCells,
		"an id with other content":         suiteConflict,
		"an id of unknown content":         suiteUnknownContent,
		"a resend at any time":             suiteResend,
		"doubles within a batch":           suiteWithinBatch,
		"a row that is refused":            suiteRefused,
		"a record is kept once":            suiteRecordOnce,
		"conflicts of one record share it": suiteRecordOfConflicts,
		"a record goes with its last row":  suiteRetentionOfRecords,
		"retention runs beside inserts":    suiteRetentionBeside,
		"bad rows are listed":              suiteEachBad,
		"bad rows are deleted":             suiteDeleteBad,
		"known ids":                        suiteKnown,
		"a person":                         suitePerson,
		"a person is forgotten":            suiteForget,
		"records are judged":               suiteForgetRecords,
		"every identifier once":            suiteIdentifiers,
		"tombstones":                       suiteTombstones,
		"retention and the window of ids":  suiteRetention,
		"a context that ended":             suiteContext,
		"after Close":                      suiteClosed,
		"an empty database":                suiteEmpty,
		"a batch of bad rows and no event": suiteOnlyBad,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open)
		})
	}
}

func TestSQLiteIsADatabase(t *testing.T) {
	t.Parallel()
	suite(t, func(tb testing.TB, cfg Config) trimmed {
		tb.Helper()
		return open(tb, cfg)
	})
}

func put(tb testing.TB, db Database, rows []Row, bad ...event.BadRow) Inserted {
	tb.Helper()
	done, err := db.Insert(tb.Context(), rows, bad)
	if err != nil {
		tb.Fatal(err)
	}
	return done
}

func wantInserted(tb testing.TB, want, got Inserted) {
	tb.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		tb.Errorf("inserted (-want +got):\n%s", diff)
	}
}

func status(tb testing.TB, db Database) Status {
	tb.Helper()
	st, err := db.Status(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return st
}

// cell is a stored cell of an event.
func cell(tb testing.TB, db Database, id, name string) any {
	tb.Helper()
	row, ok, err := db.Event(tb.Context(), id)
	if err != nil || !ok {
		tb.Fatalf("event %s: found %v, %v", id, ok, err)
	}
	at := slices.IndexFunc(row, func(c Column) bool { return c.Name == name })
	if at < 0 {
		tb.Fatalf("no column %s", name)
	}
	return row[at].Value
}

func allBad(tb testing.TB, db Database, filter BadFilter) []event.BadRow {
	tb.Helper()
	var out []event.BadRow
	err := db.EachBad(tb.Context(), filter, func(b event.BadRow) error {
		out = append(out, b)
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// rowsOf is how many rows a table has.
func rowsOf(tb testing.TB, db Database, table string) (n int64) {
	tb.Helper()
	switch db := db.(type) {
	case *SQLite:
		if err := db.pool.QueryRowContext(tb.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
			tb.Fatal(err)
		}
	case *Postgres:
		n = query[int64](tb, db, "SELECT count(*) FROM atomic."+table)
	}
	return n
}

func reasons(tb testing.TB, db Database) string {
	tb.Helper()
	var b strings.Builder
	for _, r := range allBad(tb, db, BadFilter{}) {
		b.Write(r.Failure)
	}
	return b.String()
}

func suiteRepeat(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	db := open(t, Default())
	rows := samples(0, 100, noon)
	bad := badRows([]byte("x"), 1, noon)[0]
	bad.Index = event.WholeRecord
	wantInserted(t, Inserted{Events: 100, Doubles: 1, Bad: 1}, put(t, db, append(rows[:100:100], rows[3]), bad))
	wantInserted(t, Inserted{Events: 1, Doubles: 100, BadDoubles: 1},
		put(t, db, append(samples(0, 100, noon), sample(100, noon.AddDate(0, 0, 40))), bad))
	st := status(t, db)
	if st.Events != 101 || st.Bad != 1 || st.Bytes == 0 || st.BytesPerEvent == 0 ||
		!st.Oldest.Equal(noon) || !st.Newest.Equal(noon.AddDate(0, 0, 40)) {
		t.Errorf("status %+v", st)
	}
	kept, err := db.Bad(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]event.BadRow{bad}, kept); diff != "" {
		t.Error(diff)
	}
}

func suiteCells(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	db := open(t, Default())
	r := sample(1, noon)
	e := r.Event
	e.SetText(event.TrTotal, "3.10")
	e.SetText(event.TrTax, "1E-7")
	e.SetText(event.TrShipping, "-10")
	e.SetText(event.TiPrice, "0.00")
	e.SetText(event.TrTotalBase, "-9E+999")
	e.SetText(event.SeValue, "12.5")
	e.SetText(event.PageTitle, "Grüße, 'quoted' \"twice\" \\N \t 🛒")
	e.SetInt(event.BrFeaturesPdf, 0)
	e.SetInt(event.TxnID, -5)
	e.SetFloat(event.GeoLatitude, 48.2)
	e.SetTime(event.TrueTstamp, time.UnixMilli(-1))
	e.Content = 1<<63 + 5
	put(t, db, []Row{r})
	for name, want := range map[string]any{
		"tr_total": 3.1, "tr_tax": 1e-7, "tr_shipping": -10.0, "ti_price": 0.0, "tr_total_base": -math.MaxFloat64, "se_value": 12.5, "txn_id": int64(-5),
		"page_title": "Grüße, 'quoted' \"twice\" \\N \t 🛒", "br_features_pdf": int64(0), "br_cookies": int64(1),
		"geo_latitude": 48.2, "collector_tstamp": "2026-11-22 12:00:00.123", "true_tstamp": "1969-12-31 23:59:59.999",
		"user_id": nil, "doc_height": int64(4201), "event_id": e.ID(),
	} {
		if diff := cmp.Diff(want, cell(t, db, e.ID(), name)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	row, _, err := db.Event(t.Context(), e.ID())
	if err != nil || len(row) != len(columns) || row[0].Name != "app_id" || row[130].Name != "derived_contexts" {
		t.Errorf("%d columns, %v", len(row), err)
	}
	for _, id := range []string{"none", "", uuid("event", 2)} {
		if _, ok, err := db.Event(t.Context(), id); ok || err != nil {
			t.Errorf("unknown id %q: found %v, %v", id, ok, err)
		}
	}
}

func suiteConflict(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	db := open(t, Default())
	first, other := sample(1, noon), sample(2, noon.Add(time.Hour))
	other.Event.SetText(event.EventID, first.Event.ID())
	put(t, db, []Row{first})
	wantInserted(t, Inserted{Conflicts: 1, Bad: 1}, put(t, db, []Row{other}))
	wantInserted(t, Inserted{Conflicts: 1, BadDoubles: 1}, put(t, db, []Row{other})) // a replay
	bad := allBad(t, db, BadFilter{Records: true})
	if len(bad) != 1 || string(bad[0].Payload) != "record 2" || bad[0].ID != event.BadRowID(other.Event.Record, 0) ||
		bad[0].Index != 0 || bad[0].Record != other.Event.Record || !bad[0].Time.Equal(noon.Add(time.Hour)) || bad[0].Schema != GenericError {
		t.Errorf("bad rows %+v", bad)
	}
	if r := reasons(t, db); !strings.Contains(r, "already stored with other content") || !strings.Contains(r, first.Event.ID()) {
		t.Errorf("reason %s", r)
	}
	if got := cell(t, db, first.Event.ID(), "collector_tstamp"); got != "2026-11-22 12:00:00.123" {
		t.Errorf("the first event was replaced by one of %v", got)
	}
}

func suiteUnknownContent(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	db := open(t, Default())
	known, unknown := sample(1, noon), sample(1, noon)
	unknown.Event.Content = 0
	imported, live := sample(2, noon), sample(2, noon)
	imported.Event.Content = 0
	put(t, db, []Row{known, imported})
	wantInserted(t, Inserted{Doubles: 2}, put(t, db, []Row{unknown, live}))
}

func suiteResend(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	db := open(t, Default())
	night := time.Date(2026, 11, 22, 23, 59, 59, 999_000_000, time.UTC)
	put(t, db, []Row{sample(1, night)})
	for _, later := range []time.Duration{time.Millisecond, time.Minute, 72 * time.Hour, -72 * time.Hour} {
		again := sample(1, night.Add(later))
		wantInserted(t, Inserted{Doubles: 1}, put(t, db, []Row{again}))
		again.Event.Content++
		again.Event.Index = int(later / time.Millisecond)
		wantInserted(t, Inserted{Conflicts: 1, Bad: 1}, put(t, db, []Row{again}))
	}
	if got := cell(t, db, uuid("event", 1), "collector_tstamp"); got != "2026-11-22 23:59:59.999" {
		t.Errorf("stored at %v", got)
	}
	if st := status(t, db); st.Events != 1 || !st.Oldest.Equal(night) || !st.Newest.Equal(night) {
		t.Errorf("%+v", st)
	}
}

func suiteWithinBatch(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	db := open(t, Default())
	first, same, other := sample(1, noon), sample(1, noon.Add(time.Hour)), sample(1, noon)
	other.Event.Content++
	other.Event.Index = 1
	wantInserted(t, Inserted{Events: 2, Doubles: 1, Conflicts: 1, Bad: 1}, put(t, db, []Row{sample(2, noon), first, same, other}))
	// The stored one decides, not the first of the batch.
	wantInserted(t, Inserted{Doubles: 1, Conflicts: 1, BadDoubles: 1}, put(t, db, []Row{other, same}))
	if got := cell(t, db, first.Event.ID(), "collector_tstamp"); got != "2026-11-22 12:00:00.123" {
		t.Errorf("the one of %v was stored", got)
	}
}

func suiteKnown(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	db := open(t, Default())
	put(t, db, samples(0, 3000, noon))
	ids := []string{"none", "", uuid("event", 9999), uuid("event", 1), uuid("event", 1)}
	for i := range 3000 {
		ids = append(ids, uuid("event", i))
	}
	if n, err := db.Known(t.Context(), ids); n != 3000 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := db.Known(t.Context(), nil); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

func suiteRetention(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	cfg := Default()
	cfg.Retention, cfg.DedupDays = 24*time.Hour, 10
	db := open(t, cfg)
	now := noon.Add(72 * time.Hour)
	old, fresh := badRows([]byte("old"), 3, noon), badRows([]byte("new"), 2, now)
	put(t, db, append(samples(0, 600, noon), samples(2000, 30, now)...), append(old, fresh...)...)
	trim := func(now time.Time, want Trimmed) {
		t.Helper()
		got, err := db.Trim(t.Context(), now)
		if err != nil || got != want {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	}
	trim(noon.Add(time.Hour), Trimmed{})
	trim(now, Trimmed{Events: 600, Bad: 3})
	trim(now, Trimmed{})
	if st := status(t, db); st.Events != 30 || st.Bad != 2 || st.Oldest.Before(now) {
		t.Errorf("%+v", st)
	}
	if _, ok, err := db.Event(t.Context(), uuid("event", 1)); ok || err != nil {
		t.Errorf("a deleted event: found %v, %v", ok, err)
	}
	// The ids outlive their rows.
	conflicting := sample(1, now)
	conflicting.Event.Content++
	wantInserted(t, Inserted{Doubles: 1, Conflicts: 1, Bad: 1}, put(t, db, []Row{sample(0, now), conflicting}))
	if n, err := db.Known(t.Context(), []string{uuid("event", 1), uuid("event", 2000), uuid("event", 7777)}); n != 2 || err != nil {
		t.Errorf("known %d, %v", n, err)
	}
	trim(noon.AddDate(0, 0, 10), Trimmed{Events: 30, Bad: 3})
	wantInserted(t, Inserted{Doubles: 1}, put(t, db, []Row{sample(0, now)}))
	// Until the window has passed.
	trim(noon.AddDate(0, 0, 11).Add(12*time.Hour), Trimmed{})
	wantInserted(t, Inserted{Events: 1, Doubles: 1}, put(t, db, []Row{sample(0, now), sample(2000, now)}))
}

// suiteRetentionBeside deletes rows as fast as they come.
func suiteRetentionBeside(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	cfg := Default()
	cfg.Retention = time.Hour
	db := open(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	now := noon.Add(34 * time.Hour)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := db.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	deleted := 0
	wg.Go(func() {
		for ctx.Err() == nil {
			got, err := db.Trim(ctx, now)
			if deleted += got.Events; err != nil && ctx.Err() == nil && sqlState(err) != "55P03" { // in use
				t.Error(err)
				return
			}
		}
	})
	for i := range 20 {
		wantInserted(t, Inserted{Events: 100}, put(t, db, samples(i*100, 100, noon)))
		status(t, db)
	}
	cancel()
	wg.Wait()
	got, err := db.Trim(t.Context(), now)
	if err != nil {
		t.Fatal(err)
	}
	if st := status(t, db); st.Events != 0 || deleted+got.Events > 2000 {
		t.Errorf("%+v, %d deleted", st, deleted+got.Events)
	}
}

func suiteContext(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	db := open(t, Default())
	put(t, db, samples(0, 1, noon))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := db.Insert(ended, samples(0, 10, noon), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Insert: %v", err)
	}
	if _, err := db.Status(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Status: %v", err)
	}
	wantInserted(t, Inserted{Events: 9, Doubles: 1}, put(t, db, samples(0, 10, noon)))
	running, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- db.Run(running) }()
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func suiteClosed(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	db := open(t, Default())
	put(t, db, samples(0, 1, noon))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Insert(t.Context(), samples(0, 1, noon), nil); !errors.Is(err, errClosed) {
		t.Errorf("%v", err)
	}
}

func suiteEmpty(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	db := open(t, Default())
	wantInserted(t, Inserted{}, put(t, db, nil))
	if st := status(t, db); st.Events != 0 || st.Bad != 0 || !st.Oldest.IsZero() || !st.Newest.IsZero() || st.BytesPerEvent != 0 || st.Path == "" {
		t.Errorf("%+v", st)
	}
	if bad, err := db.Bad(t.Context(), 10); len(bad) != 0 || err != nil {
		t.Errorf("%v, %v", bad, err)
	}
	if done, err := db.Forget(t.Context(), Forgetting{Identifiers: []string{"x"}, Until: noon}); err != nil || done != (Forgotten{}) {
		t.Errorf("%+v, %v", done, err)
	}
	if got, err := db.Trim(t.Context(), noon); err != nil || got != (Trimmed{}) {
		t.Errorf("%+v, %v", got, err)
	}
}
