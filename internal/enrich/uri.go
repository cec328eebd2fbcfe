package enrich

import (
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// uri is an address split as java.net.URI does it: components as they were
// written, empty when absent.
type uri struct {
	text     string // the address, rewritten when it had to be
	scheme   string
	host     string // empty when the authority is no legal host name
	port     int    // 0 when absent or lost with the host
	path     string
	query    string
	fragment string
}

// effectivePort is the port, or what Snowplow assumes without one.
func (u *uri) effectivePort() int64 {
	switch {
	case u.port > 0:
		return int64(u.port)
	case u.scheme == "https":
		return 443
	}
	return 80
}

// parseURI reads an address strictly once spaces are encoded, and if that fails
// with everything encoded that offends.
func parseURI(s string) (uri, bool) {
	if strings.IndexByte(s, ' ') >= 0 {
		s = strings.ReplaceAll(s, " ", "%20")
	}
	if u, ok := parseStrictURI(s); ok {
		return u, true
	}
	return parseStrictURI(encodeURI(s))
}

// Sets of characters that RFC 2396, as Java applies it, allows in a component.
type charSet [128]bool

func newCharSet(extra string) *charSet {
	var t charSet
	for c := range t {
		t[c] = c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' ||
			strings.IndexByte("-_.!~*'()"+extra, byte(c)) >= 0
	}
	return &t
}

var (
	pathChars   = newCharSet(":@&=+$,;/")
	queryChars  = newCharSet(";/?:@&=+$,[]") // also of a fragment and an opaque part
	userChars   = newCharSet(";:&=+$,")
	regChars    = newCharSet("$,;:@&=+")
	serverChars = newCharSet(";:&=+$,@[]")
)

// legal reports whether s consists of the set, escapes, and characters beyond
// ASCII that are neither spaces nor controls.
func legal(s string, set *charSet) bool {
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c < utf8.RuneSelf && set[c]:
			i++
		case c == '%':
			if !isEscape(s, i) {
				return false
			}
			i += 3
		case c < utf8.RuneSelf:
			return false
		default:
			r, size := utf8.DecodeRuneInString(s[i:])
			if !legalRune(r) {
				return false
			}
			i += size
		}
	}
	return true
}

func legalRune(r rune) bool {
	return r > 0x80 && !unicode.IsControl(r) && !unicode.In(r, unicode.Z)
}

func isEscape(s string, i int) bool {
	return i+2 < len(s) && isHexDigit(s[i+1]) && isHexDigit(s[i+2])
}

func isHexDigit(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func parseStrictURI(s string) (uri, bool) {
	u := uri{text: s}
	rest, fragment, _ := strings.Cut(s, "#")
	if u.fragment = fragment; !legal(fragment, queryChars) {
		return uri{}, false
	}
	if i := strings.IndexAny(rest, ":/?"); i >= 0 && rest[i] == ':' {
		if !isScheme(rest[:i]) {
			return uri{}, false
		}
		u.scheme, rest = rest[:i], rest[i+1:]
		if rest == "" {
			return uri{}, false
		}
		if rest[0] != '/' { // opaque, as in about:blank
			return u, legal(rest, queryChars)
		}
	}
	rest, u.query, _ = strings.Cut(rest, "?")
	if !legal(u.query, queryChars) {
		return uri{}, false
	}
	if after, ok := strings.CutPrefix(rest, "//"); ok {
		authority := after
		rest = ""
		if i := strings.IndexByte(after, '/'); i >= 0 {
			authority, rest = after[:i], after[i:]
		}
		if authority == "" && len(after) == 0 && u.query == "" && u.fragment == "" && !strings.ContainsAny(s, "?#") {
			return uri{}, false
		}
		if authority != "" && !u.setAuthority(authority) {
			return uri{}, false
		}
	}
	u.path = rest
	return u, legal(rest, pathChars)
}

func isScheme(s string) bool {
	for i := range len(s) {
		if !isLetter(s[i]) && (i == 0 || !isDigit(s[i]) && strings.IndexByte("+-.", s[i]) < 0) {
			return false
		}
	}
	return s != ""
}

// setAuthority takes host and port from a server's authority. Any other legal
// authority is accepted and gives neither.
func (u *uri) setAuthority(s string) bool {
	if legal(s, serverChars) || strings.IndexByte(s, ']') > 0 {
		if host, port, ok := splitServer(s); ok {
			u.host, u.port = host, port
			return true
		}
	}
	return legal(s, regChars)
}

func splitServer(s string) (host string, port int, ok bool) {
	if i := strings.IndexByte(s, '@'); i >= 0 {
		if !legal(s[:i], userChars) {
			return "", 0, false
		}
		s = s[i+1:]
	}
	end := strings.IndexByte(s, ':')
	if strings.HasPrefix(s, "[") {
		if end = strings.IndexByte(s, ']') + 1; end == 0 || !isIPv6(s[1:end-1]) {
			return "", 0, false
		}
	} else {
		if end < 0 {
			end = len(s)
		}
		if !isHostname(s[:end]) {
			return "", 0, false
		}
	}
	host, s = s[:end], s[end:]
	if s == "" {
		return host, 0, true
	}
	if s[0] != ':' {
		return "", 0, false
	}
	if s == ":" {
		return host, 0, true
	}
	n, err := strconv.ParseUint(s[1:], 10, 31)
	return host, int(n), err == nil
}

func isIPv6(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is6()
}

// isHostname accepts dotted IPv4 addresses, and names of letters, digits and inner
// hyphens whose last label starts with a letter when there are several.
func isHostname(s string) bool {
	if a, err := netip.ParseAddr(s); err == nil && a.Is4() {
		return true
	}
	s = strings.TrimSuffix(s, ".")
	labels := 0
	for {
		label, rest, more := strings.Cut(s, ".")
		labels++
		if !isLabel(label) {
			return false
		}
		if !more {
			return labels == 1 || isLetter(label[0])
		}
		s = rest
	}
}

func isLabel(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isLetter(c) && !isDigit(c) && (c != '-' || i == 0 || i == len(s)-1) {
			return false
		}
	}
	return s != ""
}

// What is encoded besides illegal characters when an address has to be rewritten.
const (
	offending         = "|{}[]$"
	offendingFragment = offending + "#?/=&"
)

// encodeURI percent-encodes what offends in each component.
func encodeURI(s string) string {
	var b strings.Builder
	b.Grow(len(s) + 16)
	rest, fragment, hasFragment := strings.Cut(s, "#")
	if i := strings.Index(rest, "://"); i >= 0 && isScheme(rest[:i]) {
		b.WriteString(rest[:i+3])
		authority := rest[i+3:]
		rest = ""
		if j := strings.IndexAny(authority, "/?"); j >= 0 {
			authority, rest = authority[:j], authority[j:]
		}
		var u uri
		if u.setAuthority(authority) {
			b.WriteString(authority)
		} else {
			encodeInto(&b, authority, regChars, offending)
		}
	}
	path, query, hasQuery := strings.Cut(rest, "?")
	encodeInto(&b, path, pathChars, offending)
	if hasQuery {
		b.WriteByte('?')
		encodeInto(&b, query, queryChars, offending)
	}
	if hasFragment {
		b.WriteByte('#')
		encodeInto(&b, fragment, queryChars, offendingFragment)
	}
	return b.String()
}

func encodeInto(b *strings.Builder, s string, set *charSet, encode string) {
	for i := 0; i < len(s); {
		c := s[i]
		size := 1
		if c >= utf8.RuneSelf {
			var r rune
			if r, size = utf8.DecodeRuneInString(s[i:]); legalRune(r) {
				b.WriteString(s[i : i+size])
				i += size
				continue
			}
		} else if c == '%' && isEscape(s, i) || set[c] && strings.IndexByte(encode, c) < 0 {
			b.WriteByte(c)
			i++
			continue
		}
		for _, c := range []byte(s[i : i+size]) {
			const digits = "0123456789ABCDEF"
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&0xf])
		}
		i += size
	}
}
