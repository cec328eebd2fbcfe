package recorder

import "time"

// Config says how records are gathered into batches.
type Config struct {
	BatchEvents  int           `yaml:"batchEvents"`  // a database transaction is begun at this many events and bad rows
	BatchBytes   int64         `yaml:"batchBytes"`   // or at this many bytes in memory, records and what was made of them
	BatchAge     time.Duration `yaml:"batchAge"`     // or when its first record has waited this long
	MemoBytes    int64         `yaml:"memoBytes"`    // enriched records kept for the slower of the two groups; 0 lets each enrich for itself
	RetryMax     time.Duration `yaml:"retryMax"`     // longest pause between two attempts at what failed
	DrainTimeout time.Duration `yaml:"drainTimeout"` // how long a stop may take to store what was begun
}

// Default returns the configuration of a single machine.
func Default() Config {
	return Config{
		BatchEvents:  1000,
		BatchBytes:   16 << 20,
		BatchAge:     100 * time.Millisecond,
		MemoBytes:    64 << 20,
		RetryMax:     5 * time.Second,
		DrainTimeout: 20 * time.Second,
	}
}

// Validate calls bad for every value that cannot be used.
func (c Config) Validate(bad func(key, rule string)) {
	if c.BatchEvents < 1 || c.BatchEvents > 100_000 {
		bad("batchEvents", "must be between 1 and 100000")
	}
	if c.BatchBytes < 1<<16 {
		bad("batchBytes", "must be at least 65536")
	}
	if c.BatchAge < 0 || c.BatchAge > time.Minute {
		bad("batchAge", "must be between 0s and 1m")
	}
	if c.MemoBytes < 0 {
		bad("memoBytes", "must be 0 (off) or more")
	}
	if c.RetryMax < time.Millisecond {
		bad("retryMax", "must be at least 1ms")
	}
	if c.DrainTimeout <= 0 {
		bad("drainTimeout", "must be longer than 0")
	}
}
