package collector

import (
	"mime"
	"strings"
	"unicode/utf8"
)

// validText replaces each byte that is not UTF-8 by U+FFFD.
func validText(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string(appendValid(make([]byte, 0, len(s)+8), s))
}

// appendValid appends the text with each byte that is not UTF-8 replaced by
// U+FFFD. Unlike strings.ToValidUTF8 it keeps the number of bad bytes.
func appendValid[T string | []byte](dst []byte, s T) []byte {
	for _, r := range string(s) {
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}

// appendText appends a text that is UTF-8 nearly always.
func appendText(dst []byte, s string) []byte {
	if utf8.ValidString(s) {
		return append(dst, s...)
	}
	return appendValid(dst, s)
}

// charset is a body's encoding.
type charset uint8

const (
	charsetUTF8 charset = iota
	charsetASCII
	charsetLatin1
	charsetWindows1252
	charsetUTF16 // big endian unless a byte order mark says otherwise
	charsetUTF16BE
	charsetUTF16LE
)

// appendDecoded appends the body as UTF-8, with U+FFFD for what the charset does
// not know.
func appendDecoded(dst, body []byte, from charset) []byte {
	switch from {
	case charsetASCII:
		for _, c := range body {
			if c >= utf8.RuneSelf {
				dst = utf8.AppendRune(dst, utf8.RuneError)
				continue
			}
			dst = append(dst, c)
		}
		return dst
	case charsetLatin1:
		for _, c := range body {
			dst = utf8.AppendRune(dst, rune(c))
		}
		return dst
	case charsetWindows1252:
		for _, c := range body {
			r := rune(c)
			if c >= 0x80 && c < 0xa0 {
				r = windows1252[c-0x80]
			}
			dst = utf8.AppendRune(dst, r)
		}
		return dst
	case charsetUTF16, charsetUTF16BE, charsetUTF16LE:
		return appendUTF16(dst, body, from)
	default:
		return appendValid(dst, body)
	}
}

func appendUTF16(dst, body []byte, from charset) []byte {
	little := from == charsetUTF16LE
	if from == charsetUTF16 && len(body) >= 2 {
		switch {
		case body[0] == 0xff && body[1] == 0xfe:
			little, body = true, body[2:]
		case body[0] == 0xfe && body[1] == 0xff:
			body = body[2:]
		}
	}
	unit := func(i int) rune {
		if little {
			return rune(body[i]) | rune(body[i+1])<<8
		}
		return rune(body[i])<<8 | rune(body[i+1])
	}
	for i := 0; i < len(body); i += 2 {
		if i+1 == len(body) {
			return utf8.AppendRune(dst, utf8.RuneError)
		}
		r := unit(i)
		if r >= 0xd800 && r < 0xdc00 && i+3 < len(body) {
			if low := unit(i + 2); low >= 0xdc00 && low < 0xe000 {
				r = (r-0xd800)<<10 + (low - 0xdc00) + 0x10000
				i += 2
			}
		}
		dst = utf8.AppendRune(dst, r) // a lone surrogate becomes U+FFFD
	}
	return dst
}

// windows1252 holds the characters of the bytes 0x80 to 0x9f.
var windows1252 = [32]rune{
	0x20ac, 0xfffd, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039, 0x0152, 0xfffd, 0x017d, 0xfffd,
	0xfffd, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0xfffd, 0x017e, 0x0178,
}

// contentType is a POST's content type as it is stored.
type contentType struct {
	value     string
	charset   charset
	malformed bool // the header cannot be read, so its line is stored as it came
}

const (
	typeJSON  = "application/json"
	typeBytes = "application/octet-stream"
)

// readContentType normalises the header as collector 2.10 does: lower case, no
// charset for JSON, which is UTF-8 by definition, "; charset=" elsewhere.
func readContentType(lines []string, emptyBody bool) contentType {
	if len(lines) == 0 {
		if emptyBody {
			return contentType{value: "none/none"}
		}
		return contentType{value: typeBytes}
	}
	switch raw := lines[0]; raw {
	case typeJSON, "application/json; charset=UTF-8", "application/json; charset=utf-8",
		"application/json;charset=UTF-8", "application/json;charset=utf-8":
		return contentType{value: typeJSON}
	case "text/plain":
		return contentType{value: raw}
	case "text/plain;charset=UTF-8", "text/plain; charset=UTF-8", "text/plain;charset=utf-8", "text/plain; charset=utf-8":
		return contentType{value: "text/plain; charset=utf-8"}
	default:
		return parseContentType(raw)
	}
}

func parseContentType(raw string) contentType {
	media, parameters, err := mime.ParseMediaType(raw)
	major, minor, ok := strings.Cut(media, "/")
	// A parameter that cannot be read leaves a media type that can.
	if err != nil && media == "" || !ok || !isToken(major) || !isToken(minor) {
		return contentType{value: typeBytes, malformed: true}
	}
	if media == typeJSON {
		delete(parameters, "charset")
	}
	value := mime.FormatMediaType(media, parameters)
	if value == "" {
		value = media
	}
	return contentType{value: strings.ToLower(validText(value)), charset: charsetOf(parameters["charset"])}
}

func charsetOf(name string) charset {
	switch strings.ToLower(name) {
	case "us-ascii", "ascii":
		return charsetASCII
	case "iso-8859-1", "iso8859-1", "latin1", "latin-1", "l1":
		return charsetLatin1
	case "windows-1252", "cp1252":
		return charsetWindows1252
	case "utf-16":
		return charsetUTF16
	case "utf-16be":
		return charsetUTF16BE
	case "utf-16le":
		return charsetUTF16LE
	}
	return charsetUTF8
}
