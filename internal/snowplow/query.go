package snowplow

import (
	"strings"
	"unicode/utf8"
)

// Param is one name and value of a request. Set is false for a name without an
// equals sign, which differs from an empty value.
type Param struct {
	Name  string
	Value string
	Set   bool
}

// AppendQuery appends the decoded parameters of a query string in their order and
// reports whether it is one that Snowplow's enrichment accepts. One that is not
// (a raw space or brace, a percent sign without two hex digits) is decoded as far
// as it goes: offending bytes stand for themselves.
//
// Pairs end at & and ;, a plus sign is a space, text after # is dropped, nameless
// pairs vanish, bytes that are no UTF-8 become U+FFFD. Of several pairs with one
// name the last wins, in the place of the first.
func AppendQuery(dst []Param, raw string) (params []Param, strict bool) {
	if i := strings.IndexByte(raw, '#'); i >= 0 {
		raw = raw[:i]
	}
	strict = true
	base := len(dst)
	d := queryDecoder{size: len(raw)}
	for raw != "" {
		pair := raw
		if i := indexSeparator(raw); i >= 0 {
			pair, raw = raw[:i], raw[i+1:]
		} else {
			raw = ""
		}
		if pair == "" {
			continue
		}
		name, value, set := strings.Cut(pair, "=")
		name, okName := d.decode(name)
		value, okValue := d.decode(value)
		strict = strict && okName && okValue
		if name != "" {
			dst = append(dst, Param{Name: name, Value: value, Set: set})
		}
	}
	return dst[:base+len(lastWins(dst[base:]))], strict
}

func indexSeparator(s string) int {
	for i := range len(s) {
		if s[i] == '&' || s[i] == ';' {
			return i
		}
	}
	return -1
}

// manyParams is from where a map beats comparing each name with each.
const manyParams = 48

// lastWins removes doubles in place.
func lastWins(params []Param) []Param {
	var at map[string]int
	if len(params) > manyParams {
		at = make(map[string]int, len(params))
	}
	n := 0
	for i := range params {
		j, double := 0, false
		if at != nil {
			j, double = at[params[i].Name]
		} else {
			for j < n && params[j].Name != params[i].Name {
				j++
			}
			double = j < n
		}
		if double {
			params[j] = params[i]
			continue
		}
		if at != nil {
			at[params[i].Name] = n
		}
		if n < i { // most query strings have no double and need no copying
			params[n] = params[i]
		}
		n++
	}
	return params[:n]
}

// queryDecoder writes all texts that need decoding into one buffer.
type queryDecoder struct {
	buf  strings.Builder
	size int
}

// Classes of bytes in a query string.
const (
	plainByte  = iota
	escapeByte // + or %
	highByte   // not ASCII
	illegalByte
)

var queryClass = func() (t [256]byte) {
	for i := range t {
		switch {
		case i >= 0x80:
			t[i] = highByte
		case i <= ' ' || i == 0x7f || strings.IndexByte("\"<>\\^`{|}", byte(i)) >= 0:
			t[i] = illegalByte
		case i == '+' || i == '%':
			t[i] = escapeByte
		}
	}
	return t
}()

// decode returns the text of s and whether s was legal.
func (d *queryDecoder) decode(s string) (text string, legal bool) {
	legal = true
	escaped, high := false, false
	for i := range len(s) {
		switch queryClass[s[i]] {
		case escapeByte:
			escaped = true
		case highByte:
			high = true
		case illegalByte:
			legal = false
		}
	}
	if !escaped {
		if high {
			s = ValidText(s)
		}
		return s, legal
	}
	if d.buf.Cap() == 0 {
		d.buf.Grow(d.size)
	}
	start := d.buf.Len()
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch c {
		case '+':
			c = ' '
		case '%':
			if i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) {
				c = byte(hexValue(s[i+1])<<4 | hexValue(s[i+2])) //nolint:gosec // two hex digits
				i += 2
			} else {
				legal = false
			}
		}
		d.buf.WriteByte(c)
	}
	text = d.buf.String()[start:]
	if !utf8.ValidString(text) {
		text = ValidText(text)
	}
	return text, legal
}

func hexValue(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
