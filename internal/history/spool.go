package history

import (
	"bufio"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// spoolBytes is how much a spool holds in memory.
const spoolBytes = 64 << 20

// item is a record, or the line of an event that came without one.
type item struct {
	ms   int64 // collector time
	line bool
	data []byte
}

// itemWeight is what an item holds besides its data.
const itemWeight = 64

// spool sorts items by time; those of one time keep their order. What exceeds its
// memory goes to unnamed files in between.
type spool struct {
	dir   string
	limit int
	items []item
	bytes int
	runs  []*os.File // sorted, the oldest items first among equals
}

func (s *spool) add(it item) error {
	s.items = append(s.items, it)
	if s.bytes += itemWeight + len(it.data); s.bytes < s.limit {
		return nil
	}
	return s.spill()
}

func (s *spool) sort() {
	slices.SortStableFunc(s.items, func(a, b item) int { return cmp.Compare(a.ms, b.ms) })
}

// spill writes what is in memory to a file.
func (s *spool) spill() error {
	if err := os.MkdirAll(s.dir, 0o750); err != nil {
		return fmt.Errorf("history: sort on disk: %w", err)
	}
	f, err := os.CreateTemp(s.dir, ".sort-*")
	if err != nil {
		return fmt.Errorf("history: sort on disk: %w", err)
	}
	s.runs = append(s.runs, f)
	// What people did must not stay behind when the process dies: without a name the
	// file goes with it.
	if err := os.Remove(f.Name()); err != nil {
		return fmt.Errorf("history: sort on disk: %w", err)
	}
	s.sort()
	w := bufio.NewWriterSize(f, 1<<18)
	for _, it := range s.items {
		if err := it.write(w); err != nil {
			return fmt.Errorf("history: sort on disk: %w", err)
		}
	}
	err = w.Flush()
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return fmt.Errorf("history: sort on disk: %w", err)
	}
	clear(s.items)
	s.items, s.bytes = s.items[:0], 0
	return nil
}

const itemHead = 8 + 1 + 4

func (it *item) write(w *bufio.Writer) error {
	var head [itemHead]byte
	binary.LittleEndian.PutUint64(head[:], uint64(it.ms)) //nolint:gosec // two's complement on purpose
	if it.line {
		head[8] = 1
	}
	binary.LittleEndian.PutUint32(head[9:], uint32(len(it.data))) //nolint:gosec // records are far smaller
	_, err := w.Write(head[:])
	if err != nil {
		return err
	}
	_, err = w.Write(it.data)
	return err
}

func readItem(r *bufio.Reader) (item, error) {
	var head [itemHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return item{}, err
	}
	it := item{
		ms:   int64(binary.LittleEndian.Uint64(head[:])), //nolint:gosec // two's complement on purpose
		line: head[8] == 1,
		data: make([]byte, binary.LittleEndian.Uint32(head[9:])),
	}
	if _, err := io.ReadFull(r, it.data); err != nil {
		return item{}, fmt.Errorf("an item is cut short: %w", err)
	}
	return it, nil
}

// each calls fn for every item, the oldest first, until it fails.
func (s *spool) each(fn func(item) error) error {
	if len(s.runs) == 0 {
		s.sort()
		for _, it := range s.items {
			if err := fn(it); err != nil {
				return err
			}
		}
		return nil
	}
	if err := s.spill(); err != nil {
		return err
	}
	var m merge
	for i, f := range s.runs {
		if err := m.next(&run{order: i, from: bufio.NewReaderSize(f, 1<<16)}); err != nil {
			return err
		}
	}
	heap.Init(&m)
	for len(m) > 0 {
		r := m[0]
		if err := fn(r.first); err != nil {
			return err
		}
		it, err := readItem(r.from)
		switch {
		case errors.Is(err, io.EOF):
			heap.Pop(&m)
		case err != nil:
			return fmt.Errorf("history: sort on disk: %w", err)
		default:
			r.first = it
			heap.Fix(&m, 0)
		}
	}
	return nil
}

// clear empties the spool and gives its files back.
func (s *spool) clear() {
	for _, f := range s.runs {
		f.Close()
	}
	clear(s.items)
	s.items, s.runs, s.bytes = s.items[:0], nil, 0
}

// run is a file of a spool.
type run struct {
	order int
	from  *bufio.Reader
	first item
}

// merge is a heap of runs by their first items.
type merge []*run

// next adds a run unless it is empty; heap.Init comes after the last.
func (m *merge) next(r *run) (err error) {
	r.first, err = readItem(r.from)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("history: sort on disk: %w", err)
	}
	*m = append(*m, r)
	return nil
}

func (m merge) Len() int { return len(m) }

func (m merge) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(m[i].first.ms, m[j].first.ms), cmp.Compare(m[i].order, m[j].order)) < 0
}

func (m merge) Swap(i, j int) { m[i], m[j] = m[j], m[i] }

// Push is for package heap.
func (m *merge) Push(r any) { *m = append(*m, r.(*run)) }

// Pop is for package heap.
func (m *merge) Pop() any {
	last := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return last
}
