package journal

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"furrow/internal/bus"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

func TestMetrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	dir := t.TempDir()
	j, err := Open(dir, Default(), []string{"g"}, reg, nil)
	if err != nil {
		t.Fatal(err)
	}
	put(t, j, "a", "b")
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	got := map[string]float64{}
	for _, f := range families {
		names = append(names, f.GetName())
		m := f.GetMetric()[0]
		got[f.GetName()] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	want := []string{
		"furrow_journal_bytes_total", "furrow_journal_damaged_ranges_total", "furrow_journal_head_position",
		"furrow_journal_lag_bytes", "furrow_journal_lag_records", "furrow_journal_lag_seconds",
		"furrow_journal_publish_seconds", "furrow_journal_ready_bool", "furrow_journal_records_total",
		"furrow_journal_refused_total", "furrow_journal_segments_count", "furrow_journal_size_bytes",
		"furrow_journal_sync_seconds", "furrow_journal_write_failures_total",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	for name, v := range map[string]float64{"records_total": 2, "lag_records": 2, "sync_seconds": 2, "ready_bool": 1, "bytes_total": 80} {
		if got["furrow_journal_"+name] != v {
			t.Errorf("%s is %v, want %v", name, got["furrow_journal_"+name], v)
		}
	}
	_ = j.Close()
	j, err = Open(dir, Default(), nil, reg, nil) // Close gave the names free
	if err != nil {
		t.Fatal(err)
	}
	_ = j.Close()
}

func TestConfig(t *testing.T) {
	t.Parallel()
	check := func(c Config) (keys []string) {
		c.Validate(func(key, _ string) { keys = append(keys, key) })
		return keys
	}
	if keys := check(Default()); len(keys) > 0 {
		t.Errorf("the default breaks rules: %q", keys)
	}
	want := []string{"segmentBytes", "maxBytes", "minFreeBytes", "waitingBytes", "retention"}
	if keys := check(Config{MinFreeBytes: -1, Retention: -1}); !slices.Equal(keys, want) {
		t.Errorf("got %q, want every problem at once: %q", keys, want)
	}
	if _, err := Open(t.TempDir(), Config{}, nil, nil, nil); err == nil {
		t.Error("a journal was opened without limits")
	}
}

// TestCloseStoresWhatWaits: a publisher that gets nil while the journal closes
// finds its message afterwards; the others get ErrClosed.
func TestCloseStoresWhatWaits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := mustOpen(t, dir, Default())
	var work sync.WaitGroup
	var mu sync.Mutex
	var stored []string
	begun := make(chan struct{}, 64)
	for w := range 16 {
		work.Go(func() {
			for i := w; ; i += 16 {
				v := numbers(i, i+1)[0]
				if err := j.Publish(t.Context(), text(v)); err != nil {
					if !errors.Is(err, bus.ErrClosed) {
						t.Errorf("Publish: %v", err)
					}
					return
				}
				mu.Lock()
				stored = append(stored, v)
				mu.Unlock()
				select {
				case begun <- struct{}{}:
				default:
				}
			}
		})
	}
	<-begun
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	work.Wait()
	j = mustOpen(t, dir, Default())
	got := get(t, j)
	slices.Sort(got)
	slices.Sort(stored)
	if !slices.Equal(got, stored) {
		t.Fatalf("%d messages were confirmed, %d are there", len(stored), len(got))
	}
}
