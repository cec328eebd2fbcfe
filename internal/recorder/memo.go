package recorder

import (
	"container/list"
	"sync"

	"furrow/internal/bus"
	"furrow/internal/enrich"
)

// side is one of the two groups, as the memo tells them apart.
type side int

const (
	storeSide side = iota
	archiveSide
)

type place struct {
	partition string
	position  bus.Position
}

// memo lets two groups share one pass of enrichment: whichever comes first to a
// record fills an entry, the other takes it. What is not taken is evicted, oldest
// first, so a group far behind costs no more than the limit and enriches for
// itself.
type memo struct {
	limit int64

	mu      sync.Mutex
	size    int64
	entries map[place]*entry
	order   *list.List // of *entry, oldest first
	at      map[string]*[2]bus.Position
}

// entry is the result for one record, there once ready is closed.
type entry struct {
	where  place
	size   int64
	self   *list.Element // nil once it left the memo; under memo.mu
	ready  chan struct{}
	result enrich.Result
	ok     bool // false: whoever was to fill it gave up
}

func newMemo(limit int64) *memo {
	return &memo{limit: limit, entries: map[place]*entry{}, order: list.New(), at: map[string]*[2]bus.Position{}}
}

// claim returns the entry for a record and whether the caller is to fill it. The
// entry is nil when there is nobody to share with.
func (m *memo) claim(who side, where place, size int64) (e *entry, fill bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.entries[where]; e != nil {
		m.drop(e)
		return e, false
	}
	if at := m.at[where.partition]; at != nil && where.position <= at[1-who] {
		return nil, true // the other group has passed here
	}
	e = &entry{where: where, size: size, ready: make(chan struct{})}
	e.self = m.order.PushBack(e)
	m.entries[where] = e
	m.size += size
	m.evict()
	return e, true
}

// passed notes how far a group has come.
func (m *memo) passed(who side, partition string, last bus.Position) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.at[partition]
	if at == nil {
		at = new([2]bus.Position)
		m.at[partition] = at
	}
	at[who] = last
}

// fill hands the result, of so many bytes, to whoever takes the entry.
func (m *memo) fill(e *entry, result enrich.Result, size int64, ok bool) {
	e.result, e.ok = result, ok
	close(e.ready)
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.self == nil {
		return
	}
	if !ok || size > m.limit { // do not push out all others for nothing
		m.drop(e)
		return
	}
	m.size += size - e.size
	e.size = size
	m.evict()
}

// empty lets go of all results. What is being filled is handed to those who wait for
// it already, and to nobody else.
func (m *memo) empty() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.entries {
		m.drop(e)
	}
}

func (m *memo) evict() {
	for m.size > m.limit && m.order.Len() > 0 {
		if e, ok := m.order.Front().Value.(*entry); ok {
			m.drop(e)
		}
	}
}

func (m *memo) drop(e *entry) {
	m.order.Remove(e.self)
	e.self = nil
	delete(m.entries, e.where)
	m.size -= e.size
}
