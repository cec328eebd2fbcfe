package collector

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"furrow/internal/bus"
	"furrow/internal/event"
	"furrow/internal/snowplow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recording is a publisher that keeps what it was given.
type recording struct {
	mu       sync.Mutex
	messages []bus.Message
	err      error         // returned in place of storing
	entered  chan struct{} // when not nil, told of each Publish
	hold     chan struct{} // when not nil, Publish waits until it is closed or ctx ends
}

func (r *recording) Publish(ctx context.Context, msgs ...bus.Message) error {
	if r.entered != nil {
		r.entered <- struct{}{}
	}
	if r.hold != nil {
		select {
		case <-r.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	r.messages = append(r.messages, msgs...)
	return nil
}

func (r *recording) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *recording) all() []bus.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.messages)
}

// payloads decodes what was published.
func (r *recording) payloads(t *testing.T) []event.Payload {
	t.Helper()
	var all []event.Payload
	for _, m := range r.all() {
		p, err := snowplow.DecodePayload(m.Value)
		if err != nil {
			t.Fatal(err)
		}
		if m.Stream != bus.Raw {
			t.Errorf("published to stream %q, want raw", m.Stream)
		}
		all = append(all, p)
	}
	return all
}

// only returns the one payload that must have been published.
func (r *recording) only(t *testing.T) event.Payload {
	t.Helper()
	all := r.payloads(t)
	if len(all) != 1 {
		t.Fatalf("%d records were published, want 1", len(all))
	}
	return all[0]
}

func build(tb testing.TB, pub bus.Publisher, change func(*Config, *Options)) *Collector {
	tb.Helper()
	cfg, opts := Default(), Options{Name: "furrow-0.1.0-test"}
	if change != nil {
		change(&cfg, &opts)
	}
	c, err := New(cfg, pub, opts)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// servers are the ways to run a collector on a real listener. Each returns its
// address.
var servers = map[string]func(testing.TB, bus.Publisher, func(*Config, *Options)) (string, *Collector){
	"front": serveFront, "net/http": serve,
}

// serveFront runs a collector behind a Front.
func serveFront(tb testing.TB, pub bus.Publisher, change func(*Config, *Options)) (string, *Collector) {
	tb.Helper()
	c := build(tb, pub, change)
	address, _ := startFront(tb, NewFront(c.cfg.Networking, c, nil))
	return address, c
}

// startFront serves until the test ends.
func startFront(tb testing.TB, front *Front) (string, <-chan error) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	open := openConns(front.rest)
	done := make(chan error, 1)
	go func() { done <- front.Serve(l) }()
	tb.Cleanup(func() {
		front.Close()
		<-front.drained
		open.Wait()
	})
	return l.Addr().String(), done
}

// openConns counts the connections of a server: net/http lets one linger after it
// ended a request early.
func openConns(server *http.Server) *sync.WaitGroup {
	var open sync.WaitGroup
	server.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Done()
		}
	}
	return &open
}

// serve runs a collector behind net/http alone.
func serve(tb testing.TB, pub bus.Publisher, change func(*Config, *Options)) (string, *Collector) {
	tb.Helper()
	c := build(tb, pub, change)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	server := NewServer(c.cfg.Networking, c, slog.New(slog.DiscardHandler))
	open := openConns(server)
	done := make(chan error, 1)
	go func() { done <- server.Serve(LimitListener(l, c.cfg.Networking.MaxConnections)) }()
	tb.Cleanup(func() {
		server.Close()
		<-done
		open.Wait()
	})
	return l.Addr().String(), c
}

func dial(tb testing.TB, address string) net.Conn {
	tb.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		tb.Fatal(err)
	}
	return conn
}

type answer struct {
	*http.Response
	body []byte
}

// receive reads one response.
func receive(tb testing.TB, conn net.Conn, method string) answer {
	tb.Helper()
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		tb.Fatalf("no response: %v", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		tb.Fatalf("response body: %v", err)
	}
	return answer{response, body}
}

// exchangeRaw sends bytes as they are and reads one response.
func exchangeRaw(tb testing.TB, address, raw string) answer {
	tb.Helper()
	conn := dial(tb, address)
	if _, err := io.WriteString(conn, raw); err != nil {
		tb.Fatal(err)
	}
	method, _, _ := strings.Cut(raw, " ")
	return receive(tb, conn, method)
}

// raw writes a request. Header lines are given whole; Host and Content-Length are
// added when missing.
func raw(method, target, body string, lines ...string) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", method, target)
	has := func(name string) bool {
		return slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(strings.ToLower(l), name+":") })
	}
	if !has("host") {
		b.WriteString("Host: collector.example.com\r\n")
	}
	for _, line := range lines {
		b.WriteString(line + "\r\n")
	}
	if body != "" && !has("content-length") && !has("transfer-encoding") {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n" + body)
	return b.String()
}
