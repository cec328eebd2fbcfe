package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/parquet-go/parquet-go"

	"furrow/internal/event"
)

const readRows = 64 // rows read at a time: records may be large

// RawRow is one archived record.
type RawRow struct {
	ID     string // event.RecordID in hex
	Time   time.Time
	Key    []byte
	Record []byte
}

type rawColumns struct {
	ID     string `parquet:"record_id"`
	Time   int64  `parquet:"collector_tstamp"`
	Key    []byte `parquet:"key,optional"`
	Record []byte `parquet:"record"`
}

type eventIDColumns struct {
	ID   string `parquet:"event_id"`
	Time int64  `parquet:"collector_tstamp"`
}

type badColumns struct {
	ID       string `parquet:"id"`
	Time     int64  `parquet:"time"`
	Schema   string `parquet:"schema"`
	Failure  []byte `parquet:"failure"`
	Record   []byte `parquet:"record,optional"`
	Index    int32  `parquet:"event_index"`
	RecordID string `parquet:"record_id"`
}

// ReadRaw calls fn for every archived record whose collector time is in [from,
// to), hour by hour, in no order within an hour. A zero time is no bound. The row
// may be kept. Records can appear more than once. It stops at the first error.
func (a *Archive) ReadRaw(ctx context.Context, from, to time.Time, fn func(RawRow) error) error {
	return read(ctx, a, rawSet, from, to, func(c *rawColumns) (time.Time, func() error) {
		t := time.UnixMicro(c.Time).UTC()
		return t, func() error { return fn(RawRow{ID: c.ID, Time: t, Key: c.Key, Record: c.Record}) }
	})
}

// ReadEvents calls fn with the id and collector time of every archived event, as
// ReadRaw does for records.
func (a *Archive) ReadEvents(ctx context.Context, from, to time.Time, fn func(id string, collected time.Time) error) error {
	return read(ctx, a, eventSet, from, to, func(c *eventIDColumns) (time.Time, func() error) {
		t := time.UnixMicro(c.Time).UTC()
		return t, func() error { return fn(c.ID, t) }
	})
}

// ReadBad calls fn for every archived bad row, as ReadRaw does for records. Rows of
// one record share its memory, which must not be changed.
func (a *Archive) ReadBad(ctx context.Context, from, to time.Time, fn func(event.BadRow) error) error {
	var id string // of the run of rows that is being read
	var hash event.RecordID
	var record []byte
	found := false
	return read(ctx, a, badSet, from, to, func(c *badColumns) (time.Time, func() error) {
		// Rows out of bounds count too: the record may be with one of them.
		if c.RecordID != id || !found {
			id, hash, record = c.RecordID, event.NewRecordID(c.Record), c.Record
			found = hash.String() == id
		}
		t := time.UnixMicro(c.Time).UTC()
		return t, func() error {
			if !found {
				return fmt.Errorf("archive: bad row %s: record %s is not with it", c.ID, c.RecordID)
			}
			return fn(event.BadRow{
				ID: c.ID, Record: hash, Index: int(c.Index), Time: t,
				Schema: c.Schema, Failure: c.Failure, Payload: record,
			})
		}
	})
}

// read goes through the files of a dataset. row returns a row's time and the call
// that hands it on.
func read[T any](ctx context.Context, a *Archive, d dataset, from, to time.Time, row func(*T) (time.Time, func() error)) error {
	inBounds := func(r *T) error {
		t, emit := row(r)
		if !from.IsZero() && t.Before(from) || !to.IsZero() && !t.Before(to) {
			return nil
		}
		return emit()
	}
	for _, h := range a.between(from, to) {
		names, err := a.dataFiles(ctx, h.folder(d))
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := readFile(ctx, a, name, inBounds); err != nil {
				return err
			}
		}
	}
	return nil
}

// between returns the hours at rest that a span of time touches.
func (a *Archive) between(from, to time.Time) []hour {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.DeleteFunc(a.hours.sorted(), func(h hour) bool {
		return !from.IsZero() && h < hourOf(from) || !to.IsZero() && h > hourOf(to)
	})
}

func (a *Archive) dataFiles(ctx context.Context, folder string) ([]string, error) {
	var names []string
	err := a.place.list(ctx, folder, func(name string, _ int64) error {
		if dataFile(name) {
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("archive: list %s: %w", folder, err)
	}
	return names, nil
}

// readFile calls fn for every row of a file.
func readFile[T any](ctx context.Context, a *Archive, name string, fn func(*T) error) error {
	obj, err := a.place.open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // deleted by retention meanwhile
	}
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	defer obj.Close()
	return readObject(ctx, obj, name, fn)
}

func readObject[T any](ctx context.Context, obj object, name string, fn func(*T) error) error {
	var reader *parquet.GenericReader[T]
	err := guard(func() error {
		file, err := parquet.OpenFile(obj, obj.size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
		if err != nil {
			return err
		}
		if err := checkFooter(file); err != nil {
			return err
		}
		reader = parquet.NewGenericReader[T](file)
		return nil
	})
	if err != nil {
		return fmt.Errorf("archive: read %s: %w", name, err)
	}
	defer func() { _ = reader.Close() }() // it only reads
	for {
		rows, n := make([]T, readRows), 0
		err := guard(func() (err error) {
			n, err = reader.Read(rows)
			return err
		})
		for i := range rows[:n] {
			if err := fn(&rows[i]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err := errors.Join(err, ctx.Err()); err != nil {
			return fmt.Errorf("archive: read %s: %w", name, err)
		}
	}
}

// guard turns a panic into an error: the library panics on some damaged files.
func guard(call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("damaged file: %v", p)
		}
	}()
	return call()
}

// checkFooter refuses files of a format that this version does not know.
func checkFooter(file *parquet.File) error {
	version, ok := file.Lookup(metaFormat)
	if !ok {
		return errors.New("no file of a furrow archive: its footer has no " + metaFormat)
	}
	var n int
	if _, err := fmt.Sscan(version, &n); err != nil {
		return fmt.Errorf("footer has %s %q", metaFormat, version)
	}
	if n > formatVersion {
		return errNewer
	}
	return nil
}
