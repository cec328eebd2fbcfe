package archive

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"furrow/internal/event"
	"furrow/internal/tombstone"
)

// quick is a folder in memory, where there is one: tests that die at every step
// sync thousands of times.
func quick() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

func quickDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp(quick(), "archive-*") //nolint:usetesting // in memory
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func init() {
	_ = flag.Set("rapid.checks", "25") // a default: each is a history on disk
}

// replayed is a log in which some events, records and bad rows come twice.
func replayed(n int) (log, once []Entry) {
	once = story(n)
	log = slices.Clone(once)
	log = append(log, once[n/2:]...)
	log = append(log, once[:n/4]...)
	return log, once
}

// TestCompactDiesAtEveryStep kills the one who merges at every change of the place,
// before and after it happened; readers see the same at every moment, and another
// finishes.
func TestCompactDiesAtEveryStep(t *testing.T) {
	t.Parallel()
	log, once := replayed(8)
	for step := 0; ; step++ {
		died := false
		// Dying before a change is dying after the one before it.
		for _, after := range []bool{true, false}[:1+1/(1+step)] {
			dir := quickDir(t)
			a := openAt(t, dir)
			write(t, a, "0", 1, log[:5]...)
			write(t, a, "0", 6, log[5:]...)
			a.place = &crashing{place: a.place, left: step, after: after}
			_, err := a.Compact(t.Context(), later)
			if err != nil && !errors.Is(err, errCrash) {
				t.Fatal(err)
			}
			died = died || err != nil
			reader := openAt(t, dir)
			if ids := eventIDs(t, reader, time.Time{}, time.Time{}); len(slices.Compact(ids)) != len(once) {
				t.Fatalf("died at step %d (after: %t): readers see %d events", step, after, len(ids))
			}
			if raw := rawRows(t, reader, time.Time{}, time.Time{}); len(raw) > len(log) || len(raw) < len(once) {
				t.Fatalf("died at step %d (after: %t): readers see %d records", step, after, len(raw))
			}
			second := openAt(t, dir)
			second.place = &crashing{place: second.place, left: step % 5, after: !after}
			if _, err := second.Compact(t.Context(), later); err != nil && !errors.Is(err, errCrash) {
				t.Fatal(err)
			}
			third := openAt(t, dir)
			compactAll(t, third)
			wantExactly(t, third, once)
			if t.Failed() {
				t.Fatalf("died at step %d (after: %t)", step, after)
			}
			sameStock(t, third, dir)
			onlyLive(t, third)
		}
		if !died {
			if step < 20 {
				t.Errorf("only %d steps were tried", step)
			}
			return
		}
	}
}

// onlyLive checks that nothing is left of what does not count.
func onlyLive(t *testing.T, a *Archive) {
	t.Helper()
	hours, err := a.between(t.Context(), time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hours {
		all, err := a.files(t.Context(), h, rawSet, eventSet, badSet)
		if err != nil {
			t.Fatal(err)
		}
		if len(all.dead) > 0 || all.state.open > 0 {
			t.Errorf("left in %s: %v, generation %d open", h.time(), all.dead, all.state.open)
		}
		for _, r := range all.state.records {
			if r.kind == intentKind || r.number < all.state.committed {
				t.Errorf("left: %s", r.name)
			}
		}
	}
}

// TestResumedRangeAfterItWasMerged is an owner that placed its files and died, whose
// hour was merged before the next owner finished the range.
func TestResumedRangeAfterItWasMerged(t *testing.T) {
	t.Parallel()
	log := story(20)
	for step := range 8 {
		dir := quickDir(t)
		a := openAt(t, dir)
		a.place = &crashing{place: a.place, left: step, after: true}
		if _, err := consume(a, log, 0, 20); err != nil && !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
		b := openAt(t, dir)
		compactAll(t, b)
		if _, err := consume(b, log, 0, 20); err != nil {
			t.Fatal(err)
		}
		wantExactly(t, b, log)
		sameStock(t, b, dir)
		compactAll(t, b)
		wantExactly(t, b, log)
		onlyLive(t, b)
	}
}

// person is an event of a user; the record names the users it holds, one a line.
func person(n int, at time.Time, users ...string) Entry {
	record := fmt.Appendf(nil, "record %d\n%s\n", n, strings.Join(users, "\n"))
	e := Entry{Record: record, ID: event.NewRecordID(record), Key: []byte(users[0]), Time: at}
	for i, u := range users {
		ev := pageView(event.DeriveEventID(e.ID, i), at)
		ev.SetText([]event.Field{event.UserID, event.DomainUserID, event.NetworkUserID}[i%3], u)
		ev.Record, ev.Index = e.ID, i
		e.Events = append(e.Events, ev)
		e.Bad = append(e.Bad, event.BadRow{
			ID: event.BadRowID(e.ID, i), Record: e.ID, Index: i, Time: at, Schema: "iglu:x",
			Failure: fmt.Appendf(nil, `{"user":%q}`, u), Payload: record,
		})
	}
	return e
}

// forget is the order to take one user out.
func forget(user string, until time.Time) Forgetting {
	return Forgetting{
		Until: until,
		Event: func(a, b, c string, at time.Time) bool {
			return (a == user || b == user || c == user) && !at.After(until)
		},
		Record: func(_ event.RecordID, record []byte) ([]byte, func(int) bool, bool) {
			lines := strings.Split(strings.TrimSpace(string(record)), "\n")
			gone, others := map[int]bool{}, 0
			for i, line := range lines[1:] {
				if line == user {
					gone[i] = true
					lines[i+1] = "-"
				} else if line != "-" {
					others++
				}
			}
			if len(gone) == 0 {
				return record, nil, false
			}
			if others == 0 {
				return nil, func(int) bool { return true }, true
			}
			return []byte(strings.Join(lines, "\n") + "\n"), func(i int) bool { return gone[i] }, true
		},
	}
}

// people is an archive of users on three hours, two of them full, some merged and some not.
func people(t *testing.T, dir string) *Archive {
	t.Helper()
	a := openAt(t, dir)
	users := []string{"anna-anna-anna", "bert-bert-bert", "cora-cora-cora"}
	n := 0
	for part := range 3 {
		var entries []Entry
		for i := range 6 {
			at := day.Add(time.Duration(i%2)*time.Hour + time.Duration(n)*time.Millisecond)
			entries = append(entries, person(n, at, users[n%3]), person(n+1, at, users[n%3], users[(n+1)%3]))
			n += 2
		}
		write(t, a, "0", 1+part*100, entries...)
		if part == 1 {
			compactAll(t, a)
		}
	}
	write(t, a, "0", 900, person(n, day.Add(5*time.Hour), "cora-cora-cora"))
	return a
}

// wantForgotten reads everything, and every byte in the folder.
func wantForgotten(t *testing.T, dir, user string, events int) {
	t.Helper()
	a := openAt(t, dir)
	for _, row := range readAll(t, a, eventSet) {
		if row["user_id"] == user || row["domain_userid"] == user || row["network_userid"] == user {
			t.Fatalf("an event of %s is left: %v", user, row["event_id"])
		}
	}
	for _, d := range []dataset{rawSet, badSet} {
		for _, row := range readAll(t, a, d) {
			for _, name := range []string{"record", "failure", "key"} {
				if s, _ := row[name].(string); strings.Contains(s, user) {
					t.Fatalf("%s is left in %s of %s: %q", user, name, d, s)
				}
			}
		}
	}
	if n := len(eventIDs(t, a, time.Time{}, time.Time{})); n != events {
		t.Fatalf("%d events are left, want %d", n, events)
	}
	for _, b := range badRowsOf(t, a, time.Time{}, time.Time{}) {
		if len(b.Payload) == 0 {
			t.Fatalf("bad row %s lost its record", b.ID)
		}
	}
	onlyLive(t, a)
}

func TestForget(t *testing.T) {
	t.Parallel()
	for name, where := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forgetAndLook(t, where(t))
		})
	}
}

func forgetAndLook(t *testing.T, dir string) {
	t.Helper()
	a := people(t, dir)
	before := eventIDs(t, a, time.Time{}, time.Time{})
	untouched := dataFilesOf(t, a, "events/date=2026-11-22/hour=14/")
	var steps []int
	got, err := a.Forget(t.Context(), forget("anna-anna-anna", later), func(done, total int) { steps = append(steps, done, total) })
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(steps, []int{0, 3, 1, 3, 2, 3, 3, 3}) {
		t.Errorf("progress %v", steps)
	}
	gone := int(got.Events)
	if gone < 15 || got.BadRows != got.Events || got.Records == 0 || got.Files == 0 {
		t.Errorf("%+v", got)
	}
	wantForgotten(t, dir, "anna-anna-anna", len(before)-gone)
	if now := dataFilesOf(t, a, "events/date=2026-11-22/hour=14/"); !slices.Equal(now, untouched) {
		t.Errorf("files without the person were rewritten: %v", now)
	}
	for _, r := range rawRows(t, a, time.Time{}, time.Time{}) {
		redacted := bytes.Contains(r.Record, []byte("-\n"))
		if same := event.NewRecordID(r.Record).String() == r.ID; same == redacted && !bytes.Contains(r.Record, []byte("cora-cora-cora\nanna")) {
			t.Errorf("record %q has id %s", r.Record, r.ID)
		}
	}
	again, err := a.Forget(t.Context(), forget("anna-anna-anna", later), nil)
	if err != nil || again != (Forgotten{}) {
		t.Errorf("the second time: %+v %v", again, err)
	}
	// What is left is merged as ever, and an hour after Until keeps its people.
	compactAll(t, a)
	wantForgotten(t, dir, "anna-anna-anna", len(before)-gone)
	if _, err := a.Forget(t.Context(), forget("cora-cora-cora", day.Add(4*time.Hour)), nil); err != nil {
		t.Fatal(err)
	}
	if n := len(eventIDs(t, a, day.Add(4*time.Hour), time.Time{})); n != 1 {
		t.Errorf("%d events after the time up to which all goes", n)
	}
	if _, err := a.Forget(t.Context(), forget("cora-cora-cora", later), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Forget(t.Context(), forget("bert-bert-bert", later), nil); err != nil {
		t.Fatal(err)
	}
	wantForgotten(t, dir, "bert-bert-bert", 0)
	if raw := rawRows(t, a, time.Time{}, time.Time{}); len(raw) != 0 {
		t.Errorf("%d records are left", len(raw))
	}
	sameStock(t, a, dir)
}

func TestForgetDiesAtEveryStep(t *testing.T) {
	t.Parallel()
	whole := t.TempDir()
	people(t, whole)
	want := -1
	for step := 0; ; step++ {
		died := false
		// Dying before a change is dying after the one before it.
		for _, after := range []bool{true, false}[:1+1/(1+step)] {
			dir := quickDir(t)
			if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
				t.Fatal(err)
			}
			a := openAt(t, dir)
			a.place = &crashing{place: a.place, left: step, after: after}
			_, err := a.Forget(t.Context(), forget("anna-anna-anna", later), nil)
			if err != nil && !errors.Is(err, errCrash) {
				t.Fatal(err)
			}
			died = died || err != nil
			b := openAt(t, dir)
			if step%2 == 0 { // somebody merges in between
				compactAll(t, b)
			}
			if _, err := b.Forget(t.Context(), forget("anna-anna-anna", later), nil); err != nil {
				t.Fatal(err)
			}
			if want < 0 {
				want = len(eventIDs(t, b, time.Time{}, time.Time{}))
			}
			wantForgotten(t, dir, "anna-anna-anna", want)
			sameStock(t, b, dir)
		}
		if !died {
			if step < 20 {
				t.Errorf("only %d steps were tried", step)
			}
			return
		}
	}
}

// TestForgetWaitsForReaders: what is being read stays until it was read.
func TestForgetWaitsForReaders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := people(t, dir)
	n, forgotten := 0, make(chan error, 1)
	err := a.ReadRaw(t.Context(), time.Time{}, time.Time{}, func(RawRow) error {
		if n++; n == 1 {
			go func() {
				_, err := a.Forget(context.Background(), forget("anna-anna-anna", later), nil)
				forgotten <- err
			}()
		}
		return nil
	})
	if err != nil || n == 0 {
		t.Errorf("%d records, %v", n, err)
	}
	if err := <-forgotten; err != nil {
		t.Fatal(err)
	}
}

func TestBuried(t *testing.T) {
	t.Parallel()
	for name, where := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := where(t)
			a := openAt(t, dir)
			stone := func(n byte) tombstone.Tombstone {
				return tombstone.Tombstone{Key: tombstone.Hash{1}, Hash: tombstone.Hash{n}, Until: day.Add(time.Duration(n))}
			}
			for _, stones := range [][]tombstone.Tombstone{nil, {stone(2)}, {stone(3), stone(1), stone(2)}, {stone(1)}} {
				if err := a.Bury(t.Context(), stones); err != nil {
					t.Fatal(err)
				}
			}
			got, err := openAt(t, dir).Buried(t.Context())
			if d := cmp.Diff([]tombstone.Tombstone{stone(1), stone(2), stone(3)}, got); d != "" || err != nil {
				t.Error(d, err)
			}
		})
	}
}

func TestImportedComeBack(t *testing.T) {
	t.Parallel()
	a := openAt(t, t.TempDir())
	full := pageView(uuid(1), day)
	full.Content = 1<<63 + 5
	for i, f := range event.Fields() {
		switch f.Kind() {
		case event.Text, event.JSON:
			if f != event.EventID {
				full.SetText(f, fmt.Sprint("text ", i))
			}
		case event.Decimal:
			full.SetText(f, fmt.Sprint(i, ".25"))
		case event.Int:
			full.SetInt(f, int64(i))
		case event.Bool:
			full.SetInt(f, int64(i%2))
		case event.Time:
			if f != event.CollectorTstamp {
				full.SetTime(f, day.Add(time.Duration(i)*time.Millisecond))
			}
		case event.Float:
			full.SetFloat(f, float32(i)+0.1)
		}
	}
	bare := pageView(uuid(2), day.Add(time.Minute))
	line := entry(1, day)
	line.NoRaw, line.Events = true, []*event.Event{full, bare}
	r, err := a.Begin(t.Context(), "import", "0", position(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Add(line), r.Commit(t.Context(), position(1))); err != nil {
		t.Fatal(err)
	}
	write(t, a, "0", 1, entry(5, day), withContent(6, uuid(2), day.Add(2*time.Minute), 7))
	check := func(want ...*event.Event) {
		t.Helper()
		var got []*event.Event
		if err := a.ReadImported(t.Context(), time.Time{}, time.Time{}, func(e *event.Event) error { got = append(got, e); return nil }); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, cmp.AllowUnexported(event.Event{})); d != "" {
			t.Error(d)
		}
	}
	check(full, bare)
	if c := compactAll(t, a); c.Doubles != 1 {
		t.Errorf("%+v", c)
	}
	check(full, bare)
	if _, err := a.Forget(t.Context(), Forgetting{
		Until:  later,
		Event:  func(id, _, _ string, _ time.Time) bool { return id == full.Text(event.UserID) },
		Record: func(event.RecordID, []byte) ([]byte, func(int) bool, bool) { return nil, nil, false },
	}, nil); err != nil {
		t.Fatal(err)
	}
	check(bare)
	if n := len(eventIDs(t, a, time.Time{}, time.Time{})); n != 2 {
		t.Errorf("%d events", n)
	}
}

func TestIdentifiersAndCounts(t *testing.T) {
	t.Parallel()
	a := people(t, t.TempDir())
	seen := map[string]bool{}
	if err := a.EachIdentifier(t.Context(), func(s string) error { seen[s] = true; return nil }); err != nil || len(seen) != 3 {
		t.Errorf("%v %v", seen, err)
	}
	for _, span := range [][2]time.Time{{}, {day, day.Add(time.Hour)}, {day.Add(20 * time.Millisecond), later}, {later, later}} {
		files, rows, size, err := a.CountRaw(t.Context(), span[0], span[1])
		if err != nil {
			t.Fatal(err)
		}
		if want := int64(len(rawRows(t, a, span[0], span[1]))); rows != want || (files == 0) != (want == 0) || (size == 0) != (want == 0) {
			t.Errorf("%v: %d files, %d rows, want %d, %d bytes", span, files, rows, want, size)
		}
	}
	stop := errors.New("enough")
	if err := a.EachIdentifier(t.Context(), func(string) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
	if err := a.ReadRaw(t.Context(), time.Time{}, time.Time{}, func(RawRow) error { return os.ErrNotExist }); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an error of the reader's own was lost: %v", err)
	}
}

// TestConflictWithinARange: the second event with the id and other content becomes
// the bad row that the database makes of it.
func TestConflictWithinARange(t *testing.T) {
	t.Parallel()
	a := openAt(t, t.TempDir())
	e := withContent(3, uuid(1), day, 2)
	e.Events[0].Index = 4
	write(t, a, "0", 1, withContent(1, uuid(1), day, 1), withContent(2, uuid(1), day, 1), e, withContent(4, uuid(1), day, 0))
	got := badRowsOf(t, a, time.Time{}, time.Time{})
	if len(got) != 1 || got[0].ID != event.BadRowID(e.ID, 4) || !strings.Contains(string(got[0].Failure), "is already stored with other content") || !bytes.Equal(got[0].Payload, e.Record) {
		t.Errorf("%+v", got)
	}
	if s := a.Status(); s.Conflicts != 1 || s.DoublesDropped != 2 || s.Rows["events"] != 1 {
		t.Errorf("%+v", s)
	}
}

func TestRetentionTakesDecisionsAlong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := openAt(t, dir, func(c *Config) { c.Retention = time.Hour })
	log := story(40)
	write(t, a, "0", 1, log...)
	compactAll(t, a)
	if err := a.Prune(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	if left := dataFilesOf(t, a, compactFolder+"/"); len(left) != 2 { // verdict and ids of the newest hour
		t.Errorf("left: %v", left)
	}
	sameStock(t, a, dir)
}

// TestDamagedLists reads the events where their list cannot be read.
func TestDamagedLists(t *testing.T) {
	t.Parallel()
	for _, damage := range []func([]byte) []byte{
		func([]byte) []byte { return nil },
		func(b []byte) []byte { return b[:len(b)-1] },
		func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		func(b []byte) []byte { return append([]byte("x"), b...) },
	} {
		dir := t.TempDir()
		a := openAt(t, dir)
		var log []Entry
		for i := range 30 {
			log = append(log, entry(i, day))
		}
		write(t, a, "0", 1, log...)
		compactAll(t, a)
		lists, err := filepath.Glob(filepath.Join(dir, compactFolder, "*", "*", "*."+idsKind))
		if err != nil || len(lists) != 1 {
			t.Fatal(lists, err)
		}
		data, err := os.ReadFile(lists[0])
		if err != nil || len(data) > 50+30*7 {
			t.Fatalf("%d bytes, %v", len(data), err)
		}
		if err := os.WriteFile(lists[0], damage(data), 0o600); err != nil {
			t.Fatal(err)
		}
		write(t, a, "0", 100, withContent(999, log[20].Events[0].ID(), day.Add(30*time.Hour), 1))
		if c := compactAll(t, a); c.Doubles != 1 {
			t.Errorf("%+v", c)
		}
	}
}

func FuzzIDs(f *testing.F) {
	f.Add([]byte(idsMagic + "\x00\x00\x00\x00\x00"))
	f.Add([]byte(idsMagic + "\x01\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		last, n := uint64(0), 0
		err := readIDs(bytes.NewReader(data), make([]byte, idsBuffer), func(p uint64) bool {
			if n++; p < last || n > 1 && p == last {
				t.Fatal("a list that does not rise")
			}
			last = p
			return true
		})
		if err == nil && n >= len(data) {
			t.Fatal("more ids than bytes")
		}
	})
}

// TestHoursOfAnyHistory is a random history of ranges, doubles, late files, merges,
// crashes and forgetting: readers see exactly what they must.
func TestHoursOfAnyHistory(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		dir, err := os.MkdirTemp(quick(), "archive-*") //nolint:usetesting // in memory, and gone after each run
		if err != nil {
			r.Fatal(err)
		}
		defer os.RemoveAll(dir)
		h := history{Archive: openAt(t, dir), events: map[string]string{}, dir: dir}
		for range rapid.IntRange(2, 8).Draw(r, "steps") {
			h.step(t, r)
			h.check(r)
		}
		h.crash = nil
		h.Archive = openAt(t, dir)
		compactAll(t, h.Archive)
		h.merged = true
		h.check(r)
	})
}

type history struct {
	*Archive
	dir    string
	next   int
	log    []Entry
	events map[string]string // id → user
	made   int
	merged bool
	crash  *crashing
}

func (h *history) step(t *testing.T, r *rapid.T) {
	t.Helper()
	h.merged = false
	switch rapid.SampledFrom([]string{"range", "range", "again", "merge", "merge and die", "forget", "reopen"}).Draw(r, "step") {
	case "range":
		var entries []Entry
		for range rapid.IntRange(1, 6).Draw(r, "records") {
			user := rapid.SampledFrom([]string{"anna", "bert", "cora"}).Draw(r, "user")
			h.made++
			e := person(h.made, day.Add(time.Duration(rapid.IntRange(0, 2).Draw(r, "hour"))*time.Hour), user)
			h.log = append(h.log, e)
			entries = append(entries, e)
		}
		h.add(t, entries)
	case "again":
		if len(h.log) > 0 {
			h.add(t, h.log[rapid.IntRange(0, len(h.log)-1).Draw(r, "from"):])
		}
	case "merge":
		compactAll(t, h.Archive)
		h.merged = true
	case "merge and die", "reopen":
		h.place = &crashing{place: h.place, left: rapid.IntRange(0, 25).Draw(r, "changes"), after: rapid.Bool().Draw(r, "after")}
		if _, err := h.Compact(t.Context(), later); err != nil && !errors.Is(err, errCrash) {
			r.Fatal(err)
		}
		h.Archive = openAt(t, h.dir)
	case "forget":
		user := rapid.SampledFrom([]string{"anna", "bert"}).Draw(r, "who")
		if _, err := h.Forget(t.Context(), forget(user, later), nil); err != nil {
			r.Fatal(err)
		}
		for id, u := range h.events {
			if u == user {
				delete(h.events, id)
			}
		}
		h.log = slices.DeleteFunc(slices.Clone(h.log), func(e Entry) bool { return strings.Contains(string(e.Record), user) })
	}
}

func (h *history) add(t *testing.T, entries []Entry) {
	t.Helper()
	write(t, h.Archive, "0", 1+h.next, entries...)
	h.next += len(entries)
	for _, e := range entries {
		h.events[e.Events[0].ID()] = string(e.Key)
	}
}

func (h *history) check(r *rapid.T) {
	fail := func(err error) {
		if err != nil {
			r.Fatal(err)
		}
	}
	events, raw, bad := map[string]int{}, map[string]int{}, map[string]int{}
	fail(h.ReadEvents(context.Background(), time.Time{}, time.Time{}, func(id string, _ time.Time) error { events[id]++; return nil }))
	fail(h.ReadRaw(context.Background(), time.Time{}, time.Time{}, func(row RawRow) error { raw[row.ID]++; return nil }))
	fail(h.ReadBad(context.Background(), time.Time{}, time.Time{}, func(b event.BadRow) error { bad[b.ID]++; return nil }))
	if len(events) != len(h.events) || len(raw) != len(h.events) || len(bad) != len(h.events) {
		r.Fatalf("%d events, %d records, %d bad rows; want %d", len(events), len(raw), len(bad), len(h.events))
	}
	for id := range events {
		if _, ok := h.events[id]; !ok {
			r.Fatalf("event %s was forgotten", id)
		}
	}
	for _, rows := range []map[string]int{events, raw, bad} {
		for id, n := range rows {
			if h.merged && n != 1 {
				r.Fatalf("%s is there %d times", id, n)
			}
		}
	}
}
