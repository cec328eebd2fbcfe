package journal

import (
	"testing"

	"furrow/internal/bus/bustest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mustOpen opens a journal and closes it when the test ends.
func mustOpen(tb testing.TB, dir string, cfg Config, groups ...string) *Journal {
	tb.Helper()
	return mustOpenWith(tb, dir, cfg, hooks{}, groups...)
}

// small is a configuration with segments that fill at once.
func small() Config {
	cfg := Default()
	cfg.SegmentBytes = 16 * kib
	cfg.MaxBytes = gib
	cfg.MinFreeBytes = 0
	cfg.WaitingBytes = mib
	return cfg
}

func TestContract(t *testing.T) {
	t.Parallel()
	configs := map[string]Config{"default": Default(), "small segments": small()}
	for name, cfg := range configs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bustest.Run(t, func(t *testing.T) bustest.Adapter {
				t.Helper()
				dir := t.TempDir()
				return bustest.Adapter{
					Open: func(t *testing.T) bustest.Bus {
						t.Helper()
						return mustOpen(t, dir, cfg, "g")
					},
					Small: func(t *testing.T) bustest.Bus {
						t.Helper()
						cfg := cfg
						cfg.SegmentBytes, cfg.MaxBytes = 128*kib, 512*kib
						return mustOpen(t, t.TempDir(), cfg, "g")
					},
				}
			})
		})
	}
}
