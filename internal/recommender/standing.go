package recommender

import (
	"cmp"
	"math"
	"slices"
	"time"
	"unsafe"
)

// standing is what is known of an item beside its sessions. Decayed weights are
// kept without their decay, as log2(sum of w x 2^(t/halfLife)); the weight now is
// 2^(that - now/halfLife). So their order does not change as time passes, and
// nothing has to be touched but what was clicked.
type standing struct {
	hot     float64
	popular float64
	since   int64 // first click, milliseconds since the epoch; 0: none
	next    []partner
	nextAt  int64 // the time for which the partners' weights hold
}

// partner is an item that followed another in a session.
type partner struct {
	item   uint32
	gen    uint32 // generation of the item's number
	weight float32
}

const (
	maxPartners   = 32
	standingBytes = int64(unsafe.Sizeof(standing{}))
	partnerBytes  = int64(unsafe.Sizeof(partner{}))
	// ruleSteps is how many earlier clicks a click is said to follow.
	ruleSteps = 3
)

// standings hold every item's standing, by item number, and the leaders.
type standings struct {
	items      []standing
	limit      int
	hotLife    float64 // milliseconds
	popLife    float64
	hot        board
	popular    board
	newest     board
	generation func(item uint32) uint32
}

func newStandings(c Config, generation func(uint32) uint32) *standings {
	ms := func(d time.Duration) float64 { return float64(d.Milliseconds()) }
	return &standings{limit: c.Limits.Items, hotLife: ms(c.Trending), popLife: ms(c.Popular), generation: generation}
}

func (s *standings) of(item uint32) *standing {
	for int(item) >= len(s.items) {
		if len(s.items) == cap(s.items) {
			s.items = slices.Grow(s.items, max(1, min(max(1024, len(s.items)), s.limit-len(s.items))))
		}
		s.items = append(s.items, standing{hot: math.Inf(-1), popular: math.Inf(-1)})
	}
	return &s.items[item]
}

// get returns an item's standing without making one.
func (s *standings) get(item uint32) standing {
	if int(item) < len(s.items) {
		return s.items[item]
	}
	return standing{hot: math.Inf(-1), popular: math.Inf(-1)}
}

// count adds a weight to an item's popularity at a time.
func (s *standings) count(item uint32, weight float64, at int64) {
	it := s.of(item)
	it.hot = addLog(it.hot, math.Log2(weight)+float64(at)/s.hotLife)
	it.popular = addLog(it.popular, math.Log2(weight)+float64(at)/s.popLife)
	if it.since == 0 {
		it.since = at
	}
	s.lead(item, it)
}

func (s *standings) lead(item uint32, it *standing) {
	s.hot.raise(item, it.hot)
	s.popular.raise(item, it.popular)
	s.newest.raise(item, float64(it.since))
}

// addLog returns log2(2^a + 2^b).
func addLog(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(b, -1) {
		return a
	}
	return a + math.Log2(1+math.Exp2(b-a))
}

// follow records that an item was clicked after others, the last of which came
// just before it.
func (s *standings) follow(before []uint32, item uint32, at int64) {
	for q := 1; q <= ruleSteps && q <= len(before); q++ {
		if prev := before[len(before)-q]; prev != item {
			s.pair(prev, item, 1/float32(q), at)
		}
	}
}

func (s *standings) pair(prev, item uint32, weight float32, at int64) {
	it := s.of(prev)
	if at > it.nextAt {
		decay := float32(math.Exp2(-float64(at-it.nextAt) / s.popLife))
		for i := range it.next {
			it.next[i].weight *= decay
		}
		it.nextAt = at
	} else {
		weight *= float32(math.Exp2(-float64(it.nextAt-at) / s.popLife))
	}
	gen := s.generation(item)
	least := 0
	for i := range it.next {
		p := &it.next[i]
		if p.item == item {
			if p.gen != gen { // another item had the number
				*p = partner{item: item, gen: gen}
			}
			p.weight += weight
			return
		}
		if p.weight < it.next[least].weight {
			least = i
		}
	}
	if len(it.next) < maxPartners {
		if len(it.next) == cap(it.next) {
			it.next = slices.Grow(it.next, min(max(4, len(it.next)), maxPartners-len(it.next)))
		}
		it.next = append(it.next, partner{item: item, gen: gen, weight: weight})
		return
	}
	// Space saving: the newcomer takes the place and the weight of the least.
	it.next[least] = partner{item: item, gen: gen, weight: it.next[least].weight + weight}
}

// drop forgets an item whose number was reclaimed.
func (s *standings) drop(item uint32) {
	if int(item) >= len(s.items) {
		return
	}
	s.items[item] = standing{hot: math.Inf(-1), popular: math.Inf(-1)}
	s.hot.remove(item)
	s.popular.remove(item)
	s.newest.remove(item)
}

// boardLen covers the longest list, and as many that a request may leave out.
const boardLen = 512

// board keeps the leading items by a score that only ever rises.
type board struct {
	places []place // best first
}

type place struct {
	item  uint32
	score float64
}

func (b *board) raise(item uint32, score float64) {
	if len(b.places) == boardLen && score <= b.places[boardLen-1].score {
		return // also when it leads already: scores only rise
	}
	at := slices.IndexFunc(b.places, func(p place) bool { return p.item == item })
	switch {
	case at >= 0:
		b.places[at].score = score
	case len(b.places) < boardLen:
		b.places = append(b.places, place{item, score})
		at = len(b.places) - 1
	default:
		at = boardLen - 1
		b.places[at] = place{item, score}
	}
	for ; at > 0 && cmp.Or(cmp.Compare(b.places[at-1].score, score), cmp.Compare(item, b.places[at-1].item)) < 0; at-- {
		b.places[at-1], b.places[at] = b.places[at], b.places[at-1]
	}
}

func (b *board) remove(item uint32) {
	b.places = slices.DeleteFunc(b.places, func(p place) bool { return p.item == item })
}
