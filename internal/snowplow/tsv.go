package snowplow

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"furrow/internal/event"
)

// AppendTSV appends the event as an enriched TSV line without line end: 131 cells
// joined by tabs, null as nothing.
func AppendTSV(dst []byte, e *event.Event) []byte {
	for f := range event.Field(event.NumFields) {
		if f > 0 {
			dst = append(dst, '\t')
		}
		if e.Has(f) {
			dst = AppendCell(dst, e, f)
		}
	}
	return dst
}

// AppendCell appends the text of one field as the TSV has it, nothing when null.
func AppendCell(dst []byte, e *event.Event, f event.Field) []byte {
	c := e.Cell(f)
	if !c.Set {
		return dst
	}
	switch f.Kind() {
	case event.Int, event.Bool:
		return strconv.AppendInt(dst, c.Num, 10)
	case event.Time:
		return AppendTime(dst, c.Num)
	case event.Float:
		return appendFloat(dst, e.Float(f))
	}
	return append(dst, c.Text...)
}

// timeLayout is the only form of a timestamp in a TSV; it is always UTC.
const timeLayout = "2006-01-02 15:04:05.000"

// AppendTime appends a timestamp in milliseconds since the epoch as
// yyyy-MM-dd HH:mm:ss.SSS in UTC. The year must be 0 to 9999, see ValidMillis.
func AppendTime(dst []byte, ms int64) []byte {
	return time.UnixMilli(ms).UTC().AppendFormat(dst, timeLayout)
}

// appendFloat writes the shortest text that reads back, in the form of Java's
// Float.toString.
func appendFloat(dst []byte, v float32) []byte {
	f := float64(v)
	switch abs := math.Abs(f); {
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	case abs != 0 && (abs < 1e-3 || abs >= 1e7):
		text := strconv.FormatFloat(f, 'E', -1, 32)
		mantissa, exponent, _ := strings.Cut(text, "E")
		if !strings.Contains(mantissa, ".") {
			mantissa += ".0"
		}
		n, _ := strconv.Atoi(exponent) // drops the sign and zeros that Java does not write
		dst = append(dst, mantissa...)
		dst = append(dst, 'E')
		return strconv.AppendInt(dst, int64(n), 10)
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, 'f', -1, 32)
	if !strings.Contains(string(dst[start:]), ".") {
		dst = append(dst, '.', '0')
	}
	return dst
}

var (
	errText  = errors.New("text without control characters")
	errTime  = errors.New("a time as yyyy-MM-dd HH:mm:ss.SSS")
	errFloat = errors.New("a number")
)

func setCell(e *event.Event, f event.Field, text string) error {
	switch f.Kind() {
	case event.Text:
		if !utf8.ValidString(text) || strings.IndexFunc(text, isASCIIControl) >= 0 {
			return errText
		}
		e.SetText(f, text)
	case event.JSON:
		var c Compactor
		out, err := c.Append(nil, []byte(text))
		if err != nil {
			return err
		}
		if string(out) != text {
			text = string(out)
		}
		e.SetText(f, text)
	case event.Decimal:
		plain, ok := FormatDecimal(text)
		if !ok {
			return errDecimal
		}
		e.SetText(f, plain)
	case event.Int:
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return errInt
		}
		e.SetInt(f, n)
	case event.Bool:
		if text != "0" && text != "1" {
			return errBool
		}
		e.SetInt(f, int64(text[0]-'0'))
	case event.Time:
		t, err := time.Parse(timeLayout, text)
		if err != nil || len(text) != len(timeLayout) {
			return errTime
		}
		e.SetTime(f, t)
	case event.Float:
		v, err := strconv.ParseFloat(text, 32)
		if err != nil {
			return errFloat
		}
		e.SetFloat(f, float32(v))
	}
	return nil
}
