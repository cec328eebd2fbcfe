package collector

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/bus"
)

// whoServes answers fast when the front itself serves a request, slow when net/http
// does.
func whoServes(w http.ResponseWriter, r *http.Request) {
	name := "slow"
	if _, ok := w.(*reply); ok {
		name = "fast"
	}
	n, _ := io.Copy(io.Discard, r.Body)
	w.Header().Set("Handler", name)
	fmt.Fprintf(w, "%s %s %d", r.Method, r.URL.Path, n)
}

// onlyFast gives the handler what the front itself serves, and nothing else.
func onlyFast(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := w.(*reply); !ok {
			http.NotFound(w, r)
			return
		}
		handler.ServeHTTP(w, r)
	})
}

// TestWhoServes sends each request twice on one connection. What is not plain
// reaches net/http whole.
func TestWhoServes(t *testing.T) {
	t.Parallel()
	const get = "GET /i HTTP/1.1\r\nHost: a\r\n"
	lines := func(n int) string { return strings.Repeat("X: y\r\n", n) }
	for _, tt := range []struct{ name, request, handler string }{
		{"GET", get + "\r\n", "fast"},
		{"HEAD", "HEAD /i HTTP/1.1\r\nHost: a\r\n\r\n", "fast"},
		{"OPTIONS", "OPTIONS /x HTTP/1.1\r\nHost: a\r\n\r\n", "fast"},
		{"POST", raw("POST", tp2, "body"), "fast"},
		{"large body", raw("POST", tp2, strings.Repeat("x", 1<<20)), "fast"},
		{"no body", raw("POST", tp2, ""), "fast"},
		{"a raw space", "GET /i?a b HTTP/1.1\r\nHost: a\r\n\r\n", "fast"},
		{"a broken escape in an event", "GET /a%zz/b HTTP/1.1\r\nHost: a\r\n\r\n", "fast"},
		{"keep-alive", get + "Connection: Keep-Alive\r\n\r\n", "fast"},
		{"64 lines", get + lines(63) + "\r\n", "fast"},
		{"large head", get + "X: " + strings.Repeat("y", 39<<10) + "\r\n\r\n", "fast"},
		{"a path of Furrow", "GET /v1/recommend HTTP/1.1\r\nHost: a\r\n\r\n", "fast"},
		{"the same, escaped", "GET /%761/recommend HTTP/1.1\r\nHost: a\r\n\r\n", "fast"},
		{"POST elsewhere", raw("POST", "/v1/x/y", "body"), "slow"},
		{"a POST that nobody reads", raw("POST", "/health", "body"), "slow"},
		{"a body without use", raw("GET", "/i", "body"), "slow"},
		{"another method", raw("DELETE", tp2, ""), "slow"},
		{"chunks", raw("POST", tp2, "2\r\nab\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), "slow"},
		{"chunks in odd spelling", raw("POST", tp2, "2\r\nab\r\n0\r\n\r\n", "tRANSFER-eNCODING: chunked"), "slow"},
		{"upgrade", get + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "slow"},
		{"unknown option", get + "Connection: keep-alive, x\r\n\r\n", "slow"},
		{"absolute form", "GET http://a/i HTTP/1.1\r\nHost: a\r\n\r\n", "slow"},
		{"asterisk form", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "slow"},
		{"bare line feeds", "GET /i HTTP/1.1\nHost: a\n\n", "slow"},
		{"one bare line feed", "GET /i HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", "slow"},
		{"folded line", get + "X: a\r\n b\r\n\r\n", "slow"},
		{"odd host", "GET /i HTTP/1.1\r\nHost: a~b\r\n\r\n", "slow"},
		{"no host name", "GET /i HTTP/1.1\r\nHost:\r\n\r\n", "slow"},
		{"65 lines", get + lines(64) + "\r\n", "slow"},
		{"head above the limit", get + "X: " + strings.Repeat("y", 41<<10) + "\r\n\r\n", "slow"},
		{"body above the limit", raw("POST", tp2, strings.Repeat("x", 2<<20+1)), "slow"},
		{"equal lengths", raw("POST", tp2, "body", "Content-Length: 4", "Content-Length: 4"), "slow"},

		{"no host", "GET /i HTTP/1.1\r\n\r\n", ""},
		{"two hosts", get + "Host: b\r\n\r\n", ""},
		{"two lengths", raw("POST", tp2, "body", "Content-Length: 4", "Content-Length: 5"), ""},
		{"a signed length", raw("POST", tp2, "body", "Content-Length: +4"), ""},
		{"a list of lengths", raw("POST", tp2, "body", "Content-Length: 4, 5"), ""},
		{"a length that overflows", raw("POST", tp2, "body", "Content-Length: 18446744073709551620"), ""},
		{"a name with a space", get + "Transfer-Encoding : chunked\r\n\r\n", ""},
		{"no colon", get + "X\r\n\r\n", ""},
		{"a NUL", get + "X: \x00\r\n\r\n", ""},
		{"a bare carriage return", get + "X: a\rb\r\n\r\n", ""},
		{"a control character in the target", "GET /i?\x01 HTTP/1.1\r\nHost: a\r\n\r\n", ""},
		{"a broken escape elsewhere", "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", ""},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", ""},
		{"no HTTP", "hello\r\n\r\n", ""},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "slow"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address, _ := startFront(t, NewFront(Default().Networking, http.HandlerFunc(whoServes), nil))
			conn := dial(t, address)
			// The server may refuse before it has read all.
			go func() {
				io.WriteString(conn, tt.request+tt.request)
				conn.(*net.TCPConn).CloseWrite()
			}()
			method, _, _ := strings.Cut(tt.request, " ")
			reader := bufio.NewReader(conn)
			for range 2 {
				response, err := http.ReadResponse(reader, &http.Request{Method: method})
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, response.Body)
				response.Body.Close()
				if got := response.Header.Get("Handler"); got != tt.handler || (got == "") != (response.StatusCode >= 400) {
					t.Errorf("served by %q with status %d, want %q", got, response.StatusCode, tt.handler)
				}
				if response.Close {
					break
				}
			}
		})
	}
}

// TestPipelining sends plain requests and, from the middle on, others, at once and
// expects the answers in order.
func TestPipelining(t *testing.T) {
	t.Parallel()
	for _, unusual := range []bool{false, true} {
		pub := &recording{}
		address, _ := serveFront(t, pub, nil)
		var all strings.Builder
		const requests = 40
		for i := range requests {
			var lines []string
			if unusual && i == requests/2 {
				lines = []string{"X-Folded: a", " b"}
			}
			if i%2 == 0 {
				all.WriteString(raw("GET", fmt.Sprintf("/i?n=%d", i), "", lines...))
				continue
			}
			// net/http too passes over a line break after a body.
			all.WriteString(raw("POST", fmt.Sprintf("%s?n=%d", tp2, i), strings.Repeat("x", i*100), lines...) + "\r\n")
		}
		conn := dial(t, address)
		go io.WriteString(conn, all.String())
		reader := bufio.NewReader(conn)
		for i := range requests {
			response, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatalf("answer %d: %v", i, err)
			}
			body, _ := io.ReadAll(response.Body)
			response.Body.Close()
			if response.StatusCode != 200 || (string(body) == "ok") != (i%2 == 1) {
				t.Errorf("answer %d: status %d, body %q", i, response.StatusCode, body)
			}
		}
		for i, p := range pub.payloads(t) {
			if p.Querystring.Value != fmt.Sprintf("n=%d", i) || i%2 == 1 && len(p.Body.Value) != i*100 {
				t.Errorf("record %d: query %q, %d bytes", i, p.Querystring.Value, len(p.Body.Value))
			}
		}
	}
}

// TestEverySplit cuts requests into two reads at each place.
func TestEverySplit(t *testing.T) {
	t.Parallel()
	for _, request := range []string{
		raw("POST", tp2+"?a=b", `{"a":"b"}`, "Content-Type: application/json", "Cookie: sp=1"),
		raw("GET", "/i?a=b", "", "X-Large: "+strings.Repeat("y", 5000)),
		raw("POST", tp2, "3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
	} {
		pub := &recording{}
		c := build(t, pub, nil)
		listener := newPipes()
		done := make(chan struct{})
		front := NewFront(c.cfg.Networking, c, nil)
		go func() { defer close(done); front.Serve(listener) }()
		step := max(1, len(request)/300)
		for at := 1; at < len(request); at += step {
			client, peer := net.Pipe()
			listener.give(peer)
			client.SetDeadline(time.Now().Add(30 * time.Second))
			// A pipe's Write is one Read of the other side.
			go func() {
				io.WriteString(client, request[:at])
				io.WriteString(client, request[at:])
			}()
			if got := receive(t, client, "POST"); got.StatusCode != 200 {
				t.Errorf("split at %d: status %d", at, got.StatusCode)
			}
			client.Close()
		}
		front.Close()
		<-done
		<-front.drained
		all := pub.payloads(t)
		for _, p := range all {
			p.Timestamp, p.NetworkUserID = all[0].Timestamp, all[0].NetworkUserID
			if diff := cmp.Diff(all[0], p); diff != "" {
				t.Fatal(diff)
			}
		}
		if want := (len(request) - 2 + step) / step; len(all) != want {
			t.Errorf("%d records, want %d", len(all), want)
		}
	}
}

func newPipes() *handOver {
	return &handOver{addr: &net.TCPAddr{}, conns: make(chan net.Conn), closed: make(chan struct{})}
}

func TestStoresTargetsAsTheyCame(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ target, path, query string }{
		{"/i?a b&c=%zz", "/i", "a b&c=%zz"},
		{"/i?a HTTP/1.1 b", "/i", "a HTTP/1.1 b"},
		{"/com.acme/a b?c", "/com.acme/a b", "c"},
		{"/com.acme/%zz%20%?c=d#e", "/com.acme/%zz %", "c=d"},
		{"/com.acme/a\xff?\xff", "/com.acme/a\ufffd", "\xff"},
	} {
		pub := &recording{}
		address, _ := serveFront(t, pub, nil)
		if got := exchangeRaw(t, address, raw("GET", tt.target, "")); got.StatusCode != 200 {
			t.Errorf("%s: status %d", tt.target, got.StatusCode)
			continue
		}
		if p := pub.only(t); p.Path.Value != tt.path || p.Querystring.Value != tt.query {
			t.Errorf("%s: path %q, query %q", tt.target, p.Path.Value, p.Querystring.Value)
		}
	}
}

func TestKeepsTheOrderOfHeaders(t *testing.T) {
	t.Parallel()
	pub := &recording{}
	address, _ := serveFront(t, pub, nil)
	exchangeRaw(t, address, "POST "+tp2+" HTTP/1.1\r\nX-b: 1\r\ncookie: b=1\r\nhost: A.example:80\r\nx-A:2\r\n"+
		"content-type: text/plain\r\nX-B: \t3 4 \r\nuser-agent: me\r\ncookie: a=1\r\ncontent-length: 2\r\nempty:\r\n\r\nok")
	want := []string{
		"X-b: 1", "Cookie: b=1", "Host: A.example:80", "x-A: 2", "X-B: 3 4", "User-Agent: me", "Cookie: a=1", "empty: ", "text/plain",
	}
	p := pub.only(t)
	if diff := cmp.Diff(want, p.Headers); diff != "" {
		t.Error(diff)
	}
	if p.Hostname.Value != "a.example" || p.UserAgent.Value != "me" {
		t.Errorf("%+v", p)
	}
}

// TestShutdown stops a server with a connection that is new, one between two
// requests, and one of each handler in a request.
func TestShutdown(t *testing.T) {
	t.Parallel()
	entered, hold := make(chan struct{}), make(chan struct{})
	slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			entered <- struct{}{}
			<-hold
		}
		io.WriteString(w, "ok")
	})
	front := NewFront(Default().Networking, slow, nil)
	address, served := startFront(t, front)
	fresh, between, unusual := dial(t, address), dial(t, address), dial(t, address)
	io.WriteString(between, raw("GET", "/", ""))
	receive(t, between, "GET")
	io.WriteString(unusual, raw("DELETE", "/", ""))
	receive(t, unusual, "DELETE")
	var active []net.Conn
	for _, method := range []string{"GET", "DELETE"} {
		conn := dial(t, address)
		io.WriteString(conn, raw(method, "/wait", ""))
		<-entered
		active = append(active, conn)
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := front.Shutdown(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown with requests in flight: %v", err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- front.Shutdown(t.Context()) }()
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve: %v", err)
	}
	for _, conn := range []net.Conn{fresh, between, unusual} {
		if n, err := conn.Read(make([]byte, 1)); n != 0 || errTimeout(err) != nil {
			t.Errorf("an idle connection: %d bytes, %v", n, err)
		}
	}
	if _, err := net.Dial("tcp", address); err == nil {
		t.Error("a connection was accepted")
	}
	close(hold)
	for _, conn := range active {
		if got := receive(t, conn, "GET"); got.StatusCode != 200 || string(got.body) != "ok" || !got.Close {
			t.Errorf("status %d, body %q, close %v", got.StatusCode, got.body, got.Close)
		}
	}
	if err := <-stopped; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if err := front.Serve(newPipes()); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve after Shutdown: %v", err)
	}
}

func TestShutdownSaysThatARequestIsLeft(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"GET", "DELETE"} {
		entered, hold := make(chan struct{}), make(chan struct{})
		handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			entered <- struct{}{}
			<-hold
		})
		front := NewFront(Default().Networking, handler, nil)
		address, _ := startFront(t, front)
		io.WriteString(dial(t, address), raw(method, "/", ""))
		<-entered
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if err := front.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", method, err)
		}
		cancel()
		close(hold)
	}
}

// TestAConnectionAboveTheLimitWaits counts the connections of net/http in.
func TestAConnectionAboveTheLimitWaits(t *testing.T) {
	t.Parallel()
	address, _ := serveFront(t, &recording{}, func(cfg *Config, _ *Options) { cfg.Networking.MaxConnections = 2 })
	first, second := dial(t, address), dial(t, address)
	for conn, method := range map[net.Conn]string{first: "GET", second: "DELETE"} {
		io.WriteString(conn, raw(method, "/i", ""))
		receive(t, conn, method)
	}
	third := dial(t, address)
	io.WriteString(third, raw("GET", "/i", ""))
	third.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := third.Read(make([]byte, 1)); errTimeout(err) == nil {
		t.Fatalf("a third connection was served: %v", err)
	}
	second.Close()
	third.SetReadDeadline(time.Now().Add(30 * time.Second))
	if got := receive(t, third, "GET"); got.StatusCode != 200 {
		t.Errorf("status %d", got.StatusCode)
	}
}

// TestAnAnswerReachesWhoIsStillSending denies a request whose body nobody reads.
func TestAnAnswerReachesWhoIsStillSending(t *testing.T) {
	t.Parallel()
	address, _ := serveFront(t, &recording{}, nil)
	conn := dial(t, address)
	go io.WriteString(conn, raw("POST", "/r/tp2", strings.Repeat("x", 200_000)))
	if got := receive(t, conn, "POST"); got.StatusCode != 404 || !got.Close {
		t.Errorf("status %d, close %v", got.StatusCode, got.Close)
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Errorf("the connection ended with %v", err)
	}
}

// TestOneRequestLeavesNothingToTheNext reuses the memory of a request with
// everything for one with nothing.
func TestOneRequestLeavesNothingToTheNext(t *testing.T) {
	t.Parallel()
	pub := &recording{}
	address, _ := serveFront(t, pub, nil)
	conn := dial(t, address)
	requests := []string{
		raw("POST", tp2+"?nuid=1&duid=2", "secret", "Cookie: sp=secret", "Origin: https://secret.example", "SP-Anonymous: *",
			"User-Agent: secret", "Referer: https://secret.example", "X-Forwarded-For: 1.2.3.4", "Content-Type: text/secret", "X-Secret: 1"),
		"GET /i HTTP/1.1\r\nHost: a\r\n\r\n",
	}
	for _, request := range requests {
		io.WriteString(conn, request)
		if got := receive(t, conn, "GET"); got.StatusCode != 200 {
			t.Fatalf("status %d", got.StatusCode)
		}
	}
	p := pub.payloads(t)[1]
	if strings.Contains(fmt.Sprintf("%+v", p), "secret") || len(p.Headers) != 1 || p.IPAddress != "127.0.0.1" || p.Body.Set || p.Querystring.Set {
		t.Errorf("%+v", p)
	}
}

// TestReplies compares what a handler answers through both servers.
func TestReplies(t *testing.T) {
	t.Parallel()
	handlers := map[string]http.HandlerFunc{
		"nothing": func(http.ResponseWriter, *http.Request) {},
		"status":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) },
		"no body": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) },
		"text":    func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<p>"); w.Write([]byte("more")) },
		"header":  func(w http.ResponseWriter, _ *http.Request) { w.Header()["A"] = []string{"1", "a\r\nB: 2"} },
		"length": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "0")
			w.WriteHeader(302)
		},
		"large": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100000")
			w.Write(bytes.Repeat([]byte("x"), 100_000))
		},
		"file": func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "a.txt", time.Unix(1700000000, 0), strings.NewReader("content"))
		},
		"part": func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("Range", "bytes=1-3")
			http.ServeContent(w, r, "a.txt", time.Unix(1700000000, 0), strings.NewReader("content"))
		},
		"closed": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") },
	}
	for name, handler := range handlers {
		front := NewFront(Default().Networking, onlyFast(handler), nil)
		address, _ := startFront(t, front)
		plain := httptest.NewServer(handler)
		defer plain.Close()
		for _, method := range []string{"GET", "HEAD"} {
			var seen [2]string
			for i, address := range []string{address, plain.Listener.Addr().String()} {
				got := exchangeRaw(t, address, raw(method, "/i", ""))
				if got.Header.Get("Date") == "" {
					t.Errorf("%s: no date", name)
				}
				got.Header.Del("Date")
				seen[i] = fmt.Sprint(got.Status, got.Header, got.ContentLength, got.Close, string(got.body))
			}
			if diff := cmp.Diff(seen[1], seen[0]); diff != "" {
				t.Errorf("%s %s: %s", method, name, diff)
			}
		}
	}
}

// TestIdleConnectionsHoldLittle looks at the memory of clients that sent a large
// head and stay.
func TestIdleConnectionsHoldLittle(t *testing.T) {
	address, _ := serveFront(t, &recording{err: bus.ErrFull}, nil)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const clients = 100
	for range clients {
		conn := dial(t, address)
		io.WriteString(conn, raw("GET", "/i", "", "X: "+strings.Repeat("y", 39<<10)))
		if got := receive(t, conn, "GET"); got.StatusCode != 503 || got.Close {
			t.Fatalf("status %d, close %v", got.StatusCode, got.Close)
		}
	}
	runtime.GC()
	runtime.GC() // empties the pools
	runtime.ReadMemStats(&after)
	// Client and server share the heap.
	if held := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / clients; held > 12<<10 {
		t.Errorf("an idle client holds %d bytes", held)
	}
}

// TestAPanicEndsOneConnection keeps the server.
func TestAPanicEndsOneConnection(t *testing.T) {
	t.Parallel()
	var once sync.Once
	front := NewFront(Default().Networking, onlyFast(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		once.Do(func() { panic("a handler's mistake") })
	})), nil)
	address, _ := startFront(t, front)
	conn := dial(t, address)
	io.WriteString(conn, raw("GET", "/i", ""))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || errTimeout(err) != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if got := exchangeRaw(t, address, raw("GET", "/i", "")); got.StatusCode != 200 {
		t.Errorf("status %d", got.StatusCode)
	}
}

// failing is a listener whose first errors come before any connection.
type failing struct {
	*handOver
	errs chan error
}

func (l failing) Accept() (net.Conn, error) {
	select {
	case err := <-l.errs:
		return nil, err
	default:
		return l.handOver.Accept()
	}
}

func TestFailuresToAccept(t *testing.T) {
	t.Parallel()
	c := build(t, &recording{}, nil)
	front := NewFront(c.cfg.Networking, c, nil)
	defer front.Close()
	l := failing{newPipes(), make(chan error, 2)}
	l.errs <- fmt.Errorf("accept: %w", syscall.EMFILE)
	l.errs <- &net.OpError{Op: "accept", Err: syscall.ECONNABORTED}
	done := make(chan error, 1)
	go func() { done <- front.Serve(l) }()
	client, peer := net.Pipe()
	defer client.Close()
	l.give(peer)
	go io.WriteString(client, raw("GET", "/i", ""))
	if got := receive(t, client, "GET"); got.StatusCode != 200 {
		t.Errorf("status %d", got.StatusCode)
	}
	l.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve with a listener that others closed: %v", err)
	}
}
