package archive

import "time"

// Config is the archive's part of the configuration.
type Config struct {
	RollBytes   int64         `yaml:"rollBytes"`   // a range is full at this many record bytes
	RollAge     time.Duration `yaml:"rollAge"`     // a range is full at this age
	MemoryBytes int64         `yaml:"memoryBytes"` // rows held in memory before they are written out, all ranges together
	OpenHours   int           `yaml:"openHours"`   // hour files that a range keeps open in each dataset; more are closed and continued in another file
	Retention   time.Duration `yaml:"retention"`   // hours that ended longer ago are deleted; 0 keeps all
	MaxBytes    int64         `yaml:"maxBytes"`    // above this total the oldest hours are deleted; 0 keeps all
}

// Default returns the configuration of a single machine.
func Default() Config {
	return Config{
		RollBytes:   64 << 20,
		RollAge:     5 * time.Minute,
		MemoryBytes: 96 << 20,
		OpenHours:   4,
	}
}

// Validate calls bad for every value that cannot work.
func (c Config) Validate(bad func(key, rule string)) {
	if c.RollBytes < 1<<20 || c.RollBytes > 4<<30 {
		bad("rollBytes", "must be from 1 MB to 4 GB")
	}
	if c.RollAge < time.Second || c.RollAge > 24*time.Hour {
		bad("rollAge", "must be from 1s to 24h")
	}
	if c.MemoryBytes < 8<<20 {
		bad("memoryBytes", "must be 8 MB or more")
	}
	if c.OpenHours < 1 || c.OpenHours > 64 {
		bad("openHours", "must be from 1 to 64")
	}
	if c.Retention != 0 && c.Retention < time.Hour {
		bad("retention", "must be 0 (keep all) or at least 1h, the smallest part that is deleted")
	}
	if c.MaxBytes < 0 {
		bad("maxBytes", "must be 0 (keep all) or more")
	}
}
