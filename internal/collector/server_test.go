package collector

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

func shortTimes(cfg *Config, _ *Options) {
	cfg.Networking.ReadHeaderTimeout = 150 * time.Millisecond
	cfg.Networking.BodyTimeout = 150 * time.Millisecond
	cfg.Networking.IdleTimeout = 150 * time.Millisecond
}

// TestSlowClientsAreCutOff leaves a request unfinished and expects the server to
// end it.
func TestSlowClientsAreCutOff(t *testing.T) {
	t.Parallel()
	for name, serve := range servers {
		t.Run(name, func(t *testing.T) {
			for _, tt := range []struct {
				name, sent string
				status     int // 0: the connection just ends
			}{
				{"nothing", "", 0},
				{"half a request line", "POST /com.snow", 0},
				{"half the headers", "POST " + tp2 + " HTTP/1.1\r\nHost: a\r\nX-Slow: ", 0},
				{"no body", raw("POST", tp2, "", "Content-Length: 10"), 408},
				{"half a body", raw("POST", tp2, "12345", "Content-Length: 10"), 408},
				{"half a chunk", raw("POST", tp2, "a\r\n12345", "Transfer-Encoding: chunked"), 408},
				{"idle after an answer", raw("GET", "/i", ""), 200},
			} {
				t.Run(tt.name, func(t *testing.T) {
					t.Parallel()
					pub := &recording{}
					address, collector := serve(t, pub, shortTimes)
					conn := dial(t, address)
					io.WriteString(conn, tt.sent)
					reader := bufio.NewReader(conn)
					if tt.status != 0 {
						response, err := http.ReadResponse(reader, nil)
						if err != nil {
							t.Fatal(err)
						}
						response.Body.Close()
						if response.StatusCode != tt.status || response.Header.Get("Access-Control-Allow-Origin") != "*" {
							t.Errorf("status %d, headers %v", response.StatusCode, response.Header)
						}
					}
					// The deadline of dial ends the test when the server does not.
					if _, err := io.Copy(io.Discard, reader); err != nil && errors.Is(err, errTimeout(err)) {
						t.Errorf("the connection stayed open: %v", err)
					}
					if tt.status == 408 && (collector.Counts().Refused["body_timeout"] != 1 || len(pub.all()) != 0) {
						t.Errorf("counts %+v, %d records", collector.Counts(), len(pub.all()))
					}
				})
			}
		})
	}
}

// errTimeout returns err when it is a timeout, nil otherwise.
func errTimeout(err error) error {
	var n net.Error
	if errors.As(err, &n) && n.Timeout() {
		return err
	}
	return nil
}

// TestADrippingBodyHasOneDeadline sends a byte now and then, faster than any
// timeout between bytes.
func TestADrippingBodyHasOneDeadline(t *testing.T) {
	t.Parallel()
	for name, serve := range servers {
		t.Run(name, func(t *testing.T) {
			address, collector := serve(t, &recording{}, shortTimes)
			conn := dial(t, address)
			io.WriteString(conn, raw("POST", tp2, "", "Content-Length: 1000000"))
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				io.Copy(io.Discard, conn)
			}()
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			deadline := time.After(20 * time.Second)
			for {
				select {
				case <-ended:
					if collector.Counts().Refused["body_timeout"] != 1 {
						t.Errorf("counts %+v", collector.Counts())
					}
					return
				case <-tick.C:
					io.WriteString(conn, "x")
				case <-deadline:
					t.Fatal("the server read for ever")
				}
			}
		})
	}
}

func TestABrokenBodyIsNotStored(t *testing.T) {
	t.Parallel()
	for name, serve := range servers {
		t.Run(name, func(t *testing.T) {
			pub := &recording{}
			address, collector := serve(t, pub, nil)
			if got := exchangeRaw(t, address, raw("POST", tp2, "zz\r\n", "Transfer-Encoding: chunked")); got.StatusCode != 400 {
				t.Errorf("broken chunk: status %d", got.StatusCode)
			}
			conn := dial(t, address)
			io.WriteString(conn, raw("POST", tp2, "12345", "Content-Length: 10"))
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got := receive(t, conn, "POST"); got.StatusCode != 400 {
				t.Errorf("half a body: status %d", got.StatusCode)
			}
			if collector.Counts().Refused["body_broken"] != 2 || len(pub.all()) != 0 {
				t.Errorf("counts %+v, %d records", collector.Counts(), len(pub.all()))
			}
		})
	}
}

func TestBodyLimit(t *testing.T) {
	t.Parallel()
	for name, serve := range servers {
		t.Run(name, func(t *testing.T) {
			const limit = 100_000
			chunked := func(n int) string {
				return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", n, strings.Repeat("x", n))
			}
			for _, tt := range []struct {
				name, request string
				status        int
			}{
				{"at the limit", raw("POST", tp2, strings.Repeat("x", limit)), 200},
				{"above", raw("POST", tp2, strings.Repeat("x", limit+1)), 413},
				{"far above", raw("POST", tp2, strings.Repeat("x", 20*limit)), 413},
				{"announced only", raw("POST", tp2, "x", "Content-Length: 999999999999"), 413},
				{"chunked, at the limit", raw("POST", tp2, chunked(limit), "Transfer-Encoding: chunked"), 200},
				{"chunked, above", raw("POST", tp2, chunked(limit+1), "Transfer-Encoding: chunked"), 413},
				{"redirect", raw("POST", "/r/tp2?u=http%3A%2F%2Fa.example", strings.Repeat("x", limit+1)), 413},
			} {
				t.Run(tt.name, func(t *testing.T) {
					t.Parallel()
					pub := &recording{}
					address, collector := serve(t, pub, func(cfg *Config, o *Options) {
						openRedirects(cfg, o)
						cfg.Networking.MaxBodyBytes = limit
					})
					conn := dial(t, address)
					go io.WriteString(conn, tt.request)
					got := receive(t, conn, "POST")
					if got.StatusCode != tt.status || got.Header.Get("Access-Control-Allow-Origin") != "*" {
						t.Errorf("status %d, headers %v", got.StatusCode, got.Header)
					}
					if tt.status == 200 {
						if p := pub.only(t); len(p.Body.Value) != limit {
							t.Errorf("%d bytes were stored", len(p.Body.Value))
						}
						return
					}
					if collector.Counts().Refused["body_too_large"] != 1 || len(pub.all()) != 0 {
						t.Errorf("counts %+v, %d records", collector.Counts(), len(pub.all()))
					}
				})
			}
		})
	}
}

// TestAnAnnouncedBodyTakesNoMemory opens connections that announce a large body
// and send nothing.
func TestAnAnnouncedBodyTakesNoMemory(t *testing.T) {
	for name, serve := range servers {
		t.Run(name, func(t *testing.T) {
			address, _ := serve(t, &recording{}, nil)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			const clients = 100
			for range clients {
				conn := dial(t, address)
				io.WriteString(conn, raw("POST", tp2, "", "Content-Length: 2097152", "Expect: 100-continue"))
				// The server asks for the body: from here on it waits in Read.
				if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "100") {
					t.Fatalf("%q, %v", line, err)
				}
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			if held := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / clients; held > 64<<10 {
				t.Errorf("a client that sent nothing holds %d bytes", held)
			}
		})
	}
}

// TestLargeBodiesShareABudget fills the memory for bodies with requests that wait
// for the bus, and expects 503 for one more, and room again afterwards.
func TestLargeBodiesShareABudget(t *testing.T) {
	t.Parallel()
	for name, serve := range servers {
		t.Run(name, func(t *testing.T) {
			const size = 100_000
			pub := &recording{entered: make(chan struct{}, 10), hold: make(chan struct{})}
			address, collector := serve(t, pub, func(cfg *Config, _ *Options) {
				cfg.Networking.MaxBodyBytes, cfg.Networking.MaxBufferedBytes = size, worstCase*size
			})
			request := raw("POST", tp2, strings.Repeat("\xff", size))
			waiting := dial(t, address)
			io.WriteString(waiting, request)
			<-pub.entered
			got := exchangeRaw(t, address, request)
			if got.StatusCode != 503 || got.Header.Get("Retry-After") == "" || collector.Counts().Refused["memory_full"] != 1 {
				t.Errorf("status %d, headers %v, counts %+v", got.StatusCode, got.Header, collector.Counts())
			}
			close(pub.hold)
			if got := exchangeRaw(t, address, raw("GET", "/i", "")); got.StatusCode != 200 {
				t.Errorf("a small request: status %d", got.StatusCode)
			}
			if got := receive(t, waiting, "POST"); got.StatusCode != 200 {
				t.Errorf("the first: status %d", got.StatusCode)
			}
			if got := exchangeRaw(t, address, request); got.StatusCode != 200 {
				t.Errorf("with room again: status %d", got.StatusCode)
			}
			eventually(t, func() bool { return collector.held.Load() == 0 })
		})
	}
}

func TestRequestLimits(t *testing.T) {
	t.Parallel()
	for name, serve := range servers {
		t.Run(name, func(t *testing.T) {
			pub := &recording{}
			address, collector := serve(t, pub, nil)
			line := func(n int) string { return "/i?x=" + strings.Repeat("y", n-5) }
			for _, tt := range []struct {
				name, request string
				status        int
			}{
				{"target at the limit", raw("GET", line(32<<10), ""), 200},
				{"target above", raw("GET", line(32<<10+1), ""), 414},
				{"headers", raw("GET", "/i", "", "X-Large: "+strings.Repeat("y", 36<<10)), 200},
				{"headers above", raw("GET", "/i", "", "X-Large: "+strings.Repeat("y", 80<<10)), 431},
			} {
				if got := exchangeRaw(t, address, tt.request); got.StatusCode != tt.status {
					t.Errorf("%s: status %d, want %d", tt.name, got.StatusCode, tt.status)
				}
			}
			if got := collector.Counts().Refused["request_line_too_long"]; got != 1 {
				t.Errorf("counted %d", got)
			}
		})
	}
}

func TestWhatGetsNoRecord(t *testing.T) {
	t.Parallel()
	for name, serve := range servers {
		t.Run(name, func(t *testing.T) {
			pub := &recording{}
			address, _ := serve(t, pub, nil)
			for _, tt := range []struct {
				method, target string
				status         int
			}{
				{"GET", "//tp2", 404},
				{"GET", "/a//b", 404},
				{"GET", tp2 + "/", 404},
				{"GET", "/i/", 404},
				{"HEAD", "/health", 404},
				{"DELETE", tp2, 404},
				{"POST", "/r/tp2", 404},
				{"GET", "/%72/tp2?u=http%3A%2F%2Fa.example", 404},
				{"GET", "/r%2Fx/tp2?u=http%3A%2F%2Fa.example", 404},
				{"OPTIONS", "*", 200},
				{"OPTIONS", "/", 200},
			} {
				if got := exchangeRaw(t, address, raw(tt.method, tt.target, "")); got.StatusCode != tt.status {
					t.Errorf("%s %s: status %d, want %d", tt.method, tt.target, got.StatusCode, tt.status)
				}
			}
			if n := len(pub.all()); n != 0 {
				t.Errorf("%d records", n)
			}
		})
	}
}

func TestBodiesThatDoNotCount(t *testing.T) {
	t.Parallel()
	for name, serve := range servers {
		t.Run(name, func(t *testing.T) {
			for _, method := range []string{"GET", "HEAD"} {
				pub := &recording{}
				address, _ := serve(t, pub, nil)
				conn := dial(t, address)
				// The next request on the connection must not be read from the body.
				io.WriteString(conn, raw(method, "/i?n=1", "GET /i?n=body HTTP/1.1\r\n\r\n")+raw(method, "/i?n=2", ""))
				reader := bufio.NewReader(conn)
				for range 2 {
					response, err := http.ReadResponse(reader, &http.Request{Method: method})
					if err != nil {
						t.Fatal(err)
					}
					body, _ := io.ReadAll(response.Body)
					response.Body.Close()
					if response.StatusCode != 200 || response.ContentLength != 43 || method == "GET" && string(body) != string(pixelGIF) {
						t.Errorf("%s: status %d, %d bytes", method, response.StatusCode, len(body))
					}
				}
				all := pub.payloads(t)
				if len(all) != 2 || all[0].Body.Set || all[0].ContentType.Set || all[1].Querystring.Value != "n=2" {
					t.Errorf("%s: %+v", method, all)
				}
			}
		})
	}
}

func TestAbsoluteFormAndOldProtocol(t *testing.T) {
	t.Parallel()
	for name, serve := range servers {
		t.Run(name, func(t *testing.T) {
			pub := &recording{}
			address, _ := serve(t, pub, nil)
			exchangeRaw(t, address, raw("GET", "http://Other.example:81/com.acme/v1?a=1", ""))
			exchangeRaw(t, address, "GET /i HTTP/1.0\r\n\r\n")
			all := pub.payloads(t)
			if len(all) != 2 {
				t.Fatalf("%d records", len(all))
			}
			if p := all[0]; p.Hostname.Value != "other.example" || p.Path.Value != "/com.acme/v1" || p.Querystring.Value != "a=1" {
				t.Errorf("%+v", p)
			}
			if p := all[1]; p.Hostname.Set || len(p.Headers) != 0 {
				t.Errorf("%+v", p)
			}
		})
	}
}

func TestLimitListener(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := LimitListener(inner, 2)
	accepted, ended := make(chan net.Conn), make(chan error, 1)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- conn
		}
	}()
	for range 3 {
		dial(t, l.Addr().String())
	}
	first, second := <-accepted, <-accepted
	select {
	case <-accepted:
		t.Fatal("a third connection was accepted")
	case <-time.After(50 * time.Millisecond):
	}
	first.Close()
	first.Close() // gives back one place only
	third := <-accepted
	defer second.Close()
	defer third.Close()
	l.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept ended with %v", err)
	}
	l.Close()
}
