package recommender

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"furrow/internal/bus"
	"furrow/internal/event"
)

// drawDocs draws what visitors do, in the order of time.
func drawDocs(t *rapid.T) []doc {
	n := rapid.IntRange(1, 80).Draw(t, "events")
	at := int64(day0)
	var docs []doc
	for i := range n {
		at += rapid.SampledFrom([]int64{0, 1, 1000, 600_000, 3_000_000}).Draw(t, "gap")
		d := doc{
			ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", i), At: at,
			Path: rapid.SampledFrom([]string{"/about", "/help/x", "/product/a", "/product/b", "/product/c", "/product/d", "/product/e", "/product/f"}).Draw(t, "path"),
		}
		who := rapid.IntRange(0, 5).Draw(t, "who")
		switch rapid.IntRange(0, 3).Draw(t, "identifiers") {
		case 0:
			d.Session = fmt.Sprintf("s%d", who/2)
		case 1:
			d.Domain, d.Session = fmt.Sprintf("d%d", who), fmt.Sprintf("s%d", who)
		case 2:
			d.Network, d.User = fmt.Sprintf("n%d", who), fmt.Sprintf("u%d", who)
		}
		if rapid.IntRange(0, 15).Draw(t, "robot") == 0 {
			d.Agent = "Googlebot/2.1"
		}
		docs = append(docs, d)
		if rapid.IntRange(0, 9).Draw(t, "again") == 0 {
			docs = append(docs, d) // the tracker sends it again
		}
	}
	return docs
}

// TestRebuildEqualsLive learns from a history that is behind, that holds what it is
// not sure of, and to which events come during each pass; the window of event ids
// is far too small to know again what overlaps.
func TestRebuildEqualsLive(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		docs := drawDocs(rt)
		d := newDouble()
		h := &recorded{d: d}
		cuts := make([]int, 4)
		for i := range cuts {
			cuts[i] = rapid.IntRange(1, len(docs)).Draw(rt, "published")
		}
		slices.Sort(cuts)
		publish := func(to int) {
			for len(d.log) < to {
				d.publish(docs[len(d.log)].record())
			}
			visible := rapid.IntRange(0, to).Draw(rt, "visible")
			h.keep(visible, rapid.IntRange(0, visible).Draw(rt, "level"))
		}
		publish(cuts[0])
		h.step = func(pass int) { publish(cuts[min(pass, 3)]) }
		change := func(c *Config) {
			if rapid.Bool().Draw(rt, "tight") {
				tight(c)
			}
		}
		cfg := Default()
		change(&cfg)
		same := func(c *Config) { *c = cfg }
		dir := t.TempDir()
		r := idle(t, d, dir, same)
		if err := r.Rebuild(t.Context(), h.history()); err != nil {
			rt.Fatal(err)
		}
		want := lived(t, d, same)
		if diff := cmp.Diff(dump(want.state.Load()), dump(r.state.Load()), cmp.AllowUnexported(place{})); diff != "" {
			rt.Fatalf("not what was learned live:\n%s", diff)
		}
		if diff := cmp.Diff(lists(t, want, docs), lists(t, r, docs)); diff != "" {
			rt.Fatalf("lists:\n%s", diff)
		}
		if at := r.Status().Positions[partition]; len(d.log) > 0 && at != position(len(d.log)) {
			rt.Fatalf("at %q, the bus at %d", at, len(d.log))
		}
		// And so it is after a restart from the snapshot.
		if again := idle(t, d, dir, same); again.NeedsRebuild() || !maps.Equal(again.Status().Positions, r.Status().Positions) {
			rt.Fatalf("restarted: %+v", again.Status())
		} else if diff := cmp.Diff(reread(t, want.state.Load(), cfg), dump(again.state.Load()), cmp.AllowUnexported(place{})); diff != "" {
			rt.Fatalf("after a restart:\n%s", diff)
		}
	})
}

// reread returns what a restart finds of a state.
func reread(tb testing.TB, s *state, cfg Config) contents {
	tb.Helper()
	fresh, err := newState(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	fresh.forgotten = s.forgotten
	if _, err := fresh.decode(s.encode(nil)); err != nil {
		tb.Fatal(err)
	}
	return dump(fresh)
}

// TestRebuildWhileRunning rebuilds again and again while visitors go on, and ends
// with what one learns who was there all the time.
func TestRebuildWhileRunning(t *testing.T) {
	t.Parallel()
	d := newDouble()
	r := start(t, d, t.TempDir(), func(c *Config) { c.Limits.Events = 16; c.Snapshot.Bytes = 1 << 16 })
	h := &recorded{d: d}
	stop, done := make(chan struct{}), make(chan struct{})
	var docs []doc
	go func() {
		defer close(done)
		ticker := time.NewTicker(200 * time.Microsecond)
		defer ticker.Stop()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-ticker.C:
			}
			one := doc{
				Session: fmt.Sprintf("s%d", i/4%300), Domain: fmt.Sprintf("d%d", i/8%200), User: fmt.Sprintf("u%d", i%150),
				Path: fmt.Sprintf("/product/p%d", i*7%61), At: day0 + int64(i)*20_000,
			}
			docs = append(docs, one)
			d.publish(one.record())
			h.keep(i-i%40, i-i%90)
		}
	}()
	h.step = func(int) {
		goal := d.len() + 150
		until(t, "visitors go on", func() bool { return d.len() >= goal })
	}
	for range 3 {
		if err := r.Rebuild(t.Context(), h.history()); err != nil {
			t.Fatal(err)
		}
		if err := r.Ready(); err != nil {
			t.Errorf("after a rebuild: %v", err)
		}
		if d.ackedTo() == "" {
			t.Error("the snapshot was not acknowledged")
		}
	}
	close(stop)
	<-done
	ask(t, r, "/v1/recommend") // waits for the head
	want := lived(t, d, func(c *Config) { c.Limits.Events = 16 })
	if diff := cmp.Diff(dump(want.state.Load()), dump(r.state.Load()), cmp.AllowUnexported(place{})); diff != "" {
		t.Fatalf("of %d events, not what was learned live:\n%s", len(docs), diff)
	}
	if diff := cmp.Diff(lists(t, want, docs), lists(t, r.Recommender, docs)); diff != "" {
		t.Fatalf("lists:\n%s", diff)
	}
	r.stop()
	if d.ackedTo() != d.head()[partition] {
		t.Errorf("acknowledged up to %q of %v", d.ackedTo(), d.head())
	}
}

// TestRebuildKeepsServing looks at the room from outside while it learns anew.
func TestRebuildKeepsServing(t *testing.T) {
	t.Parallel()
	d := newDouble()
	r := start(t, d, t.TempDir(), nil)
	shop(d, "a tea pot", "b tea pot", "me tea")
	ask(t, r, "/v1/recommend")
	old := newDouble()
	shop(old, "a tea lid", "b tea lid", "c tea lid", "e tea lid")
	h := &recorded{d: old}
	h.keep(8, 0)
	reached, proceed := make(chan struct{}), make(chan struct{})
	h.step = func(pass int) {
		if pass == 1 {
			close(reached)
			<-proceed
		}
	}
	history := h.history()
	var told int64
	history.Progress = func(done int64) { told = done }
	result := make(chan error, 1)
	go func() { result <- r.Rebuild(t.Context(), history) }()
	<-reached
	if err := r.Rebuild(t.Context(), history); !errors.Is(err, ErrRebuilding) {
		t.Errorf("a second rebuild: %v", err)
	}
	shop(d, "c tea cup", "d tea cup", "f tea cup")
	if got := sorted(ask(t, r, "/v1/recommend?session_id=me")); !slices.Equal(got, []string{"cup", "pot"}) {
		t.Errorf("during a rebuild: %v", got)
	}
	if s := r.Status(); !s.Ready || s.Rebuilding == nil || s.Rebuilding.Since.IsZero() || s.LagMillis != 0 {
		t.Errorf("during a rebuild: %+v", s)
	}
	close(proceed)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	if got := sorted(ask(t, r, "/v1/recommend?session_id=me")); !slices.Equal(got, []string{"cup", "lid", "pot"}) {
		t.Errorf("after the rebuild: %v, want what history and the bus have", got)
	}
	if s := r.Status(); !s.Ready || s.Rebuilding != nil || s.LagMillis != 0 || s.SnapshotAt.IsZero() || told != 16 {
		t.Errorf("after the rebuild: %+v, told %d", s, told)
	}
	if d.ackedTo() != d.head()[partition] {
		t.Errorf("acknowledged up to %q", d.ackedTo())
	}
}

func (d *double) len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.log)
}

func sorted(a Answer) []string { return slices.Sorted(slices.Values(names(a))) }

// TestRebuildFails leaves everything as it was.
func TestRebuildFails(t *testing.T) {
	t.Parallel()
	d := newDouble()
	r := start(t, d, t.TempDir(), nil)
	shop(d, "a tea pot", "b tea pot", "me tea")
	before := ask(t, r, "/v1/recommend?session_id=me")
	learned := r.state.Load()
	broken := errors.New("the archive is away")
	for pass := range 2 {
		h := &recorded{d: d}
		h.keep(5, 5)
		history := h.history()
		events := history.Events
		n := 0
		history.Events = func(ctx context.Context, since time.Time, fn func([]*event.Event) error) error {
			if n++; n > pass {
				return broken
			}
			return events(ctx, since, fn)
		}
		if err := r.Rebuild(t.Context(), history); !errors.Is(err, broken) {
			t.Errorf("pass %d: %v", pass, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		h = &recorded{d: d, step: func(n int) {
			if n > pass {
				cancel()
			}
		}}
		h.keep(5, 5)
		if err := r.Rebuild(ctx, h.history()); !errors.Is(err, context.Canceled) {
			t.Errorf("pass %d: %v", pass, err)
		}
	}
	shop(d, "c saw nail")
	after := ask(t, r, "/v1/recommend?session_id=me")
	if r.state.Load() != learned || before.Items[0].ID != after.Items[0].ID {
		t.Errorf("lists changed: %+v, then %+v", before.Items, after.Items)
	}
	if s := r.Status(); !s.Ready || s.Interactions != 7 || s.Doubles != 0 || s.Rebuilding != nil {
		t.Errorf("status %+v", s)
	}
	r.stop()
	if d.ackedTo() != d.head()[partition] {
		t.Errorf("acknowledged up to %q", d.ackedTo())
	}
}

// TestRebuildWithoutABus is how a command learns while no server runs.
func TestRebuildWithoutABus(t *testing.T) {
	t.Parallel()
	d, dir := newDouble(), t.TempDir()
	shop(d, "a tea pot", "b tea pot")
	h := &recorded{d: d}
	h.keep(4, 3)
	offline, err := New(Default(), Options{Dir: dir, Parse: parseDoc})
	if err != nil {
		t.Fatal(err)
	}
	if err := offline.Rebuild(t.Context(), h.history()); err != nil {
		t.Fatal(err)
	}
	if err := offline.Run(t.Context()); err == nil {
		t.Error("Run without a bus")
	}
	shop(d, "c tea lid")
	r := start(t, d, dir, nil)
	if at := r.Status().Positions[partition]; at < position(3) {
		t.Errorf("starts at %q", at)
	}
	if got := sorted(ask(t, r, "/v1/recommend?item_id=tea")); !slices.Equal(got, []string{"lid", "pot"}) {
		t.Errorf("list %v", got)
	}
	if s := r.Status(); s.Doubles != 1 || s.Interactions != 2 {
		t.Errorf("status %+v: want one double, of what history held beyond its level", s)
	}
}

// TestRebuildOfNothing learns from a history that is empty, and from none.
func TestRebuildOfNothing(t *testing.T) {
	t.Parallel()
	d := newDouble()
	shop(d, "a tea pot", "b tea pot")
	r := start(t, d, t.TempDir(), nil)
	for _, h := range []History{{}, (&recorded{d: d}).history()} {
		if err := r.Rebuild(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		if got := names(ask(t, r, "/v1/recommend?item_id=tea")); !slices.Equal(got, []string{"pot"}) {
			t.Errorf("list %v", got)
		}
	}
}

func TestOldEventsAreLate(t *testing.T) {
	t.Parallel()
	d := newDouble()
	const year = 365 * 24 * 3600 * 1000
	for i := range 50 { // imported: longer ago than sessions are kept
		shop := doc{Session: fmt.Sprintf("old%d", i), At: day0 - year + int64(i)*1000}
		for _, p := range []string{"wig", "fan"} {
			shop.Path, shop.ID = "/product/"+p, ""
			d.publish(shop.record())
		}
	}
	shop(d, "a tea pot", "b tea pot")
	d.publish(doc{Session: "late", Path: "/product/wig", At: day0 - year}.record())
	h := &recorded{d: d}
	h.keep(104, 104)
	r := idle(t, d, t.TempDir(), func(*Config) {})
	if err := r.Rebuild(t.Context(), h.history()); err != nil {
		t.Fatal(err)
	}
	// What is too old leaves with the clicks that come after it, two at a time.
	if s := r.Status(); s.Late != 1 || s.Interactions != 104 || s.Sessions != 2+50-8 {
		t.Errorf("status %+v", s)
	}
	if got := lists(t, r, nil)["/v1/recommend?explain=1&n=50"]; got[0].ID != "tea" && got[0].ID != "pot" {
		t.Errorf("trending: %+v", got)
	}
}

// TestRebuildForgets compares a rebuild without somebody's events with one of a
// shop that the person never entered.
func TestRebuildForgets(t *testing.T) {
	t.Parallel()
	identifiers := []event.Field{event.DomainUserID, event.UserID, event.NetworkUserID}
	rapid.Check(t, func(rt *rapid.T) {
		docs := drawDocs(rt)
		field := rapid.SampledFrom(identifiers).Draw(rt, "identifier")
		name := map[event.Field]string{event.DomainUserID: "d", event.UserID: "u", event.NetworkUserID: "n"}[field] +
			fmt.Sprint(rapid.IntRange(0, 5).Draw(rt, "person"))
		person := func(e *event.Event) bool { return e.Text(field) == name }
		with, without := newDouble(), newDouble()
		for _, one := range docs {
			with.publish(one.record())
			if !person(parsed(one)) {
				without.publish(one.record())
			}
		}
		change := func(*Config) {}
		if rapid.Bool().Draw(rt, "tight") {
			change = tight
		}
		cfg := Default()
		change(&cfg)
		digest, dir := "", t.TempDir()
		r, err := New(cfg, Options{Bus: with, Dir: dir, Head: with.head, Forgotten: func() string { return digest }, Parse: func(record []byte, now time.Time) []*event.Event {
			return slices.DeleteFunc(parseDoc(record, now), func(e *event.Event) bool { return digest != "" && person(e) })
		}})
		if err != nil {
			rt.Fatal(err)
		}
		for i, m := range with.log {
			r.apply(bus.Batch{Partition: partition, Messages: []bus.Message{m}, Last: position(i + 1)})
		}
		digest = "one"
		h := &recorded{d: with, skip: person}
		level := rapid.IntRange(0, len(with.log)).Draw(rt, "level")
		h.keep(level, level)
		if !r.NeedsRebuild() {
			rt.Fatal("nothing says that somebody is to be forgotten")
		}
		if err := r.Rebuild(t.Context(), h.history()); err != nil {
			rt.Fatal(err)
		}
		never := lived(t, without, change)
		if diff := cmp.Diff(dump(never.state.Load()), dump(r.state.Load()), cmp.AllowUnexported(place{})); diff != "" {
			rt.Fatalf("traces of %s:\n%s", name, diff)
		}
		if diff := cmp.Diff(lists(t, never, docs), lists(t, r, docs)); diff != "" {
			rt.Fatalf("lists:\n%s", diff)
		}
		if r.NeedsRebuild() {
			rt.Fatal("not done")
		}
		again, err := New(cfg, r.opt)
		if err != nil || again.NeedsRebuild() {
			rt.Fatalf("restarted: %v", err)
		}
		clean := never.state.Load()
		clean.forgotten = "one"
		if diff := cmp.Diff(reread(t, clean, cfg), dump(again.state.Load()), cmp.AllowUnexported(place{})); diff != "" {
			rt.Fatalf("the snapshot has traces of %s:\n%s", name, diff)
		}
	})
}

// A process may be told to stop before its parts have begun.
func TestStopBeforeTheBeginning(t *testing.T) {
	t.Parallel()
	r := idle(t, newDouble(), t.TempDir(), func(*Config) {})
	r.opt.Bus = strict{newDouble()}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Run(ctx); err != nil {
		t.Error(err)
	}
}

// strict takes nobody in whose context has ended, as real buses do.
type strict struct{ *double }

func (s strict) Subscribe(ctx context.Context, group string, streams []bus.Stream, from bus.Start) (bus.Subscription, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.double.Subscribe(ctx, group, streams, from)
}
