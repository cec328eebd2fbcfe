package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// oneLine asserts that a command failed with one clear line that says all of want.
func oneLine(t *testing.T, stderr string, code int, want ...string) {
	t.Helper()
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if n := strings.Count(strings.TrimSpace(stderr), "\n") + 1; n != 1 {
		t.Errorf("said %d lines, want one:\n%s", n, stderr)
	}
	for _, w := range want {
		if !strings.Contains(stderr, w) {
			t.Errorf("%q does not say %q", stderr, w)
		}
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, stderr, code := run(t, "serve", "--listen", l.Addr().String(), "--admin", "127.0.0.1:0", "--data-dir", t.TempDir())
	oneLine(t, stderr, code, l.Addr().String(), "in use", "--listen")
	_, stderr, code = run(t, "serve", "--listen", "127.0.0.1:0", "--admin", l.Addr().String(), "--data-dir", t.TempDir())
	oneLine(t, stderr, code, l.Addr().String(), "in use", "--admin")
}

func TestDataFolderInUse(t *testing.T) {
	t.Parallel()
	p := start(t, t.TempDir(), "serve")
	_, stderr, code := run(t, "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir", p.dir)
	oneLine(t, stderr, code, p.dir, "in use", "--data-dir", fmt.Sprint(p.cmd.Process.Pid))
}

func TestDataFolderUnwritable(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(file, "data")
	_, stderr, code := run(t, "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir", folder)
	oneLine(t, stderr, code, folder, "--data-dir")
	_, stderr, code = run(t, "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir", "/proc/furrow-data")
	oneLine(t, stderr, code, "/proc/furrow-data", "--data-dir")
}

func TestUnknownFlag(t *testing.T) {
	t.Parallel()
	_, stderr, code := run(t, "serve", "--lisen", ":1")
	oneLine(t, stderr, code, "--lisen", "--help")
}

func TestCheck(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "furrow.yaml")
	if err := os.WriteFile(file, []byte("listen: nowhere\nadmin: 1\nlog: {level: loud}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := run(t, "check", "--config", file)
	for _, want := range []string{"listen", "admin", "log.level", "nowhere", "loud", file} {
		if !strings.Contains(stderr, want) {
			t.Errorf("check does not say %q in:\n%s", want, stderr)
		}
	}
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	stdout, stderr, code := run(t, "check", "--listen", ":9999")
	if code != 0 || !strings.Contains(stdout, ":9999") {
		t.Errorf("check of a good configuration: %d\n%s%s", code, stdout, stderr)
	}
}

// TestBadInput sends what breaks fragile collectors. Nothing gives a 500, nothing
// that was answered 200 is lost: it is an event or a bad row.
func TestBadInput(t *testing.T) {
	t.Parallel()
	p := start(t, t.TempDir(), "serve")
	path := "/com.snowplowanalytics.snowplow/tp2"
	stored := 0
	for name, c := range map[string]struct {
		method, target, contentType, body string
		status                            int
	}{
		"three segments":        {"POST", "/a/b/c", "application/json", "{}", 404},
		"one segment":           {"GET", "/nothing", "", "", 404},
		"too large":             {"POST", path, "application/json", strings.Repeat("x", 9<<20), 413},
		"broken JSON":           {"POST", path, "application/json", `{"schema":`, 200},
		"no JSON":               {"POST", path, "application/json", "hello", 200},
		"empty":                 {"POST", path, "application/json", "", 200},
		"not UTF-8":             {"POST", path, "application/json", "\xff\xfe{\x80}", 200},
		"NUL":                   {"POST", path, "application/json", tp2(map[string]string{"e": "se", "p": "web", "tv": "t", "se_ca": "a\x00b", "se_ac": "c"}), 200},
		"unknown parameter":     {"POST", path, "application/json", tp2(map[string]string{"e": "pv", "p": "web", "tv": "t", "nonsense": "1"}), 200},
		"deep JSON":             {"POST", path, "application/json", strings.Repeat("[", 100000), 200},
		"broken escapes":        {"GET", "/i?e=pv&p=web&page=%E0%A4%A&url=http://x/{a|b}", "", "", 200},
		"unknown GET parameter": {"GET", "/i?e=pv&p=web&tv=t&nonsense=%00", "", "", 200},
		"no parameters":         {"GET", "/i", "", "", 200},
		"other vendor":          {"POST", "/com.acme/v9", "text/plain", "x", 200},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), c.method, p.public+c.target, strings.NewReader(c.body))
			if err != nil {
				// net/http refuses to send it; a raw socket does not mind.
				req, err = http.NewRequestWithContext(t.Context(), c.method, p.public, nil)
				if err != nil {
					t.Fatal(err)
				}
				target, query, _ := strings.Cut(c.target, "?")
				req.URL.Opaque = strings.TrimPrefix(p.public, "http:") + target
				req.URL.RawQuery = query
			}
			if c.contentType != "" {
				req.Header.Set("Content-Type", c.contentType)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			io.Copy(io.Discard, resp.Body)
			if resp.StatusCode != c.status {
				t.Errorf("status %d, want %d", resp.StatusCode, c.status)
			}
		})
		if c.status == 200 {
			stored++
		}
	}
	wantCount(t, p.database(t), stored, "SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM bad_rows)")
	p.stop(t)
}

// TestCorruptJournal damages a journal that was left by a killed process: the
// range is set aside and shown, and the collector starts.
func TestCorruptJournal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, dir, "serve", "--roles", "collector,inspector")
	body := tp2(map[string]string{"e": "pv", "p": "web", "tv": "t", "page": strings.Repeat("corrupt me ", 50)})
	for range 200 {
		if status, err := p.send(http.DefaultClient, body); err != nil || status != 200 {
			t.Fatal(status, err)
		}
	}
	p.kill()
	p = start(t, dir, "serve", "--roles", "collector,inspector") // seals the first segment
	if status, err := p.send(http.DefaultClient, body); err != nil || status != 200 {
		t.Fatal(status, err)
	}
	p.kill()
	segments, err := filepath.Glob(filepath.Join(dir, "journal", "*"))
	if err != nil || len(segments) == 0 {
		t.Fatal(segments, err)
	}
	damaged := false
	for _, s := range segments {
		text, err := os.ReadFile(s)
		if err != nil || len(text) < 100000 {
			continue
		}
		for i := range 64 {
			text[60000+i] ^= 0xff
		}
		if err := os.WriteFile(s, text, 0o600); err != nil {
			t.Fatal(err)
		}
		damaged = true
		break
	}
	if !damaged {
		t.Fatalf("no segment to damage in %v", segments)
	}
	p = start(t, dir, "serve")
	eventually(t, 20*time.Second, func() error {
		_, _, status := get(t, p.admin+"/status")
		if !strings.Contains(status, "set_aside") {
			return fmt.Errorf("the status does not show the damage: %s", status)
		}
		n, err := count(p.database(t), "SELECT count(*) FROM events")
		if err != nil {
			return err
		}
		if n < 100 {
			return fmt.Errorf("only %d of the undamaged events are recorded", n)
		}
		return nil
	})
	if status, err := p.send(http.DefaultClient, body); err != nil || status != 200 {
		t.Errorf("after the damage: %d %v", status, err)
	}
}
