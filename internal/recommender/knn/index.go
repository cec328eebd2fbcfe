package knn

import (
	"hash/maphash"
	"math"
	"slices"
	"sync"
)

// Key identifies a session: a hash of its name, or its number. Of two sessions
// that tie, the one with the greater key counts as newer.
type Key [2]uint64

func (k Key) compare(other Key) int {
	switch {
	case k == other:
		return 0
	case k[0] < other[0] || k[0] == other[0] && k[1] < other[1]:
		return -1
	}
	return 1
}

func (k Key) hash() uint64 {
	h := (k[0] ^ k[1]<<32 ^ k[1]>>32) * 0x9e3779b97f4a7c15
	return h ^ k[1]*0xc2b2ae3d27d4eb4f
}

// click is one entry of a session's log.
type click struct {
	item uint32 // the topmost bit says that the log holds the item at another place, too
	at   uint32 // milliseconds since slot.base
}

const (
	repeat = 1 << 31
	// backwards is how long before its first click that arrived a session may
	// have begun.
	backwards = 24 * 3600 * 1000
)

func (c click) id() uint32  { return c.item &^ repeat }
func (c click) first() bool { return c.item&repeat == 0 }

type status uint8

const (
	free    status = iota
	hidden         // too few distinct items to be a neighbour
	visible        // a neighbour
	retired        // too many
)

// slot holds one session.
type slot struct {
	key      Key
	base     int64
	log      []click // by time
	newer    uint32  // the sessions in order of activity
	older    uint32
	distinct uint32
	status   status
}

const none = math.MaxUint32

// Index holds sessions. See the package comment for who may call what when.
type Index struct {
	cfg      Config
	released func(item uint32)
	seed     maphash.Seed
	pool     sync.Pool // *scratch

	chunks  [][]slot
	gens    []uint32 // generation of each slot; a posting with another is stale
	recents []int64  // when each slot's session was last active, milliseconds
	byKey   table
	free    []uint32
	newest  uint32
	oldest  uint32

	items     []item
	byID      table
	freeItems []uint32
	compact   []uint64 // room for resize

	clock     int64 // newest click
	neighbour int   // sessions that are neighbours: N
	pairs     int   // distinct items over all neighbours: P
	logLen    int   // capacity of all logs
	ringLen   int
	idBytes   int
}

// New returns an empty index. released, which may be nil, is told of every item
// number that is reclaimed, before it is given out again.
func New(cfg Config, released func(item uint32)) *Index {
	cfg.MinDistinct = max(cfg.MinDistinct, 1)
	if cfg.MaxClicks > 0 {
		// A full log of a neighbour must hold some item twice: see dropClick.
		if cfg.MaxDistinct <= 0 || cfg.MaxDistinct >= cfg.MaxClicks {
			cfg.MaxDistinct = cfg.MaxClicks - 1
		}
	}
	x := &Index{cfg: cfg, released: released, seed: maphash.MakeSeed(), newest: none, oldest: none}
	x.compact = make([]uint64, 0, cfg.Postings)
	x.pool.New = func() any { return new(scratch) }
	return x
}

// Added says what became of a click.
type Added struct {
	Item    uint32
	OK      bool // false: too late, or its item cannot be held
	New     bool // the session's first click on the item
	Opened  bool // the click began the session
	Retired bool // the click made the session too long to be a neighbour
}

// Add records a click on an item at a time in milliseconds since the epoch. A
// late click takes its place in the session by its time; one that is older than
// the horizon is refused.
func (x *Index) Add(key Key, id string, at int64) Added {
	x.clock = max(x.clock, at)
	horizon := x.cfg.Horizon.Milliseconds()
	if horizon > 0 {
		if at < x.clock-horizon {
			return Added{}
		}
		x.expire(x.clock - horizon)
	}
	if id == "" || len(id) > maxIDLen {
		return Added{}
	}
	n, ok := x.find(key)
	opened := !ok
	if opened {
		n = x.open(key, at)
	} else if x.newest != n {
		x.unlink(n)
		x.link(n)
	}
	// The room comes first: making it may reclaim the number of this very item.
	var it uint32
	if ok = x.reserve(n); ok {
		it, ok = x.intern(id, n)
	}
	if !ok {
		if opened || len(x.slot(n).log) == 0 {
			x.evict(n)
		}
		return Added{}
	}
	a := Added{Item: it, OK: true, Opened: opened}
	a.New, a.Retired = x.record(n, it, at)
	return a
}

// record writes a click into the log of a session that has room for it.
func (x *Index) record(n, it uint32, at int64) (isNew, nowRetired bool) {
	s := x.slot(n)
	isNew = !slices.ContainsFunc(s.log, func(c click) bool { return c.id() == it })
	entry := click{item: it, at: uint32(min(max(at-s.base, 0), math.MaxUint32))}
	if !isNew {
		entry.item |= repeat
	}
	i := len(s.log)
	for i > 0 && s.log[i-1].at > entry.at {
		i--
	}
	s.log = slices.Insert(s.log, i, entry)
	if isNew || !x.cfg.FirstSeen {
		x.recents[n] = max(x.recents[n], at)
	}
	if s.status == visible {
		x.items[it].clicks++
	}
	if !isNew {
		return false, false
	}
	s.distinct++
	x.items[it].refs++
	switch {
	case s.status == hidden && int(s.distinct) >= x.cfg.MinDistinct:
		x.show(n, s)
	case s.status == visible:
		x.items[it].df++
		x.pairs++
		x.push(it, posting(n, x.gens[n]))
	}
	if s.status == visible && x.cfg.MaxDistinct > 0 && int(s.distinct) > x.cfg.MaxDistinct {
		x.hide(n, s)
		s.status = retired
		return true, true
	}
	return true, false
}

// show makes a session a neighbour.
func (x *Index) show(n uint32, s *slot) {
	s.status = visible
	x.neighbour++
	x.pairs += int(s.distinct)
	for _, c := range s.log {
		it := &x.items[c.id()]
		it.clicks++
		if c.first() {
			it.df++
			x.push(c.id(), posting(n, x.gens[n]))
		}
	}
}

// hide takes a neighbour's share out of all counts; its postings go stale.
func (x *Index) hide(n uint32, s *slot) {
	x.gens[n]++
	s.status = hidden
	x.neighbour--
	x.pairs -= int(s.distinct)
	for _, c := range s.log {
		it := &x.items[c.id()]
		it.clicks--
		if c.first() {
			it.df--
			x.shrink(c.id())
		}
	}
}

// reserve makes room for one more click in a session, by dropping an old click
// of a full log or by evicting other sessions. It fails when there is no room.
func (x *Index) reserve(n uint32) bool {
	s := x.slot(n)
	if x.cfg.MaxClicks > 0 && len(s.log) >= x.cfg.MaxClicks {
		x.dropClick(s)
	}
	if len(s.log) < cap(s.log) {
		return true
	}
	want := max(minLog, 2*cap(s.log))
	if x.cfg.MaxClicks > 0 {
		want = min(want, max(x.cfg.MaxClicks, minLog))
	}
	for x.logLen-cap(s.log)+want > x.cfg.Clicks {
		if !x.evictOldest(n) {
			return false
		}
	}
	x.logLen += want - cap(s.log)
	log := make([]click, len(s.log), want)
	copy(log, s.log)
	s.log = log
	return true
}

// dropClick removes the oldest click whose item the session holds elsewhere, or
// the oldest of all when there is none or the session is retired.
func (x *Index) dropClick(s *slot) {
	at := 0
	if s.status != retired {
		at = max(0, slices.IndexFunc(s.log, func(c click) bool { return count(s.log, c.id()) > 1 }))
	}
	it := s.log[at].id()
	wasFirst := s.log[at].first()
	s.log = slices.Delete(s.log, at, at+1)
	if s.status == visible {
		x.items[it].clicks--
	}
	if !wasFirst {
		return
	}
	if i := slices.IndexFunc(s.log, func(c click) bool { return c.id() == it }); i >= 0 {
		s.log[i].item = it
		return
	}
	s.distinct--
	x.unref(it)
}

func count(log []click, it uint32) (n int) {
	for _, c := range log {
		if c.id() == it {
			n++
		}
	}
	return n
}

func (x *Index) unref(it uint32) {
	if x.items[it].refs--; x.items[it].refs == 0 {
		x.release(it)
	}
}

// open takes a slot for a new session, if need be from the least active one.
func (x *Index) open(key Key, at int64) uint32 {
	for x.byKey.n >= x.cfg.Sessions && x.evictOldest(none) {
		continue
	}
	var n uint32
	if last := len(x.free) - 1; last >= 0 {
		n = x.free[last]
		x.free = x.free[:last]
	} else {
		n = uint32(len(x.gens)) //nolint:gosec // bounded by Config.Sessions
		x.gens = append(grown(x.gens, x.cfg.Sessions), 0)
		x.recents = append(grown(x.recents, x.cfg.Sessions), 0)
		if int(n)>>chunkBits == len(x.chunks) {
			x.chunks = append(x.chunks, make([]slot, chunkLen))
		}
	}
	*x.slot(n) = slot{key: key, base: at - backwards, status: hidden}
	x.recents[n] = math.MinInt64
	x.byKey.add(key.hash(), n)
	x.link(n)
	return n
}

// expire evicts a few of the least active sessions when they are older than a
// time: as many as one click can add, and one more to catch up.
func (x *Index) expire(before int64) {
	for range 2 {
		if x.oldest == none || x.recents[x.oldest] >= before {
			return
		}
		x.evict(x.oldest)
	}
}

// evictOldest evicts the least active session, but for keep.
func (x *Index) evictOldest(keep uint32) bool {
	n := x.oldest
	if n == keep && n != none {
		n = x.slot(n).newer
	}
	if n == none {
		return false
	}
	x.evict(n)
	return true
}

func (x *Index) evict(n uint32) {
	s := x.slot(n)
	if s.status == visible {
		x.hide(n, s)
	}
	x.gens[n]++
	for _, c := range s.log {
		if c.first() {
			x.unref(c.id())
		}
	}
	x.byKey.remove(s.key.hash(), n)
	x.unlink(n)
	x.logLen -= cap(s.log)
	*s = slot{}
	x.free = append(x.free, n)
}

// Forget removes a session and all that it contributed.
func (x *Index) Forget(key Key) bool {
	n, ok := x.find(key)
	if ok {
		x.evict(n)
	}
	return ok
}

// link puts a session at the active end of the order.
func (x *Index) link(n uint32) {
	s := x.slot(n)
	s.newer, s.older = none, x.newest
	if x.newest != none {
		x.slot(x.newest).newer = n
	} else {
		x.oldest = n
	}
	x.newest = n
}

func (x *Index) unlink(n uint32) {
	s := x.slot(n)
	if s.newer != none {
		x.slot(s.newer).older = s.older
	} else {
		x.newest = s.older
	}
	if s.older != none {
		x.slot(s.older).newer = s.newer
	} else {
		x.oldest = s.newer
	}
}

func (x *Index) slot(n uint32) *slot { return &x.chunks[n>>chunkBits][n&(chunkLen-1)] }

func (x *Index) find(key Key) (uint32, bool) {
	return x.byKey.find(key.hash(), func(n uint32) bool { return x.slot(n).key == key })
}

// Has reports whether the index holds a session.
func (x *Index) Has(key Key) bool {
	_, ok := x.find(key)
	return ok
}

// Session appends the items that a session clicked, oldest first, repeats
// included.
func (x *Index) Session(dst []uint32, key Key) []uint32 {
	n, ok := x.find(key)
	if !ok {
		return dst
	}
	for _, c := range x.slot(n).log {
		dst = append(dst, c.id())
	}
	return dst
}

// Sessions returns how many sessions the index holds, and how many of them are
// neighbours.
func (x *Index) Sessions() (held, neighbours int) { return x.byKey.n, x.neighbour }

// Clock returns the time of the newest click, milliseconds since the epoch.
func (x *Index) Clock() int64 { return x.clock }

// Bytes returns the memory that the index holds, by its own account; at most
// Config.Bound.
func (x *Index) Bytes() int64 {
	b := int64(len(x.chunks)) * chunkLen * slotBytes
	b += int64(cap(x.gens))*4 + int64(cap(x.recents))*8
	b += int64(cap(x.free)+cap(x.freeItems))*4 + int64(cap(x.compact))*8
	b += x.byKey.bytes() + x.byID.bytes()
	b += int64(x.logLen) * clickBytes
	b += int64(x.ringLen) * 8
	b += int64(cap(x.items))*itemBytes + int64(x.idBytes)
	return b
}
