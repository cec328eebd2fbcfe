package e2e

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestTail follows a running furrow in a terminal while the inspector's button
// sends a test event: the line comes, and so do metrics and the status.
func TestTail(t *testing.T) {
	t.Parallel()
	p := start(t, t.TempDir(), "serve")
	cmd := exec.CommandContext(t.Context(), binary(t), "tail", "--admin", p.admin, "--json")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })

	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.admin+"/api/test-event", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp := do(t, request); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a change without the admin header answered %s", resp.Status)
	}
	request.Header.Set("X-Furrow-Admin", "1")
	if resp := do(t, request); resp.StatusCode != http.StatusAccepted {
		t.Fatalf("test event: %s", resp.Status)
	}

	lines := make(chan string)
	go func() {
		for scan := bufio.NewScanner(out); scan.Scan(); {
			lines <- scan.Text()
		}
	}()
	select {
	case line := <-lines:
		var seen map[string]any
		if err := json.Unmarshal([]byte(line), &seen); err != nil || !strings.Contains(line, "furrow-test") {
			t.Errorf("tail printed %q (%v)", line, err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("tail printed nothing")
	}
	_, _, metrics := get(t, p.admin+"/metrics")
	for _, want := range []string{
		"furrow_collector_accepted_requests_total 1", "furrow_journal_records_total 1", "furrow_store_events_total 1",
		"furrow_collector_durable_requests_total 1", "furrow_collector_refused_requests_total", "furrow_journal_publish_seconds_count 1",
		"furrow_journal_sync_seconds_count", "furrow_journal_ready_bool 1", "furrow_journal_size_bytes",
		`furrow_journal_lag_seconds{group="recorder-archive"}`, `furrow_recorder_lag_seconds{group="recorder-store"}`,
		"furrow_recorder_freshness_seconds_count 1", "furrow_store_bad_rows_total 0", "furrow_store_doubles_total 0",
		"furrow_store_conflicts_total 0", `furrow_recorder_paused{group="recorder-store"} 0`,
		`furrow_recorder_retries_total{group="recorder-store"} 0`, "furrow_archive_last_commit_timestamp_seconds",
		"furrow_recommender_freshness_seconds_count", "furrow_recommender_recommend_seconds_count",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
	var status struct {
		Database struct {
			Rows          int64   `json:"rows"`
			BytesPerEvent float64 `json:"bytes_per_event"`
		} `json:"database"`
	}
	if err := getJSON(p.admin+"/status", &status); err != nil || status.Database.Rows != 1 || status.Database.BytesPerEvent <= 0 {
		t.Errorf("status: %+v, %v", status, err)
	}
	request.Host = "evil.example"
	if resp := do(t, request); resp.StatusCode < 400 {
		t.Error("the admin listener answers to any host name")
	}
}

func do(t *testing.T, r *http.Request) *http.Response {
	t.Helper()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}
