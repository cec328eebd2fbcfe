package enrich

import (
	"strings"

	"furrow/internal/event"
	"furrow/internal/snowplow"
)

const snowplowVendor = "com.snowplowanalytics.snowplow"

// load checks what holds for every request and returns what is wrong, nil when
// nothing is.
func (p *parser) load() snowplow.Message {
	var ok bool
	if p.vendor, p.version, ok = splitPath(p.payload.Path.Value); !ok {
		return snowplow.PayloadFieldMessage("path", p.payload.Path, "/vendor/version, /i or /ice.png")
	}
	if id := p.payload.NetworkUserID; id.Set {
		if p.userID, ok = snowplow.NormalizeUUID(id.Value); !ok {
			return snowplow.PayloadFieldMessage("networkUserId", id, "a UUID")
		}
	}
	p.query, _ = snowplow.AppendQuery(p.query[:0], p.payload.Querystring.Value)
	return nil
}

// splitPath returns who defines the request's format. The bare pixel paths mean
// Snowplow's first protocol.
func splitPath(path string) (vendor, version string, ok bool) {
	vendor, version, ok = strings.Cut(strings.TrimPrefix(path, "/"), "/")
	version = strings.TrimSuffix(version, "/")
	if ok && vendor != "" && version != "" && !strings.Contains(version, "/") {
		return vendor, version, true
	}
	if path == "/i" || strings.HasPrefix(path, "/i?") || strings.HasPrefix(path, "/ice.png") {
		return snowplowVendor, "tp1", true
	}
	return "", "", false
}

// clientAddress returns the first address that a proxy reported, else the
// payload's own.
func clientAddress(payload *event.Payload) string {
	for _, name := range [...]string{"X-Forwarded-For: ", "Forwarded: for="} {
		for _, h := range payload.Headers {
			if len(h) <= len(name) || !strings.EqualFold(h[:len(name)], name) {
				continue
			}
			if a := leadingAddress(h[len(name):]); a != "" {
				return a
			}
		}
	}
	return payload.IPAddress
}

// leadingAddress returns the address at the start of s, without quote, brackets,
// port and what follows; empty when there is none.
func leadingAddress(s string) string {
	s = strings.TrimPrefix(s, `"`)
	s = strings.TrimPrefix(s, "[")
	if n := leadingIPv4(s); n > 0 {
		return s[:n]
	}
	n, colon := 0, false
	for n < len(s) && (isHexDigit(s[n]) || s[n] == ':') {
		colon = colon || s[n] == ':'
		n++
	}
	if !colon { // a word like cafe is no address
		return ""
	}
	return s[:n]
}

// leadingIPv4 returns the length of four dotted groups of up to three digits.
func leadingIPv4(s string) int {
	i := 0
	for group := range 4 {
		if group > 0 {
			if i >= len(s) || s[i] != '.' {
				return 0
			}
			i++
		}
		start := i
		for i < len(s) && i-start < 3 && isDigit(s[i]) {
			i++
		}
		if i == start {
			return 0
		}
	}
	return i
}
