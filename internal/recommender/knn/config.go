package knn

import (
	"time"
	"unsafe"
)

// Config bounds an index. The zero value of a field with a stated default takes
// that default.
type Config struct {
	Sessions    int           // sessions held; the least recently active leaves first
	Items       int           // distinct items held
	Clicks      int           // room for clicks over all sessions, in entries of 8 bytes
	IDBytes     int           // bytes of item ids held
	Postings    int           // newest sessions remembered per item; at least Params.M for exact results
	MinDistinct int           // a session becomes a neighbour with this many distinct items; default 1
	MaxDistinct int           // a session with more distinct items stops being a neighbour: a robot
	MaxClicks   int           // newest clicks kept per session; greater than MaxDistinct
	Horizon     time.Duration // sessions without a click for so long leave; 0: never
	// FirstSeen dates a session by its newest first click on an item, as Serenade
	// does; otherwise by its newest click.
	FirstSeen bool
}

const (
	minRing   = 4 // entries of an item's smallest posting ring
	minLog    = 4 // entries of a session's smallest log
	chunkBits = 10
	chunkLen  = 1 << chunkBits
	// maxIDLen keeps one item id from taking the place of many. An ecommerce
	// product id may have up to 4,096 characters; real ones have fewer than 100.
	maxIDLen = 512
)

// Bound returns the greatest number of bytes that an index of this configuration
// accounts for in Index.Bytes. What searches use while they run is not in it:
// see Params.ScratchBound.
func (c Config) Bound() int64 {
	sessions, items, clicks := int64(c.Sessions), int64(c.Items), int64(c.Clicks)
	chunks := (sessions + chunkLen - 1) / chunkLen
	b := chunks * chunkLen * slotBytes
	b += sessions * 12                                     // generations and recencies
	b += (sessions+items+chunkLen)*8 + int64(c.Postings)*8 // free lists, room to compact
	b += 8 * (powerOfTwo(2*c.Sessions) + powerOfTwo(2*c.Items))
	b += clicks * clickBytes
	b += (clicks + items) * minRing * 8 // a ring has at most 4 entries per pair, or its minimum
	b += items*itemBytes + int64(c.IDBytes)
	return b
}

const (
	slotBytes  = int64(unsafe.Sizeof(slot{}))
	clickBytes = int64(unsafe.Sizeof(click{}))
	itemBytes  = int64(unsafe.Sizeof(item{}))
)

func powerOfTwo(n int) int64 {
	p := int64(tableMin)
	for p < int64(n) {
		p *= 2
	}
	return p
}
