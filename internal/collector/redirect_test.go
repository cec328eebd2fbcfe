package collector

import (
	"net/http/httptest"
	"net/url"
	"testing"
)

func TestRedirectTargets(t *testing.T) {
	t.Parallel()
	one, any := []string{"good.example"}, []string{"*"}
	for _, tt := range []struct {
		allowed []string
		target  string
		want    string // empty: 400
	}{
		{nil, "http://good.example/", ""},
		{one, "http://good.example/", "http://good.example/"},
		{one, "https://user:pass@good.example:8443/a?b=c#d", "https://user:pass@good.example:8443/a?b=c#d"},
		{one, "http://www.good.example/", ""},
		{one, "http://good.example.evil.example/", ""},
		{one, "http://evil.example#@good.example/", ""},
		{one, `http://evil.example\@good.example/`, ""},
		{one, `http://good.example\.evil.example/`, ""},
		{one, "http:good.example", ""},
		{one, "//good.example/", ""},
		{one, "ftp://good.example/", ""},
		{one, "HTTP://good.example/", "HTTP://good.example/"},
		{any, "https://anything.example/ä b\"c", "https://anything.example/%C3%A4%20b%22c"},
		{any, "http://[2001:db8::1]:80/", "http://[2001:db8::1]:80/"},
		{any, "javascript:alert(1)", ""},
		{any, "data:text/html,x", ""},
		{any, "/local", ""},
		{any, "http:///path", ""},
		{any, "http://", ""},
		{any, "http://:80/", ""},
		{any, "http://a.example/\r\nX-Injected: 1", ""},
		{any, "ht\ntp://a.example/", ""},
		{any, "", ""},
	} {
		pub := &recording{}
		c := build(t, pub, func(cfg *Config, _ *Options) {
			cfg.EnableDefaultRedirect, cfg.RedirectDomains = true, tt.allowed
		})
		w := httptest.NewRecorder()
		c.ServeHTTP(w, httptest.NewRequest("GET", "/r/tp2?u="+url.QueryEscape(tt.target), nil))
		h := w.Result().Header
		wantStatus := 302
		if tt.want == "" {
			wantStatus = 400
		}
		if w.Code != wantStatus || h.Get("Location") != tt.want {
			t.Errorf("%q with %v: status %d, location %q, want %q", tt.target, tt.allowed, w.Code, h.Get("Location"), tt.want)
		}
		if len(pub.all()) != 1 || h.Get("Set-Cookie") == "" {
			t.Errorf("%q: %d records, cookie %q", tt.target, len(pub.all()), h.Get("Set-Cookie"))
		}
	}
}

// TestAClientCannotChooseTheHostThroughTheMacro: the network user id comes from
// the client, so the target is checked after it was put in.
func TestAClientCannotChooseTheHostThroughTheMacro(t *testing.T) {
	t.Parallel()
	c := build(t, &recording{}, func(cfg *Config, _ *Options) {
		cfg.EnableDefaultRedirect, cfg.RedirectDomains, cfg.RedirectMacro.Enabled = true, []string{"good.example"}, true
	})
	w := httptest.NewRecorder()
	c.ServeHTTP(w, httptest.NewRequest("GET", "/r/tp2?nuid=evil.example%2F&u="+url.QueryEscape("http://${SP_NUID}good.example/"), nil))
	if w.Code != 400 {
		t.Errorf("status %d, headers %v", w.Code, w.Result().Header)
	}
}

func TestBounceKeepsTheQuery(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]string{
		"/i":                 "//example.com/i?n3pc=true",
		"/i?a=%zz&b={}":      "//example.com/i?a=%zz&b={}&n3pc=true",
		"/com.acme%2Fx/v1?a": "//example.com/com.acme%2Fx/v1?a&n3pc=true",
	} {
		c := build(t, &recording{}, func(cfg *Config, _ *Options) { cfg.CookieBounce.Enabled = true })
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/i", nil)
		r.RequestURI = target
		c.ServeHTTP(w, r)
		if got := w.Result().Header.Get("Location"); w.Code != 302 || got != want {
			t.Errorf("%s: status %d, location %q, want %q", target, w.Code, got, want)
		}
	}
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	for origin, want := range map[string]string{
		"":                             "*",
		"null":                         "null",
		"https://a.example":            "https://a.example",
		"http://[2001:db8::1]:8080":    "http://[2001:db8::1]:8080",
		"chrome-extension://abcdef":    "chrome-extension://abcdef",
		"file://":                      "file://",
		"https://a.example/path":       "*",
		"https://a.example https://b":  "https://a.example https://b",
		"https://a.example junk":       "*",
		"nothing":                      "*",
		"https://a.example,https://b":  "*",
		"https://a.example\x00":        "*",
		"https://user@a.example":       "*",
		"https://a.example\u00e4":      "*",
		" https://a.example":           "*",
		"https://a.example  https://b": "*",
	} {
		c := build(t, &recording{}, nil)
		w := httptest.NewRecorder()
		r := httptest.NewRequest("OPTIONS", "/x", nil)
		if origin != "" {
			r.Header["Origin"] = []string{origin}
		}
		c.ServeHTTP(w, r)
		if got := w.Result().Header.Get("Access-Control-Allow-Origin"); got != want {
			t.Errorf("origin %q: %q, want %q", origin, got, want)
		}
	}
}
