package collector

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// Buffers of a connection. The small one is all that an idle client holds, and
// enough for most requests with their body.
const (
	smallBuffer = 4 << 10
	wideBuffer  = 16 << 10
)

// States of a connection.
const (
	idle   int32 = iota // waits for a request: may be closed at any time
	busy                // has a request, or a part of one
	closed              // was closed while idle
)

// frontConn is a connection that a Front serves.
type frontConn struct {
	net.Conn
	front  *Front
	remote string
	state  atomic.Int32

	small      []byte
	wide       *[]byte // from the pool, while needed
	buf        []byte  // buf[start:end] was read and not used
	start, end int
	breaks     int  // bytes of line breaks to pass over before the next request
	handed     bool // net/http closes it

	readSet  time.Time // when the idle deadline was last set; zero: another one holds
	writeSet time.Time
}

func newFrontConn(f *Front, conn net.Conn) *frontConn {
	c := &frontConn{Conn: conn, front: f, remote: conn.RemoteAddr().String(), small: make([]byte, smallBuffer)}
	c.buf = c.small
	return c
}

// serve answers one request after the other.
func (c *frontConn) serve() {
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler { //nolint:errorlint // a panic's value, compared as net/http does
			c.front.log.Error("a request panicked", "client", c.remote, "panic", p, "stack", string(debug.Stack()))
		}
		if !c.handed {
			drop(c)
		}
		c.front.remove(c)
	}()
	for c.wait() && c.turn() {
	}
	c.shrink()
}

// closeIdle closes the connection unless a request is under way.
func (c *frontConn) closeIdle() {
	if c.state.CompareAndSwap(idle, closed) {
		drop(c)
	}
}

// wait returns when a part of a request is there, false when none comes.
func (c *frontConn) wait() bool {
	if c.start < c.end {
		return true
	}
	c.shrink()
	// Setting a deadline costs as much as a part of the request's work, so that of
	// an idle connection is later by up to an eighth.
	limit := c.front.limits.IdleTimeout
	slack := min(limit/8, time.Second)
	if now := time.Now(); now.Sub(c.readSet) > slack {
		c.SetReadDeadline(now.Add(limit + slack)) //nolint:errcheck // the read fails as well
		c.readSet = now
	}
	c.state.Store(idle)
	if c.front.stopping.Load() {
		return false
	}
	n, _ := c.Read(c.buf)
	c.end = n
	return c.state.CompareAndSwap(idle, busy) && n > 0
}

// shrink gives a large buffer back. What it holds must have been used.
func (c *frontConn) shrink() {
	c.start, c.end, c.buf = 0, 0, c.small
	if c.wide != nil {
		c.front.wide.Put(c.wide)
		c.wide = nil
	}
}

// turn serves the request at the start of the buffer and reports whether there can
// be another one.
func (c *frontConn) turn() bool {
	// Old browsers send a line break after a body (RFC 9112, 2.2), and net/http
	// passes over four bytes of that.
	for ; c.breaks > 0 && c.start < c.end && (c.buf[c.start] == '\r' || c.buf[c.start] == '\n'); c.breaks-- {
		c.start++
	}
	if c.start == c.end {
		return true
	}
	c.breaks = 0
	head, err := c.readHead()
	if err != nil {
		if errors.Is(err, errUnusual) {
			c.handOver()
		}
		return false
	}
	t := c.front.turns.Get().(*turn)
	if !t.parse(c.buf[c.start:c.start+head-2], &c.front.limits) {
		t.forget()
		c.front.turns.Put(t)
		c.handOver()
		return false
	}
	c.start += head
	if t.request.Method == http.MethodPost {
		c.breaks = 4
	}
	t.request.RemoteAddr = c.remote
	t.body.conn = c
	c.front.handler.ServeHTTP(&t.reply, &t.request)
	more := c.answer(t)
	t.forget()
	c.front.turns.Put(t)
	return more
}

// errUnusual means that net/http has to read the request.
var errUnusual = errors.New("not a plain request")

var endOfLine, endOfHead = []byte("\r\n"), []byte("\r\n\r\n")

// readHead returns the length of the request's head with the empty line.
func (c *frontConn) readHead() (int, error) {
	for seen := 0; ; {
		data := c.buf[c.start:c.end]
		// The first bytes of the empty line may have been seen.
		from := max(0, seen-len(endOfHead)+1)
		if i := bytes.Index(data[from:], endOfHead); i >= 0 {
			return from + i + len(endOfHead), nil
		}
		if !mayBePlain(data, seen) || c.end == len(c.buf) && !c.grow() {
			return 0, errUnusual
		}
		if seen == 0 {
			c.SetReadDeadline(time.Now().Add(c.front.limits.ReadHeaderTimeout)) //nolint:errcheck // the read fails as well
			c.readSet = time.Time{}
		}
		seen = len(data)
		n, err := c.Read(c.buf[c.end:])
		c.end += n
		switch {
		case n > 0:
		case errors.Is(err, io.EOF) && len(data) >= 4: // half a request
			return 0, errUnusual
		default:
			return 0, err
		}
	}
}

// grow makes room for a larger head, and reports false when it is too large.
func (c *frontConn) grow() bool {
	have := c.buf[c.start:c.end]
	most := int(c.front.limits.MaxRequestLineLength + c.front.limits.MaxHeadersLength)
	switch {
	case c.start > 0:
		copy(c.buf, have)
	case len(have) >= most:
		return false
	case c.wide == nil:
		c.wide = c.front.wide.Get().(*[]byte)
		c.buf = *c.wide
		copy(c.buf, have)
	default:
		c.buf = make([]byte, min(2*len(c.buf), most+smallBuffer))
		copy(c.buf, have)
	}
	c.start, c.end = 0, len(have)
	return true
}

// handOver gives the connection to net/http, which starts with what was read.
func (c *frontConn) handOver() {
	c.SetDeadline(time.Time{}) //nolint:errcheck // the next read fails as well
	first := bytes.Clone(c.buf[c.start:c.end])
	c.handed = c.front.handed.give(&replayed{Conn: c.Conn, first: first})
}

// body is the part of a request after its head.
type body struct {
	conn   *frontConn
	left   int64 // bytes that were not read yet
	waited bool  // the deadline is set
}

// Read reads what came with the head, then from the connection. The last bytes
// come together with io.EOF.
func (b *body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	c := b.conn
	n := copy(p, c.buf[c.start:c.end])
	c.start += n
	if n == 0 {
		if !b.waited {
			b.waited = true
			c.SetReadDeadline(time.Now().Add(c.front.limits.BodyTimeout)) //nolint:errcheck // the read fails as well
			c.readSet = time.Time{}
		}
		var err error
		if n, err = c.Read(p); n == 0 {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
	}
	if b.left -= int64(n); b.left == 0 {
		return n, io.EOF
	}
	return n, nil
}

// Close does nothing: the connection outlives the request.
func (b *body) Close() error { return nil }

// answer sends the reply and reports whether the connection can be used again.
func (c *frontConn) answer(t *turn) bool {
	// The next request begins after the body, so the body must be here.
	unread := t.body.left > int64(c.end-c.start)
	if !unread {
		c.start += int(t.body.left)
	}
	last := unread || t.request.Close || hasToken(t.reply.header["Connection"], "close") || c.front.stopping.Load()
	now := time.Now()
	if now.Sub(c.writeSet) > time.Second {
		c.SetWriteDeadline(now.Add(c.front.limits.BodyTimeout + time.Second)) //nolint:errcheck // the write fails as well
		c.writeSet = now
	}
	_, err := c.Write(t.reply.render(c.front.date(now), t.request.Method == http.MethodHead, last))
	if err == nil && unread {
		c.linger(now)
	}
	return err == nil && !last
}

// Bounds of reading what a client goes on to send after its answer.
const (
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 256 << 10
)

// linger ends the answer but reads on for a moment: closing at once could take the
// answer from a client that is still sending.
func (c *frontConn) linger(now time.Time) {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || c.SetReadDeadline(now.Add(lingerTime)) != nil {
		return
	}
	for total := 0; total < lingerBytes; {
		n, err := c.Read(c.buf)
		if err != nil {
			return
		}
		total += n
	}
}
