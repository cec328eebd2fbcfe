package archive

import (
	"fmt"
	"os"
	"strconv"
	"sync/atomic"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"
)

const (
	batchRows          = 128       // rows gathered before they go to the columns, one column at a time
	batchBytes         = 1 << 20   // the same in bytes, for large rows
	pageBytes          = 256 << 10 // uncompressed size of a page
	dictionaryMaxBytes = 1 << 20   // a column with a larger dictionary goes on without one
	pageRows           = 1 << 14   // rows of a page: the size of a dictionary is looked at between pages only
	maxGroupRows       = 1 << 17   // rows of one row group
	minGroupBytes      = 1 << 20   // smallest share of the memory limit for one file
)

// Keys of the footer's metadata.
const (
	metaDataset = "furrow.dataset"
	metaFormat  = "furrow.format"
	metaRange   = "furrow.range"
)

// codec is shared: it pools its encoders and is safe for concurrent use.
var codec = &zstd.Codec{Level: zstd.SpeedFastest}

// budget shares the memory limit out among the open files of all ranges.
type budget struct {
	limit int64
	open  atomic.Int64
}

func (b *budget) share() int64 {
	return max(minGroupBytes, b.limit/max(1, b.open.Load()))
}

// filler puts the values of a row into a batch. What it does not set is null.
type filler[T any] func(b *batch, row T)

// batch holds rows that wait to be written, column by column. A row is taken apart
// when it comes, while it is in the processor's cache: a whole batch of events would
// not stay there.
type batch struct {
	columns []*[batchRows]parquet.Value // nil while a column had nothing but nulls
	rows    int
	bytes   int
}

// noValues are the values of a column of nulls.
var noValues [batchRows]parquet.Value

// set is the value of a column in the row that is being filled.
func (b *batch) set(column int, v parquet.Value) {
	c := b.columns[column]
	if c == nil {
		c = new([batchRows]parquet.Value)
		b.columns[column] = c
	}
	c[b.rows] = v
}

// of returns the values of a column.
func (b *batch) of(column int) []parquet.Value {
	if c := b.columns[column]; c != nil {
		return c[:b.rows]
	}
	return noValues[:b.rows]
}

// clear makes all null again, and lets go of what the values refer to.
func (b *batch) clear() {
	for _, c := range b.columns {
		if c != nil {
			clear(c[:b.rows])
		}
	}
	b.rows, b.bytes = 0, 0
}

// writer writes one file. Rows are gathered and then handed to the library
// column by column, which spares the per-row work of its row interface.
type writer[T any] struct {
	file    *os.File
	schema  *schema
	parquet *parquet.GenericWriter[any]
	columns []*parquet.ColumnWriter
	fill    filler[T]
	budget  *budget
	batch   batch
	rows    int64 // all rows of the file
	group   int   // rows of the row group
	page    int   // rows since the last pages
	written int64 // bytes before the row group
	used    int64 // for finding the least recently used
}

// newWriter creates the local file and its Parquet writer.
func newWriter[T any](local, rangeName string, d dataset, fill filler[T], shared *budget) (*writer[T], error) {
	f, err := os.OpenFile(local, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	s := &schemas[d]
	options := []parquet.WriterOption{
		s.parquet,
		parquet.Compression(codec),
		parquet.PageBufferSize(pageBytes),
		// Bounds go to the page index only; page headers would hold whole values.
		parquet.DataPageStatistics(false),
		parquet.DictionaryMaxBytes(dictionaryMaxBytes),
		parquet.CreatedBy("furrow", strconv.Itoa(formatVersion), "parquet-go"),
		parquet.KeyValueMetadata(metaDataset, d.String()),
		parquet.KeyValueMetadata(metaFormat, strconv.Itoa(formatVersion)),
		parquet.KeyValueMetadata(metaRange, rangeName),
	}
	for _, c := range s.columns {
		if c.unbound {
			options = append(options, parquet.SkipPageBounds(c.name))
		}
	}
	w := &writer[T]{
		file: f, schema: s, parquet: parquet.NewGenericWriter[any](f, options...), fill: fill, budget: shared,
	}
	w.columns = w.parquet.ColumnWriters()
	w.batch.columns = make([]*[batchRows]parquet.Value, len(w.columns))
	shared.open.Add(1)
	return w, nil
}

// add gathers a row of about size bytes. What it refers to is kept until the next
// flush.
func (w *writer[T]) add(row T, size int) error {
	w.fill(&w.batch, row)
	w.batch.rows++
	w.batch.bytes += size
	w.rows++
	if w.batch.rows < batchRows && w.batch.bytes < batchBytes {
		return nil
	}
	return w.flush()
}

// flush hands the gathered rows to the columns and ends the row group when it is
// large enough.
func (w *writer[T]) flush() error {
	n := w.batch.rows
	if n == 0 {
		return nil
	}
	for i, c := range w.columns {
		if _, err := c.WriteRowValues(w.batch.of(i)); err != nil {
			return fmt.Errorf("archive: %s: column %d: %w", w.file.Name(), i, err)
		}
	}
	w.batch.clear()
	return w.advance(n)
}

// advance counts rows that were handed to the columns, and ends pages and the row
// group when they are large enough.
func (w *writer[T]) advance(n int) error {
	w.group += n
	w.page += n
	if w.parquet.Size()-w.written >= w.budget.share() || w.group >= maxGroupRows {
		return w.endGroup()
	}
	if w.page >= pageRows {
		return w.endPages()
	}
	return nil
}

// size is about what the file takes so far.
func (w *writer[T]) size() int64 { return w.parquet.Size() }

// endPages ends the pages of the columns whose dictionary may have grown.
func (w *writer[T]) endPages() error {
	w.page = 0
	for i, c := range w.columns {
		if !w.schema.columns[i].dictionary || w.fill != nil && w.batch.columns[i] == nil {
			continue
		}
		if err := c.Flush(); err != nil {
			return fmt.Errorf("archive: %s: column %d: %w", w.file.Name(), i, err)
		}
	}
	return nil
}

func (w *writer[T]) endGroup() error {
	if err := w.parquet.Flush(); err != nil {
		return fmt.Errorf("archive: %s: %w", w.file.Name(), err)
	}
	w.group, w.page, w.written = 0, 0, w.parquet.Size()
	return nil
}

// finish completes the file and makes it durable. It returns its size.
func (w *writer[T]) finish() (int64, error) {
	defer w.discard()
	if err := w.flush(); err != nil {
		return 0, err
	}
	if err := w.parquet.Close(); err != nil {
		return 0, fmt.Errorf("archive: %s: %w", w.file.Name(), err)
	}
	if err := w.file.Sync(); err != nil {
		return 0, fmt.Errorf("archive: %s: %w", w.file.Name(), err)
	}
	info, err := w.file.Stat()
	if err != nil {
		return 0, fmt.Errorf("archive: %s: %w", w.file.Name(), err)
	}
	return info.Size(), nil
}

// discard lets go of the file and its buffers.
func (w *writer[T]) discard() {
	if w.file == nil {
		return
	}
	w.file.Close()
	w.file, w.parquet, w.columns = nil, nil, nil
	w.budget.open.Add(-1)
}
