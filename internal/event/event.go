package event

import (
	"math"
	"time"
)

// Field names one of the 131 cells of an enriched event by its TSV position.
type Field uint8

// Kind is how a field's value is held and written.
type Kind uint8

// The kinds of fields. Text, JSON and Decimal live in Cell.Text; the others in
// Cell.Num.
const (
	Text    Kind = iota // UTF-8 without ASCII control characters, never empty
	JSON                // one compact JSON document, never empty
	Decimal             // text of a java.math.BigDecimal, for example 3.10 or 1E-7
	Int                 // 32-bit integer
	Bool                // 0 or 1
	Time                // milliseconds since the epoch, UTC
	Float               // 32-bit float as math.Float32bits
)

type info struct {
	name   string
	kind   Kind
	maxLen int
}

// Name returns the field's name as downstream tools know it, for example app_id.
func (f Field) Name() string { return fields[f].name }

// Kind returns how the field's value is held.
func (f Field) Kind() Kind { return fields[f].kind }

// MaxLen returns the greatest permitted length in UTF-16 units, 0 when there is
// no limit. A longer value fails its event; nothing is truncated.
func (f Field) MaxLen() int { return fields[f].maxLen }

// Fields returns all fields in TSV order.
func Fields() []Field {
	all := make([]Field, NumFields)
	for i := range all {
		all[i] = Field(i)
	}
	return all
}

// Cell is the value of one field. The zero Cell is null.
type Cell struct {
	Text string // Text, JSON, Decimal
	Num  int64  // Int, Bool, Time (milliseconds), Float (bits)
	Set  bool   // false: null
}

// Event is one enriched event: 131 cells and where it came from. Consumers share
// events, so an event must not be changed once it has left enrichment.
type Event struct {
	Record  RecordID // the record it was found in
	Index   int      // its position in that record, from 0
	Content uint64   // hash of the tracker's own parameters, stm aside: tells a resend from another event with the same id
	cells   [NumFields]Cell
}

// Cell returns the value of a field; it must not be changed through the pointer
// by consumers.
func (e *Event) Cell(f Field) *Cell { return &e.cells[f] }

// Has reports whether the field is not null.
func (e *Event) Has(f Field) bool { return e.cells[f].Set }

// Clear makes the field null.
func (e *Event) Clear(f Field) { e.cells[f] = Cell{} }

// Text returns a Text, JSON or Decimal field; empty when null.
func (e *Event) Text(f Field) string { return e.cells[f].Text }

// SetText sets a Text, JSON or Decimal field. An empty text makes it null.
func (e *Event) SetText(f Field, s string) { e.cells[f] = Cell{Text: s, Set: s != ""} }

// Int returns an Int or Bool field; 0 when null.
func (e *Event) Int(f Field) int64 { return e.cells[f].Num }

// SetInt sets an Int or Bool field.
func (e *Event) SetInt(f Field, n int64) { e.cells[f] = Cell{Num: n, Set: true} }

// Time returns a Time field in UTC with millisecond precision; the zero time when
// null.
func (e *Event) Time(f Field) time.Time {
	if !e.cells[f].Set {
		return time.Time{}
	}
	return time.UnixMilli(e.cells[f].Num).UTC()
}

// SetTime sets a Time field, cut to milliseconds.
func (e *Event) SetTime(f Field, t time.Time) { e.cells[f] = Cell{Num: t.UnixMilli(), Set: true} }

// Float returns a Float field; 0 when null.
func (e *Event) Float(f Field) float32 { return math.Float32frombits(uint32(e.cells[f].Num)) } //nolint:gosec // holds 32 bits by contract

// SetFloat sets a Float field.
func (e *Event) SetFloat(f Field, v float32) {
	e.cells[f] = Cell{Num: int64(math.Float32bits(v)), Set: true}
}

// ID returns the event's identifier, a lower-case canonical UUID.
func (e *Event) ID() string { return e.cells[EventID].Text }
