package knn

import (
	"hash/maphash"
	"strings"
)

// item is what the index knows of one item. Its number is its place in
// Index.items.
type item struct {
	id     string
	ring   []uint64 // sessions that hold it, see posting; a ring buffer
	head   uint32   // where the next posting goes
	n      uint32   // postings in the ring, stale ones too
	refs   uint32   // sessions that hold it, neighbours or not
	df     uint32   // neighbours that hold it
	clicks uint32   // clicks of neighbours on it
	gen    uint32   // changes when the number is reclaimed
}

// posting packs a session's slot and generation.
func posting(slot, gen uint32) uint64 { return uint64(slot)<<32 | uint64(gen) }

// Item returns the number of an item.
func (x *Index) Item(id string) (uint32, bool) {
	return x.byID.find(maphash.String(x.seed, id), func(n uint32) bool { return x.items[n].id == id })
}

// ID returns the id of an item number, empty for a number that is not in use.
func (x *Index) ID(n uint32) string {
	if int(n) >= len(x.items) {
		return ""
	}
	return x.items[n].id
}

// Generation tells one user of an item number from the next.
func (x *Index) Generation(n uint32) uint32 { return x.items[n].gen }

// Items returns how many items the index holds.
func (x *Index) Items() int { return x.byID.n }

// ItemNumbers returns the upper limit of item numbers in use.
func (x *Index) ItemNumbers() int { return len(x.items) }

// intern returns the number of an item, and makes room for a new one by evicting
// sessions, but for keep. It fails when there is no room.
func (x *Index) intern(id string, keep uint32) (uint32, bool) {
	if n, ok := x.Item(id); ok {
		return n, true
	}
	for x.byID.n >= x.cfg.Items || x.idBytes+len(id) > x.cfg.IDBytes {
		if !x.evictOldest(keep) {
			return 0, false
		}
	}
	var n uint32
	if last := len(x.freeItems) - 1; last >= 0 {
		n = x.freeItems[last]
		x.freeItems = x.freeItems[:last]
	} else {
		n = uint32(len(x.items)) //nolint:gosec // bounded by Config.Items
		x.items = grown(x.items, x.cfg.Items)
		x.items = append(x.items, item{})
	}
	x.items[n].id = strings.Clone(id)
	x.idBytes += len(id)
	x.byID.add(maphash.String(x.seed, id), n)
	return n, true
}

// release reclaims the number of an item that no session holds any more.
func (x *Index) release(n uint32) {
	it := &x.items[n]
	x.byID.remove(maphash.String(x.seed, it.id), n)
	x.idBytes -= len(it.id)
	x.ringLen -= len(it.ring)
	*it = item{gen: it.gen + 1}
	x.freeItems = append(x.freeItems, n)
	if x.released != nil {
		x.released(n)
	}
}

// push puts a session in front of an item's postings. A full ring first loses
// its stale postings, then doubles up to the limit, then overwrites its oldest.
func (x *Index) push(n uint32, p uint64) {
	it := &x.items[n]
	if int(it.n) == len(it.ring) && len(it.ring) < x.cfg.Postings {
		x.resize(it, func(live, size int) int {
			if size == 0 {
				return minRing
			}
			if 2*live > size {
				return min(2*size, x.cfg.Postings)
			}
			return size
		})
	}
	it.ring[it.head] = p
	it.head = next(it.head, len(it.ring))
	if int(it.n) < len(it.ring) {
		it.n++
	}
}

// shrink gives back the room of postings that went stale, so that a ring never
// has more than four entries for each session that holds the item.
func (x *Index) shrink(n uint32) {
	it := &x.items[n]
	df := int(it.df)
	if len(it.ring) <= minRing && df > 0 || 4*df >= len(it.ring) {
		return
	}
	x.resize(it, func(_, _ int) int {
		if df == 0 {
			return 0
		}
		return min(max(minRing, 2*df), x.cfg.Postings)
	})
}

// resize keeps the live postings, in order, in a ring of the size that is asked
// for.
func (x *Index) resize(it *item, size func(live, size int) int) {
	live := x.compact[:0]
	for i, at := uint32(0), oldest(it); i < it.n; i, at = i+1, next(at, len(it.ring)) {
		if p := it.ring[at]; x.alive(p) {
			live = append(live, p)
		}
	}
	x.compact = live[:0]
	want := size(len(live), len(it.ring))
	if len(live) > want {
		live = live[len(live)-want:]
	}
	if want != len(it.ring) {
		x.ringLen += want - len(it.ring)
		it.ring = make([]uint64, want)
	}
	it.n = uint32(copy(it.ring, live)) //nolint:gosec // bounded by Config.Postings
	it.head = it.n
	if int(it.head) == len(it.ring) {
		it.head = 0
	}
}

func (x *Index) alive(p uint64) bool { return x.gens[p>>32] == uint32(p) } //nolint:gosec // the lower half on purpose

func oldest(it *item) uint32 {
	if int(it.n) < len(it.ring) {
		return (it.head + uint32(len(it.ring)) - it.n) % uint32(len(it.ring)) //nolint:gosec // bounded by Config.Postings
	}
	return it.head
}

func next(at uint32, size int) uint32 {
	if at++; int(at) == size {
		return 0
	}
	return at
}

// grown returns s with room for one more, in steps that end exactly at limit.
func grown[T any](s []T, limit int) []T {
	if len(s) < cap(s) {
		return s
	}
	bigger := make([]T, len(s), min(max(chunkLen, 2*cap(s)), max(limit, len(s)+1)))
	copy(bigger, s)
	return bigger
}
