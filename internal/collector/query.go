package collector

import "strings"

// params are the query parameters that matter at the door, percent-decoded.
type params struct {
	nuid    string // the first one
	hasNUID bool
	duid    string // the first one that is not empty
	target  string // u, the last one
	hasU    bool
	bounced bool // the cookie bounce's parameter is there
}

// splitTarget divides a request target into the path and the raw text between the
// first question mark and the fragment. It accepts the absolute form.
func splitTarget(target string) (path, query string, hasQuery bool) {
	if i := strings.IndexByte(target, '#'); i >= 0 {
		target = target[:i]
	}
	path, query, hasQuery = strings.Cut(target, "?")
	if !strings.HasPrefix(path, "/") {
		if _, rest, ok := strings.Cut(path, "://"); ok {
			if i := strings.IndexByte(rest, '/'); i >= 0 {
				return rest[i:], query, hasQuery
			}
			return "/", query, hasQuery
		}
	}
	return path, query, hasQuery
}

// segments splits a path of exactly two segments that are not empty. Escapes are
// decoded after the split, so an escaped slash stays inside its segment.
func segments(path string) (vendor, version string, ok bool) {
	if len(path) < 4 || path[0] != '/' {
		return "", "", false
	}
	vendor, version, ok = strings.Cut(path[1:], "/")
	if !ok || vendor == "" || version == "" || strings.IndexByte(version, '/') >= 0 {
		return "", "", false
	}
	return vendor, version, true
}

// scanQuery looks for the parameters that matter. A broken escape stands for
// itself: what a tracker sent is stored as it came, so it is read the same way.
func scanQuery(query, bounceName string) params {
	var p params
	for query != "" {
		var pair string
		if i := strings.IndexByte(query, '&'); i >= 0 {
			pair, query = query[:i], query[i+1:]
		} else {
			pair, query = query, ""
		}
		name, value, _ := strings.Cut(pair, "=")
		if needsUnescape(name) {
			name = unescape(name, true)
		}
		switch {
		case name == "nuid" && !p.hasNUID:
			p.nuid, p.hasNUID = validText(unescape(value, true)), true
		case name == "duid" && p.duid == "":
			p.duid = unescape(value, true)
		case name == "u":
			p.target, p.hasU = unescape(value, true), true
		}
		if name == bounceName {
			p.bounced = true
		}
	}
	return p
}

func needsUnescape(s string) bool {
	return strings.IndexByte(s, '%') >= 0 || strings.IndexByte(s, '+') >= 0
}

// unescape decodes percent escapes, and plus signs to spaces where asked. What is
// no escape stays as it is.
func unescape(s string, plus bool) string {
	if strings.IndexByte(s, '%') < 0 && (!plus || strings.IndexByte(s, '+') < 0) {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '%' && i+2 < len(s) && unhex[s[i+1]] < notHex && unhex[s[i+2]] < notHex:
			out = append(out, unhex[s[i+1]]<<4|unhex[s[i+2]])
			i += 2
		case c == '+' && plus:
			out = append(out, ' ')
		default:
			out = append(out, c)
		}
	}
	return string(out)
}

const notHex = 16

// unhex maps a byte to the value of the hexadecimal digit it is, or to notHex.
var unhex = func() (table [256]byte) {
	for i := range table {
		table[i] = notHex
	}
	for i := range byte(10) {
		table['0'+i] = i
	}
	for i := range byte(6) {
		table['a'+i] = 10 + i
		table['A'+i] = 10 + i
	}
	return table
}()
