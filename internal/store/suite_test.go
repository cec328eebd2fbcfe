package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/event"
	"furrow/internal/tombstone"
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
	e.SetText(event.SeValue, "12.5")
	e.SetText(event.PageTitle, "Grüße, 'quoted' \"twice\" \\N \t 🛒")
	e.SetInt(event.BrFeaturesPdf, 0)
	e.SetInt(event.TxnID, -5)
	e.SetFloat(event.GeoLatitude, 48.2)
	e.SetTime(event.TrueTstamp, time.UnixMilli(-1))
	e.Content = 1<<63 + 5
	put(t, db, []Row{r})
	for name, want := range map[string]any{
		"tr_total": 3.1, "tr_tax": 1e-7, "tr_shipping": -10.0, "ti_price": 0.0, "se_value": 12.5, "txn_id": int64(-5),
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

func suiteRefused(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	db := open(t, Default())
	rows := samples(0, 50, noon)
	rows[7].Event.Clear(event.VEtl)
	rows[49].Event.Clear(event.VCollector)
	wantInserted(t, Inserted{Events: 48, Refused: 2, Bad: 2}, put(t, db, rows))
	wantInserted(t, Inserted{Doubles: 48, Refused: 2, BadDoubles: 2}, put(t, db, rows))
	r := reasons(t, db)
	for _, want := range []string{"v_etl", "v_collector"} {
		if !strings.Contains(r, want) {
			t.Errorf("no bad row names %q: %s", want, r)
		}
	}
	if n, err := db.Known(t.Context(), []string{rows[7].Event.ID()}); n != 0 || err != nil {
		t.Errorf("a refused event is known: %d, %v", n, err)
	}
}

func suiteRecordOnce(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	db := open(t, Default())
	const n = 3000
	record := noise(1, 2<<20)
	bad := badRows(record, n, noon)
	before := status(t, db).Bytes
	for some := range slices.Chunk(bad, 1000) { // as a consumer's transactions may cut it
		put(t, db, nil, some...)
	}
	wantInserted(t, Inserted{BadDoubles: n}, put(t, db, nil, bad...))
	if st := status(t, db); st.Bad != n || st.Bytes-before > int64(4*len(record)+n*2000) {
		t.Errorf("%+v, %d bytes before", st, before)
	}
	newest, err := db.Bad(t.Context(), 2000)
	if err != nil || len(newest) != 2000 {
		t.Fatalf("%d rows, %v", len(newest), err)
	}
	for _, b := range newest {
		if !bytes.Equal(bad[b.Index].Failure, b.Failure) || b.Record != bad[0].Record || &b.Payload[0] != &newest[0].Payload[0] {
			t.Fatalf("row %d does not share the record, or differs", b.Index)
		}
	}
	if !bytes.Equal(newest[0].Payload, record) {
		t.Error("the record differs")
	}
}

func suiteEachBad(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	db := open(t, Default())
	a, b := badRows([]byte("a"), 1500, noon), badRows([]byte("b"), 3, noon.Add(time.Hour))
	for i := range b {
		b[i].Schema = "iglu:com.snowplowanalytics.snowplow.badrows/enrichment_failures/jsonschema/2-0-1"
	}
	empty := badRows(nil, 1, noon.Add(2*time.Hour))
	// Mixed, so that rows of one record come apart.
	put(t, db, nil, append(append(append([]event.BadRow{b[0]}, a[:700]...), b[1:]...), a[700:]...)...)
	put(t, db, nil, empty...)
	every := slices.Concat(a, b, empty)
	for name, c := range map[string]struct {
		filter BadFilter
		want   []event.BadRow
	}{
		"all":         {BadFilter{}, every},
		"ids":         {BadFilter{IDs: []string{a[3].ID, b[1].ID, "none", a[3].ID}}, []event.BadRow{a[3], b[1]}},
		"schema":      {BadFilter{Schema: b[0].Schema}, b},
		"schema name": {BadFilter{Schema: "enrichment_failures"}, b},
		"no schema":   {BadFilter{Schema: "failures"}, nil},
		"from":        {BadFilter{From: noon.Add(time.Hour)}, slices.Concat(b, empty)},
		"to":          {BadFilter{To: noon.Add(time.Hour)}, a},
		"between":     {BadFilter{From: noon.Add(time.Minute), To: noon.Add(time.Hour + time.Millisecond)}, b},
		"both":        {BadFilter{IDs: []string{a[0].ID, b[0].ID}, Schema: "schema_violations"}, a[:1]},
	} {
		for _, c.filter.Records = range []bool{false, true} {
			got := allBad(t, db, c.filter)
			seen := map[event.RecordID]bool{}
			for i := range got {
				if i > 0 && got[i].Record != got[i-1].Record && seen[got[i].Record] {
					t.Fatalf("%s: rows of one record are apart", name)
				}
				seen[got[i].Record] = true
				if !c.filter.Records && got[i].Payload != nil {
					t.Fatalf("%s: a record of %d bytes that nobody asked for", name, len(got[i].Payload))
				}
			}
			if c.filter.Records {
				wantBad(t, name, c.want, got)
				continue
			}
			bare := slices.Clone(c.want)
			for i := range bare {
				bare[i].Payload = nil
			}
			wantBad(t, name, bare, got)
		}
	}
	stop := errors.New("enough")
	calls := 0
	if err := db.EachBad(t.Context(), BadFilter{}, func(event.BadRow) error { calls++; return stop }); !errors.Is(err, stop) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
	// The callback may change what it reads.
	err := db.EachBad(t.Context(), BadFilter{Schema: "enrichment_failures"}, func(r event.BadRow) error {
		_, err := db.DeleteBad(t.Context(), []string{r.ID})
		return err
	})
	if st := status(t, db); err != nil || st.Bad != 1501 {
		t.Errorf("%v, %d left", err, st.Bad)
	}
}

// wantBad compares bad rows in any order. cmp alone takes seconds for thousands.
func wantBad(tb testing.TB, name string, want, got []event.BadRow) {
	tb.Helper()
	byID := func(x, y event.BadRow) int { return strings.Compare(x.ID, y.ID) }
	want, got = slices.SortedFunc(slices.Values(want), byID), slices.SortedFunc(slices.Values(got), byID)
	if len(want) != len(got) {
		tb.Errorf("%s: %d rows, want %d", name, len(got), len(want))
		return
	}
	for i, w := range want {
		if g := got[i]; g.ID != w.ID || g.Record != w.Record || g.Index != w.Index || !g.Time.Equal(w.Time) || g.Schema != w.Schema ||
			!bytes.Equal(g.Failure, w.Failure) || !bytes.Equal(g.Payload, w.Payload) {
			tb.Errorf("%s: %s", name, cmp.Diff(w, g))
			return
		}
	}
}

func suiteDeleteBad(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	db := open(t, Default())
	bad := badRows([]byte("a"), 3, noon)
	put(t, db, nil, bad...)
	if n, err := db.DeleteBad(t.Context(), []string{bad[0].ID, bad[1].ID, bad[0].ID, "none"}); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if got := allBad(t, db, BadFilter{Records: true}); len(got) != 1 || string(got[0].Payload) != "a" {
		t.Errorf("%+v", got)
	}
	if n, err := db.DeleteBad(t.Context(), []string{bad[2].ID}); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := db.DeleteBad(t.Context(), nil); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if st := status(t, db); st.Bad != 0 {
		t.Errorf("%+v", st)
	}
	wantInserted(t, Inserted{Bad: 3}, put(t, db, nil, bad...)) // and they may come again
	if got := allBad(t, db, BadFilter{Records: true}); len(got) != 3 || string(got[0].Payload) != "a" {
		t.Errorf("%+v", got)
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

// people are events of three people over two days: Ada, who logs in, Ben, and one
// who shares Ada's network.
func people() []Row {
	rows := samples(0, 6, noon)
	for i, ids := range [][3]string{
		{"", "ada-cookie", "net-1"},
		{"ada@example", "ada-cookie", "net-1"},
		{"ada@example", "ada-phone", ""},
		{"ben@example", "ben-cookie", "net-2"},
		{"", "other", "net-1"},
		{"ada@example", "ada-cookie", "net-1"},
	} {
		e := rows[i].Event
		for j, f := range []event.Field{event.UserID, event.DomainUserID, event.NetworkUserID} {
			e.SetText(f, ids[j])
		}
	}
	rows[5].Event.SetTime(event.CollectorTstamp, noon.AddDate(0, 0, 1))
	return rows
}

func suitePerson(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	db := open(t, Default())
	put(t, db, people())
	for name, c := range map[string]struct {
		identifiers []string
		want        Person
	}{
		"nobody":  {[]string{"nobody", "ada%", "", "ADA@example"}, Person{Linked: []Identity{}}},
		"no name": {nil, Person{Linked: []Identity{}}},
		"user": {[]string{"ada@example"}, Person{
			Events: 3, First: noon.Add(time.Millisecond), Last: noon.AddDate(0, 0, 1),
			Linked: []Identity{{"domain_userid", "ada-cookie", 2}, {"network_userid", "net-1", 2}, {"domain_userid", "ada-phone", 1}},
		}},
		"all of hers": {[]string{"ada-cookie", "ada@example", "ada-phone"}, Person{
			Events: 4, First: noon, Last: noon.AddDate(0, 0, 1), Linked: []Identity{{"network_userid", "net-1", 3}},
		}},
	} {
		got, err := db.Person(t.Context(), c.identifiers)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	crowd := samples(100, 150, noon)
	for i := range crowd {
		crowd[i].Event.SetText(event.UserID, "crowd")
		crowd[i].Event.SetText(event.DomainUserID, fmt.Sprintf("c-%03d", i))
		crowd[i].Event.Clear(event.NetworkUserID)
	}
	put(t, db, crowd)
	if p, err := db.Person(t.Context(), []string{"crowd"}); err != nil || p.Events != 150 || len(p.Linked) != 100 {
		t.Errorf("%d events, %d linked, %v", p.Events, len(p.Linked), err)
	}
}

func suiteForget(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	db := open(t, Default())
	rows := people()
	put(t, db, rows)
	order := Forgetting{Identifiers: []string{"ada@example", "ada-cookie", ""}, Until: noon.Add(12 * time.Hour)}
	for _, want := range []Forgotten{{Events: 3}, {}} { // it may be repeated
		done, err := db.Forget(t.Context(), order)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, done); diff != "" {
			t.Error(diff)
		}
	}
	st := status(t, db)
	if st.Events != 3 || !st.Oldest.Equal(noon.Add(3*time.Millisecond)) || !st.Newest.Equal(noon.AddDate(0, 0, 1)) {
		t.Errorf("%+v", st)
	}
	for i, want := range []bool{false, false, false, true, true, true} {
		id := rows[i].Event.ID()
		_, ok, err := db.Event(t.Context(), id)
		n, kerr := db.Known(t.Context(), []string{id})
		if ok != want || (n == 1) != want || err != nil || kerr != nil {
			t.Errorf("event %d: found %v, known %d, %v %v", i, ok, n, err, kerr)
		}
	}
	// What the person does later is new; and to the millisecond.
	order.Until = noon.AddDate(0, 0, 1).Add(-time.Millisecond)
	if done, err := db.Forget(t.Context(), order); err != nil || done.Events != 0 {
		t.Errorf("%+v, %v", done, err)
	}
	order.Until = noon.AddDate(0, 0, 1)
	if done, err := db.Forget(t.Context(), order); err != nil || done.Events != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	wantInserted(t, Inserted{Events: 4, Doubles: 2}, put(t, db, rows))
}

func suiteForgetRecords(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	db := open(t, Default())
	all, some, none := badRows([]byte("all"), 4, noon), badRows([]byte("some"), 1200, noon), badRows([]byte("none"), 5, noon)
	put(t, db, nil, slices.Concat(all, some, none)...)
	order := Forgetting{Identifiers: []string{"x"}, Until: noon, Record: func(id event.RecordID, record []byte) ([]byte, func(int) bool, bool) {
		if id != event.NewRecordID(record) && string(record) != "rewritten" {
			t.Errorf("record %s with %q", id, record)
		}
		switch string(record) {
		case "all":
			return nil, func(int) bool { return true }, true
		case "some":
			return []byte("rewritten"), func(i int) bool { return i%2 == 1 }, true
		}
		return nil, nil, false
	}}
	for _, want := range []Forgotten{{BadRows: 604, Records: 2}, {}} {
		done, err := db.Forget(t.Context(), order)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, done); diff != "" {
			t.Error(diff)
		}
	}
	if st := status(t, db); st.Bad != 605 {
		t.Errorf("%+v", st)
	}
	for _, b := range allBad(t, db, BadFilter{Records: true}) {
		switch b.Record {
		case some[0].Record:
			if b.Index%2 == 1 || string(b.Payload) != "rewritten" {
				t.Fatalf("row %d has %q", b.Index, b.Payload)
			}
		case none[0].Record:
			if string(b.Payload) != "none" {
				t.Fatalf("row %d has %q", b.Index, b.Payload)
			}
		default:
			t.Fatalf("row %d of %q is left", b.Index, b.Payload)
		}
	}
}

func suiteIdentifiers(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	db := open(t, Default())
	rows := people()
	want := []string{"ada@example", "ben@example", "ada-cookie", "ada-phone", "ben-cookie", "other", "net-1", "net-2"}
	for i, r := range samples(100, 2500, noon.AddDate(0, 0, 2)) {
		r.Event.SetText(event.UserID, fmt.Sprintf("user %d", i))
		r.Event.SetText(event.DomainUserID, "net-1") // one that is elsewhere another kind
		r.Event.Clear(event.NetworkUserID)
		rows = append(rows, r)
		want = append(want, fmt.Sprintf("user %d", i))
	}
	put(t, db, rows)
	var got []string
	err := db.EachIdentifier(t.Context(), func(i string) error {
		got = append(got, i)
		return nil
	})
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, %.2000s", err, diff)
	}
	stop := errors.New("enough")
	if err := db.EachIdentifier(t.Context(), func(string) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
}

func suiteTombstones(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	db := open(t, Default())
	if got, err := db.Buried(t.Context()); len(got) != 0 || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	stone := func(key, hash byte, until time.Time) tombstone.Tombstone {
		return tombstone.Tombstone{Key: tombstone.Hash{key}, Hash: tombstone.Hash{hash, 255}, Until: until}
	}
	exact := time.Date(2026, 11, 22, 12, 0, 0, 123_456_789, time.UTC)
	want := []tombstone.Tombstone{stone(1, 1, exact), stone(1, 2, noon), stone(1, 2, noon.Add(time.Hour)), stone(2, 1, noon)}
	given := []tombstone.Tombstone{want[3], want[0], want[2], stone(1, 2, noon.In(time.FixedZone("", 3600))), want[0]}
	for range 2 {
		if err := db.Bury(t.Context(), given); err != nil {
			t.Fatal(err)
		}
	}
	got, err := db.Buried(t.Context())
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, %s", err, diff)
	}
	if err := db.Bury(t.Context(), nil); err != nil {
		t.Error(err)
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

func suiteOnlyBad(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	db := open(t, Default())
	rows := badRows(nil, 2, noon)
	rows[0].Record, rows[1].Record = event.RecordID{}, event.RecordID{} // nobody gave one
	rows[1].Payload = []byte("other")
	rows[1].Failure = nil
	wantInserted(t, Inserted{Bad: 2}, put(t, db, nil, rows...))
	got := map[string]string{}
	for _, b := range allBad(t, db, BadFilter{Records: true}) {
		got[b.ID] = string(b.Payload) + string(b.Failure)
	}
	want := map[string]string{rows[0].ID: string(rows[0].Failure), rows[1].ID: "other{}"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
