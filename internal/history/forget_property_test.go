package history

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"furrow/internal/archive"
	"furrow/internal/event"
	"furrow/internal/store"
	"furrow/internal/tombstone"
)

// sent is a record of which the test knows whom its events are of.
type sent struct {
	record []byte
	who    [][3]string // user_id, domain_userid and network_userid of each event
	whole  bool        // it cannot be understood as a whole
	later  bool        // collected after the forgetting
}

func (s *sent) names(index int, forgotten map[string]bool) bool {
	is := func(who [3]string) bool { return forgotten[who[0]] || forgotten[who[1]] || forgotten[who[2]] }
	if index == event.WholeRecord {
		return slices.ContainsFunc(s.who, is)
	}
	return is(s.who[index])
}

const (
	devices = 4
	people  = 4
)

func networkID(n int) string { return fmt.Sprintf("75a13583-5c99-40e3-81fc-00000000000%d", n) }

// traffic draws requests of several people, some of them in one.
func traffic(t *rapid.T) []*sent {
	var all []*sent
	event := 0
	for i := range rapid.IntRange(3, 14).Draw(t, "requests") {
		s := &sent{later: rapid.IntRange(0, 4).Draw(t, "later") == 0}
		at := morning.Add(time.Duration(i) * 7 * time.Minute) // several hours of the archive
		if s.later {
			at = at.Add(24 * time.Hour)
		}
		network := rapid.SampledFrom([]string{"", networkID(1), networkID(2), nobody}).Draw(t, "network")
		s.whole = rapid.IntRange(0, 6).Draw(t, "whole") == 0
		var visits []visit
		for range rapid.IntRange(1, 4).Draw(t, "events") {
			event++
			v, who := draw(t, event, network)
			visits = append(visits, v)
			s.who = append(s.who, who)
		}
		if s.whole {
			visits[0]["unheard"] = "of"
		}
		s.record = post(at, network, visits...)
		all = append(all, s)
		if rapid.IntRange(0, 5).Draw(t, "resent") == 0 && !s.whole {
			all = append(all, s) // the same bytes, as from a bus that delivers twice
			other := &sent{who: s.who, later: s.later, record: post(at.Add(time.Second), network, visits...)}
			if !slices.ContainsFunc(visits, func(v visit) bool { return v["eid"] == "" }) {
				all = append(all, other)
			}
		}
	}
	// What is collected later comes later.
	slices.SortStableFunc(all, func(a, b *sent) int {
		switch {
		case a.later == b.later:
			return 0
		case b.later:
			return -1
		}
		return 1
	})
	return all
}

func draw(t *rapid.T, n int, network string) (visit, [3]string) {
	v := page("page", fmt.Sprintf("page %d", n))
	who := [3]string{2: network}
	if who[2] == nobody {
		who[2] = ""
	}
	if i := rapid.IntRange(0, people).Draw(t, "user"); i > 0 {
		who[0] = fmt.Sprintf("user-%d", i)
		v["uid"] = who[0]
	}
	if i := rapid.IntRange(0, devices).Draw(t, "device"); i > 0 {
		who[1] = fmt.Sprintf("device-%d", i)
		v["duid"] = who[1]
	}
	if rapid.IntRange(0, 5).Draw(t, "tnuid") == 0 {
		who[2] = networkID(3)
		v["tnuid"] = who[2]
	}
	if rapid.Bool().Draw(t, "eid") {
		v["eid"] = eid(n)
	}
	if rapid.IntRange(0, 4).Draw(t, "fails") == 0 {
		v["tna"] = longText(n)
	}
	return v, who
}

// brittle fails once at the nth step of a forgetting.
type brittle struct {
	store.Database
	files Cleaner
	left  int
}

func (b *brittle) step() error {
	b.left--
	if b.left == 0 {
		return errCrash
	}
	return nil
}

func (b *brittle) Forget(ctx context.Context, order store.Forgetting) (store.Forgotten, error) {
	if err := b.step(); err != nil {
		return store.Forgotten{}, err
	}
	done, err := b.Database.Forget(ctx, order)
	return done, errors.Join(err, b.step())
}

func (b *brittle) Bury(ctx context.Context, stones []tombstone.Tombstone) error {
	if err := b.step(); err != nil {
		return err
	}
	return errors.Join(b.Database.Bury(ctx, stones), b.step())
}

// brittleFiles is the archive of a brittle.
type brittleFiles struct{ *brittle }

func (b brittleFiles) Forget(ctx context.Context, order archive.Forgetting, progress func(done, total int)) (archive.Forgotten, error) {
	if err := b.step(); err != nil {
		return archive.Forgotten{}, err
	}
	done, err := b.files.Forget(ctx, order, progress)
	return done, errors.Join(err, b.step())
}

func (b brittleFiles) Buried(ctx context.Context) ([]tombstone.Tombstone, error) {
	return b.files.Buried(ctx)
}

func (b brittleFiles) Bury(ctx context.Context, stones []tombstone.Tombstone) error {
	if err := b.step(); err != nil {
		return err
	}
	return errors.Join(b.files.Bury(ctx, stones), b.step())
}

const steps = 10 // settling, then two before and after each of four effects, and learning anew

// breakAt makes the nth step of what follows fail.
func (w *world) breakAt(n int) {
	b := &brittle{Database: w.db, files: w.archive2(), left: n}
	w.change = func(o *Options) {
		o.Database, o.Cleaner = b, brittleFiles{b}
		o.Settle = func(context.Context) error { return b.step() }
		o.Rebuild = func(context.Context, time.Time, time.Time, func(int64)) error { return b.step() }
	}
	w.remake()
}

func (w *world) archive2() Cleaner { return w.opts.Cleaner }

func (w *world) forget(users ...string) ForgetReport {
	w.tb.Helper()
	report, err := w.history.Forget(context.Background(), ForgetSpec{Users: users}, nil)
	if err != nil {
		w.tb.Fatal(err)
	}
	if !report.Complete {
		w.tb.Fatalf("not complete: %+v", report)
	}
	return report
}

func (w *world) reconcile() ReconcileReport {
	w.tb.Helper()
	report, err := w.history.Reconcile(context.Background())
	if err != nil || len(report.Pending) > 0 {
		w.tb.Fatalf("%+v, %v", report, err)
	}
	return report
}

// What is left after a forgetting, however it went, is what would be there had the
// person never come.
func TestForgottenPeopleWereNeverThere(t *testing.T) {
	t.Parallel()
	folder, tries := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		all := traffic(t)
		forgotten := map[string]bool{}
		for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(0, 7), 1, 2, rapid.ID).Draw(t, "forgotten") {
			forgotten[[]string{"user-1", "user-2", "device-1", "device-2", "user-3", networkID(1), networkID(3), "nobody-known"}[n]] = true
		}
		byID := map[event.RecordID]*sent{}
		for _, s := range all {
			byID[event.NewRecordID(s.record)] = s
		}
		tries++
		dir := filepath.Join(folder, strconv.Itoa(tries))
		defer os.RemoveAll(dir)
		never := newWorldIn(t, filepath.Join(dir, "never"), func(id event.RecordID, index int) bool {
			s := byID[id]
			return s != nil && !s.later && s.names(index, forgotten)
		})
		defer never.close()
		w := newWorldIn(t, filepath.Join(dir, "world"), nil)
		defer w.close()

		users := slices.Sorted(maps.Keys(forgotten))
		upto := slices.IndexFunc(all, func(s *sent) bool { return s.later })
		if upto < 0 {
			upto = len(all)
		}
		late := rapid.IntRange(0, upto).Draw(t, "on the bus")
		for i, s := range all {
			never.publish(s.record)
			if i < upto {
				w.publish(s.record)
			}
			if i%3 == 2 && i < late {
				w.consume()
			}
		}
		never.consume()
		w.clock.Store(10 * 3600) // after the earlier events, before the later ones
		w.goThrough(t, users)
		for _, s := range all[upto:] {
			w.publish(s.record)
		}
		w.consume()

		want, got := never.dump(), w.dump()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("never there (-), forgotten (+):\n%s", diff)
		}
		if diff := cmp.Diff(want.Events, w.again()); diff != "" {
			t.Fatalf("the archive replayed: never there (-), forgotten (+):\n%s", diff)
		}
		if found := holds(t, filepath.Join(w.dir, "history"), users[0]); len(found) > 0 {
			t.Fatalf("%q stands in %v", users[0], found)
		}
	})
}

// goThrough forgets people in one of the ways in which that may go.
func (w *world) goThrough(t *rapid.T, users []string) {
	how := rapid.SampledFrom([]string{
		"plain", "restart", "crash and repeat", "crash and restart", "database restored", "archive restored", "tombstones lost",
	}).Draw(t, "how")
	backup := w.dir + "-backup"
	if how == "database restored" || how == "archive restored" {
		w.close()
		copyTree(t, w.dir, backup)
		w.open()
	}
	switch how {
	case "crash and repeat", "crash and restart":
		step := rapid.IntRange(1, steps).Draw(t, "step")
		w.breakAt(step)
		report, err := w.history.Forget(context.Background(), ForgetSpec{Users: users}, nil)
		if err == nil && report.Complete {
			t.Fatalf("nothing failed: %+v", report)
		}
		w.change = nil
		if how == "crash and repeat" {
			w.remake()
			w.forget(users...)
			return
		}
		w.restart()
		w.reconcile()
		owed := step == steps // it ended before the recommender had learned anew
		if again, err := w.history.Relearn(context.Background(), nil); err != nil || again != owed {
			t.Fatalf("the recommender learns anew: %v, %v; want %v", again, err, owed)
		}
		return
	}
	w.forget(users...)
	if how == "plain" {
		return
	}
	w.close()
	replace := func(name string) {
		if err := os.RemoveAll(filepath.Join(w.dir, name)); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(filepath.Join(backup, name)); err == nil && info.IsDir() {
			copyTree(t, filepath.Join(backup, name), filepath.Join(w.dir, name))
		} else if text, err := os.ReadFile(filepath.Join(backup, name)); err == nil {
			if err := os.WriteFile(filepath.Join(w.dir, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	switch how {
	case "database restored":
		replace("furrow.db")
		replace("furrow.db-wal")
		replace("furrow.db-shm")
	case "archive restored":
		replace("archive")
	case "tombstones lost":
		replace("tombstones")
	}
	w.open()
	w.reconcile()
	if again := w.reconcile(); again.Learned != 0 || again.Database != nil || again.Archive != nil {
		t.Fatalf("a second look found something: %+v", again)
	}
}
