package recommender

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"furrow/internal/bus"
	"furrow/internal/recommender/evaluate"
)

func ask(tb testing.TB, r *live, target string) Answer {
	tb.Helper()
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	if w.Code != http.StatusOK {
		tb.Fatalf("%s: %d %s", target, w.Code, w.Body)
	}
	var a Answer
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		tb.Fatal(err)
	}
	return a
}

func names(a Answer) (ids []string) {
	for _, it := range a.Items {
		ids = append(ids, it.ID)
	}
	return ids
}

const day0 = 1_790_000_000_000

// shop publishes sessions of page views: each a session id, then its products.
func shop(d *double, sessions ...string) {
	for i, s := range sessions {
		fields := strings.Fields(s)
		for j, p := range fields[1:] {
			d.publish(doc{Session: fields[0], Path: "/product/" + p, At: day0 + int64(i)*60_000 + int64(j)*1000}.record())
		}
	}
}

func TestListFollowsTheSession(t *testing.T) {
	t.Parallel()
	r := start(t, newDouble(), t.TempDir(), nil)
	shop(r.bus, "a tea pot cup", "b tea pot cup", "c tea pot", "d saw nail", "e saw nail", "me tea")
	a := ask(t, r, "/v1/recommend?session_id=me&n=3&explain=1")
	if got := names(a); got[0] != "pot" || got[1] != "cup" {
		t.Errorf("list %v, want pot and cup first", got)
	}
	if len(a.Items) != 3 || a.Items[0].Source != "session_knn" || a.Items[2].Source == "session_knn" || a.Fallback || a.Stale || a.LagMillis != 0 {
		t.Errorf("answer %+v", a)
	}
	if !slices.Equal(a.Items[0].Reasons, []string{"viewed tea"}) {
		t.Errorf("reasons %q", a.Items[0].Reasons)
	}
	if a.RecommendationID == "" || a.Model != "vstan-1" || !a.AsOf.Equal(time.UnixMilli(day0+5*60_000)) {
		t.Errorf("answer %+v", a)
	}
	// The item of the request counts before its own event has arrived.
	if got := names(ask(t, r, "/v1/recommend?session_id=me&item_id=saw&n=1")); got[0] != "nail" {
		t.Errorf("with item_id saw: %v, want nail", got)
	}
	if got := names(ask(t, r, "/v1/recommend?session_id=me&exclude=pot,cup")); slices.Contains(got, "pot") || slices.Contains(got, "cup") || slices.Contains(got, "tea") {
		t.Errorf("excluded and seen items in %v", got)
	}
	// Another visitor's click is in the next list.
	shop(r.bus, "x tea lid", "y tea lid", "z tea lid", "w tea lid")
	if got := names(ask(t, r, "/v1/recommend?session_id=me&n=1")); got[0] != "lid" {
		t.Errorf("after more clicks: %v, want lid", got)
	}
}

func TestLadderFillsEveryList(t *testing.T) {
	t.Parallel()
	r := start(t, newDouble(), t.TempDir(), nil)
	if a := ask(t, r, "/v1/recommend"); len(a.Items) != 0 || !a.Fallback || a.Items == nil {
		t.Errorf("empty shop: %+v", a)
	}
	shop(r.bus, "a tea pot cup", "b tea pot", "c nail", "d tea")
	for i := range 30 {
		shop(r.bus, fmt.Sprintf("s%d single%d", i, i))
	}
	a := ask(t, r, "/v1/recommend?session_id=a2&item_id=tea&n=34")
	if len(a.Items) != 33 { // every item but the current one
		t.Errorf("%d items, want 33", len(a.Items))
	}
	rank := map[string]int{"session_knn": 0, "co_visit": 1, "trending": 2, "popular": 3, "newest": 4}
	seen := map[string]bool{}
	for i, it := range a.Items {
		if seen[it.ID] {
			t.Errorf("%s twice", it.ID)
		}
		seen[it.ID] = true
		if i > 0 && (rank[it.Source] < rank[a.Items[i-1].Source] || it.Score > a.Items[i-1].Score) {
			t.Errorf("place %d: %+v after %+v", i, it, a.Items[i-1])
		}
	}
	if a := ask(t, r, "/v1/recommend?n=3"); !a.Fallback || len(a.Items) != 3 || a.Items[0].ID != "tea" {
		t.Errorf("a stranger gets %+v, want what is trending: tea first", a.Items)
	}
}

func TestUsersAndIdleGap(t *testing.T) {
	t.Parallel()
	r := start(t, newDouble(), t.TempDir(), func(c *Config) { c.Serve.ExcludeSeen = false })
	shop(r.bus, "a tea pot", "b tea pot", "c saw nail", "d saw nail")
	r.bus.publish(
		doc{Domain: "d1", User: "u1", Path: "/product/tea", At: day0 + 10*60_000}.record(),
		doc{Domain: "d1", User: "u1", Path: "/product/saw", At: day0 + 90*60_000}.record(), // a new visit
		doc{Domain: "d2", User: "u1", Session: "s2", Path: "/product/tea", At: day0 + 91*60_000}.record(),
	)
	for target, want := range map[string]string{
		"/v1/recommend?user_id=d1&n=1": "nail", "/v1/recommend?user_id=u1&n=1": "pot", "/v1/recommend?user_id=d2&n=1": "pot",
		"/v1/recommend?session_id=s2&n=1": "pot", "/v1/recommend?session_id=unknown&user_id=d1&n=1": "nail",
	} {
		if got := names(ask(t, r, target)); got[0] != want {
			t.Errorf("%s: %v, want %s", target, got, want)
		}
	}
}

func TestDoublesPingsAndRobotsCountNothing(t *testing.T) {
	t.Parallel()
	r := start(t, newDouble(), t.TempDir(), nil)
	one := doc{ID: "00000000-0000-4000-9000-000000000001", Session: "a", Path: "/product/tea", At: day0}
	robot, ping := one, one
	robot.ID, robot.Agent = "", "Mozilla/5.0 (compatible; Googlebot/2.1)"
	ping.ID, ping.Type = "", "page_ping"
	r.bus.publish(one.record(), one.record(), robot.record(), ping.record(), []byte("rubbish"))
	ask(t, r, "/v1/recommend")
	if s := r.Status(); s.Interactions != 1 || s.Doubles != 1 || s.Robots != 1 || s.Items != 1 {
		t.Errorf("status %+v", s)
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	d, dir := newDouble(), t.TempDir()
	first := start(t, d, dir, nil)
	shop(d, "a tea pot cup", "b tea pot cup", "c tea pot", "d saw nail")
	d.publish(doc{Domain: "d1", Session: "s1", Path: "/product/tea", At: day0 + 600_000}.record())
	one := doc{ID: "00000000-0000-4000-9000-000000000002", Session: "a", Path: "/product/tea", At: day0}.record()
	d.publish(one)
	before := ask(t, first, "/v1/recommend?user_id=d1")
	if d.ackedTo() != "" {
		t.Error("acknowledged before a snapshot is durable")
	}
	first.stop()
	if d.ackedTo() != d.head()[partition] {
		t.Errorf("acknowledged up to %q, want %q", d.ackedTo(), d.head()[partition])
	}
	d.publish(one) // comes again after the restart
	second := start(t, d, dir, nil)
	after := ask(t, second, "/v1/recommend?user_id=d1")
	if diff := cmp.Diff(before.Items, after.Items); diff != "" {
		t.Errorf("the list changed with the restart:\n%s", diff)
	}
	if s := second.Status(); s.Doubles != 1 || s.Interactions != 0 {
		t.Errorf("learned again what the snapshot holds: %+v", s)
	}
	second.stop()
	// A damaged snapshot is set aside, and everything is learned anew.
	path := filepath.Join(dir, snapshotName)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	third := start(t, d, dir, nil)
	if diff := cmp.Diff(before.Items, ask(t, third, "/v1/recommend?user_id=d1").Items); diff != "" {
		t.Errorf("the list changed with learning anew:\n%s", diff)
	}
	if _, err := os.Stat(path + ".damaged"); err != nil {
		t.Error(err)
	}
}

// TestAnotherBus restarts on a bus that is younger than the snapshot.
func TestAnotherBus(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := start(t, newDouble(), dir, nil)
	shop(first.bus, "a tea pot", "b tea pot")
	ask(t, first, "/v1/recommend")
	first.stop()
	second := start(t, newDouble(), dir, nil)
	until(t, "ready on an empty bus", func() bool { return second.Ready() == nil })
	shop(second.bus, "c tea lid", "d tea lid")
	if got := names(ask(t, second, "/v1/recommend?item_id=tea")); len(got) != 2 {
		t.Errorf("list %v, want what both buses taught", got)
	}
	second.stop()
	if second.bus.ackedTo() != position(4) {
		t.Errorf("acknowledged up to %q", second.bus.ackedTo())
	}
}

func TestSnapshotsByInput(t *testing.T) {
	t.Parallel()
	r := start(t, newDouble(), t.TempDir(), func(c *Config) { c.Snapshot.Bytes = 1 << 16 })
	r.bus.fail = 2 // a bus that is away for a moment ends nothing
	for i := range 2000 {
		shop(r.bus, fmt.Sprintf("s%d p%d p%d", i, i%7, i%5))
	}
	until(t, "a snapshot is acknowledged while running", func() bool { return r.bus.ackedTo() != "" })
	until(t, "the status says so", func() bool { return !r.Status().SnapshotAt.IsZero() })
}

func TestReady(t *testing.T) {
	t.Parallel()
	d := newDouble()
	r, err := New(Default(), Options{Bus: d, Dir: t.TempDir(), Parse: parseDoc, Head: d.head, Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "not running") {
		t.Errorf("before Run: %v", err)
	}
	r.running.Store(true)
	shop(d, "a tea")
	target := d.head()
	r.target.Store(&target)
	if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "catching up") {
		t.Errorf("behind: %v", err)
	}
	r.progress.advance(partition, target[partition], time.Now())
	r.checkLevel()
	if err := r.Ready(); err != nil {
		t.Errorf("level: %v", err)
	}
}

func TestStaleAnswerSaysSo(t *testing.T) {
	t.Parallel()
	d := newDouble()
	cfg := Default()
	cfg.Serve.Wait = time.Millisecond
	r, err := New(cfg, Options{Bus: d, Dir: t.TempDir(), Parse: parseDoc, Head: d.head})
	if err != nil {
		t.Fatal(err)
	}
	shop(d, "a tea") // and nobody reads it
	a := ask(t, &live{Recommender: r}, "/v1/recommend")
	if !a.Stale || a.LagMillis < 1 {
		t.Errorf("answer %+v, want stale", a)
	}
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	r := start(t, newDouble(), t.TempDir(), nil)
	shop(r.bus, "a tea pot", "b tea pot")
	server := httptest.NewServer(r.Handler())
	defer server.Close()
	for _, c := range []struct {
		method, target, body string
		code                 int
		want                 string
	}{
		{"GET", "/v1/recommend?item_id=tea", "", 200, `"id":"pot"`},
		{"GET", "/v1/recommend/?item_id=tea", "", 200, `"id":"pot"`},
		{"HEAD", "/v1/recommend", "", 200, ""},
		{"POST", "/v1/recommend", `{"item_id":"tea","n":1,"exclude":["x"],"explain":true}`, 200, `"reasons":["viewed tea"]`},
		{"POST", "/v1/recommend", `{"item_id":"tea","exclude":"pot"}`, 200, `"items":[]`},
		{"POST", "/v1/recommend", `tea`, 400, `"error":"body:`},
		{"POST", "/v1/recommend", `{"exclude":5}`, 400, "exclude: want an array"},
		{"POST", "/v1/recommend", `{"x":"` + strings.Repeat("x", maxBody) + `"}`, 400, "more than 65536 bytes"},
		{"GET", "/v1/recommend?n=0", "", 400, "n is 0: want a whole number from 1 to 200"},
		{"GET", "/v1/recommend?n=201", "", 400, "n is 201"},
		{"GET", "/v1/recommend?n=many", "", 400, `n is \"many\"`},
		{"GET", "/v1/recommend?explain=maybe", "", 400, "want 0 or 1"},
		{"GET", "/v1/recommend?item_id=%zz", "", 400, "query"},
		{"GET", "/v1/recommend?session_id=" + strings.Repeat("s", 600), "", 400, "at most 512"},
		{"DELETE", "/v1/recommend", "", 405, "use GET or POST"},
		{"GET", "/v1/nothing", "", 404, "GET or POST /v1/recommend"},
		{"OPTIONS", "/v1/recommend", "", 204, ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, server.URL+c.target, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Cookie", "sp=x")
		req.Header.Set("Origin", "https://shop.example")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != c.code || !strings.Contains(string(b), c.want) {
			t.Errorf("%s %.60s: %d %s %v, want %d %s", c.method, c.target, res.StatusCode, b, err, c.code, c.want)
		}
		if h := res.Header; h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Credentials") != "" || h.Get("Set-Cookie") != "" {
			t.Errorf("%s %.60s: headers %v", c.method, c.target, h)
		}
		if c.code >= 400 && !json.Valid(b) {
			t.Errorf("%s %.60s: %s is not JSON", c.method, c.target, b)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestConfig(t *testing.T) {
	t.Parallel()
	Default().Validate(func(key, rule string) { t.Errorf("default: %s %s", key, rule) })
	cfg := Default()
	cfg.Algorithm.Name, cfg.Algorithm.M, cfg.Serve.N, cfg.PageItems = "gru", 0, 0, "perhaps"
	cfg.Rules = append(cfg.Rules, Rule{From: "page", Pattern: "^/x"}, Rule{From: "smell"}, Rule{From: "struct"}, Rule{From: "selfDescribing"})
	cfg.Trending = 0
	bad := map[string]bool{}
	cfg.Validate(func(key, _ string) { bad[key] = true })
	for _, key := range []string{"algorithm.name", "algorithm.m", "serve.n", "pageItems", "rules[5]", "rules[6]", "rules[7]", "rules[8]", "trendingHalfLife"} {
		if !bad[key] {
			t.Errorf("%s passed", key)
		}
	}
	if _, err := New(cfg, Options{}); err == nil || !strings.Contains(err.Error(), "recommender.algorithm.name") {
		t.Errorf("New: %v", err)
	}
}

// TestLiveIsAsGoodAsOffline replays the example data through the bus, click by
// click, and asks after each click of the test sessions.
func TestLiveIsAsGoodAsOffline(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("replays 100,000 clicks")
	}
	const trainFile, testFile = "../demo/data/serenade_example.train.tsv.gz", "../demo/data/serenade_example.test.tsv.gz"
	a := Default().Algorithm
	number := func(f float64) string { return fmt.Sprint(f) }
	offline, err := evaluate.Run(t.Context(), evaluate.Options{TrainFile: trainFile, TestFile: testFile, Algorithm: a.Name, Params: map[string]string{
		"m": fmt.Sprint(a.M), "k": fmt.Sprint(a.K), "idf": number(a.IDF), "current": "0",
		"l1": number(a.L1), "l2": number(a.L2), "l3": number(a.L3), "l4": number(a.L4),
	}})
	if err != nil {
		t.Fatal(err)
	}
	// A visitor may go back to an item, and the test counts that: so the list may
	// hold what was seen, as offline.
	r := start(t, newDouble(), t.TempDir(), func(c *Config) { c.Serve.ExcludeSeen = false })
	train, err := evaluate.ReadFile(trainFile)
	if err != nil {
		t.Fatal(err)
	}
	test, err := evaluate.ReadFile(testFile)
	if err != nil {
		t.Fatal(err)
	}
	r.bus.publish(records("train", train)...)
	var hits, predictions int
	var mrr float64
	for _, s := range test {
		for i, c := range s.Clicks {
			if i > 0 {
				predictions++
				list := names(ask(t, r, "/v1/recommend?session_id=test-"+s.ID))
				if at := slices.Index(list, c.Item); at >= 0 {
					hits++
					mrr += 1 / float64(at+1)
				}
			}
			r.bus.publish(doc{Session: "test-" + s.ID, Path: "/product/" + c.Item, At: c.Time}.record())
		}
	}
	hr := float64(hits) / float64(predictions)
	t.Logf("live HR %.4f MRR %.4f, offline HR %.4f MRR %.4f", hr, mrr/float64(predictions), offline.HR20, offline.MRR20)
	if predictions != offline.Predictions || hr < 0.98*offline.HR20 {
		t.Errorf("live: HR %.4f of %d, offline %.4f of %d", hr, predictions, offline.HR20, offline.Predictions)
	}
}

// records returns the clicks of sessions as records, in the order of time.
func records(prefix string, sessions []evaluate.Session) [][]byte {
	var docs []doc
	for _, s := range sessions {
		for _, c := range s.Clicks {
			docs = append(docs, doc{Session: prefix + "-" + s.ID, Path: "/product/" + c.Item, At: c.Time})
		}
	}
	slices.SortStableFunc(docs, func(a, b doc) int { return int(a.At - b.At) })
	all := make([][]byte, 0, len(docs))
	for _, d := range docs {
		all = append(all, d.record())
	}
	return all
}

// TestRace lets readers, snapshots and the writer meet.
func TestRace(t *testing.T) {
	t.Parallel()
	r := start(t, newDouble(), t.TempDir(), func(c *Config) {
		c.Snapshot.Bytes = 1 << 16
		c.Limits.Sessions, c.Limits.Items, c.Limits.Clicks = 50, 40, 400
	})
	done := make(chan struct{})
	for g := range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range 150 {
				ask(t, r, fmt.Sprintf("/v1/recommend?session_id=s%d&item_id=p%d&explain=1", i%60, (i+g)%50))
				r.Status()
				r.Coverage()
			}
		}()
	}
	for i := range 2000 {
		shop(r.bus, fmt.Sprintf("s%d p%d p%d", i%60, i%50, i*7%50))
	}
	for range 4 {
		<-done
	}
}

func FuzzQuery(f *testing.F) {
	r, err := New(Default(), Options{Bus: newDouble(), Dir: f.TempDir(), Parse: parseDoc})
	if err != nil {
		f.Fatal(err)
	}
	r.apply(bus.Batch{Partition: partition, Last: position(1), Messages: []bus.Message{
		{Value: doc{Session: "a", Path: "/product/tea", At: day0}.record()}, {Value: doc{Session: "a", Path: "/product/pot", At: day0}.record()},
	}})
	f.Add("session_id=a&item_id=tea&n=5&exclude=a,b&explain=1", `{"session_id":"a","n":3}`)
	f.Add("n=-1;%", `{"exclude":[1]}`)
	f.Fuzz(func(t *testing.T, query, body string) {
		for _, post := range []bool{false, true} {
			req := httptest.NewRequest(http.MethodGet, "/v1/recommend", nil)
			req.URL.RawQuery = query
			if post {
				req = httptest.NewRequest(http.MethodPost, "/v1/recommend", strings.NewReader(body))
			}
			w := httptest.NewRecorder()
			r.Handler().ServeHTTP(w, req)
			if w.Code != 200 && w.Code != 400 || !json.Valid(w.Body.Bytes()) {
				t.Fatalf("%q %q: %d %s", query, body, w.Code, w.Body)
			}
		}
	})
}
