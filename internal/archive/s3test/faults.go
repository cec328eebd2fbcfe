package s3test

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Faults is an HTTP proxy that mistreats chosen requests, and counts them all.
type Faults struct {
	Endpoint string // http://127.0.0.1:PORT, in place of the server's

	mu     sync.Mutex
	faults []*fault
	counts map[string]int
}

// Fault is what happens to a request.
type Fault int

// The faults.
const (
	// SlowDown answers 503 with S3's code SlowDown; the server hears nothing.
	SlowDown Fault = iota
	// InternalError answers 500; the server hears nothing.
	InternalError
	// Drop breaks the connection; the server hears nothing.
	Drop
	// Lose lets the server do it, and breaks the connection before the answer.
	Lose
	// LoseToError lets the server do it, and answers 500.
	LoseToError
	// Truncate sends half of the answer's body under its whole length.
	Truncate
	// Shorten sends half of the answer's body, under a length that fits.
	Shorten
	// Refuse answers 501 NotImplemented; the server hears nothing.
	Refuse
	// Deny answers 403 AccessDenied; the server hears nothing.
	Deny
	// Pretend answers 200; the server hears nothing.
	Pretend
)

type fault struct {
	kind  Fault
	times int
	match func(*http.Request) bool
}

// NewFaults starts a proxy before a server, given as http://HOST:PORT.
func NewFaults(tb testing.TB, upstream string) *Faults {
	tb.Helper()
	target, err := url.Parse(upstream)
	if err != nil {
		tb.Fatal(err)
	}
	transport := &http.Transport{}
	f := &Faults{counts: make(map[string]int)}
	proxy := through(target, transport)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.handle(w, r, proxy)
	}))
	tb.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	f.Endpoint = server.URL
	return f
}

// TLS starts a proxy that speaks TLS before a server, given as http://HOST:PORT. It
// returns its address and the file with the certificate to trust.
func TLS(tb testing.TB, upstream string) (endpoint, certificate string) {
	tb.Helper()
	target, err := url.Parse(upstream)
	if err != nil {
		tb.Fatal(err)
	}
	transport := &http.Transport{}
	server := httptest.NewUnstartedServer(through(target, transport))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug) // refused handshakes
	server.StartTLS()
	tb.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	certificate = filepath.Join(tb.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(certificate, text, 0o600); err != nil {
		tb.Fatal(err)
	}
	return server.URL, certificate
}

// through passes requests on as they are.
func through(target *url.URL, transport http.RoundTripper) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is signed
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
}

// Next does something to the next so many requests that match says; nil matches
// all. Faults told first come first.
func (f *Faults) Next(times int, kind Fault, match func(*http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, &fault{kind, times, match})
}

// Clear ends what Next began.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = nil
}

// Requests returns how many requests there were since the last call, by Operation.
func (f *Faults) Requests() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	counts := f.counts
	f.counts = make(map[string]int)
	return counts
}

// Operation names what a request asks of S3, as its API does.
func Operation(r *http.Request) string {
	q := r.URL.Query()
	has := func(key string) bool { _, ok := q[key]; return ok }
	object := strings.Count(strings.Trim(r.URL.Path, "/"), "/") > 0
	switch r.Method {
	case http.MethodHead:
		return "HeadObject"
	case http.MethodGet:
		switch {
		case has("uploads"):
			return "ListMultipartUploads"
		case object:
			return "GetObject"
		}
		return "ListObjects"
	case http.MethodPut:
		if has("partNumber") {
			return "UploadPart"
		}
		return "PutObject"
	case http.MethodPost:
		switch {
		case has("delete"):
			return "DeleteObjects"
		case has("uploads"):
			return "CreateMultipartUpload"
		}
		return "CompleteMultipartUpload"
	case http.MethodDelete:
		if has("uploadId") {
			return "AbortMultipartUpload"
		}
		return "DeleteObject"
	}
	return r.Method
}

// Is matches requests for an operation whose key ends in a suffix.
func Is(operation, suffix string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		return Operation(r) == operation && strings.HasSuffix(r.URL.Path, suffix)
	}
}

func (f *Faults) take(r *http.Request) (Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[Operation(r)]++
	for _, one := range f.faults {
		if one.times > 0 && (one.match == nil || one.match(r)) {
			one.times--
			return one.kind, true
		}
	}
	return 0, false
}

func (f *Faults) handle(w http.ResponseWriter, r *http.Request, proxy http.Handler) {
	kind, found := f.take(r)
	if !found {
		proxy.ServeHTTP(w, r)
		return
	}
	switch kind {
	case SlowDown:
		answer(w, r, http.StatusServiceUnavailable, "SlowDown", "Please reduce your request rate.")
	case InternalError:
		answer(w, r, http.StatusInternalServerError, "InternalError", "We encountered an internal error. Please try again.")
	case Refuse:
		answer(w, r, http.StatusNotImplemented, "NotImplemented", "A header you provided implies functionality that is not implemented.")
	case Deny:
		answer(w, r, http.StatusForbidden, "AccessDenied", "Access Denied")
	case Drop:
		panic(http.ErrAbortHandler)
	case Pretend:
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("ETag", `"0"`)
	default:
		stored := httptest.NewRecorder()
		proxy.ServeHTTP(stored, r)
		spoil(w, r, stored, kind)
	}
}

func spoil(w http.ResponseWriter, r *http.Request, stored *httptest.ResponseRecorder, kind Fault) {
	switch kind {
	case LoseToError:
		answer(w, r, http.StatusInternalServerError, "InternalError", "We encountered an internal error. Please try again.")
		return
	case Truncate, Shorten:
	default:
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), stored.Header())
	body := stored.Body.Bytes()
	if kind == Shorten {
		w.Header().Set("Content-Length", fmt.Sprint(len(body)/2))
	}
	w.WriteHeader(stored.Code)
	_, _ = io.Copy(w, bytes.NewReader(body[:len(body)/2]))
	if kind == Truncate {
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

func answer(w http.ResponseWriter, r *http.Request, status int, code, message string) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>%s</Code><Message>%s</Message></Error>", code, message)
}
