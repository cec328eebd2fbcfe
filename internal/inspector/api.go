package inspector

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

type page struct{ path, file, contentType string }

var pages = []page{
	{"/{$}", "index.html", "text/html; charset=utf-8"},
	{"/main.js", "main.js", "text/javascript; charset=utf-8"},
	{"/style.css", "style.css", "text/css; charset=utf-8"},
}

const (
	defaultLimit = 100
	maxSession   = 256 // bytes of a session id that is passed on
)

// page serves one file; it is read for each request, so that a folder given in
// place of the embedded files shows changes at once.
func (in *Inspector) page(p page) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if in.opt.UI == nil {
			writeError(w, http.StatusNotFound, "this build has no pages")
			return
		}
		body, err := fs.ReadFile(in.opt.UI, p.file)
		if err != nil {
			in.log.Error("page cannot be read", "file", p.file, "error", err)
			writeError(w, http.StatusInternalServerError, "the page cannot be read")
			return
		}
		w.Header().Set("Content-Type", p.contentType)
		w.Write(body)
	}
}

func (in *Inspector) status(w http.ResponseWriter, _ *http.Request) {
	s := in.opt.Status()
	if s.Now.IsZero() {
		s.Now = in.now().UTC()
	}
	s.Roles = emptyNotNull(s.Roles)
	s.Stages = emptyNotNull(slices.Clone(s.Stages))
	for i := range s.Stages {
		s.Stages[i].Counters = emptyNotNull(s.Stages[i].Counters)
	}
	in.writeJSON(w, http.StatusOK, s)
}

// emptyNotNull makes a list that a script can walk without asking first.
func emptyNotNull[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

type healthAnswer struct {
	OK     bool    `json:"ok"`
	Checks []Check `json:"checks"`
}

func (in *Inspector) health(pass func(Check) bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer := healthAnswer{OK: true, Checks: []Check{}}
		role := r.URL.Query().Get("role")
		if in.opt.Health != nil {
			for _, c := range in.opt.Health() {
				if role != "" && c.Name != role {
					continue
				}
				answer.Checks = append(answer.Checks, c)
				answer.OK = answer.OK && pass(c)
			}
		}
		switch {
		case role != "" && len(answer.Checks) == 0:
			writeError(w, http.StatusNotFound, "no role "+strconv.Quote(clip(role, summaryText))+" runs here")
		case answer.OK:
			in.writeJSON(w, http.StatusOK, answer)
		default:
			w.Header().Set("Retry-After", "1")
			in.writeJSON(w, http.StatusServiceUnavailable, answer)
		}
	}
}

// listEvents answers the newest events that pass the filter, newest first.
func (in *Inspector) listEvents(w http.ResponseWriter, r *http.Request) {
	filter, err := filterFrom(r.URL.Query())
	limit, limitErr := limitFrom(r, in.cfg.Events)
	if err != nil || limitErr != nil {
		writeError(w, http.StatusBadRequest, firstError(err, limitErr))
		return
	}
	list := []EventSummary{}
	entries := in.events.latest(in.cfg.Events)
	for _, e := range slices.Backward(entries) {
		if len(list) == limit {
			break
		}
		if filter.event(e) {
			list = append(list, e.summary())
		}
	}
	in.writeJSON(w, http.StatusOK, map[string]any{"events": list})
}

func (in *Inspector) listBad(w http.ResponseWriter, r *http.Request) {
	limit, err := limitFrom(r, in.cfg.BadRows)
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	list := []BadSummary{}
	for _, e := range slices.Backward(in.bad.latest(limit)) {
		list = append(list, e.summary())
	}
	in.writeJSON(w, http.StatusOK, map[string]any{"bad": list})
}

type eventDetail struct {
	EventSummary
	Record string          `json:"record"` // the id of the record it came in
	Index  int             `json:"index"`
	Cut    bool            `json:"cut"` // too large: cells over 1 KB are only in the database and the archive
	Event  json.RawMessage `json:"event"`
}

// oneEvent answers the newest event with the id, with all its set fields.
func (in *Inspector) oneEvent(w http.ResponseWriter, r *http.Request) {
	id := strings.ToLower(r.PathValue("id"))
	for _, e := range slices.Backward(in.events.latest(in.cfg.Events)) {
		if e.id == id {
			in.writeJSON(w, http.StatusOK, eventDetail{
				EventSummary: e.summary(), Record: e.record.String(), Index: e.index, Cut: e.cut, Event: e.fieldsJSON(),
			})
			return
		}
	}
	writeError(w, http.StatusNotFound, "not among the newest events; look in the database or the archive")
}

func (in *Inspector) oneBad(w http.ResponseWriter, r *http.Request) {
	id := strings.ToLower(r.PathValue("id"))
	for _, e := range slices.Backward(in.bad.latest(in.cfg.BadRows)) {
		if e.id == id {
			in.writeJSON(w, http.StatusOK, e.detail())
			return
		}
	}
	writeError(w, http.StatusNotFound, "not among the newest bad rows; look in the database or the archive")
}

func (in *Inspector) coverage(w http.ResponseWriter, _ *http.Request) {
	c := in.opt.Coverage()
	c.Unmatched = emptyNotNull(c.Unmatched)
	if c.Suggestion != nil {
		rule := *c.Suggestion
		rule.Preview = emptyNotNull(rule.Preview)
		c.Suggestion = &rule
	}
	in.writeJSON(w, http.StatusOK, c)
}

// recommend passes the question on to the recommender as the public listener
// would, so that the page may ask without leaving its origin.
func (in *Inspector) recommend(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if len(q.Get("session_id")) > maxSession {
		writeError(w, http.StatusBadRequest, "session_id is longer than 256 bytes")
		return
	}
	inner := r.Clone(r.Context())
	inner.URL.Path, inner.URL.RawPath = "/v1/recommend", ""
	inner.RequestURI = inner.URL.RequestURI()
	inner.Header.Del("Cookie")
	in.opt.Recommend.ServeHTTP(w, inner)
}

func (in *Inspector) testEvent(w http.ResponseWriter, r *http.Request) {
	id, err := in.opt.SendTest(r.Context())
	if err != nil {
		in.log.WarnContext(r.Context(), "test event was not accepted", "error", err)
		writeError(w, http.StatusBadGateway, "the collector did not accept the test event: "+err.Error())
		return
	}
	in.writeJSON(w, http.StatusAccepted, map[string]string{"event_id": id})
}

func limitFrom(r *http.Request, most int) (int, error) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return min(defaultLimit, most), nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, errBadNumber("limit", text)
	}
	return min(n, most), nil
}

func firstError(errs ...error) string {
	for _, err := range errs {
		if err != nil {
			return err.Error()
		}
	}
	return ""
}

func (in *Inspector) writeJSON(w http.ResponseWriter, code int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // for example a rate that is not a number
		in.log.Error("answer cannot be written as JSON", "error", err)
		writeError(w, http.StatusInternalServerError, "the answer cannot be written as JSON")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	w.Write(append(body, '\n'))
}

func writeError(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	w.Write(append(append([]byte(`{"error":`), quote(text)...), '}', '\n')) //nolint:gosec // quoted JSON under nosniff
}
