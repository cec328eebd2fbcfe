package recommender

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/bus"
	"furrow/internal/bus/journal"
	"furrow/internal/event"
)

// TestRebuildOnAJournalThatForgets rebuilds on a journal that deletes what every
// group has passed at once, while an archive that is behind takes it over.
func TestRebuildOnAJournalThatForgets(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits for segments to be deleted")
	}
	const group = "recommender"
	cfg := journal.Default()
	cfg.SegmentBytes, cfg.Retention, cfg.MinFreeBytes = 4<<10, 0, 0
	j, err := journal.Open(t.TempDir(), cfg, []string{group, "archive"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	conf := Default()
	conf.Group, conf.Limits.Events, conf.Serve.Wait, conf.Snapshot.Bytes = group, 16, 5*time.Second, 1<<16
	r, err := New(conf, Options{Bus: j, Dir: t.TempDir(), Parse: parseDoc, Head: j.Head})
	if err != nil {
		t.Fatal(err)
	}
	stop := goRun(t, r)
	a := &shelf{j: j}
	ctx, cancel := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	everything := newDouble()
	workers.Go(func() { a.fill(ctx, t) })
	workers.Go(func() {
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		for i := 0; ctx.Err() == nil; {
			<-ticker.C
			var msgs []bus.Message
			for range 5 { // one fsync for all of them
				i++
				msgs = append(msgs, bus.Message{Stream: bus.Raw, Value: doc{
					Session: fmt.Sprintf("s%d", i/4%300), Domain: fmt.Sprintf("d%d", i/8%200),
					Path: fmt.Sprintf("/product/p%d", i*7%61), At: day0 + int64(i)*20_000,
				}.record()})
			}
			if err := j.Publish(context.WithoutCancel(ctx), msgs...); err != nil {
				t.Error(err)
				return
			}
			for _, m := range msgs {
				everything.publish(m.Value)
			}
		}
	})
	oldest := func() time.Time { return j.Status().Oldest }
	first := oldest()
	until(t, "the journal deletes segments", func() bool { return oldest().After(first) })
	a.step = func() { // whatever may go, goes during each pass
		goal := a.len() + 900
		until(t, "the archive goes on", func() bool { return a.len() >= goal })
	}
	if err := r.Rebuild(t.Context(), History{Events: a.events, Level: a.level}); err != nil {
		t.Fatal(err)
	}
	cancel()
	workers.Wait()
	ask(t, &live{Recommender: r}, "/v1/recommend") // waits for the head
	want := lived(t, everything, func(c *Config) { c.Limits.Events = 16 })
	if diff := cmp.Diff(dump(want.state.Load()), dump(r.state.Load()), cmp.AllowUnexported(place{})); diff != "" {
		t.Errorf("of %d events, not what was learned live: %.2000s", everything.len(), diff)
	}
	stop()
	for _, g := range j.Status().Groups {
		if g.Name == group && g.LagRecords != 0 {
			t.Errorf("the rewound group is %d records behind", g.LagRecords)
		}
	}
}

// shelf is an archive in memory that is behind, and acknowledges in ranges.
type shelf struct {
	j    *journal.Journal
	step func()

	mu    sync.Mutex
	log   [][]byte
	acked bus.Positions
}

const shelfLag, shelfRange = 500, 100

func (a *shelf) fill(ctx context.Context, tb testing.TB) {
	tb.Helper()
	sub, err := a.j.Subscribe(ctx, "archive", []bus.Stream{bus.Raw}, bus.Start{})
	if err != nil {
		tb.Error(err)
		return
	}
	defer sub.Close()
	var open []bus.Message
	for {
		b, err := sub.Next(ctx)
		if err != nil {
			return
		}
		for open = append(open, b.Messages...); len(open) > shelfLag+shelfRange; open = open[shelfRange:] {
			b.Last = open[shelfRange-1].Position
			a.mu.Lock()
			for _, m := range open[:shelfRange] {
				a.log = append(a.log, m.Value)
			}
			a.acked = bus.Positions{b.Partition: b.Last}
			a.mu.Unlock()
			if err := sub.Ack(ctx, b); err != nil {
				tb.Error(err)
			}
		}
	}
}

func (a *shelf) len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.log)
}

func (a *shelf) level() bus.Positions {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.acked
}

func (a *shelf) events(_ context.Context, since time.Time, fn func([]*event.Event) error) error {
	a.mu.Lock()
	log := slices.Clip(a.log)
	a.mu.Unlock()
	for _, record := range log {
		if e := parseDoc(record, time.Time{})[0]; !e.Time(event.CollectorTstamp).Before(since) {
			if err := fn([]*event.Event{e}); err != nil {
				return err
			}
		}
	}
	a.step()
	return nil
}
