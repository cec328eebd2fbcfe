package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// browser starts a headless Chromium with a profile of its own and returns a tab.
func browser(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium-headless-shell", "chromium"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		unavailable(t, "the browser (chromium-headless-shell)")
	}
	opts := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-quic", true),
		chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1300, 1000))
	allocator, stop := chromedp.NewExecAllocator(t.Context(), opts...)
	tab, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() { cancel(); stop() })
	if err := chromedp.Do(tab, chromedp.Navigate("about:blank")); err != nil {
		t.Fatalf("browser: %v", err)
	}
	return tab
}

// evaluate runs JavaScript that returns a string.
func evaluate(t *testing.T, tab context.Context, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(tab, 20*time.Second)
	defer cancel()
	got, err := chromedp.Run(ctx, chromedp.Evaluate[string](script))
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return got
}

func navigate(t *testing.T, tab context.Context, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(tab, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
		t.Fatalf("%s: %v", url, err)
	}
}

// screenshot keeps a picture of the page when SCREENSHOTS names a folder.
func screenshot(t *testing.T, tab context.Context, name string) {
	t.Helper()
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	pause(3 * time.Second) // rates need some
	picture, err := chromedp.Run(tab, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644); err != nil {
		t.Fatal(err)
	}
}

// recommendations waits until the shop shows a list whose first entry comes from
// the session's nearest neighbours, and returns its item ids.
func recommendations(t *testing.T, tab context.Context) []string {
	t.Helper()
	var items []string
	eventually(t, 60*time.Second, func() error {
		text := evaluate(t, tab, `JSON.stringify(document.documentElement.dataset.ready === "1"
			? [...document.querySelectorAll('[data-testid="recommendations"] [data-item-id]')].map(e => [e.dataset.itemId, e.dataset.source]) : [])`)
		var list [][2]string
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			return err
		}
		items = nil
		for _, entry := range list {
			if entry[1] == "session_knn" {
				items = append(items, entry[0])
			}
		}
		if len(items) < 2 {
			// The simulated visitors are still warming the index up: ask again.
			evaluate(t, tab, `(() => { window.dispatchEvent(new PopStateEvent("popstate")); return "" })()`)
			return fmt.Errorf("the shop shows %v", list)
		}
		return nil
	})
	return items
}

// TestDemoShop drives the demo shop as two visitors with different histories: they
// see different lists labelled session-kNN, and what they do is in the database.
func TestDemoShop(t *testing.T) {
	t.Parallel()
	tab := browser(t)
	p := start(t, t.TempDir(), "demo", "--shop", "127.0.0.1:0")
	if p.shop == "" {
		t.Fatalf("no shop in %q", p.output())
	}
	products := popularProducts(t, p)
	db := p.database(t)
	eventually(t, 60*time.Second, func() error {
		n, err := count(db, "SELECT count(*) FROM events")
		if err == nil && n < 3000 {
			err = fmt.Errorf("%d events from the simulated visitors", n)
		}
		return err
	})

	navigate(t, tab, p.shop+"/product/"+products[0])
	first := recommendations(t, tab)
	screenshot(t, tab, "shop-first-visitor")
	evaluate(t, tab, `(() => { document.querySelector('[data-testid="add-to-cart"]').click(); return "" })()`)
	visitor := evaluate(t, tab, `document.cookie.match(/_sp_id\.[0-9a-f]{4}=([^.;]+)/)[1]`)
	wantCount(t, db, 1, "SELECT count(*) FROM events WHERE domain_userid = ? AND event_name = 'page_view'", visitor)
	wantCount(t, db, 1, "SELECT count(*) FROM events WHERE domain_userid = ? AND unstruct_event LIKE '%add_to_cart%' AND contexts LIKE '%ecommerce/product%'", visitor)

	// A route change inside the page is one page view.
	evaluate(t, tab, `(() => { document.querySelector('[data-testid="recommendations"] [data-item-id]').click(); return "" })()`)
	wantCount(t, db, 2, "SELECT count(*) FROM events WHERE domain_userid = ? AND event_name = 'page_view'", visitor)

	evaluate(t, tab, `(() => { document.querySelector('[data-testid="new-visitor"]').click(); return "" })()`)
	navigate(t, tab, p.shop+"/product/"+products[1])
	second := recommendations(t, tab)
	screenshot(t, tab, "shop-second-visitor")
	if other := evaluate(t, tab, `document.cookie.match(/_sp_id\.[0-9a-f]{4}=([^.;]+)/)[1]`); other == visitor {
		t.Errorf("the switch left the visitor %s as it was", visitor)
	}
	if slices.Equal(first, second) {
		t.Errorf("both visitors see %v", first)
	}
	navigate(t, tab, p.admin)
	eventually(t, 15*time.Second, func() error {
		if text := evaluate(t, tab, `document.body.innerText`); !strings.Contains(text, "page view") {
			return fmt.Errorf("the inspector shows %q", text)
		}
		return nil
	})
	screenshot(t, tab, "inspector")
	p.stop(t)
}

// popularProducts returns two products that many sessions hold.
func popularProducts(t *testing.T, p *process) []string {
	t.Helper()
	_, _, text := get(t, p.shop+"/catalogue.json")
	var items []struct {
		ID string `json:"id"`
	}
	var catalogue struct {
		Products *[]struct {
			ID string `json:"id"`
		} `json:"products"`
	}
	catalogue.Products = &items
	if err := json.Unmarshal([]byte(text), &catalogue); err != nil || len(items) < 2 {
		t.Fatalf("catalogue: %v in %.200s", err, text)
	}
	return []string{items[0].ID, items[1].ID}
}

// TestSnowplowBrowserTracker loads the real @snowplow/browser-tracker on a page
// and finds what it tracked in the database.
func TestSnowplowBrowserTracker(t *testing.T) {
	t.Parallel()
	script := client(t, "@snowplow/browser-tracker/dist/index.umd.min.js")
	tab := browser(t)
	p := start(t, t.TempDir(), "serve")
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/tracker.js" {
			http.ServeFile(w, r, script)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, `<!doctype html><title>Real tracker ☃</title><script src="/tracker.js"></script><script>
			const t = window.snowplowBrowserTracking;
			t.newTracker('sp', %q, { appId: 'real', contexts: { webPage: true } });
			t.trackPageView();
			t.trackStructEvent({ category: 'cat', action: 'act', label: 'lab', property: 'prop', value: 1.5 });
			t.trackSelfDescribingEvent({ event: { schema: 'iglu:com.acme/viewed/jsonschema/1-0-0', data: { sku: 'ü' } } });
			t.flushBuffer && t.flushBuffer();
			document.documentElement.dataset.sent = '1';
		</script>`, p.public)
	}))
	t.Cleanup(site.Close)
	navigate(t, tab, site.URL+"/product/42?x=1")
	if sent := evaluate(t, tab, `document.documentElement.dataset.sent || Object.keys(window).filter(k => /snow/i.test(k)).join()`); sent != "1" {
		t.Fatalf("the page's script failed; globals: %s", sent)
	}
	db := p.database(t)
	wantCount(t, db, 3, "SELECT count(*) FROM events WHERE app_id = 'real' AND platform = 'web' AND v_tracker = 'js-4.10.1'")
	wantCount(t, db, 1, `SELECT count(*) FROM events WHERE event_name = 'page_view' AND page_title = 'Real tracker ☃'
		AND page_urlpath = '/product/42' AND page_urlquery = 'x=1' AND contexts LIKE '%web_page%' AND length(domain_sessionid) = 36`)
	wantCount(t, db, 1, "SELECT count(*) FROM events WHERE event = 'struct' AND se_category = 'cat' AND se_value = 1.5")
	wantCount(t, db, 1, "SELECT count(*) FROM events WHERE event_vendor = 'com.acme' AND event_name = 'viewed' AND unstruct_event LIKE '%ü%'")
	wantCount(t, db, 0, "SELECT count(*) FROM bad_rows")
}

// TestSnowplowNodeTracker sends with the real @snowplow/node-tracker.
func TestSnowplowNodeTracker(t *testing.T) {
	t.Parallel()
	client(t, "@snowplow/node-tracker/package.json")
	node, err := exec.LookPath("node")
	if err != nil {
		unavailable(t, "node")
	}
	p := start(t, t.TempDir(), "serve")
	cmd := exec.CommandContext(t.Context(), node, "node-tracker.cjs", p.public)
	cmd.Dir = "clients"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	db := p.database(t)
	wantCount(t, db, 2, "SELECT count(*) FROM events WHERE app_id = 'node' AND user_id = 'alice'")
	wantCount(t, db, 1, "SELECT count(*) FROM events WHERE event_name = 'page_view' AND page_url = 'http://www.example.com/item/9'")
	wantCount(t, db, 0, "SELECT count(*) FROM bad_rows")
}

// client returns the path of a file in an npm package, which make test installs.
func client(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join("clients", "node_modules", name)
	if _, err := os.Stat(path); err != nil {
		unavailable(t, "the npm package of "+name)
	}
	return path
}
