package collector

import (
	"errors"
	"io"
	"net/http"
	"os"
	"unicode/utf8"
)

// worstCase bounds what one body takes from the budget, in bodies: 4 to read and
// store it, 6 when every byte becomes a U+FFFD of three.
const worstCase = 4 + 6

var (
	errBodyTooLarge = errors.New("body too large")
	errNoMemory     = errors.New("too many large bodies at one time")
)

// readBody reads and decodes a POST's body. It answers and returns false when
// that cannot be done.
func (c *Collector) readBody(x *exchange) bool {
	limit := c.cfg.Networking.MaxBodyBytes
	err := errBodyTooLarge
	if x.r.ContentLength <= limit {
		err = c.read(x, limit)
	}
	if err == nil {
		err = c.decode(x)
	}
	if err == nil {
		return true
	}
	// What is left of the body cannot be told from a next request.
	x.w.Header()["Connection"] = closing
	switch {
	case errors.Is(err, errNoMemory):
		c.meter.refuse(memoryFull)
		c.unavailable(x.w, x.r, false)
	case errors.Is(err, errBodyTooLarge):
		c.meter.refuse(bodyTooLarge)
		c.refuse(x.w, x.r, http.StatusRequestEntityTooLarge)
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.meter.refuse(bodyTimeout)
		c.refuse(x.w, x.r, http.StatusRequestTimeout)
	default:
		c.meter.refuse(bodyBroken)
		c.refuse(x.w, x.r, http.StatusBadRequest)
	}
	return false
}

// read reads the body into a buffer that grows with what arrives, whatever length
// the client announced.
func (c *Collector) read(x *exchange, limit int64) error {
	body := x.buffers.body[:0]
	defer func() { x.buffers.body, x.body = body, body }()
	if x.r.Body == nil {
		return nil
	}
	for {
		if len(body) == cap(body) {
			// The buffer's growth, and as much for the record.
			if !c.hold(x, 2*int64(cap(body))) {
				return errNoMemory
			}
			grown := make([]byte, len(body), 2*cap(body))
			copy(grown, body)
			body = grown
		}
		n, err := x.r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if int64(len(body)) > limit {
			return errBodyTooLarge
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// decode turns the body into UTF-8 by its content type.
func (c *Collector) decode(x *exchange) error {
	x.content = readContentType(x.r.Header["Content-Type"], len(x.body) == 0)
	if x.content.charset == charsetUTF8 && utf8.Valid(x.body) {
		return nil
	}
	// Three bytes for each, in a buffer that grows past them, and in the record.
	if len(x.body) > firstBuffer && !c.hold(x, 6*int64(len(x.body))) {
		return errNoMemory
	}
	x.buffers.decoded = appendDecoded(x.buffers.decoded[:0], x.body, x.content.charset)
	x.body = x.buffers.decoded
	return nil
}

// hold takes bytes from the budget that all large bodies share. Bodies that fit
// into the first buffer are bounded by the number of connections and never ask.
func (c *Collector) hold(x *exchange, n int64) bool {
	if c.held.Add(n) > c.cfg.Networking.MaxBufferedBytes {
		c.held.Add(-n)
		return false
	}
	x.held += n
	return true
}

func (c *Collector) release(x *exchange) {
	if x.held != 0 {
		c.held.Add(-x.held)
	}
}
