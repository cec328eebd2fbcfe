package collector

import (
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Config holds the collector's options. Names and defaults are those of
// Snowplow's collector.
type Config struct {
	// Paths maps a request path of two segments to the path that is stored in its
	// place, also of two segments. A target below /r/ makes the path a redirect.
	Paths map[string]string `yaml:"paths"`

	Cookie           Cookie           `yaml:"cookie"`
	DoNotTrackCookie DoNotTrackCookie `yaml:"doNotTrackCookie"`
	CookieBounce     CookieBounce     `yaml:"cookieBounce"`

	// EnableDefaultRedirect opens /r/…, which stores the event and sends the
	// visitor on to the parameter u.
	EnableDefaultRedirect bool `yaml:"enableDefaultRedirect"`
	// RedirectDomains are the hosts that a redirect may lead to, compared exactly.
	// None: every redirect is denied. "*": any absolute http or https address.
	RedirectDomains []string      `yaml:"redirectDomains"`
	RedirectMacro   RedirectMacro `yaml:"redirectMacro"`

	RootResponse RootResponse `yaml:"rootResponse"`
	CrossDomain  CrossDomain  `yaml:"crossDomain"`
	CORS         CORS         `yaml:"cors"`
	P3P          P3P          `yaml:"p3p"`
	HSTS         HSTS         `yaml:"hsts"`

	// PreTerminationPeriod is how long requests are still served after a stop was
	// asked for, so that load balancers notice first.
	PreTerminationPeriod time.Duration `yaml:"preTerminationPeriod"`
	// PreTerminationUnhealthy turns /health to 503 during that period.
	PreTerminationUnhealthy bool `yaml:"preTerminationUnhealthy"`
	// TerminationDeadline bounds the wait for requests in flight after it.
	TerminationDeadline time.Duration `yaml:"terminationDeadline"`

	Networking Networking `yaml:"networking"`

	// Key chooses the record key: "user" keeps the events of one user in order,
	// "random" spreads records evenly. It is spelled bus.key in the configuration
	// file, therefore it has no key here.
	Key string `yaml:"-"`
}

// The values of Config.Key.
const (
	KeyUser   = "user"
	KeyRandom = "random"
)

// Cookie is the network user id's cookie.
type Cookie struct {
	Enabled        bool          `yaml:"enabled"`        // set and read the cookie
	Name           string        `yaml:"name"`           // of the cookie
	Expiration     time.Duration `yaml:"expiration"`     // counted from the last request
	Domains        []string      `yaml:"domains"`        // the first that the Origin belongs to becomes the cookie's domain
	FallbackDomain string        `yaml:"fallbackDomain"` // when none of them fits; empty: no domain attribute
	Secure         bool          `yaml:"secure"`         // browsers drop a secure cookie that came over plain http
	HTTPOnly       bool          `yaml:"httpOnly"`       // hide it from scripts
	SameSite       string        `yaml:"sameSite"`       // None, Lax, Strict, or empty for no attribute
	// ClientCookieName adds a second cookie with the same value that scripts can
	// read. Empty: none.
	ClientCookieName string `yaml:"clientCookieName"`
}

// DoNotTrackCookie is a cookie whose owner is not tracked: the answer is the
// usual one, nothing is stored and no cookie is set.
type DoNotTrackCookie struct {
	Enabled bool   `yaml:"enabled"` // honour the cookie
	Name    string `yaml:"name"`    // of the cookie
	Value   string `yaml:"value"`   // regular expression that has to match the whole value
}

// CookieBounce sends a visitor without a cookie once back to the same address, to
// learn whether the cookie sticks.
type CookieBounce struct {
	Enabled                 bool   `yaml:"enabled"`                 // bounce visitors without a cookie
	Name                    string `yaml:"name"`                    // query parameter that marks the second visit
	FallbackNetworkUserID   string `yaml:"fallbackNetworkUserId"`   // the id of those whose browser refuses cookies
	ForwardedProtocolHeader string `yaml:"forwardedProtocolHeader"` // header that holds http or https, set by a proxy
}

// RedirectMacro replaces a placeholder in a redirect's target by the network user
// id.
type RedirectMacro struct {
	Enabled     bool   `yaml:"enabled"`     // replace the placeholder in redirect targets
	Placeholder string `yaml:"placeholder"` // what is replaced
}

// RootResponse is the answer to GET /.
type RootResponse struct {
	Enabled    bool              `yaml:"enabled"`    // answer GET / with this response
	StatusCode int               `yaml:"statusCode"` // of the response
	Headers    map[string]string `yaml:"headers"`    // of the response
	Body       string            `yaml:"body"`       // plain text
}

// CrossDomain is /crossdomain.xml, for Flash.
type CrossDomain struct {
	Enabled bool     `yaml:"enabled"` // answer GET /crossdomain.xml
	Domains []string `yaml:"domains"` // that may read answers, "*" is any
	Secure  bool     `yaml:"secure"`  // whether they must come over https
}

// CORS is what a preflight answers.
type CORS struct {
	AccessControlMaxAge time.Duration `yaml:"accessControlMaxAge"` // how long a browser remembers a preflight; -1s: not at all
}

// P3P is the privacy policy header that old browsers ask for before they take a
// third-party cookie.
type P3P struct {
	PolicyRef string `yaml:"policyRef"` // address of the policy
	CP        string `yaml:"CP"`        // compact policy
}

// HSTS is the Strict-Transport-Security header on every answer.
type HSTS struct {
	Enable bool          `yaml:"enable"` // send the header
	MaxAge time.Duration `yaml:"maxAge"` // how long browsers remember it
}

// Networking bounds connections, requests and waiting. Sizes are bytes.
type Networking struct {
	MaxConnections        int           `yaml:"maxConnections"`        // open at one time; more wait in the system's queue
	IdleTimeout           time.Duration `yaml:"idleTimeout"`           // between two requests of a connection
	ReadHeaderTimeout     time.Duration `yaml:"readHeaderTimeout"`     // for request line and headers
	BodyTimeout           time.Duration `yaml:"bodyTimeout"`           // for the whole body
	ResponseHeaderTimeout time.Duration `yaml:"responseHeaderTimeout"` // for storing the record; then 503
	MaxRequestLineLength  int64         `yaml:"maxRequestLineLength"`  // of the request target; more: 414
	MaxHeadersLength      int64         `yaml:"maxHeadersLength"`      // of all headers; more: 431
	MaxBodyBytes          int64         `yaml:"maxBodyBytes"`          // more: 413
	MaxBufferedBytes      int64         `yaml:"maxBufferedBytes"`      // of all large bodies in memory at one time; more: 503
}

// Default returns the options of Snowplow's collector 2.10, and of 3.x where 2.10
// has none.
func Default() Config {
	return Config{
		Cookie: Cookie{
			Enabled: true, Name: "sp", Expiration: 365 * 24 * time.Hour,
			Secure: true, HTTPOnly: true, SameSite: "None",
		},
		CookieBounce:  CookieBounce{Name: "n3pc", FallbackNetworkUserID: "00000000-0000-4000-A000-000000000000"},
		RedirectMacro: RedirectMacro{Placeholder: "${SP_NUID}"},
		RootResponse:  RootResponse{StatusCode: http.StatusFound},
		CrossDomain:   CrossDomain{Domains: []string{"*"}, Secure: true},
		CORS:          CORS{AccessControlMaxAge: time.Hour},
		P3P:           P3P{PolicyRef: "/w3c/p3p.xml", CP: "NOI DSP COR NID PSA OUR IND COM NAV STA"},
		HSTS:          HSTS{MaxAge: 365 * 24 * time.Hour},

		PreTerminationPeriod: 10 * time.Second,
		TerminationDeadline:  10 * time.Second,

		Networking: Networking{
			MaxConnections: 1024, IdleTimeout: 610 * time.Second,
			ReadHeaderTimeout: 10 * time.Second, BodyTimeout: 20 * time.Second, ResponseHeaderTimeout: 30 * time.Second,
			MaxRequestLineLength: 32 << 10, MaxHeadersLength: 40 << 10, MaxBodyBytes: 2 << 20,
			MaxBufferedBytes: 256 << 20,
		},
		Key: KeyUser,
	}
}

// Validate reports every problem with its key, relative to the collector's
// section, and the rule that it breaks.
func (c Config) Validate(bad func(key, rule string)) {
	c.validatePaths(bad)
	c.Cookie.validate(bad)
	if c.DoNotTrackCookie.Enabled && !isToken(c.DoNotTrackCookie.Name) {
		bad("doNotTrackCookie.name", cookieNameRule)
	}
	if _, err := regexp.Compile(wholeValue(c.DoNotTrackCookie.Value)); err != nil {
		bad("doNotTrackCookie.value", "must be a regular expression: "+err.Error())
	}
	c.CookieBounce.validate(bad)
	c.validateRedirects(bad)
	c.RootResponse.validate(bad)
	for i, domain := range c.CrossDomain.Domains {
		if domain == "" || strings.ContainsAny(domain, "\"<>& \t\r\n") {
			bad(fmt.Sprintf("crossDomain.domains[%d]", i), `must be a host name, with "*" for any part`)
		}
	}
	quotable := func(key, value string) {
		if !isHeaderValue(value) || strings.Contains(value, `"`) {
			bad(key, "must be one line without quotation marks")
		}
	}
	quotable("p3p.policyRef", c.P3P.PolicyRef)
	quotable("p3p.CP", c.P3P.CP)
	atLeast := func(key string, value, least time.Duration) {
		if value < least {
			bad(key, "must be "+least.String()+" or more")
		}
	}
	atLeast("cors.accessControlMaxAge", c.CORS.AccessControlMaxAge, -time.Second)
	atLeast("hsts.maxAge", c.HSTS.MaxAge, 0)
	atLeast("preTerminationPeriod", c.PreTerminationPeriod, 0)
	atLeast("terminationDeadline", c.TerminationDeadline, 0)
	c.Networking.validate(bad)
	if c.Key != KeyUser && c.Key != KeyRandom {
		bad("key", `must be "user" or "random"`)
	}
}

// wholeValue makes a pattern match a whole text only.
func wholeValue(pattern string) string { return `\A(?:` + pattern + `)\z` }

func (c Config) validatePaths(bad func(key, rule string)) {
	for _, from := range slices.Sorted(maps.Keys(c.Paths)) {
		// Snowplow accepts the pixel's paths here and never maps them.
		if from != pixelPath && from != icePath && !isTwoSegments(from) {
			bad("paths", fmt.Sprintf("%q must have two segments, such as /com.acme/track", from))
		}
		if to := c.Paths[from]; !isTwoSegments(to) {
			bad("paths", fmt.Sprintf("the target %q of %q must have two segments, such as /com.snowplowanalytics.snowplow/tp2", to, from))
		}
	}
}

func (c Config) validateRedirects(bad func(key, rule string)) {
	for i, host := range c.RedirectDomains {
		if host != "*" && !isHost(host) {
			bad(fmt.Sprintf("redirectDomains[%d]", i), `must be a host name without scheme, port and path, or "*"`)
		}
	}
	if c.RedirectMacro.Enabled && c.RedirectMacro.Placeholder == "" {
		bad("redirectMacro.placeholder", "must not be empty when the macro is enabled")
	}
}

const cookieNameRule = "must be a cookie name: letters, digits and !#$%&'*+-.^_`|~"

func (c Cookie) validate(bad func(key, rule string)) {
	if !isToken(c.Name) {
		bad("cookie.name", cookieNameRule)
	}
	if c.ClientCookieName != "" && !isToken(c.ClientCookieName) {
		bad("cookie.clientCookieName", cookieNameRule)
	}
	if c.ClientCookieName != "" && c.ClientCookieName == c.Name {
		bad("cookie.clientCookieName", "must differ from cookie.name")
	}
	if c.Expiration < time.Second || c.Expiration > 100*365*24*time.Hour {
		bad("cookie.expiration", "must be between one second and 100 years")
	}
	for i, domain := range c.Domains {
		if !isHost(domain) {
			bad(fmt.Sprintf("cookie.domains[%d]", i), "must consist of letters, digits, - and .")
		}
	}
	if c.FallbackDomain != "" && !isHost(c.FallbackDomain) {
		bad("cookie.fallbackDomain", "must consist of letters, digits, - and .")
	}
	switch c.SameSite {
	case "", "None", "Lax", "Strict":
	default:
		bad("cookie.sameSite", "must be None, Lax or Strict, or empty")
	}
}

func (b CookieBounce) validate(bad func(key, rule string)) {
	if !isToken(b.Name) || strings.ContainsAny(b.Name, "&%+#") {
		bad("cookieBounce.name", "must be the name of a query parameter: letters, digits, - . _ ~")
	}
	if !isCookieValue(b.FallbackNetworkUserID) || b.FallbackNetworkUserID == "" {
		bad("cookieBounce.fallbackNetworkUserId", "must be a UUID")
	}
	if b.ForwardedProtocolHeader != "" && !isToken(b.ForwardedProtocolHeader) {
		bad("cookieBounce.forwardedProtocolHeader", "must be the name of a header, such as X-Forwarded-Proto")
	}
}

func (r RootResponse) validate(bad func(key, rule string)) {
	if r.StatusCode < 200 || r.StatusCode > 599 {
		bad("rootResponse.statusCode", "must be an HTTP status between 200 and 599")
	}
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		if !isToken(name) || !isHeaderValue(r.Headers[name]) {
			bad("rootResponse.headers", fmt.Sprintf("%q must be a header name with a value of one line", name))
		}
		if canonical := textproto.CanonicalMIMEHeaderKey(name); canonical == "Content-Length" || canonical == "Transfer-Encoding" {
			bad("rootResponse.headers", canonical+" is set by the server")
		}
	}
	if r.Body != "" && (r.StatusCode == http.StatusNoContent || r.StatusCode == http.StatusNotModified) {
		bad("rootResponse.body", "must be empty with a status that has no body")
	}
}

func (n Networking) validate(bad func(key, rule string)) {
	if n.MaxConnections < 1 {
		bad("networking.maxConnections", "must be at least 1")
	}
	for _, t := range []struct {
		key   string
		value time.Duration
	}{
		{"idleTimeout", n.IdleTimeout},
		{"readHeaderTimeout", n.ReadHeaderTimeout},
		{"bodyTimeout", n.BodyTimeout},
		{"responseHeaderTimeout", n.ResponseHeaderTimeout},
	} {
		if t.value <= 0 {
			bad("networking."+t.key, "must be more than zero")
		}
	}
	for _, s := range []struct {
		key      string
		value    int64
		min, max int64
	}{
		{"maxRequestLineLength", n.MaxRequestLineLength, 256, 1 << 20},
		{"maxHeadersLength", n.MaxHeadersLength, 1 << 10, 1 << 20},
		{"maxBodyBytes", n.MaxBodyBytes, 1, 256 << 20},
	} {
		if s.value < s.min || s.value > s.max {
			bad("networking."+s.key, fmt.Sprintf("must be between %d and %d bytes", s.min, s.max))
		}
	}
	if least := worstCase * n.MaxBodyBytes; n.MaxBufferedBytes < least {
		bad("networking.maxBufferedBytes", fmt.Sprintf("must be at least %d, which one body of maxBodyBytes can take", least))
	}
}

func isTwoSegments(path string) bool {
	_, _, ok := segments(path)
	return ok && isHeaderValue(path)
}

// isToken reports whether s can be the name of a cookie or a header (RFC 9110).
func isToken(s string) bool {
	for i := range len(s) {
		if !tokenByte[s[i]] {
			return false
		}
	}
	return s != ""
}

func isHost(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && c != '-' && c != '.' {
			return false
		}
	}
	return s != ""
}

func isAlphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func isHeaderValue(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}
