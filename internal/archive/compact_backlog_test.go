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
			for i := range hours {
				more(i) // what was deleted comes again
			}
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
