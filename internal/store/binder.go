package store

import (
	"database/sql/driver"
	"math"
	"strconv"
	"time"

	"furrow/internal/event"
)

// binder turns an event into the arguments of the insert statement. It keeps the
// arguments of the event before: neighbours share many cells (tracker, site,
// browser, times), and what is equal is neither converted nor allocated again.
type binder struct {
	args  []driver.NamedValue // by column, then the content hash and the key among past ids
	last  []event.Cell        // what args hold, by column
	shape shape               // of the event
	some  []driver.NamedValue // args without the columns that are null
	text  []byte
	day   int64  // days since the epoch of the last time written
	date  []byte // its date, with the space after it
}

func newBinder() *binder {
	b := &binder{day: math.MinInt64}
	b.reset()
	return b
}

// reset lets go of the texts of the last event, which may pin whole records.
func (b *binder) reset() {
	b.args = make([]driver.NamedValue, len(columns)+2)
	for i := range b.args {
		b.args[i].Ordinal = i + 1
	}
	b.last = make([]event.Cell, len(columns))
	b.some = nil
}

// bind takes an event. With past set its arguments end in the key among past ids.
func (b *binder) bind(e *event.Event, past bool) {
	b.shape = shape{past: past}
	for i, f := range columns {
		c := e.Cell(f)
		if c.Set {
			b.shape.fill(i)
		}
		if *c == b.last[i] {
			continue
		}
		b.last[i] = *c
		b.args[i].Value = b.value(f, c)
	}
	b.args[len(columns)].Value = contentHash(e)
	if past {
		b.args[len(columns)+1].Value = pastKey(e.ID())
	}
}

// all returns the arguments for all columns.
func (b *binder) all() []driver.NamedValue {
	if b.shape.past {
		return b.args
	}
	return b.args[:len(columns)+1]
}

// filled returns the arguments for the columns of the shape. They are good until
// the next call.
func (b *binder) filled() []driver.NamedValue {
	b.some = b.some[:0]
	for i, a := range b.all() {
		if i < len(columns) && !b.shape.fills(i) {
			continue
		}
		b.some = append(b.some, driver.NamedValue{Ordinal: len(b.some) + 1, Value: a.Value})
	}
	return b.some
}

// contentHash is the hash as SQLite holds it: the same 64 bits, signed.
func contentHash(e *event.Event) int64 { return int64(e.Content) } //nolint:gosec // the bits are kept

func (b *binder) value(f event.Field, c *event.Cell) driver.Value {
	if !c.Set {
		return nil
	}
	switch f.Kind() {
	case event.Int, event.Bool:
		return c.Num
	case event.Float:
		// Through the shortest text, so that 48.2 stays 48.2.
		v := math.Float32frombits(uint32(c.Num)) //nolint:gosec // holds 32 bits by contract
		b.text = strconv.AppendFloat(b.text[:0], float64(v), 'g', -1, 32)
		wide, err := strconv.ParseFloat(string(b.text), 64)
		if err != nil {
			return float64(v)
		}
		return wide
	case event.Decimal:
		return decimal(c.Text)
	case event.Time:
		return b.time(c.Num)
	default:
		return c.Text
	}
}

// decimal returns the number that a BigDecimal text stands for. One beyond the
// range of a double is held at its end, since infinity cannot be written as JSON.
func decimal(s string) driver.Value {
	v, err := strconv.ParseFloat(s, 64)
	switch {
	case err == nil && !math.IsInf(v, 0) && !math.IsNaN(v):
		return v
	case math.IsInf(v, 1):
		return math.MaxFloat64
	case math.IsInf(v, -1):
		return -math.MaxFloat64
	default:
		return s // the column keeps what is no number as text
	}
}

const (
	dayMillis  = 24 * 60 * 60 * 1000
	hourMillis = 60 * 60 * 1000
)

// time writes milliseconds since the epoch as timeLayout does, keeping the date
// between calls.
func (b *binder) time(ms int64) string {
	day := ms / dayMillis
	rest := ms % dayMillis
	if rest < 0 {
		day--
		rest += dayMillis
	}
	if day != b.day {
		b.day = day
		b.date = time.UnixMilli(day*dayMillis).UTC().AppendFormat(b.date[:0], "2006-01-02 ")
	}
	t := append(b.text[:0], b.date...)
	t = digits(t, rest/hourMillis, 2)
	t = digits(append(t, ':'), rest/60000%60, 2)
	t = digits(append(t, ':'), rest/1000%60, 2)
	t = digits(append(t, '.'), rest%1000, 3)
	b.text = t
	return string(t)
}

func digits(b []byte, n int64, width int) []byte {
	for range width {
		b = append(b, '0')
	}
	for i := len(b) - 1; n > 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
	return b
}
