// Package tombstone remembers whom Furrow was told to forget, without knowing who
// they are: a tombstone holds a keyed hash of one identifier and a time. Events
// that were collected up to that time under that identifier are skipped by every
// consumer, snapshot, replay and bad row; what the person does later is new.
//
// A Set is a file in the data folder. Each store keeps a copy of the tombstones
// that were applied to it, so that one restored from a backup is found out and
// cleaned again. Sets only grow, and merging them is a union.
//
// The package deletes nothing; package history does.
package tombstone

import (
	"encoding"
	"time"
)

// Hash is 32 bytes that read and write themselves as hex.
type Hash [32]byte

var (
	_ encoding.TextMarshaler   = Hash{}
	_ encoding.TextUnmarshaler = (*Hash)(nil)
)

// Tombstone says that the events of one identifier are to be skipped that were
// collected at Until or before.
type Tombstone struct {
	Key   Hash      `json:"key"`  // of the HMAC; one for all tombstones of an installation
	Hash  Hash      `json:"hash"` // HMAC-SHA-256 of the identifier's exact bytes
	Until time.Time `json:"until"`
}
