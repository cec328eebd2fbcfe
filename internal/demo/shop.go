package demo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
)

// slot is where index.html takes the settings of its script.
const slot = `<script type="application/json" id="shop-config">{}</script>`

type settings struct {
	Collector string `json:"collector"`
	Inspector string `json:"inspector"`
}

// newHandler makes the shop's routes. Pages are a few kilobytes and do not
// change, so they are rendered once.
func newHandler(pages fs.FS, list []Product, products map[string]Product, collector, inspector string) (http.Handler, error) {
	if pages == nil {
		return nil, errors.New("demo: no pages given; pass web.Demo()")
	}
	index, err := fs.ReadFile(pages, "index.html")
	if err != nil {
		return nil, fmt.Errorf("demo: pages without index.html: %w", err)
	}
	if !bytes.Contains(index, []byte(slot)) {
		return nil, fmt.Errorf("demo: index.html has no %s to hold its settings; run go run ./web/build", slot)
	}
	// json.Marshal escapes <, > and &, so no address can end the script element.
	conf, err := json.Marshal(settings{collector, inspector})
	if err != nil {
		return nil, fmt.Errorf("demo: page settings: %w", err)
	}
	index = bytes.Replace(index, []byte(slot), bytes.Replace([]byte(slot), []byte("{}"), conf, 1), 1)
	goods, err := json.Marshal(struct {
		Products []Product `json:"products"`
	}{list})
	if err != nil {
		return nil, fmt.Errorf("demo: catalogue: %w", err)
	}
	page := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.Header().Set("Cache-Control", "no-cache")
			w.WriteHeader(status)
			w.Write(index)
		}
	}
	files := http.FileServerFS(pages)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", page(http.StatusOK))
	mux.HandleFunc("GET /cart", page(http.StatusOK))
	mux.HandleFunc("GET /thanks", page(http.StatusOK))
	mux.HandleFunc("GET /category/{name}", page(http.StatusOK))
	mux.HandleFunc("GET /product/{id}", func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusOK
		if _, ok := products[r.PathValue("id")]; !ok {
			status = http.StatusNotFound
		}
		page(status)(w, r)
	})
	mux.HandleFunc("GET /catalogue.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-cache")
		w.Write(goods)
	})
	mux.Handle("GET /main.js", files)
	mux.Handle("GET /style.css", files)
	mux.HandleFunc("GET /", page(http.StatusNotFound))
	return secured(mux, collector), nil
}

// secured sets the headers of every answer: scripts, styles and connections are
// the shop's and the collector's and nobody else's.
func secured(next http.Handler, collector string) http.Handler {
	src := collector
	if u, err := url.Parse(collector); err == nil {
		src = u.Scheme + "://" + u.Host
	}
	policy := "default-src 'none'; script-src 'self' " + src + "; connect-src 'self' " + src +
		"; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "strict-origin-when-cross-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}
