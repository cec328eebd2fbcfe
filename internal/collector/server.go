package collector

import (
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// NewServer returns a server that bounds what a client can hold: header bytes,
// the time for the headers, for the whole body, for the answer, and between
// requests. The caller gives it a listener, see LimitListener.
func NewServer(n Networking, h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: n.ReadHeaderTimeout,
		ReadTimeout:       n.ReadHeaderTimeout + n.BodyTimeout,
		// Starts when the headers are read. It leaves room for the 503 of a bus that
		// did not answer in time.
		WriteTimeout: n.BodyTimeout + n.ResponseHeaderTimeout + 5*time.Second,
		IdleTimeout:  n.IdleTimeout,
		// net/http counts the request line in.
		MaxHeaderBytes: int(n.MaxRequestLineLength + n.MaxHeadersLength),
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),

		DisableGeneralOptionsHandler: true, // a preflight of * is answered like any other
	}
}

// LimitListener accepts no connection while limit are open. Those that wait are in
// the system's queue.
func LimitListener(l net.Listener, limit int) net.Listener {
	return &limitListener{Listener: l, open: make(chan struct{}, limit), closed: make(chan struct{})}
}

type limitListener struct {
	net.Listener
	open   chan struct{}
	once   sync.Once
	closed chan struct{}
}

// Accept waits for a free place, then for a connection.
func (l *limitListener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	case l.open <- struct{}{}:
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.open
		return nil, err
	}
	return &limitedConn{Conn: conn, release: l.release}, nil
}

func (l *limitListener) release() { <-l.open }

// Close also ends an Accept that waits for a free place.
func (l *limitListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	once    sync.Once
	release func()
}

// CloseWrite lets net/http end an answer so that a client which is still sending
// can read it.
func (c *limitedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close gives the place back.
func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.release)
	return err
}
