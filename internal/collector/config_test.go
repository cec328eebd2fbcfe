package collector

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDefaultIsValid(t *testing.T) {
	t.Parallel()
	Default().Validate(func(key, rule string) { t.Errorf("%s %s", key, rule) })
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for key, change := range map[string]func(*Config){
		"paths":                                func(c *Config) { c.Paths = map[string]string{"/one": "/a/b"} },
		"cookie.name":                          func(c *Config) { c.Cookie.Name = "a b" },
		"cookie.clientCookieName":              func(c *Config) { c.Cookie.ClientCookieName = "sp" },
		"cookie.expiration":                    func(c *Config) { c.Cookie.Expiration = 0 },
		"cookie.domains[1]":                    func(c *Config) { c.Cookie.Domains = []string{"a.example", "b/c"} },
		"cookie.fallbackDomain":                func(c *Config) { c.Cookie.FallbackDomain = "a;b" },
		"cookie.sameSite":                      func(c *Config) { c.Cookie.SameSite = "none" },
		"doNotTrackCookie.name":                func(c *Config) { c.DoNotTrackCookie.Enabled = true },
		"doNotTrackCookie.value":               func(c *Config) { c.DoNotTrackCookie.Value = `\Qunfinished` },
		"cookieBounce.name":                    func(c *Config) { c.CookieBounce.Name = "a&b" },
		"cookieBounce.fallbackNetworkUserId":   func(c *Config) { c.CookieBounce.FallbackNetworkUserID = "" },
		"cookieBounce.forwardedProtocolHeader": func(c *Config) { c.CookieBounce.ForwardedProtocolHeader = "a:b" },
		"redirectDomains[0]":                   func(c *Config) { c.RedirectDomains = []string{"https://a.example"} },
		"redirectMacro.placeholder":            func(c *Config) { c.RedirectMacro = RedirectMacro{Enabled: true} },
		"rootResponse.statusCode":              func(c *Config) { c.RootResponse.StatusCode = 99 },
		"rootResponse.headers":                 func(c *Config) { c.RootResponse.Headers = map[string]string{"A": "b\nc"} },
		"rootResponse.body":                    func(c *Config) { c.RootResponse.StatusCode, c.RootResponse.Body = 204, "x" },
		"crossDomain.domains[0]":               func(c *Config) { c.CrossDomain.Domains = []string{`"`} },
		"cors.accessControlMaxAge":             func(c *Config) { c.CORS.AccessControlMaxAge = -time.Minute },
		"p3p.policyRef":                        func(c *Config) { c.P3P.PolicyRef = "\n" },
		"p3p.CP":                               func(c *Config) { c.P3P.CP = `"` },
		"hsts.maxAge":                          func(c *Config) { c.HSTS.MaxAge = -1 },
		"preTerminationPeriod":                 func(c *Config) { c.PreTerminationPeriod = -1 },
		"terminationDeadline":                  func(c *Config) { c.TerminationDeadline = -1 },
		"networking.maxConnections":            func(c *Config) { c.Networking.MaxConnections = 0 },
		"networking.idleTimeout":               func(c *Config) { c.Networking.IdleTimeout = 0 },
		"networking.readHeaderTimeout":         func(c *Config) { c.Networking.ReadHeaderTimeout = 0 },
		"networking.bodyTimeout":               func(c *Config) { c.Networking.BodyTimeout = 0 },
		"networking.responseHeaderTimeout":     func(c *Config) { c.Networking.ResponseHeaderTimeout = 0 },
		"networking.maxRequestLineLength":      func(c *Config) { c.Networking.MaxRequestLineLength = 0 },
		"networking.maxHeadersLength":          func(c *Config) { c.Networking.MaxHeadersLength = 1 << 40 },
		"networking.maxBodyBytes":              func(c *Config) { c.Networking.MaxBodyBytes = 0 },
		"networking.maxBufferedBytes":          func(c *Config) { c.Networking.MaxBufferedBytes = c.Networking.MaxBodyBytes },
		"key":                                  func(c *Config) { c.Key = "page" },
	} {
		cfg := Default()
		change(&cfg)
		found := map[string]bool{}
		cfg.Validate(func(key, _ string) { found[key] = true })
		if diff := cmp.Diff([]string{key}, slices.Collect(maps.Keys(found))); diff != "" {
			t.Error(diff)
		}
		if _, err := New(cfg, &recording{}, Options{Name: "n"}); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("New with a wrong %s: %v", key, err)
		}
	}
}

func TestPathsThatSnowplowAccepts(t *testing.T) {
	t.Parallel()
	cfg := Default()
	cfg.Paths = map[string]string{"/com.acme/track": tp2, "/com.acme/redirect": "/r/tp2", "/i": "/a/b"}
	cfg.Validate(func(key, rule string) { t.Errorf("%s %s", key, rule) })
	cfg.Paths = map[string]string{"/a/b": "/one", "/a/c": "/x/y/z", "a/b": "/x/y", "/a/d": "/a/\n"}
	n := 0
	cfg.Validate(func(string, string) { n++ })
	if n != 4 {
		t.Errorf("%d problems, want 4", n)
	}
}
