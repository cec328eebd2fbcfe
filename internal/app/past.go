package app

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"furrow/internal/archive"
	"furrow/internal/bus"
	"furrow/internal/bus/journal"
	"furrow/internal/config"
	"furrow/internal/enrich"
	"furrow/internal/event"
	"furrow/internal/history"
	"furrow/internal/recommender"
	"furrow/internal/recorder"
	"furrow/internal/store"
)

// buildHistory wires what goes back to what was recorded.
func (a *App) buildHistory(enricher *enrich.Enricher) (err error) {
	opts := history.Options{
		Dir: filepath.Join(a.cfg.DataDir, "history"), Archive: a.archive, Database: a.store, Bus: a.journal,
		Enricher: enricher, Forgotten: a.stones.Event, Tombstones: a.stones, Cleaner: a.archive,
		Paused: a.pausedStore, BusExpiry: a.lastCopy, Log: a.component("history"), Now: time.Now,
	}
	if a.cfg.Has(config.RoleRecommender) {
		opts.Rebuild = a.relearn
	}
	if !a.offline {
		// The recorder is built after this room, and runs before an operation can come.
		opts.Settle = func(ctx context.Context) error { return a.recorder.Settle(ctx) }
	}
	if a.inspector != nil {
		opts.Purge = func(func(userID, domainUserID, networkUserID string) bool) { a.inspector.Clear() }
	}
	a.history, err = history.New(opts)
	return err
}

// lastCopy says when the journal will have lost what is in it now.
func (a *App) lastCopy() (what string, last time.Time, known bool) {
	last, waiting := a.journal.LastCopy(time.Now())
	var until []string
	if len(waiting) > 0 {
		until = append(until, "once "+strings.Join(waiting, ", ")+" passed it, and its retention has run out")
	}
	// Nobody can tell whose records the damaged parts held.
	if slices.ContainsFunc(a.journal.Status().SetAside, func(s journal.SetAside) bool { return s.File != "" }) {
		until = append(until, "once the damaged parts that were set aside are deleted: "+filepath.Join(a.cfg.DataDir, "journal", "set-aside"))
	}
	if len(until) > 0 {
		return "journal: " + strings.Join(until, "; "), time.Time{}, false
	}
	return "journal", last, true
}

// pausedStore says whether operations must wait before they write, and why, by the
// rule that the recorder keeps.
func (a *App) pausedStore(store string) (string, bool) {
	if store == history.InDatabase {
		return a.paused(recorder.GroupStore)
	}
	return a.paused(recorder.GroupArchive)
}

// relearn has the recommender learn anew from the archive.
func (a *App) relearn(ctx context.Context, since, until time.Time, progress func(done int64)) error {
	return a.recommender.Rebuild(ctx, recommender.History{
		Events: func(ctx context.Context, from time.Time, fn func([]*event.Event) error) error {
			if from.Before(since) {
				from = since
			}
			return a.history.Events(ctx, from, until, nil, fn)
		},
		Level: a.archived, Progress: progress,
	})
}

// archived returns the positions up to which the archive holds everything.
func (a *App) archived() bus.Positions {
	for _, g := range a.journal.Status().Groups {
		if g.Name == recorder.GroupArchive {
			return bus.Positions{journal.Partition: g.Position}
		}
	}
	return nil
}

const (
	// reconcileFirst is how long the recorder waits for stores to say who is
	// forgotten. The data folder knows it too, so this matters only when the folder
	// is new.
	reconcileFirst = 10 * time.Second
	tendEvery      = time.Minute
)

// record reconciles the tombstones, then runs the recorder.
func (a *App) record(ctx context.Context) error {
	first, cancel := context.WithTimeout(ctx, reconcileFirst)
	a.reconcile(first)
	cancel()
	return a.recorder.Run(ctx)
}

// reconcile cleans stores that lack tombstones. It says whether all is done.
func (a *App) reconcile(ctx context.Context) bool {
	report, err := a.history.Reconcile(ctx)
	if errors.Is(err, history.ErrRunning) {
		return false
	}
	log := a.component("history")
	if err != nil && ctx.Err() == nil {
		log.Error("cannot tell whether the stores lack tombstones; trying again in a minute", "error", err)
	}
	if report.Learned > 0 {
		log.Warn("a store had tombstones that this data folder lacked; they are in force now", "tombstones", report.Learned)
	}
	if d := report.Database; d != nil && *d != (store.Forgotten{}) {
		log.Warn("the database held people who are forgotten, and was cleaned", "events", d.Events, "bad_rows", d.BadRows, "records", d.Records)
	}
	if d := report.Archive; d != nil && *d != (archive.Forgotten{}) {
		log.Warn("the archive held people who are forgotten, and was cleaned", "events", d.Events, "bad_rows", d.BadRows, "records", d.Records)
	}
	for _, p := range report.Pending {
		log.Warn("a store is away, and whether it holds forgotten people is checked later", "store", p.Where, "error", p.Error)
	}
	return err == nil && len(report.Pending) == 0
}

// tend does what the stores need now and then, until ctx ends: merging the files of
// closed hours, and what a forgetting left to do.
func (a *App) tend(ctx context.Context) error {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	clean := a.reconcile(ctx)
	for {
		a.learnAnew(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !clean {
			clean = a.reconcile(ctx)
		}
		if err := a.merge(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("files of closed hours could not be merged; next try in a minute", "error", err)
		}
	}
}

// merge merges the files of closed hours until none is left, or the disk is short.
func (a *App) merge(ctx context.Context) error {
	for {
		if _, paused := a.disk.paused(); paused {
			return nil
		}
		done, err := a.archive.Compact(ctx, time.Now())
		if err != nil || done.Left == 0 || done.Hours == 0 {
			return err
		}
	}
}

// learnAnew makes the recommender learn from the archive when its snapshot is of
// before a forgetting.
func (a *App) learnAnew(ctx context.Context) {
	if a.recommender == nil {
		return
	}
	_, err := a.history.Relearn(ctx, nil)
	if err == nil && a.recommender.NeedsRebuild() {
		err = a.relearn(ctx, time.Time{}, time.Time{}, nil)
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, history.ErrRunning) && !errors.Is(err, recommender.ErrRebuilding) {
		a.log.Error("the recommender cannot learn anew; next try in a minute", "error", err)
	}
}
