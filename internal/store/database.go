package store

import (
	"context"
	"time"

	"furrow/internal/event"
	"furrow/internal/tombstone"
)

// Database is what SQLite and Postgres both are. Every method is safe for
// concurrent use.
type Database interface {
	Writer
	Reader
	BadRows
	Forgetter
	Keeper
}

// Keeper looks after the database while the process runs.
type Keeper interface {
	// Run applies the retention, and makes partitions ahead, until ctx ends.
	Run(ctx context.Context) error
	// Close waits for what goes on. Calls after it fail.
	Close() error
}

// Writer stores rows.
type Writer interface {
	// Insert stores events and bad rows in one transaction and returns when they
	// are durable. On an error nothing was stored, or nobody knows; the caller
	// repeats the call, which doubles nothing.
	Insert(ctx context.Context, rows []Row, bad []event.BadRow) (Inserted, error)
}

// Reader looks things up.
type Reader interface {
	// Event returns the stored event with the id, its columns in table order, and
	// whether there is one.
	Event(ctx context.Context, id string) ([]Column, bool, error)
	// Bad returns the newest bad rows, newest first.
	Bad(ctx context.Context, limit int) ([]event.BadRow, error)
	// Known returns how many of the event ids are stored, or were within the window
	// in which an id is unique.
	Known(ctx context.Context, ids []string) (int, error)
	// Status describes the database as it is now, cheaply at any size.
	Status(ctx context.Context) (Status, error)
}

// BadFilter selects bad rows. A zero field restricts nothing.
type BadFilter struct {
	IDs     []string  // of bad rows
	Schema  string    // the bad row's Iglu URI, or its name alone such as schema_violations
	From    time.Time // bad row time at or after
	To      time.Time // before
	Records bool      // with the exact records; without, Payload is nil
}

// BadRows are what could not be stored as events.
type BadRows interface {
	// EachBad calls fn for every bad row that the filter selects, rows of one record
	// together. It reads in steps, so rows that come or go meanwhile may be missed.
	// It stops at the first error.
	EachBad(ctx context.Context, filter BadFilter, fn func(event.BadRow) error) error
	// DeleteBad deletes bad rows by id, and records with their last row. It returns
	// how many there were.
	DeleteBad(ctx context.Context, ids []string) (int, error)
}

// Identity is one identifier as events carry it.
type Identity struct {
	Field  string `json:"field"` // user_id, domain_userid or network_userid
	Value  string `json:"value"`
	Events int64  `json:"events"` // together with the person's other identifiers
}

// Person is what is stored under some identifiers.
type Person struct {
	Events int64      `json:"events"`
	First  time.Time  `json:"first,omitzero"` // collector time
	Last   time.Time  `json:"last,omitzero"`
	Linked []Identity `json:"linked"` // other identifiers on the same events, at most 100, commonest first
}

// Forgetting is an order to delete people's events.
type Forgetting struct {
	Identifiers []string  // exact values of user_id, domain_userid or network_userid
	Until       time.Time // collector time of the last event that goes
	// Record judges the record of a bad row. kept is the record without what goes,
	// nil when all of it goes; gone says whether the bad row of an event index goes.
	// When changed is false the record stays as it is with all its rows.
	Record func(id event.RecordID, record []byte) (kept []byte, gone func(index int) bool, changed bool)
}

// Forgotten says what a Forgetting took out.
type Forgotten struct {
	Events  int64 `json:"events"`
	BadRows int64 `json:"badRows"`
	Records int64 `json:"records"` // of bad rows, deleted or rewritten
}

// Forgetter takes people out.
type Forgetter interface {
	// Person describes what is stored under any of the identifiers.
	Person(ctx context.Context, identifiers []string) (Person, error)
	// Forget deletes in steps; after an error it may be repeated. When it returns
	// nil, neither a later read nor the free space of a SQLite file shows what went.
	Forget(ctx context.Context, order Forgetting) (Forgotten, error)
	// EachIdentifier calls fn with every distinct identifier that is stored. It
	// reads the whole table.
	EachIdentifier(ctx context.Context, fn func(identifier string) error) error
	// Buried returns the tombstones that were applied to this database.
	Buried(ctx context.Context) ([]tombstone.Tombstone, error)
	// Bury notes that tombstones were applied. Known ones are left alone.
	Bury(ctx context.Context, stones []tombstone.Tombstone) error
}
