package demo

import "time"

// Config says how big the shop is and how busy. The shop's address is the
// caller's matter.
type Config struct {
	// Items is the number of products, the most clicked ones first.
	Items int `yaml:"items"`
	// Visitors is how many simulated visitors are in the shop at once; 0 sends none.
	Visitors int `yaml:"visitors"`
	// WarmupEvents is how many events are sent at WarmupRate before Rate holds, so
	// that a shop just opened has something to recommend.
	WarmupEvents int `yaml:"warmupEvents"`
	// WarmupRate is the pace of the warm-up in events per second.
	WarmupRate float64 `yaml:"warmupRate"`
	// Rate is the pace after the warm-up in events per second.
	Rate float64 `yaml:"rate"`
	// Timeout bounds one request of a visitor.
	Timeout time.Duration `yaml:"timeout"`
}

// The data set has this many different items.
const allItems = 18009

// Default is a shop of 400 products in which some 3,500 clicks happen in the
// first 25 seconds and about five a second from then on.
func Default() Config {
	return Config{
		Items:        400,
		Visitors:     40,
		WarmupEvents: 7500,
		WarmupRate:   300,
		Rate:         10,
		Timeout:      10 * time.Second,
	}
}

// Validate calls bad for every setting that cannot work.
func (c Config) Validate(bad func(key, rule string)) {
	if c.Items < len(shelves) || c.Items > allItems {
		bad("items", "must be between 8 and 18009, the items of the data set")
	}
	if c.Visitors < 0 || c.Visitors > 1000 {
		bad("visitors", "must be between 0 and 1000")
	}
	if c.WarmupEvents < 0 {
		bad("warmupEvents", "must not be negative")
	}
	if !(c.WarmupRate > 0 && c.WarmupRate <= 10000) {
		bad("warmupRate", "must be above 0 and at most 10000 events per second")
	}
	if !(c.Rate > 0 && c.Rate <= 10000) {
		bad("rate", "must be above 0 and at most 10000 events per second")
	}
	if c.Timeout <= 0 {
		bad("timeout", "must be positive")
	}
}
