package inspector

import "sync"

// ring holds the newest entries within a limit on their number and bytes. Every
// entry has a sequence number, from 1; readers keep the number they have seen.
type ring[T any] struct {
	mu       sync.Mutex
	entries  []slot[T] // circular
	head     int       // index of the oldest
	count    int
	bytes    int64
	maxBytes int64
	next     uint64 // sequence number of the next entry
	watchers map[chan struct{}]struct{}
}

type slot[T any] struct {
	value *T
	size  int64
}

func newRing[T any](entries int, maxBytes int64) *ring[T] {
	return &ring[T]{entries: make([]slot[T], entries), maxBytes: maxBytes, next: 1, watchers: map[chan struct{}]struct{}{}}
}

// add appends entries, oldest first, and wakes the watchers. It returns the
// bytes held. skipped counts entries that came before them but were not packed,
// since so many newer ones followed: they get numbers, as if they had been here
// and gone.
func (r *ring[T]) add(skipped uint64, values []*T, size func(*T) int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if skipped > 0 {
		for r.count > 0 {
			r.evict()
		}
		r.next += skipped
	}
	for _, v := range values {
		n := size(v)
		for r.count > 0 && (r.count == len(r.entries) || r.bytes+n > r.maxBytes) {
			r.evict()
		}
		r.entries[(r.head+r.count)%len(r.entries)] = slot[T]{v, n}
		r.count++
		r.bytes += n
		r.next++
	}
	for w := range r.watchers {
		select {
		case w <- struct{}{}:
		default: // it has a wake-up waiting
		}
	}
	return r.bytes
}

func (r *ring[T]) evict() {
	r.bytes -= r.entries[r.head].size
	r.entries[r.head] = slot[T]{}
	r.head = (r.head + 1) % len(r.entries)
	r.count--
}

// clear lets go of every entry. Their numbers are not given again.
func (r *ring[T]) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.count > 0 {
		r.evict()
	}
}

// since returns the entries after the sequence number seen, oldest first, the
// number of the last one, and how many were gone already.
func (r *ring[T]) since(seen uint64) (values []*T, last, missed uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last = r.next - 1
	if seen >= last {
		return nil, last, 0
	}
	want := last - seen
	have := min(want, uint64(r.count))            //nolint:gosec // count is never negative
	return r.newest(int(have)), last, want - have //nolint:gosec // at most the ring's length
}

// latest returns up to n of the newest entries, oldest first.
func (r *ring[T]) latest(n int) []*T {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.newest(min(n, r.count))
}

func (r *ring[T]) newest(n int) []*T {
	out := make([]*T, n)
	for i := range out {
		out[i] = r.entries[(r.head+r.count-n+i)%len(r.entries)].value
	}
	return out
}

// back returns the sequence number after which n entries are held, fewer when
// there are not so many.
func (r *ring[T]) back(n int) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next - 1 - uint64(min(n, r.count)) //nolint:gosec // neither is negative
}

func (r *ring[T]) watch(c chan struct{}) (stop func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watchers[c] = struct{}{}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.watchers, c)
	}
}
