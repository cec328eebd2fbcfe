package archive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"furrow/internal/event"
)

func TestRetention(t *testing.T) {
	t.Parallel()
	for name, where := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, tc := range []struct {
				name   string
				change func(*Config)
				now    time.Time
				want   []int // hours of the story that stay
			}{
				{"all is kept", func(*Config) {}, day.AddDate(10, 0, 0), []int{0, 1, 2, 3, 4}},
				{"by age", func(c *Config) { c.Retention = 24 * time.Hour }, day.Add(27*time.Hour - 30*time.Minute), []int{2, 3, 4}},
				{"an hour is kept to its end", func(c *Config) { c.Retention = time.Hour }, day.Add(90 * time.Minute), []int{0, 1, 2, 3, 4}},
				{"the newest stays", func(c *Config) { c.Retention = time.Hour; c.MaxBytes = 1 }, day.AddDate(1, 0, 0), []int{4}},
				{"by size", func(c *Config) { c.MaxBytes = 1 << 20 }, day, []int{3, 4}},
			} {
				t.Run(tc.name, func(t *testing.T) {
					t.Parallel()
					dir := where(t)
					a := openAt(t, dir, tc.change)
					for h := range 5 {
						e := entry(h, day.Add(time.Duration(h)*time.Hour))
						e.Record = noise(450_000)
						write(t, a, "0", 1+h, e)
					}
					if err := a.Prune(t.Context(), tc.now); err != nil {
						t.Fatal(err)
					}
					var got []int
					if err := a.ReadEvents(t.Context(), time.Time{}, time.Time{}, func(_ string, at time.Time) error {
						got = append(got, int(at.Sub(day)/time.Hour))
						return nil
					}); err != nil {
						t.Fatal(err)
					}
					if fmt.Sprint(got) != fmt.Sprint(tc.want) {
						t.Errorf("hours %v are left, want %v", got, tc.want)
					}
					if n := len(rawRows(t, a, time.Time{}, time.Time{})); n != len(tc.want) {
						t.Errorf("%d records are left", n)
					}
					sameStock(t, a, dir)
				})
			}
		})
	}
}

// noise does not compress.
func noise(n int) []byte {
	b := make([]byte, n)
	x := uint64(88172645463325252)
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return b
}

func TestOldIntentsArePruned(t *testing.T) {
	t.Parallel()
	for name, where := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := openAt(t, where(t))
			a.keepIntents, a.intentsEvery = 3, 2
			for i := range 6 {
				write(t, a, []string{"0", "1"}[i%2], 1+i, entry(i, day))
				write(t, a, "2", 1+i, entry(i, day))
			}
			if err := a.Prune(t.Context(), day); err != nil {
				t.Fatal(err)
			}
			for i := range 6 {
				r := begin(t, a, "2", 1+i)
				if _, ok := r.Intended(); ok != (i >= 3) {
					t.Errorf("intent %d is there: %t", i, ok)
				}
				r.Abort()
				r = begin(t, a, []string{"0", "1"}[i%2], 1+i)
				if _, ok := r.Intended(); !ok {
					t.Errorf("one of three intents of a partition was pruned")
				}
				r.Abort()
			}
		})
	}
}

func TestFull(t *testing.T) {
	t.Parallel()
	a := openAt(t, t.TempDir(), func(c *Config) { c.RollBytes = 1 << 20 })
	r := begin(t, a, "0", 1)
	now := time.Now()
	if r.Full(now.Add(time.Hour)) {
		t.Error("an empty range is full")
	}
	if err := r.Add(entry(1, day)); err != nil {
		t.Fatal(err)
	}
	if r.Full(now) || !r.Full(now.Add(6*time.Minute)) {
		t.Error("a range is full at its age")
	}
	big := entry(2, day)
	big.Record = noise(1 << 20)
	if err := r.Add(big); err != nil {
		t.Fatal(err)
	}
	if !r.Full(now) {
		t.Error("a range is full at its size")
	}
	if s := a.Status(); len(s.Open) != 1 || s.Open[0].Records != 2 || s.Open[0].Bytes < 1<<20 {
		t.Errorf("status %+v", s.Open)
	}
	if err := r.Commit(t.Context(), position(2)); err != nil {
		t.Fatal(err)
	}
	if r = begin(t, a, "0", 1); r.Full(now.Add(time.Hour)) {
		t.Error("a declared range rolls before its end")
	}
	if err := r.Add(entry(1, day)); err != nil {
		t.Fatal(err)
	}
	if r.Full(now.Add(time.Hour)) {
		t.Error("a declared range rolls before its end")
	}
	r.Abort()
	if r = begin(t, a, "0", 9); r.Commit(t.Context(), position(9)) != nil {
		t.Error("an empty range cannot be committed")
	}
	if r = begin(t, a, "0", 9); r.started.IsZero() {
		t.Error("an empty range left an intent")
	}
	if _, ok := r.Intended(); ok {
		t.Error("an empty range left an intent")
	}
}

// TestReplayAcrossManyHours alternates between more hours than may be open.
func TestReplayAcrossManyHours(t *testing.T) {
	t.Parallel()
	for name, where := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := where(t)
			a := openAt(t, dir, func(c *Config) { c.OpenHours = 2 })
			var log []Entry
			for i := range 40 {
				log = append(log, entry(i, day.Add(time.Duration(i%6)*time.Hour)))
			}
			r := begin(t, a, "0", 1)
			n := 0
			for !r.Full(time.Now()) {
				if err := r.Add(log[n]); err != nil {
					t.Fatal(err)
				}
				n++
				if open := a.budget.open.Load(); open > 4 {
					t.Fatalf("%d files are open", open)
				}
			}
			if n == len(log) {
				t.Fatal("the number of files of a range is not bounded")
			}
			if err := r.Commit(t.Context(), position(n)); err != nil {
				t.Fatal(err)
			}
			if open := a.budget.open.Load(); open != 0 {
				t.Errorf("%d files are open after the commit", open)
			}
			// Once more, as a new owner does: the same files.
			files := a.Status().Files
			if _, err := consume(a, log[:n], 0, 100); err != nil {
				t.Fatal(err)
			}
			wantExactly(t, a, log[:n])
			if now := a.Status().Files; now != files {
				t.Errorf("%d files after the second time, %d after the first", now, files)
			}
			sameStock(t, a, dir)
		})
	}
}

func TestPartitionsAtOnce(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	cfg := Default()
	a, err := Open(t.TempDir(), cfg, reg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	const partitions, ranges, each = 4, 5, 30
	ctx, cancel := context.WithCancel(t.Context())
	var writers, watcher sync.WaitGroup
	for p := range partitions {
		writers.Go(func() {
			for n := range ranges {
				var log []Entry
				for i := range each {
					log = append(log, entry(p*1_000_000+n*1000+i, day.Add(time.Duration(i)*5*time.Minute)))
				}
				write(t, a, fmt.Sprint("shard-", p), 1+n*each, log...)
			}
		})
	}
	watcher.Go(func() {
		for ctx.Err() == nil {
			_ = a.Status()
			err := errors.Join(
				a.Prune(ctx, day),
				a.ReadEvents(ctx, time.Time{}, time.Time{}, func(string, time.Time) error { return nil }),
			)
			if err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	})
	writers.Wait()
	cancel()
	watcher.Wait()
	ids := eventIDs(t, a, time.Time{}, time.Time{})
	seen := make(map[string]bool)
	for _, id := range ids {
		seen[id] = true
	}
	if want := partitions * ranges * each; len(ids) != want || len(seen) != want {
		t.Errorf("%d events, %d ids, want %d", len(ids), len(seen), want)
	}
	if _, err := Open(t.TempDir(), cfg, reg, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("metrics were registered twice")
	}
	families, err := reg.Gather()
	if err != nil || len(families) == 0 {
		t.Errorf("no metrics: %v", err)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	Default().Validate(func(key, rule string) { t.Errorf("default: %s %s", key, rule) })
	var keys []string
	Config{Retention: time.Minute, MaxBytes: -1}.Validate(func(key, _ string) { keys = append(keys, key) })
	if len(keys) != 8 {
		t.Errorf("problems with %v", keys)
	}
	if _, err := Open(t.TempDir(), Config{}, nil, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("opened with a configuration of zeros")
	}
}

func TestDamagedFile(t *testing.T) {
	t.Parallel()
	for name, where := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := openAt(t, where(t))
			write(t, a, "0", 1, story(5)...)
			for h := range a.hours {
				name := h.folder(eventSet) + "damaged" + fileSuffix
				local, err := writeTemp(a.tmp, noise(5000))
				if err != nil {
					t.Fatal(err)
				}
				if err := a.place.put(t.Context(), local, name); err != nil {
					t.Fatal(err)
				}
			}
			if err := a.ReadEvents(t.Context(), time.Time{}, time.Time{}, func(string, time.Time) error { return nil }); err == nil {
				t.Error("a damaged file was read")
			}
			stop := errors.New("stop")
			if err := a.ReadBad(t.Context(), time.Time{}, time.Time{}, func(event.BadRow) error { return stop }); !errors.Is(err, stop) {
				t.Errorf("the reader's error came back as %v", err)
			}
		})
	}
}
