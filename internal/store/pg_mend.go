package store

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// replacement stands for what a text in Postgres cannot hold.
const replacement = "\uFFFD"

// mendText replaces what Postgres takes in no text: NUL, and bytes that are not
// UTF-8.
func mendText(s string) string {
	if strings.IndexByte(s, 0) < 0 && utf8.ValidString(s) {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, replacement), "\x00", replacement)
}

// mendDocument replaces what jsonb takes in no document besides: the escapes of
// NUL and of surrogates without their other half.
func mendDocument(s string) string {
	s = mendText(s)
	if !strings.Contains(s, `\u`) {
		return s
	}
	var out strings.Builder
	done := 0
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			i++
			continue
		}
		code, ok := escaped(s[i:])
		if !ok { // \n, \\ and the like, or no JSON
			i += 2
			continue
		}
		switch {
		case code >= 0xd800 && code < 0xdc00:
			if low, ok := escaped(s[i+6:]); ok && low >= 0xdc00 && low < 0xe000 {
				i += 12
				continue
			}
		case code != 0 && (code < 0xdc00 || code >= 0xe000):
			i += 6
			continue
		}
		out.WriteString(s[done:i])
		out.WriteString(`\ufffd`)
		i += 6
		done = i
	}
	if done == 0 {
		return s
	}
	out.WriteString(s[done:])
	return out.String()
}

// escaped reads an escape such as \u0041 at the start of a text.
func escaped(s string) (code rune, ok bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	for _, ch := range []byte(s[2:6]) {
		switch {
		case ch >= '0' && ch <= '9':
			ch -= '0'
		case ch >= 'a' && ch <= 'f':
			ch -= 'a' - 10
		case ch >= 'A' && ch <= 'F':
			ch -= 'A' - 10
		default:
			return 0, false
		}
		code = code<<4 | rune(ch)
	}
	return code, true
}

// mendFailure returns a failure as the json column takes it: as it is, or, when it
// is no JSON, as a JSON string.
func mendFailure(failure []byte) string {
	if failure == nil {
		return "{}"
	}
	if s := mendText(string(failure)); json.Valid([]byte(s)) {
		return s
	}
	return quoteFailure(failure)
}

// quoteFailure puts the failure into a JSON string, which is always accepted.
func quoteFailure(failure []byte) string {
	quoted, err := json.Marshal(mendText(string(failure)))
	if err != nil {
		return "{}" // a string always marshals
	}
	return string(quoted)
}
