package collector

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"furrow/internal/bus"
)

type discard struct{}

func (discard) Publish(context.Context, ...bus.Message) error { return nil }

// response is the least that a ResponseWriter can do.
type response struct{ header http.Header }

func (r *response) Header() http.Header         { return r.header }
func (r *response) Write(b []byte) (int, error) { return len(b), nil }
func (r *response) WriteHeader(int)             {}

type closer struct{ bytes.Reader }

func (*closer) Close() error { return nil }

// benchBody is 1,400 bytes of one page view as trackers send it.
var benchBody = func() []byte {
	const head = `{"schema":"iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4","data":[{"e":"pv","url":"https://shop.example/p/1","duid":"9d4c1f2e-0c1b-4e0a-9f56-7c1b7c0d3a55","cx":"`
	const tail = `","p":"web"}]}`
	return []byte(head + strings.Repeat("ZGF0YQ", 1400)[:1400-len(head)-len(tail)] + tail)
}()

var benchHeaders = map[string]string{
	"User-Agent":      "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36",
	"Accept":          "*/*",
	"Accept-Encoding": "gzip, deflate, br, zstd",
	"Accept-Language": "en-US,en;q=0.9",
	"Origin":          "https://shop.example",
	"Referer":         "https://shop.example/",
	"Sec-Fetch-Mode":  "cors",
	"Sec-Fetch-Site":  "same-site",
	"Cookie":          "_ga=GA1.2.1.1; sp=11111111-2222-4333-8444-555555555555; _sp_id.fe15=e981ccb3-389e-47fe",
}

func benchmarkHandler(b *testing.B, method, target string, body []byte) {
	b.Helper()
	c := build(b, discard{}, nil)
	r := httptest.NewRequest(method, target, nil)
	for name, value := range benchHeaders {
		r.Header.Set(name, value)
	}
	content := &closer{}
	if body != nil {
		r.Header.Set("Content-Type", "application/json; charset=UTF-8")
		r.Body, r.ContentLength = content, int64(len(body))
	}
	w := &response{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		content.Reset(body)
		clear(w.header)
		c.ServeHTTP(w, r)
	}
}

func BenchmarkPost(b *testing.B) { benchmarkHandler(b, "POST", tp2, benchBody) }

func BenchmarkGet(b *testing.B) {
	benchmarkHandler(b, "GET", "/i?e=pv&p=web&url=https%3A%2F%2Fshop.example%2Fp%2F1&duid=9d4c1f2e-0c1b-4e0a-9f56-7c1b7c0d3a55&"+strings.Repeat("a=b&", 100), nil)
}

// BenchmarkServer compares the whole server with one that reads the body and sets
// the same headers. Client and server share the processors, so compare the three
// rather than with other programs.
func BenchmarkServer(b *testing.B) {
	bare := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		h := w.Header()
		h["Access-Control-Allow-Origin"] = r.Header["Origin"]
		h["Access-Control-Allow-Credentials"] = isTrue
		h["P3p"] = []string{`policyref="/w3c/p3p.xml", CP="NOI DSP COR NID PSA OUR IND COM NAV STA"`}
		h["Set-Cookie"] = []string{"sp=11111111-2222-4333-8444-555555555555; Expires=Wed, 13 Nov 2024 22:13:20 GMT; Path=/; Secure; HttpOnly; SameSite=None"}
		h["Content-Type"], h["Content-Length"] = plainText, okLength
		w.Write(okBody)
	})
	c := build(b, discard{}, nil)
	type server interface {
		Serve(net.Listener) error
		Close() error
	}
	for name, start := range map[string]func() server{
		"bare":      func() server { return &http.Server{Handler: bare} },
		"collector": func() server { return NewServer(c.cfg.Networking, c, slog.New(slog.DiscardHandler)) },
		"front":     func() server { return NewFront(c.cfg.Networking, c, nil) },
	} {
		b.Run(name, func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			server := start()
			go server.Serve(l)
			defer server.Close()
			lines := []string{"Content-Type: application/json"}
			for name, value := range benchHeaders {
				lines = append(lines, name+": "+value)
			}
			request := []byte(raw("POST", tp2, string(benchBody), lines...))
			b.ReportAllocs()
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				conn := dial(b, l.Addr().String())
				buf := make([]byte, 4096)
				for pb.Next() {
					if _, err := conn.Write(request); err != nil {
						b.Error(err)
						return
					}
					if n, err := conn.Read(buf); err != nil || !bytes.HasPrefix(buf[:n], []byte("HTTP/1.1 200")) {
						b.Errorf("%q, %v", buf[:n], err)
						return
					}
				}
			})
		})
	}
}
