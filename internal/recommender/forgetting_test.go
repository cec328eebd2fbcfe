package recommender

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/event"
)

// forgetful is a recommender whose tombstones change.
type forgetful struct {
	d      *double
	dir    string
	digest atomic.Pointer[string]
}

func newForgetful(tb testing.TB) *forgetful {
	tb.Helper()
	f := &forgetful{d: newDouble(), dir: tb.TempDir()}
	f.set("")
	return f
}

func (f *forgetful) set(digest string) { f.digest.Store(&digest) }

// forgets is true of the user named by the digest.
func (f *forgetful) forgets(e *event.Event) bool {
	name := *f.digest.Load()
	return name != "" && e.Text(event.UserID) == name
}

func (f *forgetful) open(tb testing.TB) *Recommender {
	tb.Helper()
	cfg := Default()
	cfg.Serve.Wait = 5 * time.Second
	r, err := New(cfg, Options{
		Bus: f.d, Dir: f.dir, Head: f.d.head, Forgotten: func() string { return *f.digest.Load() },
		Parse: func(record []byte, now time.Time) []*event.Event {
			return slices.DeleteFunc(parseDoc(record, now), f.forgets)
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// visit publishes views of a user.
func (f *forgetful) visit(user string, products ...string) {
	for _, p := range products {
		f.d.publish(doc{User: user, Session: "s-" + user, Path: "/product/" + p, At: day0 + int64(f.d.len())*1000}.record())
	}
}

// TestSnapshotOfTheForgotten starts with a snapshot that is older than a tombstone.
func TestSnapshotOfTheForgotten(t *testing.T) {
	t.Parallel()
	f := newForgetful(t)
	f.visit("ann", "tea", "wig")
	f.visit("bob", "tea", "pot")
	r := f.open(t)
	first := run(t, r)
	first.bus = f.d
	if got := sorted(ask(t, first, "/v1/recommend?item_id=tea")); !slices.Equal(got, []string{"pot", "wig"}) {
		t.Fatalf("list %v", got)
	}
	first.stop()
	f.set("ann") // and the process ends before anybody learned anew
	for _, what := range []string{"the snapshot of before", "an incomplete snapshot"} {
		r = f.open(t)
		if !r.NeedsRebuild() || r.Ready() == nil {
			t.Fatalf("%s: served", what)
		}
		l := run(t, r)
		if got := sorted(ask(t, l, "/v1/recommend?item_id=tea")); slices.Contains(got, "wig") {
			t.Errorf("%s: %v", what, got)
		}
		until(t, "level", r.level.Load)
		if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "learning anew from history") {
			t.Errorf("%s: ready: %v", what, err)
		}
		l.stop() // writes a snapshot that says that it lacks what history has
	}
	r = f.open(t)
	l := run(t, r)
	h := &recorded{d: f.d, skip: f.forgets}
	h.keep(4, 4)
	if err := r.Rebuild(t.Context(), h.history()); err != nil {
		t.Fatal(err)
	}
	until(t, "ready", func() bool { return r.Ready() == nil && !r.NeedsRebuild() })
	l.stop()
	r = f.open(t)
	if r.NeedsRebuild() {
		t.Error("the rebuilt snapshot is not accepted")
	}
	f.set("") // a backup of the tombstones is older than the snapshot
	if r := f.open(t); !r.NeedsRebuild() {
		t.Error("a snapshot of other tombstones is served")
	}
}

// run runs a recommender for a test.
func run(tb testing.TB, r *Recommender) *live {
	tb.Helper()
	l := &live{Recommender: r}
	l.stop = goRun(tb, r)
	return l
}

// TestForgottenWhileRebuilding forgets people while history is read.
func TestForgottenWhileRebuilding(t *testing.T) {
	t.Parallel()
	f := newForgetful(t)
	f.visit("ann", "tea", "wig")
	f.visit("bob", "tea", "pot")
	r := f.open(t)
	h := &recorded{d: f.d, skip: f.forgets}
	h.keep(4, 4)
	h.step = func(pass int) {
		if pass == 2 {
			f.set("ann")
		}
	}
	if err := r.Rebuild(t.Context(), h.history()); err != nil {
		t.Fatal(err)
	}
	if got := lists(t, r, nil)["/v1/recommend?explain=1&n=50"]; len(got) != 2 || r.NeedsRebuild() {
		t.Errorf("list %+v", got)
	}
	before := r.state.Load()
	h.step = func(pass int) { f.set(strings.Repeat("x", pass)) }
	if err := r.Rebuild(t.Context(), h.history()); !errors.Is(err, ErrForgotten) || r.state.Load() != before || !r.NeedsRebuild() {
		t.Errorf("forgetting without end: %v", err)
	}
}

// TestFormatOne reads a snapshot of the first format, written by the version that
// had no other.
func TestFormatOne(t *testing.T) {
	t.Parallel()
	old, err := os.ReadFile("testdata/format-1.snapshot")
	if err != nil {
		t.Fatal(err)
	}
	f := newForgetful(t)
	path := filepath.Join(f.dir, snapshotName)
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	r := f.open(t)
	s := r.Status()
	if s.Sessions != 6 || s.Items != 5 || s.Positions[partition] != position(14) || r.NeedsRebuild() {
		t.Errorf("status %+v", s)
	}
	w := httptest.NewRecorder()
	r.opt.Head, r.cfg.Serve.Wait = nil, 0
	r.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/recommend?user_id=u1&explain=1&n=2", nil))
	if body := w.Body.String(); !strings.Contains(body, `"items":[{"id":"pot","score":1,"source":"session_knn","reasons":["viewed tea"]},{"id":"cup","score":0.576638`) {
		t.Errorf("answer %s", body)
	}
	if c := r.Coverage(); c.PageViews != 14 || c.Interactions != 13 {
		t.Errorf("coverage %+v", c)
	}
	f.set("ann")
	if r := f.open(t); !r.NeedsRebuild() || r.Status().Items != 0 {
		t.Error("served although somebody was forgotten")
	}
	if now, err := os.ReadFile(path); err != nil || !slices.Equal(old, now) {
		t.Errorf("the snapshot was touched: %v", err)
	}
}

// TestRebuildSweeps removes what may hold the forgotten.
func TestRebuildSweeps(t *testing.T) {
	t.Parallel()
	f := newForgetful(t)
	for _, name := range []string{snapshotName, snapshotName + ".123.tmp"} {
		if err := os.WriteFile(filepath.Join(f.dir, name), []byte("of ann"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.visit("bob", "tea", "pot")
	r := f.open(t)
	if !r.NeedsRebuild() { // it was damaged
		t.Error("nobody puts a damaged snapshot right")
	}
	h := &recorded{d: f.d}
	h.keep(2, 2)
	if err := r.Rebuild(t.Context(), h.history()); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(f.dir)
	if err != nil || len(left) != 1 || left[0].Name() != snapshotName || r.NeedsRebuild() {
		t.Errorf("left: %v %v", left, err)
	}
}

// TestRecall knows events again within its limit, and beyond it by their time.
func TestRecall(t *testing.T) {
	t.Parallel()
	c := newRecall(4)
	var got []bool
	add := func(id uint64, at int64, again bool) { got = append(got, c.add(id, at, again)) }
	for id := range uint64(7) {
		add(id, int64(10*id), false)
	}
	add(6, 60, false)  // known
	add(2, 20, true)   // still known
	add(0, 0, true)    // dropped, and old
	add(9, 10, true)   // as old as what was dropped
	add(10, 10, false) // but the first pass says that it is new
	add(11, 35, true)  // newer than what was dropped
	want := []bool{true, true, true, true, true, true, true, false, false, false, false, true, true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestRebuildAcrossRuns begins a rebuild before Run, as a start with an outdated
// snapshot does, and ends Run in the middle of another.
func TestRebuildAcrossRuns(t *testing.T) {
	t.Parallel()
	f := newForgetful(t)
	visit := func() { f.visit(fmt.Sprintf("u%d", f.d.len()), "tea", "pot", fmt.Sprintf("p%d", f.d.len()%7)) }
	for range 20 {
		visit()
	}
	r := f.open(t)
	h := &recorded{d: f.d}
	h.keep(40, 30)
	var l *live
	for round, change := range []func(){
		func() { l = run(t, r); until(t, "running", r.running.Load) },
		func() { l.stop() },
	} {
		for _, at := range []int{1, 2} {
			if round == 1 && at == 1 {
				continue // Run may be called once
			}
			h.passes = nil
			h.step = func(pass int) {
				visit()
				if pass == at && (round == 1 || l == nil) {
					change()
				}
			}
			if err := r.Rebuild(t.Context(), h.history()); err != nil {
				t.Fatal(err)
			}
		}
	}
	visit()
	again := f.open(t)
	l = run(t, again)
	ask(t, l, "/v1/recommend")
	want := lived(t, f.d, func(*Config) {})
	if diff := cmp.Diff(lists(t, want, nil), lists(t, again, nil)); diff != "" {
		t.Error(diff)
	}
	if got, want := again.Coverage(), want.Coverage(); got.PageViews != want.PageViews || got.Interactions != want.Interactions {
		t.Errorf("coverage %+v, want %+v", got, want)
	}
}
