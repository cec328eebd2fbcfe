package recorder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"furrow/internal/archive"
	"furrow/internal/bus"
	"furrow/internal/enrich"
	"furrow/internal/event"
	"furrow/internal/store"
)

const sizeViolation = `{"schema":"iglu:com.snowplowanalytics.snowplow.badrows/size_violation/jsonschema/1-0-0",
 "data":{"processor":{"artifact":"furrow","version":"0.1.0"},"failure":{"timestamp":"2026-11-22T12:00:00.000Z", "maximumAllowedSizeBytes":1000},"payload":"GET"}}`

func TestOnePassFeedsStoreAndArchive(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	tap := &heard{}
	w.opts = func(o *Options) { o.Tap = tap }
	w.start()
	w.publish(0, 500)
	w.send(bus.Message{Stream: bus.Bad, Value: []byte(sizeViolation)})
	w.send(bus.Message{Stream: bus.Bad, Value: []byte("not JSON")})
	w.send(bus.Message{Stream: bus.Raw, Value: []byte("not Thrift")})
	w.stored(500)
	w.settled(503)
	w.mustStop()
	w.checkArchive(500)
	w.checkLevel()
	if n := w.enricher.calls.Load(); n != 501 {
		t.Errorf("501 records were enriched %d times", n)
	}
	if tap.events != 500 || tap.bad != 3 {
		t.Errorf("the tap heard of %d events and %d bad rows", tap.events, tap.bad)
	}
	var archived int
	err := w.archive.ReadBad(t.Context(), time.Unix(0, 0), time.Now().Add(time.Hour), func(event.BadRow) error { archived++; return nil })
	if err != nil || archived != 3 {
		t.Errorf("%d bad rows in the archive, %v", archived, err)
	}
	raw := 0 // the collector's own bad rows are no payloads
	err = w.archive.ReadRaw(t.Context(), time.Time{}, time.Time{}, func(archive.RawRow) error { raw++; return nil })
	if err != nil || raw != 501 {
		t.Errorf("%d records in the archive, %v", raw, err)
	}
	for _, s := range w.recorder.Status() {
		if s.Records != 503 || s.Events != 500 || s.Bad != 3 || s.Lag != 0 || s.Error != "" {
			t.Errorf("%+v", s)
		}
	}
	bad, err := w.store.Bad(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bad {
		switch string(b.Payload) {
		case sizeViolation:
			if !strings.Contains(b.Schema, "size_violation") || string(b.Failure) != `{"timestamp":"2026-11-22T12:00:00.000Z","maximumAllowedSizeBytes":1000}` {
				t.Errorf("%s %s", b.Schema, b.Failure)
			}
		case "not JSON":
			if b.Schema != store.GenericError || !strings.Contains(string(b.Failure), "cannot be read") {
				t.Errorf("%s %s", b.Schema, b.Failure)
			}
		case "not Thrift":
		default:
			t.Errorf("unknown record %q", b.Payload)
		}
		if b.ID != event.BadRowID(event.NewRecordID(b.Payload), event.WholeRecord) {
			t.Errorf("id %s is not derived", b.ID)
		}
	}
}

func TestStalledDatabaseDoesNotDelayTheArchive(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.gate.stalled.Store(true)
	w.start()
	w.publish(0, 300)
	w.eventually("the archive", func() bool { return w.status(GroupArchive).Records == 300 })
	w.checkArchive(300)
	if err := w.recorder.Ready(); err == nil || !strings.Contains(err.Error(), errStalled.Error()) || !strings.Contains(err.Error(), GroupStore) {
		t.Errorf("ready says %v", err)
	}
	if s := w.status(GroupStore); s.Records != 0 || s.Oldest.IsZero() || s.ErrorSince.IsZero() {
		t.Errorf("%+v", s)
	}
	w.gate.stalled.Store(false)
	w.stored(300)
	w.settled(300)
	w.eventually("readiness", func() bool { return w.recorder.Ready() == nil })
	w.mustStop()
	w.checkLevel()
}

// openAgain opens the sinks with a changed configuration.
func (w *world) openAgain() {
	w.t.Helper()
	w.closeSinks()
	w.openSinks()
}

// broken makes the ranges of an archive fail.
type broken struct {
	archiveRange
	add, commit func() error
}

func (b broken) Add(e archive.Entry) error {
	if b.add != nil {
		if err := b.add(); err != nil {
			return err
		}
	}
	return b.archiveRange.Add(e)
}

func (b broken) Commit(ctx context.Context, last bus.Position) error {
	if b.commit != nil {
		if err := b.commit(); err != nil {
			return err
		}
	}
	return b.archiveRange.Commit(ctx, last)
}

func (w *world) breakRanges(begin, add, commit func() error) {
	w.change = func(r *Recorder) {
		inner := r.begin
		r.begin = func(ctx context.Context, stream, partition string, first bus.Position) (archiveRange, error) {
			if begin != nil {
				if err := begin(); err != nil {
					return nil, err
				}
			}
			got, err := inner(ctx, stream, partition, first)
			return broken{got, add, commit}, err
		}
	}
}

func TestStalledArchiveDoesNotDelayTheDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	var fine atomic.Bool
	w.breakRanges(func() error {
		if fine.Load() {
			return nil
		}
		return errors.New("no room for the archive")
	}, nil, nil)
	w.start()
	w.publish(0, 300)
	w.stored(300)
	w.eventually("an error of the archive", func() bool { return w.status(GroupArchive).Error != "" })
	w.eventually("lag of the archive", func() bool { return w.status(GroupArchive).Lag > 0 })
	fine.Store(true)
	w.settled(300)
	if s := w.status(GroupArchive); s.Error != "" {
		t.Errorf("%+v", s)
	}
	w.mustStop()
	w.checkArchive(300)
	w.checkLevel()
}

func TestBrokenRangeBeginsAgain(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"add", "commit"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 2)
			var calls atomic.Int64
			fail := func() error {
				if n := calls.Add(1); n == 1 || n == 40 {
					return fmt.Errorf("%w: a bad sector", archive.ErrBroken)
				}
				return nil
			}
			if at == "add" {
				w.breakRanges(nil, fail, nil)
			} else {
				w.breakRanges(nil, nil, fail)
			}
			w.start()
			w.publish(0, 100)
			w.settled(100)
			w.stored(100)
			w.mustStop()
			w.checkArchive(100)
			w.checkLevel()
		})
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	var paused atomic.Bool
	paused.Store(true)
	w.opts = func(o *Options) {
		o.Paused = func(string) (string, bool) { return "disk reserve reached", paused.Load() }
	}
	w.start()
	w.publish(0, 50)
	w.eventually("both groups to pause", func() bool {
		return w.status(GroupStore).Paused != "" && w.status(GroupArchive).Paused != ""
	})
	if err := w.recorder.Ready(); err == nil || !strings.Contains(err.Error(), "disk reserve reached") {
		t.Errorf("ready says %v", err)
	}
	if n := w.gate.calls.Load(); n != 0 {
		t.Errorf("wrote %d times while paused", n)
	}
	paused.Store(false)
	w.stored(50)
	paused.Store(true)
	w.publish(50, 50)
	w.eventually("the store to pause again", func() bool { return w.status(GroupStore).Paused != "" })
	w.mustStop() // does not wait for room
	paused.Store(false)
	w.start()
	w.stored(100)
	w.eventually("the archive", func() bool { return len(w.archived()) == 100 })
	w.mustStop()
	w.checkArchive(100)
	w.checkLevel()
}

// forgetful loses acknowledgements, as a kill right after a commit does.
type forgetful struct{ bus.Subscriber }

type forgetfulSubscription struct{ bus.Subscription }

func (f forgetful) Subscribe(ctx context.Context, group string, streams []bus.Stream, from bus.Start) (bus.Subscription, error) {
	sub, err := f.Subscriber.Subscribe(ctx, group, streams, from)
	return forgetfulSubscription{sub}, err
}

func (forgetfulSubscription) Ack(context.Context, bus.Batch) error { return bus.ErrClosed }

func TestKillBetweenCommitAndAcknowledgement(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.opts = func(o *Options) { o.Bus = forgetful{w.bus} }
	w.publish(0, 400)
	w.start()
	if err := <-w.ended; !errors.Is(err, bus.ErrClosed) {
		t.Fatalf("run ended with %v", err)
	}
	w.cancel() // it is gone already
	w.cancel = nil
	if len(w.archived()) == 0 || w.rows().Events == 0 {
		t.Fatal("nothing was committed before the kill")
	}
	w.opts = nil
	w.bus = w.bus.Reopen()
	w.openAgain()
	w.publish(400, 200) // the range that was declared must still end where it did
	w.start()
	w.stored(600)
	w.settled(600)
	w.mustStop()
	w.checkArchive(600)
	w.checkLevel()
	if w.status(GroupStore).Doubles == 0 {
		t.Error("nothing came twice, so nothing was tested")
	}
}

func TestPartitionThatMovesAwayAndBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.archCfg.RollAge = time.Hour
	w.openAgain()
	w.start()
	w.publish(0, 150)
	w.stored(150)
	w.eventually("an open range", func() bool { return !w.status(GroupArchive).Oldest.IsZero() })
	back, err := w.bus.Revoke(GroupArchive, "0")
	if err != nil {
		t.Fatal(err)
	}
	w.eventually("the range to be given up", func() bool { return w.status(GroupArchive).Oldest.IsZero() })
	back()
	w.publish(150, 10)
	w.stored(160)
	w.eventually("the range to be open again", func() bool { return !w.status(GroupArchive).Oldest.IsZero() })
	w.mustStop()
	w.archCfg.RollAge = time.Second
	w.openAgain()
	w.start() // what the stop had not taken from the bus
	w.eventually("the archive", func() bool { return len(w.archived()) == 160 })
	w.mustStop()
	w.checkArchive(160)
	w.checkLevel()
}

func TestStopStoresWhatWasBegun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.cfg.BatchAge = time.Minute // only the stop makes the load ripe
	w.archCfg.RollAge = time.Hour
	w.openAgain()
	w.start()
	w.publish(0, 100)
	w.eventually("both groups to hold records", func() bool {
		return !w.status(GroupStore).Oldest.IsZero() && !w.status(GroupArchive).Oldest.IsZero()
	})
	w.mustStop()
	held := w.status(GroupStore).Events
	if got := w.rows().Events; got == 0 || got != held {
		t.Errorf("%d rows of %d acknowledged events", got, held)
	}
	if s := w.status(GroupStore); s.Lag != 0 {
		t.Errorf("%+v", s)
	}
	w.start()
	w.eventually("the rest", func() bool { return !w.status(GroupStore).Oldest.IsZero() || w.rows().Events == 100 })
	w.mustStop()
}

func TestStopIsBoundedWhenTheDatabaseIsStalled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.cfg.DrainTimeout = 50 * time.Millisecond
	w.gate.stalled.Store(true)
	w.start()
	w.publish(0, 10)
	w.eventually("an error", func() bool { return w.status(GroupStore).Error != "" })
	if err := w.stop(); !errors.Is(err, errStalled) {
		t.Errorf("run ended with %v", err)
	}
	w.gate.stalled.Store(false)
	w.cfg = Default()
	w.start()
	w.stored(10)
	w.eventually("the archive", func() bool { return len(w.archived()) == 10 })
	w.mustStop()
	w.checkArchive(10)
}

func TestDefectInEnrichmentKeepsTheRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.enricher.panic.Store(true)
	w.start()
	w.publish(0, 2)
	w.eventually("bad rows", func() bool { return w.rows().Bad == 2 })
	w.mustStop()
	bad, err := w.store.Bad(t.Context(), 1)
	if err != nil || len(bad) != 1 || !strings.Contains(string(bad[0].Failure), "a defect") || bad[0].Record == (event.RecordID{}) {
		t.Errorf("%+v, %v", bad, err)
	}
}

func TestStoreAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.opts = func(o *Options) { o.Archive = nil }
	w.start()
	w.publish(0, 10)
	w.publish(0, 10) // the tracker sent them again
	w.stored(10)
	w.eventually("all records", func() bool { return w.status(GroupStore).Records == 20 })
	if s := w.recorder.Status(); len(s) != 1 || s[0].Doubles != 10 {
		t.Errorf("%+v", s)
	}
	w.mustStop()
}

func TestMemoIsBounded(t *testing.T) {
	t.Parallel()
	m := newMemo(10_000)
	var entries []*entry
	for i := range 100 {
		e, fill := m.claim(storeSide, place{"0", bus.Position(fmt.Sprintf("%03d", i))}, 100)
		if !fill || e == nil {
			t.Fatal("the first to come must fill")
		}
		m.fill(e, enrich.Result{}, 5000, true)
		entries = append(entries, e)
		if m.size > m.limit {
			t.Fatalf("%d bytes, limit %d", m.size, m.limit)
		}
	}
	m.passed(storeSide, "0", "099")
	// The newest is there, once; the oldest was evicted and is not filled again,
	// since the other group has passed.
	if e, fill := m.claim(archiveSide, place{"0", "099"}, 100); fill || e != entries[99] {
		t.Error("the newest result is not there")
	}
	if e, fill := m.claim(archiveSide, place{"0", "000"}, 100); !fill || e != nil {
		t.Error("a record that nobody else wants was taken into the memo")
	}
	for range len(m.entries) {
		m.evictOne()
	}
	if m.size != 0 || m.order.Len() != 0 {
		t.Errorf("an empty memo has %d bytes and %d entries", m.size, m.order.Len())
	}
}

func (m *memo) evictOne() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.order.Front().Value.(*entry); ok {
		m.drop(e)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	Default().Validate(func(key, rule string) { t.Errorf("default %s %s", key, rule) })
	var keys []string
	Config{BatchAge: -1, MemoBytes: -1}.Validate(func(key, _ string) { keys = append(keys, key) })
	if diff := cmp.Diff([]string{"batchEvents", "batchBytes", "batchAge", "memoBytes", "retryMax", "drainTimeout"}, keys); diff != "" {
		t.Error(diff)
	}
	if _, err := New(Config{}, Options{}); err == nil || !strings.Contains(err.Error(), "batchEvents") || !strings.Contains(err.Error(), "needs a bus") {
		t.Errorf("New does not name all problems: %v", err)
	}
}

func TestMetricNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	reg := prometheus.NewRegistry()
	if _, err := New(w.cfg, Options{
		Bus: w.bus, Enricher: w.enricher, Store: w.gate, Archive: w.archive, Registerer: reg, Log: slog.New(slog.DiscardHandler),
	}); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	want := []string{
		"furrow_recorder_bad_rows_total", "furrow_recorder_enriched_records_total", "furrow_recorder_events_total",
		"furrow_recorder_forgotten_events_total",
		"furrow_recorder_freshness_seconds", "furrow_recorder_lag_seconds", "furrow_recorder_paused",
		"furrow_recorder_records_total", "furrow_recorder_retries_total", "furrow_recorder_shared_records_total",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}
