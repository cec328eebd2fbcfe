package snowplow

import (
	"math"
	"strconv"
	"strings"

	"furrow/internal/event"
)

// maxZeros bounds how many zeros an exponent may add to a number: 1E999999999 is
// eleven bytes on the wire and a gigabyte when written out.
const maxZeros = 1000

func setDecimal(e *event.Event, f event.Field, s string) error {
	if len(s) == 4 && strings.EqualFold(s, "null") {
		e.Clear(f)
		return nil
	}
	if isPlainInteger(s) {
		e.SetText(f, s)
		return nil
	}
	text, ok := FormatDecimal(s)
	if !ok {
		return errDecimal
	}
	e.SetText(f, text)
	return nil
}

// isPlainInteger reports whether s is its own canonical text.
func isPlainInteger(s string) bool {
	if s == "" || s[0] == '0' {
		return s == "0"
	}
	return allDigits(s)
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// FormatDecimal reads a number as java.math.BigDecimal does and returns the text
// that its toString gives once a negative scale is expanded: 3.10 stays, 1E7
// becomes 10000000, 0.0000001 becomes 1E-7. ASCII digits only; an exponent that
// asks for more than 1,000 zeros is refused.
func FormatDecimal(s string) (string, bool) {
	negative, digits, scale, ok := scanDecimal(s)
	if !ok {
		return "", false
	}
	digits = strings.TrimLeft(digits, "0")
	if digits == "" {
		digits, negative = "0", false
	}
	if scale < 0 {
		if digits != "0" {
			if scale < -maxZeros {
				return "", false
			}
			digits += strings.Repeat("0", int(-scale))
		}
		scale = 0
	}
	var b strings.Builder
	if negative {
		b.WriteByte('-')
	}
	n := int64(len(digits))
	switch {
	case scale == 0:
		b.WriteString(digits)
	case scale-n+1 <= 6:
		if scale >= n { // a leading zero, then zeros up to the first digit
			digits = strings.Repeat("0", int(scale-n+1)) + digits
		}
		point := len(digits) - int(scale)
		b.WriteString(digits[:point])
		b.WriteByte('.')
		b.WriteString(digits[point:])
	default:
		b.WriteByte(digits[0])
		if n > 1 {
			b.WriteByte('.')
			b.WriteString(digits[1:])
		}
		b.WriteByte('E')
		b.WriteString(strconv.FormatInt(n-1-scale, 10))
	}
	return b.String(), true
}

// scanDecimal splits a number into sign, digits without point, and scale.
func scanDecimal(s string) (negative bool, digits string, scale int64, ok bool) {
	if s != "" && (s[0] == '+' || s[0] == '-') {
		negative = s[0] == '-'
		s = s[1:]
	}
	mantissa, exponent := s, int64(0)
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		var err error
		mantissa = s[:i]
		if exponent, err = strconv.ParseInt(s[i+1:], 10, 32); err != nil {
			return false, "", 0, false
		}
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	if whole == "" && fraction == "" || !allDigits(whole) || !allDigits(fraction) {
		return false, "", 0, false
	}
	scale = int64(len(fraction)) - exponent
	if scale < math.MinInt32 || scale > math.MaxInt32 {
		return false, "", 0, false
	}
	if fraction == "" {
		return negative, whole, scale, true
	}
	return negative, whole + fraction, scale, true
}
