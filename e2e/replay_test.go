package e2e

import (
	"bufio"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"furrow/internal/archive"
	"furrow/internal/bus"
	"furrow/internal/event"
	"furrow/internal/snowplow"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// must runs a command that has to succeed and returns what it printed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, code := run(t, args...)
	if code != 0 {
		t.Fatalf("furrow %s ended with %d:\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// report runs a command with --json into v.
func report(t *testing.T, v any, args ...string) {
	t.Helper()
	if err := json.Unmarshal([]byte(must(t, append(args, "--json")...)), v); err != nil {
		t.Fatalf("furrow %s: %v", strings.Join(args, " "), err)
	}
}

// settingsFile writes a configuration.
func settingsFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "furrow.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

const capturedPaths = "collector: {paths: {/com.acme/t1: /com.snowplowanalytics.snowplow/tp2}}\n"

// sendCaptured sends what real trackers sent, and requests in which some events are
// bad, some have no id, and some are no requests at all.
func sendCaptured(t *testing.T, p *process) {
	t.Helper()
	for _, c := range capturedRequests(t) {
		if c.Method == http.MethodOptions {
			continue
		}
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.public, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.raw(conn, bufio.NewReader(conn))
		conn.Close()
		if err != nil {
			t.Fatalf("%s: %v", c.ID, err)
		}
	}
	for i := range 10 {
		page := map[string]string{"e": "pv", "p": "web", "tv": "e2e", "aid": "past", "url": fmt.Sprintf("http://shop/product/%d", i), "duid": "past"}
		bad := map[string]string{"e": "no such thing", "p": "web", "tv": "e2e", "aid": "past"}
		structured := map[string]string{"e": "se", "p": "web", "tv": "e2e", "aid": "other", "se_ca": "c", "se_ac": fmt.Sprint(i)}
		for _, body := range []string{tp2(page, bad, structured), tp2(bad), "{no JSON"} {
			if _, err := p.send(http.DefaultClient, body); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, 15*time.Second, func() error { return settled(p) })
}

// contents are what a database holds.
type contents struct {
	events events
	bad    map[string]string // by id
}

// withoutTimes leaves out of a failure when it was found.
func withoutTimes(failure string) string {
	var members map[string]any
	if json.Unmarshal([]byte(failure), &members) != nil {
		return failure
	}
	delete(members, "timestamp")
	text, _ := json.Marshal(members)
	return string(text)
}

func badCells(at, schema, failure, record, index string) string {
	return strings.Join([]string{at, schema, withoutTimes(failure), record, index}, "\n")
}

func sqliteContents(t *testing.T, dir string) contents {
	t.Helper()
	db := database(t, dir)
	defer db.Close()
	c := contents{events: sqliteEvents(t, db), bad: map[string]string{}}
	rows, err := db.Query("SELECT id, time, schema, failure, record, event_index FROM bad_rows")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, at, schema, failure, index string
		var record []byte
		if err := rows.Scan(&id, &at, &schema, &failure, &record, &index); err != nil {
			t.Fatal(err)
		}
		c.bad[id] = badCells(at, schema, failure, hex.EncodeToString(record), index)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return c
}

func (s *stores) contents(t *testing.T) contents {
	t.Helper()
	c := contents{events: postgresEvents(t, s.postgres, s.database), bad: map[string]string{}}
	text, err := s.postgres.SQL(s.database, `SELECT json_build_array(id, time::text, schema, failure::text, encode(record, 'hex'), event_index::text) FROM atomic.bad_rows`)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		var cells []string
		if err := json.Unmarshal([]byte(line), &cells); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		c.bad[cells[0]] = badCells(cells[1], cells[2], cells[3], cells[4], cells[5])
	}
	return c
}

// equal holds what a database has now against what it had.
func (c contents) equal(t *testing.T, when string, now contents) {
	t.Helper()
	agree(t, "before", when, c.events, now.events)
	if diff := cmp.Diff(c.bad, now.bad); diff != "" {
		t.Errorf("bad rows, -before +%s:\n%s", when, diff)
	}
}

func dropDatabase(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "furrow.db*"))
	if err != nil || len(files) == 0 {
		t.Fatal("there is no database to delete", err)
	}
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
}

// replayed is the report of furrow replay --json.
type replayed struct {
	Records, Events, Bad, Known, New, Doubles, Conflicts, Refused, NewBad, Published int
	ResumedFrom                                                                      time.Time
	Groups                                                                           []struct {
		App, Type string
		Events    int
	}
}

// TestReplayGivesTheDatabaseBack deletes the database and has it filled from the
// archive, by a furrow that serves and without one. It is as it was, twice changes
// nothing, and filters and bounds take what they say.
func TestReplayGivesTheDatabaseBack(t *testing.T) {
	t.Parallel()
	dir, config := t.TempDir(), settingsFile(t, capturedPaths)
	p := start(t, dir, "serve", "--config", config)
	sendCaptured(t, p)
	p.stop(t)
	before := sqliteContents(t, dir)
	if len(before.events) < 300 || len(before.bad) < 30 {
		t.Fatalf("%d events, %d bad rows: the corpus is not what it was", len(before.events), len(before.bad))
	}
	replay := func(args ...string) (r replayed) {
		t.Helper()
		report(t, &r, append([]string{"replay", "--data-dir", dir, "--config", config, "--yes"}, args...)...)
		return r
	}

	dropDatabase(t, dir)
	if r := replay("--preview"); r.Events < len(before.events) || r.Bad == 0 || r.Known != 0 {
		t.Errorf("the preview over an empty database says %+v", r)
	}
	if r := replay(); r.New != len(before.events) || r.NewBad != len(before.bad) {
		t.Errorf("the replay says %+v, want %d new events and %d new bad rows", r, len(before.events), len(before.bad))
	}
	before.equal(t, "after a replay", sqliteContents(t, dir))
	if r := replay(); r.New != 0 || r.NewBad != 0 {
		t.Errorf("the second replay says %+v", r)
	}
	before.equal(t, "after two", sqliteContents(t, dir))

	// A furrow that serves does it too: the command finds it.
	dropDatabase(t, dir)
	p = start(t, dir, "serve", "--config", config)
	if r := replay(); r.New != len(before.events) || r.NewBad != len(before.bad) {
		t.Errorf("the replay while furrow serves says %+v", r)
	}
	before.equal(t, "after a replay while furrow serves", sqliteContents(t, dir))
	if r := replay("--into", "bus"); r.Published == 0 || r.Published != r.Records {
		t.Errorf("the replay into the bus says %+v", r)
	}
	eventually(t, 15*time.Second, func() error { return settled(p) })
	before.equal(t, "after a replay into the bus", sqliteContents(t, dir))
	p.stop(t)

	// Filters and bounds.
	ofApp := before.filter(func(r row) bool { return r["app_id"] == "past" })
	ofType := before.filter(func(r row) bool { return r["event_name"] == "page_view" })
	var times []string
	for _, r := range before.events {
		times = append(times, r["collector_tstamp"])
	}
	slices.Sort(times)
	from, to := times[len(times)/4], times[len(times)*3/4]
	within := before.filter(func(r row) bool { return r["collector_tstamp"] >= from && r["collector_tstamp"] < to })
	for _, c := range []struct {
		args []string
		want events
	}{
		{[]string{"--app", "past"}, ofApp},
		{[]string{"--type", "page_view"}, ofType},
		{[]string{"--from", from + "Z", "--to", to + "Z"}, within},
	} {
		dropDatabase(t, dir)
		if len(c.want) == 0 || len(c.want) == len(before.events) {
			t.Fatalf("%v selects %d events and proves nothing", c.args, len(c.want))
		}
		preview := replay(append(c.args, "--preview")...)
		done := replay(c.args...)
		if done.New != len(c.want) || preview.Events != done.Events || preview.Bad != done.Bad {
			t.Errorf("replay %v: preview %+v, then %+v; want %d new events", c.args, preview, done, len(c.want))
		}
		agree(t, "selected", "replayed", c.want, sqliteContents(t, dir).events)
	}
}

func (c contents) filter(takes func(row) bool) events {
	some := events{}
	for id, r := range c.events {
		if takes(r) {
			some[id] = r
		}
	}
	return some
}

// TestReplayFromS3IntoPostgres fills an empty Postgres from an archive on S3, by a
// furrow that serves and without one.
func TestReplayFromS3IntoPostgres(t *testing.T) {
	t.Parallel()
	s := anyStore(t)
	dir := t.TempDir()
	p := start(t, dir, "serve", "--config", s.config)
	sendCaptured(t, p)
	p.stop(t)
	before := s.contents(t)
	if len(before.events) < 300 || len(before.bad) < 30 {
		t.Fatalf("%d events, %d bad rows: the corpus is not what it was", len(before.events), len(before.bad))
	}
	for _, serving := range []bool{false, true} {
		s.empty(t)
		if serving {
			p = start(t, dir, "serve", "--config", s.config)
		}
		for _, want := range []int{len(before.events), 0} {
			var r replayed
			report(t, &r, "replay", "--data-dir", dir, "--config", s.config, "--yes")
			if r.New != want {
				t.Errorf("serving: %v: %+v, want %d new events", serving, r, want)
			}
			before.equal(t, "after a replay", s.contents(t))
		}
		if serving {
			must(t, "replay", "--data-dir", dir, "--config", s.config, "--into", "bus", "--yes")
			eventually(t, 30*time.Second, func() error { return settled(p) })
			before.equal(t, "after a replay into the bus", s.contents(t))
			p.stop(t)
		}
	}
}

// empty takes everything out of Postgres.
func (s *stores) empty(t *testing.T) {
	t.Helper()
	if _, err := s.postgres.SQL(s.database, "DROP SCHEMA atomic CASCADE"); err != nil {
		t.Fatal(err)
	}
}

// TestReplayTeachesTheRecommender takes what the recommender learned away. After a
// replay its lists are those that it gave live.
func TestReplayTeachesTheRecommender(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, dir, "serve")
	sessions := sendSessions(t, p)
	live := lists(t, p, sessions)
	for session, items := range live {
		if len(items) == 0 {
			t.Errorf("session %s is recommended nothing", session)
		}
	}
	p.stop(t)
	forgetLearned := func() {
		if err := os.RemoveAll(filepath.Join(dir, "recommender")); err != nil {
			t.Fatal(err)
		}
	}
	same := func(how string) {
		t.Helper()
		if diff := cmp.Diff(live, lists(t, p, sessions)); diff != "" {
			t.Errorf("%s, -live +replayed:\n%s", how, diff)
		}
	}
	forgetLearned()
	if out := must(t, "replay", "--data-dir", dir, "--into", "recommender", "--yes"); !strings.Contains(out, "learned anew") {
		t.Errorf("it says\n%s", out)
	}
	p = start(t, dir, "serve")
	same("without a furrow that serves")
	p.stop(t)

	forgetLearned()
	p = start(t, dir, "serve")
	if out := must(t, "replay", "--data-dir", dir, "--into", "recommender", "--yes"); !strings.Contains(out, "learned anew") {
		t.Errorf("it says\n%s", out)
	}
	same("while furrow serves")
}

// sendSessions sends sessions of a shop and returns their names.
func sendSessions(t *testing.T, p *process) (sessions []string) {
	t.Helper()
	var batch []map[string]string
	for session := range 60 {
		for step := range 4 {
			batch = append(batch, view(click{fmt.Sprint(session), fmt.Sprint((session*session + step*step*(session%3+1)) % 23)}))
		}
		sessions = append(sessions, sid(session))
		if status, err := p.send(http.DefaultClient, tp2(batch...)); err != nil || status != http.StatusOK {
			t.Fatal(status, err)
		}
		batch = batch[:0]
	}
	eventually(t, 15*time.Second, func() error { return settled(p) })
	return sessions
}

// lists asks what each session is recommended because of sessions like it. The rest
// of a list depends on the time of the question.
func lists(t *testing.T, p *process, sessions []string) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	eventually(t, 15*time.Second, func() error { return recommends(p) })
	for _, session := range sessions {
		var answer struct {
			Items []struct {
				ID, Source string
				Score      float64
			}
		}
		if err := getJSON(p.public+"/v1/recommend?n=10&session_id="+session, &answer); err != nil {
			t.Fatal(err)
		}
		all[session] = []string{}
		for _, item := range answer.Items {
			if item.Source == "session_knn" {
				all[session] = append(all[session], fmt.Sprintf("%s %.6f", item.ID, item.Score))
			}
		}
		slices.Sort(all[session]) // equal scores come in any order
	}
	return all
}

// pastRecords puts records of the last hours into the archive of a data folder that
// no furrow has used, without a server, and returns their event ids.
func pastRecords(t *testing.T, dir string, n int) map[string]bool {
	t.Helper()
	a, err := archive.Open(filepath.Join(dir, "archive"), archive.Default(), prometheus.NewRegistry(), discard())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	ids := map[string]bool{}
	const perHour = 10_000
	first := time.Now().UTC().Truncate(time.Hour).Add(-time.Duration(n/perHour+2) * time.Hour)
	for hour := range (n + perHour - 1) / perHour {
		r, err := a.Begin(t.Context(), string(bus.Raw), "elsewhere", bus.Position(fmt.Sprintf("%012d", hour*perHour)))
		if err != nil {
			t.Fatal(err)
		}
		for i := hour * perHour; i < min(n, (hour+1)*perHour); i++ {
			at := first.Add(time.Duration(hour)*time.Hour + time.Duration(i%perHour)*100*time.Millisecond)
			record := snowplow.AppendPayload(nil, &event.Payload{
				IPAddress: "127.0.0.1", Timestamp: at.UnixMilli(), Encoding: "UTF-8", Collector: "e2e", Path: event.Some("/i"),
				Querystring: event.Some(fmt.Sprintf("e=pv&p=web&tv=e2e&aid=past&duid=u%d&url=http%%3A%%2F%%2Fshop%%2Fproduct%%2F%d", i%1000, i%77)),
			})
			id := event.NewRecordID(record)
			ids[event.DeriveEventID(id, 0)] = true
			if err := r.Add(archive.Entry{Record: record, ID: id, Time: at}); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Commit(t.Context(), bus.Position(fmt.Sprintf("%012d", (hour+1)*perHour-1))); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

// job is a command that the test may stop before its end.
type job struct {
	cmd    *exec.Cmd
	stderr strings.Builder // once it ended
	ended  chan struct{}
	err    error // once it ended
}

func background(t *testing.T, args ...string) *job {
	t.Helper()
	j := &job{cmd: exec.CommandContext(t.Context(), binary(t), args...), ended: make(chan struct{})}
	j.cmd.Stderr = &j.stderr
	if err := j.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		j.err = j.cmd.Wait()
		close(j.ended)
	}()
	return j
}

// over returns an error once the command has ended.
func (j *job) over() error {
	select {
	case <-j.ended:
		return fmt.Errorf("it ended too early: %w: %s", j.err, j.stderr.String())
	default:
		return nil
	}
}

// interrupt sends the command a signal and waits for its end, which must be no success.
func (j *job) interrupt(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := j.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	j.wantFailure(t)
}

func (j *job) wantFailure(t *testing.T) {
	t.Helper()
	select {
	case <-j.ended:
	case <-time.After(30 * time.Second):
		t.Fatalf("%v does not end", j.cmd.Args[1:])
	}
	if j.err == nil {
		t.Fatalf("%v was done before it could be stopped", j.cmd.Args[1:])
	}
	t.Logf("%v: %s", j.err, strings.TrimSpace(j.stderr.String()))
}

// rows counts the events of a database that may not be there yet.
func rows(dir string) int {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "furrow.db")+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		return 0
	}
	defer db.Close()
	n, _ := count(db, "SELECT rows FROM totals WHERE name = 'events'")
	return n
}

// untilRows waits until a command has brought the database to a number of rows.
func (j *job) untilRows(t *testing.T, dir string, want int) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		if err := j.over(); err != nil {
			t.Fatal(err)
		}
		if n := rows(dir); n < want {
			return fmt.Errorf("%d rows", n)
		}
		return nil
	})
}

// TestReplayGoesOnWhereItWasStopped stops and kills the command, and kills the
// furrow that works for one. The same command then goes on and all is there, once.
func TestReplayGoesOnWhereItWasStopped(t *testing.T) {
	t.Parallel()
	const records = 50_000
	dir := t.TempDir()
	want := pastRecords(t, dir, records)
	args := []string{"replay", "--data-dir", dir, "--yes"}
	complete := func() {
		t.Helper()
		stored := storedIDs(t, database(t, dir))
		doubled, missing := 0, 0
		for id := range want {
			if stored[id] == 0 {
				missing++
			}
		}
		for _, n := range stored {
			doubled += n - 1
		}
		if len(stored) != records || missing+doubled > 0 {
			t.Errorf("%d rows, %d missing, %d doubled", len(stored), missing, doubled)
		}
	}

	for _, stop := range []struct {
		rows   int
		signal syscall.Signal
	}{{1, syscall.SIGINT}, {records / 3, syscall.SIGKILL}} {
		j := background(t, args...)
		j.untilRows(t, dir, stop.rows)
		j.interrupt(t, stop.signal)
	}
	var r replayed
	report(t, &r, args...)
	if r.Records != records || r.Events != records {
		t.Errorf("the last run says %+v, want %d records in all", r, records)
	}
	complete()

	dropDatabase(t, dir)
	p := start(t, dir, "serve")
	j := background(t, args...)
	j.untilRows(t, dir, 1)
	j.interrupt(t, syscall.SIGINT)
	// The work ends with the command that asked for it, and another may go on.
	j = again(t, args...)
	j.untilRows(t, dir, records/3)
	p.kill()
	j.wantFailure(t)
	start(t, dir, "serve")
	report(t, &r, args...)
	complete()
}

// again repeats a command that was just interrupted: until the furrow that served
// noticed, it says that the work is going on already.
func again(t *testing.T, args ...string) *job {
	t.Helper()
	var j *job
	eventually(t, 10*time.Second, func() error {
		j = background(t, args...)
		select {
		case <-j.ended:
			return j.over()
		case <-time.After(200 * time.Millisecond):
			return nil
		}
	})
	return j
}

// TestMistakesOfReplay: a wrong command says what is wrong with it.
func TestMistakesOfReplay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range []struct{ args, want string }{
		{"--from yesterday", `--from "yesterday" is no time: write 2026-11-22`},
		{"--to 2026-13-01", `--to "2026-13-01" is no time`},
		{"--from 2026-11-24 --to 2026-11-23", "to must be later"},
		{"--into moon", `"moon": must be database, bus or recommender`},
		{"--into recommender --app shop", "without app and type"},
		{"--nonsense", "unknown flag: --nonsense"},
		{"everything", `"everything"`},
	} {
		stdout, stderr, code := run(t, append([]string{"replay", "--data-dir", dir, "--yes"}, strings.Fields(c.args)...)...)
		if code != 1 || stdout != "" || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("replay %s ended with %d and said %q, want one line with %q", c.args, code, stdout+stderr, c.want)
		}
	}
	if out := must(t, "replay", "--data-dir", dir, "--yes"); !strings.Contains(out, "holds nothing") {
		t.Errorf("over an empty archive it says %q", out)
	}
}
