package store

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/event"
)

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
	const n = 20_000
	record := noise(1, 2<<20)
	bad := badRows(record, n, noon)
	before := status(t, db).Bytes
	for some := range slices.Chunk(bad, 1000) { // as a consumer's transactions may cut it
		put(t, db, nil, some...)
	}
	wantInserted(t, Inserted{BadDoubles: n}, put(t, db, nil, bad...))
	if st := status(t, db); st.Bad != n || st.Bytes-before > int64(4*len(record)+n*1000) {
		t.Errorf("%+v, %d bytes before", st, before)
	}
	if records := rowsOf(t, db, "bad_records"); records != 1 {
		t.Errorf("the record is there %d times", records)
	}
	newest, err := db.Bad(t.Context(), 5000) // 10 GB if each had its own
	if err != nil || len(newest) != 5000 {
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

// suiteRecordOfConflicts gives a batch whose event ids are all taken by others,
// besides a bad row of the same record.
func suiteRecordOfConflicts(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	db := open(t, Default())
	put(t, db, samples(0, 300, noon))
	record := noise(3, 1<<20)
	rows := samples(0, 300, noon.Add(time.Hour))
	for i := range rows {
		rows[i].Record = record
		rows[i].Event.Record, rows[i].Event.Index = event.NewRecordID(record), i
		rows[i].Event.Content++
	}
	wantInserted(t, Inserted{Events: 1, Conflicts: 300, Bad: 301}, put(t, db, append(rows, sample(1000, noon)), badRows(record, 301, noon)[300]))
	if n := rowsOf(t, db, "bad_records"); n != 1 {
		t.Errorf("%d records", n)
	}
	kept := allBad(t, db, BadFilter{Records: true})
	for _, b := range kept {
		if !bytes.Equal(b.Payload, record) {
			t.Fatalf("row %d has another record", b.Index)
		}
	}
	if len(kept) != 301 {
		t.Errorf("%d rows", len(kept))
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

// suiteRetentionOfRecords cuts a record's rows in two by age.
func suiteRetentionOfRecords(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	cfg := Default()
	cfg.Retention = 24 * time.Hour
	db := open(t, cfg)
	now := noon.Add(48 * time.Hour)
	whole, half, fresh := badRows(noise(1, 1<<20), 1200, noon), badRows(noise(2, 1000), 10, noon), badRows(nil, 1, now)
	for i := range half[5:] {
		half[5+i].Time = now
	}
	put(t, db, nil, slices.Concat(whole, half, fresh)...)
	if n := rowsOf(t, db, "bad_records"); n != 3 {
		t.Fatalf("%d records", n)
	}
	if got, err := db.Trim(t.Context(), now); err != nil || got != (Trimmed{Bad: 1205}) {
		t.Errorf("%+v, %v", got, err)
	}
	wantBad(t, "left", append(half[5:], fresh...), allBad(t, db, BadFilter{Records: true}))
	if n := rowsOf(t, db, "bad_records"); n != 2 {
		t.Errorf("%d records are left of 3", n)
	}
	if st := status(t, db); st.Bad != 6 {
		t.Errorf("%+v", st)
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
