package journal

import "time"

// Config holds the limits of a journal. Sizes are bytes.
type Config struct {
	// SegmentBytes is the size at which a new segment file is begun.
	SegmentBytes int64 `yaml:"segmentBytes"`
	// MaxBytes is the most that all segments together may take. Publishing
	// returns bus.ErrFull beyond it.
	MaxBytes int64 `yaml:"maxBytes"`
	// MinFreeBytes is what must stay free on the file system; zero means no
	// reserve. Publishing returns bus.ErrFull below it.
	MinFreeBytes int64 `yaml:"minFreeBytes"`
	// WaitingBytes bounds the messages that wait for a commit, and with them the
	// largest message. Two buffers of this size exist under load.
	WaitingBytes int64 `yaml:"waitingBytes"`
	// Retention is how long a segment is kept after its last record, although
	// every group has passed it.
	Retention time.Duration `yaml:"retention"`
}

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

// Default returns the configuration of a small machine.
func Default() Config {
	return Config{
		SegmentBytes: 64 * mib,
		MaxBytes:     10 * gib,
		MinFreeBytes: 256 * mib,
		WaitingBytes: 8 * mib,
		Retention:    time.Hour,
	}
}

// Validate calls bad for every key that breaks a rule.
func (c Config) Validate(bad func(key, rule string)) {
	if c.SegmentBytes < 4*kib || c.SegmentBytes > gib {
		bad("segmentBytes", "must be between 4 KiB and 1 GiB")
	}
	if c.MaxBytes < 2*c.SegmentBytes || c.MaxBytes <= 0 {
		bad("maxBytes", "must be at least two segments")
	}
	if c.MinFreeBytes < 0 {
		bad("minFreeBytes", "must not be negative")
	}
	if c.WaitingBytes < 4*kib || c.WaitingBytes > 256*mib {
		bad("waitingBytes", "must be between 4 KiB and 256 MiB")
	}
	if c.Retention < 0 {
		bad("retention", "must not be negative")
	}
}
