package inspector

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// AdminHeader must be "1" on every request that changes something. No form can
// send it, and a script of another origin would need a CORS preflight, which is
// refused.
const AdminHeader = "X-Furrow-Admin"

const (
	refusedHost   = "host"
	refusedOrigin = "origin"
	refusedMethod = "method"
	refusedHeader = "header"
)

const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
	"img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// guard stands before every route.
func (in *Inspector) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if reason, text := in.refusal(r); reason != "" {
			in.metrics.refused.WithLabelValues(reason).Inc()
			code := http.StatusForbidden
			if reason == refusedMethod {
				h.Set("Allow", "GET, HEAD, POST")
				code = http.StatusMethodNotAllowed
			}
			writeError(w, code, text)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (in *Inspector) refusal(r *http.Request) (reason, text string) {
	if !in.hostAllowed(r.Host) {
		return refusedHost, "this listener answers to localhost only; name other hosts in inspector.allowedHosts"
	}
	if !sameOrigin(r) {
		return refusedOrigin, "requests from another origin are refused"
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return "", ""
	case http.MethodPost:
		if r.Header.Get(AdminHeader) != "1" {
			return refusedHeader, "a change needs the header " + AdminHeader + ": 1"
		}
		return "", ""
	default:
		return refusedMethod, "method " + r.Method + " is not used here"
	}
}

func (in *Inspector) hostAllowed(hostport string) bool {
	host := bareHost(hostport)
	if host == "localhost" || in.hosts[host] {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// bareHost returns the host in lower case, without port, brackets or final dot.
func bareHost(hostport string) string {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// sameOrigin refuses what a page of another origin sends. A request that carries
// neither header comes from a program, or from the address bar of an old browser.
// Following a link here is allowed: the page that links cannot read the answer.
func sameOrigin(r *http.Request) bool {
	if origin := r.Header.Get("Origin"); origin != "" {
		u, err := url.Parse(origin)
		return err == nil && (u.Scheme == "http" || u.Scheme == "https") && strings.EqualFold(u.Host, r.Host)
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return true
	default:
		return r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document" &&
			r.Method != http.MethodPost
	}
}
