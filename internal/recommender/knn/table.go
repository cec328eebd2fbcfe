package knn

const tableMin = 64

// table is an open-addressing hash table from a hash to a number whose key lives
// elsewhere. An entry holds the upper half of the hash and the number plus one;
// zero is empty.
type table struct {
	entries []uint64
	n       int
}

func (t *table) bytes() int64 { return int64(len(t.entries)) * 8 }

// find returns the number for which same holds.
func (t *table) find(hash uint64, same func(uint32) bool) (uint32, bool) {
	if len(t.entries) == 0 {
		return 0, false
	}
	mask := uint64(len(t.entries) - 1) //nolint:gosec // never empty here
	tag := hash >> 32
	for i := tag & mask; ; i = (i + 1) & mask {
		e := t.entries[i]
		if e == 0 {
			return 0, false
		}
		if n := uint32(e) - 1; e>>32 == tag && same(n) { //nolint:gosec // the lower half on purpose
			return n, true
		}
	}
}

// add puts a number that is not in the table.
func (t *table) add(hash uint64, n uint32) {
	if 2*(t.n+1) > len(t.entries) {
		t.grow()
	}
	t.n++
	t.put(hash>>32<<32 | uint64(n+1))
}

func (t *table) put(e uint64) {
	mask := uint64(len(t.entries) - 1) //nolint:gosec // never empty here
	i := e >> 32 & mask
	for t.entries[i] != 0 {
		i = (i + 1) & mask
	}
	t.entries[i] = e
}

func (t *table) grow() {
	old := t.entries
	t.entries = make([]uint64, max(tableMin, 2*len(old)))
	for _, e := range old {
		if e != 0 {
			t.put(e)
		}
	}
}

// remove takes a number out and closes the gap, so that no tombstones pile up.
func (t *table) remove(hash uint64, n uint32) {
	if len(t.entries) == 0 {
		return
	}
	mask := uint64(len(t.entries) - 1) //nolint:gosec // never empty here
	want := hash>>32<<32 | uint64(n+1)
	i := want >> 32 & mask
	for t.entries[i] != want {
		if t.entries[i] == 0 {
			return
		}
		i = (i + 1) & mask
	}
	t.n--
	for j := (i + 1) & mask; t.entries[j] != 0; j = (j + 1) & mask {
		home := t.entries[j] >> 32 & mask
		if (j-home)&mask >= (j-i)&mask { // the entry may move back to i
			t.entries[i] = t.entries[j]
			i = j
		}
	}
	t.entries[i] = 0
}
