// Package app is the composition root: it builds the roles that a configuration
// asks for, starts them in stages and stops them in reverse.
//
// New does everything that can fail, the listeners included; Run blocks until its
// context ends, drains and returns nil. Bus first, then consumers, then HTTP; a
// stage is stopped only after the one that feeds it has returned, so nothing that
// was answered 200 is handed to somebody who is gone.
//
// It holds no behaviour of its own beyond wiring, health and the status page, and
// refuses to be a framework: a role is added by naming it here.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"furrow/internal/archive"
	"furrow/internal/bus/journal"
	"furrow/internal/collector"
	"furrow/internal/config"
	"furrow/internal/enrich"
	"furrow/internal/event"
	"furrow/internal/history"
	"furrow/internal/inspector"
	"furrow/internal/recommender"
	"furrow/internal/recorder"
	"furrow/internal/store"
	"furrow/internal/tombstone"
	"furrow/web"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Options are what a process brings besides its configuration.
type Options struct {
	Version string // of the binary, for example 0.1.0
	Log     *slog.Logger
	// Offline builds what operations on the recorded history need, and no listener:
	// Run is not called then.
	Offline bool
}

// App is one Furrow process.
type App struct {
	cfg     config.Config
	offline bool
	version string
	log     *slog.Logger
	started time.Time

	registry *prometheus.Registry
	lock     *journal.Lock
	public   net.Listener
	admin    net.Listener

	journal     *journal.Journal
	collector   *collector.Collector
	stones      *tombstone.Set
	store       store.Database
	archive     *archive.Archive
	history     *history.History
	recorder    *recorder.Recorder
	recommender *recommender.Recommender
	inspector   *inspector.Inspector
	disk        *disk
	operating   *operating

	draining atomic.Bool
}

// New builds the process: it takes the data folder, binds the listeners and opens
// every store, or gives back all it took and says what is wrong.
func New(cfg config.Config, opts Options) (*App, error) {
	a := &App{cfg: cfg, offline: opts.Offline, version: opts.Version, log: opts.Log, started: time.Now(), registry: prometheus.NewRegistry(), operating: newOperating()}
	a.cfg.Store.DedupDays, a.cfg.Archive.DedupDays = cfg.Dedup.Days, cfg.Dedup.Days
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := a.build(); err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

func (a *App) build() error {
	dir := a.cfg.DataDir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("data folder %s cannot be made: %w; choose another with --data-dir", dir, cause(err))
	}
	if err := writable(dir); err != nil {
		return fmt.Errorf("data folder %s cannot be written: %w; make it writable or choose another with --data-dir", dir, cause(err))
	}
	var err error
	if a.lock, err = journal.LockDir(dir); err != nil {
		return err
	}
	if !a.offline {
		if err := a.listen(); err != nil {
			return err
		}
	}
	if a.stones, err = tombstone.Open(filepath.Join(dir, "tombstones")); err != nil {
		return err
	}
	if err = a.openJournal(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	a.disk = newDisk(dir, a.cfg.Disk)
	for _, role := range []struct {
		name   string
		online bool // not for operations
		build  func() error
	}{
		{config.RoleInspector, true, a.buildInspector},
		{config.RoleRecorder, false, a.buildRecorder},
		{config.RoleRecommender, false, a.buildRecommender},
		{config.RoleCollector, true, a.buildCollector},
	} {
		if !a.cfg.Has(role.name) || role.online && a.offline {
			continue
		}
		if err := role.build(); err != nil {
			return fmt.Errorf("%s: %w", role.name, err)
		}
	}
	return nil
}

// listen binds the listeners, and leaves word where commands find the admin one.
func (a *App) listen() (err error) {
	if a.public, err = Listen(a.cfg.Listen, "--listen"); err != nil {
		return err
	}
	if a.admin, err = Listen(a.cfg.Admin, "--admin"); err != nil {
		return err
	}
	return a.lock.Note(reachable(a.admin.Addr()))
}

// openJournal opens the journal and registers the groups of the configured roles. A
// command registers none where there are some: it does not know what roles the folder
// serves, and a group that nobody ever reads for would hold every record.
func (a *App) openJournal() (err error) {
	open := func(groups []string) error {
		a.journal, err = journal.Open(filepath.Join(a.cfg.DataDir, "journal"), a.cfg.Bus.Journal, groups, a.registry, a.component("journal"))
		return err
	}
	if !a.offline {
		return open(a.groups())
	}
	if err := open(nil); err != nil || len(a.journal.Status().Groups) > 0 {
		return err
	}
	// What a command publishes in a new folder waits at least for those that record.
	if err := a.journal.Close(); err != nil {
		return err
	}
	a.registry = prometheus.NewRegistry()
	return open([]string{recorder.GroupStore, recorder.GroupArchive})
}

// groups are the consumers that the journal keeps records for.
func (a *App) groups() []string {
	var groups []string
	if a.cfg.Has(config.RoleRecorder) {
		groups = append(groups, recorder.GroupStore, recorder.GroupArchive)
	}
	if a.cfg.Has(config.RoleRecommender) {
		groups = append(groups, a.cfg.Recommender.Group)
	}
	return groups
}

func (a *App) component(name string) *slog.Logger { return a.log.With("component", name) }

func (a *App) enricher() (*enrich.Enricher, error) {
	return enrich.New(enrich.Options{Artifact: "furrow", Version: a.version, Forgotten: a.stones.Event})
}

func (a *App) buildCollector() error {
	cfg := a.cfg.Collector
	cfg.Key = a.cfg.Bus.Key
	var err error
	a.collector, err = collector.New(cfg, a.journal, collector.Options{
		Name:       "furrow-" + a.version + "-journal",
		Registerer: a.registry,
		Log:        a.component("collector"),
		Now:        time.Now,
		Ready:      a.accepting,
	})
	return err
}

func (a *App) buildRecorder() error {
	enricher, err := a.enricher()
	if err != nil {
		return err
	}
	if a.store, err = a.openStore(); err != nil {
		return err
	}
	if a.archive, err = archive.Open(filepath.Join(a.cfg.DataDir, "archive"), a.cfg.Archive, a.registry, a.component("archive")); err != nil {
		return err
	}
	if err := a.buildHistory(enricher); err != nil {
		return err
	}
	if a.offline {
		return nil
	}
	opts := recorder.Options{
		Bus: a.journal, Enricher: enricher, Store: a.store, Archive: a.archive,
		Paused: a.paused, Registerer: a.registry, Log: a.component("recorder"), Now: time.Now,
	}
	if a.inspector != nil {
		opts.Tap = a.inspector
	}
	a.recorder, err = recorder.New(a.cfg.Recorder, opts)
	return err
}

func (a *App) openStore() (store.Database, error) {
	if a.cfg.Store.URL != "" {
		return store.OpenPostgres(a.cfg.Store, a.registry, a.component("store"))
	}
	return store.Open(filepath.Join(a.cfg.DataDir, "furrow.db"), a.cfg.Store, a.registry, a.component("store"))
}

func (a *App) buildRecommender() error {
	enricher, err := a.enricher()
	if err != nil {
		return err
	}
	a.recommender, err = recommender.New(a.cfg.Recommender, recommender.Options{
		Bus:  a.journal,
		Dir:  filepath.Join(a.cfg.DataDir, "recommender"),
		Head: a.journal.Head,
		Parse: func(record []byte, now time.Time) []*event.Event {
			return enricher.Parse(record, now).Events
		},
		Forgotten:  a.stones.Digest,
		Registerer: a.registry, Log: a.component("recommender"), Now: time.Now,
	})
	return err
}

func (a *App) buildInspector() error {
	var err error
	a.inspector, err = inspector.New(a.cfg.Inspector, inspector.Options{
		UI: web.UI(), Status: a.status, Health: a.health, Coverage: a.coverage, SendTest: a.sendTest,
		Recommend: http.HandlerFunc(a.serveV1), Operations: http.HandlerFunc(a.serveOperation), AllowedHosts: []string{a.cfg.Admin},
		Gatherer: a.registry, Registerer: a.registry, Log: a.component("inspector"), Now: time.Now,
	})
	return err
}

// PublicAddr and AdminAddr are where the process listens.
func (a *App) PublicAddr() net.Addr { return a.public.Addr() }

// AdminAddr is where the inspector listens.
func (a *App) AdminAddr() net.Addr { return a.admin.Addr() }

// accepting says why the collector cannot store events, nil when it can.
func (a *App) accepting() error {
	if a.draining.Load() {
		return errors.New("stopping")
	}
	return a.journal.Ready()
}

// Run serves until ctx ends or a part of the process fails, then stops in
// reverse order and returns nil after a clean drain.
func (a *App) Run(ctx context.Context) error {
	consumers := newStage(ctx)
	if a.recorder != nil {
		consumers.start("recorder", a.record)
		consumers.start("retention", a.retain)
		consumers.start("history", a.tend)
	}
	if a.recommender != nil {
		consumers.start("recommender", a.recommender.Run)
	}
	consumers.start("disk", a.disk.run)

	servers := newStage(ctx)
	public, l := a.publicServer()
	servers.serve("public listener", public, l)
	admin := a.adminServer()
	pages := newStage(ctx)
	admin.BaseContext = func(net.Listener) context.Context { return pages.ctx }
	if a.inspector != nil {
		pages.start("inspector", a.inspector.Run)
	}
	pages.serve("admin listener", admin, a.admin)

	var failed error
	select {
	case <-ctx.Done():
	case failed = <-consumers.failed:
	case failed = <-servers.failed:
	case failed = <-pages.failed:
	}
	return errors.Join(failed, a.stop(ctx, public, admin, servers, consumers, pages))
}

// stop ends the operations, which go on another time, and drains: no new requests,
// then the consumers, then the pages.
func (a *App) stop(ctx context.Context, public, admin server, servers, consumers, pages *stage) error {
	a.draining.Store(true)
	if a.collector != nil {
		a.collector.Terminate()
	}
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.StopTimeout+a.cfg.Collector.PreTerminationPeriod)
	defer cancel()
	operations := a.operating.stop(deadline)
	wait(deadline, a.cfg.Collector.PreTerminationPeriod)
	errs := []error{operations, public.Shutdown(deadline), servers.stop(deadline), consumers.stop(deadline)}
	a.report()
	pages.cancel()
	errs = append(errs, admin.Shutdown(deadline), pages.stop(deadline))
	return errors.Join(append(errs, a.close())...)
}

// report logs the balance of the run: what was accepted is durable, and how much
// of it each consumer has handled.
func (a *App) report() {
	if a.collector == nil {
		return
	}
	counts := a.collector.Counts()
	attrs := []any{"accepted", counts.Accepted, "durable", counts.Durable}
	for _, g := range a.journal.Status().Groups {
		attrs = append(attrs, g.Name+"_lag", g.LagRecords)
	}
	a.log.Info("stopped", attrs...)
}

// close gives back what New took, in reverse.
func (a *App) close() error {
	var errs []error
	if a.archive != nil {
		a.archive.Close()
	}
	if a.store != nil {
		errs = append(errs, a.store.Close())
	}
	if a.journal != nil {
		errs = append(errs, a.journal.Close())
	}
	for _, l := range []net.Listener{a.public, a.admin} {
		if l != nil {
			if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	if a.lock != nil {
		errs = append(errs, a.lock.Close())
	}
	return errors.Join(errs...)
}
