package collector

import (
	"bytes"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
)

// protocol ends the request line.
const protocol = " HTTP/1.1"

// maxHeaderLines is how many header lines a plain request may have, as many as
// Snowplow's collector 2.10 accepts.
const maxHeaderLines = 64

// headerLine is one line of a request's head.
type headerLine struct {
	name  string // canonical
	sent  string // as it is stored: a known name is canonical, another one as it came
	value string
}

// turn is one request, its reply, and the memory that the next one reuses.
type turn struct {
	request http.Request
	url     url.URL
	body    body
	reply   reply
	values  [maxHeaderLines]string // the request's header values are slices of it
	hosts   int
	lengths int
	options int // Connection lines
}

func newTurn() *turn {
	t := &turn{}
	t.request.Header = make(http.Header, 32)
	t.reply.header = make(http.Header, 16)
	t.reply.lines = make([]headerLine, 0, maxHeaderLines)
	return t
}

// forget drops all of the request, so that the memory can be used again.
func (t *turn) forget() {
	lines := len(t.reply.lines)
	clear(t.values[:lines])
	clear(t.reply.lines)
	t.reply.reset()
	header := t.request.Header
	clear(header)
	t.request = http.Request{Header: header}
	t.url = url.URL{}
	t.body = body{}
	t.hosts, t.lengths, t.options = 0, 0, 0
}

// use says what a header does to the reading of a request.
type use uint8

const (
	stored use = iota
	hostUse
	lengthUse
	connectionUse
	unusual // only net/http can handle the request
)

type knownName struct {
	canonical string
	use       use
}

// knownNames are the header names in the spellings that clients use.
var knownNames = func() map[string]knownName {
	all := map[string]knownName{}
	add := func(name string, u use) {
		all[name] = knownName{name, u}
		all[strings.ToLower(name)] = knownName{name, u}
	}
	for name := range strings.FieldsSeq(`Accept Accept-Charset Accept-Encoding Accept-Language
		Access-Control-Request-Headers Access-Control-Request-Method Access-Control-Request-Private-Network
		Authorization Cache-Control Cdn-Loop Cf-Connecting-Ip Cf-Ipcountry Cf-Ray Cf-Visitor Content-Encoding
		Content-Language Content-Type Cookie Dnt Forwarded From If-Modified-Since If-None-Match Origin Pragma
		Priority Purpose Range Referer Save-Data Sec-Ch-Ua Sec-Ch-Ua-Mobile Sec-Ch-Ua-Platform Sec-Fetch-Dest
		Sec-Fetch-Mode Sec-Fetch-Site Sec-Fetch-User Sec-Fetch-Storage-Access Sec-Gpc Sec-Purpose Sp-Anonymous
		True-Client-Ip User-Agent Via X-Amzn-Trace-Id X-Client-Ip X-Cloud-Trace-Context X-Forwarded-For
		X-Forwarded-Host X-Forwarded-Port X-Forwarded-Proto X-Forwarded-Server X-Real-Ip X-Request-Id
		X-Requested-With`) {
		add(name, stored)
	}
	add("Host", hostUse)
	add("Content-Length", lengthUse)
	add("Connection", connectionUse)
	for name := range strings.FieldsSeq("Expect Http2-Settings Trailer Transfer-Encoding Upgrade") {
		add(name, unusual)
	}
	return all
}()

var plainMethods = []string{http.MethodPost, http.MethodGet, http.MethodHead, http.MethodOptions}

// mayBePlain reports whether an incomplete head can become a plain request. The
// first bytes up to seen were looked at before.
func mayBePlain(data []byte, seen int) bool {
	method, _, _ := bytes.Cut(data[:min(len(data), 8)], []byte(" "))
	begins := false
	for _, m := range plainMethods {
		begins = begins || strings.HasPrefix(m, string(method))
	}
	if line, _, ok := bytes.Cut(data, endOfLine); ok {
		begins = begins && bytes.HasSuffix(line, []byte(protocol))
	}
	for i := seen; begins && i < len(data); i++ {
		next := bytes.IndexByte(data[i:], '\n')
		if next < 0 {
			break
		}
		i += next
		begins = i > 0 && data[i-1] == '\r'
	}
	return begins
}

// parse reads a head without its empty line and reports whether it is plain. The
// request is valid until forget.
func (t *turn) parse(raw []byte, limits *Networking) bool {
	head := string(raw)
	line, rest, _ := strings.Cut(head, "\r\n")
	// A target may have spaces, which some trackers do not escape.
	line, ok := strings.CutSuffix(line, protocol)
	if !ok || int64(len(rest)) > limits.MaxHeadersLength {
		return false
	}
	method, target, _ := strings.Cut(line, " ")
	switch method {
	case http.MethodPost, http.MethodGet, http.MethodHead, http.MethodOptions:
	default:
		return false
	}
	r := &t.request
	r.Method, r.Proto, r.ProtoMajor, r.ProtoMinor = method, "HTTP/1.1", 1, 1
	if !t.readTarget(target) {
		return false
	}
	for rest != "" {
		end := strings.IndexByte(rest, '\n')
		if end < 1 || rest[end-1] != '\r' || !t.readLine(rest[:end-1]) {
			return false
		}
		rest = rest[end+1:]
	}
	if t.hosts != 1 || r.ContentLength > limits.MaxBodyBytes {
		return false
	}
	r.Body = http.NoBody
	if r.ContentLength > 0 {
		t.body.left = r.ContentLength
		r.Body = &t.body
		return method == http.MethodPost
	}
	return true
}

// readTarget accepts what net/http accepts, and raw spaces, and broken escapes in
// a path of two segments.
func (t *turn) readTarget(target string) bool {
	if target == "" || target[0] != '/' || !isHeaderValue(target) {
		return false
	}
	path, query, _ := strings.Cut(target, "?")
	event := isEventPath(path)
	if t.request.Method == http.MethodPost && !event {
		return false // nobody would read the body
	}
	t.url.Path, t.url.RawQuery = path, query
	if strings.IndexByte(path, '%') >= 0 {
		if !event && !isEscaped(path) {
			return false
		}
		t.url.Path, t.url.RawPath = unescape(path, false), path
	}
	t.request.URL, t.request.RequestURI = &t.url, target
	return true
}

func isEventPath(path string) bool {
	path, _, _ = strings.Cut(path, "#")
	_, _, ok := segments(path)
	return ok
}

// isEscaped reports whether each percent sign begins an escape.
func isEscaped(path string) bool {
	for i := range len(path) {
		if path[i] == '%' && (i+2 >= len(path) || unhex[path[i+1]] == notHex || unhex[path[i+2]] == notHex) {
			return false
		}
	}
	return true
}

func (t *turn) readLine(line string) bool {
	i := 0
	for i < len(line) && tokenByte[line[i]] {
		i++
	}
	lines := t.reply.lines
	if i == 0 || i == len(line) || line[i] != ':' || len(lines) == maxHeaderLines {
		return false
	}
	sent, value := line[:i], strings.Trim(line[i+1:], " \t")
	if !isFieldValue(value) {
		return false
	}
	known, ok := knownNames[sent]
	if !ok {
		name := textproto.CanonicalMIMEHeaderKey(sent)
		if known, ok = knownNames[name]; !ok {
			known.canonical = name
		}
	}
	name := known.canonical
	if ok {
		sent = name
	}
	t.reply.lines = append(lines, headerLine{name: name, sent: sent, value: value})
	if known.use == hostUse {
		t.hosts++
		t.request.Host = value
		return isPlainHost(value)
	}
	header := t.request.Header
	if before := header[name]; before != nil {
		header[name] = append(before, value)
	} else {
		at := len(lines)
		t.values[at] = value
		header[name] = t.values[at : at+1 : at+1]
	}
	switch known.use {
	case lengthUse:
		t.lengths++
		return t.lengths == 1 && t.readLength(value)
	case connectionUse:
		t.options++
		t.request.Close = strings.EqualFold(value, "close")
		return t.options == 1 && (t.request.Close || strings.EqualFold(value, "keep-alive"))
	default:
		return known.use == stored
	}
}

// readLength reads digits only: signs, lists and numbers that overflow are for
// net/http to refuse.
func (t *turn) readLength(value string) bool {
	for i := range len(value) {
		if value[i] < '0' || value[i] > '9' {
			return false
		}
	}
	n, err := strconv.ParseInt(value, 10, 64)
	t.request.ContentLength = n
	return err == nil
}

// isFieldValue is isHeaderValue, but a tab may stand between words.
func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// isPlainHost accepts names and addresses with a port, and not all that RFC 3986
// does.
func isPlainHost(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && c != '.' && c != '-' && c != ':' && c != '_' && c != '[' && c != ']' {
			return false
		}
	}
	return s != ""
}
