package recommender

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
