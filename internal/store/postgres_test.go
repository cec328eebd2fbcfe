package store

import (
	"log/slog"
	"testing"

	"furrow/internal/store/pgtest"
)

// openPostgres opens a database of its own on the shared server.
func openPostgres(tb testing.TB, cfg Config) *Postgres {
	tb.Helper()
	return openPostgresAt(tb, pgtest.Shared(tb).Database(tb), cfg)
}

func openPostgresAt(tb testing.TB, url string, cfg Config) *Postgres {
	tb.Helper()
	cfg.URL = url
	p, err := OpenPostgres(cfg, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return p
}

func TestPostgresIsADatabase(t *testing.T) {
	t.Parallel()
	suite(t, func(tb testing.TB, cfg Config) trimmed {
		tb.Helper()
		return openPostgres(tb, cfg)
	})
}
