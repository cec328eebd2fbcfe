package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/bus"
	"furrow/internal/event"
)

var errCrash = errors.New("the process died")

// crashing lets a number of changes through and then dies, before or after the
// change that is one too many. What is dead changes nothing any more.
type crashing struct {
	place
	left  int
	after bool
	dead  bool
}

func (c *crashing) step(change func() error) error {
	if c.dead {
		return errCrash
	}
	if c.left--; c.left >= 0 {
		return change()
	}
	c.dead = true
	if c.after {
		if err := change(); err != nil {
			return err
		}
	}
	return errCrash
}

func (c *crashing) create(ctx context.Context, name string, content []byte) (created bool, err error) {
	err = c.step(func() (err error) {
		created, err = c.place.create(ctx, name, content)
		return err
	})
	return created, err
}

func (c *crashing) put(ctx context.Context, local, name string) error {
	return c.step(func() error { return c.place.put(ctx, local, name) })
}

func (c *crashing) remove(ctx context.Context, name string) error {
	return c.step(func() error { return c.place.remove(ctx, name) })
}

// consume does what the recorder does with a partition: ranges that roll after so
// many records, or where an earlier owner's intent says, acknowledged only after
// Commit. It returns how far the acknowledgement came.
func consume(a *Archive, log []Entry, acked, roll int) (int, error) {
	for acked < len(log) {
		r, err := a.Begin(context.Background(), "raw", "0", position(acked+1))
		if err != nil {
			return acked, err
		}
		for next := acked + 1; ; next++ {
			if err := r.Add(log[next-1]); err != nil {
				return acked, err
			}
			end := next == len(log) || next-acked == roll
			if last, ok := r.Intended(); ok {
				end = position(next) == last
			}
			if !end {
				continue
			}
			if err := r.Commit(context.Background(), position(next)); err != nil {
				return acked, err
			}
			acked = next
			break
		}
	}
	return acked, nil
}

// story is a log across three hours, with a bad row in every third record.
func story(n int) []Entry {
	log := make([]Entry, n)
	for i := range log {
		log[i] = entry(i, day.Add(time.Duration(i)*5*time.Minute))
		if i%3 == 0 {
			log[i].Bad = []event.BadRow{{ID: event.BadRowID(log[i].ID, 1), Record: log[i].ID, Index: 1, Time: log[i].Time, Payload: log[i].Record}}
		}
	}
	return log
}

func wantExactly(t *testing.T, a *Archive, log []Entry) {
	t.Helper()
	var events, records, bad []string
	for _, e := range log {
		records = append(records, e.ID.String())
		for _, ev := range e.Events {
			events = append(events, ev.ID())
		}
		for _, b := range e.Bad {
			bad = append(bad, b.ID)
		}
	}
	var gotRecords, gotBad []string
	for _, r := range rawRows(t, a, time.Time{}, time.Time{}) {
		gotRecords = append(gotRecords, r.ID)
	}
	if err := a.ReadBad(t.Context(), time.Time{}, time.Time{}, func(b event.BadRow) error {
		gotBad = append(gotBad, b.ID)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, s := range [][]string{events, records, bad, gotRecords, gotBad} {
		slices.Sort(s)
	}
	for what, pair := range map[string][2][]string{
		"events": {events, eventIDs(t, a, time.Time{}, time.Time{})}, "raw": {records, gotRecords}, "bad": {bad, gotBad},
	} {
		if !slices.Equal(pair[0], pair[1]) {
			t.Errorf("%s are not there exactly once: %d rows, want %d\n%s", what, len(pair[1]), len(pair[0]), cmp.Diff(pair[0], pair[1]))
		}
	}
}

// TestCrashAtEveryStep kills the owner at every change of the place, twice: once
// before and once after it happened. Another owner then goes on from what was
// acknowledged, rolls elsewhere, dies as well, and a third one finishes.
func TestCrashAtEveryStep(t *testing.T) {
	t.Parallel()
	for name, where := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := story(16)
			crashes := 0
			for step := 0; ; step++ {
				died := false
				for _, after := range []bool{false, true} {
					dir := where(t)
					first := openAt(t, dir)
					first.place = &crashing{place: first.place, left: step, after: after}
					acked, err := consume(first, log, 0, 12)
					if err != nil && !errors.Is(err, errCrash) {
						t.Fatal(err)
					}
					died = died || err != nil
					second := openAt(t, dir)
					second.place = &crashing{place: second.place, left: step % 7, after: !after}
					if acked, err = consume(second, log, acked, 9); err != nil && !errors.Is(err, errCrash) {
						t.Fatal(err)
					}
					third := openAt(t, dir)
					if _, err = consume(third, log, acked, 7); err != nil {
						t.Fatalf("died at step %d (after: %t), then: %v", step, after, err)
					}
					wantExactly(t, third, log)
					if t.Failed() {
						t.Fatalf("died at step %d (after: %t)", step, after)
					}
					sameStock(t, third, dir)
				}
				if !died {
					break
				}
				crashes++
			}
			if crashes < 10 {
				t.Errorf("only %d steps were tried", crashes)
			}
		})
	}
}

// sameStock compares what the archive believes it holds with what is there.
func sameStock(t *testing.T, a *Archive, dir string) {
	t.Helper()
	got, want := stockOf(t, a), stockOf(t, openAt(t, dir))
	if got.Files != want.Files || !cmp.Equal(got.Bytes, want.Bytes) {
		t.Errorf("status says %d files %v, there are %d %v", got.Files, got.Bytes, want.Files, want.Bytes)
	}
}

func TestTakeoverAfterEnrichmentChanged(t *testing.T) {
	t.Parallel()
	for name, where := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, crashAt := range []int{1, 2, 3, 4, 5, 6} {
				dir := where(t)
				log := story(20)
				a := openAt(t, dir)
				a.place = &crashing{place: a.place, left: crashAt}
				if _, err := consume(a, log, 0, 20); !errors.Is(err, errCrash) {
					t.Fatal(err)
				}
				// The second owner finds all events of the first two hours bad, and others
				// where the first found none.
				for i := range log {
					e := &log[i]
					if e.Time.Hour() < 11 {
						e.Bad, e.Events = []event.BadRow{{ID: event.BadRowID(e.ID, 0), Time: e.Time, Payload: e.Record}}, nil
					} else {
						e.Bad, e.Events = nil, []*event.Event{pageView(event.DeriveEventID(e.ID, 9), day.Add(100*time.Hour))}
					}
				}
				// It dies too, between placing its files and removing the stale ones.
				b := openAt(t, dir)
				b.place = &crashing{place: b.place, left: 6, after: true}
				if _, err := consume(b, log, 0, 5); !errors.Is(err, errCrash) {
					t.Fatal(err)
				}
				c := openAt(t, dir)
				if _, err := consume(c, log, 0, 3); err != nil {
					t.Fatal(err)
				}
				wantExactly(t, c, log)
				sameStock(t, c, dir)
			}
		})
	}
}

func TestTwoOwners(t *testing.T) {
	t.Parallel()
	for name, where := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := where(t)
			log := story(12)
			zombie, owner := openAt(t, dir), openAt(t, dir) // both open before any range begins
			held := begin(t, zombie, "0", 1)
			same := begin(t, zombie, "1", 1)
			for _, e := range log[:10] {
				if err := errors.Join(held.Add(e), same.Add(e)); err != nil {
					t.Fatal(err)
				}
			}
			write(t, owner, "0", 1, log[:7]...)
			write(t, owner, "1", 1, log[:10]...)
			if err := held.Commit(t.Context(), position(10)); !errors.Is(err, ErrTaken) {
				t.Errorf("a range that another owner ended elsewhere was committed: %v", err)
			}
			held.Abort()
			if err := same.Commit(t.Context(), position(10)); err != nil {
				t.Errorf("a range that another owner ended at the same position: %v", err)
			}
			if _, err := consume(zombie, log, 0, 12); err != nil {
				t.Fatal(err)
			}
			wantExactly(t, zombie, append(slices.Clone(log), log[:10]...)) // partition 1 has ten of them
			r := begin(t, zombie, "0", 1)
			if last, ok := r.Intended(); !ok || last != position(7) {
				t.Errorf("intended %s %t", last, ok)
			}
			if err := r.Add(log[0]); err != nil {
				t.Fatal(err)
			}
			if err := r.Commit(t.Context(), position(3)); err == nil {
				t.Error("a declared range was committed at another end")
			}
			r.Abort()
		})
	}
}

func TestBusSetUpAnew(t *testing.T) {
	t.Parallel()
	for name, where := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := openAt(t, where(t))
			old := story(10)
			write(t, a, "0", 1, old...)
			// The same positions, other records.
			var anew []Entry
			for i := range 4 {
				anew = append(anew, entry(1000+i, day))
			}
			r := begin(t, a, "0", 1)
			if _, ok := r.Intended(); !ok {
				t.Fatal("the intent was not found")
			}
			for _, e := range anew {
				if err := r.Add(e); err != nil {
					t.Fatal(err)
				}
			}
			if last, ok := r.Intended(); ok {
				t.Errorf("the intent of the former bus still binds to %s", last)
			}
			if err := r.Commit(t.Context(), position(4)); err != nil {
				t.Fatal(err)
			}
			wantExactly(t, a, append(old, anew...))
			r = begin(t, a, "0", 1)
			if last, ok := r.Intended(); !ok || last != position(4) {
				t.Errorf("intended %s %t, want the new bus's", last, ok)
			}
		})
	}
}

// plant puts an object in place.
func plant(tb testing.TB, a *Archive, name, content string) {
	tb.Helper()
	local, err := writeTemp(a.tmp, []byte(content))
	if err != nil {
		tb.Fatal(err)
	}
	if err := a.place.put(tb.Context(), local, name); err != nil {
		tb.Fatal(err)
	}
}

func TestTornIntent(t *testing.T) {
	t.Parallel()
	for name, where := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, content := range []string{"", "{\"format\":1,\"la", "\x00\x00\x00", "[]"} {
				dir := where(t)
				a := openAt(t, dir)
				name := intentName("raw", "0", position(1))
				plant(t, a, name, content)
				log := story(5)
				if _, err := consume(a, log, 0, 5); err != nil {
					t.Fatal(err)
				}
				wantExactly(t, a, log)
				r := begin(t, a, "0", 1)
				if last, ok := r.Intended(); !ok || last != position(5) {
					t.Errorf("%q: intended %s %t", content, last, ok)
				}
				r.Abort()
				plant(t, a, name, `{"format":2,"last":"9"}`)
				if _, err := a.Begin(t.Context(), "raw", "0", position(1)); !errors.Is(err, errNewer) {
					t.Errorf("an intent of a newer format was not refused: %v", err)
				}
			}
		})
	}
}

// failing fails so many changes and then works.
type failing struct {
	place
	times int
}

func (f *failing) create(ctx context.Context, name string, content []byte) (bool, error) {
	if f.times--; f.times >= 0 {
		return false, errors.New("no room")
	}
	return f.place.create(ctx, name, content)
}

func (f *failing) put(ctx context.Context, local, name string) error {
	if f.times--; f.times >= 0 {
		return errors.New("no room")
	}
	return f.place.put(ctx, local, name)
}

func TestCommitAgainAfterFailure(t *testing.T) {
	t.Parallel()
	for name, where := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := story(9)
			for times := 1; times < 4; times++ {
				a := openAt(t, where(t))
				f := &failing{place: a.place, times: times}
				a.place = f
				r := begin(t, a, "0", 1)
				for _, e := range log {
					if err := r.Add(e); err != nil {
						t.Fatal(err)
					}
				}
				for range times {
					if err := r.Commit(t.Context(), position(9)); err == nil || errors.Is(err, ErrBroken) {
						t.Fatalf("commit into a full disk: %v", err)
					}
				}
				if err := r.Add(log[0]); err == nil {
					t.Error("a record was added to a range that is being committed")
				}
				if err := r.Commit(t.Context(), position(9)); err != nil {
					t.Fatal(err)
				}
				wantExactly(t, a, log)
				if err := r.Commit(t.Context(), position(9)); err == nil {
					t.Error("a closed range was committed")
				}
				r.Abort()
			}
		})
	}
}

func TestRefusedNames(t *testing.T) {
	t.Parallel()
	a := openAt(t, t.TempDir())
	for _, name := range []string{"", "..", ".x", "a/b", `a\b`, "a b", "a\x00", string(make([]byte, 200))} {
		if r, err := a.Begin(t.Context(), "raw", name, "1"); err == nil {
			t.Errorf("partition %q was accepted", name)
			r.Abort()
		}
		if r, err := a.Begin(t.Context(), "raw", "0", bus.Position(name)); err == nil {
			t.Errorf("position %q was accepted", name)
			r.Abort()
		}
	}
	r := begin(t, a, "0", 1)
	if _, err := a.Begin(t.Context(), "raw", "0", position(5)); err == nil {
		t.Error("a partition got two open ranges")
	}
	r.Abort()
	begin(t, a, "0", 1).Abort()
}

func TestTempIsEmptied(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := openAt(t, dir)
	r := begin(t, a, "0", 1)
	for _, e := range story(20) {
		if err := r.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	openAt(t, dir) // a crash: no Abort
	left, err := os.ReadDir(filepath.Join(dir, tempFolder))
	if err != nil || len(left) != 0 {
		t.Errorf("%d unfinished files are left (%v)", len(left), err)
	}
	if err := r.Commit(t.Context(), position(20)); !errors.Is(err, ErrBroken) && err == nil {
		t.Error("a range whose files are gone was committed")
	}
}

func FuzzIntent(f *testing.F) {
	f.Add([]byte(`{"format":1,"last":"000000000010","record":"ab","files":[{"name":"raw/date=2026-11-22/hour=09/raw-0-1-ab-0.parquet","rows":3}]}`))
	f.Add([]byte(`{"format":1,"last":"9","files":[{"name":"../../etc/passwd.parquet"}]}`))
	f.Add([]byte(`{"format":1,"last":"9","files":[{"name":"raw/date=2026-11-22/hour=09/../../../x.parquet"}]}`))
	f.Add([]byte(`{"format":99,"last":"9"}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, data []byte) {
		in, err := parseIntent(data)
		if err != nil {
			return
		}
		for _, file := range in.Files {
			if !filepath.IsLocal(filepath.FromSlash(file.Name)) || filepath.Ext(file.Name) != fileSuffix || file.Name[0] == '_' {
				t.Errorf("an intent may delete %q", file.Name)
			}
		}
		again, err := in.encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseIntent(again)
		if err != nil || !cmp.Equal(in, back) {
			t.Errorf("does not come back: %v\n%s", err, cmp.Diff(in, back))
		}
		_ = fmt.Sprint(in)
	})
}
