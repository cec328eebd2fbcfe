package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/binary"
	"fmt"
)

const (
	scrubPages = 256 // pages that one read looks at
	scrubWrite = 32  // pages of one transaction
	// leafOfTable is the first byte of a page that holds rows. The file format is
	// described at https://www.sqlite.org/fileformat2.html#b_tree_pages.
	leafOfTable = 0x0d
)

// readLeaves reads pages that hold rows, and others that begin alike.
const readLeaves = `WITH RECURSIVE n(page) AS (VALUES (?1) UNION ALL SELECT page + 1 FROM n WHERE page < ?2)
SELECT n.page, p.data FROM n CROSS JOIN sqlite_dbpage AS p ON p.pgno = n.page WHERE substr(p.data, 1, 1) = x'0d'`

// scrubPages overwrites the unused parts of all pages that hold rows. A row that
// SQLite once moved to another page may still be seen there.
func (s *SQLite) scrubPages(ctx context.Context) error {
	for first := int64(2); ; first += scrubPages {
		dirty, more, err := s.dirtyPages(ctx, first, first+scrubPages-1)
		if err != nil {
			return err
		}
		for len(dirty) > 0 {
			n := min(len(dirty), scrubWrite)
			if err := s.cleanPages(ctx, dirty[:n]); err != nil {
				return err
			}
			dirty = dirty[n:]
		}
		if !more {
			return nil
		}
	}
}

// dirtyPages returns the pages of a range that need cleaning, and whether there
// are pages after it. The first page of the file, which holds no rows of ours, is
// never among them.
func (s *SQLite) dirtyPages(ctx context.Context, first, last int64) (dirty []int64, more bool, err error) {
	var pages int64
	err = s.read(ctx, "PRAGMA page_count", nil, func(rows *sql.Rows) (bool, error) { return false, rows.Scan(&pages) })
	if err != nil {
		return nil, false, fmt.Errorf("count pages: %w", err)
	}
	err = s.read(ctx, readLeaves, []any{first, min(last, pages)}, func(rows *sql.Rows) (bool, error) {
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

func (s *SQLite) cleanPages(ctx context.Context, pages []int64) error {
	if err := s.acquire(ctx); err != nil {
		return err
	}
	defer s.release()
	_, err := s.change(func() (int64, error) {
		for _, n := range pages {
			if err := s.cleanPage(n); err != nil {
				return 0, fmt.Errorf("page %d: %w", n, err)
			}
		}
		return int64(len(pages)), nil
	})
	return err
}

func (s *SQLite) cleanPage(n int64) error {
	// Its bytes are those of this transaction; the number may be another page's by
	// now, or none.
	row, err := s.writer.first("SELECT data FROM sqlite_dbpage WHERE pgno = ?", n)
	if err != nil || row == nil {
		return err
	}
	page, ok := row[0].([]byte)
	if !ok || !clean(page, true) {
		return nil
	}
	_, err = s.writer.exec("UPDATE sqlite_dbpage SET data = ? WHERE pgno = ?", driver.Value(page), n)
	return err
}

// clean finds the unused bytes of a page that holds rows, zeroes them when write is
// set, and reports whether any was not zero. It touches nothing of a page that is
// not exactly as such a page must be.
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

// unused returns the parts of a page that hold nothing: the gap between its list
// of cells and the first cell, and the free blocks between cells without their
// four bytes of header.
func unused(page []byte) (spans [][]byte, ok bool) {
	const header = 8
	if len(page) < 512 || page[0] != leafOfTable {
		return nil, false
	}
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
