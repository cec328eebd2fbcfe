package inspector

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"furrow/internal/event"
	"furrow/internal/snowplow"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var t0 = time.Date(2026, 11, 22, 9, 30, 0, 250e6, time.UTC)

const shopEvent = `{"schema":"iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0","data":{"schema":"iglu:com.snowplowanalytics.snowplow.ecommerce/snowplow_ecommerce_action/jsonschema/1-0-2","data":{"type":"add_to_cart"}}}`

const shopContexts = `{"schema":"iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0","data":[{"schema":"iglu:com.acme/x/jsonschema/1-0-0","data":{"a":[1,2]}},{"schema":"iglu:com.snowplowanalytics.snowplow.ecommerce/product/jsonschema/1-0-0","data":{"id":"sku-7","price":3.10}}]}`

func newEvent(n int) *event.Event {
	e := &event.Event{Record: event.NewRecordID(fmt.Append(nil, n)), Index: n}
	e.SetText(event.EventID, fmt.Sprintf("00000000-0000-4000-8000-%012d", n))
	e.SetText(event.AppID, "shop")
	e.SetText(event.EventType, "pv")
	e.SetText(event.EventName, "page_view")
	e.SetTime(event.CollectorTstamp, t0.Add(-80*time.Millisecond))
	e.SetText(event.PageURL, fmt.Sprintf("https://shop.example/p/%d", n))
	e.SetText(event.VTracker, "js-4.0.0")
	return e
}

func newBad(n int) event.BadRow {
	record := event.NewRecordID(fmt.Append(nil, "bad", n))
	return event.BadRow{
		ID: event.BadRowID(record, 1), Record: record, Index: 1, Time: t0,
		Schema:  "iglu:com.snowplowanalytics.snowplow.badrows/enrichment_failures/jsonschema/2-0-1",
		Failure: []byte(`{"timestamp":"2026-11-22T09:30:00Z","messages":[{"enrichment":null,"message":{"field":"tr_tt","value":"abc","expectation":"cannot be converted to Double-like"}}]}`),
		Payload: []byte("the record"),
	}
}

type harness struct {
	*Inspector
	url string
}

// start serves an inspector; edit may be nil.
func start(t *testing.T, edit func(*Config, *Options)) *harness {
	t.Helper()
	cfg := Default()
	reg := prometheus.NewRegistry()
	opt := Options{
		UI: fstest.MapFS{
			"index.html": {Data: []byte("<!doctype html><title>Furrow</title>")},
			"main.js":    {Data: []byte("1")}, "style.css": {Data: []byte("body{}")},
		},
		Status:   func() Status { return Status{Version: "0.1.0"} },
		SendTest: func(context.Context) (string, error) { return "the-id", nil },
		Gatherer: reg, Registerer: reg,
		Now: func() time.Time { return t0 },
	}
	if edit != nil {
		edit(&cfg, &opt)
	}
	in, err := New(cfg, opt)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(in.Handler())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- in.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		srv.Close()
	})
	return &harness{in, srv.URL}
}

func (h *harness) do(t *testing.T, method, path string, headers ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, h.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range headers {
		k, v, _ := strings.Cut(line, ": ")
		if k == "Host" {
			req.Host = v
			continue
		}
		req.Header.Set(k, v)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	h := start(t, func(c *Config, o *Options) {
		c.AllowedHosts = []string{"furrow.internal"}
		o.AllowedHosts = []string{"10.0.0.7"}
	})
	port := h.url[strings.LastIndex(h.url, ":")+1:]
	for _, c := range []struct {
		name, method, path string
		headers            []string
		want               int
	}{
		{"loopback", "GET", "/", nil, 200},
		{"localhost", "GET", "/", []string{"Host: localhost:" + port}, 200},
		{"IPv6 loopback", "GET", "/status", []string{"Host: [::1]:8081"}, 200},
		{"mapped loopback", "GET", "/status", []string{"Host: [::ffff:127.0.0.1]"}, 200},
		{"configured host", "GET", "/status", []string{"Host: Furrow.Internal.:8081"}, 200},
		{"host the app knows", "GET", "/status", []string{"Host: 10.0.0.7:8081"}, 200},
		{"rebound name", "GET", "/", []string{"Host: attacker.example"}, 403},
		{"name that looks like loopback", "GET", "/", []string{"Host: 127.0.0.1.attacker.example"}, 403},
		{"localhost as a prefix", "GET", "/", []string{"Host: localhost.attacker.example"}, 403},
		{"another address", "GET", "/metrics", []string{"Host: 192.168.1.4:8081"}, 403},
		{"health under another name", "GET", "/healthz", []string{"Host: attacker.example"}, 403},

		{"same origin", "GET", "/status", []string{"Origin: http://127.0.0.1:" + port}, 200},
		{"another port is another origin", "GET", "/status", []string{"Origin: http://127.0.0.1:8080"}, 403},
		{"another site", "GET", "/api/events", []string{"Origin: https://attacker.example"}, 403},
		{"opaque origin", "GET", "/api/live", []string{"Origin: null"}, 403},
		{"image of another site", "GET", "/status", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"}, 403},
		{"frame of another site", "GET", "/", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"}, 403},
		{"link from the shop", "GET", "/", []string{"Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}, 200},
		{"own script", "GET", "/main.js", []string{"Sec-Fetch-Site: same-origin"}, 200},

		{"change with the header", "POST", "/api/test-event", []string{"X-Furrow-Admin: 1"}, 202},
		{"change without it", "POST", "/api/test-event", nil, 403},
		{"change with another value", "POST", "/api/test-event", []string{"X-Furrow-Admin: true"}, 403},
		{"change from another origin", "POST", "/api/test-event", []string{"X-Furrow-Admin: 1", "Origin: http://attacker.example"}, 403},
		{"form of another site", "POST", "/api/test-event", []string{"X-Furrow-Admin: 1", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}, 403},
		{"preflight", "OPTIONS", "/api/test-event", []string{"Access-Control-Request-Method: POST"}, 405},
		{"change by GET", "GET", "/api/test-event", nil, 404},
		{"nothing here", "GET", "/nothing", nil, 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.path == "/api/live" && c.want == 200 {
				t.Fatal("would not end")
			}
			code, header, body := h.do(t, c.method, c.path, c.headers...)
			if code != c.want {
				t.Errorf("answered %d %s, want %d", code, body, c.want)
			}
			for key, want := range map[string]string{
				"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "X-Frame-Options": "DENY",
				"Content-Security-Policy": contentPolicy,
			} {
				if got := header.Get(key); got != want {
					t.Errorf("%s is %q, want %q", key, got, want)
				}
			}
			if header.Get("Access-Control-Allow-Origin") != "" {
				t.Error("another origin was allowed to read")
			}
			if code >= 400 && !json.Valid([]byte(body)) {
				t.Errorf("the error is not JSON: %s", body)
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	days := 41.5
	h := start(t, func(_ *Config, o *Options) {
		o.Status = func() Status {
			return Status{
				Version: "0.1.0", Started: t0.Add(-time.Hour), Now: t0, DataDir: "./furrow-data", Listen: ":8080",
				Roles: []string{"collector", "recorder"},
				Stages: []Stage{
					{Name: "collector", Kind: KindCollector, Ready: true, Counters: []Counter{{"accepted", 12}, {"refused", 1}}},
					{Name: "recorder-store", Kind: KindStore, Reason: "database is locked", LagRecords: 3, LagSeconds: 1.5, Details: []Detail{{"partition", "0"}}},
				},
				Database: &Storage{Path: "furrow.db", Rows: 12, BadRows: 1, Bytes: 24000, BytesPerEvent: 2000},
				Disk:     Disk{UsedBytes: 24000, BudgetBytes: 1 << 30, FreeBytes: 1 << 34, BytesPerDay: 2.5e7, DaysUntilFull: &days},
			}
		}
		o.Health = func() []Check {
			return []Check{{Name: "collector", Healthy: true, Ready: true}, {Name: "recommender", Healthy: true, Reason: "catching up, 3 s behind"}}
		}
		o.Coverage = func() Coverage {
			return Coverage{
				PageViews: 10, Interactions: 4, Share: 0.4, Unmatched: []PathCount{{"/p/1", 3}},
				Suggestion: &Rule{Pattern: "/p/{item}", Matches: 6, Preview: []string{"/p/1"}},
			}
		}
		o.Recommend = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"asked":"`+r.URL.RequestURI()+`"}`)
		})
	})
	e := newEvent(7)
	e.Record, e.Index = event.NewRecordID([]byte("fixed")), 0
	e.SetText(event.EventType, "ue")
	e.SetText(event.EventName, "snowplow_ecommerce_action")
	e.SetText(event.UnstructEvent, shopEvent)
	e.SetText(event.Contexts, shopContexts)
	e.SetText(event.SeValue, "3.10")
	e.SetText(event.DomainUserID, "d-1")
	e.SetText(event.DomainSessionID, "s-1")
	e.SetText(event.PageTitle, `A <b>"title"</b>`)
	e.SetInt(event.DomainSessionIdx, 2)
	e.SetInt(event.BrCookies, 1)
	e.SetFloat(event.GeoLatitude, -12.5)
	whole := newBad(2)
	whole.ID, whole.Index = "11111111-0000-4000-8000-000000000000", event.WholeRecord
	whole.Payload = snowplow.AppendPayload(nil, &event.Payload{
		IPAddress: "192.0.2.1", Timestamp: t0.UnixMilli(), Encoding: "UTF-8", Collector: "furrow",
		Path: event.Some("/i"), Querystring: event.Some("e=tr&tr_tt=abc"), Hostname: event.Some("shop.example"),
	})
	h.Recorded([]*event.Event{newEvent(1), e}, []event.BadRow{whole, newBad(1)})

	for _, c := range []struct {
		name, path string
		want       int
	}{
		{"status", "/status", 200},
		{"healthz", "/healthz", 200},
		{"readyz", "/readyz", 503},
		{"readyz_role", "/readyz?role=collector", 200},
		{"readyz_unknown", "/readyz?role=shop", 404},
		{"coverage", "/api/coverage", 200},
		{"recommend", "/api/recommend?session_id=s-1&n=5", 200},
		{"events", "/api/events?limit=2", 200},
		{"events_filtered", "/api/events?type=page_view", 200},
		{"events_limit", "/api/events?limit=0", 400},
		{"event", "/api/events/00000000-0000-4000-8000-000000000007", 200},
		{"event_unknown", "/api/events/00000000-0000-4000-8000-000000000009", 404},
		{"bad", "/api/bad?limit=5", 200},
		{"bad_row", "/api/bad/" + newBad(1).ID, 200},
		{"bad_record", "/api/bad/" + whole.ID, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, header, body := h.do(t, "GET", c.path)
			if code != c.want {
				t.Errorf("answered %d, want %d", code, c.want)
			}
			if c.name != "recommend" && header.Get("Content-Type") != "application/json" {
				t.Errorf("content type %q", header.Get("Content-Type"))
			}
			golden(t, c.name, body)
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(got), &v); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, got)
	}
	pretty := new(strings.Builder)
	enc := json.NewEncoder(pretty)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", name+".golden.json")
	if *update {
		if err := os.WriteFile(file, []byte(pretty.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), pretty.String()); diff != "" {
		t.Errorf("%s changed (-want +got); run with -update when this is meant:\n%s", file, diff)
	}
}

func TestTestEventFailure(t *testing.T) {
	t.Parallel()
	h := start(t, func(_ *Config, o *Options) {
		o.SendTest = func(context.Context) (string, error) { return "", errors.New("503 from the collector") }
	})
	code, _, body := h.do(t, "POST", "/api/test-event", "X-Furrow-Admin: 1")
	if code != http.StatusBadGateway || !strings.Contains(body, "503 from the collector") {
		t.Errorf("answered %d %s", code, body)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	h := start(t, nil)
	h.Recorded([]*event.Event{newEvent(1)}, []event.BadRow{newBad(1)})
	h.do(t, "GET", "/", "Host: attacker.example")
	code, _, body := h.do(t, "GET", "/metrics")
	if code != 200 {
		t.Fatalf("answered %d", code)
	}
	for _, want := range []string{
		"furrow_inspector_live_clients 0",
		"furrow_inspector_live_clients_dropped_total 0",
		"furrow_inspector_live_skipped_entries_total 0",
		"furrow_inspector_entries_cut_total 0",
		`furrow_inspector_requests_refused_total{reason="host"} 1`,
		`furrow_inspector_requests_refused_total{reason="header"} 0`,
		`furrow_inspector_ring_bytes{ring="events"} `,
		`furrow_inspector_ring_bytes{ring="bad"} `,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("missing %q in\n%s", want, body)
		}
	}
	problems, err := testutil.GatherAndLint(h.opt.Gatherer)
	if err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

func TestConfigRules(t *testing.T) {
	t.Parallel()
	Default().Validate(func(key, rule string) { t.Errorf("the default breaks a rule: %s %s", key, rule) })
	var keys []string
	Config{AllowedHosts: []string{"*"}, Heartbeat: time.Minute}.Validate(func(key, _ string) { keys = append(keys, key) })
	want := []string{"allowedHosts", "events", "badRows", "maxBytes", "clients", "writeTimeout", "heartbeat"}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Error(diff)
	}
	if _, err := New(Config{}, Options{UI: fstest.MapFS{}}); err == nil {
		t.Error("New took a config that breaks every rule")
	}
}
