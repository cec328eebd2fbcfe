package s3test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Toxic is a TCP proxy (toxiproxy) that can be cut, slowed down and broken. What
// it was told holds for connections that are open and for those to come.
type Toxic struct {
	Endpoint string // http://127.0.0.1:PORT, in place of the server's

	tb  testing.TB
	api string
	n   int
}

// Proxy starts a proxy before a server, given as http://HOST:PORT or HOST:PORT.
func Proxy(tb testing.TB, upstream string) *Toxic {
	tb.Helper()
	program, err := find("toxiproxy-server")
	if err != nil {
		tb.Fatal(err)
	}
	var p *process
	var api string
	for range 5 {
		if api, err = freeAddress(); err != nil {
			break
		}
		host, port, _ := strings.Cut(api, ":")
		if p, err = start(api, program, "-host", host, "-port", port); err == nil {
			break
		}
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.stop)
	listen, err := freeAddress()
	if err != nil {
		tb.Fatal(err)
	}
	x := &Toxic{Endpoint: "http://" + listen, tb: tb, api: "http://" + api}
	x.call("/proxies", map[string]any{
		"name": "s3", "listen": listen, "upstream": strings.TrimPrefix(upstream, "http://"), "enabled": true,
	})
	return x
}

// Cut closes all connections and refuses new ones.
func (x *Toxic) Cut() {
	x.tb.Helper()
	x.call("/proxies/s3", map[string]any{"enabled": false})
}

// Restore ends Cut and all other troubles.
func (x *Toxic) Restore() {
	x.tb.Helper()
	x.call("/reset", nil)
}

// Latency delays everything that the server sends.
func (x *Toxic) Latency(d time.Duration) {
	x.tb.Helper()
	x.add("latency", "downstream", map[string]any{"latency": d.Milliseconds()})
}

// Bandwidth limits what the client sends, in KB a second.
func (x *Toxic) Bandwidth(kilobytes int) {
	x.tb.Helper()
	x.add("bandwidth", "upstream", map[string]any{"rate": kilobytes})
}

// Hang holds back all that the server sends, for good: a server that is there and
// does not answer.
func (x *Toxic) Hang() {
	x.tb.Helper()
	x.add("timeout", "downstream", map[string]any{"timeout": 0})
}

// Reset breaks every connection with a TCP reset after some time.
func (x *Toxic) Reset(after time.Duration) {
	x.tb.Helper()
	x.add("reset_peer", "downstream", map[string]any{"timeout": after.Milliseconds()})
}

// LimitUpload closes a connection once the client sent so many bytes over it.
func (x *Toxic) LimitUpload(bytes int64) {
	x.tb.Helper()
	x.add("limit_data", "upstream", map[string]any{"bytes": bytes})
}

// LimitDownload closes a connection once the server sent so many bytes over it.
func (x *Toxic) LimitDownload(bytes int64) {
	x.tb.Helper()
	x.add("limit_data", "downstream", map[string]any{"bytes": bytes})
}

func (x *Toxic) add(kind, stream string, attributes map[string]any) {
	x.tb.Helper()
	x.n++
	x.call("/proxies/s3/toxics", map[string]any{
		"name": fmt.Sprint(kind, x.n), "type": kind, "stream": stream, "toxicity": 1.0, "attributes": attributes,
	})
}

func (x *Toxic) call(path string, body any) {
	x.tb.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		x.tb.Fatal(err)
	}
	request, err := http.NewRequest(http.MethodPost, x.api+path, bytes.NewReader(text)) //nolint:noctx // ends with the test
	if err != nil {
		x.tb.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: startLimit}
	response, err := client.Do(request)
	if err != nil {
		x.tb.Fatalf("s3test: toxiproxy: %v", err)
	}
	defer response.Body.Close()
	if answer, _ := io.ReadAll(response.Body); response.StatusCode/100 != 2 {
		x.tb.Fatalf("s3test: toxiproxy: %s: %s %s", path, response.Status, answer)
	}
}
