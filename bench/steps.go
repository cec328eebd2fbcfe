package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// measureStart: size, readiness, idle memory.
func measureStart() ([]row, error) {
	info, err := os.Stat("bin/furrow")
	if err != nil {
		return nil, fmt.Errorf("%w: run make build first", err)
	}
	var ready []time.Duration
	var rss int64
	for i := range 5 {
		s, err := startFurrow(false)
		if err != nil {
			return nil, err
		}
		ready = append(ready, s.ready)
		if i == 4 {
			<-time.After(5 * time.Second) // idle
			rss = s.rss()
		}
		if err := s.stop(); err != nil {
			return nil, err
		}
	}
	slices.Sort(ready)
	return []row{
		{"binary", fmt.Sprintf("%.1f MB", float64(info.Size())/1e6), "", "< 50 MB"},
		{"start to ready, median of 5", fmt.Sprintf("%d ms", ready[2].Milliseconds()), "", "< 300 ms"},
		{"idle RSS after 5 s", fmt.Sprintf("%.1f MB", float64(rss)/1e6), "", "< 60 MB"},
	}, nil
}

// measureHTTP: durable requests/s of a server on one core against the bare server,
// in turns, with the generator on the other core.
func measureHTTP() ([]row, error) {
	var rows []row
	for _, connections := range []int{64, 256} {
		more, err := measureDoor(connections)
		if err != nil {
			return rows, err
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

func measureDoor(connections int) ([]row, error) {
	const rounds = 3
	var bare, durable, bareCPU, durableCPU []float64
	var last loaded
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for range rounds {
		yardstick, err := startServer(true, self, "bare", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		l, err := loadFrom(self, yardstick, connections)
		yardstick.stop() //nolint:errcheck // it ends by the signal
		if err != nil {
			return nil, err
		}
		bare, bareCPU = append(bare, l.Rate), append(bareCPU, l.CPU)
		furrow, err := startFurrow(true, "--roles", "collector")
		if err != nil {
			return nil, err
		}
		if last, err = loadFrom(self, furrow, connections); err != nil {
			return nil, err
		}
		durable, durableCPU = append(durable, last.Rate), append(durableCPU, last.CPU)
		if err := furrow.stop(); err != nil {
			return nil, err
		}
	}
	b, d := median(bare), median(durable)
	bc, dc := median(bareCPU), median(durableCPU)
	return []row{
		{fmt.Sprintf("durable POST of 1,400 B, server on one core, %d connections", connections), fmt.Sprintf("%.0f/s, p50 %.1f ms, p99 %.1f ms", d, last.P50, last.P99), fmt.Sprintf("bare net/http %.0f/s: **%.2f**", b, d/b), "0.60"},
		{"server CPU a request", fmt.Sprintf("%.1f µs", dc), fmt.Sprintf("bare net/http %.1f µs: %.2f×", bc, dc/bc), ""},
	}, nil
}

// loaded is what a generator in a process of its own found.
type loaded struct{ Rate, CPU, P50, P99 float64 } // requests/s, µs of server CPU a request, ms

// loadFrom runs the generator on the second core against a server.
func loadFrom(self string, s *server, connections int) (loaded, error) {
	var l loaded
	if err := runLoad(self, s.public, connections, nil); err != nil { // warm up
		return l, err
	}
	before := s.cpu()
	if err := runLoad(self, s.public, connections, &l); err != nil {
		return l, err
	}
	l.CPU = float64((s.cpu() - before).Microseconds()) / (l.Rate * loadTime.Seconds())
	return l, nil
}

func runLoad(self, address string, connections int, into *loaded) error {
	cmd := exec.Command("taskset", "-c", "1", self, "load", address, strconv.Itoa(connections))
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil || into == nil {
		return err
	}
	return json.Unmarshal(out, into)
}

const loadTime = 5 * time.Second

// loadPinned is the generator: connections that each send when answered.
func loadPinned(address, connections string) error {
	n, err := strconv.Atoi(connections)
	if err != nil {
		return err
	}
	body := payload(event(1, 1, 1))
	body += strings.Repeat(" ", max(0, 1400-len(body)))
	req := request(body)
	r, err := closedLoop(address, n, loadTime, func() []byte { return req })
	if err != nil {
		return err
	}
	if r.refused > 0 {
		return fmt.Errorf("%d requests were not answered 200", r.refused)
	}
	return json.NewEncoder(os.Stdout).Encode(loaded{Rate: r.rate(), P50: ms(r.quantile(.5)), P99: ms(r.quantile(.99))})
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

// gobench runs Go benchmarks and returns one metric of each, median over runs.
func gobench(pkg, pattern, metric, benchtime string) (map[string]float64, error) {
	metrics, err := gobenches(pkg, pattern, benchtime)
	if err != nil {
		return nil, err
	}
	if metrics[metric] == nil {
		return nil, fmt.Errorf("go test -bench %s %s reports no %s", pattern, pkg, metric)
	}
	return metrics[metric], nil
}

// gobenches runs Go benchmarks and returns every metric of each, median over runs,
// by metric and name.
func gobenches(pkg, pattern, benchtime string) (map[string]map[string]float64, error) {
	cmd := exec.Command("go", "test", "-run", "^$", "-bench", pattern, "-benchtime", benchtime, "-count", "3", pkg)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("go test -bench %s %s: %w\n%s", pattern, pkg, err, out)
	}
	runs := map[[2]string][]float64{}
	for line := range strings.Lines(string(out)) {
		cells := strings.Fields(line)
		if len(cells) < 4 || !strings.HasPrefix(cells[0], "Benchmark") {
			continue
		}
		name := cells[0]
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			name = name[:i]
		}
		for i := 2; i+1 < len(cells); i += 2 {
			if v, err := strconv.ParseFloat(cells[i], 64); err == nil {
				key := [2]string{cells[i+1], name}
				runs[key] = append(runs[key], v)
			}
		}
	}
	medians := map[string]map[string]float64{}
	for key, v := range runs {
		if medians[key[0]] == nil {
			medians[key[0]] = map[string]float64{}
		}
		medians[key[0]][key[1]] = median(v)
	}
	return medians, nil
}

// measureLibraries: journal, parsing, SQLite and Parquet from their own benchmarks.
func measureLibraries() ([]row, error) {
	var rows []row
	appends, err := gobench("./internal/bus/journal", "^BenchmarkPublish$", "ns/op", "2s")
	if err != nil {
		return nil, err
	}
	for _, writers := range []string{"1", "64", "512"} {
		rows = append(rows, row{"journal, 1.5 KB records, " + writers + " writers", fmt.Sprintf("%.0f durable appends/s", 1e9/appends["BenchmarkPublish/writers="+writers]), "", ""})
	}
	parsed, err := gobench("./internal/enrich", "^BenchmarkParse$", "events/s", "2s")
	if err != nil {
		return rows, err
	}
	names := make([]string, 0, len(parsed))
	for name := range parsed {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		rows = append(rows, row{"parse, " + strings.TrimPrefix(name, "BenchmarkParse/"), fmt.Sprintf("%.0f events/s, one goroutine", parsed[name]), "", ""})
	}
	for _, s := range []struct{ title, pkg, ours, bare string }{
		{"SQLite, 131 columns, batches of 1,000", "./internal/store", "BenchmarkInsert", "BenchmarkBareSQLite"},
		{"Parquet, 131 columns", "./internal/archive", "BenchmarkEvents", "BenchmarkBareParquet/as-ours"},
	} {
		v, err := gobench(s.pkg, "^("+s.ours+"|"+strings.Split(s.bare, "/")[0]+")$", "rows/s", "2s")
		if err != nil {
			return rows, err
		}
		rows = append(rows, row{s.title, fmt.Sprintf("%.0f rows/s", v[s.ours]), fmt.Sprintf("bare library %.0f rows/s: **%.2f**", v[s.bare], v[s.ours]/v[s.bare]), "0.80"})
	}
	return rows, nil
}

// measurePipeline: HTTP to SQLite, Parquet and recommender at 10,000 events/s, with
// the generator on the same two cores.
func measurePipeline() ([]row, error) {
	s, err := startFurrow(false)
	if err != nil {
		return nil, err
	}
	const rate, perRequest, seconds = 10_000, 5, 30
	var n atomic.Int64
	began, cpu := time.Now(), s.cpu()
	var lag float64
	var late atomic.Int64
	done := make(chan error, 1)
	go func() { done <- paced(s, rate/perRequest, perRequest, seconds, &n, &late) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				return nil, err
			}
			running = false
		case <-tick.C:
			if time.Since(began) > 5*time.Second {
				lag = max(lag, worstLag(s))
			}
		}
	}
	elapsed := time.Since(began)
	for worstRecords(s) > 0 {
		<-tick.C
	}
	used := s.cpu() - cpu
	events := n.Load()
	perEvent := float64(used.Microseconds()) / float64(events)
	rss := s.rss()
	rows := []row{
		{"HTTP → SQLite + Parquet + recommender, two cores with the generator", fmt.Sprintf("%.0f events/s for %d s (%d events a request)", float64(events)/elapsed.Seconds(), seconds, perRequest), fmt.Sprintf("worst lag of any consumer %.2f s", lag), "10,000/s, lag < 1 s"},
		{"CPU an event over all roles", fmt.Sprintf("%.0f µs", perEvent), "", "≤ 150 µs, aim 100"},
		{"RSS after it", fmt.Sprintf("%.0f MB", float64(rss)/1e6), "", ""},
	}
	return rows, s.stop()
}

type status struct {
	Stages []struct {
		Name       string  `json:"name"`
		LagRecords int64   `json:"lag_records"`
		LagSeconds float64 `json:"lag_seconds"`
	} `json:"stages"`
}

func stages(s *server) (status, error) {
	var st status
	resp, err := http.Get("http://" + s.admin + "/status")
	if err != nil {
		return st, err
	}
	defer resp.Body.Close()
	return st, json.NewDecoder(resp.Body).Decode(&st)
}

// lagging are the stages whose lag counts: the archive is open for up to five
// minutes by design, and acknowledges whole ranges.
func lagging(name string) bool { return name == "recorder-store" || name == "recommender" }

func worstLag(s *server) (worst float64) {
	st, err := stages(s)
	if err != nil {
		return 0
	}
	for _, stage := range st.Stages {
		if lagging(stage.Name) {
			worst = max(worst, stage.LagSeconds)
		}
	}
	return worst
}

func worstRecords(s *server) (worst int64) {
	st, err := stages(s)
	if err != nil {
		return 0
	}
	for _, stage := range st.Stages {
		if lagging(stage.Name) {
			worst = max(worst, stage.LagRecords)
		}
	}
	return worst
}

// measureRecommend: latency of /v1/recommend, and how soon an event shows in
// another visitor's list.
func measureRecommend() ([]row, error) {
	s, err := startFurrow(false)
	if err != nil {
		return nil, err
	}
	var n, late atomic.Int64
	if err := paced(s, 1000, 5, 20, &n, &late); err != nil {
		return nil, err
	}
	for worstRecords(s) > 0 {
		<-time.After(50 * time.Millisecond)
	}
	var counter atomic.Int64
	get := func() []byte {
		session := counter.Add(1) % sessions
		return fmt.Appendf(nil, "GET /v1/recommend?n=20&session_id=%s HTTP/1.1\r\nHost: a\r\n\r\n", uuid(2, session))
	}
	r, err := closedLoop(s.public, 4, 8*time.Second, get)
	if err != nil {
		return nil, err
	}
	fresh, err := freshness(s)
	if err != nil {
		return nil, err
	}
	rows := []row{
		{fmt.Sprintf("GET /v1/recommend over HTTP, 4 connections, %d events learnt", n.Load()), fmt.Sprintf("%.0f/s, p50 %.2f ms, p99 %.2f ms", r.rate(), ms(r.quantile(.5)), ms(r.quantile(.99))), "", ""},
		{"event sent → in another visitor's list", fmt.Sprintf("p50 %.1f ms, p99 %.1f ms", ms(fresh[len(fresh)/2]), ms(fresh[len(fresh)*99/100])), "", "p99 ≤ 250 ms, aim 20"},
	}
	return rows, s.stop()
}

// freshness: one visitor sees two new items; how long until the list of another,
// who saw the first, holds the second. The time counts from sending the event.
func freshness(s *server) ([]time.Duration, error) {
	var took []time.Duration
	for i := range 300 {
		first, second := 1_000_000+2*i, 1_000_001+2*i
		now := int64(1e12) + int64(i)*10
		if err := post(s, event(now, 5_000_000+i, first)); err != nil {
			return nil, err
		}
		if err := post(s, event(now+1, 6_000_000+i, first)); err != nil {
			return nil, err
		}
		sent := time.Now()
		if err := post(s, event(now+2, 5_000_000+i, second)); err != nil {
			return nil, err
		}
		for {
			list, err := recommended(s, uuid(2, int64(6_000_000+i)))
			if err != nil {
				return nil, err
			}
			if strings.Contains(list, `"`+strconv.Itoa(second)+`"`) {
				break
			}
			if time.Since(sent) > 5*time.Second {
				return nil, fmt.Errorf("item %d is not recommended after 5 s: %s", second, list)
			}
		}
		took = append(took, time.Since(sent))
	}
	slices.Sort(took)
	return took, nil
}

// recommended returns the list for a session as it comes over HTTP.
func recommended(s *server, session string) (string, error) {
	resp, err := http.Get("http://" + s.public + "/v1/recommend?n=5&session_id=" + session)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	_, err = body.ReadFrom(resp.Body)
	return body.String(), err
}

func post(s *server, e string) error {
	resp, err := http.Post("http://"+s.public+tp2Path, "application/json", strings.NewReader(payload(e)))
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("POST: %s", resp.Status)
	}
	return nil
}
