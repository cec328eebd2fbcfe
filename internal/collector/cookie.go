package collector

import (
	"strings"
	"time"
)

// cookieReader walks through the pairs of a Cookie header. Pairs that RFC 6265
// does not allow are passed over, quotation marks around a value are removed.
type cookieReader struct{ rest string }

func (r *cookieReader) next() (name, value string, ok bool) {
	for r.rest != "" {
		var pair string
		if i := strings.IndexByte(r.rest, ';'); i >= 0 {
			pair, r.rest = r.rest[:i], r.rest[i+1:]
		} else {
			pair, r.rest = r.rest, ""
		}
		name, value, ok = strings.Cut(strings.Trim(pair, " \t"), "=")
		if !ok || !isToken(name) {
			continue
		}
		if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
			value = value[1 : n-1]
		}
		if isCookieValue(value) {
			return name, value, true
		}
	}
	return "", "", false
}

// cookieValue returns the first cookie of that name.
func cookieValue(lines []string, name string) (string, bool) {
	for _, line := range lines {
		if !strings.Contains(line, name) {
			continue
		}
		r := cookieReader{line}
		for found, value, ok := r.next(); ok; found, value, ok = r.next() {
			if found == name {
				return value, true
			}
		}
	}
	return "", false
}

// appendCookies appends the pairs of a Cookie header joined by "; ", or the header
// as it came when it has none.
func appendCookies(dst []byte, line string) []byte {
	r := cookieReader{line}
	start := len(dst)
	for name, value, ok := r.next(); ok; name, value, ok = r.next() {
		if len(dst) > start {
			dst = append(dst, "; "...)
		}
		dst = append(dst, name...)
		dst = append(dst, '=')
		dst = append(dst, value...)
	}
	if len(dst) == start {
		return appendValid(dst, line)
	}
	return dst
}

// isCookieValue reports whether s needs no quoting in a cookie (RFC 6265, 4.1.1).
func isCookieValue(s string) bool {
	for i := range len(s) {
		if !cookieByte[s[i]] {
			return false
		}
	}
	return true
}

var tokenByte, cookieByte = func() (token, cookie [256]bool) {
	for c := range byte(0x7f) {
		token[c] = isAlphanumeric(c) || c != 0 && strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
		cookie[c] = c > ' ' && strings.IndexByte("\",;\\", c) < 0
	}
	return token, cookie
}()

// cookieAttributes returns what follows NAME=VALUE, for each cookie domain and
// last for the requests that belong to none.
func (c *Cookie) attributes(now time.Time, httpOnly bool) []string {
	var tail strings.Builder
	tail.WriteString("; Path=/")
	if c.Secure {
		tail.WriteString("; Secure")
	}
	if httpOnly {
		tail.WriteString("; HttpOnly")
	}
	if c.SameSite != "" {
		tail.WriteString("; SameSite=" + c.SameSite)
	}
	expires := "; Expires=" + now.Add(c.Expiration).UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")
	all := make([]string, 0, len(c.Domains)+1)
	for _, domain := range c.Domains {
		all = append(all, expires+"; Domain="+domain+tail.String())
	}
	if c.FallbackDomain != "" {
		expires += "; Domain=" + c.FallbackDomain
	}
	return append(all, expires+tail.String())
}

// domain returns the index of the first cookie domain that a host of the Origin
// belongs to, or the number of domains.
func (c *Cookie) domain(origin []string) int {
	if len(c.Domains) == 0 || len(origin) == 0 {
		return len(c.Domains)
	}
	for i, domain := range c.Domains {
		for one := range strings.SplitSeq(origin[0], " ") {
			host := originHost(one)
			if before, ok := strings.CutSuffix(host, domain); ok && (before == "" || before[len(before)-1] == '.') {
				return i
			}
		}
	}
	return len(c.Domains)
}

func originHost(origin string) string {
	_, host, _ := strings.Cut(origin, "://")
	if strings.HasPrefix(host, "[") {
		return host
	}
	host, _, _ = strings.Cut(host, ":")
	return host
}

// areOrigins reports whether s is "null" or a list of origins with one space
// between them.
func areOrigins(s string) bool {
	if s == "null" {
		return true
	}
	for s != "" {
		var one string
		one, s, _ = strings.Cut(s, " ")
		scheme, host, ok := strings.Cut(one, "://")
		if !ok || !isToken(scheme) {
			return false
		}
		for i := range len(host) {
			if c := host[i]; !isAlphanumeric(c) && (c == 0 || strings.IndexByte("-._~:[]!$&'()*+,;=%", c) < 0) {
				return false
			}
		}
		if s == "" {
			return true
		}
	}
	return false
}
