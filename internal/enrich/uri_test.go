package enrich

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseURI(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		want uri
		port int64
	}{
		{"http://a.com/p?q#f", uri{text: "http://a.com/p?q#f", scheme: "http", host: "a.com", path: "/p", query: "q", fragment: "f"}, 80},
		{"https://a.com:8443", uri{text: "https://a.com:8443", scheme: "https", host: "a.com", port: 8443}, 8443},
		{"https://a.com:", uri{text: "https://a.com:", scheme: "https", host: "a.com"}, 443},
		{"http://u:p@a.com:81/x", uri{text: "http://u:p@a.com:81/x", scheme: "http", host: "a.com", port: 81, path: "/x"}, 81},
		{"http://1.2.3.4:90/", uri{text: "http://1.2.3.4:90/", scheme: "http", host: "1.2.3.4", port: 90, path: "/"}, 90},
		{"http://[::1]:8080/x", uri{text: "http://[::1]:8080/x", scheme: "http", host: "[::1]", port: 8080, path: "/x"}, 8080},
		{"http://localhost/", uri{text: "http://localhost/", scheme: "http", host: "localhost", path: "/"}, 80},
		{"http://a.com./", uri{text: "http://a.com./", scheme: "http", host: "a.com.", path: "/"}, 80},
		// No legal host name: the authority is kept in the text only, the port is lost.
		{"http://my_host:81/x", uri{text: "http://my_host:81/x", scheme: "http", path: "/x"}, 80},
		{"http://999.1.1.1/", uri{text: "http://999.1.1.1/", scheme: "http", path: "/"}, 80},
		{"http://a-.com/", uri{text: "http://a-.com/", scheme: "http", path: "/"}, 80},
		{"http://a..com/", uri{text: "http://a..com/", scheme: "http", path: "/"}, 80},
		{"https://bücher.de/é", uri{text: "https://bücher.de/é", scheme: "https", path: "/é"}, 443},
		{"file:///etc/x", uri{text: "file:///etc/x", scheme: "file", path: "/etc/x"}, 80},
		{"mailto:a@b.c", uri{text: "mailto:a@b.c", scheme: "mailto"}, 80},
		{"/only/path?q=1", uri{text: "/only/path?q=1", path: "/only/path", query: "q=1"}, 80},
		{"acme.com", uri{text: "acme.com", path: "acme.com"}, 80},
		{"//a.com/x", uri{text: "//a.com/x", host: "a.com", path: "/x"}, 80},
		{"http://a.com/?a=[1]&b=$x", uri{text: "http://a.com/?a=[1]&b=$x", scheme: "http", host: "a.com", path: "/", query: "a=[1]&b=$x"}, 80},
		// Spaces alone do not make the rest lenient.
		{"http://a.com/$ b", uri{text: "http://a.com/$%20b", scheme: "http", host: "a.com", path: "/$%20b"}, 80},
		// One offending character makes all of them encoded.
		{"http://a.com:81/$x|[1]?q={%41%}", uri{text: "http://a.com:81/%24x%7C%5B1%5D?q=%7B%41%25%7D", scheme: "http", host: "a.com", port: 81, path: "/%24x%7C%5B1%5D", query: "q=%7B%41%25%7D"}, 81},
		{"http://a.com/#a#b?c/d=e&f", uri{text: "http://a.com/#a%23b%3Fc%2Fd%3De%26f", scheme: "http", host: "a.com", path: "/", fragment: "a%23b%3Fc%2Fd%3De%26f"}, 80},
		{"http://[::1]/a|b", uri{text: "http://[::1]/a%7Cb", scheme: "http", host: "[::1]", path: "/a%7Cb"}, 80},
		{"http://a b.com/", uri{text: "http://a%20b.com/", scheme: "http", path: "/"}, 80},
		{"http://a|b.com/\u00a0\u0085", uri{text: "http://a%7Cb.com/%C2%A0%C2%85", scheme: "http", path: "/%C2%A0%C2%85"}, 80},
	} {
		t.Run(c.in, func(t *testing.T) {
			t.Parallel()
			got, ok := parseURI(c.in)
			if !ok {
				t.Fatal("refused")
			}
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(uri{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if port := got.effectivePort(); port != c.port {
				t.Errorf("port %d, want %d", port, c.port)
			}
		})
	}
	for _, in := range []string{"http://", "http:", ":x", "1http://a.com/", "a b:c"} {
		if got, ok := parseURI(in); ok {
			t.Errorf("%q: %+v, want a refusal", in, got)
		}
	}
}

func FuzzURI(f *testing.F) {
	for _, s := range []string{"http://a.com/p?q#f", "http://[::1]:1/|", "a:%", "//x|y/#?"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, ok := parseURI(s)
		if !ok {
			return
		}
		again, ok := parseURI(u.text)
		if !ok || again != u {
			t.Errorf("%q gave %+v, then %+v", s, u, again)
		}
	})
}
