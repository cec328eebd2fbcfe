package recorder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"furrow/internal/archive"
	"furrow/internal/bus"
	"furrow/internal/bus/mem"
	"furrow/internal/enrich"
	"furrow/internal/event"
	"furrow/internal/snowplow"
	"furrow/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// world is a recorder between a bus in memory and real sinks on disk.
type world struct {
	t        *testing.T
	dir      string
	bus      *mem.Bus
	store    *store.SQLite
	gate     *gate // before the store
	archive  *archive.Archive
	enricher *counting
	cfg      Config
	archCfg  archive.Config
	opts     func(*Options)
	change   func(*Recorder)

	recorder *Recorder
	cancel   context.CancelFunc
	ended    chan error
}

func newWorld(t *testing.T, partitions int) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), bus: mem.New(mem.Options{Partitions: partitions}), cfg: Default(), archCfg: archive.Default()}
	w.archCfg.RollAge = time.Second
	w.cfg.BatchAge = 5 * time.Millisecond
	w.cfg.RetryMax = 20 * time.Millisecond
	real, err := enrich.New(enrich.Options{Artifact: "furrow", Version: "0.1.0"})
	if err != nil {
		t.Fatal(err)
	}
	w.enricher = &counting{next: real}
	w.gate = &gate{}
	w.openSinks()
	t.Cleanup(func() {
		w.stop()
		w.closeSinks()
	})
	return w
}

func (w *world) openSinks() {
	w.t.Helper()
	var err error
	log := slog.New(slog.DiscardHandler)
	if w.store, err = store.Open(filepath.Join(w.dir, "furrow.db"), store.Default(), nil, log); err != nil {
		w.t.Fatal(err)
	}
	if w.archive, err = archive.Open(filepath.Join(w.dir, "archive"), w.archCfg, nil, log); err != nil {
		w.t.Fatal(err)
	}
	w.gate.next.Store(w.store)
}

func (w *world) closeSinks() {
	if w.store != nil {
		if err := w.store.Close(); err != nil {
			w.t.Error(err)
		}
	}
	w.store = nil
}

// start runs a new recorder.
func (w *world) start() {
	w.t.Helper()
	opts := Options{Bus: w.bus, Enricher: w.enricher, Store: w.gate, Archive: w.archive, Log: slog.New(slog.DiscardHandler)}
	if w.opts != nil {
		w.opts(&opts)
	}
	var err error
	if w.recorder, err = New(w.cfg, opts); err != nil {
		w.t.Fatal(err)
	}
	if w.change != nil {
		w.change(w.recorder)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel, w.ended = cancel, make(chan error, 1)
	go func() { w.ended <- w.recorder.Run(ctx) }()
}

func (w *world) log() *slog.Logger { return slog.New(slog.DiscardHandler) }

// stop ends the recorder and returns what Run said.
func (w *world) stop() error {
	if w.cancel == nil {
		return nil
	}
	w.cancel()
	err := <-w.ended
	w.cancel = nil
	return err
}

func (w *world) mustStop() {
	w.t.Helper()
	if err := w.stop(); err != nil {
		w.t.Fatal(err)
	}
}

// publish sends page views number from to from+n-1.
func (w *world) publish(from, n int) {
	w.t.Helper()
	for i := from; i < from+n; i++ {
		w.send(bus.Message{Stream: bus.Raw, Key: fmt.Appendf(nil, "user %d", i%7), Value: record(i)})
	}
}

func (w *world) send(m bus.Message) {
	w.t.Helper()
	if err := w.bus.Publish(w.t.Context(), m); err != nil {
		w.t.Fatal(err)
	}
}

func record(n int) []byte {
	return snowplow.AppendPayload(nil, &event.Payload{
		IPAddress: "203.0.113.9", Timestamp: noon.UnixMilli() + int64(n), Encoding: "UTF-8", Collector: "furrow-0.1.0",
		Path:          event.Some("/i"),
		Querystring:   event.Some("e=pv&p=web&tv=js-4&aid=shop&url=https%3A%2F%2Fshop.example%2F&eid=" + id(n)),
		NetworkUserID: event.Some("11111111-1111-4111-8111-111111111111"),
	})
}

func id(n int) string {
	return event.DeriveEventID(event.NewRecordID(fmt.Appendf(nil, "event %d", n)), 0)
}

// eventually waits for a condition that other goroutines bring about.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			w.t.Fatalf("waited a minute for: %s; status %+v", what, w.recorder.Status())
		case err := <-w.ended:
			w.ended <- err
			w.t.Fatalf("recorder ended with %v while waiting for: %s", err, what)
		case <-tick.C:
		}
	}
}

func (w *world) status(group string) GroupStatus {
	for _, s := range w.recorder.Status() {
		if s.Group == group {
			return s
		}
	}
	return GroupStatus{}
}

func (w *world) rows() store.Status {
	w.t.Helper()
	st, err := w.store.Status(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return st
}

// stored waits until the database holds so many events.
func (w *world) stored(n int64) {
	w.t.Helper()
	w.eventually(fmt.Sprintf("%d rows", n), func() bool { return w.rows().Events >= n })
	if got := w.rows().Events; got != n {
		w.t.Fatalf("%d rows, want %d", got, n)
	}
}

// settled waits until both groups have acknowledged so many records.
func (w *world) settled(n int64) {
	w.t.Helper()
	w.eventually(fmt.Sprintf("%d records in both groups", n), func() bool {
		return w.status(GroupStore).Records >= n && w.status(GroupArchive).Records >= n
	})
}

// archived returns how often each event id is in the archive.
func (w *world) archived() map[string]int {
	w.t.Helper()
	ids := map[string]int{}
	err := w.archive.ReadEvents(w.t.Context(), time.Unix(0, 0), noon.AddDate(1, 0, 0), func(id string, _ time.Time) error {
		ids[id]++
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return ids
}

// checkArchive fails unless the archive holds events 0 to n-1 exactly once.
func (w *world) checkArchive(n int) {
	w.t.Helper()
	ids := w.archived()
	if len(ids) != n {
		w.t.Errorf("%d events in the archive, want %d", len(ids), n)
	}
	for i := range n {
		if got := ids[id(i)]; got != 1 {
			w.t.Errorf("event %d is %d times in the archive", i, got)
			return
		}
	}
}

// checkLevel fails unless both groups have acknowledged everything.
func (w *world) checkLevel() {
	w.t.Helper()
	for _, g := range []string{GroupStore, GroupArchive} {
		sub, err := w.bus.Subscribe(w.t.Context(), g, []bus.Stream{bus.Raw, bus.Bad}, bus.Start{})
		if err != nil {
			w.t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(w.t.Context(), 50*time.Millisecond)
		for {
			b, err := sub.Next(ctx)
			if err != nil {
				break
			}
			if b.Notice == bus.Delivery {
				w.t.Errorf("%s has not acknowledged %d messages from %s", g, len(b.Messages), b.First)
			}
		}
		cancel()
		sub.Close()
	}
}

// counting counts what is enriched, and may panic instead.
type counting struct {
	next  Enricher
	calls atomic.Int64
	panic atomic.Bool
}

func (c *counting) Do(ctx context.Context, record []byte, now time.Time) (enrich.Result, error) {
	c.calls.Add(1)
	if c.panic.Load() {
		panic("a defect")
	}
	return c.next.Do(ctx, record, now)
}

func (c *counting) Forgets(record []byte, at time.Time) bool { return c.next.Forgets(record, at) }

var errStalled = errors.New("database is stalled")

// gate lets a test stall the store.
type gate struct {
	next    atomic.Pointer[store.SQLite]
	stalled atomic.Bool
	calls   atomic.Int64
}

func (g *gate) Insert(ctx context.Context, rows []store.Row, bad []event.BadRow) (store.Inserted, error) {
	g.calls.Add(1)
	if g.stalled.Load() {
		return store.Inserted{}, errStalled
	}
	return g.next.Load().Insert(ctx, rows, bad)
}

// heard is a tap that counts.
type heard struct {
	mu     sync.Mutex
	events int
	bad    int
}

func (h *heard) Recorded(events []*event.Event, bad []event.BadRow) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events += len(events)
	h.bad += len(bad)
}
