package collector

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSetCookie(t *testing.T) {
	t.Parallel()
	const expires = "; Expires=Wed, 13 Nov 2024 22:13:20 GMT"
	for _, tt := range []struct {
		name, target, origin string
		change               func(*Cookie)
		want                 []string
	}{
		{"defaults", "/i?nuid=a", "", func(*Cookie) {}, []string{"sp=a" + expires + "; Path=/; Secure; HttpOnly; SameSite=None"}},
		{"no attributes", "/i?nuid=a", "", func(c *Cookie) { c.Secure, c.HTTPOnly, c.SameSite = false, false, "" }, []string{"sp=a" + expires + "; Path=/"}},
		{"off", "/i?nuid=a", "", func(c *Cookie) { c.Enabled = false }, nil},
		{"illegal value", "/i?nuid=a%3Bb", "", func(*Cookie) {}, nil},
		{"not ASCII", "/i?nuid=%C3%A9", "", func(*Cookie) {}, nil},
		{"line break", "/i?nuid=a%0D%0AX:1", "", func(*Cookie) {}, nil},
		{
			"two", "/i?nuid=a", "", func(c *Cookie) {
				c.ClientCookieName, c.Domains, c.FallbackDomain = "cl", []string{"a.example"}, "b.example"
			},
			[]string{
				"sp=a" + expires + "; Domain=b.example; Path=/; Secure; HttpOnly; SameSite=None",
				"cl=a" + expires + "; Domain=b.example; Path=/; Secure; SameSite=None",
			},
		},
		{
			"second domain", "/i?nuid=a", "https://x.b.example", func(c *Cookie) { c.Domains = []string{"a.example", "b.example"} },
			[]string{"sp=a" + expires + "; Domain=b.example; Path=/; Secure; HttpOnly; SameSite=None"},
		},
		{
			"suffix of another name", "/i?nuid=a", "https://xa.example", func(c *Cookie) { c.Domains = []string{"a.example"} },
			[]string{"sp=a" + expires + "; Path=/; Secure; HttpOnly; SameSite=None"},
		},
	} {
		c := build(t, &recording{}, func(cfg *Config, o *Options) {
			tt.change(&cfg.Cookie)
			o.Now = fixedClock
		})
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", tt.target, nil)
		if tt.origin != "" {
			r.Header.Set("Origin", tt.origin)
		}
		c.ServeHTTP(w, r)
		if w.Code != 200 {
			t.Errorf("%s: status %d", tt.name, w.Code)
		}
		if diff := cmp.Diff(tt.want, w.Result().Header.Values("Set-Cookie")); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

func TestCookieExpiryFollowsTheClock(t *testing.T) {
	t.Parallel()
	now := fixedClock()
	c := build(t, &recording{}, func(_ *Config, o *Options) { o.Now = func() time.Time { return now } })
	for range 3 {
		w := httptest.NewRecorder()
		c.ServeHTTP(w, httptest.NewRequest("GET", "/i", nil))
		if got, want := w.Result().Cookies()[0].Expires, now.Add(365*24*time.Hour).Truncate(time.Second).UTC(); !got.Equal(want) {
			t.Errorf("expires %v, want %v", got, want)
		}
		now = now.Add(-90 * time.Minute)
	}
}

func TestReadCookies(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"sp=a":                          "a",
		"x=1; sp=a; sp=b":               "a",
		`x=1;sp="a"`:                    "a",
		"SP=a":                          "",
		"xsp=a; sp_=b":                  "",
		"sp=a b; sp=c":                  "c",
		"sp":                            "",
		"sp=":                           "",
		";;=; sp=a=b":                   "a=b",
		"\tsp=a ;":                      "a",
		`x={"a":"sp=1"}; sp=ok; y="x,"`: "ok",
	} {
		if got, _ := cookieValue([]string{line}, "sp"); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
	for line, want := range map[string]string{
		`a=1;b="2" ; c=ä; =d; e=f=g`: "a=1; b=2; e=f=g",
		"no pairs":                   "no pairs",
		"":                           "",
	} {
		if got := string(appendCookies([]byte("x"), line)); got != "x"+want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}
