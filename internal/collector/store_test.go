package collector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"furrow/internal/bus"
)

const tp2 = "/com.snowplowanalytics.snowplow/tp2"

func TestAnswersOnlyAfterTheRecordIsStored(t *testing.T) {
	t.Parallel()
	for name, serve := range servers {
		t.Run(name, func(t *testing.T) {
			for name, request := range map[string]string{
				"POST":     raw("POST", tp2, "{}", "Content-Type: application/json"),
				"GET":      raw("GET", "/i?e=pv", ""),
				"redirect": raw("GET", "/r/tp2?u=http%3A%2F%2Fa.example%2F", ""),
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					pub := &recording{entered: make(chan struct{}, 1), hold: make(chan struct{})}
					address, collector := serve(t, pub, openRedirects)
					conn := dial(t, address)
					io.WriteString(conn, request)
					<-pub.entered
					early := make(chan answer, 1)
					go func() { early <- receive(t, conn, "POST") }()
					// A second request that needs no bus proves that the server had time.
					if got := exchangeRaw(t, address, raw("GET", "/robots.txt", "")); got.StatusCode != 200 {
						t.Fatalf("robots.txt: %d", got.StatusCode)
					}
					select {
					case got := <-early:
						t.Fatalf("answered %d before the record was stored", got.StatusCode)
					default:
					}
					if diff := cmp.Diff(Counts{Accepted: 1, Refused: map[string]uint64{}}, collector.Counts()); diff != "" {
						t.Error(diff)
					}
					close(pub.hold)
					if got := <-early; got.StatusCode >= 400 {
						t.Errorf("status %d", got.StatusCode)
					}
					pub.only(t)
					if diff := cmp.Diff(Counts{Accepted: 1, Durable: 1, Refused: map[string]uint64{}}, collector.Counts()); diff != "" {
						t.Error(diff)
					}
				})
			}
		})
	}
}

func openRedirects(cfg *Config, _ *Options) {
	cfg.EnableDefaultRedirect, cfg.RedirectDomains = true, []string{"*"}
}

func TestStoresWhatAVisitorWhoLeftHasSent(t *testing.T) {
	t.Parallel()
	for name, serve := range servers {
		t.Run(name, func(t *testing.T) {
			pub := &recording{entered: make(chan struct{}, 1), hold: make(chan struct{})}
			address, collector := serve(t, pub, nil)
			conn := dial(t, address)
			io.WriteString(conn, raw("POST", tp2, "{}"))
			<-pub.entered
			conn.Close()
			// The server notices a closed connection on its own time; nothing it does then
			// may reach the publisher.
			exchangeRaw(t, address, raw("GET", "/health", ""))
			close(pub.hold)
			eventually(t, func() bool { return collector.Counts().Durable == 1 })
		})
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("did not happen in time")
		}
	}
}

func TestARefusingBusIs503AndCounted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err    error
		reason string
	}{
		{bus.ErrFull, "bus_full"},
		{fmt.Errorf("journal: segment 7: %w", bus.ErrFull), "bus_full"},
		{bus.ErrClosed, "bus_closed"},
		{context.DeadlineExceeded, "bus_timeout"},
		{errors.New("input/output error"), "bus_error"},
	} {
		for method, target := range map[string]string{"POST": tp2, "GET": "/i?e=pv", "HEAD": "/i"} {
			pub := &recording{err: tt.err}
			c := build(t, pub, nil)
			w := httptest.NewRecorder()
			r := httptest.NewRequest(method, target, nil)
			r.Header.Set("Origin", "https://shop.example")
			c.ServeHTTP(w, r)
			h := w.Result().Header
			if w.Code != 503 || h.Get("Retry-After") == "" || h.Get("Set-Cookie") != "" ||
				h.Get("Access-Control-Allow-Origin") != "https://shop.example" || h.Get("Access-Control-Allow-Credentials") != "true" {
				t.Errorf("%s with %v: status %d, headers %v", method, tt.err, w.Code, h)
			}
			if diff := cmp.Diff(Counts{Accepted: 1, Refused: map[string]uint64{tt.reason: 1}}, c.Counts()); diff != "" {
				t.Error(diff)
			}
		}
	}
}

func TestOpensAgainByItself(t *testing.T) {
	t.Parallel()
	pub := &recording{err: bus.ErrFull}
	c := build(t, pub, nil)
	status := func() int {
		w := httptest.NewRecorder()
		c.ServeHTTP(w, httptest.NewRequest("GET", "/i", nil))
		return w.Code
	}
	if got := status(); got != 503 {
		t.Fatalf("full: %d", got)
	}
	pub.fail(nil)
	if got := status(); got != 200 {
		t.Fatalf("with room again: %d", got)
	}
}

func TestARedirectGoesOnWhenNothingCanBeStored(t *testing.T) {
	t.Parallel()
	c := build(t, &recording{err: bus.ErrFull}, openRedirects)
	w := httptest.NewRecorder()
	c.ServeHTTP(w, httptest.NewRequest("GET", "/r/tp2?u=https%3A%2F%2Fa.example%2F", nil))
	if w.Code != 302 || w.Result().Header.Get("Location") != "https://a.example/" {
		t.Errorf("status %d, headers %v", w.Code, w.Result().Header)
	}
	if diff := cmp.Diff(Counts{Accepted: 1, Lost: 1, Refused: map[string]uint64{"bus_full": 1}}, c.Counts()); diff != "" {
		t.Error(diff)
	}
}

func TestADeniedRedirectIs503WhenNothingCanBeStored(t *testing.T) {
	t.Parallel()
	c := build(t, &recording{err: bus.ErrFull}, openRedirects)
	w := httptest.NewRecorder()
	c.ServeHTTP(w, httptest.NewRequest("GET", "/r/tp2?u=javascript%3Aalert(1)", nil))
	if w.Code != 503 || c.Counts().Lost != 0 {
		t.Errorf("status %d, counts %+v", w.Code, c.Counts())
	}
}

func TestABusThatHangsIs503InTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := build(t, &recording{hold: make(chan struct{})}, func(cfg *Config, _ *Options) {
			cfg.Networking.ResponseHeaderTimeout = 7 * time.Second
		})
		start := time.Now()
		w := httptest.NewRecorder()
		c.ServeHTTP(w, httptest.NewRequest("POST", tp2, strings.NewReader("{}")))
		if w.Code != 503 || time.Since(start) > 8*time.Second {
			t.Errorf("status %d after %v", w.Code, time.Since(start))
		}
		if c.Counts().Refused["bus_timeout"] != 1 {
			t.Errorf("counts %+v", c.Counts())
		}
	})
}

func TestNothingIsStoredForThoseWhoAreNotTracked(t *testing.T) {
	t.Parallel()
	pub := &recording{}
	c := build(t, pub, func(cfg *Config, _ *Options) {
		cfg.DoNotTrackCookie = DoNotTrackCookie{Enabled: true, Name: "dnt", Value: "a|b"}
		cfg.CookieBounce.Enabled = true
	})
	for _, cookie := range []string{"dnt=a", "dnt=b; sp=1", ""} {
		r := httptest.NewRequest("GET", "/i", nil)
		r.Header.Set("Cookie", cookie)
		c.ServeHTTP(httptest.NewRecorder(), r)
	}
	want := Counts{Refused: map[string]uint64{"do_not_track": 1, "cookie_bounce": 2}}
	if diff := cmp.Diff(want, c.Counts()); diff != "" {
		t.Error(diff)
	}
	if n := len(pub.all()); n != 0 {
		t.Errorf("%d records", n)
	}
}

func TestHealthFollowsReady(t *testing.T) {
	t.Parallel()
	full := errors.New("the journal is full")
	var err error
	c := build(t, &recording{}, func(_ *Config, o *Options) { o.Ready = func() error { return err } })
	for _, tt := range []struct {
		err    error
		status int
	}{{nil, 200}, {full, 503}, {nil, 200}} {
		err = tt.err
		for _, path := range []string{"/health", "/sink-health"} {
			w := httptest.NewRecorder()
			c.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
			if w.Code != tt.status || !errors.Is(c.Ready(), tt.err) {
				t.Errorf("%s with %v: %d, Ready() = %v", path, tt.err, w.Code, c.Ready())
			}
		}
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	c := build(t, &recording{}, func(_ *Config, o *Options) { o.Registerer = registry })
	c.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/i", nil))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			got[f.GetName()] += m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	want := map[string]float64{
		"furrow_collector_accepted_requests_total": 1,
		"furrow_collector_durable_requests_total":  1,
		"furrow_collector_lost_requests_total":     0,
		"furrow_collector_publish_seconds":         1,
		"furrow_collector_refused_requests_total":  0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := New(Default(), &recording{}, Options{Name: "furrow-0.1.0-test", Registerer: registry}); err == nil {
		t.Error("a second collector on one registry was accepted")
	}
}

func TestEveryReasonHasAName(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for why := range reasons {
		names[why.String()] = true
	}
	if len(names) != int(reasons) || names[""] {
		t.Errorf("reasons %v", slices.Sorted(maps.Keys(names)))
	}
}

// TestCapturedRequests sends what real trackers sent and finds it all in the
// record.
func TestCapturedRequests(t *testing.T) {
	t.Parallel()
	for name, serve := range servers {
		t.Run(name, func(t *testing.T) {
			type captured struct {
				ID, Tracker, Method, Path, Body string
				Headers                         map[string]string
			}
			pub := &recording{}
			address, _ := serve(t, pub, nil)
			stored := 0
			for _, c := range readLines[captured](t, "testdata/requests.jsonl") {
				lines := make([]string, 0, len(c.Headers))
				for name, value := range c.Headers {
					if lower := strings.ToLower(name); lower != "content-length" && lower != "connection" {
						lines = append(lines, name+": "+value)
					}
				}
				got := exchangeRaw(t, address, raw(c.Method, c.Path, c.Body, lines...))
				path, query, hasQuery := strings.Cut(c.Path, "?")
				vendor := strings.Count(path, "/") == 2 || path == "/i"
				if !vendor && c.Method != http.MethodOptions {
					if got.StatusCode != 404 {
						t.Errorf("%s: %s %s: status %d, want 404", c.ID, c.Method, path, got.StatusCode)
					}
					continue
				}
				if got.StatusCode != 200 {
					t.Errorf("%s: status %d", c.ID, got.StatusCode)
				}
				if c.Method == http.MethodOptions {
					continue
				}
				stored++
				all := pub.payloads(t)
				if len(all) != stored {
					t.Fatalf("%s: %d records, want %d", c.ID, len(all), stored)
				}
				p := all[stored-1]
				if p.Path.Value != path || p.Querystring.Value != query || p.Querystring.Set != hasQuery || p.Body.Value != c.Body {
					t.Errorf("%s: path %q, query %q, body %q", c.ID, p.Path.Value, p.Querystring.Value, p.Body.Value)
				}
				for name, value := range c.Headers {
					switch lower := strings.ToLower(name); lower {
					case "content-length", "content-type", "connection":
					default:
						if !slices.ContainsFunc(p.Headers, func(h string) bool { return strings.EqualFold(h, name+": "+value) }) {
							t.Errorf("%s: header %s: %s is not in %q", c.ID, name, value, p.Headers)
						}
					}
				}
				if c.Method == http.MethodPost && p.ContentType.Value != "application/json" && p.ContentType.Value != "text/plain; charset=utf-8" {
					t.Errorf("%s: content type %q", c.ID, p.ContentType.Value)
				}
			}
			if stored < 40 {
				t.Errorf("only %d requests were stored", stored)
			}
		})
	}
}
