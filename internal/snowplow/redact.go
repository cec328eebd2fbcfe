package snowplow

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"furrow/internal/event"
)

// The functions of this file change parts of what was received and leave every
// other byte as it came.

// EditPayload returns the record with those texts and headers replaced in which the
// payload differs from what the record says; a text that is no longer set is left
// out. Everything else stays byte for byte, fields that are unknown here included.
// Address, time, encoding and collector cannot be changed.
func EditPayload(record []byte, edited *event.Payload) ([]byte, error) {
	was, err := DecodePayload(record)
	if err != nil {
		return nil, err
	}
	d := decoder{rest: string(record)}
	out := make([]byte, 0, len(record)+256)
	changed := !slices.Equal(was.Headers, edited.Headers)
	written := false
	for {
		start := len(record) - len(d.rest)
		kind, id, err := d.field()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrPayload, err) // it could be decoded, so this cannot be
		}
		if kind == typeStop {
			if changed && !written {
				out = appendHeaders(out, edited.Headers)
			}
			return append(out, record[start:]...), nil
		}
		if err := d.skip(kind, 0); err != nil {
			return nil, fmt.Errorf("%w: field %d: %w", ErrPayload, id, err)
		}
		before, after := stringField(&was, id), stringField(edited, id)
		switch {
		case kind == typeString && before != nil && *before != *after:
			out = appendOptional(out, id, *after)
		case kind == typeList && id == fieldHeaders && changed:
			if !written {
				out = appendHeaders(out, edited.Headers)
			}
			written = true
		default:
			out = append(out, record[start:len(record)-len(d.rest)]...)
		}
	}
}

func appendHeaders(dst []byte, headers []string) []byte {
	dst = append(dst, typeList)
	dst = binary.BigEndian.AppendUint16(dst, fieldHeaders)
	dst = append(dst, typeString)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(headers))) //nolint:gosec // bounded by the size of a record
	for _, h := range headers {
		dst = appendText(dst, h)
	}
	return dst
}

// ReplaceElements puts a text in place of those elements of an array for whose
// index gone says so. The array is a member of the JSON object in document, which
// must be one that a Compactor takes. Where the object names the member more than
// once the last one counts, and the others, which nobody reads, become empty.
func ReplaceElements(document, member, with string, gone func(index int) bool) string {
	ranges := memberRanges(document, member)
	if len(ranges) == 0 {
		return document
	}
	var b strings.Builder
	b.Grow(len(document))
	done := 0
	for _, r := range ranges[:len(ranges)-1] {
		b.WriteString(document[done:r[0]])
		b.WriteString("[]")
		done = r[1]
	}
	r := ranges[len(ranges)-1]
	if document[r[0]] == '[' {
		index := 0
		for i := skipSpace(document, r[0]+1); document[i] != ']'; index++ {
			end := skipValue(document, i)
			if gone(index) {
				b.WriteString(document[done:i])
				b.WriteString(with)
				done = end
			}
			if i = skipSpace(document, end); document[i] == ',' {
				i = skipSpace(document, i+1)
			}
		}
	}
	b.WriteString(document[done:])
	return b.String()
}

// memberRanges returns where the values of the members with that name lie, in any
// JSON document that is valid.
func memberRanges(document, member string) (ranges [][2]int) {
	i := skipSpace(document, 0)
	if i >= len(document) || document[i] != '{' {
		return nil
	}
	for i = skipSpace(document, i+1); document[i] != '}'; {
		end := skipText(document, i)
		key := document[i:end]
		i = skipSpace(document, skipSpace(document, end)+1) // past the colon
		end = skipValue(document, i)
		if isKey(key, member) {
			ranges = append(ranges, [2]int{i, end})
		}
		if i = skipSpace(document, end); document[i] == ',' {
			i = skipSpace(document, i+1)
		}
	}
	return ranges
}

// isKey compares a JSON string, however it is escaped, with a text.
func isKey(raw, text string) bool {
	if !strings.Contains(raw, `\`) {
		return raw[1:len(raw)-1] == text
	}
	var c Compactor
	plain, err := c.Append(nil, []byte(raw))
	if err != nil {
		return false
	}
	key, ok := Text(string(plain))
	return ok && key == text
}

func skipSpace(s string, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\t' || s[i] == '\n' || s[i] == '\r') {
		i++
	}
	return i
}

// BlankParams empties the values of those parameters of a query string for which
// blank says so. It sees them decoded, those too that a later one of the same name
// overrides.
func BlankParams(raw string, blank func(name, value string) bool) string {
	text, fragment := raw, ""
	if i := strings.IndexByte(raw, '#'); i >= 0 {
		text, fragment = raw[:i], raw[i:]
	}
	var b strings.Builder
	d := queryDecoder{size: len(text)}
	for text != "" {
		pair, separator := text, ""
		if i := indexSeparator(text); i >= 0 {
			pair, separator, text = text[:i], text[i:i+1], text[i+1:]
		} else {
			text = ""
		}
		name, value, set := strings.Cut(pair, "=")
		plainName, _ := d.decode(name)
		plainValue, _ := d.decode(value)
		if set && plainName != "" && blank(plainName, plainValue) {
			pair = name + "="
		}
		b.WriteString(pair)
		b.WriteString(separator)
	}
	b.WriteString(fragment)
	return b.String()
}
