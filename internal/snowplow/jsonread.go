package snowplow

import (
	"iter"
	"strings"
)

// The functions of this file read what Compactor wrote, and only that.

// Members returns the members of an object: keys without their quotes, values as
// JSON. It returns none for other values.
func Members(object string) iter.Seq2[string, string] {
	return func(yield func(key, value string) bool) {
		if len(object) < 3 || object[0] != '{' {
			return
		}
		for i := 1; i < len(object); {
			end := skipText(object, i)
			key := object[i+1 : end-1]
			i = skipValue(object, end+1)
			if !yield(key, object[end+1:i]) {
				return
			}
			if object[i] == '}' {
				return
			}
			i++
		}
	}
}

// AppendTextMembers appends the members of the object at the start of s, if all of
// its values are strings, and returns what follows the object.
func AppendTextMembers(dst []Param, s string) (params []Param, rest string, ok bool) {
	if s == "" || s[0] != '{' {
		return dst, s, false
	}
	if s[1] == '}' {
		return dst, s[2:], true
	}
	for i := 1; ; i++ {
		colon := skipText(s, i)
		if s[colon+1] != '"' {
			return dst, s, false
		}
		end := skipText(s, colon+1)
		value, _ := Text(s[colon+1 : end])
		dst = append(dst, Param{Name: s[i+1 : colon-1], Value: value, Set: true})
		i = end
		if s[i] == '}' {
			return dst, s[i+1:], true
		}
	}
}

// Elements returns the elements of an array as JSON, none for other values.
func Elements(array string) iter.Seq[string] {
	return func(yield func(value string) bool) {
		if len(array) < 3 || array[0] != '[' {
			return
		}
		for i := 1; i < len(array); {
			end := skipValue(array, i)
			if !yield(array[i:end]) || array[end] == ']' {
				return
			}
			i = end + 1
		}
	}
}

// skipText returns where the string that starts at i ends.
func skipText(s string, i int) int {
	for i++; ; i++ {
		j := strings.IndexByte(s[i:], '"')
		if j < 0 {
			return len(s)
		}
		i += j
		escapes := 0
		for s[i-1-escapes] == '\\' { // ends at the opening quote
			escapes++
		}
		if escapes%2 == 0 {
			return i + 1
		}
	}
}

// skipValue returns where the value that starts at i ends.
func skipValue(s string, i int) int {
	switch s[i] {
	case '"':
		return skipText(s, i)
	case '{', '[':
		depth := 0
		for i < len(s) {
			switch s[i] {
			case '"':
				i = skipText(s, i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
		return i
	}
	for i < len(s) && s[i] != ',' && s[i] != '}' && s[i] != ']' {
		i++
	}
	return i
}

// ValueEnd returns where the JSON value at the start of s ends.
func ValueEnd(s string) int {
	if s == "" {
		return 0
	}
	return skipValue(s, 0)
}

// Text returns the text of a JSON string, false when value is not one. It shares
// the memory of value unless there is something to unescape.
func Text(value string) (string, bool) {
	if len(value) < 2 || value[0] != '"' {
		return "", false
	}
	s := value[1 : len(value)-1]
	i := strings.IndexByte(s, '\\')
	if i < 0 {
		return s, true
	}
	var b strings.Builder
	b.Grow(len(s))
	for i >= 0 && i+1 < len(s) {
		b.WriteString(s[:i])
		if s[i+1] == 'u' {
			b.WriteRune(rune(hexValue(s[i+4])<<4 | hexValue(s[i+5]))) //nolint:gosec // two hex digits
			s = s[i+6:]
		} else {
			b.WriteByte(unescaped(s[i+1]))
			s = s[i+2:]
		}
		i = strings.IndexByte(s, '\\')
	}
	b.WriteString(s)
	return b.String(), true
}

func unescaped(c byte) byte {
	if i := strings.IndexByte("bfnrt", c); i >= 0 {
		return "\b\f\n\r\t"[i]
	}
	return c
}
