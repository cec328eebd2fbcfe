package inspector

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"strconv"
	"time"

	"furrow/internal/event"
)

const (
	entryOverhead = 256       // structs and slots around an entry's bytes
	entryLimit    = 256 << 10 // an event above this loses its long cells
	longCell      = 1 << 10
	badLimit      = 64 << 10 // of the failure, and of the record
)

// entry is an event in the ring: its set cells in one string, so that it pins
// neither the record it came from nor 131 empty cells.
type entry struct {
	record   event.RecordID
	index    int
	recorded time.Time
	packed   string // per cell: field, then uvarint length and text, or varint number
	id       string // these three are parts of packed
	appID    string
	name     string
	cut      bool // long cells were left out
}

func (e *entry) size() int64 { return int64(len(e.packed)) + entryOverhead }

// newEntry packs an event. It keeps nothing of it but copies.
func newEntry(ev *event.Event, recorded time.Time, scratch []byte) (*entry, []byte) {
	e := &entry{record: ev.Record, index: ev.Index, recorded: recorded}
	scratch = pack(scratch[:0], ev, math.MaxInt)
	if len(scratch) > entryLimit {
		scratch, e.cut = pack(scratch[:0], ev, longCell), true
	}
	e.packed = string(scratch)
	e.each(func(f event.Field, text string, _ int64) {
		switch f {
		case event.EventID:
			e.id = text
		case event.AppID:
			e.appID = text
		case event.EventName:
			e.name = text
		default:
		}
	})
	return e, scratch
}

func pack(b []byte, ev *event.Event, longest int) []byte {
	for f := range event.Field(event.NumFields) {
		c := ev.Cell(f)
		if !c.Set {
			continue
		}
		if isText(f) {
			if len(c.Text) > longest {
				continue
			}
			b = append(b, byte(f))
			b = binary.AppendUvarint(b, uint64(len(c.Text)))
			b = append(b, c.Text...)
			continue
		}
		b = append(b, byte(f))
		b = binary.AppendVarint(b, c.Num)
	}
	return b
}

func isText(f event.Field) bool {
	k := f.Kind()
	return k == event.Text || k == event.JSON || k == event.Decimal
}

// each calls fn for every set cell in TSV order.
func (e *entry) each(fn func(f event.Field, text string, num int64)) {
	for rest := e.packed; rest != ""; {
		f := event.Field(rest[0])
		rest = rest[1:]
		if !isText(f) {
			num, n := readVarint(rest)
			rest = rest[n:]
			fn(f, "", num)
			continue
		}
		length, n := readUvarint(rest)
		rest = rest[n:]
		fn(f, rest[:length], 0)
		rest = rest[length:]
	}
}

// The two readers work on a string, which encoding/binary does not; pack wrote
// what they read, so it is never malformed.
func readUvarint(s string) (uint64, int) {
	var x uint64
	for i := 0; i < len(s); i++ {
		x |= uint64(s[i]&0x7f) << (7 * i)
		if s[i] < 0x80 {
			return x, i + 1
		}
	}
	return x, len(s)
}

func readVarint(s string) (int64, int) {
	u, n := readUvarint(s)
	return int64(u>>1) ^ -int64(u&1), n
}

// fieldsJSON writes the set cells as a JSON object in TSV order. JSON cells are
// parsed; times are RFC 3339 in UTC with milliseconds.
func (e *entry) fieldsJSON() []byte {
	b := make([]byte, 0, len(e.packed)*2)
	b = append(b, '{')
	e.each(func(f event.Field, text string, num int64) {
		v := cellJSON(f, text, num)
		if v == nil {
			return
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, f.Name()...)
		b = append(b, '"', ':')
		b = append(b, v...)
	})
	return append(b, '}')
}

func cellJSON(f event.Field, text string, num int64) []byte {
	switch f.Kind() {
	case event.JSON, event.Decimal:
		if raw := []byte(text); json.Valid(raw) {
			return raw
		}
		return quote(text)
	case event.Int:
		return strconv.AppendInt(nil, num, 10)
	case event.Bool:
		return strconv.AppendBool(nil, num != 0)
	case event.Time:
		return quote(stamp(time.UnixMilli(num)))
	case event.Float:
		v := math.Float32frombits(uint32(num)) //nolint:gosec // holds 32 bits by contract
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return nil
		}
		return strconv.AppendFloat(nil, float64(v), 'g', -1, 32)
	case event.Text:
	}
	return quote(text)
}

func quote(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil { // a string always marshals
		return []byte(`""`)
	}
	return b
}

// stamp writes a time with milliseconds, always, so that columns line up.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }
