package snowplow

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxJSONDepth bounds the recursion that hostile JSON can ask for.
const maxJSONDepth = 256

// ErrJSON is wrapped by every error of Compactor.Append.
var ErrJSON = errors.New("not JSON")

// Compactor checks JSON and writes it compact. The zero value is ready; it keeps
// its scratch space from call to call and serves one goroutine.
type Compactor struct {
	src     []byte
	pos     int
	out     []byte
	members []member // of the objects that are open, innermost last
}

// member is where in out a member of an object lies.
type member struct{ key, keyEnd, end int }

// Append appends the one JSON document in src without insignificant space. Order
// of keys and text of numbers are kept; strings are unescaped except for quotes,
// backslashes and control characters, and bytes that are no UTF-8 become U+FFFD.
// Of several members with one key the last wins, in the place of the first. On an
// error dst is returned as it was.
func (c *Compactor) Append(dst, src []byte) ([]byte, error) {
	c.src, c.pos, c.out, c.members = src, 0, dst, c.members[:0]
	err := c.value(0)
	if err == nil {
		c.space()
		if c.pos < len(src) {
			err = c.unexpected("the end")
		}
	}
	out := c.out
	c.src, c.out = nil, nil
	if err != nil {
		return dst, err
	}
	return out, nil
}

func (c *Compactor) unexpected(want string) error {
	if c.pos >= len(c.src) {
		return fmt.Errorf("%w: it ends where %s should be", ErrJSON, want)
	}
	return fmt.Errorf("%w: byte %d is %q where %s should be", ErrJSON, c.pos, c.src[c.pos], want)
}

func (c *Compactor) space() {
	for c.pos < len(c.src) {
		switch c.src[c.pos] {
		case ' ', '\t', '\n', '\r':
			c.pos++
		default:
			return
		}
	}
}

// next skips space and returns the byte after it, 0 at the end.
func (c *Compactor) next() byte {
	c.space()
	if c.pos >= len(c.src) {
		return 0
	}
	return c.src[c.pos]
}

func (c *Compactor) value(depth int) error {
	if depth > maxJSONDepth {
		return fmt.Errorf("%w: more than %d levels", ErrJSON, maxJSONDepth)
	}
	switch b := c.next(); {
	case b == '{':
		return c.object(depth)
	case b == '[':
		return c.array(depth)
	case b == '"':
		return c.text()
	case b == '-' || b >= '0' && b <= '9':
		return c.number()
	case b == 't':
		return c.word("true")
	case b == 'f':
		return c.word("false")
	case b == 'n':
		return c.word("null")
	}
	return c.unexpected("a value")
}

func (c *Compactor) word(w string) error {
	if len(c.src)-c.pos < len(w) || string(c.src[c.pos:c.pos+len(w)]) != w {
		return c.unexpected(w)
	}
	c.pos += len(w)
	c.out = append(c.out, w...)
	return nil
}

func (c *Compactor) array(depth int) error {
	c.pos++
	c.out = append(c.out, '[')
	if c.next() == ']' {
		c.pos++
		c.out = append(c.out, ']')
		return nil
	}
	for {
		if err := c.value(depth + 1); err != nil {
			return err
		}
		b := c.next()
		if b != ',' && b != ']' {
			return c.unexpected("a comma or ]")
		}
		c.pos++
		c.out = append(c.out, b)
		if b == ']' {
			return nil
		}
	}
}

func (c *Compactor) object(depth int) error {
	c.pos++
	c.out = append(c.out, '{')
	if c.next() == '}' {
		c.pos++
		c.out = append(c.out, '}')
		return nil
	}
	base := len(c.members)
	for {
		if c.next() != '"' {
			return c.unexpected("a key")
		}
		m := member{key: len(c.out)}
		if err := c.text(); err != nil {
			return err
		}
		m.keyEnd = len(c.out)
		if c.next() != ':' {
			return c.unexpected("a colon")
		}
		c.pos++
		c.out = append(c.out, ':')
		if err := c.value(depth + 1); err != nil {
			return err
		}
		m.end = len(c.out)
		c.members = append(c.members, m)
		b := c.next()
		if b != ',' && b != '}' {
			return c.unexpected("a comma or }")
		}
		c.pos++
		c.out = append(c.out, b)
		if b == '}' {
			c.dropDoubles(base)
			c.members = c.members[:base]
			return nil
		}
	}
}

// dropDoubles rewrites the object that was just closed when a key occurs twice.
func (c *Compactor) dropDoubles(base int) {
	open := c.members[base:]
	if !c.hasDouble(open) {
		return
	}
	at := make(map[string]int, len(open))
	kept := open[:0:0]
	for _, m := range open {
		key := string(c.out[m.key:m.keyEnd])
		if i, ok := at[key]; ok {
			kept[i] = m
			continue
		}
		at[key] = len(kept)
		kept = append(kept, m)
	}
	start := open[0].key
	var object []byte
	for i, m := range kept {
		if i > 0 {
			object = append(object, ',')
		}
		object = append(object, c.out[m.key:m.end]...)
	}
	c.out = append(append(c.out[:start], object...), '}')
}

func (c *Compactor) hasDouble(open []member) bool {
	if len(open) > manyParams {
		seen := make(map[string]struct{}, len(open))
		for _, m := range open {
			seen[string(c.out[m.key:m.keyEnd])] = struct{}{}
		}
		return len(seen) < len(open)
	}
	for i := range open {
		for j := range i {
			if open[i].keyEnd-open[i].key == open[j].keyEnd-open[j].key &&
				string(c.out[open[i].key:open[i].keyEnd]) == string(c.out[open[j].key:open[j].keyEnd]) {
				return true
			}
		}
	}
	return false
}

func (c *Compactor) number() error {
	start := c.pos
	if c.src[c.pos] == '-' {
		c.pos++
	}
	zero := c.pos < len(c.src) && c.src[c.pos] == '0'
	if n := c.digits(); n == 0 || zero && n > 1 {
		return c.unexpected("a number without leading zeros")
	}
	if c.pos < len(c.src) && c.src[c.pos] == '.' {
		c.pos++
		if c.digits() == 0 {
			return c.unexpected("a digit")
		}
	}
	if c.pos < len(c.src) && c.src[c.pos]|0x20 == 'e' {
		c.pos++
		if c.pos < len(c.src) && (c.src[c.pos] == '+' || c.src[c.pos] == '-') {
			c.pos++
		}
		if c.digits() == 0 {
			return c.unexpected("a digit")
		}
	}
	c.out = append(c.out, c.src[start:c.pos]...)
	return nil
}

func (c *Compactor) digits() int {
	start := c.pos
	for c.pos < len(c.src) && c.src[c.pos] >= '0' && c.src[c.pos] <= '9' {
		c.pos++
	}
	return c.pos - start
}

// plainJSON tells the bytes that a string holds as they are.
var plainJSON = func() (t [256]bool) {
	for i := ' '; i < 0x7f; i++ {
		t[i] = i != '"' && i != '\\'
	}
	return t
}()

func (c *Compactor) text() error {
	c.pos++
	c.out = append(c.out, '"')
	for {
		start := c.pos
		for c.pos < len(c.src) && plainJSON[c.src[c.pos]] {
			c.pos++
		}
		c.out = append(c.out, c.src[start:c.pos]...)
		if c.pos >= len(c.src) {
			return c.unexpected("the end of a string")
		}
		switch b := c.src[c.pos]; {
		case b == '"':
			c.pos++
			c.out = append(c.out, '"')
			return nil
		case b == '\\':
			if err := c.escape(); err != nil {
				return err
			}
		case b < ' ':
			return c.unexpected("an escaped control character")
		default:
			r, size := utf8.DecodeRune(c.src[c.pos:])
			c.pos += size
			c.out = appendJSONRune(c.out, r)
		}
	}
}

func (c *Compactor) escape() error {
	c.pos++
	if c.pos >= len(c.src) {
		return c.unexpected("an escape")
	}
	b := c.src[c.pos]
	if b == 'u' {
		r, ok := c.hex4(c.pos + 1)
		if !ok {
			return c.unexpected("an escape of four hex digits")
		}
		c.pos += 5
		if utf16.IsSurrogate(r) {
			r = c.pair(r)
		}
		c.out = appendJSONRune(c.out, r)
		return nil
	}
	i := strings.IndexByte(`"\/bfnrt`, b)
	if i < 0 {
		return c.unexpected("an escape")
	}
	c.pos++
	c.out = appendJSONRune(c.out, rune("\"\\/\b\f\n\r\t"[i]))
	return nil
}

// pair joins a surrogate with the one that follows; a lone one becomes U+FFFD.
func (c *Compactor) pair(first rune) rune {
	if c.pos+6 <= len(c.src) && c.src[c.pos] == '\\' && c.src[c.pos+1] == 'u' {
		if second, ok := c.hex4(c.pos + 2); ok {
			if r := utf16.DecodeRune(first, second); r != utf8.RuneError {
				c.pos += 6
				return r
			}
		}
	}
	return utf8.RuneError
}

func (c *Compactor) hex4(at int) (rune, bool) {
	if at+4 > len(c.src) {
		return 0, false
	}
	var r rune
	for _, b := range c.src[at : at+4] {
		v := hexValue(b)
		if v < 0 {
			return 0, false
		}
		r = r<<4 | rune(v) //nolint:gosec // 0 to 15
	}
	return r, true
}

// appendJSONRune writes one character of a string: quotes, backslashes and control
// characters escaped, all else as it is.
func appendJSONRune(dst []byte, r rune) []byte {
	switch r {
	case '"':
		return append(dst, '\\', '"')
	case '\\':
		return append(dst, '\\', '\\')
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	if r < ' ' || r >= 0x7f && r < 0xa0 {
		const digits = "0123456789abcdef"
		return append(dst, '\\', 'u', '0', '0', digits[r>>4], digits[r&0xf])
	}
	return utf8.AppendRune(dst, r)
}

// AppendJSONText appends s as a JSON string in the form that Compactor writes.
func AppendJSONText(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for _, r := range s {
		dst = appendJSONRune(dst, r)
	}
	return append(dst, '"')
}
