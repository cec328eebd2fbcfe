package history

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"furrow/internal/archive"
	"furrow/internal/bus"
	"furrow/internal/enrich"
	"furrow/internal/event"
	"furrow/internal/store"
)

// Enricher turns a record into events and bad rows, and skips what tombstones
// cover; it fails only when ctx ends.
type Enricher interface {
	Do(ctx context.Context, record []byte, now time.Time) (enrich.Result, error)
}

// Records is what was archived. Times are collector times, in [from, to), a zero
// one is no bound; calls come hour by hour and stop at the first error.
type Records interface {
	// ReadRaw calls fn for every archived record, in the order of the bus within an
	// hour. Records can appear more than once.
	ReadRaw(ctx context.Context, from, to time.Time, fn func(archive.RawRow) error) error
	// ReadImported calls fn for every archived event that came without a record.
	ReadImported(ctx context.Context, from, to time.Time, fn func(*event.Event) error) error
	// ReadBad calls fn for every archived bad row.
	ReadBad(ctx context.Context, from, to time.Time, fn func(event.BadRow) error) error
	// CountRaw says how much ReadRaw would read, without reading it.
	CountRaw(ctx context.Context, from, to time.Time) (files, rows, bytes int64, err error)
	// Status tells the hours that are archived.
	Status() archive.Status
}

// Ranges take what goes into the archive.
type Ranges interface {
	Begin(ctx context.Context, stream, partition string, first bus.Position) (*archive.Range, error)
}

// Archive is the archive as this package needs it.
type Archive interface {
	Records
	Ranges
}

// Options are what the operations work with. What a process does not have is nil;
// an operation that needs it then fails and says so.
type Options struct {
	Dir      string // of the state of operations that ended early
	Archive  Archive
	Database store.Database
	Bus      bus.Publisher
	Enricher Enricher
	// Rebuild makes the recommender learn the events of [since, until) anew; a zero
	// time is no bound. progress gets how many events it has read.
	Rebuild func(ctx context.Context, since, until time.Time, progress func(done int64)) error
	// Forgotten says whether a tombstone covers an event with these identifiers.
	Forgotten func(userID, domainUserID, networkUserID string, collected time.Time) bool

	// Paused says whether nothing may go into InDatabase or InArchive now, such as when
	// the disk is short, and why. nil: never. Forgetting asks nobody: it takes out.
	Paused func(store string) (reason string, paused bool)

	// What forgetting needs.
	Tombstones Tombstones
	Cleaner    Cleaner // the archive
	// Settle returns when nothing that was enriched before the call can land in a
	// store any more. nil when nothing else in the process stores.
	Settle func(ctx context.Context) error
	// Purge takes events with matching identifiers out of what is only in memory.
	Purge func(match func(userID, domainUserID, networkUserID string) bool)
	// BusExpiry names the bus and the time when the last record that is on it now
	// will be gone, if that is known.
	BusExpiry func() (what string, last time.Time, known bool)

	Log *slog.Logger
	Now func() time.Time
}

// Step is how far an operation is.
type Step struct {
	What  string `json:"what"` // what it is doing, such as reading the archive
	Done  int64  `json:"done"`
	Total int64  `json:"total"` // 0 when nobody knows
}

// Progress is told now and then how far an operation is, from one goroutine. It
// must not block for long.
type Progress func(Step)

// History runs the operations. Its methods are safe for concurrent use.
type History struct {
	opts        Options
	patience    patience
	saveEvery   time.Duration // the state of an operation is written at most so often
	spoolBytes  int           // see spoolBytes
	ranges      rangeLimits
	linesAtOnce int64         // of an import, between two looks at how far it is
	askEvery    time.Duration // whether a store is still paused

	mu      sync.Mutex
	running map[string]bool // states in use, by name
	knows   bool            // the tombstones of both stores
	holders map[*holder]bool
}

// New returns a History.
func New(opts Options) (*History, error) {
	if opts.Dir == "" || opts.Enricher == nil || opts.Log == nil {
		return nil, errors.New("history: needs a folder for its state, an enricher and a log")
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Forgotten == nil {
		opts.Forgotten = func(string, string, string, time.Time) bool { return false }
	}
	return &History{
		opts:        opts,
		patience:    patience{attempts: 8, first: 100 * time.Millisecond, longest: 5 * time.Second},
		saveEvery:   time.Second,
		spoolBytes:  spoolBytes,
		linesAtOnce: 500,
		askEvery:    time.Second,
		ranges:      rangeLimits{lines: 200_000, bytes: 64 << 20, hours: 1000},
		running:     make(map[string]bool),
		holders:     make(map[*holder]bool),
	}, nil
}

// The stores, as reports and Options.Paused name them.
const (
	InDatabase = "database"
	InArchive  = "archive"
)

// room waits while a store is paused, and tells why.
func (h *History) room(ctx context.Context, where string, progress Progress) error {
	for h.opts.Paused != nil {
		reason, paused := h.opts.Paused(where)
		if !paused {
			return nil
		}
		progress.report("waiting to write to the "+where+": "+reason, 0, 0)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(h.askEvery):
		}
	}
	return nil
}

// report tells progress, when somebody wants to know.
func (p Progress) report(what string, done, total int64) {
	if p != nil {
		p(Step{What: what, Done: done, Total: total})
	}
}
