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

func fillRaw(b *batch, r rawRow) {
	b.set(0, text(r.id.String()))
	b.set(1, parquet.Int64Value(micros(r.ms)))
	if len(r.key) > 0 {
		b.set(2, parquet.ByteArrayValue(r.key).Level(0, 1, 2))
	}
	b.set(3, parquet.ByteArrayValue(r.record))
}

// badRow is one bad row. Of a run of rows of one record only the first holds it.
type badRow struct {
	event.BadRow
	first bool
}

func fillBad(b *batch, r badRow) {
	b.set(0, text(r.ID))
	b.set(1, parquet.Int64Value(micros(r.Time.UnixMilli())))
	b.set(2, text(r.Schema))
	b.set(3, parquet.ByteArrayValue(bytes.ToValidUTF8(r.Failure, []byte("\uFFFD"))))
	if r.first {
		b.set(4, parquet.ByteArrayValue(r.Payload).Level(0, 1, 4))
	}
	b.set(5, parquet.Int32Value(int32(max(math.MinInt32, min(math.MaxInt32, r.Index)))))
	b.set(6, text(r.Record.String()))
}

// eventRow is one event; ms is its hour's time, used when it has none itself.
type eventRow struct {
	event *event.Event
	ms    int64
}

// eventFiller writes event columns and counts the values that do not fit: numbers
// beyond their column become null, broken UTF-8 is replaced.
type eventFiller struct{ unfit int64 }

func (e *eventFiller) fill(b *batch, r eventRow) {
	for column := range eventPlan {
		c := r.event.Cell(eventPlan[column].field)
		if !c.Set && !eventPlan[column].required {
			continue
		}
		switch p := &eventPlan[column]; p.kind {
		case event.Text, event.JSON:
			b.set(column, e.text(c.Text).Level(0, p.level, column))
		case event.Time:
			ms := c.Num
			if !c.Set {
				ms = r.ms
			}
			b.set(column, parquet.Int64Value(micros(ms)).Level(0, p.level, column))
		default:
			b.set(column, e.number(c, p.kind, column))
		}
	}
	if content := r.event.Content; content != 0 {
		b.set(len(eventPlan), parquet.Int64Value(int64(content)).Level(0, 1, len(eventPlan))) //nolint:gosec // the bits of a hash
	}
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
