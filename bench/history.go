package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"
)

// measureHistory: Postgres against COPY, the bytes that an event takes, and the pace
// of going back: replay, merging.
func measureHistory() ([]row, error) {
	rows, err := measurePostgres()
	if err != nil {
		return rows, err
	}
	more, err := measureReplay()
	if err != nil {
		return rows, err
	}
	rows = append(rows, more...)
	const name = "BenchmarkCompact"
	merging, err := gobenches("./internal/archive", "^"+name+"$", "2x")
	if err != nil {
		return rows, err
	}
	return append(rows, row{
		"merging an hour of 12 ranges, of which a tenth came twice",
		fmt.Sprintf("%.0f rows/s of events and raw, %.0f to %.0f bytes an event in archive/events",
			merging["rows/s"][name], merging["bytes/event-before"][name], merging["bytes/event-after"][name]), "", "",
	}), nil
}

func measurePostgres() ([]row, error) {
	const name = "BenchmarkPostgresShare"
	figures, err := gobenches("./internal/store", "^"+name+"$", "100x")
	if err != nil {
		return nil, err
	}
	return []row{{
		"Postgres, 131 columns, batches of 1,000, one connection", fmt.Sprintf("%.0f rows/s", figures["rows/s"][name]),
		fmt.Sprintf("bare COPY in turns %.0f rows/s: **%.2f**", figures["bare-rows/s"][name], figures["share"][name]), "0.75",
	}}, nil
}

// measureReplay records events over HTTP, and replays them into an empty database.
func measureReplay() ([]row, error) {
	s, err := startFurrow(false)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(s.dir)
	var n atomic.Int64
	const events = 10
	result, err := closedLoop(s.public, 8, 15*time.Second, func() []byte {
		batch := make([]string, events)
		for i := range batch {
			at := n.Add(1)
			batch[i] = event(at, int(at%sessions), int(at%items))
		}
		return request(payload(batch...))
	})
	if err != nil {
		return nil, err
	}
	recorded := result.answered * events
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for worstRecords(s) > 0 {
		<-tick.C
	}
	sizes, err := bytesAnEvent(s, recorded)
	if err != nil {
		return nil, err
	}
	fresh, err := os.MkdirTemp("", "furrow-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(fresh)
	cmd := exec.Command("bin/furrow", "replay", "--yes", "--json", "--data-dir", fresh)
	cmd.Env = append(os.Environ(), "FURROW_ARCHIVE_URL="+filepath.Join(s.dir, "archive"))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var report struct {
		New     int64   `json:"new"`
		Seconds float64 `json:"seconds"`
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return nil, err
	}
	if report.New != recorded {
		return nil, fmt.Errorf("%d events were recorded, the replay brought %d", recorded, report.New)
	}
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return append(sizes, row{
		fmt.Sprintf("replay of %d events, archive → enrichment → empty SQLite", recorded),
		fmt.Sprintf("%.0f events/s, %.0f µs of CPU an event", float64(recorded)/report.Seconds, float64(cpu.Microseconds())/float64(recorded)), "", "",
	}), nil
}

// bytesAnEvent reads what the stores take, of events of about 1 KB on the wire, and
// ends the server, which closes the archive's open range.
func bytesAnEvent(s *server, events int64) ([]row, error) {
	resp, err := http.Get("http://" + s.admin + "/status")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var status struct {
		Database struct {
			Bytes float64 `json:"bytes_per_event"`
		} `json:"database"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&status); err != nil {
		return nil, err
	}
	if err := s.end(); err != nil {
		return nil, err
	}
	rows := []row{{"SQLite, indices included", fmt.Sprintf("%.0f bytes an event", status.Database.Bytes), "", ""}}
	for _, set := range []string{"raw", "events"} {
		var sum int64
		err := filepath.Walk(filepath.Join(s.dir, "archive", set), func(_ string, info os.FileInfo, err error) error {
			if err == nil && info.Mode().IsRegular() {
				sum += info.Size()
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{"archive/" + set, fmt.Sprintf("%.0f bytes an event", float64(sum)/float64(events)), "", ""})
	}
	return rows, nil
}
