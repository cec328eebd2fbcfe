package recommender

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"furrow/internal/bus"
	"furrow/internal/event"
	"furrow/internal/recommender/knn"
)

// recorded is a history of what was published on a double: everything up to
// visible, of which it is sure up to level.
type recorded struct {
	d    *double
	skip func(*event.Event) bool // who was forgotten
	step func(pass int)          // called when a pass begins

	mu      sync.Mutex
	visible int
	level   int
	passes  []time.Time // since
}

func (h *recorded) keep(visible, level int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.visible, h.level = max(h.visible, visible), max(h.level, level)
}

func (h *recorded) history() History {
	return History{Events: h.events, Level: func() bus.Positions {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.level == 0 {
			return nil
		}
		return bus.Positions{partition: position(h.level)}
	}}
}

func (h *recorded) events(_ context.Context, since time.Time, fn func([]*event.Event) error) error {
	h.mu.Lock()
	h.passes = append(h.passes, since)
	pass := len(h.passes)
	h.mu.Unlock()
	if h.step != nil {
		h.step(pass)
	}
	h.mu.Lock()
	visible := h.visible
	h.mu.Unlock()
	h.d.mu.Lock()
	log := slices.Clone(h.d.log[:min(visible, len(h.d.log))])
	h.d.mu.Unlock()
	var batch []*event.Event
	for i, m := range log {
		for _, e := range parseDoc(m.Value, time.Time{}) {
			if !e.Time(event.CollectorTstamp).Before(since) && (h.skip == nil || !h.skip(e)) {
				batch = append(batch, e)
			}
		}
		if len(batch) == 7 || i == len(log)-1 {
			if err := fn(batch); err != nil {
				return err
			}
			batch = nil
		}
	}
	return nil
}

// contents is all that a state has learned, in a form that compares.
type contents struct {
	Index     string
	Standings string
	Hot       []place
	Popular   []place
	Newest    []place
	Users     map[string]string
	Young     map[string]bool
	Old       map[string]bool
	Coverage  Coverage
	Paths     map[string]int64
	Ruled     bool
	Last      int64
}

func dump(s *state) contents {
	c := contents{
		Index: string(s.index.AppendSnapshot(nil)), Users: map[string]string{}, Young: map[string]bool{}, Old: map[string]bool{},
		Hot: s.standing.hot.places, Popular: s.standing.popular.places, Newest: s.standing.newest.places,
		Coverage: s.coverage.report(s.pageItems()), Paths: maps.Clone(s.coverage.paths), Ruled: s.ruled, Last: s.newest,
	}
	var b []byte
	s.index.Each(func(item uint32, _ string) { b = s.appendStanding(b, item) })
	c.Standings = string(b)
	s.users.each(func(k knn.Key, v visit) { c.Users[fmt.Sprint(k)] = fmt.Sprint(v) })
	for k := range s.events.young {
		c.Young[fmt.Sprint(k)] = true
	}
	for k := range s.events.old {
		c.Old[fmt.Sprint(k)] = true
	}
	return c
}

// lists asks for lists of all kinds, with scores and reasons.
func lists(tb testing.TB, r *Recommender, docs []doc) map[string][]Item {
	tb.Helper()
	targets := []string{"/v1/recommend?explain=1&n=50"}
	for i, d := range docs {
		if i%5 == 0 {
			targets = append(targets, "/v1/recommend?explain=1&n=50&session_id="+d.Session, "/v1/recommend?explain=1&user_id="+d.Domain,
				"/v1/recommend?explain=1&user_id="+d.User, "/v1/recommend?explain=1&item_id="+strings.TrimPrefix(d.Path, "/product/"))
		}
	}
	all := map[string][]Item{}
	for _, target := range targets {
		w := httptest.NewRecorder()
		r.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
		var a Answer
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
			tb.Fatalf("%s: %d %s", target, w.Code, w.Body)
		}
		all[target] = a.Items
	}
	return all
}

// tight makes every limit bind.
func tight(c *Config) {
	c.Limits.Sessions, c.Limits.Items, c.Limits.Clicks, c.Limits.Postings, c.Limits.Users, c.Limits.Events = 9, 12, 200, 6, 8, 8
	c.Algorithm.M, c.Algorithm.K = 5, 5
	c.Session.MaxItems, c.Session.Clicks = 5, 8
}

func idle(tb testing.TB, d *double, dir string, change func(*Config)) *Recommender {
	tb.Helper()
	cfg := Default()
	change(&cfg)
	r, err := New(cfg, Options{Bus: d, Dir: dir, Parse: parseDoc, Head: d.head})
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// lived returns a recommender that consumed all of the bus from the beginning.
func lived(tb testing.TB, d *double, change func(*Config)) *Recommender {
	tb.Helper()
	r := idle(tb, d, tb.TempDir(), change)
	for i, m := range d.log {
		r.apply(bus.Batch{Partition: partition, Messages: []bus.Message{m}, Last: position(i + 1)})
	}
	return r
}
