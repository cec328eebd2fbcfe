package journal

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"furrow/internal/bus"
)

const (
	crashDir   = "FURROW_TEST_CRASH_DIR"
	crashRound = "FURROW_TEST_CRASH_ROUND"
)

// crashValue is what a child stores under an id; it cannot come from anywhere
// else.
func crashValue(id string) []byte {
	sum := sha256.Sum256([]byte(id))
	n := 200 + int(sum[0])*8
	return []byte(id + " " + strings.Repeat(hex.EncodeToString(sum[:]), n/64+1)[:n])
}

// TestCrashChild is not a test: it is the process that TestCrash kills. It
// writes each id to descriptor 3 after its Publish returned nil.
func TestCrashChild(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		return
	}
	cfg := small()
	cfg.SegmentBytes = 256 * kib
	j, err := Open(dir, cfg, []string{"g"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	pipe := os.NewFile(3, "acknowledged")
	sub, err := j.Subscribe(t.Context(), "g", nil, bus.Start{})
	if err != nil {
		t.Fatal(err)
	}
	go func() { // a consumer moves its position all the time
		for {
			b, err := sub.Next(t.Context())
			if err != nil || sub.Ack(t.Context(), b) != nil {
				return
			}
		}
	}()
	var work sync.WaitGroup
	var next atomic.Int64
	for range 32 {
		work.Go(func() {
			for {
				id := fmt.Sprintf("%s.%d", os.Getenv(crashRound), next.Add(1))
				m := bus.Message{Stream: bus.Raw, Key: []byte(id), Value: crashValue(id)}
				if err := j.Publish(t.Context(), m); err != nil {
					t.Errorf("Publish: %v", err)
					return
				}
				if _, err := pipe.WriteString(id + "\n"); err != nil { // one write, so lines stay whole
					return
				}
			}
		})
	}
	work.Wait() // until it is killed
}

// TestCrash kills a publishing process at random moments. Whatever it had
// confirmed must be there, once, as it was sent.
func TestCrash(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acked := map[string]bool{}
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	for round := range rounds {
		runAndKill(t, dir, round, 200+rand.IntN(4000), acked)
		verifyCrash(t, dir, acked)
	}
	t.Logf("%d acknowledged records in %d rounds, none missing", len(acked), rounds)
}

// runAndKill starts the child and kills it after so many acknowledgements.
func runAndKill(t *testing.T, dir string, round, after int, acked map[string]bool) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrashChild$")
	child.Env = append(os.Environ(), crashDir+"="+dir, fmt.Sprintf("%s=%d", crashRound, round))
	child.ExtraFiles = []*os.File{write}
	var output strings.Builder
	child.Stdout, child.Stderr = &output, &output
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	lines := bufio.NewScanner(read)
	for n := 0; lines.Scan(); n++ { // goes on behind the kill: these were confirmed too
		acked[lines.Text()] = true
		if n == after {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := child.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the child ended by itself: %v\n%s", err, output.String())
	}
}

func verifyCrash(t *testing.T, dir string, acked map[string]bool) {
	t.Helper()
	cfg := small()
	j, err := Open(dir, cfg, []string{"g"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	seen := map[string]bool{}
	for _, v := range get(t, j) {
		id, _, _ := strings.Cut(v, " ")
		if v != string(crashValue(id)) {
			t.Fatalf("a record was invented or changed: %.80q", v)
		}
		if seen[id] {
			t.Fatalf("record %s is there twice", id)
		}
		seen[id] = true
	}
	for id := range acked {
		if !seen[id] {
			t.Fatalf("record %s was acknowledged and is gone; %d acknowledged, %d found", id, len(acked), len(seen))
		}
	}
	st := j.Status()
	if len(st.SetAside) > 0 {
		t.Fatalf("set aside %+v", st.SetAside)
	}
	if g := st.Groups[0]; g.Position > st.Head {
		t.Fatalf("the consumer is at %s, the head at %s", g.Position, st.Head)
	}
}
