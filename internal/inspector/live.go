package inspector

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// Filter chooses what a live stream shows. The zero Filter shows everything.
type Filter struct {
	AppID   string
	Type    string // event name, for example page_view
	Bad     bool   // bad rows only
	Backlog int    // start with so many of the newest entries
}

func errBadNumber(key, value string) error {
	return fmt.Errorf("%s must be a positive number, not %q", key, clip(value, summaryText))
}

func filterFrom(q url.Values) (Filter, error) {
	f := Filter{AppID: q.Get("app_id"), Type: q.Get("type")}
	switch v := q.Get("bad"); v {
	case "", "0", "false":
	case "1", "true", "only":
		f.Bad = true
	default:
		return f, fmt.Errorf("bad must be 1 or absent, not %q", clip(v, summaryText))
	}
	if v := q.Get("backlog"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 {
			return f, errBadNumber("backlog", v)
		}
		f.Backlog = n
	}
	return f, nil
}

func (f Filter) query() string {
	q := url.Values{}
	if f.AppID != "" {
		q.Set("app_id", f.AppID)
	}
	if f.Type != "" {
		q.Set("type", f.Type)
	}
	if f.Bad {
		q.Set("bad", "1")
	}
	if f.Backlog > 0 {
		q.Set("backlog", strconv.Itoa(f.Backlog))
	}
	return q.Encode()
}

func (f Filter) event(e *entry) bool {
	return !f.Bad && (f.AppID == "" || f.AppID == e.appID) && (f.Type == "" || f.Type == e.name)
}

// showBad reports whether bad rows pass: they belong to no app and have no type,
// so a filter on either leaves them out unless they were asked for.
func (f Filter) showBad() bool { return f.Bad || f.AppID == "" && f.Type == "" }

// cursor is how far a stream has read both rings.
type cursor struct{ events, bad uint64 }

func (in *Inspector) cursorText(c cursor) string {
	return fmt.Sprintf("%s.%d.%d", in.boot, c.events, c.bad)
}

// parseCursor reads the id of the last message that a client saw before it
// reconnected; false when it is from another process.
func (in *Inspector) parseCursor(text string) (cursor, bool) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 || parts[0] != in.boot {
		return cursor{}, false
	}
	events, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil {
		return cursor{}, false
	}
	bad, err := strconv.ParseUint(parts[2], 10, 64)
	return cursor{events, bad}, err == nil
}

// flushEvery bounds how often a stream writes: under load many entries share one
// write, and an eye cannot tell.
const flushEvery = 50 * time.Millisecond

// stream is one watcher: a cursor into the rings and the connection.
type stream struct {
	in     *Inspector
	w      http.ResponseWriter
	ctl    *http.ResponseController
	filter Filter
	most   int // entries per write, 0: all
	at     cursor
	buf    []byte
	stuck  bool // a write failed
}

// live serves the newest events and bad rows as server-sent events: "event",
// "bad", and "skipped" with the number of entries that the stream missed. The
// parameter max bounds the entries of every write after the first, for watchers
// that draw them.
func (in *Inspector) live(w http.ResponseWriter, r *http.Request) {
	filter, err := filterFrom(r.URL.Query())
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	s := &stream{in: in, w: w, ctl: http.NewResponseController(w), filter: filter}
	most := 0
	if v := r.URL.Query().Get("max"); v != "" {
		if most, err = strconv.Atoi(v); err != nil || most < 1 {
			writeError(w, http.StatusBadRequest, errBadNumber("max", v).Error())
			return
		}
	}
	select {
	case <-in.closed:
		writeError(w, http.StatusServiceUnavailable, "shutting down")
		return
	default:
	}
	select {
	case in.clients <- struct{}{}:
		defer func() { <-in.clients }()
	default:
		w.Header().Set("Retry-After", "5")
		writeError(w, http.StatusServiceUnavailable, "too many live streams are open; see inspector.clients")
		return
	}
	in.metrics.clients.Inc()
	defer in.metrics.clients.Dec()

	var resumed bool
	if s.at, resumed = in.parseCursor(r.Header.Get("Last-Event-ID")); !resumed {
		s.at = cursor{in.events.back(filter.Backlog), in.bad.back(filter.Backlog)}
	}
	wake := make(chan struct{}, 1)
	defer in.events.watch(wake)()
	defer in.bad.watch(wake)()

	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	s.run(r, wake, most)
	if !s.stuck { // else the last write would wait for a client that reads nothing
		s.ctl.SetWriteDeadline(time.Time{}) //nolint:errcheck // only so that the connection can be used again
	}
}

func (s *stream) run(r *http.Request, wake <-chan struct{}, most int) {
	beat := time.NewTimer(s.in.cfg.Heartbeat)
	defer beat.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	s.buf = append(s.buf, "retry: 1000\nevent: hello\ndata: {}\n\n"...)
	for {
		s.collect()
		s.most = most // the backlog comes whole
		if len(s.buf) > 0 {
			if !s.flush() {
				return
			}
			beat.Reset(s.in.cfg.Heartbeat)
			pause.Reset(flushEvery)
			select {
			case <-pause.C:
			case <-r.Context().Done():
				return
			case <-s.in.closed:
				return
			}
		}
		select {
		case <-wake:
		case <-beat.C:
			s.buf = append(s.buf, ": beat\n\n"...)
		case <-r.Context().Done():
			return
		case <-s.in.closed:
			return
		}
	}
}

// collect appends what is new to the buffer.
func (s *stream) collect() {
	entries, last, missedEvents := s.in.events.since(s.at.events)
	bad, lastBad, missedBad := s.in.bad.since(s.at.bad)
	kept := entries[:0]
	for _, e := range entries {
		if s.filter.event(e) {
			kept = append(kept, e)
		}
	}
	if !s.filter.showBad() {
		bad, missedBad = nil, 0
	}
	if s.filter.Bad {
		missedEvents = 0
	}
	s.at = cursor{last, lastBad}
	kept, overEvents := newestOf(kept, s.most)
	bad, overBad := newestOf(bad, s.most)
	missed := missedEvents + missedBad + overEvents + overBad
	if missed > 0 {
		s.in.metrics.skipped.Add(float64(missed))
		s.message("skipped", map[string]uint64{"count": missed})
	}
	for _, e := range bad {
		s.message("bad", e.summary())
	}
	for _, e := range kept {
		s.message("event", e.summary())
	}
	if len(kept)+len(bad) > 0 || missed > 0 {
		// The position belongs to the last message alone: a client that was cut off
		// inside this write sees some entries again, but misses none.
		s.buf = fmt.Appendf(s.buf[:len(s.buf)-1], "id: %s\n\n", s.in.cursorText(s.at))
	}
}

// newestOf returns the last n of a list, all of it when n is 0, and how many it
// left out.
func newestOf[T any](list []T, n int) (newest []T, left uint64) {
	if n == 0 || len(list) <= n {
		return list, 0
	}
	over := len(list) - n
	return list[over:], uint64(over) //nolint:gosec // never negative
}

func (s *stream) message(kind string, v any) {
	data, err := json.Marshal(v)
	if err != nil { // strings and numbers only
		return
	}
	s.buf = append(s.buf, "event: "...)
	s.buf = append(s.buf, kind...)
	s.buf = append(s.buf, "\ndata: "...)
	s.buf = append(s.buf, data...)
	s.buf = append(s.buf, '\n', '\n')
}

// flush writes the buffer; false when the client is gone or too slow.
func (s *stream) flush() bool {
	// A server without deadlines (a test's recorder) cannot have slow clients.
	if err := s.ctl.SetWriteDeadline(time.Now().Add(s.in.cfg.WriteTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return false
	}
	_, err := s.w.Write(s.buf)
	if err == nil {
		err = s.ctl.Flush()
	}
	if cap(s.buf) > entryLimit {
		s.buf = nil
	}
	s.buf = s.buf[:0]
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.in.metrics.dropped.Inc()
		s.in.log.Info("live stream dropped: its client stopped reading")
	}
	s.stuck = err != nil
	return err == nil
}
