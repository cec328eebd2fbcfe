package history

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"furrow/internal/event"
	"furrow/internal/snowplow"
)

func tsv(e *event.Event) []byte { return snowplow.AppendTSV(nil, e) }

// short is a disk without room for one of the stores, until somebody was told.
type short struct {
	store string
	asked atomic.Int64
	freed atomic.Bool
	told  string
}

func (s *short) paused(store string) (string, bool) {
	if store != s.store {
		return "", false
	}
	s.asked.Add(1)
	return "the disk is full", !s.freed.Load()
}

func (s *short) tell(step Step) {
	if strings.Contains(step.What, "the disk is full") {
		s.told = step.What
		s.freed.Store(true)
	}
}

// What writes waits for room and says so, and can be stopped meanwhile.
func TestOperationsWaitForRoom(t *testing.T) {
	t.Parallel()
	w := newForgetWorld(t)
	w.send(post(morning, "", broken(1), page("uid", "bob")))
	w.enricher.lifted.Store(true)
	export := string(tsv(w.plain(w.raw()[0]).Events[1])) + "\n"
	for name, c := range map[string]struct {
		store string
		run   func(context.Context, Progress) error
	}{
		"replay": {InDatabase, func(ctx context.Context, tell Progress) error {
			_, err := w.history.Replay(ctx, ReplaySpec{Target: ToDatabase}, tell)
			return err
		}},
		"import, database": {InDatabase, func(ctx context.Context, tell Progress) error {
			_, err := w.history.Import(ctx, ImportSpec{Name: "a"}, sourceOf(export), tell)
			return err
		}},
		"import, archive": {InArchive, func(ctx context.Context, tell Progress) error {
			_, err := w.history.Import(ctx, ImportSpec{Name: "b"}, sourceOf(export), tell)
			return err
		}},
		"retry": {InDatabase, func(ctx context.Context, tell Progress) error {
			_, err := w.history.BadRetry(ctx, BadRetrySpec{}, tell)
			return err
		}},
	} {
		disk := &short{store: c.store}
		w.change = func(o *Options) { o.Paused = disk.paused }
		w.remake()
		w.history.askEvery = time.Millisecond
		ctx, cancel := context.WithCancel(t.Context())
		err := c.run(ctx, func(step Step) {
			if strings.Contains(step.What, "the disk is full") {
				cancel()
			}
		})
		if cancel(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s, stopped: %v", name, err)
		}
		if err := c.run(t.Context(), disk.tell); err != nil || disk.told == "" || disk.asked.Load() < 3 {
			t.Errorf("%s: %v, told %q after %d questions", name, err, disk.told, disk.asked.Load())
		}
	}
	// A forgetting makes room.
	w.change = func(o *Options) { o.Paused = func(string) (string, bool) { return "the disk is full", true } }
	w.remake()
	if report := w.forget("bob"); !report.Complete {
		t.Errorf("%+v", report)
	}
}
