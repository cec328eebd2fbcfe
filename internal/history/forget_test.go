package history

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"furrow/internal/store"
	"furrow/internal/tombstone"
)

// A try of the property takes two databases and two archives, on a real disk.
func init() {
	if err := flag.Set("rapid.checks", "25"); err != nil {
		panic(err)
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// household has people who share devices, and one who does not.
func household(t *testing.T) *world {
	t.Helper()
	w := newForgetWorld(t)
	own, shared, anonymous := networkID(1), networkID(2), nobody
	w.send(
		post(morning, own, page("uid", "ann", "duid", "phone"), page("duid", "phone")),
		post(morning, own, page("uid", "ann", "duid", "tablet"), page("uid", "bob", "duid", "tablet")),
		post(morning, shared, page("uid", "bob", "duid", "laptop")),
		post(morning, anonymous, page("uid", "ann")),
		post(morning, "", page("uid", "cleo", "duid", "watch"), page("duid", "watch", "tna", longText(1))),
	)
	return w
}

func values(links []store.Identity) []string {
	all := []string{}
	for _, link := range links {
		all = append(all, link.Value)
	}
	slices.Sort(all)
	return all
}

func TestLinkedIdentifiersOfOthersAreLeftOut(t *testing.T) {
	t.Parallel()
	w := household(t)
	for _, test := range []struct{ named, taken, left []string }{
		// The network id stands on an event of bob too: they had the tablet at home.
		{[]string{"ann"}, []string{"phone"}, []string{nobody, networkID(1), "tablet"}},
		{[]string{"ann", "bob"}, []string{networkID(1), networkID(2), "laptop", "phone", "tablet"}, []string{nobody}},
		{[]string{"ann", "tablet"}, []string{"phone"}, []string{nobody, networkID(1), "bob"}},
		{[]string{"cleo"}, []string{"watch"}, []string{}},
		{[]string{"watch"}, []string{"cleo"}, []string{}},
		{[]string{"tablet"}, []string{}, []string{"ann", "bob", networkID(1)}},
		{[]string{"nobody knows"}, []string{}, []string{}},
	} {
		report, err := w.history.Forget(t.Context(), ForgetSpec{Users: test.named, Linked: true, Preview: true}, nil)
		if err != nil {
			t.Fatal(err)
		}
		left := []store.Identity{}
		for _, l := range report.Links.Left {
			left = append(left, l.Identity)
			if l.Why == "" {
				t.Errorf("%v: %s is left out without a reason", test.named, l.Value)
			}
		}
		slices.Sort(test.left)
		if diff := cmp.Diff([2][]string{test.taken, test.left}, [2][]string{values(report.Links.Taken), values(left)}); diff != "" {
			t.Errorf("%v: want (-), got (+): %s", test.named, diff)
		}
		if len(w.set.All()) > 0 {
			t.Fatal("a preview made tombstones")
		}
	}
}

// Whoever stands with more identifiers than can be judged is not half forgotten:
// without their events nothing would tell the other half any more.
func TestForgetRefusesTooManyLinkedIdentifiers(t *testing.T) {
	t.Parallel()
	w := newForgetWorld(t)
	for i := range maxLinked + 1 {
		w.send(post(morning, "", page("uid", "dora", "duid", "device-"+strconv.Itoa(i))))
	}
	_, err := w.history.Forget(t.Context(), ForgetSpec{Users: []string{"dora"}, Linked: true}, nil)
	if err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("got %v", err)
	}
	person, err := w.db.Person(t.Context(), []string{"dora"})
	if err != nil || person.Events != maxLinked+1 || len(w.set.All()) != 0 {
		t.Errorf("%d events are left, %d tombstones were made, %v", person.Events, len(w.set.All()), err)
	}
	report, err := w.history.Forget(t.Context(), ForgetSpec{Users: []string{"dora"}}, nil)
	if err != nil || report.Database.Events != maxLinked+1 {
		t.Errorf("without the linked ones: %+v, %v", report, err)
	}
}

func TestForgetWithLinkedIdentifiers(t *testing.T) {
	t.Parallel()
	w := household(t)
	report, err := w.history.Forget(t.Context(), ForgetSpec{Users: []string{"cleo"}, Linked: true}, nil)
	if err != nil || !report.Complete {
		t.Fatalf("%+v, %v", report, err)
	}
	if report.Identifiers != 2 || report.Tombstones != 2 || report.Database.Events != 1 || report.Database.BadRows != 1 ||
		report.Archive.Events != 1 || report.Archive.BadRows != 1 || report.Archive.Files == 0 || !report.Rebuilt || w.rebuilds != 1 {
		t.Errorf("%+v %+v %+v", report, report.Database, report.Archive)
	}
	if len(w.badRows()) != 0 {
		t.Error("her bad row is still there")
	}
	if person, err := w.db.Person(t.Context(), []string{"cleo", "watch"}); err != nil || person.Events != 0 {
		t.Errorf("%+v, %v", person, err)
	}
	if person, err := w.db.Person(t.Context(), []string{"ann", "bob"}); err != nil || person.Events != 5 {
		t.Errorf("others lost events: %+v, %v", person, err)
	}
	// What comes later is new.
	w.clock.Store(7200)
	w.send(post(noonish.Add(time.Hour), "", page("uid", "cleo")))
	if person, err := w.db.Person(t.Context(), []string{"cleo"}); err != nil || person.Events != 1 {
		t.Errorf("later: %+v, %v", person, err)
	}
}

func TestReceiptNamesNobody(t *testing.T) {
	t.Parallel()
	w := household(t)
	last := noonish.Add(72 * time.Hour)
	var purged []bool
	w.change = func(o *Options) {
		o.BusExpiry = func() (string, time.Time, bool) { return "journal", last, true }
		o.Rebuild = func(context.Context, time.Time, time.Time, func(int64)) error {
			return errors.New("cannot learn of ann")
		}
		o.Purge = func(match func(a, b, c string) bool) {
			purged = []bool{match("ann", "", ""), match("", "ann", ""), match("", "", "ann"), match("bob", "tablet", "")}
		}
	}
	w.remake()
	report, err := w.history.Forget(t.Context(), ForgetSpec{Users: []string{"ann", "ann"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if report.Complete || len(report.Failed) != 1 || report.Failed[0].Where != "recommender" || report.Rebuilt || report.Identifiers != 1 {
		t.Errorf("%+v", report)
	}
	if diff := cmp.Diff([]bool{true, true, true, false}, purged); diff != "" {
		t.Error(diff)
	}
	text, err := os.ReadFile(report.Receipt)
	if err != nil {
		t.Fatal(err)
	}
	var kept ForgetReport
	if err := json.Unmarshal(text, &kept); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "ann") || kept.Database.Events != 3 || !kept.Bus.Last.Equal(last) || kept.Complete || !kept.At.Equal(noonish) {
		t.Errorf("%s", text)
	}
	if found := holds(t, filepath.Join(w.dir, "history"), "ann"); len(found) > 0 {
		t.Errorf("she stands in %v", found)
	}
	// What is owed to the recommender is remembered, and a second receipt does not
	// replace the first.
	w.change = nil
	w.remake()
	second := w.forget("ann")
	if second.Receipt == report.Receipt {
		t.Error("the first receipt was replaced")
	}
}

func TestForgetRefuses(t *testing.T) {
	t.Parallel()
	w := newForgetWorld(t)
	many := make([]string, maxForgotten+1)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	for name, users := range map[string][]string{"nobody": nil, "empty": {"a", ""}, "everybody": {nobody}, "too many": many} {
		if _, err := w.history.Forget(t.Context(), ForgetSpec{Users: users}, nil); err == nil {
			t.Errorf("%s: was not refused", name)
		}
	}
	if len(w.set.All()) > 0 {
		t.Error("tombstones were made")
	}
}

var errAway = errors.New("connection refused")

// A store that is away keeps neither the others from being cleaned nor a process
// from starting.
func TestAStoreThatIsAway(t *testing.T) {
	t.Parallel()
	w := household(t)
	w.change = func(o *Options) { o.Database = absent{w.db} }
	w.remake()
	report, err := w.history.Forget(t.Context(), ForgetSpec{Users: []string{"ann"}}, nil)
	if err != nil || report.Complete || len(report.Failed) != 1 || report.Failed[0].Where != InDatabase || report.Archive.Events != 3 {
		t.Fatalf("%+v, %v", report, err)
	}
	// The tombstones of the data folder are lost as well; the archive has them.
	w.close()
	if err := os.Remove(filepath.Join(w.dir, "tombstones")); err != nil {
		t.Fatal(err)
	}
	w.open()
	start, err := w.history.Reconcile(t.Context())
	if err != nil || start.Learned != 1 || len(start.Pending) != 1 || start.Pending[0].Where != InDatabase || !start.Relearn {
		t.Fatalf("%+v, %v", start, err)
	}
	if !w.set.Covers("ann", morning) {
		t.Error("what was learned is not in force")
	}
	w.change = nil
	w.remake()
	if again := w.reconcile(); again.Database.Events != 3 || again.Learned != 0 {
		t.Errorf("%+v", again)
	}
	if relearned, err := w.history.Relearn(t.Context(), nil); err != nil || !relearned {
		t.Errorf("%v, %v", relearned, err)
	}
	if relearned, err := w.history.Relearn(t.Context(), nil); err != nil || relearned {
		t.Errorf("a second time: %v, %v", relearned, err)
	}
}

// While the recorder cannot let go, stores are cleaned and not taken for clean.
func TestForgetThatCannotSettle(t *testing.T) {
	t.Parallel()
	w := household(t)
	w.change = func(o *Options) { o.Settle = func(context.Context) error { return errAway } }
	w.remake()
	report, err := w.history.Forget(t.Context(), ForgetSpec{Users: []string{"ann"}}, nil)
	if err != nil || report.Complete || report.Database.Events != 3 || report.Archive.Events != 3 || len(report.Failed) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	for _, in := range []graveyard{w.db, w.archive} {
		if stones, err := in.Buried(t.Context()); err != nil || len(stones) != 0 {
			t.Errorf("%T: %v, %v", in, stones, err)
		}
	}
	w.change = nil
	w.remake()
	w.forget("ann")
	if stones, err := w.db.Buried(t.Context()); err != nil || len(stones) != 1 {
		t.Errorf("%v, %v", stones, err)
	}
}

// absent is a database that cannot be reached.
type absent struct{ store.Database }

func (absent) Buried(context.Context) ([]tombstone.Tombstone, error) { return nil, errAway }

func TestForgettingTwoAtATime(t *testing.T) {
	t.Parallel()
	w := newForgetWorld(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	w.change = func(o *Options) {
		o.Settle = func(context.Context) error {
			close(entered)
			<-leave
			return nil
		}
	}
	w.remake()
	done := make(chan error)
	go func() {
		_, err := w.history.Forget(context.Background(), ForgetSpec{Users: []string{"a"}}, nil)
		done <- err
	}()
	<-entered
	if _, err := w.history.Forget(t.Context(), ForgetSpec{Users: []string{"b"}}, nil); !errors.Is(err, ErrRunning) {
		t.Errorf("%v", err)
	}
	if _, err := w.history.Reconcile(t.Context()); !errors.Is(err, ErrRunning) {
		t.Errorf("%v", err)
	}
	close(leave)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// Each tombstone of a restored store holds until its own time.
func TestRestoredStoreIsCleanedUntilEachTime(t *testing.T) {
	t.Parallel()
	w := newForgetWorld(t)
	visit := func(at time.Time) []byte {
		return post(at, "", page("uid", "ann", "page", at.String()), page("uid", "bob", "page", at.String()), page("uid", "cleo", "page", at.String()))
	}
	early, late := morning, noonish.Add(time.Hour)
	w.send(visit(early), visit(late))
	// Ann was forgotten before the later events, bob after them.
	if _, err := w.set.Add([]string{"ann"}, noonish); err != nil {
		t.Fatal(err)
	}
	if _, err := w.set.Add([]string{"bob"}, late); err != nil {
		t.Fatal(err)
	}
	got := w.reconcile()
	if got.Database.Events != 3 || got.Archive.Events != 3 {
		t.Errorf("%+v %+v", got.Database, got.Archive)
	}
	for who, want := range map[string]int64{"ann": 1, "bob": 0, "cleo": 2} {
		if person, err := w.db.Person(t.Context(), []string{who}); err != nil || person.Events != want {
			t.Errorf("%s has %d events, %v; want %d", who, person.Events, err, want)
		}
	}
}

// The hashes are those of the set: otherwise a restored database would be taken for
// clean.
func TestHashesAreThoseOfTheSet(t *testing.T) {
	t.Parallel()
	set, err := tombstone.Open(filepath.Join(t.TempDir(), "tombstones"))
	if err != nil {
		t.Fatal(err)
	}
	stones, err := set.Add([]string{"ann"}, noonish)
	if err != nil {
		t.Fatal(err)
	}
	if hashOf(stones[0].Key, "ann") != stones[0].Hash {
		t.Error("another hash")
	}
}
