package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
)

// The file format is described at https://www.sqlite.org/fileformat2.html.
const (
	scrubPages = 256 // pages that one read looks at
	scrubWrite = 32  // pages of one transaction

	pendingByte = 1 << 30 // the page with it is never used
	mapEntry    = 5       // bytes of an entry of a pointer map: type and parent
	mapRoot     = 1       // type of a page that is the root of a tree
	mapTree     = 5       // and of one that is another page of a tree
)

// readTrees reads the pages of a range that begin as pages of a tree do.
const readTrees = `WITH RECURSIVE n(page) AS (VALUES (?1) UNION ALL SELECT page + 1 FROM n WHERE page < ?2)
SELECT n.page, p.data FROM n CROSS JOIN sqlite_dbpage AS p ON p.pgno = n.page
WHERE substr(p.data, 1, 1) IN (x'02', x'05', x'0a', x'0d')`

const readPage = "SELECT data FROM sqlite_dbpage WHERE pgno = ?"

// layout tells which pages belong to a tree. Others may begin alike: the bytes of
// an overflow page are anybody's.
type layout struct {
	size    int64 // of a page
	mapped  int64 // pages that one page of the pointer map describes; 0 when the file has none
	pending int64 // number of the page that is never used
}

func (s *SQLite) layout(ctx context.Context) (layout, error) {
	var l layout
	var vacuum int64
	var head []byte
	for query, into := range map[string]any{
		"PRAGMA auto_vacuum": &vacuum, "PRAGMA page_size": &l.size,
		"SELECT substr(data, 1, 100) FROM sqlite_dbpage WHERE pgno = 1": &head,
	} {
		if err := s.read(ctx, query, nil, func(rows *sql.Rows) (bool, error) { return false, rows.Scan(into) }); err != nil {
			return l, fmt.Errorf("%s: %w", query, err)
		}
	}
	l.pending = pendingByte/l.size + 1
	if vacuum != 0 && len(head) == 100 {
		l.mapped = (l.size - int64(head[20])) / mapEntry // without what is reserved in each page
	}
	return l, nil
}

// mapOf returns the page of the pointer map that describes page n, n itself when it
// is such a page, and where in it n's entry is.
func (l layout) mapOf(n int64) (page, at int64) {
	page = (n-2)/(l.mapped+1)*(l.mapped+1) + 2
	if page == l.pending {
		page++
	}
	return page, (n - page - 1) * mapEntry
}

// inTree reports whether page n belongs to a tree. read returns the bytes of a page.
func (l layout) inTree(n int64, read func(n int64) ([]byte, error)) (bool, error) {
	if n < 2 || n == l.pending || l.mapped == 0 {
		return false, nil
	}
	m, at := l.mapOf(n)
	if at < 0 {
		return false, nil // a page of the map
	}
	page, err := read(m)
	if err != nil || at >= int64(len(page)) {
		return false, err
	}
	return page[at] == mapRoot || page[at] == mapTree, nil
}

// scrubPages overwrites the unused parts of all pages of tables and indices. A row
// that SQLite once moved to another page may still be seen there.
func (s *SQLite) scrubPages(ctx context.Context) error {
	l, err := s.layout(ctx)
	if err != nil {
		return err
	}
	for first := int64(2); ; first += scrubPages {
		dirty, more, err := s.dirtyPages(ctx, first, first+scrubPages-1)
		if err != nil {
			return err
		}
		for len(dirty) > 0 {
			n := min(len(dirty), scrubWrite)
			if err := s.cleanPages(ctx, l, dirty[:n]); err != nil {
				return err
			}
			dirty = dirty[n:]
		}
		if !more {
			return nil
		}
	}
}

// dirtyPages returns the pages of a range that may need cleaning, and whether there
// are pages after it. The first page of the file, which holds no rows of ours, is
// never among them.
func (s *SQLite) dirtyPages(ctx context.Context, first, last int64) (dirty []int64, more bool, err error) {
	var pages int64
	err = s.read(ctx, "PRAGMA page_count", nil, func(rows *sql.Rows) (bool, error) { return false, rows.Scan(&pages) })
	if err != nil {
		return nil, false, fmt.Errorf("count pages: %w", err)
	}
	err = s.read(ctx, readTrees, []any{first, min(last, pages)}, func(rows *sql.Rows) (bool, error) {
		var n int64
		var page sql.RawBytes
		if err := rows.Scan(&n, &page); err != nil {
			return false, err
		}
		if clean(page, false) {
			dirty = append(dirty, n)
		}
		return true, nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("read pages %d to %d: %w", first, last, err)
	}
	return dirty, last < pages, nil
}

func (s *SQLite) cleanPages(ctx context.Context, l layout, pages []int64) error {
	if err := s.acquire(ctx); err != nil {
		return err
	}
	defer s.release()
	_, err := s.change(func() (int64, error) {
		for _, n := range pages {
			if err := s.cleanPage(l, n); err != nil {
				return 0, fmt.Errorf("page %d: %w", n, err)
			}
		}
		return int64(len(pages)), nil
	})
	return err
}

// cleanPage looks again, in the transaction that writes: the page may have become
// another since.
func (s *SQLite) cleanPage(l layout, n int64) error {
	ok, err := l.inTree(n, s.page)
	if err != nil || !ok {
		return err
	}
	page, err := s.page(n)
	if err != nil || !clean(page, true) {
		return err
	}
	_, err = s.writer.exec("UPDATE sqlite_dbpage SET data = ? WHERE pgno = ?", page, n)
	return err
}

// page returns the bytes of a page, none when there is no such page.
func (s *SQLite) page(n int64) ([]byte, error) {
	row, err := s.writer.first(readPage, n)
	if err != nil || len(row) == 0 {
		return nil, err
	}
	page, ok := row[0].([]byte)
	if !ok {
		return nil, fmt.Errorf("page %d is a %T", n, row[0])
	}
	return page, nil
}

// clean finds the unused bytes of a page of a tree, zeroes them when write is set,
// and reports whether any was not zero. It touches nothing of a page that is not
// exactly as such a page must be.
func clean(page []byte, write bool) bool {
	spans, ok := unused(page)
	if !ok {
		return false
	}
	dirty := false
	for _, span := range spans {
		for i := range span {
			if span[i] != 0 {
				dirty = true
				if !write {
					return true
				}
				span[i] = 0
			}
		}
	}
	return dirty
}

// headers are the bytes before the list of cells, by the kind of page: inner pages
// of indices and tables, and their leaves.
var headers = map[byte]int{0x02: 12, 0x05: 12, 0x0a: 8, 0x0d: 8}

// unused returns the parts of a page that hold nothing: the gap between its list
// of cells and the first cell, and the free blocks between cells without their
// four bytes of header.
func unused(page []byte) (spans [][]byte, ok bool) {
	if len(page) < 512 || headers[page[0]] == 0 {
		return nil, false
	}
	header := headers[page[0]]
	cells := int(binary.BigEndian.Uint16(page[3:]))
	content := int(binary.BigEndian.Uint16(page[5:]))
	if content == 0 {
		content = 1 << 16
	}
	list := header + 2*cells
	if list > content || content > len(page) {
		return nil, false
	}
	for i := range cells {
		if at := int(binary.BigEndian.Uint16(page[header+2*i:])); at < content || at > len(page)-4 {
			return nil, false
		}
	}
	spans = append(spans, page[list:content])
	for before, at := content-1, int(binary.BigEndian.Uint16(page[1:])); at != 0; {
		if at <= before || at > len(page)-4 {
			return nil, false
		}
		next, size := int(binary.BigEndian.Uint16(page[at:])), int(binary.BigEndian.Uint16(page[at+2:]))
		if size < 4 || at+size > len(page) {
			return nil, false
		}
		spans = append(spans, page[at+4:at+size])
		before, at = at+size-1, next
	}
	return spans, true
}
