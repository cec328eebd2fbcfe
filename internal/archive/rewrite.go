package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/parquet-go/parquet-go"
)

const (
	copyRows    = 1024     // rows that are copied at a time, a column at a time
	columnAhead = 64 << 10 // bytes read at a time of one column
)

// errGone: a file was deleted since it was looked for.
var errGone = errors.New("archive: a file is gone")

// opened is a Parquet file for reading.
type opened struct {
	*parquet.File
	name  string
	close func()
}

// openFile opens a data file.
func (a *Archive) openFile(ctx context.Context, name string) (*opened, error) {
	obj, err := a.place.open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", errGone, err)
	}
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	o := &opened{name: name, close: func() { obj.Close() }}
	err = guard(func() error {
		o.File, err = parquet.OpenFile(obj, obj.size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true), parquet.ReadBufferSize(columnAhead))
		if err != nil {
			return err
		}
		return checkFooter(o.File)
	})
	if err != nil {
		o.close()
		return nil, fmt.Errorf("archive: read %s: %w", name, err)
	}
	return o, nil
}

// columnsOf finds columns by name; -1 stands for one that an old file lacks.
func (o *opened) columnsOf(names ...string) []int {
	at := make([]int, len(names))
	for i, name := range names {
		at[i] = -1
		if leaf, ok := o.Schema().Lookup(name); ok {
			at[i] = leaf.ColumnIndex
		}
	}
	return at
}

// cursor reads some columns of a row group side by side.
type cursor struct {
	readers []parquet.ColumnChunkValueReader // nil: the file lacks it
	values  [copyRows]parquet.Value
}

func newCursor(group parquet.RowGroup, columns []int) *cursor {
	c := &cursor{readers: make([]parquet.ColumnChunkValueReader, len(columns))}
	chunks := group.ColumnChunks()
	for i, at := range columns {
		if at >= 0 {
			c.readers[i] = parquet.NewColumnChunkValueReader(chunks[at])
		}
	}
	return c
}

func (c *cursor) close() {
	for _, r := range c.readers {
		if r != nil {
			_ = r.Close() // it only reads
		}
	}
}

// next calls fn with the values of the next n rows of a column, a few at a time.
// They hold until fn returns.
func (c *cursor) next(column, n int, fn func(first int, values []parquet.Value) error) error {
	r := c.readers[column]
	for first := 0; first < n; {
		values := c.values[:min(len(c.values), n-first)]
		if r == nil {
			clear(values)
		} else {
			got, err := r.ReadValues(values)
			if got == 0 && err != nil {
				if errors.Is(err, io.EOF) {
					err = io.ErrUnexpectedEOF
				}
				return err
			}
			values = values[:got]
		}
		if err := fn(first, values); err != nil {
			return err
		}
		first += len(values)
	}
	return nil
}

// cells calls fn with each value of the next n rows of a column.
func (c *cursor) cells(column, n int, fn func(row int, v *parquet.Value)) error {
	return c.next(column, n, func(first int, values []parquet.Value) error {
		for i := range values {
			fn(first+i, &values[i])
		}
		return nil
	})
}

// hashOf is the value of a content_hash, 0 when it is unknown.
func hashOf(v *parquet.Value) uint64 {
	if v.IsNull() {
		return 0
	}
	return uint64(v.Int64()) //nolint:gosec // the bits of a hash
}

// scan goes through some columns of a file: fn is called for blocks of rows and
// reads them with the cursor.
func (o *opened) scan(ctx context.Context, columns []int, fn func(c *cursor, n int) error) error {
	err := guard(func() error {
		for _, group := range o.RowGroups() {
			if err := scanGroup(ctx, group, columns, fn); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("archive: read %s: %w", o.name, err)
	}
	return nil
}

func scanGroup(ctx context.Context, group parquet.RowGroup, columns []int, fn func(c *cursor, n int) error) error {
	c := newCursor(group, columns)
	defer c.close()
	for left := group.NumRows(); left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := int(min(left, copyRows))
		if err := fn(c, n); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

// bitmap marks rows.
type bitmap []uint64

func (b *bitmap) set(i int64) {
	for int64(len(*b)) <= i>>6 {
		*b = append(*b, make([]uint64, max(64, len(*b)))...)
	}
	(*b)[i>>6] |= 1 << (i & 63)
}

// add sets what is set in another.
func (b *bitmap) add(o bitmap) {
	if n := len(o) - len(*b); n > 0 {
		*b = append(*b, make([]uint64, n)...)
	}
	for i, word := range o {
		(*b)[i] |= word
	}
}

func (b bitmap) has(i int64) bool { return i>>6 < int64(len(b)) && b[i>>6]>>(i&63)&1 == 1 }

// outlet writes the rows of a generation's dataset into files of the target size.
// The rows are of one kind: copied column by column, or built.
type outlet[T any] struct {
	ctx      context.Context
	g        *generation
	set      dataset
	imported bool
	stands   string // see genFile.For
	whole    bool   // one file, however large: it takes the place of one
	fill     filler[T]
	w        *writer[T]
	name     string
	parts    int // files begun
	onPlaced func(genFile)
}

// writer returns the open file, a new one when there is none.
func (o *outlet[T]) writer() (*writer[T], error) {
	if o.w != nil {
		return o.w, nil
	}
	o.name = o.g.outputName(o.imported, o.stands)
	w, err := newWriter(o.g.local(o.name), o.g.hour.time().Format("compact 2006-01-02 15"), o.set, o.fill, &o.g.archive.budget)
	if err != nil {
		return nil, err
	}
	o.w = w
	o.parts++
	return w, nil
}

// roll ends the file when it is large enough.
func (o *outlet[T]) roll() error {
	if o.w == nil || o.whole || o.w.size() < o.g.archive.gens.target {
		return nil
	}
	return o.end()
}

// end finishes the open file and places it.
func (o *outlet[T]) end() error {
	if o.w == nil {
		return nil
	}
	w := o.w
	o.w = nil
	rows := w.rows
	size, err := w.finish()
	if err != nil {
		return err
	}
	f := genFile{Set: o.set.String(), Name: o.name, For: o.stands, Rows: rows, Bytes: size}
	if err := o.g.place(o.ctx, o.g.local(o.name), f); err != nil {
		return err
	}
	os.Remove(filepath.Clean(o.g.local(o.name))) // a place elsewhere leaves it
	if o.onPlaced != nil {
		o.onPlaced(f)
	}
	return nil
}

func (o *outlet[T]) discard() {
	if o.w != nil {
		o.w.discard()
	}
}

// copyFile appends the rows of a file that drop does not mark, column by column.
func copyFile(ctx context.Context, o *outlet[struct{}], name string, drop bitmap, offset int64) error {
	in, err := o.g.archive.openFile(ctx, name)
	if err != nil {
		return err
	}
	defer in.close()
	names := make([]string, len(schemas[o.set].columns))
	for i, c := range schemas[o.set].columns {
		names[i] = c.name
	}
	columns := in.columnsOf(names...)
	row := offset
	return in.scan(ctx, columns, func(c *cursor, n int) error {
		first := row
		row += int64(n)
		kept := 0
		for i := range n {
			if !drop.has(first + int64(i)) {
				kept++
			}
		}
		if kept == 0 {
			return skip(c, len(columns), n)
		}
		w, err := o.writer()
		if err != nil {
			return err
		}
		for i := range columns {
			err := c.next(i, n, func(at int, values []parquet.Value) error {
				_, err := w.columns[i].WriteRowValues(without(values, drop, first+int64(at), kept == n))
				return err
			})
			if err != nil {
				return fmt.Errorf("column %s: %w", names[i], err)
			}
		}
		w.rows += int64(kept)
		if err := w.advance(kept); err != nil {
			return err
		}
		return o.roll()
	})
}

func skip(c *cursor, columns, n int) error {
	for i := range columns {
		if err := c.next(i, n, func(int, []parquet.Value) error { return nil }); err != nil {
			return err
		}
	}
	return nil
}

// without takes the marked rows out of values, in place.
func without(values []parquet.Value, drop bitmap, first int64, none bool) []parquet.Value {
	if none {
		return values
	}
	kept := values[:0]
	for i, v := range values {
		if !drop.has(first + int64(i)) {
			kept = append(kept, v)
		}
	}
	return kept
}
