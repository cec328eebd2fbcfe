package collector

import (
	"net/url"
	"slices"
	"strings"
)

// redirectTarget returns where a redirect leads, or false when the target is
// missing or not allowed.
func (c *Collector) redirectTarget(p *params, nuid string) (string, bool) {
	if !p.hasU || len(c.cfg.RedirectDomains) == 0 {
		return "", false
	}
	target := p.target
	if c.cfg.RedirectMacro.Enabled {
		target = strings.ReplaceAll(target, c.cfg.RedirectMacro.Placeholder, nuid)
	}
	// Browsers read a backslash as a slash, and drop line breaks and tabs, so what
	// is checked here would not be what they open.
	for i := range len(target) {
		if b := target[i]; b < ' ' || b == 0x7f || b == '\\' {
			return "", false
		}
	}
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Opaque != "" || u.Hostname() == "" {
		return "", false
	}
	if !slices.Contains(c.cfg.RedirectDomains, "*") && !slices.Contains(c.cfg.RedirectDomains, u.Hostname()) {
		return "", false
	}
	return escapeLocation(target), true
}

// escapeLocation makes a checked target fit into a header: one level of escapes
// was removed from it.
func escapeLocation(s string) string {
	const digits = "0123456789ABCDEF"
	out := make([]byte, 0, len(s)+16)
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '<' || c == '>' {
			out = append(out, '%', digits[c>>4], digits[c&15])
			continue
		}
		out = append(out, s[i])
	}
	return string(out)
}

// bounceLocation is the request's own address with the bounce parameter. Without
// a protocol from the proxy it keeps the visitor's by naming none.
func (c *Collector) bounceLocation(x *exchange) string {
	scheme := ""
	if name := c.cfg.CookieBounce.ForwardedProtocolHeader; name != "" {
		switch proto := strings.ToLower(x.r.Header.Get(name)); proto {
		case "http", "https":
			scheme = proto + ":"
		}
	}
	authority := ""
	if x.r.Host != "" {
		authority = scheme + "//" + x.r.Host
	}
	query := x.query
	if query != "" {
		query += "&"
	}
	return escapeLocation(authority + x.rawPath + "?" + query + c.cfg.CookieBounce.Name + "=true")
}
