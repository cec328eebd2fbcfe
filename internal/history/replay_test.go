package history

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/bus"
	"furrow/internal/event"
	"furrow/internal/store"
)

func (p *past) replay(spec ReplaySpec) ReplayReport {
	p.tb.Helper()
	report, err := p.history().Replay(context.Background(), spec, nil)
	if err != nil {
		p.tb.Fatal(err)
	}
	return report
}

// stateFiles are what operations left behind in the folder of their state.
func (p *past) stateFiles() []string {
	files, err := filepath.Glob(filepath.Join(p.dir, "state", "*"))
	if err != nil {
		p.tb.Fatal(err)
	}
	return slices.DeleteFunc(files, func(name string) bool {
		ok, _ := filepath.Match("imported-*", filepath.Base(name))
		return ok
	})
}

func TestReplayMakesTheSameDatabase(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	p.week(150)
	live := p.db
	p.db = p.database("again.db")
	first := p.replay(ReplaySpec{Target: ToDatabase})
	equalContents(t, live, p.db)
	status, err := live.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if first.New != status.Events || first.NewBad != status.Bad || first.Doubles != 0 || first.Conflicts != 0 {
		t.Errorf("%+v of %d events and %d bad rows", first, status.Events, status.Bad)
	}
	second := p.replay(ReplaySpec{Target: ToDatabase})
	equalContents(t, live, p.db)
	if second.New != 0 || second.NewBad != 0 || second.Events != first.Events || second.Doubles != first.Events {
		t.Errorf("a second replay: %+v", second)
	}
	if left := p.stateFiles(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestReplayPreview(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	p.week(100)
	preview := p.replay(ReplaySpec{Target: ToDatabase, Preview: true})
	if preview.New != 0 || preview.Known != preview.Events || preview.Events == 0 || preview.Bad == 0 {
		t.Errorf("all is there: %+v", preview)
	}
	live := p.db
	p.db = p.database("again.db")
	preview = p.replay(ReplaySpec{Target: ToDatabase, Preview: true})
	status, err := p.db.Status(t.Context())
	if err != nil || status.Events+status.Bad != 0 {
		t.Fatalf("the preview stored: %+v, %v", status, err)
	}
	done := p.replay(ReplaySpec{Target: ToDatabase})
	if preview.Known != 0 || preview.New != done.New || preview.Bad != done.NewBad || preview.Records != done.Records {
		t.Errorf("nothing is there: preview %+v, replay %+v", preview, done)
	}
	if diff := cmp.Diff(preview.Groups, done.Groups); diff != "" || len(done.Groups) != 4 {
		t.Errorf("groups (-preview +replay):\n%s", diff)
	}
	equalContents(t, live, p.db)
}

func TestReplaySelects(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	p.week(100)
	live, _ := contents(t, p.db)
	day := start.Truncate(24 * time.Hour).Add(24*time.Hour + 30*time.Minute)
	for i, c := range []struct {
		spec ReplaySpec
		sql  string
	}{
		{ReplaySpec{App: "blog"}, "app_id=blog\n"},
		{ReplaySpec{Type: "page_view"}, "event_name=page_view\n"},
		{ReplaySpec{Type: "add_to_cart"}, "event_name=add_to_cart\n"},
		{ReplaySpec{Type: "struct"}, "event=struct\n"},
		{ReplaySpec{From: day, To: day.Add(5 * time.Hour)}, ""},
	} {
		p.db = p.database(fmt.Sprintf("%d.db", i))
		c.spec.Target = ToDatabase
		report := p.replay(c.spec)
		got, bad := contents(t, p.db)
		want := 0
		for id, text := range live {
			at := ""
			for line := range splitLines(text) {
				if len(line) > 17 && line[:17] == "collector_tstamp=" {
					at = line[17:]
				}
			}
			if !contains(text, c.sql) || !c.spec.From.IsZero() && (at < c.spec.From.Format("2006-01-02 15:04:05.000") || at >= c.spec.To.Format("2006-01-02 15:04:05.000")) {
				continue
			}
			want++
			if _, ok := got[id]; !ok {
				t.Fatalf("%+v: event %s is missing:\n%s", c.spec, id, text)
			}
		}
		if len(got) != want || want == 0 || int64(want) != report.New {
			t.Errorf("%+v: %d events, want %d; %+v", c.spec, len(got), want, report)
		}
		if len(bad) > 0 && c.spec.From.IsZero() {
			t.Errorf("%+v: %d bad rows", c.spec, len(bad))
		}
	}
}

func splitLines(text string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for len(text) > 0 {
			i := 0
			for i < len(text) && text[i] != '\n' {
				i++
			}
			if !yield(text[:i]) {
				return
			}
			text = text[min(i+1, len(text)):]
		}
	}
}

// flaky is a database that fails now and then, and calls off the operation at a
// call.
type flaky struct {
	store.Database
	calls  atomic.Int64
	failAt int64 // every so many calls fail once; 0 never
	endAt  int64
	end    context.CancelFunc
}

var errFlaky = errors.New("the connection was reset")

func (f *flaky) Insert(ctx context.Context, rows []store.Row, bad []event.BadRow) (store.Inserted, error) {
	n := f.calls.Add(1)
	if f.endAt > 0 && n >= f.endAt {
		f.end()
		if n%2 == 0 { // stored, and nobody heard of it
			_, err := f.Database.Insert(context.WithoutCancel(ctx), rows, bad)
			return store.Inserted{}, errors.Join(err, ctx.Err())
		}
		return store.Inserted{}, ctx.Err()
	}
	if f.failAt > 0 && n%f.failAt == 0 {
		return store.Inserted{}, errFlaky
	}
	return f.Database.Insert(ctx, rows, bad)
}

func TestReplayGoesOnAfterAnEndAtAnyPoint(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	p.often = true
	p.week(150)
	live := p.db
	p.db = p.database("again.db")
	random := rand.New(rand.NewPCG(1, 2))
	resumed := 0
	var whole ReplayReport
	for run := 0; ; run++ {
		if run > 200 {
			t.Fatal("the replay never ends")
		}
		ctx, cancel := context.WithCancel(t.Context())
		db := &flaky{Database: p.db, failAt: 3, endAt: 2 + random.Int64N(30), end: cancel}
		p.change = func(o *Options) { o.Database = db }
		report, err := p.history().Replay(ctx, ReplaySpec{Target: ToDatabase}, nil)
		cancel()
		if !report.ResumedFrom.IsZero() {
			resumed++
		}
		if err == nil {
			whole = report
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	equalContents(t, live, p.db)
	if resumed == 0 || whole.ResumedFrom.IsZero() {
		t.Errorf("no run went on where another had ended: %+v", whole)
	}
	p.change = nil
	again := p.replay(ReplaySpec{Target: ToDatabase})
	if whole.Events != again.Events || whole.Records != again.Records || whole.New+whole.Doubles != whole.Events {
		t.Errorf("in parts %+v, in one %+v", whole, again)
	}
	if left := p.stateFiles(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestReplayGivesUpOnADatabaseThatStaysAway(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	p.week(20)
	p.change = func(o *Options) { o.Database = &flaky{Database: p.db, failAt: 1} }
	if _, err := p.history().Replay(t.Context(), ReplaySpec{Target: ToDatabase}, nil); !errors.Is(err, errFlaky) {
		t.Fatalf("%v", err)
	}
}

func TestReplayToTheBus(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	p.week(120)
	for _, app := range []string{"", "blog"} {
		publisher := &gatedBus{fullFor: 3}
		p.change = func(o *Options) { o.Bus = publisher }
		report := p.replay(ReplaySpec{Target: ToBus, App: app})
		var want []bus.Message
		seen := map[string]bool{}
		for _, m := range p.sent {
			result, err := p.enricher.Do(t.Context(), m.Value, start)
			if err != nil {
				t.Fatal(err)
			}
			some := app == "" || slices.ContainsFunc(result.Events, func(e *event.Event) bool { return e.Text(event.AppID) == app })
			// What cannot be read has no collector time of its own.
			if !some || seen[string(m.Value)] {
				continue
			}
			seen[string(m.Value)] = true
			want = append(want, bus.Message{Stream: bus.Raw, Key: m.Key, Value: m.Value})
		}
		if diff := cmp.Diff(want, publisher.got); diff != "" {
			t.Errorf("%q (-want +got):\n%.2000s", app, diff)
		}
		if report.Published != int64(len(want)) || publisher.largest > messageBytes+1<<16 {
			t.Errorf("%q: %+v, largest call %d", app, report, publisher.largest)
		}
	}
}

// gatedBus is full for its first calls.
type gatedBus struct {
	fullFor int
	got     []bus.Message
	largest int
}

func (g *gatedBus) Publish(_ context.Context, messages ...bus.Message) error {
	if g.fullFor > 0 {
		g.fullFor--
		return bus.ErrFull
	}
	size := 0
	for _, m := range messages {
		size += len(m.Value)
	}
	g.largest = max(g.largest, size)
	g.got = append(g.got, messages...)
	return nil
}

func TestReplayToAFullBusEndsWithItsContext(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	p.week(10)
	publisher := &gatedBus{fullFor: 1 << 30}
	p.change = func(o *Options) { o.Bus = publisher }
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.history().Replay(ctx, ReplaySpec{Target: ToBus}, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v", err)
	}
}

func TestReplayLeavesOutTheForgotten(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	p.live(bus.Message{Stream: bus.Raw, Key: []byte("anna"), Value: postOf(start, visitEvent(1, "anna"), visitEvent(2, "boris")), Time: start})
	p.live(bus.Message{Stream: bus.Raw, Value: postOf(start, visitEvent(3, "anna")), Time: start})
	p.forget("anna")
	p.db = p.database("again.db")
	if r := p.replay(ReplaySpec{Target: ToDatabase}); r.New != 1 || r.Forgotten != 2 {
		t.Errorf("%+v", r)
	}
	publisher := &gatedBus{}
	p.change = func(o *Options) { o.Bus = publisher }
	p.replay(ReplaySpec{Target: ToBus})
	if len(publisher.got) != 1 || contains(string(publisher.got[0].Key)+string(publisher.got[0].Value), "anna") || !contains(string(publisher.got[0].Value), "boris") {
		t.Errorf("on the bus: %q", publisher.got)
	}
}

func TestReplayTellsWhatIsMissing(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	for _, c := range []struct {
		spec   ReplaySpec
		change func(*Options)
	}{
		{ReplaySpec{Target: "moon"}, nil},
		{ReplaySpec{}, nil},
		{ReplaySpec{Target: ToDatabase}, func(o *Options) { o.Database = nil }},
		{ReplaySpec{Target: ToDatabase}, func(o *Options) { o.Archive = nil }},
		{ReplaySpec{Target: ToBus}, func(o *Options) { o.Bus = nil }},
		{ReplaySpec{Target: ToRecommender}, nil},
		{ReplaySpec{Target: ToRecommender, App: "shop"}, func(o *Options) {
			o.Rebuild = func(context.Context, time.Time, time.Time, func(int64)) error { return nil }
		}},
		{ReplaySpec{Target: ToDatabase, From: start, To: start}, nil},
	} {
		p.change = c.change
		if _, err := p.history().Replay(t.Context(), c.spec, nil); err == nil {
			t.Errorf("%+v: no error", c.spec)
		}
	}
	p.change = nil
	if r := p.replay(ReplaySpec{Target: ToDatabase}); r.Records != 0 {
		t.Errorf("an empty archive: %+v", r)
	}
}

func TestOneReplayOfASpecAtATime(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	p.week(10)
	h := p.history()
	var inner error
	h.opts.Database = hooked{p.db, func() {
		_, inner = h.Replay(t.Context(), ReplaySpec{Target: ToDatabase}, nil)
	}}
	if _, err := h.Replay(t.Context(), ReplaySpec{Target: ToDatabase}, nil); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(inner, ErrRunning) {
		t.Errorf("the second replay: %v", inner)
	}
}

type hooked struct {
	store.Database
	before func()
}

func (h hooked) Insert(ctx context.Context, rows []store.Row, bad []event.BadRow) (store.Inserted, error) {
	h.before()
	return h.Database.Insert(ctx, rows, bad)
}

func TestReplaySkipsEmptyCenturies(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	times := []time.Time{
		time.Date(1969, 7, 20, 20, 17, 40, 0, time.UTC), time.UnixMilli(0).UTC(), start, start.Add(3 * time.Hour),
		time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	for i, at := range times {
		p.live(bus.Message{Stream: bus.Raw, Value: postOf(at, visitEvent(i, "u")), Time: at})
	}
	live := p.db
	p.db = p.database("again.db")
	p.replay(ReplaySpec{Target: ToDatabase})
	equalContents(t, live, p.db)
	p.db = p.database("bounded.db")
	if r := p.replay(ReplaySpec{Target: ToDatabase, From: times[1], To: times[4]}); r.New != 3 {
		t.Errorf("bounded: %+v", r)
	}
}

func TestAStateThatCannotBeReadIsNone(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	p.week(30)
	h := p.history()
	j, err := h.begin("replay", ReplaySpec{Target: ToDatabase})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.save("not a state"); err != nil {
		t.Fatal(err)
	}
	j.end()
	live := p.db
	p.db = p.database("again.db")
	if r := p.replay(ReplaySpec{Target: ToDatabase}); !r.ResumedFrom.IsZero() {
		t.Errorf("%+v", r)
	}
	equalContents(t, live, p.db)
	if _, err := os.Stat(j.path()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state is still there: %v", err)
	}
}

func TestEventsComeInOrder(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	p.week(120)
	all, _ := contents(t, p.db)
	h := p.history()
	h.spoolBytes = 20_000 // sorted on disk
	var last time.Time
	got := map[string]bool{}
	err := h.Events(t.Context(), time.Time{}, time.Time{}, nil, func(events []*event.Event) error {
		for _, e := range events {
			at := e.Time(event.CollectorTstamp)
			if at.Before(last) || got[e.ID()] {
				t.Errorf("event %s of %v after %v, seen %v", e.ID(), at, last, got[e.ID()])
			}
			last, got[e.ID()] = at, true
		}
		return nil
	})
	if err != nil || len(got) != len(all) {
		t.Errorf("%d events of %d, %v", len(got), len(all), err)
	}
	if left := p.stateFiles(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	some := 0
	err = h.Events(t.Context(), start.Add(10*time.Hour), time.Time{}, func(e *event.Event) bool { return e.Text(event.AppID) == "blog" },
		func(events []*event.Event) error { some += len(events); return nil })
	if err != nil || some == 0 || some >= len(all)/2 {
		t.Errorf("%d events of one site, %v", some, err)
	}
}

func TestSpoolSorts(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{200, 5000, 1 << 20} {
		random := rand.New(rand.NewPCG(3, uint64(limit)))
		s := spool{dir: t.TempDir(), limit: limit}
		var want []item
		for i := range 1000 {
			it := item{ms: random.Int64N(50) - 25, line: i%3 == 0, data: fmt.Append(nil, i)}
			want = append(want, it)
			if err := s.add(it); err != nil {
				t.Fatal(err)
			}
		}
		slices.SortStableFunc(want, func(a, b item) int { return int(a.ms - b.ms) })
		var got []item
		if err := s.each(func(it item) error { got = append(got, it); return nil }); err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(s.dir); err != nil || len(left) != 0 {
			t.Errorf("limit %d: %v would outlive the process, %v", limit, left, err)
		}
		s.clear()
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(item{})); diff != "" {
			t.Errorf("limit %d (-want +got):\n%.1000s", limit, diff)
		}
	}
}
