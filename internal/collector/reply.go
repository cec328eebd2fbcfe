package collector

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// reply is the http.ResponseWriter of a plain request. It collects the answer,
// which is sent in one piece after the handler returned.
type reply struct {
	lines  []headerLine // of the request, in its order
	header http.Header
	status int
	body   []byte
	names  []string
	out    []byte
}

// Header returns the header, which the handler may change until it returns.
func (r *reply) Header() http.Header { return r.header }

// WriteHeader sets the status; the first call counts. Interim answers are not sent.
func (r *reply) WriteHeader(status int) {
	if r.status == 0 && status >= http.StatusOK {
		r.status = status
	}
}

// Write appends to the body.
func (r *reply) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	r.body = append(r.body, p...)
	return len(p), nil
}

// WriteString appends to the body.
func (r *reply) WriteString(s string) (int, error) {
	r.WriteHeader(http.StatusOK)
	r.body = append(r.body, s...)
	return len(s), nil
}

func (r *reply) reset() {
	clear(r.header)
	clear(r.names)
	r.lines, r.names, r.body, r.out, r.status = r.lines[:0], r.names[:0], r.body[:0], r.out[:0], 0
	if cap(r.body) > keptBuffer {
		r.body = nil
	}
	if cap(r.out) > keptBuffer {
		r.out = nil
	}
}

// render returns the whole answer. Last adds that the connection will be closed.
func (r *reply) render(date string, head, last bool) []byte {
	r.WriteHeader(http.StatusOK)
	out := append(r.out, "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(r.status), 10)
	out = append(append(append(out, ' '), http.StatusText(r.status)...), "\r\n"...)
	allowed := r.status != http.StatusNoContent && r.status != http.StatusNotModified
	if allowed && len(r.body) > 0 && r.header["Content-Type"] == nil {
		r.header["Content-Type"] = []string{http.DetectContentType(r.body)}
	}
	for name := range r.header {
		r.names = append(r.names, name)
	}
	slices.Sort(r.names)
	for _, name := range r.names {
		switch name {
		case "Connection", "Date", "Content-Length", "Transfer-Encoding":
			continue
		}
		for _, value := range r.header[name] {
			out = append(append(out, name...), ": "...)
			out = append(appendOneLine(out, value), "\r\n"...)
		}
	}
	out = append(out, date...)
	switch length := r.header["Content-Length"]; {
	case !allowed:
	case head && len(length) > 0:
		out = append(append(append(out, "Content-Length: "...), length[0]...), "\r\n"...)
	case !head || len(r.body) > 0:
		out = strconv.AppendInt(append(out, "Content-Length: "...), int64(len(r.body)), 10)
		out = append(out, "\r\n"...)
	}
	if last {
		out = append(out, "Connection: close\r\n"...)
	}
	out = append(out, "\r\n"...)
	if allowed && !head {
		out = append(out, r.body...)
	}
	r.out = out
	return out
}

// appendOneLine keeps a value from beginning a line of its own.
func appendOneLine(dst []byte, value string) []byte {
	start := len(dst)
	dst = append(dst, value...)
	if strings.ContainsAny(value, "\r\n") {
		for i := start; i < len(dst); i++ {
			if dst[i] == '\r' || dst[i] == '\n' {
				dst[i] = ' '
			}
		}
	}
	return dst
}
