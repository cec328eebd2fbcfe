package archive

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/parquet-go/parquet-go"

	"furrow/internal/event"
)

// text is a value that shares the string's memory; the library copies it before
// the row is let go.
func text(s string) parquet.Value {
	return parquet.ByteArrayValue(unsafe.Slice(unsafe.StringData(s), len(s))) //nolint:gosec // read only, and only while s is alive
}

// rawRow is one record.
type rawRow struct {
	id     event.RecordID
	ms     int64
	key    []byte
	record []byte
}

func fillRaw(dst []parquet.Value, rows []rawRow, column int) []parquet.Value {
	for i := range rows {
		r := &rows[i]
		var v parquet.Value
		switch column {
		case 0:
			v = text(r.id.String())
		case 1:
			v = parquet.Int64Value(micros(r.ms))
		case 2:
			if len(r.key) > 0 {
				v = parquet.ByteArrayValue(r.key).Level(0, 1, column)
			}
		default:
			v = parquet.ByteArrayValue(r.record)
		}
		dst = append(dst, v)
	}
	return dst
}

// badRow is one bad row. Of a run of rows of one record only the first holds it.
type badRow struct {
	event.BadRow
	first bool
}

func fillBad(dst []parquet.Value, rows []badRow, column int) []parquet.Value {
	for i := range rows {
		r := &rows[i]
		var v parquet.Value
		switch column {
		case 0:
			v = text(r.ID)
		case 1:
			v = parquet.Int64Value(micros(r.Time.UnixMilli()))
		case 2:
			v = text(r.Schema)
		case 3:
			v = parquet.ByteArrayValue(bytes.ToValidUTF8(r.Failure, []byte("\uFFFD")))
		case 4:
			if r.first {
				v = parquet.ByteArrayValue(r.Payload).Level(0, 1, column)
			}
		case 5:
			v = parquet.Int32Value(int32(max(math.MinInt32, min(math.MaxInt32, r.Index))))
		default:
			v = text(r.Record.String())
		}
		dst = append(dst, v)
	}
	return dst
}

// eventRow is one event; ms is its hour's time, used when it has none itself.
type eventRow struct {
	event *event.Event
	ms    int64
}

// eventFiller writes event columns and counts the values that do not fit: numbers
// beyond their column become null, broken UTF-8 is replaced.
type eventFiller struct{ unfit int64 }

func (e *eventFiller) fill(dst []parquet.Value, rows []eventRow, column int) []parquet.Value {
	if column == len(eventFields) {
		return fillContent(dst, rows, column)
	}
	f := eventFields[column]
	if required[f] {
		return e.required(dst, rows, f)
	}
	switch f.Kind() {
	case event.Text, event.JSON:
		for i := range rows {
			var v parquet.Value
			if c := rows[i].event.Cell(f); c.Set {
				v = e.text(c.Text).Level(0, 1, column)
			}
			dst = append(dst, v)
		}
	case event.Time:
		for i := range rows {
			var v parquet.Value
			if c := rows[i].event.Cell(f); c.Set {
				v = parquet.Int64Value(micros(c.Num)).Level(0, 1, column)
			}
			dst = append(dst, v)
		}
	default:
		for i := range rows {
			var v parquet.Value
			if c := rows[i].event.Cell(f); c.Set {
				v = e.number(c, f.Kind(), column)
			}
			dst = append(dst, v)
		}
	}
	return dst
}

func fillContent(dst []parquet.Value, rows []eventRow, column int) []parquet.Value {
	for i := range rows {
		var v parquet.Value
		if content := rows[i].event.Content; content != 0 {
			v = parquet.Int64Value(int64(content)).Level(0, 1, column) //nolint:gosec // the bits of a hash
		}
		dst = append(dst, v)
	}
	return dst
}

func (e *eventFiller) required(dst []parquet.Value, rows []eventRow, f event.Field) []parquet.Value {
	for i := range rows {
		switch c := rows[i].event.Cell(f); {
		case f != event.CollectorTstamp:
			dst = append(dst, e.text(c.Text))
		case c.Set:
			dst = append(dst, parquet.Int64Value(micros(c.Num)))
		default:
			dst = append(dst, parquet.Int64Value(micros(rows[i].ms)))
		}
	}
	return dst
}

// text mends what is not UTF-8: other readers refuse a whole file for one string.
func (e *eventFiller) text(s string) parquet.Value {
	if !utf8.ValidString(s) {
		e.unfit++
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return text(s)
}

func (e *eventFiller) number(c *event.Cell, kind event.Kind, column int) parquet.Value {
	var v parquet.Value
	switch kind {
	case event.Bool:
		v = parquet.BooleanValue(c.Num != 0)
	case event.Int:
		if c.Num != int64(int32(c.Num)) { //nolint:gosec // the comparison is the check
			e.unfit++
			return parquet.Value{}
		}
		v = parquet.Int32Value(int32(c.Num)) //nolint:gosec // checked above
	case event.Float:
		v = parquet.DoubleValue(float64(math.Float32frombits(uint32(c.Num)))) //nolint:gosec // holds 32 bits by contract
	default:
		n, err := strconv.ParseFloat(c.Text, 64)
		if err != nil || math.IsInf(n, 0) || math.IsNaN(n) {
			e.unfit++
			return parquet.Value{}
		}
		v = parquet.DoubleValue(n)
	}
	return v.Level(0, 1, column)
}
