package store

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"furrow/internal/event"
)

// The binary format of COPY: a header, then tuples (a 16-bit count of fields, each
// with a 32-bit length in front, -1 for null), then a count of -1. Numbers are
// big-endian. PostgreSQL documents it under COPY, and of the types in their recv
// functions.
const (
	copyHeader  = "PGCOPY\n\377\r\n\000\000\000\000\000\000\000\000\000"
	copyTrailer = "\xff\xff"

	pgEpochMillis = 946_684_800_000           // 2000-01-01, from which timestamps count
	pgFirstMillis = -210_866_803_200_000      // what a timestamp can hold
	pgEndMillis   = 9_224_318_016_000_000 - 1 // and its end, exclusive
	// Days with a four-digit year can be partitions.
	dayFirstMillis = -62_135_596_800_000
	dayEndMillis   = 253_402_300_800_000

	numericWhole    = 131_072 // digits before the point
	numericFraction = 16_383  // and after it
)

// pgColumn is what encoding a cell takes to know, looked up once.
type pgColumn struct {
	field    event.Field
	kind     event.Kind
	limit    int // characters, 0: none
	required bool
	double   bool // a decimal held as a double
}

var pgColumns = func() []pgColumn {
	out := make([]pgColumn, 0, len(columns))
	for _, f := range columns {
		out = append(out, pgColumn{
			field: f, kind: f.Kind(), limit: f.MaxLen(), required: required[f],
			double: f.Kind() == event.Decimal && pgType(f) == "double precision",
		})
	}
	return out
}()

// tuples encodes events for COPY.
type tuples struct {
	buf    []byte
	digits []byte
}

// add appends the event, or nothing and the reason why no table of ours can hold
// it. The reasons are those that the server would have.
func (t *tuples) add(e *event.Event) error {
	start := len(t.buf)
	t.buf = binary.BigEndian.AppendUint16(t.buf, uint16(len(columns)+1)) //nolint:gosec // 132
	for i := range pgColumns {
		column := &pgColumns[i]
		c := e.Cell(column.field)
		var err error
		switch {
		case c.Set:
			err = t.cell(column, c)
		case column.required:
			err = missing(column.field)
		default:
			t.buf = append(t.buf, 0xff, 0xff, 0xff, 0xff)
		}
		if err != nil {
			t.buf = t.buf[:start]
			return err
		}
	}
	t.int64(contentHash(e))
	return nil
}

func missing(f event.Field) error { return fmt.Errorf("%s is missing", f.Name()) }

func (t *tuples) cell(column *pgColumn, c *event.Cell) error {
	f := column.field
	switch column.kind {
	case event.Int:
		if c.Num != int64(int32(c.Num)) { //nolint:gosec // that is the question
			return fmt.Errorf("%s %d is beyond 32 bits", f.Name(), c.Num)
		}
		t.buf = append(t.buf, 0, 0, 0, 4)
		t.buf = binary.BigEndian.AppendUint32(t.buf, uint32(c.Num)) //nolint:gosec // fits, as above
	case event.Bool:
		t.buf = append(t.buf, 0, 0, 0, 1, 0)
		if c.Num != 0 {
			t.buf[len(t.buf)-1] = 1
		}
	case event.Float:
		t.float64(widen(math.Float32frombits(uint32(c.Num)))) //nolint:gosec // holds 32 bits by contract
	case event.Decimal:
		return t.decimal(column, c.Text)
	case event.Time:
		return t.time(f, c.Num)
	case event.JSON:
		s := mendDocument(c.Text)
		t.length(len(s) + 1)
		t.buf = append(append(t.buf, 1), s...) // version 1 of jsonb's format is its text
	default:
		s := mendText(c.Text)
		if limit := column.limit; limit > 0 && len(s) > limit {
			if n := utf8.RuneCountInString(s); n > limit {
				return fmt.Errorf("%s has %d characters of at most %d", f.Name(), n, limit)
			}
		}
		t.length(len(s))
		t.buf = append(t.buf, s...)
	}
	return nil
}

func (t *tuples) length(n int) {
	t.buf = binary.BigEndian.AppendUint32(t.buf, uint32(n)) //nolint:gosec // a cell of gigabytes fails on the server
}

func (t *tuples) int64(n int64) {
	t.buf = append(t.buf, 0, 0, 0, 8)
	t.buf = binary.BigEndian.AppendUint64(t.buf, uint64(n)) //nolint:gosec // two's complement on purpose
}

func (t *tuples) float64(v float64) {
	t.buf = append(t.buf, 0, 0, 0, 8)
	t.buf = binary.BigEndian.AppendUint64(t.buf, math.Float64bits(v))
}

// widen goes through the shortest text, so that 48.2 stays 48.2.
func widen(v float32) float64 {
	var text [32]byte
	wide, err := strconv.ParseFloat(string(strconv.AppendFloat(text[:0], float64(v), 'g', -1, 32)), 64)
	if err != nil {
		return float64(v)
	}
	return wide
}

func (t *tuples) time(f event.Field, ms int64) error {
	if ms < pgFirstMillis || ms > pgEndMillis {
		return fmt.Errorf("%s is %d milliseconds from 1970, beyond what a timestamp holds", f.Name(), ms)
	}
	t.int64((ms - pgEpochMillis) * 1000)
	return nil
}

func (t *tuples) decimal(column *pgColumn, s string) error {
	f := column.field
	if column.double {
		v, ok := decimal(s).(float64)
		if !ok {
			return fmt.Errorf("%s %q is no number", f.Name(), clip(s))
		}
		t.float64(v)
		return nil
	}
	at := len(t.buf)
	t.length(0)
	if err := t.numeric(s); err != nil {
		return fmt.Errorf("%s %q %w", f.Name(), clip(s), err)
	}
	binary.BigEndian.PutUint32(t.buf[at:], uint32(len(t.buf)-at-4)) //nolint:gosec // at most 70 kB
	return nil
}

func clip(s string) string {
	if len(s) > 40 {
		return strings.ToValidUTF8(s[:40], "") + "…"
	}
	return s
}

var errNoNumber = fmt.Errorf("is no number")

// numeric appends a decimal in groups of four digits: their count, the power of
// 10,000 of the first, the sign, and how many digits after the point are shown.
func (t *tuples) numeric(s string) error {
	negative, point, fraction, err := t.parseDecimal(s)
	if err != nil {
		return err
	}
	if len(t.digits) == 0 {
		negative, point = false, 0
	}
	if point > numericWhole || max(fraction, len(t.digits)-point) > numericFraction {
		return fmt.Errorf("is beyond what a numeric holds")
	}
	lead := ((-point)%4 + 4) % 4 // zeros before the first digit, so that the point lies between groups
	groups := (lead + len(t.digits) + 3) / 4
	weight := (point+lead)/4 - 1
	if groups == 0 {
		weight = 0
	}
	sign := 0
	if negative {
		sign = 0x4000
	}
	for _, n := range [...]int{groups, weight, sign, max(fraction, 0)} {
		t.buf = binary.BigEndian.AppendUint16(t.buf, uint16(n)) //nolint:gosec // two's complement, within the limits above
	}
	group, filled := uint16(0), lead
	for _, d := range t.digits {
		group = group*10 + uint16(d-'0')
		if filled++; filled%4 == 0 {
			t.buf = binary.BigEndian.AppendUint16(t.buf, group)
			group = 0
		}
	}
	if rest := filled % 4; rest != 0 {
		for range 4 - rest {
			group *= 10
		}
		t.buf = binary.BigEndian.AppendUint16(t.buf, group)
	}
	return nil
}

// parseDecimal leaves the significant digits of a BigDecimal's text in t.digits.
// The value is 0.DIGITS times ten to the power of point; fraction is how many
// digits its text has after the point.
func (t *tuples) parseDecimal(s string) (negative bool, point, fraction int, err error) {
	t.digits = t.digits[:0]
	if s != "" && (s[0] == '-' || s[0] == '+') {
		negative = s[0] == '-'
		s = s[1:]
	}
	mantissa, power := s, 0
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		mantissa = s[:i]
		if power, err = strconv.Atoi(s[i+1:]); err != nil {
			return false, 0, 0, errNoNumber
		}
		power = max(min(power, 1<<24), -1<<24) // beyond any limit, and safe to add to
	}
	dot, seen := -1, 0
	for i := range len(mantissa) {
		switch ch := mantissa[i]; {
		case ch >= '0' && ch <= '9':
			t.digits = append(t.digits, ch)
			seen++
		case ch == '.' && dot < 0:
			dot = seen
		default:
			return false, 0, 0, errNoNumber
		}
	}
	if seen == 0 {
		return false, 0, 0, errNoNumber
	}
	if dot < 0 {
		dot = seen
	}
	point, fraction = dot+power, seen-dot-power
	zeros := 0
	for zeros < len(t.digits) && t.digits[zeros] == '0' {
		zeros++
	}
	t.digits = t.digits[zeros:]
	for len(t.digits) > 0 && t.digits[len(t.digits)-1] == '0' {
		t.digits = t.digits[:len(t.digits)-1]
	}
	return negative, point - zeros, fraction, nil
}

// parseUUID reads the usual spelling with hyphens, in either case.
func parseUUID(s string) (id [16]byte, ok bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id, false
	}
	var text [32]byte
	n := copy(text[:], s[:8])
	n += copy(text[n:], s[9:13])
	n += copy(text[n:], s[14:18])
	n += copy(text[n:], s[19:23])
	copy(text[n:], s[24:])
	_, err := hex.Decode(id[:], text[:])
	return id, err == nil
}
