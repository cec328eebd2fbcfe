package collector

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Front is the public server. It reads plain requests by
// itself and gives every connection on which something else arrives to net/http,
// with the bytes that were read, for the rest of its life. Therefore it answers
// nothing that is malformed, and what it accepts, net/http reads the same way, but
// for the differences that docs/adr/007 lists.
type Front struct {
	limits  Networking
	handler http.Handler
	log     *slog.Logger
	rest    *http.Server
	handed  *handOver
	turns   sync.Pool // of *turn
	wide    sync.Pool // of *[]byte, wideBuffer bytes each
	second  atomic.Pointer[dateLine]

	stopping atomic.Bool
	drained  chan struct{} // closed when the server stops and has no connection left

	mu       sync.Mutex
	listener net.Listener
	conns    map[*frontConn]struct{}
}

// NewFront returns a server that gives plain requests to the handler by itself and
// all others through net/http. A plain request has no context that ends with the
// client, its answer is sent when the handler returns and must fit into memory, and
// the handler must keep neither request nor writer.
func NewFront(n Networking, handler http.Handler, log *slog.Logger) *Front {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f := &Front{
		limits: n, handler: handler, log: log,
		rest:    NewServer(n, handler, log),
		handed:  &handOver{conns: make(chan net.Conn), closed: make(chan struct{})},
		drained: make(chan struct{}), conns: map[*frontConn]struct{}{},
	}
	f.turns.New = func() any { return newTurn() }
	f.wide.New = func() any {
		b := make([]byte, wideBuffer)
		return &b
	}
	return f
}

// Serve accepts connections, at most MaxConnections at one time, until Shutdown or
// Close, and then returns http.ErrServerClosed. It may be called once. It closes
// the listener.
func (f *Front) Serve(l net.Listener) error {
	l = LimitListener(l, f.limits.MaxConnections)
	defer drop(l)
	f.handed.addr = l.Addr()
	f.mu.Lock()
	f.listener = l
	f.mu.Unlock()
	if f.stopping.Load() {
		return http.ErrServerClosed
	}
	go f.rest.Serve(f.handed) //nolint:errcheck // its listener fails only when the server is shut down
	var pause time.Duration
	for {
		conn, err := l.Accept()
		if f.stopping.Load() {
			if err == nil {
				drop(conn)
			}
			return http.ErrServerClosed
		}
		if err != nil {
			var passing interface{ Temporary() bool }
			if !errors.As(err, &passing) || !passing.Temporary() {
				return err
			}
			// Usually there are no file descriptors left.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			f.log.Warn("cannot accept connections at the moment", "error", err, "pause", pause)
			f.wait(pause)
			continue
		}
		pause = 0
		if c := newFrontConn(f, conn); f.add(c) {
			go c.serve()
		} else {
			drop(conn)
		}
	}
}

// wait ends early when the server stops.
func (f *Front) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.handed.closed:
	}
}

// Shutdown stops accepting, closes the connections without a request, and waits
// until the requests in flight are answered, at most until ctx ends. Its error is
// then that of ctx.
func (f *Front) Shutdown(ctx context.Context) error {
	f.stop((*frontConn).closeIdle)
	// Closes the idle connections of net/http at once and the others after their
	// answer, but still takes those that are handed over.
	f.rest.SetKeepAlivesEnabled(false)
	var late error
	select {
	case <-f.drained:
	case <-ctx.Done():
		late = ctx.Err() // net/http may have nothing left to wait for
	}
	if err := f.rest.Shutdown(ctx); err != nil {
		return err
	}
	return late
}

// Close ends all connections at once.
func (f *Front) Close() error {
	f.stop(func(c *frontConn) { drop(c.Conn) })
	return f.rest.Close()
}

func (f *Front) stop(each func(*frontConn)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := !f.stopping.Swap(true)
	if f.listener != nil {
		drop(f.listener)
	}
	if first && len(f.conns) == 0 {
		close(f.drained)
	}
	for c := range f.conns {
		each(c)
	}
}

// add reports false when the server stops.
func (f *Front) add(c *frontConn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopping.Load() {
		return false
	}
	f.conns[c] = struct{}{}
	return true
}

func (f *Front) remove(c *frontConn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, c)
	if f.stopping.Load() && len(f.conns) == 0 {
		close(f.drained)
	}
}

// dateLine is the Date header of one second.
type dateLine struct {
	unix int64
	text string
}

func (f *Front) date(now time.Time) string {
	if d := f.second.Load(); d != nil && d.unix == now.Unix() {
		return d.text
	}
	d := &dateLine{unix: now.Unix(), text: "Date: " + now.UTC().Format(http.TimeFormat) + "\r\n"}
	f.second.Store(d)
	return d.text
}

// handOver is the listener of the net/http server behind a Front.
type handOver struct {
	addr   net.Addr
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

// Accept returns the next connection that is handed over.
func (h *handOver) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept, and give.
func (h *handOver) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr is that of the public listener.
func (h *handOver) Addr() net.Addr { return h.addr }

// give reports false when nobody takes connections any more.
func (h *handOver) give(conn net.Conn) bool {
	select {
	case h.conns <- conn:
		return true
	case <-h.closed:
		return false
	}
}

// replayed is a connection whose first bytes were read already.
type replayed struct {
	net.Conn
	first []byte
}

// Read returns the bytes that were read already, then those of the connection.
func (r *replayed) Read(p []byte) (int, error) {
	if len(r.first) == 0 {
		return r.Conn.Read(p)
	}
	n := copy(p, r.first)
	if r.first = r.first[n:]; len(r.first) == 0 {
		r.first = nil
	}
	return n, nil
}

// CloseWrite ends the answer so that a client which is still sending can read it.
func (r *replayed) CloseWrite() error {
	if half, ok := r.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// drop closes what is not needed any more. There is nobody to tell when that fails.
func drop(c io.Closer) {
	_ = c.Close()
}

// hasToken reports whether a header's lines are just this word.
func hasToken(lines []string, word string) bool {
	return len(lines) == 1 && strings.EqualFold(lines[0], word)
}
