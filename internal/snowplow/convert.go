package snowplow

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"furrow/internal/event"
)

// What a value should have been; these texts are the expectation of a bad row.
var (
	errEventType = errors.New("one of se, ev, ue, pv, pp, tr, ti, ad")
	errPlatform  = errors.New("one of web, iot, app, mob, pc, cnsl, tv, srv, headset")
	errUUID      = errors.New("a UUID in canonical form")
	errInt       = errors.New("a 32-bit integer")
	errDecimal   = errors.New("a decimal number")
	errBool      = errors.New("1 or 0")
	errMillis    = errors.New("milliseconds since the epoch, of a year from 0 to 9999")
	errDimension = errors.New("WIDTHxHEIGHT, both 32-bit integers")
)

// Set converts value as the parameter wants it and sets its field or fields. The
// text of an error is what was expected instead; then nothing was set. JSON
// parameters and ignored ones set nothing: what a JSON parameter may hold is for
// enrichment to say.
func (s *Spec) Set(e *event.Event, value string) error {
	switch s.Conversion {
	case AsText:
		e.SetText(s.Field, SafeText(value))
	case AsEventType:
		name, ok := eventTypes[value]
		if !ok {
			return errEventType
		}
		e.SetText(s.Field, name)
	case AsPlatform:
		if !isPlatform(value) {
			return errPlatform
		}
		e.SetText(s.Field, value)
	case AsUUID:
		if !isUUID(value) {
			return errUUID
		}
		e.SetText(s.Field, strings.ToLower(value))
	case AsInt:
		return setInt(e, s.Field, value)
	case AsDecimal:
		return setDecimal(e, s.Field, value)
	case AsBool:
		if value != "0" && value != "1" {
			return errBool
		}
		e.SetInt(s.Field, int64(value[0]-'0'))
	case AsMillis:
		ms, ok := ParseMillis(value)
		if !ok {
			return errMillis
		}
		*e.Cell(s.Field) = event.Cell{Num: ms, Set: true}
	case AsDimension:
		return setDimension(e, s, value)
	case AsAddress:
		if i := strings.IndexAny(value, ",| "); i >= 0 {
			value = value[:i]
		}
		e.SetText(s.Field, SafeText(value))
	case Ignored, AsJSON, AsBase64JSON:
	}
	return nil
}

var eventTypes = map[string]string{
	"se": "struct", "ev": "struct", "ue": "unstruct", "ad": "ad_impression",
	"tr": "transaction", "ti": "transaction_item", "pv": "page_view", "pp": "page_ping",
}

func isPlatform(s string) bool {
	switch s {
	case "web", "iot", "app", "mob", "pc", "cnsl", "tv", "srv", "headset":
		return true
	}
	return false
}

// SafeText returns s as a TSV cell can hold it: a tab becomes four spaces, other
// ASCII control characters vanish, bytes that are no UTF-8 become U+FFFD.
func SafeText(s string) string {
	clean := true
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c >= 0x7f {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	s = ValidText(s)
	if strings.IndexFunc(s, isASCIIControl) < 0 {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 8)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\t':
			b.WriteString("    ")
		case c >= ' ' && c != 0x7f:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func isASCIIControl(r rune) bool { return r < ' ' || r == 0x7f }

// ValidText returns s with every byte that is not part of UTF-8 replaced by
// U+FFFD.
func ValidText(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 16)
	for _, r := range s { // one U+FFFD for each bad byte
		b.WriteRune(r)
	}
	return b.String()
}

// isUUID accepts the canonical 8-4-4-4-12 form in either case.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if s[i] != '-' {
				return false
			}
		} else if !isHex(s[i]) {
			return false
		}
	}
	return true
}

func allHex(s string) bool {
	for i := range len(s) {
		if !isHex(s[i]) {
			return false
		}
	}
	return true
}

func isHex(c byte) bool { return hexValue(c) >= 0 }

// NormalizeUUID reads a UUID as java.util.UUID does, five hex groups of which
// short ones are padded, and returns its canonical form.
func NormalizeUUID(s string) (string, bool) {
	if isUUID(s) {
		return strings.ToLower(s), true
	}
	if len(s) > 36 {
		return "", false
	}
	groups := strings.Split(s, "-")
	if len(groups) != 5 {
		return "", false
	}
	var b strings.Builder
	for i, width := range [...]int{8, 4, 4, 4, 12} {
		g := groups[i]
		if g == "" || !allHex(g) {
			return "", false
		}
		if i > 0 {
			b.WriteByte('-')
		}
		if len(g) > width {
			g = g[len(g)-width:]
		}
		b.WriteString(strings.Repeat("0", width-len(g)))
		b.WriteString(strings.ToLower(g))
	}
	return b.String(), true
}

func setInt(e *event.Event, f event.Field, s string) error {
	if len(s) == 4 && strings.EqualFold(s, "null") {
		e.Clear(f)
		return nil
	}
	// ParseInt accepts a sign and digits only, as Java does, but ASCII digits only.
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return errInt
	}
	e.SetInt(f, n)
	return nil
}

func setDimension(e *event.Event, s *Spec, value string) error {
	w, h, ok := strings.Cut(value, "x")
	width, okW := parseUnsigned(w)
	height, okH := parseUnsigned(h)
	if !ok || !okW || !okH {
		return errDimension
	}
	e.SetInt(s.Field, width)
	e.SetInt(s.Second, height)
	return nil
}

// parseUnsigned reads digits without sign up to 2147483647.
func parseUnsigned(s string) (int64, bool) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 32)
	return n, err == nil
}

// The years that a timestamp may have, in milliseconds since the epoch.
const (
	minMillis = -62167219200000 // 0000-01-01 00:00:00.000
	maxMillis = 253402300799999 // 9999-12-31 23:59:59.999
)

// ValidMillis reports whether a timestamp lies in the years 0 to 9999, outside of
// which it cannot be written.
func ValidMillis(ms int64) bool { return ms >= minMillis && ms <= maxMillis }

// ParseMillis reads milliseconds since the epoch, of a year from 0 to 9999.
func ParseMillis(s string) (int64, bool) {
	ms, err := strconv.ParseInt(s, 10, 64)
	return ms, err == nil && ValidMillis(ms)
}

// base64Value holds the value of each byte of both alphabets, 0xff for others.
var base64Value = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for i := range len(alphabet) {
		t[alphabet[i]] = byte(i)
	}
	t['-'], t['_'] = t['+'], t['/']
	return t
}()

// AppendBase64 appends what s decodes to: either alphabet, padding optional, other
// bytes skipped, up to the first equals sign. It never fails.
func AppendBase64(dst []byte, s string) []byte {
	var bits, n uint
	for i := range len(s) {
		v := base64Value[s[i]]
		if v == 0xff {
			if s[i] == '=' {
				break
			}
			continue
		}
		bits = bits<<6 | uint(v)
		if n++; n == 4 {
			dst = append(dst, byte(bits>>16), byte(bits>>8), byte(bits)) //nolint:gosec // the low 24 bits
			bits, n = 0, 0
		}
	}
	switch n {
	case 2:
		dst = append(dst, byte(bits>>4))
	case 3:
		dst = append(dst, byte(bits>>10), byte(bits>>2))
	}
	return dst
}
