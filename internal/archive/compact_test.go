package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/event"
)

// later is when every hour of the tests is closed.
var later = day.AddDate(1, 0, 0)

func compactAll(tb testing.TB, a *Archive) Compacted {
	tb.Helper()
	var sum Compacted
	for {
		c, err := a.Compact(context.Background(), later)
		if err != nil {
			tb.Fatal(err)
		}
		sum.add(c)
		if c.Left == 0 {
			return sum
		}
		if c.Hours == 0 {
			tb.Fatalf("compaction does not get on: %+v", c)
		}
	}
}

// dataFilesOf lists what is really there.
func dataFilesOf(tb testing.TB, a *Archive, prefix string) []string {
	tb.Helper()
	var names []string
	if err := a.place.list(context.Background(), prefix, func(name string, _ int64) error {
		names = append(names, name)
		return nil
	}); err != nil {
		tb.Fatal(err)
	}
	slices.Sort(names)
	return names
}

func TestCompactMergesAnHour(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := openAt(t, dir)
	log := story(36)
	if _, err := consume(a, log, 0, 4); err != nil {
		t.Fatal(err)
	}
	c := compactAll(t, a)
	if c.Hours != 4 || c.FilesAfter != 12 || c.FilesBefore <= c.FilesAfter || c.Doubles != 0 {
		t.Errorf("%+v", c)
	}
	wantExactly(t, a, log)
	sameStock(t, a, dir)
	for _, d := range []dataset{rawSet, eventSet, badSet} {
		if names := dataFilesOf(t, a, d.String()+"/"); len(names) != 4 {
			t.Errorf("files %v", names)
		}
	}
	if again := compactAll(t, a); again.Hours != 0 {
		t.Errorf("merged hours were merged again: %+v", again)
	}
	if s := a.Status().Compaction; s.Hours != 4 || s.Pending != 0 {
		t.Errorf("status %+v", s)
	}
	// A range that comes late makes its hour due again.
	late := entry(1000, day)
	write(t, a, "7", 1, late)
	if c := compactAll(t, a); c.Hours != 1 {
		t.Errorf("%+v", c)
	}
	wantExactly(t, a, append(log, late))
	if names := dataFilesOf(t, a, "raw/date=2026-11-22/hour=09/"); len(names) != 1 {
		t.Errorf("files %v", names)
	}
	b := openAt(t, dir)
	if c := compactAll(t, b); c.Hours != 0 {
		t.Errorf("another process merged again: %+v", c)
	}
	wantExactly(t, b, append(log, late))
}

func TestOpenHoursAreLeftAlone(t *testing.T) {
	t.Parallel()
	a := openAt(t, t.TempDir())
	log := story(8)
	if _, err := consume(a, log, 0, 2); err != nil {
		t.Fatal(err)
	}
	if c, err := a.Compact(t.Context(), day.Add(44*time.Minute)); err != nil || c.Hours != 0 {
		t.Errorf("merged an hour that was not over for long enough: %+v %v", c, err)
	}
	r := begin(t, a, "0", 9)
	if err := r.Add(entry(99, day)); err != nil {
		t.Fatal(err)
	}
	if c := compactAll(t, a); c.Hours != 1 { // the second hour only
		t.Errorf("%+v", c)
	}
	r.Abort()
	if c := compactAll(t, a); c.Hours != 1 {
		t.Errorf("%+v", c)
	}
	wantExactly(t, a, log)
	never := openAt(t, t.TempDir(), func(c *Config) { c.Compact.After = 0 })
	write(t, never, "0", 1, log...)
	if c := compactAll(t, never); c.Hours != 0 {
		t.Errorf("%+v", c)
	}
}

// withContent is an event with an id, in a record of its own.
func withContent(n int, id string, at time.Time, content uint64) Entry {
	e := entry(n, at)
	e.Events[0] = pageView(id, at)
	e.Events[0].Record, e.Events[0].Content = e.ID, content
	return e
}

func uuid(n int) string { return event.DeriveEventID(event.RecordID{1}, n) }

func TestEventIsOnceWithinTheWindow(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name      string
		times     []time.Duration
		contents  []uint64
		want      int
		conflicts int64
	}{
		{"a minute later", []time.Duration{0, time.Minute}, []uint64{1, 1}, 1, 0},
		{"across midnight", []time.Duration{14*time.Hour + 29*time.Minute, 14*time.Hour + 31*time.Minute}, []uint64{1, 1}, 1, 0},
		{"three days later", []time.Duration{0, 72 * time.Hour}, []uint64{1, 1}, 1, 0},
		{"at the end of the window", []time.Duration{0, 90 * 24 * time.Hour}, []uint64{1, 1}, 1, 0},
		{"beyond the window", []time.Duration{0, 91 * 24 * time.Hour}, []uint64{1, 1}, 2, 0},
		{"the later one first", []time.Duration{72 * time.Hour, 0}, []uint64{1, 1}, 1, 0},
		{"three times", []time.Duration{0, time.Hour, 25 * time.Hour}, []uint64{1, 1, 0}, 1, 0},
		{"other content", []time.Duration{0, 5 * time.Hour}, []uint64{1, 2}, 1, 1},
		{"unknown content", []time.Duration{0, 5 * time.Hour}, []uint64{0, 2}, 1, 0},
		{"other content in the hour", []time.Duration{0, time.Minute}, []uint64{1, 2}, 1, 1},
	} {
		for _, steps := range []bool{false, true} { // merged after each, or all at the end
			for _, id := range []string{uuid(1), "no uuid"} {
				t.Run(fmt.Sprint(tc.name, steps, id), func(t *testing.T) {
					t.Parallel()
					a := openAt(t, t.TempDir())
					var c Compacted
					for i, after := range tc.times {
						// Others, so that the lists of ids have some length.
						var entries []Entry
						for j := range 50 {
							entries = append(entries, entry(1000*(i+1)+j, day.Add(after)))
						}
						entries = append(entries, withContent(i, id, day.Add(after), tc.contents[i]))
						write(t, a, "0", 1+100*i, entries...)
						if steps {
							c.add(compactAll(t, a))
						}
					}
					c.add(compactAll(t, a))
					got := 0
					for _, other := range eventIDs(t, a, time.Time{}, time.Time{}) {
						if other == id {
							got++
						}
					}
					if got != tc.want || c.Conflicts != tc.conflicts || c.Doubles+c.Conflicts != int64(len(tc.times)-tc.want) {
						t.Errorf("%d rows of the id, want %d; %+v", got, tc.want, c)
					}
					if n := len(eventIDs(t, a, time.Time{}, time.Time{})); n != 50*len(tc.times)+tc.want {
						t.Errorf("%d events", n)
					}
				})
			}
		}
	}
}

// TestReplayIsMergedAway archives the same log twice, under other positions.
func TestReplayIsMergedAway(t *testing.T) {
	t.Parallel()
	for name, where := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			replayIsMergedAway(t, openAt(t, where(t)))
		})
	}
}

func replayIsMergedAway(t *testing.T, a *Archive) {
	t.Helper()
	log := story(40)
	if _, err := consume(a, log, 0, 7); err != nil {
		t.Fatal(err)
	}
	write(t, a, "replay", 1, log...)
	c := compactAll(t, a)
	if c.Doubles != 40 || c.RawDoubles != 40 || c.BadDoubles != 14 {
		t.Errorf("%+v", c)
	}
	wantExactly(t, a, log)
	write(t, a, "replay", 100, log...) // once more, after it was merged
	if c := compactAll(t, a); c.Doubles != 40 || c.RawDoubles != 40 || c.BadDoubles != 14 {
		t.Errorf("%+v", c)
	}
	wantExactly(t, a, log)
	for i, b := range badRowsOf(t, a, time.Time{}, time.Time{}) {
		if event.NewRecordID(b.Payload) != b.Record {
			t.Errorf("bad row %d lost its record", i)
		}
	}
}

func TestManyPasses(t *testing.T) {
	t.Parallel()
	a := openAt(t, t.TempDir())
	const n = 3000
	var entries []Entry
	for i := range n {
		entries = append(entries, entry(i, day))
	}
	write(t, a, "0", 1, entries...)
	write(t, a, "1", 1, entries[:n/2]...)
	write(t, a, "2", 1, entries[n/3:]...)
	a.gens.idsAtOnce = 500
	a.gens.target = 100 << 10
	if c := compactAll(t, a); c.Doubles != n/2+n-n/3 || c.FilesAfter <= 3 {
		t.Errorf("%+v", c)
	}
	wantExactly(t, a, entries)
	// The list of ids is whole: nothing of it comes again in another hour.
	for i := range entries {
		e := entry(i+n, day.Add(48*time.Hour))
		e.Events[0] = pageView(entries[i].Events[0].ID(), day.Add(48*time.Hour))
		entries[i] = e
	}
	write(t, a, "0", n+1, entries...)
	if c := compactAll(t, a); c.Doubles != n {
		t.Errorf("%+v", c)
	}
}

// TestOrderOfTheBus reads records of two partitions, some late, merged in steps.
func TestOrderOfTheBus(t *testing.T) {
	t.Parallel()
	a := openAt(t, quickDir(t), func(c *Config) { c.OpenHours = 1 })
	n := 0
	want := map[string][]string{}
	add := func(partition string, count int) {
		var entries []Entry
		for range count {
			e := entry(n, day.Add(time.Duration(n%2)*time.Hour)) // to and fro: many parts
			e.Key = []byte(partition)
			entries = append(entries, e)
			if n%2 == 0 {
				want[partition] = append(want[partition], e.ID.String())
			}
			n++
		}
		write(t, a, partition, 1+n, entries...)
	}
	check := func() {
		t.Helper()
		got := map[string][]string{}
		for _, r := range rawRows(t, a, time.Time{}, day.Add(30*time.Minute)) {
			got[string(r.Key)] = append(got[string(r.Key)], r.ID)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	a.gens.target = 1 // what is merged stays
	for range 2 {
		add("0", 12)
		add("1", 11)
		check()
		compactAll(t, a)
		check()
		add("0", 3)
		check()
		add("1", 4)
		if _, err := a.Forget(t.Context(), Forgetting{
			Until: later,
			Event: func(string, string, string, time.Time) bool { return false },
			Record: func(id event.RecordID, record []byte) ([]byte, func(int) bool, bool) {
				return record, nil, id[0]%2 == 0
			},
		}, nil); err != nil {
			t.Fatal(err)
		}
		check()
	}
}

// TestTwoProcessesMerge lets two owners of one place merge at the same time.
func TestTwoProcessesMerge(t *testing.T) {
	t.Parallel()
	dir := quickDir(t)
	a := openAt(t, dir)
	var log []Entry
	for i := range 60 {
		log = append(log, withContent(i, uuid(i%30), day.Add(time.Duration(i%30)*time.Hour+time.Duration(i/30)*26*time.Hour), 1))
	}
	write(t, a, "0", 1, log...)
	b := openAt(t, dir)
	a.gens.alone, b.gens.alone = false, false
	errs := make(chan error, 2)
	for _, x := range []*Archive{a, b} {
		go func() {
			for {
				c, err := x.Compact(context.Background(), later)
				if err != nil || c.Left == 0 {
					errs <- err
					return
				}
			}
		}()
	}
	if err := errors.Join(<-errs, <-errs); err != nil {
		t.Fatal(err)
	}
	if got := eventIDs(t, a, time.Time{}, time.Time{}); len(got) != 30 {
		t.Errorf("%d events", len(got))
	}
	if n := len(rawRows(t, a, time.Time{}, time.Time{})); n != 60 {
		t.Errorf("%d records", n)
	}
}
