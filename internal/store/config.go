package store

import (
	"strings"
	"time"
)

// Config says how the database is kept.
type Config struct {
	// postgres://USER:PASSWORD@HOST:PORT/DATABASE, as libpq has it; the file
	// furrow.db in the data folder when empty.
	URL         string        `yaml:"url"`
	Retention   time.Duration `yaml:"retention"`   // rows older than this by collector time are deleted; 0 keeps them
	MaxBytes    int64         `yaml:"maxBytes"`    // the oldest rows are deleted above this size of the database; 0 is no limit
	CacheBytes  int64         `yaml:"cacheBytes"`  // page cache of the writing connection
	ReadTimeout time.Duration `yaml:"readTimeout"` // deadline of one read
	Readers     int           `yaml:"readers"`     // connections that read
	// Postgres only: deadline of one transaction that writes. A server or a network
	// that hangs is left after it, and the next try connects again.
	WriteTimeout time.Duration `yaml:"writeTimeout"`
	// Postgres only: daily partitions that stand ready before their day.
	PartitionsAhead int `yaml:"partitionsAhead"`

	// DedupDays is for how many days an event id stays unique, see the process's
	// own dedup.days.
	DedupDays int `yaml:"-" json:"-"`
}

// Default returns the configuration of a single machine that keeps everything.
func Default() Config {
	return Config{
		CacheBytes:  64 << 20,
		ReadTimeout: 5 * time.Second,
		Readers:     4,

		WriteTimeout:    time.Minute,
		PartitionsAhead: 7,
		DedupDays:       90,
	}
}

const (
	minRetention = time.Hour
	minMaxBytes  = 16 << 20
	minCache     = 1 << 20

	minWriteTimeout = time.Second
)

// Validate calls bad for every value that cannot be used.
func (c Config) Validate(bad func(key, rule string)) {
	if c.URL != "" && !strings.HasPrefix(c.URL, "postgres://") && !strings.HasPrefix(c.URL, "postgresql://") {
		bad("url", "must be empty (SQLite in the data folder) or begin with postgres://")
	}
	if c.Retention != 0 && c.Retention < minRetention {
		bad("retention", "must be 0 (keep everything) or at least 1h")
	}
	if c.MaxBytes != 0 && c.MaxBytes < minMaxBytes {
		bad("maxBytes", "must be 0 (no limit) or at least 16777216 (16 MiB)")
	}
	if c.CacheBytes < minCache {
		bad("cacheBytes", "must be at least 1048576 (1 MiB)")
	}
	if c.ReadTimeout <= 0 {
		bad("readTimeout", "must be longer than 0")
	}
	if c.Readers < 1 || c.Readers > 64 {
		bad("readers", "must be between 1 and 64")
	}
	if c.WriteTimeout < minWriteTimeout {
		bad("writeTimeout", "must be at least 1s")
	}
	if c.PartitionsAhead < 1 || c.PartitionsAhead > 366 {
		bad("partitionsAhead", "must be between 1 and 366")
	}
}
