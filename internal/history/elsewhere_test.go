package history

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"furrow/internal/event"
	"furrow/internal/tombstone"
)

// An operation that ended early goes on where it was only if the database is the one
// that it fed.
func TestAnotherDatabaseGetsAll(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]func(ctx context.Context, p *past, text string) error{
		"replay": func(ctx context.Context, p *past, _ string) error {
			_, err := p.history().Replay(ctx, ReplaySpec{Target: ToDatabase}, nil)
			return err
		},
		"import": func(ctx context.Context, p *past, text string) error {
			h := p.history()
			h.linesAtOnce = 15
			_, err := h.Import(ctx, ImportSpec{Name: "export", NoArchive: true}, sourceOf(text), nil)
			return err
		},
	} {
		p := newPast(t)
		p.often = true
		p.week(150)
		live, text := p.db, p.exported()
		p.db = p.database("first.db")
		ctx, cancel := context.WithCancel(t.Context())
		first := p.db
		p.change = func(o *Options) { o.Database = &flaky{Database: first, endAt: 20, end: cancel} }
		if err := run(ctx, p, text); !errors.Is(err, context.Canceled) {
			t.Fatalf("%s: %v", name, err)
		}
		if len(p.stateFiles()) == 0 {
			t.Fatalf("%s: nothing was noted", name)
		}
		p.change = nil
		p.db = p.database("second.db") // the first was deleted, or the configuration names another
		if err := run(t.Context(), p, text); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want, _ := contents(t, live, event.EtlTstamp.Name(), "content_hash")
		got, _ := contents(t, p.db, event.EtlTstamp.Name(), "content_hash")
		if len(got) != len(want) {
			t.Errorf("%s: %d events, want %d", name, len(got), len(want))
		}
	}
}

// newFolder is the process after its data folder was lost and its stores were not.
func (w *world) newFolder() {
	w.tb.Helper()
	var err error
	if w.set, err = tombstone.Open(filepath.Join(w.dir, "tombstones, anew")); err != nil {
		w.tb.Fatal(err)
	}
	w.opts.Tombstones, w.opts.Forgotten, w.opts.Dir = w.set, w.set.Event, filepath.Join(w.dir, "history, anew")
	w.remake()
}

// What the stores know of forgotten people counts before anything is brought back to
// them, for what they have noted is not taken out again.
func TestANewDataFolderBringsNobodyBack(t *testing.T) {
	t.Parallel()
	w := newForgetWorld(t)
	w.send(post(morning, "", page("uid", "ann", "eid", eid(1)), page("uid", "bob", "eid", eid(2))))
	export := ""
	for _, e := range w.plain(w.raw()[0]).Events {
		export += string(tsv(e)) + "\n"
	}
	w.forget("ann")
	for name, run := range map[string]func() error{
		"import": func() error {
			_, err := w.history.Import(t.Context(), ImportSpec{Name: "export"}, sourceOf(export), nil)
			return err
		},
		"replay": func() error {
			_, err := w.history.Replay(t.Context(), ReplaySpec{Target: ToDatabase}, nil)
			return err
		},
		"retry": func() error { _, err := w.history.BadRetry(t.Context(), BadRetrySpec{}, nil); return err },
	} {
		w.change = func(o *Options) { o.Cleaner = away{o.Cleaner} }
		w.newFolder()
		if err := run(); err == nil || !strings.Contains(err.Error(), InArchive) {
			t.Errorf("%s: nobody knows who is forgotten, and it says %v", name, err)
		}
		w.change = nil
		w.newFolder()
		if err := run(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if person, err := w.db.Person(t.Context(), []string{"ann"}); err != nil || person.Events != 0 {
			t.Errorf("%s: she is back: %+v, %v", name, person, err)
		}
	}
}

// away is an archive that does not tell who is buried in it.
type away struct{ Cleaner }

func (away) Buried(context.Context) ([]tombstone.Tombstone, error) { return nil, errAway }

// The clock of a collector may be ahead of the one that forgets.
func TestForgettingReachesWhatBearsATimeToCome(t *testing.T) {
	t.Parallel()
	w := newForgetWorld(t)
	ahead := noonish.Add(30 * time.Minute)
	w.send(post(morning, "", page("uid", "ann")), post(ahead, "", page("uid", "ann"), page("uid", "bob")))
	report := w.forget("ann")
	if !report.At.Equal(ahead) || report.Database.Events != 2 || report.Archive.Events != 2 {
		t.Errorf("until %s: %+v, %+v", report.At, report.Database, report.Archive)
	}
	if files := holds(t, w.dir, "ann"); len(files) != 0 {
		t.Errorf("%v still name her", files)
	}
	w.send(post(ahead.Add(time.Second), "", page("uid", "ann")))
	if person, err := w.db.Person(t.Context(), []string{"ann"}); err != nil || person.Events != 1 {
		t.Errorf("later: %+v, %v", person, err)
	}
}
