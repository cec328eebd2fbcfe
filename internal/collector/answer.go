package collector

import (
	"encoding/base64"
	"io"
	"net/http"
	"strings"
)

// Header values that never change. Nobody appends to or writes into them:
// net/http copies the header before it sends it.
var (
	anyOrigin      = []string{"*"}
	isTrue         = []string{"true"}
	allowedHeaders = []string{"Content-Type, SP-Anonymous"}
	noCache        = []string{"no-cache, no-store, must-revalidate"}
	plainText      = []string{"text/plain; charset=UTF-8"}
	imageGIF       = []string{"image/gif"}
	zeroLength     = []string{"0"}
	okLength       = []string{"2"}
	pixelLength    = []string{"43"}
	closing        = []string{"close"}
	retryAfter     = []string{"5"} // seconds

	okBody   = []byte("ok")
	pixelGIF = func() []byte {
		gif, err := base64.StdEncoding.DecodeString("R0lGODlhAQABAPAAAP///wAAACH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==")
		if err != nil {
			panic(err)
		}
		return gif
	}()
)

// answer responds to an event request whose record is durable, or that is not to
// be stored, or that is a redirect.
func (c *Collector) answer(x *exchange, bounce, doNotTrack bool) {
	h := x.w.Header()
	allowOrigin(h, x.r)
	h["P3p"] = c.p3p
	if x.pixel {
		h["Cache-Control"] = noCache
	}
	if c.cfg.Cookie.Enabled && !x.anonymous && !doNotTrack && isCookieValue(x.nuid) {
		c.setCookie(h, x)
	}
	switch {
	case bounce:
		h["Location"] = []string{c.bounceLocation(x)}
		empty(x.w, http.StatusFound)
	case x.redirect:
		if !x.allowed {
			empty(x.w, http.StatusBadRequest)
			return
		}
		h["Location"] = []string{x.location}
		empty(x.w, http.StatusFound)
	case x.pixel:
		h["Content-Type"], h["Content-Length"] = imageGIF, pixelLength
		x.w.Write(pixelGIF)
	default:
		h["Content-Type"], h["Content-Length"] = plainText, okLength
		x.w.Write(okBody)
	}
}

func (c *Collector) setCookie(h http.Header, x *exchange) {
	domain := c.cfg.Cookie.domain(x.r.Header["Origin"])
	value := c.cookieName + x.nuid + x.moment.cookies[domain]
	if c.clientName == "" {
		h["Set-Cookie"] = []string{value}
		return
	}
	h["Set-Cookie"] = []string{value, c.clientName + x.nuid + x.moment.clientCookies[domain]}
}

// allowOrigin lets the page that sent the request see the answer.
func allowOrigin(h http.Header, r *http.Request) {
	if origin := r.Header["Origin"]; len(origin) > 0 && areOrigins(origin[0]) {
		h["Access-Control-Allow-Origin"] = origin[:1:1]
	} else {
		h["Access-Control-Allow-Origin"] = anyOrigin
	}
	h["Access-Control-Allow-Credentials"] = isTrue
}

func (c *Collector) preflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	allowOrigin(h, r)
	h["Access-Control-Allow-Headers"] = allowedHeaders
	h["Access-Control-Max-Age"] = c.maxAge
	empty(w, http.StatusOK)
}

// page answers the routes that are not about events.
func (c *Collector) page(w http.ResponseWriter, path string) {
	switch {
	case path == "/health":
		health(w, c.ready() == nil && (!c.terminating.Load() || !c.cfg.PreTerminationUnhealthy))
	case path == "/sink-health":
		health(w, c.ready() == nil)
	case path == "/robots.txt":
		plain(w, http.StatusOK, "User-agent: *\nDisallow: /")
	case path == "/crossdomain.xml" && c.crossDomain != nil:
		w.Header()["Content-Type"] = []string{"text/xml; charset=ISO-8859-1"}
		w.Write(c.crossDomain)
	case path == "/" && c.cfg.RootResponse.Enabled:
		h := w.Header()
		h["Content-Type"] = plainText
		for name, value := range c.cfg.RootResponse.Headers {
			h.Set(name, value)
		}
		w.WriteHeader(c.cfg.RootResponse.StatusCode)
		io.WriteString(w, c.cfg.RootResponse.Body)
	default:
		notFound(w)
	}
}

func crossDomainPolicy(cfg CrossDomain) []byte {
	secure := `" secure="false" />`
	if cfg.Secure {
		secure = `" secure="true" />`
	}
	lines := make([]string, len(cfg.Domains))
	for i, domain := range cfg.Domains {
		lines[i] = `  <allow-access-from domain="` + domain + secure
	}
	return []byte("<?xml version=\"1.0\"?>\n<cross-domain-policy>\n" + strings.Join(lines, "\n") + "\n</cross-domain-policy>")
}

func health(w http.ResponseWriter, ok bool) {
	if !ok {
		plain(w, http.StatusServiceUnavailable, "Service Unavailable")
		return
	}
	plain(w, http.StatusOK, "OK")
}

func notFound(w http.ResponseWriter) { plain(w, http.StatusNotFound, "404 not found") }

func plain(w http.ResponseWriter, status int, body string) {
	w.Header()["Content-Type"] = plainText
	w.WriteHeader(status)
	io.WriteString(w, body)
}

func empty(w http.ResponseWriter, status int) {
	w.Header()["Content-Length"] = zeroLength
	w.WriteHeader(status)
}

// refuse answers a request that is not stored, readable for the page that sent it.
func (c *Collector) refuse(w http.ResponseWriter, r *http.Request, status int) {
	allowOrigin(w.Header(), r)
	plain(w, status, http.StatusText(status))
}

// unavailable asks the client to keep its events and come again.
func (c *Collector) unavailable(w http.ResponseWriter, r *http.Request, pixel bool) {
	h := w.Header()
	h["Retry-After"] = retryAfter
	if pixel {
		h["Cache-Control"] = noCache
	}
	c.refuse(w, r, http.StatusServiceUnavailable)
}
