package collector

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/textproto"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// tape is a connection whose client has sent everything already. Reads return at
// most chunk bytes.
type tape struct {
	in    []byte
	chunk int
	hangs bool // after its last byte; otherwise the client ends its side

	mu     sync.Mutex
	out    bytes.Buffer
	limit  time.Time
	moved  chan struct{} // closed when limit changes
	once   sync.Once
	closed chan struct{}
}

func (c *tape) Read(p []byte) (int, error) {
	for {
		c.mu.Lock()
		limit, moved := c.limit, c.moved
		if !limit.IsZero() && !time.Now().Before(limit) {
			c.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		}
		n := copy(p[:min(len(p), c.chunk)], c.in)
		c.in = c.in[n:]
		c.mu.Unlock()
		switch {
		case n > 0:
			return n, nil
		case !c.hangs:
			return 0, io.EOF
		}
		var late <-chan time.Time
		if !limit.IsZero() {
			late = time.After(time.Until(limit))
		}
		select {
		case <-late:
		case <-moved:
		case <-c.closed:
			return 0, net.ErrClosed
		}
	}
}

func (c *tape) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(p)
}

func (c *tape) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (c *tape) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.moved)
	c.limit, c.moved = t, make(chan struct{})
	return nil
}

func (c *tape) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 80} }

func (c *tape) RemoteAddr() net.Addr               { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 1234} }
func (c *tape) SetDeadline(t time.Time) error      { return c.SetReadDeadline(t) }
func (c *tape) SetWriteDeadline(_ time.Time) error { return nil }

// outcome is what a client sees and what is stored.
type outcome struct {
	Answers []string
	Records []string
}

// play gives the bytes to a server, within a bubble of synctest, and waits until
// the connection is closed.
func play(t *testing.T, front bool, in []byte, chunk int, hangs bool) outcome {
	t.Helper()
	pub := &recording{}
	c := build(t, pub, func(cfg *Config, _ *Options) {
		cfg.EnableDefaultRedirect, cfg.RedirectDomains = true, []string{"*"}
		cfg.Networking.MaxBodyBytes = 1 << 16
	})
	listener := newPipes()
	var server interface {
		Serve(net.Listener) error
		Close() error
	} = NewServer(c.cfg.Networking, c, slog.New(slog.DiscardHandler))
	if front {
		server = NewFront(c.cfg.Networking, c, nil)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(listener)
	}()
	conn := &tape{in: in, chunk: chunk, hangs: hangs, moved: make(chan struct{}), closed: make(chan struct{})}
	start := time.Now()
	listener.give(conn)
	<-conn.closed
	if d := time.Since(start); d > time.Hour {
		t.Errorf("the connection was open for %v", d)
	}
	server.Close()
	<-done
	synctest.Wait()
	o := outcome{Answers: answers(conn.out.String())}
	for _, p := range pub.payloads(t) {
		p.NetworkUserID.Value = "" // may be random
		// net/http changes the order and the spelling, and adds a line of its own.
		body := p.Headers[len(p.Headers):]
		if p.Body.Set {
			body = p.Headers[len(p.Headers)-1:]
		}
		lines := slices.Clone(p.Headers[:len(p.Headers)-len(body)])
		for i, line := range lines {
			name, value, _ := strings.Cut(line, ": ")
			lines[i] = textproto.CanonicalMIMEHeaderKey(name) + ": " + value
		}
		slices.SortStableFunc(lines, func(a, b string) int {
			a, _, _ = strings.Cut(a, ":")
			b, _, _ = strings.Cut(b, ":")
			return strings.Compare(a, b)
		})
		if slices.Contains(lines, "Pragma: no-cache") {
			lines = slices.DeleteFunc(lines, func(s string) bool { return s == "Cache-Control: no-cache" })
		}
		p.Headers = append(lines, body...)
		o.Records = append(o.Records, fmt.Sprintf("%+v", p))
	}
	return o
}

// answers divides what a server sent, without what may differ.
func answers(out string) []string {
	all := []string{}
	for out != "" {
		head, rest, _ := strings.Cut(out, "\r\n\r\n")
		lines := strings.Split(head, "\r\n")
		length := len(rest)
		for i, line := range lines {
			switch name, value, _ := strings.Cut(line, ": "); name {
			case "Content-Length":
				length, _ = strconv.Atoi(value)
			case "Date", "Connection":
				lines[i] = ""
			case "Set-Cookie":
				lines[i] = name
			}
		}
		if strings.HasPrefix(rest, "HTTP/1.1 ") { // of HEAD
			length = 0
		}
		length = min(length, len(rest))
		slices.Sort(lines)
		all = append(all, strings.Trim(strings.Join(lines, "\n"), "\n")+"\n\n"+rest[:length])
		out = rest[length:]
	}
	return all
}

// storedOnlyByFront reports whether a request line is one that net/http refuses
// and Front stores, see docs/adr/007.
func storedOnlyByFront(in []byte) bool {
	for line := range strings.SplitSeq(string(in), "\n") {
		_, target, _ := strings.Cut(strings.TrimRight(line, "\r"), " ")
		target, ok := strings.CutSuffix(target, protocol)
		path, _, _ := strings.Cut(target, "?")
		if ok && (strings.Contains(target, " ") || !isEscaped(path)) {
			return true
		}
	}
	return false
}

// FuzzFront gives what strangers send to a Front and to net/http alone: the
// answers and the records are the same, and no connection stays open.
func FuzzFront(f *testing.F) {
	get, post := raw("GET", "/i?a=b", ""), raw("POST", tp2, `{"duid":"u"}`, "Content-Type: application/json")
	for _, seed := range []string{
		get, post, get + post + get, post + "\r\n" + get, get[:20], post[:len(post)-3], "\r\n" + get, "",
		raw("POST", tp2, "2\r\nab\r\n0\r\n\r\n", "Transfer-Encoding: chunked") + get,
		raw("POST", tp2, "ab", "Transfer-Encoding: identity", "Content-Length: 2"),
		raw("POST", tp2, "ab", "Content-Length: 2", "content-length: 2") + get,
		raw("POST", tp2, "ab", "Expect: 100-continue") + get,
		raw("POST", "/health", "ab") + get,
		raw("GET", "/i", "ab") + get,
		raw("GET", "/i", "", "Connection: close") + get,
		raw("GET", "/i", "", "Pragma: no-cache", "X-B: 1", "x-a: 2", "X-b: \xff", "Cookie: sp=1; \"", "SP-Anonymous: 1.2.3.4"),
		raw("GET", "/r/x?u=http%3A%2F%2Fa.example%2F%0d", "", "Origin: https://a.example") + raw("HEAD", "/i", "") + raw("OPTIONS", "/i", ""),
		raw("GET", "/%zz", ""), raw("GET", "/a b/c d?e f", "") + get, raw("GET", "/a%z/%", ""),
		"GET /i HTTP/1.1\nHost: a\n\n" + get, "GET /i HTTP/1.0\r\n\r\n", "GET /i HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
		"GET http://a/i HTTP/1.1\r\nHost: b\r\n\r\n", "\x16\x03\x01\x02\x00", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		strings.Repeat(get, 20), raw("GET", "/i", "", "X: "+strings.Repeat("y", 5000)) + get,
	} {
		f.Add([]byte(seed), byte(0))
		f.Add([]byte(seed), byte(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, chunk byte) {
		size := int(chunk)
		if chunk == 0 {
			size = 1 << 20
		}
		synctest.Test(t, func(t *testing.T) { play(t, true, in, size, true) })
		agree(t, in, size)
	})
}

// agree compares what a Front makes of the bytes with what net/http does.
func agree(t *testing.T, in []byte, chunk int) {
	t.Helper()
	var got, want outcome
	synctest.Test(t, func(t *testing.T) { got = play(t, true, in, chunk, false) })
	if storedOnlyByFront(in) {
		return
	}
	synctest.Test(t, func(t *testing.T) { want = play(t, false, in, chunk, false) })
	// The two may disagree on whether the last bytes of a connection deserve an
	// answer, when they are no request.
	for _, pair := range [][2]*outcome{{&got, &want}, {&want, &got}} {
		long, short := &pair[0].Answers, len(pair[1].Answers)
		if len(*long) == short+1 && strings.Contains((*long)[short], "HTTP/1.1 400 Bad Request") {
			*long = (*long)[:short]
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%q\nnet/http -, front +\n%s", in, diff)
	}
}

// TestFrontAgrees combines parts of requests at random: whole requests that random
// bytes would hardly hit.
func TestFrontAgrees(t *testing.T) {
	t.Parallel()
	methods := []string{"GET", "GET", "POST", "POST", "POST", "HEAD", "OPTIONS", "get", "PUT", "TRACE"}
	targets := []string{
		tp2, tp2 + "?a=b", "/i", "/i?nuid=1&e=%zz", "/ice.png?a#b?c", "/r/tp2?u=http%3A%2F%2Fa.example", "/%61/%62", "/health", "/", "//a",
		"/a/b/c", "/a//b", "/\xff/\xfe?\xfd", "/a;b/c?d;e", "/x%2fy/z", "/#/a?b", "/a/b#c?d", "http://c.example/i?x", "*", "", "/i?\x7f", "/i?[]{}|\"<>^`",
	}
	lines := []string{
		"Connection: close", "connection: keep-alive", "Connection: x", "Content-Type: application/json", "content-type: text/plain; charset=latin1",
		"Content-Type: /", "Cookie: sp=1; a=b", "COOKIE: c", "User-Agent: \xff", "user-agent:", "Referer:\thttp://a.example/ ", "SP-Anonymous: *",
		"X-Forwarded-For: 1.2.3.4, 5.6.7.8", "X-Real-IP: ::1", "Origin: https://a.example", "Origin: null", "X-Odd_Name: 1", "x!#$: \t2\t 3",
		"X: \x00", "X : y", ": y", "X", " folded", "Expect: 100-continue", "expect: x", "Upgrade: h2c", "Transfer-Encoding: chunked",
		"transfer-encoding: gzip", "Host: b.example", "Content-Length: 0", "Content-Length: 2", "content-length: 02", "Content-Length: -1",
		"Content-Length: 99999", "Content-Length: 18446744073709551618", "Content-Length:", "Trailer: X", "TE: trailers", "Keep-Alive: 1",
		"Pragma: no-cache", "Cache-Control: max-age=0", "Date: x", "Authorization: Basic x", "Http2-Settings: x", "X: " + strings.Repeat("y", 3000),
	}
	hosts := []string{"Host: a.example", "host: A:80", "Host: [::1]:8080", "HOST: ", "Host: a b", "Host: a/b", "Host: a,b", "X: no host", "Host: \xc3\xa4"}
	bodies := []string{"", "", "", "{}", "2\r\nab\r\n0\r\n\r\n", strings.Repeat("\xff", 5000), strings.Repeat("x", 1<<16+1)}
	for seed := range uint64(3000) {
		draw := rand.New(rand.NewPCG(seed, 0))
		pick := func(from []string) string { return from[draw.IntN(len(from))] }
		var in strings.Builder
		for range 1 + draw.IntN(3) {
			host := hosts[0]
			if draw.IntN(4) == 0 {
				host = pick(hosts)
			}
			head := []string{pick(methods) + " " + pick(targets) + " HTTP/1.1", host}
			for range draw.IntN(5) {
				head = append(head, pick(lines))
			}
			body := pick(bodies)
			if body != "" && draw.IntN(4) != 0 {
				head = append(head, "Content-Length: "+strconv.Itoa(len(body)))
			}
			draw.Shuffle(len(head)-1, func(i, j int) { head[i+1], head[j+1] = head[j+1], head[i+1] })
			in.WriteString(strings.Join(head, "\r\n") + "\r\n\r\n" + body)
		}
		agree(t, []byte(in.String()), []int{1 << 20, 1 << 20, 1000, 7}[draw.IntN(4)])
	}
}
