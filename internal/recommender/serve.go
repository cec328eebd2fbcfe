package recommender

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Answer is the body of an answer to /v1/recommend.
type Answer struct {
	RecommendationID string    `json:"recommendation_id"`
	Items            []Item    `json:"items"`
	Model            string    `json:"model"`
	AsOf             time.Time `json:"as_of,omitzero"` // time of the newest event that was learned; absent when none was
	LagMillis        int64     `json:"lag_ms"`         // how far the lists are behind what was published; 0: not at all
	Stale            bool      `json:"stale"`          // something published before the request is missing
	Fallback         bool      `json:"fallback"`       // nothing in the list comes from sessions like this one
}

const (
	maxID      = 512 // bytes of an identifier in a request
	maxExclude = 1000
	maxBody    = 64 << 10
)

// Handler serves everything below /v1/. Any page may read the answers; no cookie
// is read, none is set.
func (r *Recommender) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		code := r.serve(w, req)
		r.metrics.requests.WithLabelValues(strconv.Itoa(code)).Inc()
	})
}

func (r *Recommender) serve(w http.ResponseWriter, req *http.Request) int {
	if req.Method == http.MethodOptions {
		h := w.Header()
		h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS")
		h.Set("Access-Control-Allow-Headers", "Content-Type")
		h.Set("Access-Control-Max-Age", "86400")
		w.WriteHeader(http.StatusNoContent)
		return http.StatusNoContent
	}
	if strings.TrimSuffix(req.URL.Path, "/") != "/v1/recommend" {
		return refuse(w, http.StatusNotFound, errors.New("no such path: GET or POST /v1/recommend is what there is"))
	}
	var want wanted
	var err error
	switch req.Method {
	case http.MethodGet, http.MethodHead:
		want, err = r.parseQuery(req.URL.RawQuery)
	case http.MethodPost:
		want, err = r.parseBody(req.Body)
	default:
		w.Header().Set("Allow", "GET, HEAD, POST, OPTIONS")
		return refuse(w, http.StatusMethodNotAllowed, fmt.Errorf("method %s: use GET or POST", req.Method))
	}
	if err != nil {
		return refuse(w, http.StatusBadRequest, err)
	}
	return reply(w, http.StatusOK, r.answer(req, want))
}

// answer waits until what was published before the request is in, and makes the
// list.
func (r *Recommender) answer(req *http.Request, want wanted) Answer {
	a := Answer{Model: r.model(), RecommendationID: newID()}
	if r.opt.Head != nil {
		began := time.Now()
		a.Stale = !r.progress.wait(req.Context(), r.opt.Head(), r.cfg.Serve.Wait)
		r.metrics.waited.Observe(time.Since(began).Seconds())
	}
	if a.Stale {
		r.metrics.stale.Inc()
		a.LagMillis = max(1, r.lag().Milliseconds())
	}
	began := time.Now()
	learned := r.state.Load()
	learned.mu.RLock()
	a.Items = learned.recommend(want, &r.params)
	a.AsOf = learned.asOf()
	learned.mu.RUnlock()
	r.metrics.seconds.Observe(time.Since(began).Seconds())
	if a.Items == nil {
		a.Items = []Item{}
	}
	a.Fallback = len(a.Items) == 0 || a.Items[0].Source != sourceSession
	for _, it := range a.Items {
		r.metrics.listed.WithLabelValues(it.Source).Inc()
	}
	return a
}

// newID returns an identifier for a list, which events may name later.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func (r *Recommender) parseQuery(raw string) (wanted, error) {
	if len(raw) > maxBody {
		return wanted{}, fmt.Errorf("the query has %d bytes: at most %d; use POST for less", len(raw), maxBody)
	}
	q, err := url.ParseQuery(raw)
	if err != nil {
		return wanted{}, fmt.Errorf("query: %w", err)
	}
	w := wanted{session: q.Get("session_id"), user: q.Get("user_id"), item: q.Get("item_id"), n: r.cfg.Serve.N}
	if text := q.Get("n"); text != "" {
		if w.n, err = strconv.Atoi(text); err != nil {
			return w, r.badN(strconv.Quote(clip(text)))
		}
	}
	if text := q.Get("explain"); text != "" {
		if w.explain, err = strconv.ParseBool(text); err != nil {
			return w, fmt.Errorf("explain is %q: want 0 or 1", clip(text))
		}
	}
	for _, text := range q["exclude"] {
		w.exclude = append(w.exclude, split(text)...)
	}
	return w, r.check(w)
}

// body is the JSON of a POST.
type body struct {
	SessionID string          `json:"session_id"`
	UserID    string          `json:"user_id"`
	ItemID    string          `json:"item_id"`
	N         *int            `json:"n"`
	Exclude   json.RawMessage `json:"exclude"` // array of ids, or one text with commas
	Explain   json.RawMessage `json:"explain"` // true, false, 0 or 1
}

func (r *Recommender) parseBody(in io.Reader) (wanted, error) {
	raw, err := io.ReadAll(io.LimitReader(in, maxBody+1))
	if err != nil {
		return wanted{}, fmt.Errorf("body: %w", err)
	}
	if len(raw) > maxBody {
		return wanted{}, fmt.Errorf("the body has more than %d bytes", maxBody)
	}
	var b body
	if err := json.Unmarshal(raw, &b); err != nil {
		return wanted{}, fmt.Errorf("body: %w; want an object such as {\"session_id\":\"…\",\"item_id\":\"…\",\"n\":20}", err)
	}
	w := wanted{session: b.SessionID, user: b.UserID, item: b.ItemID, n: r.cfg.Serve.N}
	if b.N != nil {
		w.n = *b.N
	}
	switch string(b.Explain) {
	case "", "null", "false", "0":
	case "true", "1":
		w.explain = true
	default:
		return w, fmt.Errorf("explain is %s: want true or false", clip(string(b.Explain)))
	}
	if len(b.Exclude) > 0 {
		var text string
		if json.Unmarshal(b.Exclude, &text) == nil {
			w.exclude = split(text)
		} else if json.Unmarshal(b.Exclude, &w.exclude) != nil {
			return w, errors.New("exclude: want an array of item ids")
		}
	}
	return w, r.check(w)
}

func (r *Recommender) check(w wanted) error {
	if w.n < 1 || w.n > r.cfg.Serve.MaxN {
		return r.badN(strconv.Itoa(w.n))
	}
	for name, id := range map[string]string{"session_id": w.session, "user_id": w.user, "item_id": w.item} {
		if len(id) > maxID {
			return fmt.Errorf("%s has %d bytes: at most %d", name, len(id), maxID)
		}
	}
	if len(w.exclude) > maxExclude {
		return fmt.Errorf("exclude names %d items: at most %d", len(w.exclude), maxExclude)
	}
	return nil
}

func (r *Recommender) badN(got string) error {
	return fmt.Errorf("n is %s: want a whole number from 1 to %d", got, r.cfg.Serve.MaxN)
}

func split(text string) (ids []string) {
	for id := range strings.SplitSeq(text, ",") {
		if id = strings.TrimSpace(id); id != "" {
			ids = append(ids, id)
		}
	}
	return ids
}

func clip(s string) string {
	if len(s) > 40 {
		return strings.ToValidUTF8(s[:40], "") + "…"
	}
	return s
}

func refuse(w http.ResponseWriter, code int, err error) int {
	return reply(w, code, map[string]string{"error": err.Error()})
}

func reply(w http.ResponseWriter, code int, v any) int {
	b, err := json.Marshal(v)
	if err != nil { // a NaN; cannot be, but must not end the process
		code, b = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written as JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(b, '\n'))
	return code
}
