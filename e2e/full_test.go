package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestFullJournal fills the journal of a collector whose consumers are away: it
// answers 503 that a page can read, and says that it is not ready. When consumers
// come back it opens by itself, and every event that was answered 200 is recorded.
func TestFullJournal(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "furrow.yaml")
	if err := os.WriteFile(config, []byte("bus: {journal: {segmentBytes: 1048576, maxBytes: 4194304, retention: 0s}}\n"+
		"archive: {rollBytes: 1048576, rollAge: 1s}\nrecommender: {snapshot: {bytes: 1048576, interval: 1s}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p := start(t, dir, "serve", "--config", config)
	p.stop(t) // the groups are registered now, and hold what they have not read
	p = start(t, dir, "serve", "--config", config, "--roles", "collector,inspector")
	answered := 0
	var refused *http.Response
	for i := range 4000 {
		body := tp2(map[string]string{"e": "pv", "p": "web", "tv": "t", "page": fmt.Sprint(i) + strings.Repeat(" filler", 250)})
		resp, err := http.Post(p.public+"/com.snowplowanalytics.snowplow/tp2", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			refused = resp
			break
		}
		answered++
	}
	if refused == nil {
		t.Fatal("a journal of 4 MB took 9 MB")
	}
	if refused.StatusCode != http.StatusServiceUnavailable || refused.Header.Get("Retry-After") == "" || refused.Header.Get("Access-Control-Allow-Origin") == "" {
		t.Errorf("full: %s %v", refused.Status, refused.Header)
	}
	if status, _, _ := get(t, p.public+"/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz of a full collector answered %d", status)
	}
	p.stop(t)
	p = start(t, dir, "serve", "--config", config)
	wantCount(t, p.database(t), answered, "SELECT count(*) FROM events")
	eventually(t, 20*time.Second, func() error {
		if status, _, _ := get(t, p.public+"/readyz"); status != http.StatusOK {
			return fmt.Errorf("/readyz still answers %d", status)
		}
		return nil
	})
	if status, err := p.send(http.DefaultClient, tp2(map[string]string{"e": "pv", "p": "web", "tv": "t"})); err != nil || status != http.StatusOK {
		t.Errorf("after it was emptied: %d %v", status, err)
	}
	wantCount(t, p.database(t), answered+1, "SELECT count(*) FROM events")
}
