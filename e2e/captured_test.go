package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// captured is one request of a real tracker. Headers keep their order.
type captured struct {
	ID, Method, Path, Body string
	Headers                headers
}

type header struct{ name, value string }

type headers []header

// UnmarshalJSON reads an object whose values are strings or lists of strings,
// keeping the order of the lines.
func (h *headers) UnmarshalJSON(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		var value any
		if err := d.Decode(&value); err != nil {
			return err
		}
		switch value := value.(type) {
		case string:
			*h = append(*h, header{fmt.Sprint(name), value})
		case []any:
			for _, v := range value {
				*h = append(*h, header{fmt.Sprint(name), fmt.Sprint(v)})
			}
		}
	}
	return nil
}

func (h headers) get(name string) string {
	for _, line := range h {
		if strings.EqualFold(line.name, name) {
			return line.value
		}
	}
	return ""
}

func capturedRequests(t *testing.T) []captured {
	t.Helper()
	f, err := os.Open("testdata/captured.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var all []captured
	for d := json.NewDecoder(unzipped); d.More(); {
		var c captured
		if err := d.Decode(&c); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// raw sends a request byte for byte and returns the response.
func (c *captured) raw(conn net.Conn, r *bufio.Reader) (*http.Response, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", c.Method, c.Path)
	for _, h := range c.Headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h.name, h.value)
	}
	if c.Body != "" && c.Headers.get("Content-Length") == "" && c.Headers.get("Transfer-Encoding") == "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(c.Body))
	}
	b.WriteString("\r\n" + c.Body)
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := conn.Write([]byte(b.String())); err != nil {
		return nil, err
	}
	return http.ReadResponse(r, &http.Request{Method: c.Method})
}

// eventIDs returns the event ids that a request carries.
func (c *captured) eventIDs(t *testing.T) []string {
	t.Helper()
	var ids []string
	if _, query, ok := strings.Cut(c.Path, "?"); ok {
		if values, err := url.ParseQuery(query); err == nil && values.Get("eid") != "" {
			return []string{values.Get("eid")}
		}
	}
	var body struct {
		Data []map[string]string `json:"data"`
	}
	if c.Body == "" || json.Unmarshal([]byte(c.Body), &body) != nil {
		return nil
	}
	for _, e := range body.Data {
		if e["eid"] != "" {
			ids = append(ids, e["eid"])
		}
	}
	return ids
}

// TestCapturedRequests replays what real trackers sent, byte for byte: every event
// id is in the database once, or accounted for in the bad rows.
func TestCapturedRequests(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "furrow.yaml")
	if err := os.WriteFile(config, []byte("collector:\n  paths:\n    /com.acme/t1: /com.snowplowanalytics.snowplow/tp2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, t.TempDir(), "serve", "--config", config)
	sent := map[string]string{}
	requests := 0
	for _, c := range capturedRequests(t) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.public, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.raw(conn, bufio.NewReader(conn))
		if err != nil {
			t.Fatalf("%s: %v", c.ID, err)
		}
		conn.Close()
		want := http.StatusOK
		if path, _, _ := strings.Cut(c.Path, "?"); c.Method != http.MethodOptions && (path == "/cookie-extension" || strings.Count(path, "/") > 2) {
			want = http.StatusNotFound
		}
		if resp.StatusCode != want {
			t.Errorf("%s: %s %s answered %d, want %d", c.ID, c.Method, c.Path, resp.StatusCode, want)
			continue
		}
		if resp.StatusCode == http.StatusOK && c.Method != http.MethodOptions {
			requests++
			for _, id := range c.eventIDs(t) {
				sent[id] = c.ID
			}
		}
	}
	if len(sent) < 300 {
		t.Fatalf("only %d event ids in %d requests: the corpus is not what it was", len(sent), requests)
	}
	db := p.database(t)
	eventually(t, 15*time.Second, func() error { return settled(p) })
	stored := storedIDs(t, db)
	accounted := badRecords(t, p)
	lost := 0
	for id, request := range sent {
		if stored[id] != 1 && !strings.Contains(accounted, id) {
			t.Errorf("%s: event %s is stored %d times and in no bad row", request, id, stored[id])
			lost++
		}
	}
	t.Logf("%d requests with %d event ids: %d rows, %d bad rows, %d lost", requests, len(sent), len(stored), strings.Count(accounted, "\n"), lost)
}

// badRecords returns the exact records of all bad rows, one a line.
func badRecords(t *testing.T, p *process) string {
	t.Helper()
	rows, err := p.database(t).Query("SELECT record FROM bad_rows")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all bytes.Buffer
	for rows.Next() {
		var record []byte
		if err := rows.Scan(&record); err != nil {
			t.Fatal(err)
		}
		all.Write(bytes.ReplaceAll(record, []byte("\n"), nil))
		all.WriteByte('\n')
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all.String()
}
