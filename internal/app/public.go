package app

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"furrow/internal/collector"
	"furrow/web"
)

// trackerPath is where the tracker script is served.
const trackerPath = "/furrow.js"

// publicServer serves the public listener: plain requests on the collector's short
// path, unusual ones through net/http.
func (a *App) publicServer() (server, net.Listener) {
	networking, all, log := a.cfg.Collector.Networking, http.HandlerFunc(a.servePublic), a.component("public")
	if a.collector == nil {
		return collector.NewServer(networking, all, log), collector.LimitListener(a.public, networking.MaxConnections)
	}
	return collector.NewFront(networking, all, log), a.public
}

// servePublic routes the public listener. Furrow's own paths come first and in
// every role; all else is the collector's.
func (a *App) servePublic(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case strings.HasPrefix(path, "/v1/"):
		a.serveV1(w, r)
	case path == trackerPath:
		serveTracker(w, r)
	case path == "/healthz":
		answer(w, http.StatusOK, "ok\n")
	case path == "/readyz":
		a.serveReady(w, r)
	case a.collector != nil:
		a.collector.ServeHTTP(w, r)
	default:
		answer(w, http.StatusNotFound, "404 not found")
	}
}

func (a *App) serveV1(w http.ResponseWriter, r *http.Request) {
	if a.recommender != nil {
		a.recommender.Handler().ServeHTTP(w, r)
		return
	}
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusNotFound)
	io.WriteString(w, `{"error":"this process has no recommender role"}`+"\n")
}

// serveReady answers the status alone; the reasons are for the admin listener.
// Where the collector runs it alone decides. A role that is asked for by name says
// why it is not ready, the recommender how far it is behind.
func (a *App) serveReady(w http.ResponseWriter, r *http.Request) {
	role := r.URL.Query().Get("role")
	err := a.ready(role)
	switch {
	case err == nil:
		answer(w, http.StatusOK, "ok\n")
	case role == "":
		answer(w, http.StatusServiceUnavailable, "not ready\n")
	default:
		answer(w, http.StatusServiceUnavailable, err.Error()+"\n")
	}
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	io.WriteString(w, text)
}

var trackerTag = func() string {
	sum := sha256.Sum256(web.Tracker())
	return `"` + hex.EncodeToString(sum[:8]) + `"`
}()

// serveTracker serves the script to any site; a browser asks again after an hour
// and mostly gets 304.
func serveTracker(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		answer(w, http.StatusNotFound, "404 not found")
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	h.Set("Cache-Control", "public, max-age=3600")
	h.Set("ETag", trackerTag)
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(web.Tracker())))
}
