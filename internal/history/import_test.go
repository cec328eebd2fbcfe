package history

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"furrow/internal/archive"
	"furrow/internal/bus"
	"furrow/internal/event"
	"furrow/internal/snowplow"
	"furrow/internal/store"
)

// exported are the events of what was sent, as Snowplow's enrichment writes them.
func (p *past) exported() string {
	p.tb.Helper()
	var text strings.Builder
	seen := map[string]bool{}
	for _, m := range p.sent {
		result, err := p.enricher.Do(context.Background(), m.Value, start)
		if err != nil {
			p.tb.Fatal(err)
		}
		for _, e := range result.Events {
			if !seen[e.ID()] {
				seen[e.ID()] = true
				text.Write(append(snowplow.AppendTSV(nil, e), '\n'))
			}
		}
	}
	return text.String()
}

func sourceOf(text string) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
}

func (p *past) importText(name, text string) ImportReport {
	p.tb.Helper()
	report, err := p.history().Import(context.Background(), ImportSpec{Name: name, Size: int64(len(text))}, sourceOf(text), nil)
	if err != nil {
		p.tb.Fatal(err)
	}
	return report
}

// archived counts the imported events and bad rows in the archive.
func (p *past) archived() (events, bad map[string]int) {
	p.tb.Helper()
	events, bad = map[string]int{}, map[string]int{}
	err := p.archive.ReadImported(context.Background(), time.Time{}, time.Time{}, func(e *event.Event) error {
		events[e.ID()]++
		return nil
	})
	if err == nil {
		err = p.archive.ReadBad(context.Background(), time.Time{}, time.Time{}, func(b event.BadRow) error {
			bad[b.ID]++
			return nil
		})
	}
	if err != nil {
		p.tb.Fatal(err)
	}
	return events, bad
}

// once checks that each is there once, and no other.
func once(t *testing.T, what string, got map[string]int, want map[string]string) {
	t.Helper()
	if len(got) != len(want) || len(want) == 0 {
		t.Errorf("%s: %d, want %d", what, len(got), len(want))
	}
	for id, n := range got {
		if _, ok := want[id]; !ok || n != 1 {
			t.Errorf("%s %s: %d times, wanted %v", what, id, n, ok)
		}
	}
}

func zipped(tb testing.TB, parts ...string) string {
	tb.Helper()
	var b bytes.Buffer
	for _, part := range parts {
		w := gzip.NewWriter(&b)
		if _, err := io.WriteString(w, part); err != nil {
			tb.Fatal(err)
		}
		if err := w.Close(); err != nil {
			tb.Fatal(err)
		}
	}
	return b.String()
}

func TestImportMakesTheSameRows(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	p.week(60)
	live, text := p.db, p.exported()
	half := strings.Index(text[len(text)/2:], "\n") + len(text)/2 - 100 // within a line
	for i, form := range []string{text, strings.ReplaceAll(text, "\n", "\r\n"), "\ufeff" + strings.TrimSuffix(text, "\n") + "\n\n", zipped(t, text), zipped(t, text[:half], "", text[half:])} {
		other := newPast(t)
		r := other.importText(fmt.Sprint(i), form)
		if r.New != int64(strings.Count(text, "\n")) || r.Bad+r.Doubles+r.Conflicts+r.Refused != 0 || r.Archived != r.New {
			t.Errorf("form %d: %+v", i, r)
		}
		wantEvents, _ := contents(t, live, event.EtlTstamp.Name(), "content_hash")
		gotEvents, _ := contents(t, other.db, event.EtlTstamp.Name(), "content_hash")
		for id, want := range wantEvents {
			if gotEvents[id] != want {
				t.Fatalf("form %d: event %s is\n%s\nwant\n%s", i, id, gotEvents[id], want)
			}
		}
		again := other.importText(fmt.Sprint(i), form)
		if again.New != 0 || again.Doubles != r.New || again.Archived != 0 || !again.Last.Equal(r.Last) {
			t.Errorf("form %d again: %+v", i, again)
		}
		events, _ := other.archived()
		once(t, "archived event", events, wantEvents)
		if left := other.stateFiles(); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		other.db = other.database("replayed.db")
		if r := other.replay(ReplaySpec{Target: ToDatabase}); r.Imported != again.Doubles || r.New != r.Imported {
			t.Errorf("form %d, replayed: %+v", i, r)
		}
		replayed, _ := contents(t, other.db, event.EtlTstamp.Name(), "content_hash")
		if len(replayed) != len(wantEvents) {
			t.Errorf("form %d, replayed: %d events", i, len(replayed))
		}
	}
}

// What Furrow collected itself and what an export holds of it are doubles, in
// whichever order they come.
func TestImportOfWhatWasCollected(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	p.week(50)
	before, _ := contents(t, p.db)
	r := p.importText("export", p.exported())
	if r.New != 0 || r.Conflicts != 0 || r.Doubles != int64(len(before)) {
		t.Errorf("import after: %+v", r)
	}
	p.db = p.database("other.db")
	if _, err := p.history().Import(t.Context(), ImportSpec{Name: "x", NoArchive: true}, sourceOf(p.exported()), nil); err != nil {
		t.Fatal(err)
	}
	if r := p.replay(ReplaySpec{Target: ToDatabase}); r.New != 0 || r.Conflicts != 0 {
		t.Errorf("replay after the import: %+v", r)
	}
	seen := map[string]int{}
	err := p.history().Events(t.Context(), time.Time{}, time.Time{}, nil, func(events []*event.Event) error {
		for _, e := range events {
			seen[e.ID()]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	once(t, "event for the recommender", seen, before)
}

func TestImportKeepsWhatIsNoEvent(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	p.week(10)
	good := strings.SplitAfter(p.exported(), "\n")
	good = good[:len(good)-1]
	with := func(f event.Field, text string) string {
		cells := strings.Split(strings.TrimSuffix(good[0], "\n"), "\t")
		cells[f] = text
		return strings.Join(cells, "\t")
	}
	bad := []string{
		"no event",
		strings.TrimSuffix(good[0], "\n") + "\t",
		with(event.EventID, ""), with(event.EventID, "7"), with(event.CollectorTstamp, ""), with(event.CollectorTstamp, "2026-13-01 00:00:00.000"),
		with(event.TxnID, "1.5"), with(event.SeValue, "1,5"), with(event.Contexts, `{"schema":`), with(event.UnstructEvent, "[]"),
		with(event.PageTitle, strings.Repeat("x", 2001)), with(event.GeoLatitude, "NaN"), with(event.PageTitle, "a\xff"), "\x00\xff",
		strings.Repeat("z", maxLineBytes+1), strings.Repeat("z", maxLineBytes),
	}
	text := strings.Join(good, "") + strings.Join(bad, "\n") + "\n\n" + good[1]
	other := newPast(t)
	r := other.importText("export", text)
	if r.Bad != int64(len(bad)) || r.NewBad != r.Bad || r.New != int64(len(good)) || r.Doubles != 1 || r.Lines != int64(len(good)+len(bad)+1) {
		t.Errorf("%+v of %d and %d", r, len(good), len(bad))
	}
	_, rows := contents(t, other.db)
	schemas := map[string]int{}
	err := other.db.EachBad(t.Context(), store.BadFilter{Records: true}, func(b event.BadRow) error {
		schemas[b.Schema]++
		if b.ID != event.BadRowID(event.NewRecordID(b.Payload), event.WholeRecord) || b.Record != event.NewRecordID(b.Payload) {
			t.Errorf("bad row %s is not of its line %.80q", b.ID, b.Payload)
		}
		if len(b.Payload) > 0 && !strings.Contains(text, string(b.Payload)) {
			t.Errorf("not a line: %.80q", b.Payload)
		}
		return nil
	})
	if err != nil || schemas[snowplow.LoaderParsingError] != len(bad)-1 || schemas[sizeViolation] != 1 {
		t.Errorf("%v, %v", schemas, err)
	}
	if r := other.importText("export", text); r.NewBad != 0 || r.New != 0 || r.Bad != int64(len(bad)) {
		t.Errorf("again: %+v", r)
	}
	if r := other.importText("export by another name", text); r.NewBad != 0 || r.New != 0 {
		t.Errorf("by another name: %+v", r)
	}
	other.db = other.database("replayed.db")
	other.replay(ReplaySpec{Target: ToDatabase})
	events, badAgain := contents(t, other.db)
	if len(events) != len(good) || len(badAgain) != len(rows) {
		t.Errorf("a replay of the import gives %d events and %d bad rows", len(events), len(badAgain))
	}
}

func TestImportGoesOnAfterAnEndAtAnyPoint(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	p.week(60)
	text := p.exported() + "not one\n"
	wantEvents, _ := contents(t, p.db)
	other := newPast(t)
	other.often = true
	random := rand.New(rand.NewPCG(5, 6))
	resumed, fewest := 0, 0
	for runs := 1; ; runs++ {
		if runs > 300 {
			t.Fatal("the import never ends")
		}
		ctx, cancel := context.WithCancel(t.Context())
		db := &flaky{Database: other.db, failAt: 4, endAt: 2 + random.Int64N(8), end: cancel}
		ranges := &stopping{Archive: other.archive, left: 1 + random.IntN(6), end: cancel}
		other.change = func(o *Options) { o.Database, o.Archive = db, ranges }
		h := other.history()
		h.ranges = rangeLimits{lines: 25, bytes: 1 << 20, hours: 5}
		h.linesAtOnce = 15
		r, err := h.Import(ctx, ImportSpec{Name: "export", Size: 1}, sourceOf(text), nil)
		cancel()
		if r.ResumedFrom > 0 {
			resumed++
		}
		if err == nil {
			fewest = runs
			if r.Events != int64(len(wantEvents)) || r.Bad != 1 || r.Lines != r.Events+1 || r.New+r.Doubles != r.Events {
				t.Errorf("%+v, want %d events", r, len(wantEvents))
			}
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if runs%4 == 2 { // the machine was replaced, or the state was lost
			if err := os.RemoveAll(filepath.Join(other.dir, "state")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if resumed == 0 || fewest < 3 {
		t.Errorf("%d runs, %d went on", fewest, resumed)
	}
	other.change = nil
	events, bad := other.archived()
	once(t, "archived event", events, wantEvents)
	gotEvents, gotBad := contents(t, other.db)
	once(t, "archived bad row", bad, gotBad)
	if len(gotEvents) != len(wantEvents) {
		t.Errorf("%d events, want %d", len(gotEvents), len(wantEvents))
	}
}

// stopping is an archive whose process ends at the beginning of a range.
type stopping struct {
	Archive
	left int
	end  context.CancelFunc
}

func (s *stopping) Begin(ctx context.Context, stream, partition string, first bus.Position) (*archive.Range, error) {
	if s.left--; s.left < 0 {
		s.end()
		return nil, ctx.Err()
	}
	return s.Archive.Begin(ctx, stream, partition, first)
}

func TestImportOfAnotherSourceUnderTheSameName(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	p.week(40)
	text := p.exported()
	lines := strings.SplitAfter(text, "\n")
	other := newPast(t)
	spec := ImportSpec{Name: "export", Size: 5}
	if _, err := other.history().Import(t.Context(), spec, sourceOf(strings.Join(lines[:30], "")), nil); err != nil {
		t.Fatal(err)
	}
	for _, changed := range []string{strings.Join(lines[10:], ""), strings.Join(lines[:5], "")} {
		if _, err := other.history().Import(t.Context(), spec, sourceOf(changed), nil); !errors.Is(err, errOtherSource) {
			t.Fatalf("%v", err)
		}
		if _, err := other.history().Import(t.Context(), spec, sourceOf(changed), nil); err != nil {
			t.Fatal(err)
		}
	}
	if r := other.importText("whole", text); r.New != 0 {
		t.Errorf("%+v", r)
	}
}

func TestImportOfACutFileKeepsWhatCouldBeRead(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	p.week(60)
	text := p.exported()
	whole := zipped(t, text)
	other := newPast(t)
	spec := ImportSpec{Name: "export.gz"}
	r, err := other.history().Import(t.Context(), spec, sourceOf(whole[:len(whole)*3/4]), nil)
	if err == nil || r.Lines == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	if r, err = other.history().Import(t.Context(), spec, sourceOf(whole), nil); err != nil || r.ResumedFrom == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	want, _ := contents(t, p.db)
	events, _ := other.archived()
	once(t, "archived event", events, want)
	if r.New != int64(len(want)) {
		t.Errorf("%+v", r)
	}
	if _, err := other.history().Import(t.Context(), ImportSpec{Name: "no gzip"}, sourceOf("\x1f\x8bgarbage"), nil); err == nil {
		t.Error("garbage was taken for gzip")
	}
}

func TestImportLeavesOutTheForgotten(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	p.live(bus.Message{Stream: bus.Raw, Value: postOf(start, visitEvent(1, "anna"), visitEvent(2, "boris")), Time: start})
	lines := strings.SplitAfter(p.exported(), "\n")
	broken := strings.Replace(lines[0], "js-4.0.0", strings.Repeat("v", 101), 1) // hers, and no event
	cut := lines[0][:len(lines[0])-10] + "\n"                                    // hers, and with too few cells
	other := newPast(t)
	other.forget("anna")
	r := other.importText("export", broken+cut+lines[0]+lines[1])
	if r.Forgotten != 3 || r.New != 1 || r.Bad != 0 || r.Lines != 4 {
		t.Errorf("%+v", r)
	}
	if events, _ := other.archived(); len(events) != 1 {
		t.Errorf("in the archive: %v", events)
	}
	if again := other.importText("export", broken+cut+lines[0]+lines[1]); again.Archived != 0 {
		t.Errorf("again: %+v", again)
	}
}

// A line that is no event is kept as a bad row, which goes with its person.
func TestForgettingTakesBadLines(t *testing.T) {
	t.Parallel()
	w := newForgetWorld(t)
	line := func(user string, cells int) string {
		all := make([]string, cells)
		all[event.AppID], all[event.UserID] = "shop", user
		return strings.Join(all, "\t") + "\n"
	}
	text := line("anna", 131) + line("anna", 60) + line("boris", 131) + line("boris", 60)
	r, err := w.history.Import(t.Context(), ImportSpec{Name: "lines"}, sourceOf(text), nil)
	if err != nil || r.NewBad != 4 {
		t.Fatalf("%+v, %v", r, err)
	}
	report := w.forget("anna")
	if report.Database.BadRows != 2 || report.Archive.BadRows != 2 {
		t.Errorf("database %+v, archive %+v", report.Database, report.Archive)
	}
	if files := holds(t, w.dir, "anna"); len(files) != 0 {
		t.Errorf("%v still name her", files)
	}
	d := w.dump()
	if len(d.Bad) != 2 || len(d.OldBad) != 2 {
		t.Errorf("others' rows: %d in the database, %d in the archive", len(d.Bad), len(d.OldBad))
	}
}

func TestImportTeachesTheRecommender(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	p.week(10)
	text := p.exported()
	calls := 0
	fail := errors.New("not yet")
	p.change = func(o *Options) {
		o.Rebuild = func(_ context.Context, since, until time.Time, progress func(int64)) error {
			calls++
			progress(1)
			if !since.IsZero() || !until.IsZero() {
				t.Errorf("only from %v to %v", since, until)
			}
			return fail
		}
	}
	spec := ImportSpec{Name: "export"}
	if _, err := p.history().Import(t.Context(), spec, sourceOf(text), nil); !errors.Is(err, fail) || calls != 1 {
		t.Fatalf("%v after %d calls", err, calls)
	}
	fail = nil
	r, err := p.history().Import(t.Context(), spec, sourceOf("not read"), nil)
	if err != nil || !r.Rebuilt || calls != 2 || r.Events != int64(strings.Count(text, "\n")) {
		t.Errorf("%+v, %v after %d calls", r, err, calls)
	}
	spec.NoRebuild = true
	if r, err := p.history().Import(t.Context(), spec, sourceOf(text), nil); err != nil || r.Rebuilt || calls != 2 {
		t.Errorf("%+v, %v after %d calls", r, err, calls)
	}
}

func TestImportTellsWhatIsMissing(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	fail := errors.New("no such file")
	for _, c := range []struct {
		spec   ImportSpec
		source func(context.Context) (io.ReadCloser, error)
	}{
		{ImportSpec{}, sourceOf("")},
		{ImportSpec{Name: "x", NoArchive: true, NoDatabase: true}, sourceOf("")},
		{ImportSpec{Name: "x"}, func(context.Context) (io.ReadCloser, error) { return nil, fail }},
	} {
		if _, err := p.history().Import(t.Context(), c.spec, c.source, nil); err == nil {
			t.Errorf("%+v: no error", c.spec)
		}
	}
	if r := p.importText("empty", ""); r.Lines != 0 {
		t.Errorf("%+v", r)
	}
}

func FuzzImport(f *testing.F) {
	f.Add([]byte("a\tb\r\n\nc"))
	f.Add([]byte(zipped(f, "x\n", "y")))
	f.Add([]byte("\x1f\x8b"))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := newLines(bytes.NewReader(text))
		if err != nil {
			return
		}
		defer l.close()
		l.limit, l.kept = 64, 16
		h := &History{opts: Options{Forgotten: func(string, string, string, time.Time) bool { return false }}}
		for {
			line, long, err := l.next()
			if err != nil {
				return
			}
			if len(line) > 64 || long && len(line) > 16 || bytes.IndexByte(line, '\n') >= 0 {
				t.Fatalf("line %q, long %v", line, long)
			}
			r := &record{line: string(line), id: event.NewRecordID(line)}
			if e, bad := h.readRecord(r, start); (e == nil) == (bad == nil) {
				t.Fatalf("%q is neither or both", line)
			}
		}
	})
}
