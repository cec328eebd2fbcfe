package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"furrow/internal/enrich"
	"furrow/internal/event"
	"furrow/internal/snowplow"

	"github.com/google/go-cmp/cmp"
)

// enrichedLines are events of a shop as another pipeline enriched them some days
// ago, four to a session.
func enrichedLines(t *testing.T, sessions int) []string {
	t.Helper()
	enricher, err := enrich.New(enrich.Options{Artifact: "snowplow-enrich", Version: "3.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now().UTC().AddDate(0, 0, -3).Truncate(time.Hour)
	var lines []string
	for session := range sessions {
		at := began.Add(time.Duration(session) * 2 * time.Hour / time.Duration(sessions))
		var batch []map[string]string
		for step := range 4 {
			e := view(click{fmt.Sprint(session), fmt.Sprint((session*session + step*step*(session%3+1)) % 23)})
			e["eid"] = fmt.Sprintf("00000000-0000-4000-8000-%012d", session*4+step)
			e["page"], e["refr"] = "Ünïcode & more", "https://www.google.com/search?q=shoes"
			batch = append(batch, e)
		}
		record := snowplow.AppendPayload(nil, &event.Payload{
			IPAddress: "203.0.113.7", Timestamp: at.UnixMilli(), Encoding: "UTF-8", Collector: "ssc-3.0.0-kinesis",
			Path: event.Some("/com.snowplowanalytics.snowplow/tp2"), Body: event.Some(tp2(batch...)), ContentType: event.Some("application/json"),
		})
		for _, e := range enricher.Parse(record, at).Events {
			lines = append(lines, string(snowplow.AppendTSV(nil, e)))
		}
	}
	if len(lines) != 4*sessions {
		t.Fatalf("%d lines of %d sessions", len(lines), sessions)
	}
	return lines
}

// ofLines reads the lines as a store has them.
func ofLines(t *testing.T, lines []string) events {
	t.Helper()
	all := events{}
	for _, line := range lines {
		r := row{}
		for i, cell := range strings.Split(line, "\t") {
			if cell == "" {
				continue
			}
			if err := r.set(event.Fields()[i].Name(), cell); err != nil {
				t.Fatal(err)
			}
		}
		if err := all.add(r); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func joined(lines []string) []byte { return []byte(strings.Join(lines, "\n") + "\n") }

func gzipped(t *testing.T, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// imported sums up what furrow import --json says of its files.
type imported struct {
	Lines, Events, New, Doubles, Conflicts, Refused, Bad, NewBad, Archived, ResumedFrom int
	Rebuilt                                                                             bool
}

func importing(t *testing.T, args ...string) (sum imported, files int) {
	t.Helper()
	out := must(t, append([]string{"import", "snowplow", "--json"}, args...)...)
	for line := range strings.Lines(out) {
		var one imported
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		files++
		sum.Lines += one.Lines
		sum.Events += one.Events
		sum.New += one.New
		sum.Doubles += one.Doubles
		sum.Conflicts += one.Conflicts
		sum.Refused += one.Refused
		sum.Bad += one.Bad
		sum.NewBad += one.NewBad
		sum.Archived += one.Archived
		sum.Rebuilt = sum.Rebuilt || one.Rebuilt
	}
	return sum, files
}

// TestImportBringsHistoryAlong imports files, compressed files and folders, while
// furrow serves and without one. The events are in the database and the archive, cell
// by cell; the recommender has learned from them; an import again, and a live resend
// of an event, change nothing; what is no event is a bad row.
func TestImportBringsHistoryAlong(t *testing.T) {
	t.Parallel()
	lines := enrichedLines(t, 60)
	want := ofLines(t, lines)
	wrong := []string{"no event", strings.Join(strings.Split(lines[0], "\t")[:130], "\t"), strings.Replace(lines[1], "\t20", "\tsoon20", 1)}
	with := slices.Concat(lines[:100], []string{wrong[0], "", wrong[1]}, lines[100:], wrong[2:])
	folder := t.TempDir()
	plain, packed, several := filepath.Join(folder, "plain.tsv"), filepath.Join(folder, "packed.gz"), filepath.Join(folder, "several")
	writeFile(t, plain, joined(with))
	writeFile(t, packed, gzipped(t, []byte(strings.Join(with, "\r\n")))) // without an end, too
	writeFile(t, filepath.Join(several, "run=1", "part-00000.gz"), slices.Concat(gzipped(t, joined(with[:50])), gzipped(t, joined(with[50:90]))))
	writeFile(t, filepath.Join(several, "run=1", "part-00001"), joined(with[90:]))
	writeFile(t, filepath.Join(several, "run=2", "part-00000"), joined(with[:20])) // of which all are doubles
	writeFile(t, filepath.Join(several, "run=2", ".part-00000.crc"), []byte("no lines at all\n"))
	writeFile(t, filepath.Join(several, "empty"), nil)
	learned := make(chan map[string][]string, 4)
	t.Cleanup(func() {
		close(learned)
		first := <-learned
		for other := range learned {
			if diff := cmp.Diff(first, other); diff != "" {
				t.Errorf("two imports taught different things:\n%s", diff)
			}
		}
	})
	for _, c := range []struct {
		name, source   string
		files, doubles int
		serving        bool
	}{
		{"a file, serving", plain, 1, 0, true},
		{"a compressed file", packed, 1, 0, false},
		{"a folder, serving", several, 4, 20, true},
		{"a folder", several, 4, 20, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			var p *process
			if c.serving {
				p = start(t, dir, "serve")
			}
			sum, files := importing(t, "--data-dir", dir, c.source)
			if files != c.files || sum.New != len(lines) || sum.Doubles != c.doubles || sum.Bad != len(wrong) || sum.NewBad != len(wrong) || !sum.Rebuilt {
				t.Errorf("%d files: %+v", files, sum)
			}
			if sum, _ := importing(t, "--data-dir", dir, c.source); sum.New+sum.NewBad+sum.Archived > 0 {
				t.Errorf("imported again: %+v", sum)
			}
			causes := causesOf(t, dir)
			for cause := range causes {
				if !strings.HasPrefix(cause, "loader_parsing_error: ") {
					t.Errorf("a line that is no event is bad because of %s", cause)
				}
			}
			if len(causes) != len(wrong) {
				t.Errorf("bad rows: %v", causes)
			}
			if !c.serving {
				p = start(t, dir, "serve")
			}
			got := lists(t, p, []string{sid(0), sid(1), sid(2), sid(33)})
			for session, items := range got {
				for i := range items {
					items[i], _, _ = strings.Cut(items[i], " ") // scores depend on the time of the question
				}
				if slices.Sort(items); len(items) == 0 {
					t.Errorf("session %s is recommended nothing", session)
				}
			}
			learned <- got

			resend := view(click{"0", "0"})
			resend["eid"] = lines[0][strings.Index(lines[0], "00000000-0000-4000-8000-"):][:36]
			if status, err := p.send(http.DefaultClient, tp2(resend)); err != nil || status != http.StatusOK {
				t.Fatal(status, err)
			}
			eventually(t, 15*time.Second, func() error { return settled(p) })
			p.stop(t)
			now := sqliteContents(t, dir)
			agree(t, "the source", "the database", want, now.events)
			if len(now.bad) != len(wrong) {
				t.Errorf("%d bad rows, want %d", len(now.bad), len(wrong))
			}
			// Until its hour is merged the archive may hold what came twice; the
			// resend is of another hour than the import.
			compact(t, dir)
			compactedAgree(t, dir, want)
		})
	}
}

// compactedAgree wants the events in the archive, once.
func compactedAgree(t *testing.T, dir string, want events) {
	t.Helper()
	doubled := 0
	for id, n := range archivedIDs(t, dir) {
		doubled += n - 1
		if want[id] == nil {
			t.Errorf("the archive has %s, which nobody sent", id)
		}
	}
	if doubled > 0 {
		t.Errorf("the archive has %d events twice", doubled)
	}
	agree(t, "the source", "the archive", want, parquetEvents(t, filepath.Join(dir, "archive")))
}

// TestImportFromS3 imports a prefix of a bucket into Postgres and an archive on S3.
func TestImportFromS3(t *testing.T) {
	t.Parallel()
	s := anyStore(t)
	lines := enrichedLines(t, 30)
	want := ofLines(t, lines)
	for i, part := range [][]string{lines[:40], lines[40:90], lines[90:]} {
		writeFile(t, filepath.Join(s.s3.Folder, bucket, "enriched", "run=1", fmt.Sprintf("part-%05d.gz", i)), gzipped(t, joined(part)))
	}
	writeFile(t, filepath.Join(s.s3.Folder, bucket, "enriched", "run=2", "part-00000"), []byte("not to be imported\n"))
	dir := t.TempDir()
	p := start(t, dir, "serve", "--config", s.config)
	args := []string{"--data-dir", dir, "--config", s.config, "s3://" + bucket + "/enriched/run=1/"}
	if sum, files := importing(t, args...); files != 3 || sum.New != len(lines) || sum.Bad != 0 {
		t.Errorf("%d files: %+v", files, sum)
	}
	p.stop(t)
	if sum, _ := importing(t, args...); sum.New+sum.Archived > 0 {
		t.Errorf("imported again, without a furrow: %+v", sum)
	}
	now := s.contents(t)
	agree(t, "the source", "Postgres", want, now.events)
	agree(t, "the source", "the archive on S3", want, parquetEvents(t, s.folder()))

	// Replays bring back what was imported.
	s.empty(t)
	must(t, "replay", "--data-dir", dir, "--config", s.config, "--yes")
	now.equal(t, "after a replay", s.contents(t))
}

// TestImportGoesOnWhereItWasStopped stops the command and kills furrow while they
// work on many lines. All are there in the end, once, and memory stays modest.
func TestImportGoesOnWhereItWasStopped(t *testing.T) {
	t.Parallel()
	const n = 100_000
	lines := enrichedLines(t, 250)
	file := filepath.Join(t.TempDir(), "enriched.tsv.gz")
	var all bytes.Buffer
	for i := range n {
		line := lines[i%len(lines)]
		at := strings.Index(line, "00000000-0000-4000-8000-")
		fmt.Fprintf(&all, "%s00000000-0000-4000-8000-%012d%s\n", line[:at], i, line[at+36:])
	}
	writeFile(t, file, gzipped(t, all.Bytes()))
	dir := t.TempDir()
	args := []string{"import", "snowplow", "--data-dir", dir, file}

	p := start(t, dir, "serve")
	j := background(t, args...)
	j.untilRows(t, dir, 1)
	j.interrupt(t, syscall.SIGINT)
	j = again(t, args...)
	j.untilRows(t, dir, n/4)
	p.kill()
	j.wantFailure(t)
	p = start(t, dir, "serve")
	j = again(t, args...)
	j.untilRows(t, dir, n/2)
	j.interrupt(t, syscall.SIGKILL)
	j = again(t, args...)
	j.untilRows(t, dir, n*3/4)
	if peak := peakMemory(p.cmd.Process.Pid); peak > 600<<20 {
		t.Errorf("furrow took %d MB for %d lines", peak>>20, n)
	}
	if peak := peakMemory(j.cmd.Process.Pid); peak > 100<<20 {
		t.Errorf("the command took %d MB for %d lines", peak>>20, n)
	}
	t.Logf("peak memory: furrow %d MB, the command %d MB", peakMemory(p.cmd.Process.Pid)>>20, peakMemory(j.cmd.Process.Pid)>>20)
	<-j.ended
	if j.err != nil {
		t.Fatal(j.err, j.stderr.String())
	}
	p.stop(t)
	for where, ids := range map[string]map[string]int{"database": storedIDs(t, database(t, dir)), "archive": archivedIDs(t, dir)} {
		sum := 0
		for times := range maps.Values(ids) {
			sum += times
		}
		if len(ids) != n || sum != n {
			t.Errorf("the %s has %d events of %d, %d doubled", where, len(ids), n, sum-len(ids))
		}
	}
}

// peakMemory is what a process had resident at most, 0 where that is not told.
func peakMemory(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10
		}
	}
	return 0
}

// TestMistakesOfImport: a wrong command says what is wrong with it.
func TestMistakesOfImport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cut := filepath.Join(t.TempDir(), "cut.gz")
	whole := gzipped(t, joined(enrichedLines(t, 5)))
	writeFile(t, cut, whole[:len(whole)/2])
	hollow := t.TempDir()
	for _, c := range []struct{ source, want string }{
		{filepath.Join(dir, "nowhere.tsv"), "no such file"},
		{hollow, "nothing to import in " + hollow},
		{"s3:///", `"s3:///"`},
		{cut, "cut short"},
	} {
		stdout, stderr, code := run(t, "import", "snowplow", "--data-dir", dir, c.source)
		if code != 1 || stdout != "" || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("import %s ended with %d and said %q, want one line with %q", c.source, code, stdout+stderr, c.want)
		}
	}
	if _, stderr, code := run(t, "import", "snowplow", "--data-dir", dir); code != 1 || !strings.Contains(stderr, "name a file, a folder or an s3:// address") {
		t.Errorf("import of nothing ended with %d and said %q", code, stderr)
	}
	// What a source that is cut short holds is not lost when the rest comes.
	writeFile(t, cut, whole)
	if sum, _ := importing(t, "--data-dir", dir, cut); sum.Events != 20 {
		t.Errorf("the whole source: %+v", sum)
	}
}
