package knn

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// Query asks for the items that come next.
type Query struct {
	// Context is what the session clicked, oldest first, repeats included. Numbers
	// that the index never gave out stand for items it does not know.
	Context []uint32
	Own     Key // the asking session, which must not be its own neighbour
	HasOwn  bool
	Exclude []uint32 // items that must not be returned
	N       int      // how many items
	Explain bool     // name the neighbours, and each item's reasons
}

// Scored is an item with its score.
type Scored struct {
	Item    uint32
	Score   float64
	Reasons []uint32 // items of the context that led to it, strongest first
}

// Neighbour is a session that was near.
type Neighbour struct {
	Key        Key
	Similarity float64
}

// Result is the answer to a Query.
type Result struct {
	Items      []Scored    // by score, then by id: shorter first, then by bytes
	Neighbours []Neighbour // nearest first; only when explained
}

// candidate is a session that shares items with the context.
type candidate struct {
	slot   uint32
	match  int32 // position of the newest match in the context
	recent int64
	sim    float64 // numerator
}

// looked is a distinct item of the context.
type looked struct {
	item   uint32
	pos    int // 1 = oldest; 0: outside the window
	weight float64
}

// scratch is the room that one search needs.
type scratch struct {
	sessions gatherer
	items    gatherer
	looked   []looked
	found    []candidate
	scored   []Scored
}

// Search finds the sessions nearest to a context and ranks their items.
func (x *Index) Search(q Query, p *Params) Result {
	sc, _ := x.pool.Get().(*scratch)
	defer x.pool.Put(sc)
	n := sc.look(q.Context, p)
	if n == 0 || q.N <= 0 {
		return Result{}
	}
	weights := sc.weigh(p, n)
	x.gather(sc, q)
	found := x.nearest(sc, p, weights)
	x.spread(sc, found, p, weights, n)
	for _, item := range q.Exclude {
		if c, ok := sc.items.peek(item); ok {
			c.value = math.Inf(-1)
		}
	}
	r := Result{Items: x.rank(sc, p, weights, q.N)}
	if q.Explain {
		x.explain(sc, found, &r, weights)
	}
	return r
}

// look lists the distinct items of the context, newest first, at the position of
// their newest occurrence inside the window, and returns the window's length.
func (sc *scratch) look(context []uint32, p *Params) int {
	sc.looked = sc.looked[:0]
	n, from := len(context), 0
	if p.LastN > 0 && n > p.LastN {
		from = n - p.LastN
		n = p.LastN
	}
	for i, item := range slices.Backward(context) {
		if i < from && p.Variant == VMIS {
			break
		}
		if !slices.ContainsFunc(sc.looked, func(l looked) bool { return l.item == item }) {
			sc.looked = append(sc.looked, looked{item: item, pos: max(i-from+1, 0)})
		}
	}
	return n
}

// similarity says how numerators become similarities.
type similarity struct {
	den    float64 // of every candidate
	norm   bool    // divide by the root of a candidate's distinct items, too
	period float64 // VSTAN: milliseconds in which a session loses 1-1/e; 0: never
}

func (sc *scratch) weigh(p *Params, n int) similarity {
	var s similarity
	distinct, squares := 0, 0.0
	den := 1.0
	for i := range sc.looked {
		l := &sc.looked[i]
		if l.pos == 0 {
			continue
		}
		distinct++
		switch p.Variant {
		case VMIS:
			l.weight = float64(l.pos)
		case VSkNN:
			l.weight, den = p.Weight.weigh(l.pos, n)
		case VSTAN:
			l.weight = math.Exp(float64(l.pos-n) / p.L1)
		}
		squares += l.weight * l.weight
	}
	s.den = den * float64(distinct)
	if p.Variant == VSTAN || p.Variant == VSkNN && p.Cosine {
		s.norm = true
		s.den = math.Sqrt(squares) // a common denominator cancels out
	}
	if p.Variant == VSTAN {
		s.period = p.L2 * 24 * 3600 * 1000
	}
	return s
}

// gather adds up the weights of the context's items over the sessions that hold
// them.
func (x *Index) gather(sc *scratch, q Query) {
	own, hasOwn := uint32(0), false
	if q.HasOwn {
		own, hasOwn = x.find(q.Own)
	}
	sc.sessions.reset()
	for _, l := range sc.looked {
		if int(l.item) >= len(x.items) {
			continue // unknown, but it counts as a place in the context
		}
		it := &x.items[l.item]
		at := it.head
		for range it.n {
			if at == 0 {
				at = uint32(len(it.ring)) //nolint:gosec // bounded by Config.Postings
			}
			at--
			p := it.ring[at]
			slot := uint32(p >> 32)
			if !x.alive(p) || hasOwn && slot == own {
				continue
			}
			c, isNew := sc.sessions.get(slot)
			if isNew {
				c.at = int32(l.pos) //nolint:gosec // a context is short
			}
			c.value += l.weight
		}
	}
	sc.found = sc.found[:0]
	for _, i := range sc.sessions.used {
		c := &sc.sessions.cells[i]
		sc.found = append(sc.found, candidate{slot: c.key, match: c.at, sim: c.value, recent: x.recents[c.key]})
	}
}

// nearest keeps the M most recent candidates and of them the K most similar.
func (x *Index) nearest(sc *scratch, p *Params, s similarity) []candidate {
	newer := func(a, b candidate) int {
		if a.recent != b.recent {
			return cmp.Compare(b.recent, a.recent)
		}
		return x.slot(b.slot).key.compare(x.slot(a.slot).key)
	}
	found := top(sc.found, p.M, newer)
	kept := found[:0]
	for _, c := range found {
		if c.match == 0 || c.sim <= 0 {
			continue // found through an item outside the window only
		}
		if s.norm {
			c.sim /= math.Sqrt(float64(x.slot(c.slot).distinct))
		}
		if s.period > 0 {
			c.sim *= math.Exp(-float64(x.clock-c.recent) / s.period)
		}
		kept = append(kept, c)
	}
	nearer := func(a, b candidate) int {
		if a.sim != b.sim {
			return cmp.Compare(b.sim, a.sim)
		}
		return newer(a, b)
	}
	kept = top(kept, p.K, nearer)
	slices.SortFunc(kept, nearer)
	return kept
}

// spread gives each neighbour's similarity to its items. Sums run in the order
// of the neighbours, so that equal inputs give equal bits.
func (x *Index) spread(sc *scratch, found []candidate, p *Params, s similarity, n int) {
	sc.items.reset()
	for _, c := range found {
		weight, log := c.sim, x.slot(c.slot).log
		d := n + 1 - int(c.match)
		switch p.Variant {
		case VMIS:
			num, _ := Linear.decay(d)
			weight *= num
		case VSkNN:
			num, _ := p.Match.decay(d)
			weight *= num
		case VSTAN:
			weight *= math.Exp(float64(1-d)/p.L4) / s.den
			sc.spreadNear(log, weight, p.L3)
			continue
		}
		if weight == 0 {
			continue
		}
		// The denominator is the same for all neighbours: rank divides once.
		for _, click := range log {
			if click.first() {
				cell, _ := sc.items.get(click.id())
				cell.value += weight
			}
		}
	}
}

// spreadNear weighs a neighbour's items by the distance of their newest
// occurrence to the newest click that the context shares.
func (sc *scratch) spreadNear(log []click, weight, l3 float64) {
	shared := 0
	for i := len(log) - 1; i > 0; i-- {
		if slices.ContainsFunc(sc.looked, func(l looked) bool { return l.pos > 0 && l.item == log[i].id() }) {
			shared = i
			break
		}
	}
	repeats := slices.ContainsFunc(log, func(c click) bool { return !c.first() })
	for i, c := range log {
		if !c.first() {
			continue
		}
		last := i
		for j := len(log) - 1; repeats && j >= 0; j-- {
			if log[j].id() == c.id() {
				last = j
				break
			}
		}
		cell, _ := sc.items.get(c.id())
		cell.value += weight * math.Exp(-math.Abs(float64(last-shared))/l3)
	}
}

func (sc *scratch) itemAt(pos int32) uint32 {
	for _, l := range sc.looked {
		if l.pos == int(pos) {
			return l.item
		}
	}
	return none
}

// rank applies the inverse document frequency and returns the n best items.
func (x *Index) rank(sc *scratch, p *Params, s similarity, n int) []Scored {
	den := s.den
	switch p.Variant {
	case VMIS:
		_, by := Linear.decay(1)
		den *= by
	case VSkNN:
		_, by := p.Match.decay(1)
		den *= by
	case VSTAN:
		den = 1 // already divided
	}
	sc.scored = sc.scored[:0]
	for _, i := range sc.items.used {
		c := &sc.items.cells[i]
		if math.IsInf(c.value, -1) {
			continue
		}
		sc.scored = append(sc.scored, Scored{Item: c.key, Score: c.value / den * x.rarity(c.key, p)})
	}
	better := func(a, b Scored) int {
		if a.Score != b.Score {
			return cmp.Compare(b.Score, a.Score)
		}
		return CompareIDs(x.items[a.Item].id, x.items[b.Item].id)
	}
	best := top(sc.scored, n, better)
	slices.SortFunc(best, better)
	return slices.Clone(best)
}

// rarity returns the factor of an item's inverse document frequency.
func (x *Index) rarity(item uint32, p *Params) float64 {
	if p.IDF <= 0 {
		return 1
	}
	it := &x.items[item]
	if p.Variant == VMIS {
		if idf := p.IDF * math.Log(float64(x.pairs)/float64(it.df)); idf > 0 {
			return idf
		}
		return 1
	}
	return 1 + p.IDF*math.Log(float64(x.neighbour)/float64(it.clicks))
}

// explain names the neighbours, and for each item the context's items through
// which they were found.
func (x *Index) explain(sc *scratch, found []candidate, r *Result, s similarity) {
	for _, c := range found {
		r.Neighbours = append(r.Neighbours, Neighbour{Key: x.slot(c.slot).key, Similarity: c.sim / s.den})
	}
	for i := range r.Items {
		it := &r.Items[i]
		weight := map[uint32]float64{}
		for _, c := range found {
			if slices.ContainsFunc(x.slot(c.slot).log, func(cl click) bool { return cl.id() == it.Item }) {
				weight[sc.itemAt(c.match)] += c.sim
			}
		}
		for item := range weight {
			it.Reasons = append(it.Reasons, item)
		}
		slices.SortFunc(it.Reasons, func(a, b uint32) int {
			return cmp.Or(cmp.Compare(weight[b], weight[a]), cmp.Compare(a, b))
		})
	}
}

// CompareIDs orders item ids: the shorter first, then by bytes, so that whole
// numbers without leading zeros come in their order.
func CompareIDs(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// top returns the n first elements of s in the order of compare, unsorted; s is
// rearranged. It is quickselect with the median of three.
func top[T any](s []T, n int, compare func(a, b T) int) []T {
	if len(s) <= n {
		return s
	}
	lo, hi := 0, len(s)
	for hi-lo > 12 {
		pivot := median(s[lo], s[lo+(hi-lo)/2], s[hi-1], compare)
		i, j := lo, hi-1
		for i <= j {
			for compare(s[i], pivot) < 0 {
				i++
			}
			for compare(s[j], pivot) > 0 {
				j--
			}
			if i <= j {
				s[i], s[j] = s[j], s[i]
				i++
				j--
			}
		}
		switch {
		case n <= j:
			hi = j + 1
		case n >= i:
			lo = i
		default:
			return s[:n]
		}
	}
	slices.SortFunc(s[lo:hi], compare)
	return s[:n]
}

func median[T any](a, b, c T, compare func(a, b T) int) T {
	if compare(a, b) > 0 {
		a, b = b, a
	}
	if compare(b, c) > 0 {
		b = c
		if compare(a, b) > 0 {
			b = a
		}
	}
	return b
}
