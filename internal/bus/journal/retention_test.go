package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"furrow/internal/bus"
)

// clock is a time that tests move.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

func subscribe(t *testing.T, j *Journal, group string) bus.Subscription {
	t.Helper()
	sub, err := j.Subscribe(t.Context(), group, nil, bus.Start{})
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

func ackHead(t *testing.T, j *Journal, sub bus.Subscription) {
	t.Helper()
	if err := sub.Ack(t.Context(), bus.Batch{Partition: Partition, Last: j.Head()[Partition]}); err != nil {
		t.Fatal(err)
	}
}

func TestRetention(t *testing.T) {
	t.Parallel()
	var c clock
	dir := t.TempDir()
	cfg := small()
	cfg.SegmentBytes = 4 * kib
	j := mustOpenWith(t, dir, cfg, hooks{now: c.now}, "a", "b")
	put(t, j, numbers(0, 400)...)
	full := j.Status().Segments
	if full < 4 {
		t.Fatalf("only %d segments", full)
	}
	count := func() int {
		j.expire(c.now())
		files, _ := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
		if st := j.Status(); st.Segments != len(files) {
			t.Fatalf("%d segments in the status, %d files", st.Segments, len(files))
		}
		return len(files)
	}
	a, b := subscribe(t, j, "a"), subscribe(t, j, "b")
	c.advance(2 * time.Hour)
	if n := count(); n != full {
		t.Fatalf("%d of %d segments left before any group passed them", n, full)
	}
	ackHead(t, j, a)
	if n := count(); n != full {
		t.Fatalf("%d of %d segments left though b needs them", n, full)
	}
	ackHead(t, j, b)
	if n := count(); n != 1 {
		t.Fatalf("%d segments left, want the active one", n)
	}
	put(t, j, numbers(400, 600)...)
	ackHead(t, j, a)
	ackHead(t, j, b)
	if n := count(); n < 2 {
		t.Fatal("segments went before their retention ran out")
	}

	// A rewound subscription holds what it reads again.
	_ = a.Close()
	again, err := j.Subscribe(t.Context(), "a", nil, bus.Start{Kind: bus.Earliest})
	if err != nil {
		t.Fatal(err)
	}
	c.advance(2 * time.Hour)
	if n := count(); n < 2 {
		t.Fatal("segments went under a rewound subscription")
	}
	_ = again.Close()
	if n := count(); n != 1 {
		t.Fatalf("%d segments left, want the active one", n)
	}
}

func TestUnregisteredGroupHoldsUntilRelease(t *testing.T) {
	t.Parallel()
	var c clock
	dir := t.TempDir()
	cfg := small()
	cfg.SegmentBytes, cfg.Retention = 4*kib, 0
	j := mustOpen(t, dir, cfg, "old", "kept")
	put(t, j, numbers(0, 200)...)
	_ = j.Close()
	j = mustOpenWith(t, dir, cfg, hooks{now: c.now}, "kept")
	sub := subscribe(t, j, "kept")
	ackHead(t, j, sub)
	j.expire(c.now())
	st := j.Status()
	if st.Segments < 2 || len(st.Groups) != 2 || st.Groups[1].Name != "old" || st.Groups[1].Registered || st.Groups[1].LagRecords != 200 {
		t.Fatalf("status %+v", st)
	}
	if st.Groups[1].LagBytes < 200*48 || st.Groups[1].LagSeconds < 0 || st.Groups[0].LagBytes != 0 {
		t.Fatalf("lag %+v", st.Groups)
	}
	for _, wrong := range []string{"kept", "unknown"} {
		if err := j.Release(wrong); err == nil {
			t.Errorf("group %q was released", wrong)
		}
	}
	if err := j.Release("old"); err != nil {
		t.Fatal(err)
	}
	j.expire(c.now())
	if st = j.Status(); st.Segments != 1 || len(st.Groups) != 1 {
		t.Fatalf("status %+v", st)
	}
	_ = j.Close()
	j = mustOpen(t, dir, cfg, "kept")
	if st = j.Status(); len(st.Groups) != 1 || st.Groups[0].LagRecords != 0 {
		t.Fatalf("after reopening, groups are %+v", st.Groups)
	}
}

func TestBudget(t *testing.T) {
	t.Parallel()
	cfg := small()
	cfg.SegmentBytes, cfg.MaxBytes = 8*kib, 32*kib
	dir := t.TempDir()
	j := mustOpen(t, dir, cfg, "g")
	sub := subscribe(t, j, "g")
	stored := 0
	fill := func() error {
		for {
			if err := j.Publish(t.Context(), bus.Message{Stream: bus.Raw, Value: make([]byte, 500)}); err != nil {
				return err
			}
			if stored++; stored%10 == 0 && stored > 1000 {
				t.Fatal("the budget does not bind")
			}
		}
	}
	if err := fill(); !errors.Is(err, bus.ErrFull) {
		t.Fatalf("Publish returned %v, want ErrFull", err)
	}
	if err := j.Ready(); !errors.Is(err, bus.ErrFull) {
		t.Fatalf("Ready returned %v, want ErrFull", err)
	}
	if err := j.Publish(t.Context(), text("small")); !errors.Is(err, bus.ErrFull) {
		t.Fatalf("a small message slipped in: %v; the door must not flap", err)
	}
	var size int64
	files, _ := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if st := j.Status(); size < st.Bytes || size > cfg.MaxBytes {
		t.Fatalf("%d bytes on disk, %d in the status, the budget is %d", size, st.Bytes, cfg.MaxBytes)
	}
	ackHead(t, j, sub) // the retention of an hour has not run out, yet the segments may go
	eventually(t, "becoming ready", func() bool { return j.Ready() == nil })
	put(t, j, "again")
	// A consumer that keeps up never meets the budget.
	for i := range 500 {
		put(t, j, fmt.Sprint(i))
		ackHead(t, j, sub)
	}
}

// TestReadersWhileSegmentsGo: readers with and without a group run while
// segments are deleted behind the acknowledged position. The named one must see
// everything, the other one a gap at most, and both in order.
func TestReadersWhileSegmentsGo(t *testing.T) {
	t.Parallel()
	cfg := small()
	cfg.SegmentBytes, cfg.MaxBytes, cfg.Retention = 4*kib, 16*kib, 0
	j := mustOpen(t, t.TempDir(), cfg, "g")
	const total = 1500
	var work sync.WaitGroup
	work.Go(func() {
		for i := range total {
			for {
				err := j.Publish(t.Context(), text(fmt.Sprintf("%06d", i)))
				if err == nil {
					break
				}
				if !errors.Is(err, bus.ErrFull) {
					t.Errorf("Publish: %v", err)
					return
				}
			}
		}
	})
	read := func(group string, gaps bool) {
		sub, err := j.Subscribe(t.Context(), group, nil, bus.Start{})
		if err != nil {
			t.Error(err)
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		next := 0
		for next < total {
			b, err := sub.Next(ctx)
			if err != nil {
				t.Errorf("%q: Next behind %d: %v", group, next, err)
				return
			}
			for _, m := range b.Messages {
				var n int
				_, _ = fmt.Sscanf(string(m.Value), "%06d", &n)
				if n != next && (!gaps || n < next) {
					t.Errorf("%q: read %d, want %d", group, n, next)
					return
				}
				next = n + 1
			}
			if err := sub.Ack(ctx, b); err != nil {
				t.Errorf("%q: Ack: %v", group, err)
			}
		}
	}
	work.Go(func() { read("g", false) })
	work.Go(func() { read("", true) })
	work.Go(func() { read("", true) })
	work.Wait()
	if st := j.Status(); len(st.SetAside) > 0 {
		t.Fatalf("set aside %+v", st.SetAside)
	}
}

// On a site with little traffic a segment would take months to fill. Its age ends
// it, so that a record is gone when LastCopy says so.
func TestOldSegmentsEndThoughTheyAreNotFull(t *testing.T) {
	t.Parallel()
	var c clock
	dir := t.TempDir()
	j := mustOpenWith(t, dir, small(), hooks{now: c.now}, "a")
	put(t, j, numbers(0, 3)...)
	a := subscribe(t, j, "a")
	at, waiting := j.LastCopy(c.now())
	if len(waiting) != 1 || waiting[0] != "a" {
		t.Fatalf("waiting for %q, want group a, which has not passed", waiting)
	}
	ackHead(t, j, a)
	if _, waiting = j.LastCopy(c.now()); len(waiting) != 0 {
		t.Fatalf("waiting for %q although every group has passed", waiting)
	}
	first := j.Status().Segments
	c.advance(j.cfg.longestSegment() + time.Second)
	put(t, j, numbers(3, 4)...) // keeps the segment young by its last write
	ackHead(t, j, a)
	eventually(t, "a new segment", func() bool { return j.Status().Segments > first })
	c.advance(at.Sub(c.now()) + time.Second)
	eventually(t, "the old segment to go", func() bool { return j.Status().Oldest.IsZero() })
}
