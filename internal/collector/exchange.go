package collector

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"slices"
	"time"
	"unsafe"

	"furrow/internal/bus"
	"furrow/internal/event"
	"furrow/internal/snowplow"
)

const zeroID = "00000000-0000-0000-0000-000000000000"

// Buffers start at firstBuffer bytes, grow as bytes arrive, and are kept for the
// next request up to keptBuffer.
const (
	firstBuffer = 4 << 10
	keptBuffer  = 64 << 10
)

// exchange is one event request on its way, and the buffers that the next one
// reuses.
type exchange struct {
	w http.ResponseWriter
	r *http.Request
	// lines are the header lines in the order of the request, nil behind net/http.
	lines []headerLine

	rawPath   string // as it came
	path      string // decoded and mapped
	query     string
	hasQuery  bool
	pixel     bool // GET or HEAD
	redirect  bool
	anonymous bool
	clientID  bool // the client sent nuid
	now       time.Time
	moment    *moment
	params    params
	nuid      string
	body      []byte // UTF-8
	content   contentType
	location  string // of a redirect
	allowed   bool   // the redirect may go there
	held      int64  // bytes taken from the collector's budget

	buffers *buffers
}

type buffers struct {
	body    []byte
	decoded []byte
	lines   []byte // header lines, one after the other
	ends    []int  // where each line ends
	headers []string
	names   []string
	id      [36]byte
	random  [1024]byte
	unused  []byte // the part of random that was not used
}

func newExchange() *exchange {
	return &exchange{buffers: &buffers{
		body: make([]byte, 0, firstBuffer), lines: make([]byte, 0, firstBuffer),
		ends: make([]int, 0, 32), headers: make([]string, 0, 32), names: make([]string, 0, 32),
	}}
}

// reset forgets the request, and buffers that an unusual one made large.
func (x *exchange) reset() {
	b := x.buffers
	*x = exchange{buffers: b}
	if cap(b.body) > keptBuffer {
		b.body = make([]byte, 0, firstBuffer)
	}
	if cap(b.lines) > keptBuffer {
		b.lines = make([]byte, 0, firstBuffer)
	}
	if cap(b.decoded) > keptBuffer {
		b.decoded = nil
	}
	clear(b.names)
	if cap(b.names) > 256 {
		b.ends, b.headers, b.names = nil, nil, nil
	}
}

// newID draws a random UUID of version 4. It is valid until reset.
func (x *exchange) newID() string {
	b := x.buffers
	writeID(b.id[:], b.draw())
	return text(b.id[:])
}

// draw takes 16 random bytes. They are read in batches because each read is a
// system call on some kernels.
func (b *buffers) draw() []byte {
	if len(b.unused) < 16 {
		rand.Read(b.random[:]) // never fails, by its documentation
		b.unused = b.random[:]
	}
	id := b.unused[:16]
	b.unused = b.unused[16:]
	return id
}

func writeID(dst, random []byte) {
	random[6] = random[6]&0x0f | 0x40
	random[8] = random[8]&0x3f | 0x80
	hex.Encode(dst[0:8], random[0:4])
	hex.Encode(dst[9:13], random[4:6])
	hex.Encode(dst[14:18], random[6:8])
	hex.Encode(dst[19:23], random[8:10])
	hex.Encode(dst[24:36], random[10:16])
	dst[8], dst[13], dst[18], dst[23] = '-', '-', '-', '-'
}

// text views bytes as a string without a copy.
func text(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b)) //nolint:gosec // the string does not outlive the request that owns the bytes
}

// message builds the record and its key, both in one allocation that the bus may
// keep.
func (c *Collector) message(x *exchange) bus.Message {
	address := unknownAddress
	if !x.anonymous {
		address = clientAddress(x.r)
	}
	p := event.Payload{
		IPAddress: address, Timestamp: x.now.UnixMilli(), Encoding: "UTF-8", Collector: c.name,
		UserAgent:     firstHeader(x.r.Header, "User-Agent"),
		RefererURI:    firstHeader(x.r.Header, "Referer"),
		Path:          event.Some(x.path),
		Headers:       x.headerLines(),
		NetworkUserID: event.Some(x.nuid),
	}
	if x.hasQuery {
		p.Querystring = event.Some(x.query)
	}
	if !x.pixel {
		p.Body = event.Some(text(x.body))
		p.ContentType = event.Some(x.content.value)
	}
	if x.r.Host != "" {
		p.Hostname = event.Some(hostname(x.r.Host))
	}
	var space [36]byte
	key := c.recordKey(x, address, space[:])
	record := make([]byte, 0, recordSize(&p)+len(key))
	record = snowplow.AppendPayload(record, &p)
	end := len(record)
	whole := append(record, key...)
	return bus.Message{Stream: bus.Raw, Key: whole[end:len(whole):len(whole)], Value: whole[:end:end]}
}

// recordSize bounds the length of the encoded payload from above.
func recordSize(p *event.Payload) int {
	const perField, fields, schema = 7, 16, len(snowplow.PayloadSchema)
	n := perField*fields + schema + 8 + len(p.IPAddress) + len(p.Encoding) + len(p.Collector) +
		len(p.UserAgent.Value) + len(p.RefererURI.Value) + len(p.Path.Value) + len(p.Querystring.Value) +
		len(p.Body.Value) + len(p.ContentType.Value) + len(p.Hostname.Value) + len(p.NetworkUserID.Value)
	for _, line := range p.Headers {
		n += 4 + len(line)
	}
	return n
}

func firstHeader(h http.Header, name string) event.Optional {
	if values := h[name]; len(values) > 0 {
		return event.Some(validText(values[0]))
	}
	return event.Optional{}
}

// headerLines returns "Name: value" for each header, in the request's order or
// sorted by name, and last a POST's bare content type. The texts live in the
// exchange's buffers.
func (x *exchange) headerLines() []string {
	b := x.buffers
	b.lines, b.ends, b.headers = b.lines[:0], b.ends[:0], b.headers[:0]
	for i := range x.lines {
		if line := &x.lines[i]; x.keeps(line.name) {
			x.appendLine(line.name, line.sent, line.value)
		}
	}
	if x.lines == nil {
		x.appendSorted()
	}
	start := 0
	for _, end := range b.ends {
		b.headers = append(b.headers, text(b.lines[start:end]))
		start = end
	}
	if !x.pixel {
		b.headers = append(b.headers, x.content.value)
	}
	return b.headers
}

// keeps reports whether the headers of this canonical name are stored.
func (x *exchange) keeps(name string) bool {
	switch name {
	case "Content-Length", "Transfer-Encoding":
		return false
	case "Content-Type":
		return x.content.malformed
	}
	return true
}

func (x *exchange) appendLine(name, sent, value string) {
	if x.anonymous && carriesAddress(name, value) {
		return
	}
	b := x.buffers
	b.lines = append(append(b.lines, sent...), ": "...)
	if name == "Cookie" {
		b.lines = appendCookies(b.lines, value)
	} else {
		b.lines = appendText(b.lines, value)
	}
	b.ends = append(b.ends, len(b.lines))
}

// appendSorted takes the headers from net/http, which keeps Host apart.
func (x *exchange) appendSorted() {
	b := x.buffers
	b.names = b.names[:0]
	for name := range x.r.Header {
		if name != "Host" && x.keeps(name) {
			b.names = append(b.names, name)
		}
	}
	if x.r.Host != "" {
		b.names = append(b.names, "Host")
	}
	slices.Sort(b.names)
	for _, name := range b.names {
		if name == "Host" {
			x.appendLine(name, name, x.r.Host)
			continue
		}
		for _, value := range x.r.Header[name] {
			x.appendLine(name, name, value)
		}
	}
}
