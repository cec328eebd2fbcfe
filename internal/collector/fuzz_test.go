package collector

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"furrow/internal/event"
	"furrow/internal/snowplow"
)

// FuzzRequest sends anything. With a bus that stores, no answer is a server
// error, and what is answered 200 as an event is in exactly one record that can
// be read and says the same.
func FuzzRequest(f *testing.F) {
	f.Add("POST", tp2, "a=%zz&duid=x", "application/json; charset=utf-8", "https://a.example", "sp=1; dnt=x", "1.2.3.4", false, []byte(`{"duid":"u"}`))
	f.Add("GET", "/i", "nuid=a%00&n3pc=true", "", "null", `sp="`, "::1, unknown", true, []byte(nil))
	f.Add("GET", "/r/tp2", "u=http%3A%2F%2Fa.example%2F%5C", "text/plain; charset=utf-16", "http://[", "=;=", "[::1]:80", false, []byte("\xff\xfe\x00"))
	f.Add("HEAD", "/%72%2F/%zz", "%=&+&&u", "a/b; c=\"", "x://y z", "a=\"b\"", "", false, []byte("x"))
	f.Add("OPTIONS", "*", "", "", "", "", "", false, []byte(""))
	f.Fuzz(func(t *testing.T, method, path, query, content, origin, cookie, forwarded string, anonymous bool, body []byte) {
		pub := &recording{}
		c := build(t, pub, func(cfg *Config, _ *Options) {
			cfg.EnableDefaultRedirect, cfg.RedirectDomains, cfg.RedirectMacro.Enabled = true, []string{"*"}, true
			cfg.DoNotTrackCookie = DoNotTrackCookie{Enabled: true, Name: "dnt", Value: ".+"}
			cfg.CookieBounce.Enabled, cfg.CookieBounce.ForwardedProtocolHeader = true, "X-Forwarded-Proto"
			cfg.Cookie.Domains, cfg.Networking.MaxBodyBytes = []string{"a.example"}, 1<<16
			cfg.Paths = map[string]string{"/a/b": "/r/x"}
		})
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(string(body)))
		r.Method, r.RequestURI, r.Host = method, path+"?"+query, origin
		r.Header = http.Header{"Content-Type": {content}, "Origin": {origin}, "Cookie": {cookie}, "X-Forwarded-For": {forwarded}, "X-Forwarded-Proto": {content}}
		if anonymous {
			r.Header["Sp-Anonymous"] = []string{cookie}
		}
		w := httptest.NewRecorder()
		c.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Fatalf("status %d", w.Code)
		}
		for name, values := range w.Result().Header {
			for _, value := range values {
				if name != "Access-Control-Allow-Origin" && !isHeaderValue(value) {
					t.Errorf("header %s: %q", name, value)
				}
			}
		}
		if w.Header().Get("Access-Control-Allow-Origin") == origin && !isHeaderValue(origin) {
			t.Errorf("origin %q was sent back", origin)
		}
		for _, m := range pub.all() {
			p, err := snowplow.DecodePayload(m.Value)
			if err != nil {
				t.Fatal(err)
			}
			checkFuzzed(t, p, anonymous)
			if len(m.Key) == 0 || len(pub.all()) != 1 {
				t.Errorf("key %q, %d records", m.Key, len(pub.all()))
			}
		}
	})
}

func checkFuzzed(t *testing.T, p event.Payload, anonymous bool) {
	t.Helper()
	for _, s := range append(p.Headers, p.Path.Value, p.Body.Value, p.ContentType.Value, p.Hostname.Value, p.NetworkUserID.Value, p.IPAddress) {
		if validText(s) != s {
			t.Errorf("%q is not UTF-8", s)
		}
	}
	if !anonymous {
		return
	}
	if p.IPAddress != "unknown" || p.NetworkUserID.Value != zeroID {
		t.Errorf("anonymous, but %+v", p)
	}
	for _, h := range p.Headers {
		if strings.HasPrefix(h, "Cookie:") || strings.HasPrefix(h, "X-Forwarded-For:") {
			t.Errorf("anonymous, but %q", h)
		}
	}
}
