package archive

import (
	"context"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// listReads counts how often a list of ids is opened.
type listReads struct {
	place
	n *atomic.Int64
}

func (l listReads) open(ctx context.Context, name string) (object, error) {
	if strings.HasSuffix(name, "."+idsKind) {
		l.n.Add(1)
	}
	return l.place.open(ctx, name)
}

// TestBacklogReadsListsOnce: merging many hours in one call reads the lists once,
// not once an hour.
func TestBacklogReadsListsOnce(t *testing.T) {
	t.Parallel()
	a := openAt(t, quickDir(t))
	var n atomic.Int64
	a.place = listReads{a.place, &n}
	const hours = 20
	made := 0
	hourly := func() {
		entries := make([]Entry, hours)
		for h := range entries {
			made++
			entries[h] = entry(made, day.Add(time.Duration(h)*time.Hour))
		}
		write(t, a, "0", made, entries...)
	}
	hourly()
	if c := compactAll(t, a); c.Hours != hours || n.Load() != 0 {
		t.Errorf("%d hours that were never merged: %d lists read", c.Hours, n.Load())
	}
	hourly() // late events everywhere
	if c := compactAll(t, a); c.Hours != hours || n.Load() != hours {
		t.Errorf("%d hours with late files: %d lists read", c.Hours, n.Load())
	}
	n.Store(0)
	a.gens.idsAtOnce = 15 // three of each hour
	hourly()
	if c := compactAll(t, a); c.Hours != hours || n.Load() < 3*hours || n.Load() > hours*hours/3 {
		t.Errorf("%d hours, five at a time: %d lists read", c.Hours, n.Load())
	}
	if got := len(eventIDs(t, a, time.Time{}, time.Time{})); got != made {
		t.Errorf("%d events, want %d", got, made)
	}
}

// TestBacklogThatChanges: what the backlog knew of an hour is of no use once the
// hour or its list is another; no event comes twice, and none is lost.
func TestBacklogThatChanges(t *testing.T) {
	t.Parallel()
	const hours, ids = 6, 40
	for name, change := range map[string]func(t *testing.T, a *Archive, dir string, more func(hour int)){
		"nothing":    func(*testing.T, *Archive, string, func(int)) {},
		"late files": func(_ *testing.T, _ *Archive, _ string, more func(int)) { more(1); more(4) },
		"merged by another": func(t *testing.T, _ *Archive, dir string, more func(int)) {
			t.Helper()
			more(3)
			compactAll(t, openAt(t, dir))
		},
		"people forgotten": func(t *testing.T, a *Archive, _ string, _ func(int)) {
			t.Helper()
			if _, err := a.Forget(t.Context(), forget("nobody", later), nil); err != nil {
				t.Fatal(err)
			}
		},
		"lists damaged": func(t *testing.T, a *Archive, dir string, _ func(int)) {
			t.Helper()
			for _, list := range dataFilesOf(t, a, compactFolder+"/") {
				if strings.HasSuffix(list, idsKind) {
					if err := os.WriteFile(dir+"/"+list, []byte("damaged"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
		},
		"an hour deleted": func(t *testing.T, a *Archive, _ string, more func(int)) {
			t.Helper()
			if err := a.removeHour(t.Context(), hourOf(day)); err != nil {
				t.Fatal(err)
			}
			more(0) // other events come, in files of the same names
		},
	} {
		for _, damagedBefore := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				dir := quickDir(t)
				a := openAt(t, dir)
				rnd := rand.New(rand.NewPCG(1, 2))
				next, want := 0, map[string]bool{}
				more := func(h int) {
					var entries []Entry
					for range 12 {
						next++
						id := uuid(rnd.IntN(ids))
						want[id] = true
						entries = append(entries, withContent(next, id, day.Add(time.Duration(h)*time.Hour), 0))
					}
					write(t, a, "0", next, entries...)
				}
				for h := range hours / 2 {
					more(h)
				}
				compactAll(t, a)
				if damagedBefore {
					for _, list := range dataFilesOf(t, a, compactFolder+"/") {
						if strings.HasSuffix(list, idsKind) {
							if err := os.Remove(dir + "/" + list); err != nil {
								t.Fatal(err)
							}
							plant(t, a, list, idsMagic)
						}
					}
				}
				for h := range hours {
					more(h)
				}
				due := a.gens.dueHours()
				ahead := a.foresee(t.Context(), due)
				if len(ahead.hours) != hours {
					t.Fatalf("%d hours foreseen", len(ahead.hours))
				}
				change(t, a, dir, more)
				for _, h := range due {
					if _, err := a.compactHour(t.Context(), h, ahead); err != nil {
						t.Fatal(err)
					}
				}
				compactAll(t, a)
				count := map[string]int{}
				for _, id := range eventIDs(t, a, time.Time{}, time.Time{}) {
					if count[id]++; count[id] > 1 {
						t.Errorf("%s is there %d times", id, count[id])
					}
				}
				if name != "an hour deleted" && len(count) != len(want) {
					t.Errorf("%d ids, want %d", len(count), len(want))
				}
				onlyLive(t, a)
			})
		}
	}
}

// TestDamagedHourStopsNoOther: an hour that cannot be merged is reported, and comes
// after the others the next time.
func TestDamagedHourStopsNoOther(t *testing.T) {
	t.Parallel()
	dir := quickDir(t)
	a := openAt(t, dir)
	const hours, damaged = 8, 4
	var log []Entry
	for i := range hours {
		log = append(log, entry(i, day.Add(time.Duration(i)*time.Hour)))
	}
	write(t, a, "0", 1, log...)
	whole := make(map[string][]byte)
	for _, name := range dataFilesOf(t, a, eventSet.String()+"/")[:damaged] {
		data, err := os.ReadFile(dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		whole[name] = data
		if err := os.WriteFile(dir+"/"+name, []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	merged := 0
	for _, left := range []int{hours, damaged} {
		c, err := a.Compact(t.Context(), later)
		if err == nil || c.Left != left {
			t.Errorf("%d hours left, want %d; error %v", c.Left, left, err)
		}
		merged += c.Hours
	}
	if merged != hours-damaged {
		t.Errorf("%d hours merged, want all that are whole", merged)
	}
	for name, data := range whole {
		if err := os.WriteFile(dir+"/"+name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	compactAll(t, a)
	wantExactly(t, a, log)
	onlyLive(t, a)
}

// TestDoubleOfAnHourThatIsGone: the list of an hour outlived its files, as when
// another process deletes the hour while it is merged. That stops no merge.
func TestDoubleOfAnHourThatIsGone(t *testing.T) {
	t.Parallel()
	dir := quickDir(t)
	a := openAt(t, dir)
	write(t, a, "0", 1, withContent(1, uuid(1), day, 1))
	compactAll(t, a)
	for _, name := range dataFilesOf(t, a, eventSet.String()+"/") {
		if err := a.place.remove(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	write(t, a, "0", 2, withContent(2, uuid(1), day.Add(5*time.Hour), 1), withContent(3, uuid(2), day.Add(6*time.Hour), 1))
	if c := compactAll(t, a); c.Hours != 2 || c.Doubles != 0 {
		t.Errorf("%+v", c)
	}
}

// TestClockThatRanAhead: a process whose clock was years ahead died while it merged
// on a place that others share.
func TestClockThatRanAhead(t *testing.T) {
	t.Parallel()
	dir := quickDir(t)
	ahead, a := openAt(t, dir), openAt(t, dir)
	ahead.gens.alone, a.gens.alone = false, false
	ahead.now = func() time.Time { return time.Now().AddDate(3, 0, 0) }
	log := []Entry{entry(1, day)}
	write(t, ahead, "0", 1, log...)
	ahead.place = &crashing{place: ahead.place, left: 2}
	if _, err := ahead.Compact(t.Context(), later); err == nil {
		t.Fatal("it did not die")
	}
	a.gens.late(hourOf(day))
	if c := compactAll(t, a); c.Hours != 1 {
		t.Errorf("%+v", c)
	}
	wantExactly(t, a, log)
}

// TestListNameUsedAgain: an hour that was deleted and comes again has a list of the
// name that another one had.
func TestListNameUsedAgain(t *testing.T) {
	t.Parallel()
	a := openAt(t, quickDir(t))
	at := func(h int) time.Time { return day.Add(time.Duration(h) * time.Hour) }
	write(t, a, "0", 1, withContent(1, uuid(1), at(0), 1))
	compactAll(t, a)
	write(t, a, "0", 2, withContent(2, uuid(2), at(1), 1), withContent(3, uuid(3), at(2), 1))
	before := dataFilesOf(t, a, compactFolder+"/")
	ahead := a.foresee(t.Context(), a.gens.dueHours())
	if err := a.removeHour(t.Context(), hourOf(day)); err != nil {
		t.Fatal(err)
	}
	write(t, a, "0", 4, withContent(4, uuid(2), at(0), 1))
	for i := range 3 {
		if _, err := a.compactHour(t.Context(), hourOf(at(i)), ahead); err != nil {
			t.Fatal(err)
		}
	}
	if after := dataFilesOf(t, a, compactFolder+"/"); after[0] != before[0] {
		t.Fatalf("the names differ: %v, %v", before, after)
	}
	if ids := eventIDs(t, a, time.Time{}, time.Time{}); len(ids) != 2 {
		t.Errorf("events %v", ids)
	}
}
