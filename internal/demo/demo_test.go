package demo

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func pages() fstest.MapFS {
	return fstest.MapFS{
		"index.html": {Data: []byte("<!doctype html>" + slot)},
		"main.js":    {Data: []byte("1")},
		"style.css":  {Data: []byte("a{}")},
	}
}

func newDemo(t *testing.T, cfg Config) *Demo {
	t.Helper()
	d, err := New(cfg, Options{Pages: pages(), CollectorURL: "http://127.0.0.1:8080", InspectorURL: "http://127.0.0.1:8081/?a=</script>", ShopURL: "http://127.0.0.1:8082"})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func get(t *testing.T, d *Demo, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	d.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

func TestCatalogueIsTheSameOnEveryRun(t *testing.T) {
	t.Parallel()
	first := get(t, newDemo(t, Default()), "/catalogue.json").Body.String()
	second := get(t, newDemo(t, Default()), "/catalogue.json").Body.String()
	if diff := cmp.Diff(first, second); diff != "" {
		t.Error(diff)
	}
	var shop struct{ Products []Product }
	if err := json.Unmarshal([]byte(first), &shop); err != nil {
		t.Fatal(err)
	}
	if len(shop.Products) != 400 || shop.Products[0].ID != "17905" {
		t.Fatalf("%d products, the first is %v; want 400 led by the most clicked item 17905", len(shop.Products), shop.Products[0])
	}
	ids, names, sizes := map[string]bool{}, map[string]bool{}, map[string]int{}
	for _, p := range shop.Products {
		if ids[p.ID] || names[p.Name] {
			t.Errorf("%v comes twice", p)
		}
		ids[p.ID], names[p.Name] = true, true
		sizes[p.Category]++
		if p.Price < 3 || p.Price > 150 || p.Brand == "" || p.Currency != "EUR" {
			t.Errorf("unlikely product %v", p)
		}
	}
	if len(sizes) != len(shelves) {
		t.Errorf("%d shelves are used, want %d: %v", len(sizes), len(shelves), sizes)
	}
	t.Log(sizes)
}

// A recommendation is only legible if what people look at together stands together.
func TestShelvesFollowTheSessions(t *testing.T) {
	t.Parallel()
	d := opened()
	same, pairs := 0, 0
	for _, s := range d.sessions {
		for i := 1; i < len(s); i++ {
			if s[i] != s[i-1] {
				pairs++
				if d.products[s[i]].Category == d.products[s[i-1]].Category {
					same++
				}
			}
		}
	}
	share := float64(same) / float64(pairs)
	t.Logf("%.2f of %d steps stay on a shelf", share, pairs)
	if share < 0.5 {
		t.Errorf("only %.2f of the steps stay on a shelf; chance would be %.2f", share, 1/float64(len(shelves)))
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	d := newDemo(t, Default())
	for path, want := range map[string]struct {
		status int
		kind   string
	}{
		"/":                {200, "text/html; charset=utf-8"},
		"/product/17905":   {200, "text/html; charset=utf-8"},
		"/product/0":       {404, "text/html; charset=utf-8"},
		"/cart":            {200, "text/html; charset=utf-8"},
		"/category/Novels": {200, "text/html; charset=utf-8"},
		"/nothing":         {404, "text/html; charset=utf-8"},
		"/catalogue.json":  {200, "application/json"},
		"/main.js":         {200, "text/javascript; charset=utf-8"},
		"/style.css":       {200, "text/css; charset=utf-8"},
	} {
		resp := get(t, d, path)
		body, kind := resp.Body.String(), resp.Header().Get("Content-Type")
		if resp.Code != want.status || kind != want.kind {
			t.Errorf("%s: %d %s, want %d %s", path, resp.Code, kind, want.status, want.kind)
		}
		csp := resp.Header().Get("Content-Security-Policy")
		if !strings.Contains(csp, "script-src 'self' http://127.0.0.1:8080;") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", path, csp)
		}
		if strings.HasPrefix(want.kind, "text/html") &&
			(!strings.Contains(body, `"collector":"http://127.0.0.1:8080"`) || strings.Count(body, "</script>") != 1) {
			t.Errorf("%s: settings are missing or break out: %s", path, body)
		}
	}
}

func TestNewNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	cfg := Default()
	cfg.Rate, cfg.Items = 0, 1
	_, err := New(cfg, Options{Pages: pages(), CollectorURL: "127.0.0.1:8080"})
	for _, want := range []string{"demo.rate", "demo.items", "collector address", "127.0.0.1:8080"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not mention %s", err, want)
		}
	}
	if _, err := New(Default(), Options{Pages: fstest.MapFS{"index.html": {Data: []byte("x")}}, CollectorURL: "http://c"}); err == nil {
		t.Error("pages without a place for the settings are accepted")
	}
}
