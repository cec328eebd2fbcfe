package collector

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"furrow/internal/event"
)

// protocolCase is one line of testdata/cases.jsonl: a request, and the answer and
// records that Snowplow's collector, or Furrow where it differs, gives.
type protocolCase struct {
	ID      string         `json:"id"`
	Title   string         `json:"title"`
	Config  map[string]any `json:"config"`
	Request struct {
		Method  string         `json:"method"`
		Path    string         `json:"path"`
		Headers map[string]any `json:"headers"`
		Body    string         `json:"body"`
		BodyB64 string         `json:"body_b64"`
	} `json:"request"`
	Given  map[string]bool            `json:"given"`
	Expect map[string]json.RawMessage `json:"expect"`
	Alt    []map[string]json.RawMessage
}

func TestProtocolCases(t *testing.T) {
	t.Parallel()
	for name, serve := range servers {
		t.Run(name, func(t *testing.T) {
			passed := 0
			for _, c := range readLines[protocolCase](t, "testdata/cases.jsonl") {
				t.Run(c.ID, func(t *testing.T) {
					pub := &recording{}
					var got answer
					address, collector := serve(t, pub, func(cfg *Config, opts *Options) {
						configure(t, cfg, c.Config)
						if healthy, ok := c.Given["sinks_healthy"]; ok && !healthy {
							opts.Ready = func() error { return errors.New("the disk is full") }
						}
					})
					if c.Given["terminating"] {
						collector.Terminate()
					}
					got = exchangeRaw(t, address, c.raw(t))
					payloads := pub.payloads(t)
					wrong := c.check(t, c.Expect, got, payloads)
					for _, alt := range c.Alt {
						if len(wrong) == 0 {
							break
						}
						if len(c.check(t, override(t, c.Expect, alt), got, payloads)) == 0 {
							wrong = nil
						}
					}
					for _, w := range wrong {
						t.Errorf("%s: %s", c.Title, w)
					}
					if len(wrong) == 0 {
						passed++
					}
				})
			}
			t.Logf("%d cases passed", passed)
		})
	}
}

func readLines[T any](tb testing.TB, name string) []T {
	tb.Helper()
	file, err := os.Open(name)
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	var all []T
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var one T
		if err := json.Unmarshal(scanner.Bytes(), &one); err != nil {
			tb.Fatalf("%s: line %d: %v", name, len(all)+1, err)
		}
		all = append(all, one)
	}
	if err := scanner.Err(); err != nil {
		tb.Fatal(err)
	}
	return all
}

// configure sets options given as dotted keys, through the names that a
// configuration file uses.
func configure(t *testing.T, cfg *Config, options map[string]any) {
	t.Helper()
	units := map[string]string{"seconds": "s", "minutes": "m", "days": "d"}
	tree := map[string]any{}
	for key, value := range options {
		if s, ok := value.(string); ok {
			if number, unit, ok := strings.Cut(s, " "); ok && units[unit] != "" {
				n, err := strconv.Atoi(number)
				if err != nil {
					t.Fatal(err)
				}
				if value = number + units[unit]; unit == "days" {
					value = strconv.Itoa(24*n) + "h"
				}
			}
		}
		node, path := tree, strings.Split(key, ".")
		for _, name := range path[:len(path)-1] {
			if node[name] == nil {
				node[name] = map[string]any{}
			}
			node = node[name].(map[string]any)
		}
		node[path[len(path)-1]] = value
	}
	text, err := yaml.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalWithOptions(text, cfg, yaml.Strict()); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func (c *protocolCase) raw(t *testing.T) string {
	t.Helper()
	body := c.Request.Body
	if c.Request.BodyB64 != "" {
		b, err := base64.StdEncoding.DecodeString(c.Request.BodyB64)
		if err != nil {
			t.Fatal(err)
		}
		body = string(b)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", c.Request.Method, c.Request.Path)
	known := false
	for name, value := range c.Request.Headers {
		lower := strings.ToLower(name)
		known = known || lower == "content-length" || lower == "transfer-encoding"
		if list, ok := value.([]any); ok {
			for _, one := range list {
				fmt.Fprintf(&b, "%s: %s\r\n", name, one)
			}
			continue
		}
		fmt.Fprintf(&b, "%s: %s\r\n", name, value)
	}
	if body != "" && !known {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	return b.String() + "\r\n" + body
}

func override(t *testing.T, expect, alt map[string]json.RawMessage) map[string]json.RawMessage {
	t.Helper()
	merged := maps.Clone(expect)
	maps.Copy(merged, alt)
	if alt["headers"] != nil && expect["headers"] != nil {
		headers := decode[map[string]json.RawMessage](t, expect["headers"])
		maps.Copy(headers, decode[map[string]json.RawMessage](t, alt["headers"]))
		merged["headers"], _ = json.Marshal(headers)
	}
	return merged
}

func decode[T any](t *testing.T, text []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// check returns what differs.
func (c *protocolCase) check(t *testing.T, expect map[string]json.RawMessage, got answer, payloads []event.Payload) []string {
	t.Helper()
	var wrong []string
	fail := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for key, value := range expect {
		switch key {
		case "series":
		case "status":
			if want := decode[int](t, value); got.StatusCode != want {
				fail("status %d, want %d", got.StatusCode, want)
			}
		case "headers":
			for name, want := range decode[map[string]json.RawMessage](t, value) {
				checkHeader(t, fail, name, got.Header.Values(name), want)
			}
		case "body":
			if want := decode[*string](t, value); want != nil && string(got.body) != *want {
				fail("body %q, want %q", got.body, *want)
			}
		case "body_b64":
			if want := decode[[]byte](t, value); !bytes.Equal(got.body, want) {
				fail("body %q, want %q", got.body, want)
			}
		case "good":
			want := decode[[]map[string]json.RawMessage](t, value)
			if len(payloads) != len(want) {
				fail("%d records, want %d", len(payloads), len(want))
				continue
			}
			for i := range want {
				checkPayload(t, fail, &payloads[i], want[i])
			}
		case "bad":
			if string(value) != "[]" {
				fail("bad rows at the door are not expected here")
			}
		case "cookie_equals_nuid":
			if cookie := setCookie(got, decode[string](t, value)); cookie == nil || cookie.Value != payloads[0].NetworkUserID.Value {
				fail("cookie %v is not the network user id", cookie)
			}
		case "cookie_expires_in_s":
			want := decode[struct {
				Name   string
				S, Tol float64
			}](t, value)
			cookie := setCookie(got, want.Name)
			if cookie == nil || (time.Until(cookie.Expires)-time.Duration(want.S)*time.Second).Abs() > time.Duration(want.Tol)*time.Second {
				fail("cookie %v does not expire in %v s", cookie, want.S)
			}
		default:
			t.Fatalf("unknown expectation %q", key)
		}
	}
	return wrong
}

func setCookie(got answer, name string) *http.Cookie {
	for _, cookie := range got.Cookies() {
		if cookie.Name == name {
			return cookie
		}
	}
	return nil
}

func checkHeader(t *testing.T, fail func(string, ...any), name string, got []string, want json.RawMessage) {
	t.Helper()
	switch want[0] {
	case 'n':
		if len(got) > 0 {
			fail("header %s is %q, want none", name, got)
		}
	case '[':
		all := decode[[]json.RawMessage](t, want)
		if len(all) != len(got) {
			fail("header %s is %q, want %d lines", name, got, len(all))
			return
		}
		for i := range all {
			checkHeader(t, fail, name, got[i:i+1], all[i])
		}
	default:
		if len(got) != 1 || !matches(t, got[0], true, want) {
			fail("header %s is %q, want %s", name, got, want)
		}
	}
}

// matches compares a text with null, a string or {"re": …}.
func matches(t *testing.T, got string, set bool, want json.RawMessage) bool {
	t.Helper()
	switch want[0] {
	case 'n':
		return !set
	case '"':
		return set && got == decode[string](t, want)
	default:
		re := decode[struct{ Re string }](t, want).Re
		return set && re != "" && regexp.MustCompile(re).MatchString(got)
	}
}

func checkPayload(t *testing.T, fail func(string, ...any), p *event.Payload, want map[string]json.RawMessage) {
	t.Helper()
	texts := map[string]event.Optional{
		"path": p.Path, "querystring": p.Querystring, "body": p.Body, "contentType": p.ContentType,
		"userAgent": p.UserAgent, "refererUri": p.RefererURI, "hostname": p.Hostname, "networkUserId": p.NetworkUserID,
		"ipAddress": event.Some(p.IPAddress), "encoding": event.Some(p.Encoding),
	}
	for field, value := range want {
		got, ok := texts[field]
		switch {
		case ok:
			if !matches(t, got.Value, got.Set, value) {
				fail("field %s is %+v, want %s", field, got, value)
			}
		case field == "schema": // the decoder would have refused another
		case field == "collector_re":
			if re := decode[string](t, value); !regexp.MustCompile(re).MatchString(p.Collector) {
				fail("collector is %q, want %s", p.Collector, re)
			}
		case field == "timestamp_within_s":
			if d := time.Since(p.Time()).Abs(); d > time.Duration(decode[float64](t, value))*time.Second {
				fail("timestamp is %v away", d)
			}
		case strings.HasPrefix(field, "headers_"):
			for _, line := range decode[[]string](t, value) {
				found := slices.ContainsFunc(p.Headers, func(h string) bool { return headerMatches(field, h, line) })
				if found != (field == "headers_contain") {
					fail("%s %q, headers are %q", field, line, p.Headers)
				}
			}
		default:
			t.Fatalf("unknown field %q", field)
		}
	}
}

func headerMatches(rule, got, want string) bool {
	lower := strings.ToLower(got)
	switch rule {
	case "headers_contain":
		name, value, named := strings.Cut(want, ": ")
		gotName, gotValue, _ := strings.Cut(got, ": ")
		return got == want || named && strings.EqualFold(name, gotName) && value == gotValue
	case "headers_absent":
		return strings.HasPrefix(lower, strings.ToLower(want)+":")
	default:
		return strings.HasPrefix(lower, strings.ToLower(want))
	}
}
