package e2e

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	trainFile = "../internal/demo/data/serenade_example.train.tsv.gz"
	testFile  = "../internal/demo/data/serenade_example.test.tsv.gz"
)

type click struct{ session, item string }

// clicks reads a session file in time order.
func clicks(t *testing.T, file string) []click {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	type timed struct {
		click
		at float64
	}
	var all []timed
	lines := bufio.NewScanner(unzipped)
	lines.Scan()
	for lines.Scan() {
		cells := strings.Split(lines.Text(), "\t")
		at, err := strconv.ParseFloat(cells[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, timed{click{cells[0], cells[1]}, at})
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].at < all[j].at })
	out := make([]click, len(all))
	for i, c := range all {
		out[i] = c.click
	}
	return out
}

// view is a page view of a product in a session.
func view(c click) map[string]string {
	n, _ := strconv.Atoi(c.session)
	return map[string]string{
		"e": "pv", "p": "web", "tv": "e2e", "aid": "shop", "url": "http://shop/product/" + c.item,
		"duid": "u" + c.session, "sid": sid(n),
	}
}

func sid(session int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", session) }

// TestRecommendationsKeepTheirQuality sends the training sessions as events, then
// replays the test sessions over HTTP, asking for recommendations right after each
// 200 and without naming the item: the click must already count. The hit rate
// reaches 0.98 of what furrow evaluate finds offline.
func TestRecommendationsKeepTheirQuality(t *testing.T) {
	t.Parallel()
	stdout, stderr, code := run(t, "evaluate", "--train", trainFile, "--test", testFile, "--algorithm", "vmis", "--params", "m=1502,k=288,last=4,idf=1", "--json")
	if code != 0 {
		t.Fatalf("evaluate: %s", stderr)
	}
	var offline struct {
		HR20        float64 `json:"hr20"`
		Predictions int     `json:"predictions"`
	}
	if err := json.Unmarshal([]byte(stdout), &offline); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	if offline.Predictions < 900 || offline.HR20 < 0.6 {
		t.Fatalf("offline: %+v", offline)
	}

	dir := t.TempDir()
	config := filepath.Join(t.TempDir(), "furrow.yaml")
	if err := os.WriteFile(config, []byte("collector: {networking: {maxConnections: 64}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, dir, "serve", "--config", config)
	client := &http.Client{Timeout: 20 * time.Second}
	var batch []map[string]string
	flush := func() {
		if status, err := p.send(client, tp2(batch...)); err != nil || status != http.StatusOK {
			t.Fatal(status, err)
		}
		batch = batch[:0]
	}
	for _, c := range clicks(t, trainFile) {
		if batch = append(batch, view(c)); len(batch) == 500 {
			flush()
		}
	}
	flush()
	eventually(t, 60*time.Second, func() error {
		resp, err := client.Get(p.public + "/readyz?role=recommender")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("recommender: %s", resp.Status)
		}
		return nil
	})

	hits, asked := 0, 0
	list := map[string][]string{} // per session, what was recommended after its last click
	known := map[string]bool{}
	for _, c := range clicks(t, trainFile) {
		known[c.item] = true
	}
	for _, c := range clicks(t, testFile) {
		if previous, ok := list[c.session]; ok {
			asked++
			for _, item := range previous {
				if item == c.item {
					hits++
				}
			}
		}
		if status, err := p.send(client, tp2(view(c))); err != nil || status != http.StatusOK {
			t.Fatal(status, err)
		}
		n, _ := strconv.Atoi(c.session)
		var answer struct {
			Items []struct {
				ID     string `json:"id"`
				Source string `json:"source"`
			} `json:"items"`
		}
		if err := getJSON(fmt.Sprintf("%s/v1/recommend?session_id=%s&n=20", p.public, sid(n)), &answer); err != nil {
			t.Fatal(err)
		}
		items := make([]string, 0, 20)
		for _, item := range answer.Items {
			items = append(items, item.ID)
		}
		list[c.session] = items
	}
	online := float64(hits) / float64(asked)
	t.Logf("HR@20 %.4f over HTTP, %.4f offline: ratio %.3f (%d asked)", online, offline.HR20, online/offline.HR20, asked)
	if online < 0.98*offline.HR20 {
		t.Errorf("HR@20 %.4f over HTTP is under 0.98 of the offline %.4f", online, offline.HR20)
	}
}

// TestRecommenderCatchesUp kills furrow and asks again: what was learnt is there.
func TestRecommenderCatchesUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, dir, "serve")
	for s := range 50 {
		for _, item := range []string{"a", "b", strconv.Itoa(s)} {
			if status, err := p.send(http.DefaultClient, tp2(view(click{strconv.Itoa(s + 1), item}))); err != nil || status != http.StatusOK {
				t.Fatal(status, err)
			}
		}
	}
	if status, err := p.send(http.DefaultClient, tp2(view(click{"999", "a"}))); err != nil || status != http.StatusOK {
		t.Fatal(status, err)
	}
	check := func() {
		t.Helper()
		eventually(t, 20*time.Second, func() error {
			var answer struct {
				Items []struct{ ID, Source string } `json:"items"`
			}
			if err := getJSON(p.public+"/v1/recommend?session_id="+sid(999), &answer); err != nil {
				return err
			}
			if len(answer.Items) == 0 || answer.Items[0].ID != "b" || answer.Items[0].Source != "session_knn" {
				return fmt.Errorf("recommended %+v, want b first", answer.Items)
			}
			return nil
		})
	}
	check()
	p.kill()
	p = start(t, dir, "serve")
	check()
	p.stop(t)
	p = start(t, dir, "serve")
	check()
}
