package journal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"furrow/internal/bus"

	"golang.org/x/sys/unix"
)

// TestFailedSync: the publishers of the failed commit get an error, nothing of
// it is ever delivered by this process, and the log goes on in a new segment.
func TestFailedSync(t *testing.T) {
	t.Parallel()
	for name, stage := range map[string]func(d *faultyDisk){
		"sync":  func(d *faultyDisk) { d.sync = failOnce(unix.EIO) },
		"write": func(d *faultyDisk) { f := failOnce(unix.EIO); d.write = func(n string, _ []byte) error { return f(n) } },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, dir := &faultyDisk{}, t.TempDir()
			j := mustOpenWith(t, dir, Default(), hooks{disk: d})
			put(t, j, "one", "two")
			d.set(stage)
			if err := j.Publish(t.Context(), text("lost")); !errors.Is(err, unix.EIO) || errors.Is(err, bus.ErrFull) {
				t.Fatalf("Publish returned %v, want EIO", err)
			}
			if err := j.Ready(); err != nil {
				t.Fatalf("a new segment could be begun, yet Ready says %v", err)
			}
			put(t, j, "three")
			if got := get(t, j); !slices.Equal(got, []string{"one", "two", "three"}) {
				t.Fatalf("read %q", got)
			}
			if n := j.Status().Segments; n != 2 {
				t.Fatalf("%d segments, want the closed one and a new one", n)
			}
			_ = j.Close()
			j = mustOpen(t, dir, Default())
			if got := get(t, j); !slices.Equal(got, []string{"one", "two", "three"}) {
				t.Fatalf("read %q after reopening", got)
			}
			if st := j.Status(); len(st.SetAside) > 0 {
				t.Fatalf("set aside %+v", st.SetAside)
			}
		})
	}
}

func failOnce(err error) func(string) error {
	var failed atomic.Bool
	return func(string) error {
		if failed.CompareAndSwap(false, true) {
			return err
		}
		return nil
	}
}

// TestFailedWriteKeepsItsTail: even when the tail of a failed commit cannot be
// cut off, it is neither delivered nor taken for damage.
func TestFailedWriteKeepsItsTail(t *testing.T) {
	t.Parallel()
	d, dir := &faultyDisk{}, t.TempDir()
	j := mustOpenWith(t, dir, Default(), hooks{disk: d})
	put(t, j, "one")
	segment := j.segments[0].path
	d.set(func(d *faultyDisk) { d.sync = failOnce(unix.EIO) })
	if err := j.Publish(t.Context(), text("lost")); err == nil {
		t.Fatal("a failed sync went unnoticed")
	}
	put(t, j, "two")
	_ = j.Close()
	whole, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	_, seed, _ := parseSegmentName(filepath.Base(segment))
	m := text("lost")
	tail := appendRecord(nil, &m, 1)
	stamp(tail, 2, seed, int64(len(whole)))
	if err := os.WriteFile(segment, append(whole, tail...), 0o600); err != nil {
		t.Fatal(err)
	}
	j = mustOpen(t, dir, Default())
	if got := get(t, j); !slices.Equal(got, []string{"one", "two"}) {
		t.Fatalf("read %q", got)
	}
	if st := j.Status(); len(st.SetAside) > 0 {
		t.Fatalf("set aside %+v", st.SetAside)
	}
}

// TestBrokenDisk: when not even a new segment can be made the journal is not
// ready, says why, and comes back by itself.
func TestBrokenDisk(t *testing.T) {
	t.Parallel()
	d := &faultyDisk{}
	j := mustOpenWith(t, t.TempDir(), Default(), hooks{disk: d})
	put(t, j, "one")
	d.set(func(d *faultyDisk) {
		d.sync = func(string) error { return unix.EIO }
		d.created = func(string) error { return unix.EROFS }
	})
	for range 3 {
		if err := j.Publish(t.Context(), text("lost")); err == nil {
			t.Fatal("Publish succeeded on a broken disk")
		}
	}
	if err := j.Ready(); err == nil || j.Status().Unready == "" {
		t.Fatal("a broken journal calls itself ready")
	}
	if got := get(t, j); !slices.Equal(got, []string{"one"}) {
		t.Fatalf("read %q", got)
	}
	d.set(func(d *faultyDisk) { d.sync, d.created = nil, nil })
	eventually(t, "becoming ready", func() bool { return j.Ready() == nil })
	put(t, j, "two")
	if got := get(t, j); !slices.Equal(got, []string{"one", "two"}) {
		t.Fatalf("read %q", got)
	}
}

func TestNoSpaceLeft(t *testing.T) {
	t.Parallel()
	d, dir := &faultyDisk{}, t.TempDir()
	j := mustOpenWith(t, dir, Default(), hooks{disk: d})
	put(t, j, "one")
	d.set(func(d *faultyDisk) {
		d.write = func(string, []byte) error { return unix.ENOSPC }
		d.left = func() (int64, error) { return 0, nil }
	})
	for range 3 {
		if err := j.Publish(t.Context(), text("lost")); !errors.Is(err, bus.ErrFull) {
			t.Fatalf("Publish returned %v, want ErrFull", err)
		}
	}
	if err := j.Ready(); !errors.Is(err, bus.ErrFull) {
		t.Fatalf("Ready returned %v, want ErrFull", err)
	}
	d.set(func(d *faultyDisk) { d.write, d.left = nil, nil })
	eventually(t, "becoming ready", func() bool { return j.Ready() == nil })
	put(t, j, "two")
	if got := get(t, j); !slices.Equal(got, []string{"one", "two"}) {
		t.Fatalf("read %q", got)
	}
	_ = j.Close()
	j = mustOpen(t, dir, Default())
	if got := get(t, j); !slices.Equal(got, []string{"one", "two"}) {
		t.Fatalf("read %q after reopening", got)
	}
}

func TestMinFreeBytes(t *testing.T) {
	t.Parallel()
	var free atomic.Int64
	var asked atomic.Int64
	free.Store(gib)
	d := &faultyDisk{left: func() (int64, error) { asked.Add(1); return free.Load(), nil }}
	j := mustOpenWith(t, t.TempDir(), Default(), hooks{disk: d})
	put(t, j, numbers(0, 100)...)
	if n := asked.Load(); n > 20 {
		t.Errorf("the free space was asked for %d times in 100 commits", n)
	}
	free.Store(Default().MinFreeBytes - 1)
	eventually(t, "closing the door", func() bool {
		return errors.Is(j.Publish(t.Context(), text("x")), bus.ErrFull)
	})
	if err := j.Ready(); !errors.Is(err, bus.ErrFull) || !strings.Contains(err.Error(), "minFreeBytes") {
		t.Fatalf("Ready returned %v", err)
	}
	free.Store(gib)
	eventually(t, "opening the door", func() bool { return j.Ready() == nil })
	put(t, j, "y")
}

// TestWaitingIsBounded: with a disk that stands still, Publish blocks once the
// buffer is full and returns ErrFull when its context ends.
func TestWaitingIsBounded(t *testing.T) {
	t.Parallel()
	release, stuck := make(chan struct{}), make(chan struct{}, 10)
	d := &faultyDisk{}
	cfg := small()
	cfg.WaitingBytes = 8 * kib
	j := mustOpenWith(t, t.TempDir(), cfg, hooks{disk: d})
	d.set(func(d *faultyDisk) {
		d.sync = func(string) error { stuck <- struct{}{}; <-release; return nil }
	})
	big := bus.Message{Stream: bus.Raw, Value: make([]byte, 6*kib)}
	results := make(chan error, 2)
	go func() { results <- j.Publish(t.Context(), big) }()
	<-stuck // the first is in the sync
	go func() { results <- j.Publish(t.Context(), big) }()
	eventually(t, "waiting", func() bool {
		j.queue.mu.Lock()
		defer j.queue.mu.Unlock()
		return len(j.queue.buf) > 0
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := j.Publish(ctx, big); !errors.Is(err, bus.ErrFull) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Publish returned %v, want ErrFull and the deadline", err)
	}
	d.set(func(d *faultyDisk) { d.sync = nil })
	close(release)
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if got := get(t, j); len(got) != 2 {
		t.Errorf("read %d messages, want the 2 that were confirmed", len(got))
	}
}

// TestUnsyncedIsInvisible: a reader sees nothing that is not durable.
func TestUnsyncedIsInvisible(t *testing.T) {
	t.Parallel()
	release, stuck := make(chan struct{}), make(chan struct{}, 10)
	d := &faultyDisk{}
	j := mustOpenWith(t, t.TempDir(), Default(), hooks{disk: d})
	put(t, j, "one")
	d.set(func(d *faultyDisk) {
		d.sync = func(string) error { stuck <- struct{}{}; <-release; return nil }
	})
	result := make(chan error, 1)
	go func() { result <- j.Publish(t.Context(), text("two")) }()
	<-stuck
	sub, err := j.Subscribe(t.Context(), "", nil, bus.Start{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	var seen []string
	for {
		b, err := sub.Next(ctx)
		if err != nil {
			break
		}
		for _, m := range b.Messages {
			seen = append(seen, string(m.Value))
		}
	}
	if !slices.Equal(seen, []string{"one"}) {
		t.Errorf("before the sync a reader saw %q", seen)
	}
	close(release)
	if err := <-result; err != nil {
		t.Error(err)
	}
}
