package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/parquet-go/parquet-go"

	"furrow/internal/event"
)

const readRows = 64 // rows read at a time: records may be large

// RawRow is one archived record.
type RawRow struct {
	ID     string // event.RecordID in hex, of the record as it came: one of which people were taken has other bytes
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

// badColumns has the record as a pointer: an empty one is none the less the start
// of a run of rows, null is not.
type badColumns struct {
	ID       string  `parquet:"id"`
	Time     int64   `parquet:"time"`
	Schema   string  `parquet:"schema"`
	Failure  []byte  `parquet:"failure"`
	Record   *string `parquet:"record,optional"`
	Index    int32   `parquet:"event_index"`
	RecordID string  `parquet:"record_id"`
}

// ReadRaw calls fn for every archived record whose collector time is in [from,
// to), hour by hour, and within an hour the records of each partition in the
// bus's order. A zero time is no bound. The row may be kept. Records can appear
// more than once. It stops at the first error; ErrChanged asks to read from the
// hour of the last row again.
func (a *Archive) ReadRaw(ctx context.Context, from, to time.Time, fn func(RawRow) error) error {
	return a.read(ctx, rawSet, from, to, func(f liveFile, emitted func()) error {
		return readFile(ctx, a, f.name, func(c *rawColumns) error {
			t := time.UnixMicro(c.Time).UTC()
			if !within(t, from, to) {
				return nil
			}
			emitted()
			return fn(RawRow{ID: c.ID, Time: t, Key: c.Key, Record: c.Record})
		})
	})
}

// ReadEvents calls fn with the id and collector time of every archived event, as
// ReadRaw does for records.
func (a *Archive) ReadEvents(ctx context.Context, from, to time.Time, fn func(id string, collected time.Time) error) error {
	return a.read(ctx, eventSet, from, to, func(f liveFile, emitted func()) error {
		return readFile(ctx, a, f.name, func(c *eventIDColumns) error {
			t := time.UnixMicro(c.Time).UTC()
			if !within(t, from, to) {
				return nil
			}
			emitted()
			return fn(c.ID, t)
		})
	})
}

// ReadBad calls fn for every archived bad row, as ReadRaw does for records. Rows of
// one record share its memory, which must not be changed.
func (a *Archive) ReadBad(ctx context.Context, from, to time.Time, fn func(event.BadRow) error) error {
	return a.read(ctx, badSet, from, to, func(f liveFile, emitted func()) error {
		return a.eachBad(ctx, f.name, func(b event.BadRow) error {
			if !within(b.Time, from, to) {
				return nil
			}
			emitted()
			return fn(b)
		})
	})
}

func within(t, from, to time.Time) bool {
	return (from.IsZero() || !t.Before(from)) && (to.IsZero() || t.Before(to))
}

// eachBad calls fn for every row of a file of bad, each with its record.
func (a *Archive) eachBad(ctx context.Context, name string, fn func(event.BadRow) error) error {
	var id string // of the run of rows that is being read
	var hash event.RecordID
	var record []byte
	return readFile(ctx, a, name, func(c *badColumns) error {
		switch {
		case c.Record != nil:
			var err error
			if hash, err = parseRecordID(c.RecordID, name); err != nil {
				return err
			}
			id, record = c.RecordID, []byte(*c.Record)
		case c.RecordID != id:
			return fmt.Errorf("archive: bad row %s of %s: record %s is not with it", c.ID, name, c.RecordID)
		}
		return fn(event.BadRow{
			ID: c.ID, Record: hash, Index: int(c.Index), Time: time.UnixMicro(c.Time).UTC(),
			Schema: c.Schema, Failure: c.Failure, Payload: record,
		})
	})
}

// read goes through the files of a dataset that count. one reads a file and says
// when it hands out a row.
func (a *Archive) read(ctx context.Context, d dataset, from, to time.Time, one func(f liveFile, emitted func()) error) error {
	hours, err := a.between(ctx, from, to)
	if err != nil {
		return err
	}
	for _, h := range hours {
		if err := a.readHour(ctx, d, h, one); err != nil {
			return err
		}
	}
	return nil
}

// readHour reads an hour. Its files stay in place meanwhile, unless another process
// replaces them: then it begins anew, if nothing was handed out yet.
func (a *Archive) readHour(ctx context.Context, d dataset, h hour, one func(liveFile, func()) error) error {
	unpin := a.gens.pin(h)
	defer unpin()
	for range readAttempts {
		all, err := a.files(ctx, h, d)
		if err != nil {
			return err
		}
		some := false
		err = a.readLive(all.live[d], func(f liveFile) error {
			return one(f, func() { some = true })
		})
		if !errors.Is(err, errGone) {
			return err
		}
		again, err := a.files(ctx, h, d)
		if err != nil {
			return err
		}
		if again.state.committed == all.state.committed {
			return nil // deleted by retention meanwhile
		}
		if some {
			return fmt.Errorf("%w: %s", ErrChanged, h.folder(d))
		}
	}
	return fmt.Errorf("%w: %s", ErrChanged, h.folder(d))
}

func (a *Archive) readLive(files []liveFile, one func(liveFile) error) error {
	for _, f := range files {
		if err := one(f); err != nil {
			return err
		}
	}
	return nil
}

// between returns the hours at rest that a span of time touches.
func (a *Archive) between(ctx context.Context, from, to time.Time) ([]hour, error) {
	if err := a.ensureStock(ctx); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.DeleteFunc(a.hours.sorted(), func(h hour) bool {
		return !from.IsZero() && h < hourOf(from) || !to.IsZero() && h > hourOf(to)
	}), nil
}

// readFile calls fn for every row of a file.
func readFile[T any](ctx context.Context, a *Archive, name string, fn func(*T) error) error {
	in, err := a.openFile(ctx, name)
	if err != nil {
		return err
	}
	defer in.close()
	var reader *parquet.GenericReader[T]
	if err := guard(func() error { reader = parquet.NewGenericReader[T](in.File); return nil }); err != nil {
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
