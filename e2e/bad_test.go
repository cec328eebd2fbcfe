package e2e

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"furrow/internal/archive"
	"furrow/internal/event"
	"furrow/internal/snowplow"

	"github.com/prometheus/client_golang/prometheus"
)

// failed is a record whose second event an earlier version could not take.
type failed struct {
	record []byte
	id     event.RecordID
	rowID  string
}

func (f *failed) ids() []string {
	return []string{event.DeriveEventID(f.id, 0), event.DeriveEventID(f.id, 1), event.DeriveEventID(f.id, 2)}
}

const oldCause = "com.acme/thing/jsonschema/1-0-0: not found in any registry"

// failedRecord makes a POST of three events without ids, of one session.
func failedRecord(n int, at time.Time) *failed {
	session := fmt.Sprint(1000 + n%50)
	body := tp2(view(click{session, "1"}), view(click{session, fmt.Sprint(2 + n%5)}), view(click{session, "9"}))
	f := &failed{record: snowplow.AppendPayload(nil, &event.Payload{
		IPAddress: "127.0.0.1", Timestamp: at.UnixMilli() + int64(n), Encoding: "UTF-8", Collector: "e2e",
		Path: event.Some("/com.snowplowanalytics.snowplow/tp2"), Body: event.Some(body), ContentType: event.Some("application/json"),
	})}
	f.id = event.NewRecordID(f.record)
	f.rowID = event.BadRowID(f.id, 1)
	return f
}

// addFailed puts bad rows into the database of a furrow that does not run, as one
// did to which a schema was missing.
func addFailed(t *testing.T, dir string, n int) []*failed {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "furrow.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback() // nothing once it is committed
	at := time.Now().UTC().Add(-time.Minute).Truncate(time.Millisecond)
	failure := snowplow.EventFailure(at, snowplow.UnknownSchemaMessage("iglu:com.acme/thing/jsonschema/1-0-0"))
	all := make([]*failed, n)
	for i := range all {
		f := failedRecord(i, at)
		all[i] = f
		_, err := tx.Exec(`INSERT INTO bad_records (record_id, record) VALUES (?, ?)`, f.id.String(), f.record)
		if err == nil {
			_, err = tx.Exec(`INSERT INTO bad_failures (id, time, schema, failure, record_id, event_index) VALUES (?, ?, ?, ?, ?, 1)`,
				f.rowID, at.Add(time.Duration(i)*time.Millisecond).Format("2006-01-02 15:04:05.000"), snowplow.SchemaViolations, string(failure), f.id.String())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tx.Exec(`UPDATE totals SET rows = rows + ? WHERE name = 'bad_rows'`, n); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	return all
}

// stillBad sends events that are bad today, too, and one that is in conflict.
func stillBad(t *testing.T, p *process) {
	t.Helper()
	one := map[string]string{"e": "pv", "p": "web", "tv": "e2e", "eid": "00000000-0000-4000-8000-00000000abcd", "url": "http://shop/product/1", "aid": "one"}
	other := map[string]string{"e": "pv", "p": "web", "tv": "e2e", "eid": "00000000-0000-4000-8000-00000000abcd", "url": "http://shop/product/2", "aid": "other"}
	for _, body := range []string{tp2(one), tp2(map[string]string{"e": "no such thing", "p": "web"}), "{no JSON"} {
		if _, err := p.send(http.DefaultClient, body); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 15*time.Second, func() error { return settled(p) })
	if _, err := p.send(http.DefaultClient, tp2(other)); err != nil {
		t.Fatal(err)
	}
	wantCount(t, p.database(t), 3, "SELECT count(*) FROM bad_rows")
}

type retried struct{ Rows, Pass, Settled, Fail, Stuck, Records, Deleted int }

func causesOf(t *testing.T, dir string) map[string]int {
	t.Helper()
	var list struct {
		Rows   int
		Causes []struct {
			Cause, Example string
			Rows           int
		}
	}
	report(t, &list, "bad", "list", "--data-dir", dir)
	causes, sum := map[string]int{}, 0
	for _, c := range list.Causes {
		causes[c.Cause] += c.Rows
		sum += c.Rows
	}
	if sum != list.Rows {
		t.Errorf("the causes have %d rows, all are %d", sum, list.Rows)
	}
	return causes
}

// TestBadRowsComeBack has bad rows whose cause was mended: retry brings their events
// into database, archive and recommender under the ids that they would have had, and
// keeps the rows that fail today, too. It works while furrow serves and without one.
func TestBadRowsComeBack(t *testing.T) {
	t.Parallel()
	for _, serving := range []bool{true, false} {
		t.Run(fmt.Sprintf("serving=%v", serving), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p := start(t, dir, "serve")
			stillBad(t, p)
			p.stop(t)
			const n = 40
			added := addFailed(t, dir, n)
			if serving {
				p = start(t, dir, "serve")
			}
			if causes := causesOf(t, dir); causes["schema_violations: "+oldCause] != n || len(causes) != 4 {
				t.Errorf("bad list: %v", causes)
			}
			if out := must(t, "bad", "list", "--data-dir", dir, "--cause", "NOT FOUND"); !strings.Contains(out, fmt.Sprint(n)) || strings.Contains(out, "not JSON") {
				t.Errorf("bad list --cause says\n%s", out)
			}
			shown := must(t, "bad", "show", "--data-dir", dir, added[0].rowID)
			for _, want := range []string{oldCause, added[0].id.String(), "/com.snowplowanalytics.snowplow/tp2", `"product/1`, "today it passes", added[0].ids()[1]} {
				if !strings.Contains(shown, strings.TrimPrefix(want, `"`)) {
					t.Errorf("bad show lacks %q:\n%s", want, shown)
				}
			}

			var r retried
			report(t, &r, "bad", "retry", "--data-dir", dir, "--preview")
			if r.Rows != n+3 || r.Pass != n || r.Fail != 3 || r.Deleted != 0 {
				t.Errorf("the preview says %+v", r)
			}
			report(t, &r, "bad", "retry", "--data-dir", dir, "--yes", added[0].rowID)
			if r.Rows != 1 || r.Pass != 1 || r.Deleted != 1 {
				t.Errorf("the retry of one row says %+v", r)
			}
			report(t, &r, "bad", "retry", "--data-dir", dir, "--yes")
			if r.Rows != n+2 || r.Pass != n-1 || r.Fail != 3 || r.Deleted != n-1 {
				t.Errorf("the retry says %+v", r)
			}
			report(t, &r, "bad", "retry", "--data-dir", dir, "--yes")
			if r.Rows != 3 || r.Pass+r.Settled != 0 || r.Fail != 3 {
				t.Errorf("the second retry says %+v", r)
			}
			causes := causesOf(t, dir)
			if len(causes) != 3 || causes["schema_violations: "+oldCause] != 0 {
				t.Errorf("what fails today, too, is %v", causes)
			}
			if !serving {
				p = start(t, dir, "serve") // the other consumers find it on the bus
			}
			eventually(t, 15*time.Second, func() error { return settled(p) })
			if got := lists(t, p, []string{sid(1000)})[sid(1000)]; len(got) == 0 {
				t.Error("the recommender has learned nothing of it")
			}
			p.stop(t)
			inDatabase := sqliteEvents(t, database(t, dir))
			wantFailedEvents(t, "database", inDatabase.ids(), added, 1)
			// The other store has the one event more that came second with its id.
			agree(t, "database", "archive", inDatabase, parquetEvents(t, filepath.Join(dir, "archive")))
		})
	}
}

// wantFailedEvents wants the events of records that failed, and some others.
func wantFailedEvents(t *testing.T, where string, ids map[string]int, added []*failed, others int) {
	t.Helper()
	missing := 0
	for _, f := range added {
		for _, id := range f.ids() {
			if ids[id] != 1 {
				missing++
			}
		}
	}
	if want := 3*len(added) + others; missing > 0 || len(ids) != want {
		t.Errorf("%s: %d events, want %d; %d of the retried are not there once", where, len(ids), want, missing)
	}
}

// TestRetryGoesOnAfterACrash kills the furrow that retries.
func TestRetryGoesOnAfterACrash(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start(t, dir, "serve").stop(t)
	const n = 6000
	added := addFailed(t, dir, n)
	left := func() int {
		db := database(t, dir)
		defer db.Close()
		rows, err := count(db, "SELECT count(*) FROM bad_failures")
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	args := []string{"bad", "retry", "--data-dir", dir, "--yes"}
	for _, some := range []int{n * 9 / 10, n / 2} {
		p := start(t, dir, "serve")
		j := background(t, args...)
		eventually(t, 30*time.Second, func() error {
			if rows := left(); rows > some {
				return fmt.Errorf("%d bad rows are left", rows)
			}
			return nil
		})
		p.kill()
		j.wantFailure(t)
		t.Logf("killed with %d bad rows left", left())
	}
	p := start(t, dir, "serve")
	must(t, args...)
	if rows := left(); rows != 0 {
		t.Errorf("%d bad rows are left", rows)
	}
	eventually(t, 30*time.Second, func() error { return settled(p) })
	p.stop(t)
	wantFailedEvents(t, "database", storedIDs(t, database(t, dir)), added, 0)
	compact(t, dir)
	wantFailedEvents(t, "archive", archivedIDs(t, dir), added, 0)
}

// compact merges the files of the archive as the next hour does.
func compact(t *testing.T, dir string) {
	t.Helper()
	a, err := archive.Open(filepath.Join(dir, "archive"), archive.Default(), prometheus.NewRegistry(), discard())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, err := a.Compact(t.Context(), time.Now().Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
}

// TestMistakesOfBad: a wrong command says what is wrong with it, and asks before it
// changes anything.
func TestMistakesOfBad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if out := must(t, "bad", "list", "--data-dir", dir); out != "No bad rows.\n" {
		t.Errorf("over nothing it says %q", out)
	}
	if _, stderr, code := run(t, "bad", "retry", "--data-dir", dir); code != 0 || stderr != "No bad rows are selected.\n" {
		t.Errorf("over nothing it ends with %d and says %q", code, stderr)
	}
	added := addFailed(t, dir, 1)
	for _, c := range []struct{ args, want string }{
		{"show", "accepts 1 arg"},
		{"show nobody", `no such bad row: "nobody"`},
		{"list --from never", `--from "never" is no time`},
		{"retry", "--yes"},
	} {
		_, stderr, code := run(t, append(append([]string{"bad"}, strings.Fields(c.args)...), "--data-dir", dir)...)
		if code != 1 || !strings.Contains(stderr, c.want) {
			t.Errorf("bad %s ended with %d and said %q, want %q", c.args, code, stderr, c.want)
		}
	}
	var row struct {
		ID     string
		Record []byte
	}
	out := must(t, "bad", "show", "--data-dir", dir, "--json", added[0].rowID)
	if err := json.Unmarshal([]byte(out), &row); err != nil || row.ID != added[0].rowID || string(row.Record) != string(added[0].record) {
		t.Errorf("bad show --json does not have the exact record: %v in %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "archive", "events")); err == nil {
		t.Error("something was changed")
	}
}
