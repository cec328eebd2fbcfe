package inspector

import (
	"strings"
	"time"
)

// Config holds the inspector's settings.
type Config struct {
	// AllowedHosts are names, without port, by which the admin listener may be
	// addressed besides localhost and the loopback addresses.
	AllowedHosts []string `yaml:"allowedHosts"`
	// Events is how many of the newest events are kept for the live view.
	Events int `yaml:"events"`
	// BadRows is how many of the newest bad rows are kept for the live view.
	BadRows int `yaml:"badRows"`
	// MaxBytes bounds the memory of the kept events; bad rows get a quarter of it
	// in addition.
	MaxBytes int64 `yaml:"maxBytes"`
	// Clients is how many live streams may be open at once.
	Clients int `yaml:"clients"`
	// WriteTimeout is how long a live stream may refuse to take what was written
	// before it is dropped.
	WriteTimeout time.Duration `yaml:"writeTimeout"`
	// Heartbeat is how often a silent live stream shows that it is alive.
	Heartbeat time.Duration `yaml:"heartbeat"`
}

const (
	minBytes     = 1 << 20
	maxHeartbeat = 30 * time.Second
)

// Default returns the settings that serve one machine: at most 20 MB.
func Default() Config {
	return Config{
		Events:       2000,
		BadRows:      500,
		MaxBytes:     16 << 20,
		Clients:      16,
		WriteTimeout: 5 * time.Second,
		Heartbeat:    15 * time.Second,
	}
}

// Validate calls bad for every setting that breaks a rule.
func (c Config) Validate(bad func(key, rule string)) {
	for _, h := range c.AllowedHosts {
		if h == "" || strings.ContainsAny(h, "/ \t*") || strings.Contains(h, "://") {
			bad("allowedHosts", "must be host names or addresses without scheme, path or wildcard")
			break
		}
	}
	if c.Events < 1 {
		bad("events", "must be at least 1")
	}
	if c.BadRows < 1 {
		bad("badRows", "must be at least 1")
	}
	if c.MaxBytes < minBytes {
		bad("maxBytes", "must be at least 1048576 (1 MiB)")
	}
	if c.Clients < 1 {
		bad("clients", "must be at least 1")
	}
	if c.WriteTimeout <= 0 {
		bad("writeTimeout", "must be greater than 0")
	}
	if c.Heartbeat <= 0 || c.Heartbeat > maxHeartbeat {
		bad("heartbeat", "must be greater than 0 and at most 30s, since clients give up after 60s of silence")
	}
}
