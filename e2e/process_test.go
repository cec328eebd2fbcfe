package e2e

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite"
)

// binary is the program under test.
func binary(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../bin/furrow")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run make build first", err)
	}
	return path
}

// unavailable skips a test whose component is missing, or fails it in CI, where
// nothing that apt and npm supply may be missing.
func unavailable(t *testing.T, component string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing", component)
	}
	t.Skipf("SKIPPED: %s is missing", component)
}

// process is a running furrow.
type process struct {
	dir    string // data folder
	public string // http://127.0.0.1:port
	admin  string
	shop   string // of furrow demo

	cmd    *exec.Cmd
	exited chan error
	mu     sync.Mutex
	stderr bytes.Buffer
	stdout bytes.Buffer
}

var addresses = regexp.MustCompile(`(?m)^  (collector|inspector|demo shop) +(http://\S+)`)

// start runs a furrow command on free ports over a data folder and waits until it
// says that it is ready. It is ended with the test.
func start(t *testing.T, dir, command string, args ...string) *process {
	t.Helper()
	p, err := launch(t, dir, command, args...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func launch(t *testing.T, dir, command string, args ...string) (*process, error) {
	t.Helper()
	args = append([]string{command, "--data-dir", dir, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"}, args...)
	p := &process{dir: dir, cmd: exec.Command(binary(t), args...), exited: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), "GOTRACEBACK=all")
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stderr = writerFunc(func(b []byte) (int, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.stderr.Write(b)
	})
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan struct{})
	go p.read(stdout, ready)
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("furrow said:\n%s%s", p.output(), p.errors())
		}
	})
	select {
	case <-ready:
	case err := <-p.exited:
		p.exited <- err
		return nil, fmt.Errorf("furrow %s ended: %w\n%s", command, err, p.errors())
	case <-time.After(30 * time.Second):
		return nil, fmt.Errorf("furrow %s did not become ready:\n%s%s", command, p.output(), p.errors())
	}
	for _, m := range addresses.FindAllStringSubmatch(p.output(), -1) {
		switch m[1] {
		case "collector":
			p.public = m[2]
		case "inspector":
			p.admin = m[2]
		case "demo shop":
			p.shop = m[2]
		}
	}
	if p.public == "" || p.admin == "" {
		return nil, fmt.Errorf("no addresses in %q", p.output())
	}
	return p, nil
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// read follows standard output until it ends, then reaps the process.
func (p *process) read(stdout io.Reader, ready chan struct{}) {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		p.mu.Lock()
		p.stdout.WriteString(lines.Text() + "\n")
		p.mu.Unlock()
		if strings.HasPrefix(lines.Text(), "Ready in") {
			close(ready)
		}
	}
	p.exited <- p.cmd.Wait()
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stdout.String()
}

func (p *process) errors() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// kill ends the process at once, as a power switch would.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	err := <-p.exited
	p.exited <- err
}

// stop asks for a clean stop and fails the test when it is not one.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-p.exited:
		p.exited <- err
		if err != nil {
			t.Fatalf("SIGTERM ended in %v:\n%s", err, p.errors())
		}
	case <-time.After(40 * time.Second):
		t.Fatalf("SIGTERM did not stop it:\n%s", p.errors())
	}
}

// eventually polls until check returns nil, at most for the given time.
func eventually(t *testing.T, limit time.Duration, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("after %v still: %v", limit, err)
		case <-tick.C:
		}
	}
}

// database opens furrow.db for reading.
func (p *process) database(t *testing.T) *sql.DB {
	t.Helper()
	return database(t, p.dir)
}

func database(t *testing.T, dir string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "furrow.db")+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// count runs a query that returns one number.
func count(db *sql.DB, query string, args ...any) (n int, err error) {
	err = db.QueryRow(query, args...).Scan(&n)
	return n, err
}

// wantCount waits until a query returns a number.
func wantCount(t *testing.T, db *sql.DB, want int, query string, args ...any) {
	t.Helper()
	eventually(t, 15*time.Second, func() error {
		n, err := count(db, query, args...)
		if err != nil {
			return err
		}
		if n != want {
			return fmt.Errorf("%s = %d, want %d", query, n, want)
		}
		return nil
	})
}

// get fetches a URL and returns status, header and body.
func get(t *testing.T, url string) (int, http.Header, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

// getJSON fetches a URL into v.
func getJSON(url string, v any) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return fmt.Errorf("%s: %s: %s", url, resp.Status, body)
	}
	return json.NewDecoder(resp.Body).Decode(v)
}

// run executes a command to its end and returns what it printed and its exit code.
func run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), binary(t), args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// tp2 makes a POST body of events.
func tp2(events ...map[string]string) string {
	data, err := json.Marshal(map[string]any{
		"schema": "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4", "data": events,
	})
	if err != nil {
		panic(err)
	}
	return string(data)
}

// send posts events and returns the status.
func (p *process) send(client *http.Client, body string) (int, error) {
	resp, err := client.Post(p.public+"/com.snowplowanalytics.snowplow/tp2", "application/json; charset=utf-8", strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
