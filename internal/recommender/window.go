package recommender

import "math"

// window remembers the latest keys in two halves: when the younger is full, the
// older is dropped. So it holds at least the last limit/2 keys and at most limit.
type window[K comparable, V any] struct {
	limit int
	young map[K]V
	old   map[K]V
}

func newWindow[K comparable, V any](limit int) *window[K, V] {
	return &window[K, V]{limit: limit, young: map[K]V{}}
}

// get returns the value of a key that is remembered.
func (w *window[K, V]) get(k K) (V, bool) {
	if v, ok := w.young[k]; ok {
		return v, true
	}
	v, ok := w.old[k]
	return v, ok
}

func (w *window[K, V]) put(k K, v V) {
	if _, ok := w.young[k]; !ok && len(w.young) >= max(1, w.limit/2) {
		w.old, w.young = w.young, map[K]V{}
	}
	w.young[k] = v
}

func (w *window[K, V]) len() int { return len(w.young) + len(w.old) }

// each calls f for every key, the older half first.
func (w *window[K, V]) each(f func(K, V)) {
	for k, v := range w.old {
		if _, newer := w.young[k]; !newer {
			f(k, v)
		}
	}
	for k, v := range w.young {
		f(k, v)
	}
}

// recallIDs is how many of the newest events a rebuild knows again, at least half
// of it. Both halves of a full one take some 80 MB.
const recallIDs = 4 << 20

// recall remembers the events of a rebuild, which come again where passes over
// history overlap each other and the bus. Ids are cut to 64 bits: that two of four
// million are the same happens once in two million rebuilds.
type recall struct {
	limit int
	young map[uint64]struct{}
	old   map[uint64]struct{}
	upTo  [2]int64 // the newest collector time in young and old
	lost  int64    // the newest of what was dropped
}

func newRecall(limit int) *recall {
	return &recall{limit: limit, young: map[uint64]struct{}{}, upTo: [2]int64{math.MinInt64, math.MinInt64}, lost: math.MinInt64}
}

// add reports whether an event is new. What is as old as ids that were dropped
// counts as known when it may have come before: history gives events by time, so
// it was there before newer ones.
func (c *recall) add(id uint64, collected int64, again bool) bool {
	if _, ok := c.young[id]; ok {
		return false
	}
	if _, ok := c.old[id]; ok || again && collected <= c.lost {
		return false
	}
	if len(c.young) >= max(1, c.limit/2) {
		c.lost = max(c.lost, c.upTo[1])
		c.old, c.young = c.young, map[uint64]struct{}{}
		c.upTo = [2]int64{math.MinInt64, c.upTo[0]}
	}
	c.young[id] = struct{}{}
	c.upTo[0] = max(c.upTo[0], collected)
	return true
}
