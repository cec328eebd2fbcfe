package knn

// cell is what a search has gathered for one session or item.
type cell struct {
	key   uint32
	stamp uint32
	value float64
	at    int32 // sessions: position in the context of the newest match
}

// gatherer is a hash table that is emptied by counting up a stamp, so that one
// search leaves nothing to clear for the next.
type gatherer struct {
	cells []cell
	used  []uint32
	stamp uint32
	shift uint
}

func (g *gatherer) reset() {
	if g.cells == nil {
		g.cells = make([]cell, 256)
		g.shift = 32 - 8
	}
	g.used = g.used[:0]
	if g.stamp++; g.stamp == 0 { // wrapped: old stamps could come alive
		clear(g.cells)
		g.stamp = 1
	}
}

func (g *gatherer) place(key uint32) uint32 {
	mask := uint32(len(g.cells) - 1) //nolint:gosec // at most 2^32 cells
	i := key * 2654435769 >> g.shift
	for g.cells[i].stamp == g.stamp && g.cells[i].key != key {
		i = (i + 1) & mask
	}
	return i
}

// get returns the cell of a key, and whether it is new. The pointer holds until
// the next get.
func (g *gatherer) get(key uint32) (*cell, bool) {
	i := g.place(key)
	if c := &g.cells[i]; c.stamp == g.stamp {
		return c, false
	}
	if 2*(len(g.used)+1) > len(g.cells) {
		g.grow()
		i = g.place(key)
	}
	g.used = append(g.used, i)
	g.cells[i] = cell{key: key, stamp: g.stamp}
	return &g.cells[i], true
}

// peek returns the cell of a key that was gathered.
func (g *gatherer) peek(key uint32) (*cell, bool) {
	c := &g.cells[g.place(key)]
	return c, c.stamp == g.stamp
}

func (g *gatherer) grow() {
	old := g.cells
	g.cells = make([]cell, 2*len(old))
	g.shift--
	for n, i := range g.used {
		to := g.place(old[i].key)
		g.cells[to] = old[i]
		g.used[n] = to
	}
}
