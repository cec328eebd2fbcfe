package store

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/event"
)

// visit is the n-th event of a person. Some are larger than a page.
func visit(person, n int, at time.Time) Row {
	r := sample(person*1_000_000+n, at)
	r.Event.SetText(event.UserID, name(person))
	r.Event.SetText(event.DomainUserID, name(person)+"-browser")
	r.Event.SetText(event.NetworkUserID, name(person)+"-cookie")
	size := 10
	if n%7 == 0 {
		size = 1000
	}
	r.Event.SetText(event.Contexts, `["`+strings.Repeat(name(person)+" ", size)+`"]`)
	return r
}

func name(person int) string { return fmt.Sprintf("person-%06d", person) }

// traces returns the names, of those given, that lie anywhere in the files.
func traces(tb testing.TB, path string, names []string) []string {
	tb.Helper()
	var found []string
	for _, suffix := range []string{"", "-wal", "-shm"} {
		file, err := os.ReadFile(path + suffix)
		if err != nil && !os.IsNotExist(err) {
			tb.Fatal(err)
		}
		for _, n := range names {
			if at := bytes.Index(file, []byte(n)); at >= 0 {
				found = append(found, fmt.Sprintf("%s in %s at byte %d of page %d", n, filepath.Base(path)+suffix, at%8192, at/8192+1))
			}
		}
	}
	return found
}

func forget(tb testing.TB, s *SQLite, order Forgetting) Forgotten {
	tb.Helper()
	done, err := s.Forget(tb.Context(), order)
	if err != nil {
		tb.Fatal(err)
	}
	checkTotals(tb, s)
	return done
}

func aliases(person int) []string {
	return []string{name(person), name(person) + "-browser", name(person) + "-cookie"}
}

// recordsOf judges records of badRows made by line: one person to a line, the event
// index its number.
func recordsOf(gone ...string) func(event.RecordID, []byte) ([]byte, func(int) bool, bool) {
	return func(_ event.RecordID, record []byte) ([]byte, func(int) bool, bool) {
		lines := bytes.Split(record, []byte("\n"))
		drop := map[int]bool{}
		for i, line := range lines {
			for _, g := range gone {
				if bytes.Contains(line, []byte(g)) {
					drop[i] = true
					lines[i] = []byte("(redacted)")
				}
			}
		}
		if len(drop) == len(lines) {
			return nil, nil, true
		}
		return bytes.Join(lines, []byte("\n")), func(i int) bool { return drop[i] }, len(drop) > 0
	}
}

func lines(persons ...int) []byte {
	var b [][]byte
	for _, p := range persons {
		b = append(b, []byte(strings.Repeat(name(p)+" ", 200)))
	}
	return bytes.Join(b, []byte("\n"))
}

// TestForgottenPeopleLeaveNoTraceInTheFile deletes and forgets in random order, so
// that SQLite merges pages and moves rows before they go.
func TestForgottenPeopleLeaveNoTraceInTheFile(t *testing.T) {
	t.Parallel()
	const persons, visits = 60, 15
	rnd := rand.New(rand.NewPCG(1, 2))
	path := filepath.Join(t.TempDir(), "furrow.db")
	var rows []Row
	var bad []event.BadRow
	for p := range persons {
		for n := range visits {
			rows = append(rows, visit(p, n, noon.Add(time.Duration(len(rows))*time.Millisecond)))
		}
		for _, b := range badRows(lines(p, (p+1)%persons, (p+2)%persons), 3, noon) {
			b.Failure = fmt.Appendf(nil, `{"data":%q}`, strings.Repeat(name((p+b.Index)%persons)+" ", 30))
			bad = append(bad, b)
		}
	}
	rnd.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	// An older program stored half of them, and deleted some without a care.
	versionOne(t, path, rows[:len(rows)/2])
	s := openAt(t, path, Default())
	insert(t, s, rows[len(rows)/2:], bad...)
	order := rnd.Perm(persons)
	var gone []string
	for len(order) > 0 {
		some := order[:min(1+rnd.IntN(10), len(order))]
		order = order[len(some):]
		var ids, names []string
		for _, p := range some {
			ids, names = append(ids, aliases(p)...), append(names, name(p))
		}
		gone = append(gone, names...)
		done := forget(t, s, Forgetting{Identifiers: ids, Until: noon.Add(time.Hour), Record: recordsOf(names...)})
		if done.Events != int64(len(some)*visits) || done.BadRows != int64(3*len(some)) || done.Records == 0 {
			t.Errorf("%d persons: %+v", len(some), done)
		}
		if left := traces(t, path, gone); len(left) > 0 {
			t.Fatalf("after %d persons: %d traces, such as %s", len(gone), len(left), left[0])
		}
		if found := traces(t, path, namesOf(order)); len(found) < len(order) {
			t.Fatalf("%d persons are left, %d are in the file", len(order), len(found))
		}
		var check any
		if row, err := s.writer.first("PRAGMA integrity_check"); err == nil {
			check = row[0]
		}
		if check != "ok" {
			t.Fatalf("the file is broken: %v", check)
		}
	}
	if st, err := s.Status(t.Context()); err != nil || st.Events != 0 || st.Bad != 0 {
		t.Errorf("%+v, %v", st, err)
	}
}

func namesOf(persons []int) []string {
	var names []string
	for _, p := range persons {
		names = append(names, name(p))
	}
	return names
}

func TestForgetTakesWhatItIsToldAndNothingElse(t *testing.T) {
	t.Parallel()
	s := open(t, Default())
	until := noon.Add(time.Minute)
	at := func(n int, at time.Time, set func(*event.Event)) Row {
		r := sample(n, at)
		for _, f := range []event.Field{event.UserID, event.DomainUserID, event.NetworkUserID} {
			r.Event.Clear(f)
		}
		set(r.Event)
		return r
	}
	text := func(f event.Field, v string) func(*event.Event) { return func(e *event.Event) { e.SetText(f, v) } }
	gone := []Row{
		at(0, noon, text(event.UserID, "o'neil")), at(1, noon, text(event.DomainUserID, "o'neil")),
		at(2, until, text(event.NetworkUserID, "Grüße")),
		at(3, noon, func(e *event.Event) { e.SetText(event.UserID, "another"); e.SetText(event.NetworkUserID, "o'neil") }),
	}
	kept := []Row{
		at(10, noon, text(event.UserID, "O'Neil")), at(11, noon, text(event.UserID, "o'neil ")),
		at(12, noon, text(event.DomainUserID, "o'nei")), at(13, noon, text(event.AppID, "o'neil")),
		at(14, noon, func(*event.Event) {}), at(15, until.Add(time.Millisecond), text(event.UserID, "o'neil")),
		at(16, noon, text(event.UserID, "\ufffd")),
	}
	insert(t, s, slices.Concat(gone, kept))
	// A step that finds nobody does no harm, nor do values that no event can hold.
	for _, ids := range [][]string{nil, {""}, {"nobody"}, {"\xff", "a\x00b", "%", "*"}} {
		if done := forget(t, s, Forgetting{Identifiers: ids, Until: until}); done != (Forgotten{}) {
			t.Errorf("%q: %+v", ids, done)
		}
	}
	order := Forgetting{Identifiers: []string{"o'neil", "", "Grüße", "\xff"}, Until: until.Add(time.Microsecond)}
	if done := forget(t, s, order); done != (Forgotten{Events: int64(len(gone))}) {
		t.Errorf("%+v", done)
	}
	if n := known(t, s, ids(gone)); n != 0 {
		t.Errorf("%d forgotten ids are known", n)
	}
	if n := known(t, s, ids(kept)); n != len(kept) {
		t.Errorf("%d of %d others are left", n, len(kept))
	}
	if done := forget(t, s, order); done != (Forgotten{}) {
		t.Errorf("again: %+v", done)
	}
	// What comes later under the same id is new.
	if done := insert(t, s, gone); done.Events != len(gone) {
		t.Errorf("%+v", done)
	}
}

func TestForgetRewritesRecordsOfBadRows(t *testing.T) {
	t.Parallel()
	s := open(t, Default())
	shared, alone, others := badRows(lines(1, 2, 1), 3, noon), badRows(lines(1), 1, noon), badRows(lines(2, 3), 2, noon)
	lost := badRows(append(lines(1), "\nx"...), 1, noon) // its only bad row goes, the rest of it was stored
	many := badRows(bytes.Join([][]byte{lines(2), bytes.Repeat([]byte("\n"+name(1)), 1300)}, nil), 1301, noon)
	var all []event.BadRow
	for _, rows := range [][]event.BadRow{shared, alone, others, lost, many} {
		all = append(all, rows...)
	}
	insert(t, s, nil, all...)
	judged := map[event.RecordID]int{}
	judge := recordsOf(name(1))
	done := forget(t, s, Forgetting{Record: func(id event.RecordID, record []byte) ([]byte, func(int) bool, bool) {
		judged[id]++
		return judge(id, record)
	}})
	if want := (Forgotten{BadRows: 2 + 1 + 1 + 1300, Records: 4}); done != want {
		t.Errorf("%+v, want %+v", done, want)
	}
	for id, n := range judged {
		if n != 1 {
			t.Errorf("record %s was judged %d times", id, n)
		}
	}
	if len(judged) != 5 {
		t.Errorf("%d records were judged", len(judged))
	}
	want := map[string]string{
		shared[1].ID: "(redacted)\n" + string(lines(2)) + "\n(redacted)",
		others[0].ID: string(lines(2, 3)), others[1].ID: string(lines(2, 3)),
		many[0].ID: string(lines(2)) + strings.Repeat("\n(redacted)", 1300),
	}
	got := map[string]string{}
	for _, b := range eachBad(t, s, BadFilter{Records: true}) {
		got[b.ID] = string(b.Payload)
		if b.ID == shared[1].ID && b.Record != shared[1].Record {
			t.Error("a rewritten record lost its id")
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := count(t, s, "SELECT count(*) FROM bad_records"); n != 3 {
		t.Errorf("%d records", n)
	}
}

func TestForgetWaitsForReadersOfTheLog(t *testing.T) {
	t.Parallel()
	s := open(t, Default())
	insert(t, s, []Row{visit(1, 0, noon), visit(2, 0, noon)})
	tx, err := s.pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := tx.QueryRowContext(t.Context(), "SELECT count(*) FROM events").Scan(&n); err != nil || n != 2 {
		t.Fatalf("%d events, %v", n, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	order := Forgetting{Identifiers: aliases(1), Until: noon}
	if _, err := s.Forget(ctx, order); err == nil || !strings.Contains(err.Error(), "reader") || strings.Contains(err.Error(), name(1)) {
		t.Errorf("while a reader still sees the person: %v", err)
	}
	insert(t, s, []Row{visit(3, 0, noon)})
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	forget(t, s, order)
	if left := traces(t, s.path, namesOf([]int{1})); len(left) > 0 {
		t.Error(left)
	}
}

func TestPerson(t *testing.T) {
	t.Parallel()
	s := open(t, Default())
	var rows []Row
	for n := range 3000 {
		rows = append(rows, sample(n, noon.Add(-time.Hour)))
	}
	for n := range 5 {
		rows = append(rows, visit(1, n, noon.Add(time.Duration(4-n)*time.Minute)))
	}
	phone := visit(1, 9, noon.Add(time.Hour))
	phone.Event.SetText(event.DomainUserID, "phone")
	phone.Event.Clear(event.NetworkUserID)
	insert(t, s, append(rows, phone))
	for _, c := range []struct {
		ids  []string
		want Person
	}{
		{nil, Person{Linked: []Identity{}}},
		{[]string{"", "nobody", "\xff"}, Person{Linked: []Identity{}}},
		{[]string{name(1), name(1)}, Person{Events: 6, First: noon, Last: noon.Add(time.Hour), Linked: []Identity{
			{"domain_userid", name(1) + "-browser", 5}, {"network_userid", name(1) + "-cookie", 5}, {"domain_userid", "phone", 1},
		}}},
		{[]string{"phone", name(1) + "-cookie"}, Person{Events: 6, First: noon, Last: noon.Add(time.Hour), Linked: []Identity{
			{"user_id", name(1), 6}, {"domain_userid", name(1) + "-browser", 5},
		}}},
	} {
		got, err := s.Person(t.Context(), c.ids)
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%q: %v %s", c.ids, err, diff)
		}
	}
	var crowd []Row
	for n := range 150 {
		r := sample(10_000+n, noon)
		r.Event.SetText(event.UserID, "crowd")
		r.Event.SetText(event.DomainUserID, fmt.Sprint("browser ", n))
		crowd = append(crowd, r)
	}
	insert(t, s, crowd)
	if p, err := s.Person(t.Context(), []string{"crowd"}); err != nil || p.Events != 150 || len(p.Linked) != linkedMost {
		t.Errorf("%d events, %d linked, %v", p.Events, len(p.Linked), err)
	}
}

func TestEachIdentifierIsNamedOnce(t *testing.T) {
	t.Parallel()
	s := open(t, Default())
	rows := samples(0, 2500, noon)
	want := map[string]bool{"both": true}
	rows[0].Event.SetText(event.UserID, "both")
	rows[2499].Event.SetText(event.DomainUserID, "both")
	rows[100].Event.Clear(event.NetworkUserID)
	for _, r := range rows {
		for _, f := range []event.Field{event.UserID, event.DomainUserID, event.NetworkUserID} {
			if v := r.Event.Text(f); v != "" {
				want[v] = true
			}
		}
	}
	insert(t, s, rows)
	got := map[string]bool{}
	err := s.EachIdentifier(t.Context(), func(identifier string) error {
		if got[identifier] {
			t.Errorf("%q twice", identifier)
		}
		got[identifier] = true
		if len(got) == 10 { // nothing is locked meanwhile
			insert(t, s, samples(90_000, 1, noon))
			want[uuid("user", 90_000/8/3)], want[uuid("network", 90_000/8/3)] = true, true
		}
		return nil
	})
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	if err := s.EachIdentifier(t.Context(), func(string) error { return errClosed }); err != errClosed { //nolint:errorlint // the caller's own error comes back
		t.Errorf("%v", err)
	}
}

// FuzzUnused gives pages that are none. What holds rows must stay as it is.
func FuzzUnused(f *testing.F) {
	page := make([]byte, 512)
	copy(page, []byte{0x0d, 1, 0, 0, 1, 1, 200, 0, 1, 250})
	copy(page[256:], []byte{0, 0, 0, 20, 9, 9})
	f.Add(page)
	f.Fuzz(func(t *testing.T, page []byte) {
		before := bytes.Clone(page)
		if dirty := clean(page, false); !bytes.Equal(page, before) {
			t.Error("a look changed the page")
		} else if wrote := clean(page, true); wrote != dirty || wrote == bytes.Equal(page, before) {
			t.Errorf("dirty %v, written %v", dirty, wrote)
		}
		if clean(page, false) {
			t.Error("not clean after cleaning")
		}
		if len(page) >= 8 && !bytes.Equal(page[:8], before[:8]) {
			t.Error("the header changed")
		}
	})
}
