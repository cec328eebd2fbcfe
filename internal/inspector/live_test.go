package inspector

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"furrow/internal/event"
)

const patience = 20 * time.Second

// tailing runs Tail in the background and hands over its lines.
func tailing(t *testing.T, url string, filter Filter) <-chan Line {
	t.Helper()
	lines := make(chan Line, 10_000)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Tail(ctx, url, filter, func(l Line) error { lines <- l; return nil })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Tail: %v", err)
		}
	})
	return lines
}

func next(t *testing.T, lines <-chan Line) Line {
	t.Helper()
	select {
	case l := <-lines:
		return l
	case <-time.After(patience):
		t.Fatal("no line came")
		return Line{}
	}
}

// until polls for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func (h *harness) watched(t *testing.T, n float64) {
	t.Helper()
	until(t, "the stream is open", func() bool { return testutil.ToFloat64(h.metrics.clients) == n })
}

func TestTailSeesEventsAndBadRows(t *testing.T) {
	t.Parallel()
	h := start(t, nil)
	h.Recorded([]*event.Event{newEvent(1), newEvent(2)}, nil)
	lines := tailing(t, h.url, Filter{Backlog: 1})
	if l := next(t, lines); l.Event == nil || l.Event.ID != newEvent(2).ID() {
		t.Fatalf("backlog began with %+v", l)
	}
	e := newEvent(3)
	e.SetText(event.EventName, "add")
	e.SetText(event.UnstructEvent, shopEvent)
	e.SetText(event.Contexts, shopContexts)
	h.Recorded([]*event.Event{e}, nil)
	want := EventSummary{
		ID: e.ID(), Time: "2026-11-22T09:30:00.170Z", Recorded: "2026-11-22T09:30:00.250Z", LatencyMS: 80,
		AppID: "shop", EventName: "add", PageURL: "https://shop.example/p/3", Action: "add_to_cart", Item: "sku-7", VTracker: "js-4.0.0",
	}
	if diff := cmp.Diff(&want, next(t, lines).Event); diff != "" {
		t.Error(diff)
	}
	row := newBad(4)
	h.Recorded(nil, []event.BadRow{row})
	wantBad := BadSummary{ID: row.ID, Time: "2026-11-22T09:30:00.250Z", Schema: "enrichment_failures", Message: "tr_tt “abc”: cannot be converted to Double-like", EventIndex: 1}
	if diff := cmp.Diff(&wantBad, next(t, lines).Bad); diff != "" {
		t.Error(diff)
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	h := start(t, nil)
	other := newEvent(2)
	other.SetText(event.AppID, "blog")
	ping := newEvent(3)
	ping.SetText(event.EventName, "page_ping")
	h.Recorded([]*event.Event{newEvent(1), other, ping}, []event.BadRow{newBad(4)})
	for _, c := range []struct {
		filter Filter
		want   []string
	}{
		{Filter{}, []string{newBad(4).ID, newEvent(1).ID(), other.ID(), ping.ID()}},
		{Filter{AppID: "blog"}, []string{other.ID()}},
		{Filter{Type: "page_ping"}, []string{ping.ID()}},
		{Filter{AppID: "blog", Type: "page_ping"}, nil},
		{Filter{Bad: true}, []string{newBad(4).ID}},
	} {
		t.Run(fmt.Sprintf("%+v", c.filter), func(t *testing.T) {
			c.filter.Backlog = 10
			lines := tailing(t, h.url, c.filter)
			for _, want := range c.want {
				l := next(t, lines)
				got := ""
				if l.Event != nil {
					got = l.Event.ID
				} else if l.Bad != nil {
					got = l.Bad.ID
				}
				if got != want {
					t.Errorf("got %+v, want %s", l, want)
				}
			}
			select {
			case l := <-lines:
				t.Errorf("more than expected: %+v", l)
			case <-time.After(2 * flushEvery):
			}
		})
	}
	for _, query := range []string{"bad=x", "backlog=-1", "max=0"} {
		if code, _, _ := h.do(t, "GET", "/api/live?"+query); code != http.StatusBadRequest {
			t.Errorf("%s: answered %d", query, code)
		}
	}
}

// TestWatcherIsToldWhatItMissed floods far past the ring between two writes.
func TestWatcherIsToldWhatItMissed(t *testing.T) {
	t.Parallel()
	h := start(t, func(c *Config, _ *Options) { c.Events = 100 })
	lines := tailing(t, h.url, Filter{})
	h.watched(t, 1)
	const total = 40_000
	go func() {
		for i := 0; i < total; i += 400 {
			batch := make([]*event.Event, 400)
			for j := range batch {
				batch[j] = newEvent(i + j)
			}
			h.Recorded(batch, nil)
		}
	}()
	seen, skipped := int64(0), int64(0)
	for seen+skipped < total {
		if l := next(t, lines); l.Event != nil {
			seen++
		} else {
			skipped += l.Skipped
		}
	}
	if seen+skipped != total || skipped == 0 {
		t.Errorf("%d shown and %d skipped of %d", seen, skipped, total)
	}
	if got := testutil.ToFloat64(h.metrics.skipped); got != float64(skipped) {
		t.Errorf("metric says %v skipped, the client %d", got, skipped)
	}
}

// TestSlowClientIsDropped has a client that never reads, and the recorder going
// on regardless.
func TestSlowClientIsDropped(t *testing.T) {
	t.Parallel()
	h := start(t, func(c *Config, _ *Options) { c.WriteTimeout = 50 * time.Millisecond })
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
	h.watched(t, 1)
	batch := make([]*event.Event, 500)
	for i := range batch {
		batch[i] = newEvent(i)
		batch[i].SetText(event.PageTitle, strings.Repeat("x", 150))
	}
	until(t, "the client is dropped", func() bool {
		h.Recorded(batch, nil)
		return testutil.ToFloat64(h.metrics.dropped) == 1
	})
	h.watched(t, 0)
}

func TestTooManyClients(t *testing.T) {
	t.Parallel()
	h := start(t, func(c *Config, _ *Options) { c.Clients = 1 })
	tailing(t, h.url, Filter{})
	h.watched(t, 1)
	if code, header, _ := h.do(t, "GET", "/api/live"); code != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
		t.Errorf("answered %d", code)
	}
}

// TestHeartbeatAndStop reads the bare stream of an idle Furrow that then stops.
func TestHeartbeatAndStop(t *testing.T) {
	t.Parallel()
	cfg := Default()
	cfg.Heartbeat = 10 * time.Millisecond
	in, err := New(cfg, Options{Status: func() Status { return Status{} }})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(in.Handler())
	defer srv.Close()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- in.Run(ctx) }()
	resp, err := srv.Client().Get(srv.URL + "/api/live")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("content type %q", got)
	}
	lines := bufio.NewScanner(resp.Body)
	for beats := 0; beats < 3 && lines.Scan(); {
		if lines.Text() == ": beat" {
			beats++
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for lines.Scan() { // ends, since the stream does
	}
	if resp, err := srv.Client().Get(srv.URL + "/api/live"); err != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a stopped inspector opened a stream: %v", err)
	} else {
		resp.Body.Close()
	}
}

// TestTailReconnects cuts the connection and checks that nothing is lost, and
// nothing shown twice.
func TestTailReconnects(t *testing.T) {
	t.Parallel()
	h := start(t, nil)
	var resumed atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Last-Event-ID") != "" {
			resumed.Add(1)
		}
		h.Handler().ServeHTTP(w, r)
	}))
	defer srv.Close()
	lines := tailing(t, srv.URL, Filter{Backlog: 5})
	for i := range 4 {
		h.Recorded([]*event.Event{newEvent(i)}, nil)
		if l := next(t, lines); l.Event == nil || l.Event.ID != newEvent(i).ID() {
			t.Fatalf("round %d: got %+v", i, l)
		}
		// The position follows the event in the same write; let it arrive.
		until(t, "the stream waits", func() bool { return testutil.ToFloat64(h.metrics.clients) == 1 })
		srv.CloseClientConnections()
		if l := next(t, lines); l.Lost == nil {
			t.Fatalf("round %d: got %+v, want the loss", i, l)
		}
	}
	if resumed.Load() < 3 {
		t.Errorf("resumed %d times", resumed.Load())
	}
}

func TestTailGivesUp(t *testing.T) {
	t.Parallel()
	h := start(t, func(c *Config, _ *Options) { c.AllowedHosts = nil })
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	never := func(Line) error { return nil }
	for _, c := range []struct{ url, want string }{
		{"127.0.0.1:8081", "is not an admin address"},
		{"ftp://127.0.0.1", "is not an admin address"},
		{gone.URL, "no Furrow answers"},
		{h.url + "/elsewhere", "there is nothing at"},
	} {
		if err := Tail(t.Context(), c.url, Filter{}, never); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.url, err, c.want)
		}
	}
	h.Recorded([]*event.Event{newEvent(1)}, nil)
	stop := fmt.Errorf("the pipe is closed")
	if err := Tail(t.Context(), h.url, Filter{Backlog: 1}, func(Line) error { return stop }); err != stop { //nolint:errorlint // the very error
		t.Errorf("got %v", err)
	}
}

func TestFormatLine(t *testing.T) {
	t.Parallel()
	at := t0.Local().Format("15:04:05.000")
	for _, c := range []struct {
		line Line
		want string
	}{
		{
			Line{Event: &EventSummary{ID: "e-1", Time: stamp(t0), LatencyMS: 12, AppID: "shop", EventName: "page_view", PageURL: "https://a/b", PageTitle: "T\x1b[31m\u009b\u202e", DomainUserID: "d"}},
			at + "  page_view         shop  https://a/b  “T[31m”  user=d  12 ms  e-1",
		},
		{
			Line{Bad: &BadSummary{ID: "b-1", Time: stamp(t0), Schema: "adapter_failures", Message: "boom\n", EventIndex: -1}},
			at + "  BAD  adapter_failures      boom (whole record, b-1)",
		},
		{Line{Skipped: 3}, "--- 3 not shown: they came faster than they could be read"},
		{Line{Lost: fmt.Errorf("EOF")}, "--- connection lost (EOF), trying again"},
	} {
		if got := FormatLine(c.line); got != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
}
