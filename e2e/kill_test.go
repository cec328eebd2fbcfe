package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"furrow/internal/archive"

	"github.com/prometheus/client_golang/prometheus"
)

// TestKill kills furrow with SIGKILL at random moments under concurrent load,
// starts it again over the same folder and goes on. In the end every event that
// was answered 200 is in the database and in the archive exactly once, and nothing
// is there that was not sent.
func TestKill(t *testing.T) {
	t.Parallel()
	rounds := rounds(t, 5)
	dir := t.TempDir()
	load := &load{sent: map[string]bool{}, answered: map[string]bool{}}
	for round := range rounds {
		p := start(t, dir, "serve")
		ctx, cancel := context.WithCancel(t.Context())
		done := load.run(ctx, p, round)
		pause(time.Duration(100+rand.IntN(1500)) * time.Millisecond)
		p.kill()
		cancel()
		<-done
	}
	p := start(t, dir, "serve")
	db := p.database(t)
	eventually(t, 30*time.Second, func() error { return settled(p) })
	p.stop(t)
	t.Logf("%d rounds: %d events sent, %d answered 200", rounds, len(load.sent), len(load.answered))
	if len(load.answered) == 0 {
		t.Fatal("no event was answered 200")
	}
	load.compare(t, "database", storedIDs(t, db))
	load.compare(t, "archive", archivedIDs(t, dir))
}

// pause lets the load run for a random time; the moment of the kill is the test.
func pause(d time.Duration) { <-time.After(d) }

// settled returns nil once both recorder groups have handled all there is.
func settled(p *process) error {
	var status struct {
		Stages []struct {
			Name       string `json:"name"`
			LagRecords int64  `json:"lag_records"`
		} `json:"stages"`
	}
	if err := getJSON(p.admin+"/status", &status); err != nil {
		return err
	}
	seen := 0
	for _, s := range status.Stages {
		if s.Name == "recorder-store" || s.Name == "recorder-archive" {
			seen++
			if s.LagRecords > 0 {
				return fmt.Errorf("%s lags %d records", s.Name, s.LagRecords)
			}
		}
	}
	if seen != 2 {
		return fmt.Errorf("not both recorder groups in the status: %+v", status)
	}
	return nil
}

// load sends events from several clients and remembers what was answered 200.
type load struct {
	mu       sync.Mutex
	next     int
	sent     map[string]bool
	answered map[string]bool
	pace     time.Duration // of each client between requests
	refused  atomic.Int64  // requests that were not answered 200
}

func (l *load) id() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	id := fmt.Sprintf("00000000-0000-4000-8000-%012d", l.next)
	l.sent[id] = true
	return id
}

func (l *load) run(ctx context.Context, p *process, round int) <-chan struct{} {
	var wg sync.WaitGroup
	for client := range 16 {
		wg.Go(func() {
			c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}
			defer c.CloseIdleConnections()
			for ctx.Err() == nil {
				ids := []string{l.id(), l.id(), l.id()}
				events := make([]map[string]string, len(ids))
				for i, id := range ids {
					events[i] = map[string]string{
						"e": "pv", "p": "web", "tv": "e2e", "eid": id, "aid": "kill", "url": "http://shop/product/" + strconv.Itoa(i),
						"duid": fmt.Sprintf("u%d-%d", round, client), "sid": fmt.Sprintf("00000000-0000-4000-9000-%012d", round*100+client),
					}
				}
				status, err := p.send(c, tp2(events...))
				if err != nil {
					return // killed; what was sent may or may not be stored
				}
				if l.pace > 0 {
					pause(l.pace)
				}
				if status != http.StatusOK {
					l.refused.Add(1)
				} else {
					l.mu.Lock()
					for _, id := range ids {
						l.answered[id] = true
					}
					l.mu.Unlock()
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	return done
}

// compare holds a store's ids, with how often each is there, against what was sent.
func (l *load) compare(t *testing.T, where string, stored map[string]int) {
	t.Helper()
	missing, doubled, invented := 0, 0, 0
	for id := range l.answered {
		if stored[id] == 0 {
			missing++
		}
	}
	for id, n := range stored {
		if n > 1 {
			doubled++
		}
		if !l.sent[id] {
			invented++
		}
	}
	if missing+doubled+invented > 0 {
		t.Errorf("%s holds %d events: %d answered 200 are missing, %d doubled, %d invented", where, len(stored), missing, doubled, invented)
	}
}

func storedIDs(t *testing.T, db *sql.DB) map[string]int {
	t.Helper()
	rows, err := db.Query("SELECT event_id FROM events")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	ids := map[string]int{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		ids[id]++
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return ids
}

func archivedIDs(t *testing.T, dir string) map[string]int {
	t.Helper()
	a, err := archive.Open(filepath.Join(dir, "archive"), archive.Default(), prometheus.NewRegistry(), discard())
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]int{}
	if err := a.ReadEvents(t.Context(), time.Time{}, time.Now().Add(time.Hour), func(id string, _ time.Time) error {
		ids[id]++
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return ids
}
