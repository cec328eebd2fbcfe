package store

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"furrow/internal/event"
)

const (
	crashEnv     = "FURROW_TEST_CRASH_AT" // path of the database and number of the round
	crashBatch   = 60
	crashPersons = 7 // the first two are forgotten again and again
)

func crashConfig() Config {
	cfg := Default()
	cfg.Retention = time.Hour
	return cfg
}

// crashRows is what a round's worker inserts as its n-th batch. Every second row is
// older than the retention.
func crashRows(round, n int) ([]Row, []event.BadRow) {
	rows := make([]Row, crashBatch)
	for i := range rows {
		at := noon
		if i%2 == 0 {
			at = noon.Add(-2 * time.Hour)
		}
		rows[i] = visit(i%crashPersons, (round*1000+n)*crashBatch+i, at)
	}
	return rows, badRows(append(lines(0, 3, 1), fmt.Sprint("\n", round, "/", n)...), 3, noon)
}

func crashOrder() Forgetting {
	return Forgetting{
		Identifiers: append(aliases(0), aliases(1)...), Until: noon.Add(time.Hour), Record: recordsOf(name(0), name(1)),
	}
}

// TestCrashWorker is the process that TestKilledAtAnyMoment kills.
func TestCrashWorker(t *testing.T) {
	where := os.Getenv(crashEnv)
	if where == "" {
		t.Skip("runs as a process of its own")
	}
	round, err := strconv.Atoi(os.Getenv(crashEnv + "_ROUND"))
	if err != nil {
		t.Fatal(err)
	}
	s := openAt(t, where, crashConfig())
	var wg sync.WaitGroup
	for _, work := range []func(context.Context) error{
		func(ctx context.Context) error { _, err := s.Trim(ctx, noon); return err },
		func(ctx context.Context) error { _, err := s.Forget(ctx, crashOrder()); return err },
	} {
		wg.Go(func() {
			for t.Context().Err() == nil {
				if err := work(t.Context()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for n := range 1000 {
		rows, bad := crashRows(round, n)
		insert(t, s, rows, bad...)
		if _, err := fmt.Fprintln(os.Stdout, "stored", n); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
}

// TestKilledAtAnyMoment kills a process that inserts, trims and forgets at once.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "furrow.db")
	for round := range 5 {
		batches := killedWorker(t, path, round)
		s := openAt(t, path, crashConfig())
		checkTotals(t, s)
		if row, err := s.writer.first("PRAGMA integrity_check"); err != nil || row[0] != "ok" {
			t.Fatalf("the file is broken: %v %v", row, err)
		}
		for n := range batches {
			rows, bad := crashRows(round, n)
			for i := range rows {
				if person := i % crashPersons; person > 1 && known(t, s, ids(rows[i:i+1])) != 1 {
					t.Fatalf("round %d: row %d of batch %d is lost", round, i, n)
				}
			}
			if got := eachBad(t, s, BadFilter{IDs: []string{bad[1].ID}, Records: true}); len(got) != 1 || !bytes.Contains(got[0].Payload, []byte(name(3))) {
				t.Fatalf("round %d: the bad row of batch %d is lost", round, n)
			}
		}
		// What was on the way is done by doing it again.
		trim(t, s, noon)
		forget(t, s, crashOrder())
		if left := traces(t, path, namesOf([]int{0, 1})); len(left) > 0 {
			t.Fatalf("%d traces, such as %s", len(left), left[0])
		}
		if done := forget(t, s, crashOrder()); done != (Forgotten{}) {
			t.Errorf("a second time: %+v", done)
		}
		if got := trim(t, s, noon); got != (Trimmed{}) {
			t.Errorf("a second time: %+v", got)
		}
		for n := range batches { // another owner replays
			rows, bad := crashRows(round, n)
			if done := insert(t, s, rows, bad[1]); done.Doubles < len(rows)*5/7-2 || done.Conflicts != 0 || done.BadDoubles != 1 {
				t.Errorf("a replay: %+v", done)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killedWorker runs a worker, kills it at some moment after its first batch, and
// returns how many batches it had said to have stored.
func killedWorker(t *testing.T, path string, round int) int {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	worker := exec.CommandContext(t.Context(), program, "-test.run=^TestCrashWorker$")
	worker.Env = append(os.Environ(), crashEnv+"="+path, fmt.Sprintf("%s_ROUND=%d", crashEnv, round))
	out, err := worker.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	stored := 0
	var kill sync.Once
	for said := bufio.NewScanner(out); said.Scan(); {
		if n, ok := bytes.CutPrefix(said.Bytes(), []byte("stored ")); ok && string(n) == strconv.Itoa(stored) {
			stored++
		} else {
			t.Errorf("the worker said %s", said.Text())
		}
		kill.Do(func() {
			after := time.Duration(rand.IntN(300)) * time.Millisecond
			time.AfterFunc(after, func() { _ = worker.Process.Kill() }) // it is gone when that fails
		})
	}
	if err := worker.Wait(); err == nil || stored == 0 {
		t.Fatalf("the worker ended by itself after %d batches: %v", stored, err)
	}
	return stored
}

// TestInsertsGoOnWhileRowsAreDeleted: an insert waits for one step at most.
func TestInsertsGoOnWhileRowsAreDeleted(t *testing.T) {
	t.Parallel()
	cfg := Default()
	cfg.Retention = time.Hour
	for name, work := range map[string]func(*SQLite) error{
		"trim": func(s *SQLite) error { _, err := s.Trim(t.Context(), noon); return err },
		"forget": func(s *SQLite) error {
			_, err := s.Forget(t.Context(), Forgetting{Identifiers: aliases(1), Until: noon, Record: recordsOf(namesOf([]int{1})...)})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, cfg)
			rows := make([]Row, 6000)
			for i := range rows {
				rows[i] = visit(1, 7*i+1, noon.Add(-2*time.Hour))
			}
			insert(t, s, rows, badRows(lines(1, 2), 2, noon)...)
			ended := make(chan error, 1)
			go func() { ended <- work(s) }()
			var longest time.Duration
			n := 0
			for running := true; running; n++ {
				begun := time.Now()
				insert(t, s, []Row{visit(2, n, noon)})
				longest = max(longest, time.Since(begun))
				select {
				case err := <-ended:
					if err != nil {
						t.Error(err)
					}
					running = false
				default:
				}
			}
			st, err := s.Status(t.Context())
			if err != nil || st.Events != int64(n) {
				t.Errorf("%d events, want %d; %v", st.Events, n, err)
			}
			t.Logf("%d inserts, the longest of %v", n, longest)
			// There are more steps than this; a machine in trouble may be slow.
			if n < 8 || longest > 3*time.Second {
				t.Errorf("%d inserts were made, the longest took %v", n, longest)
			}
		})
	}
}
