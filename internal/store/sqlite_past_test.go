package store

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/event"
)

func trim(tb testing.TB, s *SQLite, now time.Time) Trimmed {
	tb.Helper()
	got, err := s.Trim(tb.Context(), now)
	if err != nil {
		tb.Fatal(err)
	}
	checkTotals(tb, s)
	return got
}

// checkTotals compares the kept totals with the tables, and looks for an id that is
// stored and past at once.
func checkTotals(tb testing.TB, s *SQLite) {
	tb.Helper()
	for name, table := range map[string]string{"events": "events", "bad_rows": "bad_failures", "past_ids": "past_ids"} {
		kept := count(tb, s, "SELECT rows FROM totals WHERE name = '"+name+"'")
		if n := count(tb, s, "SELECT count(*) FROM "+table); n != kept {
			tb.Errorf("%s: the total says %d, the table has %d", name, kept, n)
		}
	}
	if n := count(tb, s, "SELECT count(*) FROM events WHERE "+pastKeySQL("event_id")+" IN (SELECT event_id FROM past_ids)"); n != 0 {
		tb.Errorf("%d ids are stored and past at once", n)
	}
}

func ids(rows []Row) []string {
	var out []string
	for _, r := range rows {
		out = append(out, r.Event.ID())
	}
	return out
}

func known(tb testing.TB, s *SQLite, ids []string) int {
	tb.Helper()
	n, err := s.Known(tb.Context(), ids)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// TestIDStaysUniqueAfterItsRowIsGone is the promise of dedup.days under a shorter
// retention.
func TestIDStaysUniqueAfterItsRowIsGone(t *testing.T) {
	t.Parallel()
	cfg := Default()
	cfg.Retention = 24 * time.Hour
	cfg.DedupDays = 0 // a test's or an importer's: the default
	path := filepath.Join(t.TempDir(), "furrow.db")
	s := openAt(t, path, cfg)
	rows := samples(0, 1200, noon)
	odd := []string{
		"not a uuid", "Grüße", strings.ToUpper(rows[0].Event.ID()), strings.ReplaceAll(rows[1].Event.ID(), "-", ""),
		"--------" + rows[2].Event.ID()[8:],
	}
	for i, id := range odd {
		r := sample(2000+i, noon)
		r.Event.SetText(event.EventID, id)
		rows = append(rows, r)
	}
	insert(t, s, rows)
	day := func(n int) time.Time { return noon.AddDate(0, 0, n) }
	if got := trim(t, s, day(2)); got.Events != len(rows) {
		t.Fatalf("%+v", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, path, cfg)
	all := ids(rows)
	if n := known(t, s, append(all, all[0], "none", "\xff")); n != len(rows) {
		t.Errorf("%d of %d ids are known", n, len(rows))
	}
	other := samples(0, 1, day(3))[0]
	other.Event.Content++
	unknown := samples(1, 1, day(3))[0]
	unknown.Event.Content = 0
	fresh := samples(5000, 10, day(3))
	done := insert(t, s, append(append(rows[2:len(rows):len(rows)], other, unknown), fresh...))
	want := Inserted{Events: 10, Doubles: len(rows) - 2 + 1, Conflicts: 1, Bad: 1}
	if diff := cmp.Diff(want, done); diff != "" {
		t.Error(diff)
	}
	if n := known(t, s, append(all, ids(fresh)...)); n != len(rows)+10 {
		t.Errorf("%d are known", n)
	}
	// The ninetieth day is the last one.
	trim(t, s, day(90))
	if n := known(t, s, all); n != len(rows) {
		t.Errorf("on day 90: %d of %d ids are known", n, len(rows))
	}
	trim(t, s, day(91))
	if n := known(t, s, all); n != 0 {
		t.Errorf("on day 91: %d ids are known", n)
	}
	if done := insert(t, s, rows[:1]); done.Events != 1 {
		t.Errorf("after the window: %+v", done)
	}
	// What is older than the window when it goes is not remembered.
	if trim(t, s, day(91)); count(t, s, "SELECT count(*) FROM past_ids") != 10 {
		t.Errorf("%d past ids, want those of day 3", count(t, s, "SELECT count(*) FROM past_ids"))
	}
}

func TestIDStaysUniqueAfterItsRowMadeRoom(t *testing.T) {
	t.Parallel()
	cfg := Default()
	cfg.MaxBytes = 2 << 20
	s := open(t, cfg)
	rows := samples(0, 4000, noon)
	insert(t, s, rows)
	gone := trim(t, s, noon).Events
	if gone == 0 || gone == len(rows) {
		t.Fatalf("%d rows were deleted", gone)
	}
	if done := insert(t, s, rows); done != (Inserted{Doubles: len(rows)}) {
		t.Errorf("%+v", done)
	}
	if n := known(t, s, ids(rows)); n != len(rows) {
		t.Errorf("%d are known", n)
	}
}

// TestPastIDsLeaveRoomForRows: a size that the ids alone would fill.
func TestPastIDsLeaveRoomForRows(t *testing.T) {
	t.Parallel()
	cfg := Default()
	cfg.MaxBytes = 4 << 20
	s := open(t, cfg)
	const ids = 200_000
	if _, err := s.writer.exec(`INSERT INTO past_ids WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
SELECT randomblob(16), i, ?2 FROM n`, int64(ids), noon.Unix()/86400); err != nil {
		t.Fatal(err)
	}
	if err := s.count(0, 0, ids); err != nil {
		t.Fatal(err)
	}
	insert(t, s, samples(0, 3000, noon))
	trim(t, s, noon)
	n := count(t, s, "SELECT count(*) FROM past_ids")
	used, err := s.usedBytes()
	if err != nil {
		t.Fatal(err)
	}
	st, err := s.Status(t.Context())
	if err != nil || n < ids || st.Events < 100 {
		t.Errorf("%d past ids, %d events, %v", n, st.Events, err)
	}
	if limit := cfg.MaxBytes/2 + n*pastBytes*3/2; used > limit {
		t.Errorf("%d bytes used, want at most %d", used, limit)
	}
}

func TestUnknownContentIsEqual(t *testing.T) {
	t.Parallel()
	s := open(t, Default())
	imported, resent := sample(1, noon), sample(1, noon)
	imported.Event.Content = 0
	if done := insert(t, s, []Row{imported, resent, imported}); done != (Inserted{Events: 1, Doubles: 2}) {
		t.Errorf("%+v", done)
	}
	first, later := sample(2, noon), sample(2, noon)
	later.Event.Content = 0
	if done := insert(t, s, []Row{first, later}); done != (Inserted{Events: 1, Doubles: 1}) {
		t.Errorf("%+v", done)
	}
}

func TestPastKeyIsWhatSQLMakesOfIt(t *testing.T) {
	t.Parallel()
	s := open(t, Default())
	id := uuid("event", 1)
	for _, text := range []string{
		id, "", "x", strings.ToUpper(id), id + " ", " " + id, id[:35], strings.ReplaceAll(id, "-", ""), strings.Repeat("-", 36),
		strings.Repeat("a", 36), id[:8] + "a" + id[9:], "g" + id[1:], "ä" + id[2:], "--" + id[2:],
	} {
		var want any
		row, err := s.writer.first("SELECT "+pastKeySQL("value")+" FROM (SELECT ? AS value)", text)
		if err == nil {
			want = row[0]
		}
		if diff := cmp.Diff(want, pastKey(text)); err != nil || diff != "" {
			t.Errorf("%q: %v %s", text, err, diff)
		}
	}
}

// TestFileOfVersionOne opens a file that the first release made.
func TestFileOfVersionOne(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "furrow.db")
	rows := samples(0, 600, noon)
	versionOne(t, path, rows)
	cfg := Default()
	cfg.Retention = time.Hour
	s := openAt(t, path, cfg)
	if v := count(t, s, "SELECT max(version) FROM schema_version"); v != int64(len(migrations)) {
		t.Errorf("version %d", v)
	}
	checkTotals(t, s)
	if done := insert(t, s, append(rows, sample(600, noon))); done != (Inserted{Events: 1, Doubles: 600}) {
		t.Errorf("%+v", done)
	}
	if got := trim(t, s, noon.Add(2*time.Hour)); got.Events != 601 {
		t.Errorf("%+v", got)
	}
	if done := insert(t, s, rows); done != (Inserted{Doubles: 600}) {
		t.Errorf("%+v", done)
	}
}

// versionOne makes a file as the first release did, with the rows in it.
func versionOne(tb testing.TB, path string, rows []Row) {
	tb.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		tb.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	defer db.Close()
	exec := func(query string, args ...any) {
		tb.Helper()
		if _, err := db.ExecContext(tb.Context(), query, args...); err != nil {
			tb.Fatalf("%s: %v", query, err)
		}
	}
	for _, p := range []string{"page_size=8192", "auto_vacuum=INCREMENTAL", "journal_mode=WAL"} {
		exec("PRAGMA " + p)
	}
	exec(`CREATE TABLE schema_version (version INTEGER NOT NULL PRIMARY KEY, applied TEXT NOT NULL)`)
	for _, statement := range migrations[0] {
		exec(statement)
	}
	exec("INSERT INTO schema_version VALUES (1, '2026-11-22 12:00:00.000')")
	for _, r := range rows {
		exec(insertEvent(columns), plain(r.Event)...)
	}
	exec(fmt.Sprintf("UPDATE totals SET rows = %d WHERE name = 'events'", len(rows)))
}
