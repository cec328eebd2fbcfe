package archive

import (
	"net/url"
	"time"
)

// Config is the archive's part of the configuration.
type Config struct {
	// Where the archive is: s3://BUCKET/PREFIX, or a folder; archive/ in the data
	// folder when empty.
	URL         string        `yaml:"url"`
	S3          S3            `yaml:"s3"`
	RollBytes   int64         `yaml:"rollBytes"`   // a range is full at this many record bytes
	RollAge     time.Duration `yaml:"rollAge"`     // a range is full at this age
	MemoryBytes int64         `yaml:"memoryBytes"` // rows held in memory before they are written out, all ranges together
	OpenHours   int           `yaml:"openHours"`   // hour files that a range keeps open in each dataset; more are closed and continued in another file
	Retention   time.Duration `yaml:"retention"`   // hours that ended longer ago are deleted; 0 keeps all
	MaxBytes    int64         `yaml:"maxBytes"`    // above this total the oldest hours are deleted; 0 keeps all
	Compact     Compact       `yaml:"compact"`

	// DedupDays is for how many days an event id stays unique, see the process's
	// own dedup.days.
	DedupDays int `yaml:"-" json:"-"`
}

// S3 says how an archive on S3, or on a server that speaks its protocol, is
// reached. What is empty comes from AWS's own environment variables, shared files
// and instance roles.
type S3 struct {
	Endpoint        string        `yaml:"endpoint"`        // of another server than AWS, such as http://127.0.0.1:9000
	Region          string        `yaml:"region"`          // us-east-1 when nothing names one
	PathStyle       bool          `yaml:"pathStyle"`       // the bucket in the path, not in the host name; set with most servers other than AWS
	AccessKeyID     string        `yaml:"accessKeyId"`     // both or none of the two
	SecretAccessKey string        `yaml:"secretAccessKey"` // best given as FURROW_ARCHIVE_S3_SECRET_ACCESS_KEY
	PartBytes       int64         `yaml:"partBytes"`       // larger files are uploaded in parts of this size
	Timeout         time.Duration `yaml:"timeout"`         // of one attempt at one request
}

// Compact says when the files of an hour are merged.
type Compact struct {
	After time.Duration `yaml:"after"` // an hour is closed this long after its end; 0 never merges
}

// Default returns the configuration of a single machine.
func Default() Config {
	return Config{
		RollBytes:   64 << 20,
		RollAge:     5 * time.Minute,
		MemoryBytes: 96 << 20,
		OpenHours:   4,
		S3:          S3{PartBytes: 16 << 20, Timeout: time.Minute},
		Compact:     Compact{After: 15 * time.Minute},
		DedupDays:   90,
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
	if _, err := parseLocation(c.URL); err != nil {
		bad("url", err.Error())
	}
	c.S3.validate(func(key, rule string) { bad("s3."+key, rule) })
	if c.Compact.After < 0 {
		bad("compact.after", "must be 0 (never merge) or more")
	}
}

func (c S3) validate(bad func(key, rule string)) {
	if c.PartBytes < 5<<20 || c.PartBytes > 1<<30 {
		bad("partBytes", "must be from 5 MiB to 1 GiB, as S3 has it")
	}
	if c.Timeout < time.Second {
		bad("timeout", "must be at least 1s")
	}
	if c.AccessKeyID == "" && c.SecretAccessKey != "" {
		bad("accessKeyId", "must be set along with secretAccessKey")
	}
	if c.AccessKeyID != "" && c.SecretAccessKey == "" {
		bad("secretAccessKey", "must be set along with accessKeyId")
	}
	if c.Endpoint == "" {
		return
	}
	u, err := url.Parse(c.Endpoint)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		bad("endpoint", "must be an address such as https://s3.example.com or http://127.0.0.1:9000")
	case u.User != nil:
		bad("endpoint", "must not hold a user name or password; set accessKeyId and secretAccessKey")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		bad("endpoint", "must end after host and port; bucket and prefix belong in archive.url")
	}
}
