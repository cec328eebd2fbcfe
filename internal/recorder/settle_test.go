package recorder

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/archive"
	"furrow/internal/bus"
	"furrow/internal/enrich"
	"furrow/internal/event"
	"furrow/internal/snowplow"
	"furrow/internal/store"
)

// forgetting makes the enricher leave people out.
func (w *world) forgetting(match func(user, domain, network string, at time.Time) bool) {
	w.t.Helper()
	e, err := enrich.New(enrich.Options{Artifact: "furrow", Version: "0.1.0", Forgotten: match})
	if err != nil {
		w.t.Fatal(err)
	}
	w.enricher = &counting{next: e}
}

// visit is a batch of page views, one of each user.
func visit(n int, users ...string) []byte {
	var objects []string
	for i, u := range users {
		vid := ""
		if strings.HasPrefix(u, "!") {
			vid = `,"vid":"wrong"`
		}
		objects = append(objects, fmt.Sprintf(`{"e":"pv","p":"web","tv":"c","eid":%q,"duid":%q%s}`, id(1000*n+i), strings.TrimPrefix(u, "!"), vid))
	}
	return snowplow.AppendPayload(nil, &event.Payload{
		IPAddress: "203.0.113.9", Timestamp: noon.UnixMilli() + int64(n), Encoding: "UTF-8", Collector: "furrow-0.1.0",
		Path:        event.Some("/com.snowplowanalytics.snowplow/tp2"),
		ContentType: event.Some("application/json"),
		Body: event.Some(`{"schema":"iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4","data":[` +
			strings.Join(objects, ",") + `]}`),
	})
}

// Neither sink may hold a trace of who is to be forgotten, and every position is
// acknowledged all the same.
func TestForgottenIsNotRecorded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.forgetting(func(_, domain, network string, _ time.Time) bool { return domain == "alice" || network == "alice" })
	w.start()
	alone, mixed, other := visit(1, "alice", "!alice"), visit(2, "alice", "bob", "!bob", "!alice"), visit(3, "bob")
	for _, r := range [][]byte{alone, mixed, other} { // the first range begins with what is forgotten
		w.send(bus.Message{Stream: bus.Raw, Key: []byte("alice"), Value: r})
	}
	w.send(bus.Message{Stream: bus.Bad, Value: []byte(strings.Replace(sizeViolation, "GET", "e=pv&duid=alice", 1))})
	w.send(bus.Message{Stream: bus.Bad, Value: []byte(sizeViolation)})
	w.settled(5)
	w.mustStop()
	w.checkLevel()
	for _, s := range w.recorder.Status() {
		if s.Records != 5 || s.Events != 2 || s.Bad != 2 || s.Forgotten != 5 {
			t.Errorf("%+v", s)
		}
	}
	if st := w.rows(); st.Events != 2 || st.Bad != 2 {
		t.Errorf("%+v", st)
	}
	bad, err := w.store.Bad(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for _, b := range bad {
		kept = append(kept, string(b.Payload))
	}
	err = w.archive.ReadBad(t.Context(), time.Time{}, time.Time{}, func(b event.BadRow) error {
		kept = append(kept, string(b.Payload))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	raw := map[string]string{}
	err = w.archive.ReadRaw(t.Context(), time.Time{}, time.Time{}, func(r archive.RawRow) error {
		raw[r.ID] = string(r.Key)
		kept = append(kept, string(r.Record))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{event.NewRecordID(mixed).String(): "", event.NewRecordID(other).String(): "alice"}
	if diff := cmp.Diff(want, raw); diff != "" {
		t.Errorf("raw (-want +got):\n%s", diff)
	}
	for _, record := range kept {
		if strings.Contains(record, "alice") {
			t.Errorf("kept: %q", record)
		}
	}
	if ids := w.archived(); len(ids) != 2 || ids[id(2001)] != 1 || ids[id(3000)] != 1 {
		t.Errorf("archived %v", ids)
	}
}

func TestForgottenWhenEnrichmentPanics(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.forgetting(func(_, domain, _ string, at time.Time) bool {
		return domain == "alice" && !at.After(noon.Add(time.Second))
	})
	w.enricher.panic.Store(true)
	w.start()
	w.send(bus.Message{Stream: bus.Raw, Value: visit(1, "alice")})
	w.send(bus.Message{Stream: bus.Raw, Value: visit(2000, "alice")}) // two seconds later
	w.settled(2)
	w.mustStop()
	if st := w.rows(); st.Bad != 1 {
		t.Errorf("%+v", st)
	}
}

// generations tells events by when they were enriched: etl_tstamp is the generation.
// It fails when one lands that is older than what was settled.
type generations struct {
	t       *testing.T
	now     atomic.Int64
	settled atomic.Int64
	late    atomic.Int64
	landed  atomic.Int64
	store   Store
}

func (g *generations) clock() time.Time { return noon.Add(time.Duration(g.now.Load()) * time.Second) }

func (g *generations) check(sink string, events []*event.Event, settled int64) {
	for _, e := range events {
		if made := int64(e.Time(event.EtlTstamp).Sub(noon) / time.Second); made < settled {
			if g.late.Add(1) == 1 {
				g.t.Errorf("an event of generation %d landed in the %s after %d was settled", made, sink, settled)
			}
		}
		g.landed.Add(1)
	}
}

func (g *generations) Insert(ctx context.Context, rows []store.Row, bad []event.BadRow) (store.Inserted, error) {
	events := make([]*event.Event, len(rows))
	for i := range rows {
		events[i] = rows[i].Event
	}
	g.check("database", events, g.settled.Load())
	return g.store.Insert(ctx, rows, bad)
}

type watchedRange struct {
	archiveRange
	g      *generations
	events *[]*event.Event
}

func (r watchedRange) Add(e archive.Entry) error {
	*r.events = append(*r.events, e.Events...)
	return r.archiveRange.Add(e)
}

func (r watchedRange) Commit(ctx context.Context, last bus.Position) error {
	r.g.check("archive", *r.events, r.g.settled.Load())
	return r.archiveRange.Commit(ctx, last)
}

// While messages keep coming, nothing that was enriched before Settle was called
// lands after it returned.
func TestSettle(t *testing.T) {
	t.Parallel()
	for _, sinks := range []string{"both", "store", "archive"} {
		t.Run(sinks, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 3)
			w.archCfg.RollBytes = 1 << 20
			w.cfg.BatchEvents = 200
			w.openAgain()
			g := &generations{t: t, store: w.gate}
			w.opts = func(o *Options) {
				o.Now, o.Store = g.clock, g
				switch sinks {
				case "store":
					o.Archive = nil
				case "archive":
					o.Store = nil
				}
			}
			w.change = func(r *Recorder) {
				inner := r.begin
				r.begin = func(ctx context.Context, stream, partition string, first bus.Position) (archiveRange, error) {
					got, err := inner(ctx, stream, partition, first)
					return watchedRange{got, g, new([]*event.Event)}, err
				}
			}
			w.start()
			stop := make(chan struct{})
			var publisher sync.WaitGroup
			publisher.Go(func() {
				tick := time.NewTicker(time.Millisecond)
				defer tick.Stop()
				for n := 0; ; {
					select {
					case <-stop:
						return
					case <-tick.C:
						if int64(n)-w.enricher.calls.Load() < 500 {
							w.publish(n, 20)
							n += 20
						}
					}
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			for round := range int64(12) {
				before := w.enricher.calls.Load()
				w.eventually("more events", func() bool { return w.enricher.calls.Load() > before })
				g.now.Store(round + 1)
				if err := w.recorder.Settle(ctx); err != nil {
					t.Fatal(err)
				}
				g.settled.Store(round + 1)
			}
			close(stop)
			publisher.Wait()
			w.mustStop()
			if g.landed.Load() == 0 {
				t.Error("nothing landed")
			}
		})
	}
}

// What is gathered and open is stored at once, however long it might have waited.
func TestSettleStoresWhatIsHeld(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.cfg.BatchAge = time.Minute
	w.archCfg.RollAge = time.Hour
	w.openAgain()
	if r, err := New(w.cfg, Options{Bus: w.bus, Enricher: w.enricher, Store: w.gate, Log: w.log()}); err != nil || r.Settle(t.Context()) != nil {
		t.Error("a recorder that does not run is not settled")
	}
	w.start()
	w.publish(0, 100)
	// Everything was enriched when both have taken it.
	w.eventually("both groups to hold records", func() bool {
		return w.enricher.calls.Load() == 100 && !w.status(GroupStore).Oldest.IsZero() && !w.status(GroupArchive).Oldest.IsZero()
	})
	for i := 0; len(w.archived()) < 100 || w.rows().Events < 100; i++ {
		if i == 20 {
			t.Fatalf("%d rows and %d in the archive after %d calls", w.rows().Events, len(w.archived()), i)
		}
		if err := w.recorder.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range w.recorder.Status() {
		if s.Records != 100 || s.Lag != 0 {
			t.Errorf("%+v", s)
		}
	}
	w.mustStop()
	if err := w.recorder.Settle(t.Context()); err != nil {
		t.Errorf("after the end: %v", err)
	}
	w.checkArchive(100)
}

// An unreachable sink and a pause are reported; the caller is not left waiting.
func TestSettleFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.archCfg.RollAge = time.Hour
	w.openAgain()
	var paused atomic.Bool
	w.opts = func(o *Options) {
		o.Paused = func(string) (string, bool) { return "disk reserve reached", paused.Load() }
	}
	w.gate.stalled.Store(true)
	w.start()
	w.publish(0, 10)
	w.eventually("an error", func() bool { return w.status(GroupStore).Error != "" })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := w.recorder.Settle(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), errStalled.Error()) || !strings.Contains(err.Error(), GroupStore) {
		t.Errorf("a stalled database: %v", err)
	}
	w.gate.stalled.Store(false)
	w.settled(10) // the archive was settled by the same call
	if err := w.recorder.Settle(t.Context()); err != nil {
		t.Error(err)
	}
	paused.Store(true)
	if err := w.recorder.Settle(t.Context()); err != nil {
		t.Errorf("paused with nothing in hand: %v", err)
	}
	w.publish(10, 10)
	w.eventually("both groups to pause", func() bool {
		return w.status(GroupStore).Paused != "" && w.status(GroupArchive).Paused != ""
	})
	if err := w.recorder.Settle(t.Context()); err == nil || !strings.Contains(err.Error(), "disk reserve reached") {
		t.Errorf("paused: %v", err)
	}
	paused.Store(false)
	w.stored(20)
	if err := w.recorder.Settle(t.Context()); err != nil {
		t.Error(err)
	}
	w.mustStop()
	w.checkArchive(20)
	w.checkLevel()
}

// promised is a range that another owner declared with an end that does not come.
type promised struct{ archiveRange }

func (promised) Intended() (bus.Position, bool) { return "99999999999999999999", true }

// A range that can end only later is given up, and its records come again.
func TestSettleGivesUpADeclaredRange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.archCfg.RollAge = time.Hour
	w.openAgain()
	var declared atomic.Bool
	declared.Store(true)
	w.change = func(r *Recorder) {
		inner := r.begin
		r.begin = func(ctx context.Context, stream, partition string, first bus.Position) (archiveRange, error) {
			got, err := inner(ctx, stream, partition, first)
			if declared.Load() {
				got = promised{got}
			}
			return got, err
		}
	}
	w.start()
	w.publish(0, 20)
	w.stored(20)
	w.eventually("an open range", func() bool { return !w.status(GroupArchive).Oldest.IsZero() })
	declared.Store(false)
	calls := w.enricher.calls.Load()
	if err := w.recorder.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.eventually("the records to be enriched anew", func() bool { return w.enricher.calls.Load() > calls })
	w.eventually("the archive", func() bool {
		return w.recorder.Settle(t.Context()) == nil && len(w.archived()) == 20
	})
	if s := w.status(GroupArchive); s.Error != "" {
		t.Errorf("%+v", s)
	}
	w.mustStop()
	w.checkArchive(20)
	w.checkLevel()
}

// Whoever waits when the recorder stops is told.
func TestSettleWhileStopping(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.cfg.DrainTimeout = 50 * time.Millisecond
	w.gate.stalled.Store(true)
	w.start()
	w.publish(0, 10)
	w.eventually("an error", func() bool { return w.status(GroupStore).Error != "" })
	answer := make(chan error, 1)
	go func() { answer <- w.recorder.Settle(context.Background()) }()
	w.eventually("the question", func() bool { return w.recorder.store.asked() })
	if err := w.stop(); !errors.Is(err, errStalled) {
		t.Errorf("run ended with %v", err)
	}
	if err := <-answer; !errors.Is(err, errStalled) {
		t.Errorf("settle ended with %v", err)
	}
}
