package enrich

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/event"
	"furrow/internal/snowplow"
)

// vector is one case of testdata/vectors.jsonl: a payload, and what must be in the
// cells of its events and in its bad rows.
type vector struct {
	ID    string `json:"id"`
	Area  string `json:"area"`
	Input struct {
		Path          string   `json:"path"`
		Querystring   *string  `json:"querystring"`
		Body          *string  `json:"body"`
		BodyB64       *string  `json:"body_b64"`
		ContentType   *string  `json:"contentType"`
		Headers       []string `json:"headers"`
		IP            string   `json:"ip"`
		TimestampMS   int64    `json:"timestamp_ms"`
		NetworkUserID *string  `json:"networkUserId"`
		UserAgent     *string  `json:"userAgent"`
		RefererURI    *string  `json:"refererUri"`
		Hostname      *string  `json:"hostname"`
		Collector     string   `json:"collector"`
	} `json:"input"`
	Expect struct {
		Events []map[string]json.RawMessage `json:"events"`
		Bad    []struct {
			Schema   string   `json:"schema"`
			Contains []string `json:"contains"`
		} `json:"bad"`
	} `json:"expect"`
}

func optional(s *string) event.Optional {
	if s == nil {
		return event.Optional{}
	}
	return event.Some(*s)
}

func (v *vector) record(t *testing.T) []byte {
	t.Helper()
	in := v.Input
	p := event.Payload{
		IPAddress: in.IP, Timestamp: in.TimestampMS, Encoding: "UTF-8", Collector: in.Collector,
		UserAgent: optional(in.UserAgent), RefererURI: optional(in.RefererURI), Path: event.Some(in.Path),
		Querystring: optional(in.Querystring), Body: optional(in.Body), Headers: in.Headers,
		ContentType: optional(in.ContentType), Hostname: optional(in.Hostname), NetworkUserID: optional(in.NetworkUserID),
	}
	if p.Collector == "" {
		p.Collector = "vec-0.1.0"
	}
	if in.BodyB64 != nil {
		body, err := base64.StdEncoding.DecodeString(*in.BodyB64)
		if err != nil {
			t.Fatal(err)
		}
		p.Body = event.Some(string(body))
	}
	return snowplow.AppendPayload(nil, &p)
}

func newEnricher(tb testing.TB) *Enricher {
	tb.Helper()
	r, err := New(Options{Artifact: "furrow", Version: "0.2.0"})
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

var testTime = time.Date(2026, 11, 22, 21, 0, 0, 0, time.UTC)

// readLines decodes a file of JSON lines.
func readLines[T any](tb testing.TB, name string) []T {
	tb.Helper()
	file, err := os.Open(name)
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	var all []T
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var v T
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			tb.Fatalf("%s: %v", name, err)
		}
		all = append(all, v)
	}
	if err := lines.Err(); err != nil {
		tb.Fatal(err)
	}
	return all
}

func TestVectors(t *testing.T) {
	t.Parallel()
	r := newEnricher(t)
	for _, v := range readLines[vector](t, "testdata/vectors.jsonl") {
		t.Run(v.ID+"/"+v.Area, func(t *testing.T) {
			t.Parallel()
			result := r.Parse(v.record(t), testTime)
			if len(result.Events) != len(v.Expect.Events) || len(result.Bad) != len(v.Expect.Bad) {
				t.Errorf("%d events and %d bad rows, want %d and %d", len(result.Events), len(result.Bad), len(v.Expect.Events), len(v.Expect.Bad))
				for _, b := range result.Bad {
					t.Logf("bad row: %s", snowplow.AppendBadRow(nil, &b, snowplow.Processor{}))
				}
				return
			}
			for i, want := range v.Expect.Events {
				checkEvent(t, result.Events[i], want)
			}
			for i, want := range v.Expect.Bad {
				checkBad(t, &result.Bad[i], want.Schema, want.Contains)
			}
		})
	}
}

func checkEvent(t *testing.T, e *event.Event, want map[string]json.RawMessage) {
	t.Helper()
	cells := strings.Split(string(snowplow.AppendTSV(nil, e)), "\t")
	if len(cells) != event.NumFields {
		t.Fatalf("%d cells", len(cells))
	}
	for name, raw := range want {
		f, ok := fieldByName[name]
		if !ok {
			t.Fatalf("no field %q", name)
		}
		checkCell(t, name, cells[f], raw)
	}
}

var fieldByName = func() map[string]event.Field {
	m := map[string]event.Field{}
	for _, f := range event.Fields() {
		m[f.Name()] = f
	}
	return m
}()

func checkCell(t *testing.T, name, got string, want json.RawMessage) {
	t.Helper()
	var object struct {
		Re   string          `json:"re"`
		JSON json.RawMessage `json:"json"`
	}
	var text *string
	switch want[0] {
	case '{':
		if err := json.Unmarshal(want, &object); err != nil {
			t.Fatal(err)
		}
		if object.JSON == nil {
			if !regexp.MustCompile(object.Re).MatchString(got) {
				t.Errorf("%s: %q does not match %s", name, got, object.Re)
			}
			return
		}
		var a, b any
		if err := json.Unmarshal([]byte(got), &a); err != nil {
			t.Errorf("%s: %q: %v", name, got, err)
			return
		}
		if err := json.Unmarshal(object.JSON, &b); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(b, a); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	default:
		if err := json.Unmarshal(want, &text); err != nil {
			t.Fatal(err)
		}
		if text == nil && got != "" || text != nil && got != *text {
			t.Errorf("%s: %q, want %s", name, got, want)
		}
	}
}

func checkBad(t *testing.T, row *event.BadRow, schema string, contains []string) {
	t.Helper()
	document := snowplow.AppendBadRow(nil, row, snowplow.Processor{Artifact: "furrow", Version: "0.2.0"})
	if !json.Valid(document) {
		t.Errorf("not JSON: %s", document)
	}
	if row.Schema != schema {
		t.Errorf("schema %s, want %s", row.Schema, schema)
	}
	for _, part := range contains {
		if !bytes.Contains(document, []byte(part)) {
			t.Errorf("%s does not contain %s", document, part)
		}
	}
}
