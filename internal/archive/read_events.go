package archive

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/parquet-go/parquet-go"

	"furrow/internal/event"
)

// ReadImported calls fn for every event that was imported, which no record of raw/
// could give again: those of ranges of the stream "import". The event has all its
// columns, and Content as far as it is known; its Record and Index are not
// archived. It may be kept. Hours and errors are as with ReadRaw.
func (a *Archive) ReadImported(ctx context.Context, from, to time.Time, fn func(*event.Event) error) error {
	return a.read(ctx, eventSet, from, to, func(f liveFile, emitted func()) error {
		if !f.imported() {
			return nil
		}
		return a.eachEvent(ctx, f.name, func(e *event.Event) error {
			if !within(e.Time(event.CollectorTstamp), from, to) {
				return nil
			}
			emitted()
			return fn(e)
		})
	})
}

// eachEvent calls fn for every event of a file.
func (a *Archive) eachEvent(ctx context.Context, name string, fn func(*event.Event) error) error {
	in, err := a.openFile(ctx, name)
	if err != nil {
		return err
	}
	defer in.close()
	names := make([]string, 0, len(eventFields)+1)
	for _, f := range eventFields {
		names = append(names, f.Name())
	}
	columns := in.columnsOf(append(names, contentHash)...)
	var failed error // of fn: not a fault of the file
	err = in.scan(ctx, columns, func(c *cursor, n int) error {
		events := make([]event.Event, n)
		for i, f := range eventFields {
			if err := c.cells(i, n, func(row int, v *parquet.Value) { setCell(&events[row], f, v) }); err != nil {
				return fmt.Errorf("column %s: %w", f.Name(), err)
			}
		}
		err := c.cells(len(eventFields), n, func(row int, v *parquet.Value) { events[row].Content = hashOf(v) })
		if err != nil {
			return err
		}
		for i := range events {
			if failed = fn(&events[i]); failed != nil {
				return failed
			}
		}
		return nil
	})
	if failed != nil {
		return failed
	}
	return err
}

// setCell is the inverse of eventFiller.
func setCell(e *event.Event, f event.Field, v *parquet.Value) {
	if v.IsNull() {
		return
	}
	switch f.Kind() {
	case event.Text, event.JSON:
		e.SetText(f, string(v.ByteArray()))
	case event.Decimal:
		e.SetText(f, strconv.FormatFloat(v.Double(), 'f', -1, 64))
	case event.Int:
		e.SetInt(f, int64(v.Int32()))
	case event.Bool:
		n := int64(0)
		if v.Boolean() {
			n = 1
		}
		e.SetInt(f, n)
	case event.Time:
		e.SetTime(f, time.UnixMicro(v.Int64()))
	case event.Float:
		e.SetInt(f, int64(math.Float32bits(float32(v.Double()))))
	}
}

// EachIdentifier calls fn with every user_id, domain_userid and network_userid of
// events/. One that is in several places can come several times. It reads three
// columns of the whole dataset.
func (a *Archive) EachIdentifier(ctx context.Context, fn func(identifier string) error) error {
	return a.read(ctx, eventSet, time.Time{}, time.Time{}, func(f liveFile, emitted func()) error {
		in, err := a.openFile(ctx, f.name)
		if err != nil {
			return err
		}
		defer in.close()
		emitted()
		const columns = 3
		seen := make(map[string]struct{})
		return in.scan(ctx, in.columnsOf(event.UserID.Name(), event.DomainUserID.Name(), event.NetworkUserID.Name()), func(c *cursor, n int) error {
			for i := range columns {
				if err := c.next(i, n, func(_ int, values []parquet.Value) error { return newIdentifiers(values, seen, fn) }); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

const identifiersSeen = 1 << 16 // remembered, so that most come once a file

func newIdentifiers(values []parquet.Value, seen map[string]struct{}, fn func(string) error) error {
	for i := range values {
		b := values[i].ByteArray()
		if _, ok := seen[string(b)]; ok || len(b) == 0 {
			continue
		}
		if len(seen) >= identifiersSeen {
			clear(seen)
		}
		s := string(b)
		seen[s] = struct{}{}
		if err := fn(s); err != nil {
			return err
		}
	}
	return nil
}

// CountRaw returns what ReadRaw would read of a span: the files it would open, the
// rows, and the bytes at rest of these rows, of files that are read in part as far
// as they are. It reads footers, and times where the span cuts an hour.
func (a *Archive) CountRaw(ctx context.Context, from, to time.Time) (files, rows, bytes int64, err error) {
	err = a.read(ctx, rawSet, from, to, func(f liveFile, emitted func()) error {
		in, err := a.openFile(ctx, f.name)
		if err != nil {
			return err
		}
		defer in.close()
		d, h, _ := parseName(f.name)
		n := in.NumRows()
		if start := h.time(); !within(start, from, to) || !within(start.Add(time.Hour-time.Microsecond), from, to) {
			if n, err = in.countWithin(ctx, schemas[d].columns[1].name, from, to); err != nil {
				return err
			}
		}
		if n > 0 {
			emitted()
			files++
			rows += n
			bytes += int64(float64(f.size) * float64(n) / float64(in.NumRows()))
		}
		return nil
	})
	return files, rows, bytes, err
}

// countWithin counts the rows whose time is in a span.
func (o *opened) countWithin(ctx context.Context, column string, from, to time.Time) (int64, error) {
	rows := int64(0)
	err := o.scan(ctx, o.columnsOf(column), func(c *cursor, n int) error {
		return c.cells(0, n, func(_ int, v *parquet.Value) {
			if within(time.UnixMicro(v.Int64()), from, to) {
				rows++
			}
		})
	})
	return rows, err
}
