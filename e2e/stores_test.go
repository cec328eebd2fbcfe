package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"furrow/internal/archive"
	"furrow/internal/archive/s3test"
	"furrow/internal/store/pgtest"

	"github.com/prometheus/client_golang/prometheus"
)

// stores are a real PostgreSQL and a real S3 server, each behind a proxy that can
// be cut, and a configuration that uses them.
type stores struct {
	postgres      *pgtest.Server
	database      string
	postgresProxy *s3test.Toxic
	s3            *s3test.Server
	s3Config      s3test.Config
	s3Proxy       *s3test.Toxic
	s3Faults      *s3test.Faults
	config        string // file
}

const bucket = "history"

// anyStore starts the servers. Ranges are small, so that many of them are written.
func anyStore(t *testing.T) *stores {
	t.Helper()
	s := &stores{postgres: pgtest.Start(t), database: "postgres", s3: s3test.Start(t)}
	s.postgresProxy = s3test.Proxy(t, s.postgres.Addr())
	s.s3Config = s.s3.Config(bucket)
	s.s3Proxy = s3test.Proxy(t, s.s3.Endpoint)
	s.s3Faults = s3test.NewFaults(t, s.s3Proxy.Endpoint)
	address := strings.TrimPrefix(s.postgresProxy.Endpoint, "http://")
	s.config = filepath.Join(t.TempDir(), "furrow.yaml")
	text := fmt.Sprintf(`store: {url: %q, writeTimeout: 5s}
archive: {url: "s3://%s/shop", rollBytes: 1048576, rollAge: 1s, s3: {endpoint: %q, region: %q, pathStyle: true, accessKeyId: %q, secretAccessKey: %q, timeout: 5s}}
recorder: {retryMax: 500ms}
`, strings.Replace(s.postgres.URL(), s.postgres.Addr(), address, 1), bucket, s.s3Faults.Endpoint, s.s3Config.Region, s.s3Config.AccessKeyID, s.s3Config.SecretAccessKey)
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// folder is where the archive's objects lie as files.
func (s *stores) folder() string { return filepath.Join(s.s3.Folder, bucket, "shop") }

// replayed returns the archive's records as a fresh SQLite database has them after a
// replay.
func (s *stores) replayed(t *testing.T) events {
	t.Helper()
	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n")
	config := filepath.Join(t.TempDir(), "sqlite.yaml")
	if err := os.WriteFile(config, []byte(rest), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	_, stderr, code := run(t, "replay", "--config", config, "--data-dir", dir, "--yes")
	if code != 0 {
		t.Fatalf("replay ended with %d: %s", code, stderr)
	}
	return sqliteEvents(t, database(t, dir))
}

// check holds Postgres, the archive as it lies and SQLite filled from its raw
// records against what was sent, and against each other.
func (s *stores) check(t *testing.T, l *load) {
	t.Helper()
	inPostgres := postgresEvents(t, s.postgres, s.database)
	inArchive := parquetEvents(t, s.folder())
	inSQLite := s.replayed(t)
	l.compare(t, "Postgres", inPostgres.ids())
	l.compare(t, "archive", inArchive.ids())
	agree(t, "Postgres", "archive", inPostgres, inArchive)
	agree(t, "Postgres", "SQLite", inPostgres, inSQLite)
}

// rounds is how often a test repeats itself; make soak asks for more.
func rounds(t *testing.T, usual int) int {
	t.Helper()
	if s := os.Getenv("ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return usual
}

// TestKillWithPostgresAndS3 kills furrow with SIGKILL at random moments, inside
// transactions and range writes too, while now and then a store is cut off. In the
// end Postgres, the archive and SQLite hold every event that was answered 200, once,
// and agree on every cell.
func TestKillWithPostgresAndS3(t *testing.T) {
	t.Parallel()
	s := anyStore(t)
	l := &load{sent: map[string]bool{}, answered: map[string]bool{}, pace: 5 * time.Millisecond}
	dir := t.TempDir()
	n := rounds(t, 5)
	for round := range n {
		p := start(t, dir, "serve", "--config", s.config)
		ctx, cancel := context.WithCancel(t.Context())
		done := l.run(ctx, p, round)
		pause(time.Duration(100+rand.IntN(900)) * time.Millisecond)
		switch rand.IntN(4) {
		case 0:
			s.s3Proxy.Cut()
		case 1:
			s.postgresProxy.Cut()
		case 2:
			s.s3Faults.Next(2, s3test.Lose, nil)
		}
		pause(time.Duration(100+rand.IntN(900)) * time.Millisecond)
		p.kill()
		cancel()
		<-done
		s.s3Proxy.Restore()
		s.postgresProxy.Restore()
		s.s3Faults.Clear()
	}
	p := start(t, dir, "serve", "--config", s.config)
	eventually(t, 60*time.Second, func() error { return settled(p) })
	p.stop(t)
	t.Logf("%d kills: %d events sent, %d answered 200", n, len(l.sent), len(l.answered))
	s.check(t, l)
}

// TestStoresAway takes the stores away one after the other under load: S3 cut off,
// slow, answering 503; Postgres cut off, restarted. The collector and the other
// consumers do not notice; the one that is hit says why and goes on by itself.
func TestStoresAway(t *testing.T) {
	t.Parallel()
	s := anyStore(t)
	p := start(t, t.TempDir(), "serve", "--config", s.config)
	l := &load{sent: map[string]bool{}, answered: map[string]bool{}, pace: 20 * time.Millisecond}
	ctx, cancel := context.WithCancel(t.Context())
	done := l.run(ctx, p, 0)
	eventually(t, 30*time.Second, func() error { return fresh(p, "recorder-store") })

	for _, trouble := range []struct {
		name       string
		hit, other string // groups
		begin, end func()
	}{
		{"S3 is cut off", "recorder-archive", "recorder-store", s.s3Proxy.Cut, s.s3Proxy.Restore},
		{"S3 answers 503", "recorder-archive", "recorder-store", func() { s.s3Faults.Next(1<<30, s3test.SlowDown, nil) }, s.s3Faults.Clear},
		{"S3 hangs", "recorder-archive", "recorder-store", s.s3Proxy.Hang, s.s3Proxy.Restore},
		{"Postgres is cut off", "recorder-store", "recorder-archive", s.postgresProxy.Cut, s.postgresProxy.Restore},
		{"Postgres hangs", "recorder-store", "recorder-archive", s.postgresProxy.Hang, s.postgresProxy.Restore},
		{"Postgres is down", "recorder-store", "recorder-archive", s.postgres.Stop, func() { s.postgres.Restart("immediate") }},
	} {
		t.Logf("%s", trouble.name)
		trouble.begin()
		eventually(t, 60*time.Second, func() error { return troubled(p, trouble.hit) })
		// While it lasts, the others keep up.
		for range 3 {
			if err := fresh(p, trouble.other); err != nil {
				eventually(t, 10*time.Second, func() error { return fresh(p, trouble.other) })
			}
			eventually(t, 2*time.Second, func() error { return recommends(p) })
			pause(300 * time.Millisecond)
		}
		if status, _, _ := get(t, p.public+"/readyz"); status != http.StatusOK {
			t.Errorf("%s: the collector answers /readyz with %d", trouble.name, status)
		}
		trouble.end()
		eventually(t, 90*time.Second, func() error { return fresh(p, trouble.hit) })
	}
	// Slow is no failure: everything is recorded, only later.
	s.s3Proxy.Latency(300 * time.Millisecond)
	pause(2 * time.Second)
	s.s3Proxy.Restore()
	cancel()
	<-done
	eventually(t, 60*time.Second, func() error { return settled(p) })
	p.stop(t)
	if refused := l.refused.Load(); refused > 0 {
		t.Errorf("%d requests were not answered 200", refused)
	}
	t.Logf("%d events answered 200", len(l.answered))
	s.check(t, l)
}

// stageOf reads one stage of the status.
func stageOf(p *process, name string) (ready bool, reason string, lag float64, err error) {
	var status struct {
		Stages []struct {
			Name       string  `json:"name"`
			Ready      bool    `json:"ready"`
			Reason     string  `json:"reason"`
			LagSeconds float64 `json:"lag_seconds"`
		} `json:"stages"`
	}
	if err := getJSON(p.admin+"/status", &status); err != nil {
		return false, "", 0, err
	}
	for _, s := range status.Stages {
		if s.Name == name {
			return s.Ready, s.Reason, s.LagSeconds, nil
		}
	}
	return false, "", 0, fmt.Errorf("no stage %s in the status", name)
}

// fresh returns nil while a group works and is at most five seconds behind.
func fresh(p *process, group string) error {
	ready, reason, lag, err := stageOf(p, group)
	switch {
	case err != nil:
		return err
	case !ready:
		return fmt.Errorf("%s: %s", group, reason)
	case lag > 5:
		return fmt.Errorf("%s is %.1f s behind", group, lag)
	}
	return nil
}

// troubled returns nil while a group says that something is wrong.
func troubled(p *process, group string) error {
	ready, reason, _, err := stageOf(p, group)
	if err == nil && (ready || reason == "") {
		err = fmt.Errorf("%s does not say what is wrong", group)
	}
	return err
}

// recommends returns nil while the recommender is ready and answers.
func recommends(p *process) error {
	for _, path := range []string{"/readyz?role=recommender", "/v1/recommend?session_id=nobody"} {
		resp, err := http.Get(p.public + path)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", path, resp.Status)
		}
	}
	return nil
}

// TestStartWhileStoresAreAway starts over stores that are not there: the collector
// takes events, and they are recorded once the stores come.
func TestStartWhileStoresAreAway(t *testing.T) {
	t.Parallel()
	s := anyStore(t)
	s.s3Proxy.Cut()
	s.postgresProxy.Cut()
	p := start(t, t.TempDir(), "serve", "--config", s.config)
	l := &load{sent: map[string]bool{}, answered: map[string]bool{}, pace: 20 * time.Millisecond}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	<-l.run(ctx, p, 0)
	if len(l.answered) == 0 {
		t.Fatal("no event was answered 200")
	}
	for _, group := range []string{"recorder-store", "recorder-archive"} {
		eventually(t, 30*time.Second, func() error { return troubled(p, group) })
	}
	s.s3Proxy.Restore()
	s.postgresProxy.Restore()
	eventually(t, 60*time.Second, func() error { return settled(p) })
	p.stop(t)
	s.check(t, l)
}

// TestResendsAreOneRowAfterCompaction sends every event several times, in ranges of
// their own. The database has each once at once; the archive once its hour is
// merged, which a later clock does here.
func TestResendsAreOneRowAfterCompaction(t *testing.T) {
	t.Parallel()
	s := anyStore(t)
	p := start(t, t.TempDir(), "serve", "--config", s.config)
	l := &load{sent: map[string]bool{}, answered: map[string]bool{}}
	const resends, batches = 3, 40
	bodies := make([]string, batches)
	for i := range bodies {
		id := l.id()
		l.answered[id] = true
		bodies[i] = tp2(map[string]string{"e": "pv", "p": "web", "tv": "e2e", "eid": id, "aid": "resend", "duid": "u" + id, "url": "http://shop/product/1"})
	}
	for range resends {
		for _, body := range bodies {
			if status, err := p.send(http.DefaultClient, body); err != nil || status != http.StatusOK {
				t.Fatal(status, err)
			}
		}
		eventually(t, 30*time.Second, func() error { return settled(p) })
		pause(1100 * time.Millisecond) // the age at which a range is rolled
	}
	eventually(t, 30*time.Second, func() error { return settled(p) })
	p.stop(t)
	l.compare(t, "Postgres", postgresEvents(t, s.postgres, s.database).ids())
	cfg := archive.Default()
	cfg.URL, cfg.S3 = "s3://"+bucket+"/shop", archive.S3(s.s3Config)
	a, err := archive.Open(t.TempDir(), cfg, prometheus.NewRegistry(), discard())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, err := a.Compact(t.Context(), time.Now().Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	s.check(t, l)
}
