// Package config is the one configuration of a Furrow process. It nests the
// configuration of each room and adds what belongs to the process itself.
//
// Values come from, in rising order, the defaults, a YAML file, the environment
// and command line flags. A key has two mechanical spellings: collector.cookie.name
// in a file, FURROW_COLLECTOR_COOKIE_NAME in the environment. An unknown key in a
// file is an error, an unknown variable a warning, and validation reports every
// problem at once.
//
// It refuses templates, includes and look-ups by string: a room gets its part as
// a value, once.
package config

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"furrow/internal/archive"
	"furrow/internal/bus/journal"
	"furrow/internal/collector"
	"furrow/internal/demo"
	"furrow/internal/inspector"
	"furrow/internal/recommender"
	"furrow/internal/recorder"
	"furrow/internal/store"
)

// Config is everything that can be set.
type Config struct {
	// Folder for everything that is kept: journal/, furrow.db, archive/,
	// recommender/. It belongs to one process.
	DataDir string `yaml:"dataDir"`
	// Address of the public listener: the collector, the tracker script and /v1.
	Listen string `yaml:"listen"`
	// Address of the admin listener: the inspector, /metrics and /status. Keep it
	// on loopback.
	Admin string `yaml:"admin"`
	// What this process does: all, or some of collector, recorder, recommender,
	// inspector.
	Roles []string `yaml:"roles"`
	// How long a stop may take before it is forced.
	StopTimeout time.Duration `yaml:"stopTimeout"`
	Log         Log           `yaml:"log"`
	Disk        Disk          `yaml:"disk"`
	Dedup       Dedup         `yaml:"dedup"`
	Bus         Bus           `yaml:"bus"`

	Collector   collector.Config   `yaml:"collector"`
	Store       store.Config       `yaml:"store"`
	Archive     archive.Config     `yaml:"archive"`
	Recorder    recorder.Config    `yaml:"recorder"`
	Recommender recommender.Config `yaml:"recommender"`
	Inspector   inspector.Config   `yaml:"inspector"`
	Demo        demo.Config        `yaml:"demo"`

	// Ignored names the variables of the environment that begin with FURROW_ and
	// set nothing.
	Ignored []string `yaml:"-" json:"-"`
}

// Log says what is logged and where.
type Log struct {
	// debug, info, warn or error.
	Level string `yaml:"level"`
	// A file that is appended to; standard error when empty.
	File string `yaml:"file"`
}

// Disk bounds the data folder as a whole.
type Disk struct {
	// Most bytes that the data folder may take; 0: all that the file system has,
	// less the reserve. Above it the recorder pauses and the journal goes on to its
	// own limit, bus.journal.maxBytes.
	BudgetBytes int64 `yaml:"budgetBytes"`
	// Free bytes on the file system below which the recorder pauses.
	ReserveBytes int64 `yaml:"reserveBytes"`
}

// Dedup says how long doubles are found.
type Dedup struct {
	// Days for which an event id is stored once, whatever its collector time and
	// however long its row is kept.
	Days int `yaml:"days"`
}

// Bus says how records travel from the collector to the consumers.
type Bus struct {
	// user: a user's events share a key and keep their order. random: spread them,
	// as Snowplow's collector does.
	Key     string         `yaml:"key"`
	Journal journal.Config `yaml:"journal"`
}

// The roles of a process.
const (
	RoleCollector   = "collector"
	RoleRecorder    = "recorder"
	RoleRecommender = "recommender"
	RoleInspector   = "inspector"
	RoleAll         = "all"
)

// Default is the configuration of a process that was told nothing.
func Default() Config {
	c := Config{
		DataDir:     "./furrow-data",
		Listen:      ":8080",
		Admin:       "127.0.0.1:8081",
		Roles:       []string{RoleAll},
		StopTimeout: 30 * time.Second,
		Log:         Log{Level: "info"},
		Disk:        Disk{ReserveBytes: 512 << 20},
		Dedup:       Dedup{Days: 90},
		Bus:         Bus{Key: "user", Journal: journal.Default()},
		Collector:   collector.Default(),
		Store:       store.Default(),
		Archive:     archive.Default(),
		Recorder:    recorder.Default(),
		Recommender: recommender.Default(),
		Inspector:   inspector.Default(),
		Demo:        demo.Default(),
	}
	// Snowplow's 10 s are for a load balancer that has to notice first. Without one
	// Ctrl-C should not take ten seconds.
	c.Collector.PreTerminationPeriod = 0
	return c
}

// Has reports whether this process plays a role.
func (c *Config) Has(role string) bool {
	return slices.Contains(c.Roles, role) || slices.Contains(c.Roles, RoleAll)
}

func (c *Config) validate(bad func(key, rule string)) {
	if c.DataDir == "" {
		bad("dataDir", "must name a folder")
	}
	for key, address := range map[string]string{"listen": c.Listen, "admin": c.Admin} {
		if _, _, err := net.SplitHostPort(address); err != nil {
			bad(key, "must be an address with a port, such as 127.0.0.1:8080 or :8080")
		}
	}
	roles := []string{RoleAll, RoleCollector, RoleRecorder, RoleRecommender, RoleInspector}
	if len(c.Roles) == 0 || slices.ContainsFunc(c.Roles, func(r string) bool { return !slices.Contains(roles, r) }) {
		bad("roles", "must be some of "+strings.Join(roles, ", "))
	}
	if c.StopTimeout <= 0 {
		bad("stopTimeout", "must be above 0")
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		bad("log.level", "must be debug, info, warn or error")
	}
	if c.Disk.BudgetBytes < 0 {
		bad("disk.budgetBytes", "must be 0 or more")
	}
	if c.Disk.ReserveBytes < 0 {
		bad("disk.reserveBytes", "must be 0 or more")
	}
	if c.Dedup.Days < 1 || c.Dedup.Days > 3660 {
		bad("dedup.days", "must be between 1 and 3660")
	}
	if c.Bus.Key != "user" && c.Bus.Key != "random" {
		bad("bus.key", "must be user or random")
	}
	// A consumer acknowledges a whole range or snapshot, so the journal has to have
	// room for those beside what comes in.
	if held := 2 * max(c.Archive.RollBytes, c.Recommender.Snapshot.Bytes); c.Bus.Journal.MaxBytes < held {
		bad("bus.journal.maxBytes", fmt.Sprintf("must be at least %d: twice archive.rollBytes and recommender.snapshot.bytes, which are acknowledged whole", held))
	}
	in := func(room string) func(key, rule string) {
		return func(key, rule string) { bad(room+"."+key, rule) }
	}
	c.Bus.Journal.Validate(in("bus.journal"))
	c.Collector.Validate(in("collector"))
	c.Store.Validate(in("store"))
	c.Archive.Validate(in("archive"))
	c.Recorder.Validate(in("recorder"))
	c.Recommender.Validate(in("recommender"))
	c.Inspector.Validate(in("inspector"))
	c.Demo.Validate(in("demo"))
}
