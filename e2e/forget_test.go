package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"furrow/internal/archive"
	"furrow/internal/event"
	"furrow/internal/snowplow"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"
	"github.com/prometheus/client_golang/prometheus"
)

// Who is forgotten, by the three identifiers that an event may have.
const (
	annaUser    = "anna.forgotten@example.org"
	annaDomain  = "a11afade-0000-4000-8000-00000000d01d"
	annaNetwork = "a11afade-0000-4000-8000-0000000c00c1"
	annasItem   = "4711" // which nobody else looks at
)

var (
	annasIDs   = []string{annaUser, annaDomain, annaNetwork}
	forgetAnna = []string{"forget", "--yes", "--user", annaUser, "--user", annaDomain, "--user", annaNetwork}
)

// visit is a request. The events of Anna are left out where she is not.
type visit struct {
	cookie string
	events []map[string]string
	body   string // in place of events
	anna   bool   // all of it is hers
}

func ofAnna(e map[string]string) bool {
	return e["uid"] == annaUser || e["duid"] == annaDomain
}

// visits are what a few people do, alone and in shared requests, understood and not.
func visits() []visit {
	n := 0
	page := func(user, domain, session, item string) map[string]string {
		n++
		e := view(click{session, item})
		e["eid"], e["duid"] = fmt.Sprintf("00000000-0000-4000-8000-%012d", n), domain
		if user != "" {
			e["uid"] = user
		}
		return e
	}
	bad := func(user string) map[string]string {
		e := page(user, "", "1", "1")
		e["e"] = "no such thing"
		return e
	}
	const others, kiosk = "00000000-0000-4000-9000-000000000001", "00000000-0000-4000-9000-000000000002"
	var all []visit
	for i := range 20 {
		session := fmt.Sprint(100 + i)
		all = append(all, visit{cookie: others, events: []map[string]string{
			page("bob", "bob-1", session, "1"), page("bob", "bob-1", session, fmt.Sprint(2+i%3)), page("", "bob-2", session, "8"),
		}})
	}
	return append(
		all,
		visit{cookie: annaNetwork, anna: true, events: []map[string]string{page(annaUser, annaDomain, "50", "1"), page(annaUser, annaDomain, "50", annasItem)}},
		visit{cookie: annaNetwork, anna: true, events: []map[string]string{page("", "someone", "51", "1"), page("", "someone", "51", annasItem)}},
		visit{cookie: kiosk, events: []map[string]string{page("", annaDomain, "52", "1"), page("", annaDomain, "52", annasItem)}, anna: true},
		// A shared device: hers go, the others' stay.
		visit{cookie: kiosk, events: []map[string]string{
			page("bob", "kiosk", "53", "1"), page(annaUser, "kiosk", "54", annasItem), page("cleo", "kiosk", "55", "2"),
			bad("bob"), bad(annaUser), page(annaUser, "kiosk", "54", "1"),
		}},
		visit{cookie: kiosk, events: []map[string]string{bad("cleo")}},
		visit{cookie: kiosk, events: []map[string]string{bad(annaUser)}, anna: true},
		// Nothing of these can be understood; who is in it can be seen.
		visit{cookie: kiosk, body: `{"schema":"iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4","data":[{"e":"pv","uid":"bob"},`},
		visit{cookie: kiosk, body: `{"schema":"iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4","data":[{"e":"pv","uid":"` + annaUser + `"},`, anna: true},
		visit{cookie: annaNetwork, body: `nonsense`, anna: true},
	)
}

func (v *visit) send(t *testing.T, p *process, withAnna bool) {
	t.Helper()
	if v.anna && !withAnna {
		return
	}
	body := v.body
	if body == "" {
		events := v.events
		if !withAnna {
			events = slices.DeleteFunc(slices.Clone(events), ofAnna)
		}
		body = tp2(events...)
	}
	request, err := http.NewRequest(http.MethodPost, p.public+"/com.snowplowanalytics.snowplow/tp2", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Cookie", "sp="+v.cookie)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatal(response.Status)
	}
}

func sendVisits(t *testing.T, p *process, withAnna bool) {
	t.Helper()
	for _, v := range visits() {
		v.send(t, p, withAnna)
	}
	eventually(t, 30*time.Second, func() error { return settled(p) })
}

// kept is everything that is stored, without times and what derives from them.
type kept struct {
	database, archive events
	bad, archivedBad  []string // schema and cause
	raw               []string // who sent what
}

// timeless leaves out of events what differs between two runs.
func timeless(all events) events {
	for _, r := range all {
		for name := range r {
			if kinds[name] == event.Time {
				delete(r, name)
			}
		}
	}
	return all
}

// readArchive reads the records and bad rows of a closed archive.
func (k *kept) readArchive(t *testing.T, folder string) {
	t.Helper()
	k.archive = timeless(parquetEvents(t, folder))
	a, err := archive.Open(folder, archive.Default(), prometheus.NewRegistry(), discard())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	err = a.ReadRaw(t.Context(), time.Time{}, time.Time{}, func(row archive.RawRow) error {
		payload, err := snowplow.DecodePayload(row.Record)
		if err != nil {
			return err
		}
		var body struct{ Data []map[string]string }
		text := payload.Body.Value
		if json.Unmarshal([]byte(text), &body) == nil {
			text = ""
			for _, e := range body.Data {
				if e["tv"] != "furrow-forgotten" {
					text += tp2(e)
				}
			}
		}
		k.raw = append(k.raw, payload.NetworkUserID.Value+" "+text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.ReadBad(t.Context(), time.Time{}, time.Time{}, func(b event.BadRow) error {
		k.archivedBad = append(k.archivedBad, b.Schema+" "+withoutTimes(string(b.Failure)))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(k.raw)
	slices.Sort(k.archivedBad)
}

func (k *kept) readDatabase(c contents) {
	k.database = timeless(c.events)
	for _, cells := range c.bad {
		parts := strings.Split(cells, "\n")
		k.bad = append(k.bad, parts[1]+" "+parts[2])
	}
	slices.Sort(k.bad)
}

// keptIn reads a data folder whose furrow is stopped.
func keptIn(t *testing.T, dir string) (k kept) {
	t.Helper()
	k.readDatabase(sqliteContents(t, dir))
	k.readArchive(t, filepath.Join(dir, "archive"))
	return k
}

func (k *kept) equal(t *testing.T, when string, now kept) {
	t.Helper()
	agree(t, "without her", when, k.database, now.database)
	agree(t, "the archive without her", when, k.archive, now.archive)
	for _, c := range []struct {
		name      string
		want, got []string
	}{{"bad rows", k.bad, now.bad}, {"archived bad rows", k.archivedBad, now.archivedBad}, {"records", k.raw, now.raw}} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("%s: %s, -without her +with:\n%s", when, c.name, diff)
		}
	}
}

// withoutAnna is what is stored where she never was, and what is recommended there.
func withoutAnna(t *testing.T) (kept, map[string][]string) {
	t.Helper()
	dir := t.TempDir()
	p := start(t, dir, "serve")
	sendVisits(t, p, false)
	recommended := itemsFor(t, p)
	p.stop(t)
	k := keptIn(t, dir)
	if len(k.database) != 62 || len(k.bad) != 3 || len(k.raw) != 23 {
		t.Fatalf("%d events, %d bad rows, %d records: the test is not what it was", len(k.database), len(k.bad), len(k.raw))
	}
	return k, recommended
}

// itemsFor lists what sessions are recommended because of sessions like them.
func itemsFor(t *testing.T, p *process) map[string][]string {
	t.Helper()
	all := lists(t, p, []string{sid(100), sid(101), sid(102), sid(53)})
	for session, items := range all {
		for i := range items {
			items[i], _, _ = strings.Cut(items[i], " ")
		}
		slices.Sort(items)
		all[session] = items
	}
	return all
}

// traces looks for bytes of hers in all files, inside Parquet files too, but in the
// journal, whose copies go with its retention.
func traces(t *testing.T, folder string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() && entry.Name() == "journal" {
			if err == nil {
				err = fs.SkipDir
			}
			return err
		}
		if entry.IsDir() {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.HasSuffix(path, ".parquet") {
			rows, err := parquet.ReadFile[any](path)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			for _, row := range rows {
				for name, cell := range row.(map[string]any) {
					text = append(text, fmt.Sprintf("\n%s: %s", name, cell)...)
				}
			}
		}
		found = append(found, named(strings.TrimPrefix(path, folder), text)...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func named(path string, text []byte) (found []string) {
	for _, id := range annasIDs {
		if bytes.Contains(text, []byte(id)) {
			found = append(found, path+" has "+id)
		}
	}
	return found
}

func wantNoTraces(t *testing.T, when, folder string) {
	t.Helper()
	if found := traces(t, folder); len(found) > 0 {
		t.Errorf("%s: %s", when, strings.Join(found, "; "))
	}
}

// wantUnseen wants her to be absent from what furrow shows and recommends.
func wantUnseen(t *testing.T, when string, p *process, recommended map[string][]string) {
	t.Helper()
	if diff := cmp.Diff(recommended, itemsFor(t, p)); diff != "" {
		t.Errorf("%s, recommended, -without her +with:\n%s", when, diff)
	}
	for _, path := range []string{"/api/events?limit=1000", "/api/bad?limit=500"} {
		_, _, body := get(t, p.admin+path)
		for _, id := range append(annasIDs, annasItem) {
			if strings.Contains(body, id) {
				t.Errorf("%s: %s has %s", when, path, id)
			}
		}
	}
}

func copyFolder(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// receipt is the report of furrow forget --json.
type receipt struct {
	Complete bool
	Database struct{ Events, BadRows, Records int }
	Archive  struct{ Events, BadRows, Records, Files int }
	Rebuilt  bool
	Bus      struct {
		Known bool
		Last  time.Time
	}
	Receipt string
}

// forgotten forgets Anna to the end.
func forgotten(t *testing.T, args ...string) (r receipt) {
	t.Helper()
	report(t, &r, slices.Concat(forgetAnna, args)...)
	if !r.Complete {
		t.Errorf("the receipt says %+v", r)
	}
	return r
}

// TestForgettingLeavesWhatWouldBeWithoutThePerson forgets somebody while furrow
// serves. Everything is then as where she never was, byte for byte nothing of her is
// left, and neither a restart nor a replay nor a backup brings her back. What she
// does later is new.
func TestForgettingLeavesWhatWouldBeWithoutThePerson(t *testing.T) {
	t.Parallel()
	without, recommended := withoutAnna(t)
	dir, backup := t.TempDir(), filepath.Join(t.TempDir(), "backup")
	p := start(t, dir, "serve")
	sendVisits(t, p, true)
	if !strings.Contains(fmt.Sprint(itemsFor(t, p)), annasItem) {
		t.Fatal("the recommender has not learned from her, so that it need not forget")
	}
	p.stop(t)
	found := strings.Join(traces(t, dir), "\n")
	for _, place := range []string{"/furrow.db", "/archive/raw", "/archive/events", "/archive/bad"} {
		if !strings.Contains(found, place) {
			t.Fatalf("she left no trace in %s that could be found: %s", place, found)
		}
	}
	copyFolder(t, dir, backup)

	// Some of what she did is in a range of the archive that is open.
	p = start(t, dir, "serve")
	for _, v := range visits() {
		if v.anna && v.body == "" {
			for _, e := range v.events {
				e["eid"] = strings.Replace(e["eid"], "00000000", "00000001", 1)
			}
			v.send(t, p, true)
		}
	}
	eventually(t, 15*time.Second, func() error { return settled(p) })
	r := forgotten(t, "--data-dir", dir)
	if r.Database.Events != 14 || r.Archive.Events != 14 || !r.Rebuilt || !r.Bus.Known {
		t.Errorf("the receipt says %+v", r)
	}
	if _, err := os.Stat(r.Receipt); err != nil {
		t.Errorf("the receipt is not kept: %v", err)
	}
	wantNoTraces(t, "while it serves", dir)
	wantUnseen(t, "while it serves", p, recommended)
	p.stop(t)
	without.equal(t, "after forgetting", keptIn(t, dir))
	wantNoTraces(t, "after forgetting", dir)

	p = start(t, dir, "serve")
	wantUnseen(t, "after a restart", p, recommended)
	r = forgotten(t, "--data-dir", dir)
	if r.Database.Events+r.Archive.Events != 0 {
		t.Errorf("the second receipt says %+v", r)
	}
	p.stop(t)
	without.equal(t, "after a restart", keptIn(t, dir))

	dropDatabase(t, dir)
	must(t, "replay", "--data-dir", dir, "--yes")
	without.equal(t, "after a replay", keptIn(t, dir))

	// Backups of before are cleaned on start, whichever store they are of.
	for _, c := range []struct {
		what, name string
		restore    func()
	}{
		{"the database", "furrow.db", func() {
			dropDatabase(t, dir)
			text, err := os.ReadFile(filepath.Join(backup, "furrow.db"))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, "furrow.db"), text, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}},
		{"the archive", "archive", func() {
			if err := os.RemoveAll(filepath.Join(dir, "archive")); err != nil {
				t.Fatal(err)
			}
			copyFolder(t, filepath.Join(backup, "archive"), filepath.Join(dir, "archive"))
		}},
	} {
		c.restore()
		p = start(t, dir, "serve")
		eventually(t, 15*time.Second, func() error {
			if !strings.Contains(p.errors(), c.what+" held people who are forgotten, and was cleaned") {
				return fmt.Errorf("the log does not say that %s was cleaned", c.what)
			}
			return nil
		})
		wantUnseen(t, "with a backup of "+c.name, p, recommended)
		p.stop(t)
		without.equal(t, "with a backup of "+c.name, keptIn(t, dir))
		wantNoTraces(t, "with a backup of "+c.name, dir)
	}

	p = start(t, dir, "serve")
	for _, v := range visits() {
		if v.anna && v.body == "" {
			for _, e := range v.events {
				e["eid"] = strings.Replace(e["eid"], "00000000", "00000002", 1)
			}
			v.send(t, p, true)
		}
	}
	eventually(t, 15*time.Second, func() error { return settled(p) })
	wantCount(t, p.database(t), 6, "SELECT count(*) FROM events WHERE event_id LIKE '00000002%'")
	if !strings.Contains(fmt.Sprint(itemsFor(t, p)), annasItem) {
		t.Error("the recommender learns nothing of what she does after she was forgotten")
	}
}

// TestForgettingGoesOnAfterACrash kills the furrow that forgets, at any moment. The
// next start goes on, and the same command ends it.
func TestForgettingGoesOnAfterACrash(t *testing.T) {
	t.Parallel()
	without, recommended := withoutAnna(t)
	backup := t.TempDir()
	p := start(t, backup, "serve")
	sendVisits(t, p, true)
	p.stop(t)
	for round := range rounds(t, 4) {
		dir := filepath.Join(t.TempDir(), "data")
		copyFolder(t, backup, dir)
		p := start(t, dir, "serve")
		j := background(t, append(forgetAnna, "--data-dir", dir)...)
		pause(time.Duration(20+rand.IntN(30*(round+1))) * time.Millisecond)
		p.kill()
		<-j.ended
		t.Logf("round %d: %v %s", round, j.err, j.stderr.String())
		p = start(t, dir, "serve")
		forgotten(t, "--data-dir", dir)
		wantUnseen(t, "after a crash", p, recommended)
		p.stop(t)
		without.equal(t, "after a crash", keptIn(t, dir))
		wantNoTraces(t, "after a crash", dir)
	}
}

// TestForgettingUnderLoad forgets somebody again and again while requests of theirs
// and others come in. Of each request the others' event stays, and theirs exactly
// when it was collected after the last forgetting.
func TestForgettingUnderLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, dir, "serve", "--config", settingsFile(t, "archive: {rollAge: 1s}\n"))
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var sent atomic.Int64
	for range 4 {
		clients.Go(func() {
			for ctx.Err() == nil {
				n := sent.Add(1)
				bob, anna := view(click{"1", "1"}), view(click{"2", annasItem})
				bob["eid"], anna["eid"] = fmt.Sprintf("00000000-0000-4000-8000-%012d", n), fmt.Sprintf("a11afade-0000-4000-8000-%012d", n)
				anna["uid"] = annaUser
				if status, err := p.send(http.DefaultClient, tp2(bob, anna)); err != nil || status != http.StatusOK {
					t.Error(status, err)
					return
				}
				pause(time.Millisecond)
			}
		})
	}
	var r struct {
		At       time.Time
		Complete bool
	}
	for range 3 {
		pause(500 * time.Millisecond)
		report(t, &r, "forget", "--data-dir", dir, "--user", annaUser, "--yes")
		if !r.Complete {
			t.Errorf("the receipt says %+v", r)
		}
	}
	pause(200 * time.Millisecond)
	cancel()
	clients.Wait()
	eventually(t, 30*time.Second, func() error { return settled(p) })
	p.stop(t)
	inDatabase, inArchive := sqliteEvents(t, database(t, dir)), parquetEvents(t, filepath.Join(dir, "archive"))
	agree(t, "the database", "the archive", inDatabase, inArchive)
	gone, kept := 0, 0
	for n := range sent.Load() {
		bob, ok := inDatabase[fmt.Sprintf("00000000-0000-4000-8000-%012d", n+1)]
		if !ok {
			t.Fatalf("the event of somebody else in request %d is gone", n+1)
		}
		_, there := inDatabase[fmt.Sprintf("a11afade-0000-4000-8000-%012d", n+1)]
		if forgotten := bob["collector_tstamp"] <= r.At.UTC().Format("2006-01-02T15:04:05.000"); forgotten == there {
			t.Errorf("request %d was collected at %s and their event is there: %v; forgotten at %v", n+1, bob["collector_tstamp"], there, r.At)
		} else if there {
			kept++
		} else {
			gone++
		}
	}
	if gone == 0 || kept == 0 {
		t.Errorf("%d are forgotten and %d are new, which proves little", gone, kept)
	}
}

// TestForgettingInPostgresAndS3 forgets somebody there, through a crash.
func TestForgettingInPostgresAndS3(t *testing.T) {
	t.Parallel()
	without, recommended := withoutAnna(t)
	s := anyStore(t)
	dir := t.TempDir()
	p := start(t, dir, "serve", "--config", s.config)
	sendVisits(t, p, true)
	if tables := s.tablesWith(t, annaUser); tables != "bad_failures, bad_records, events" {
		t.Fatalf("she is in the tables %q, so that little can be forgotten", tables)
	}
	args := append(slices.Clone(forgetAnna), "--data-dir", dir, "--config", s.config)
	j := background(t, args...)
	pause(time.Duration(50+rand.IntN(400)) * time.Millisecond)
	p.kill()
	<-j.ended
	t.Logf("killed: %v %s", j.err, j.stderr.String())
	p = start(t, dir, "serve", "--config", s.config)
	forgotten(t, "--data-dir", dir, "--config", s.config)
	check := func(when string) {
		t.Helper()
		var now kept
		now.readDatabase(s.contents(t))
		now.readArchive(t, s.folder())
		without.equal(t, when, now)
		wantNoTraces(t, when, dir)
		wantNoTraces(t, when, s.s3.Folder)
		for _, id := range annasIDs {
			if tables := s.tablesWith(t, id); tables != "" {
				t.Errorf("%s: %s is in %s", when, id, tables)
			}
		}
	}
	wantUnseen(t, "after a crash", p, recommended)
	p.stop(t)
	check("after forgetting")
	s.empty(t)
	p = start(t, dir, "serve", "--config", s.config)
	must(t, "replay", "--data-dir", dir, "--config", s.config, "--yes")
	p.stop(t)
	check("after a replay")
}

// TestANewFolderKnowsWhoIsForgotten replays an archive from a backup of before a
// forgetting, on a machine that has never heard of it: only Postgres has.
func TestANewFolderKnowsWhoIsForgotten(t *testing.T) {
	t.Parallel()
	s := anyStore(t)
	dir, backup := t.TempDir(), filepath.Join(t.TempDir(), "backup")
	p := start(t, dir, "serve", "--config", s.config)
	sendVisits(t, p, true)
	p.stop(t)
	copyFolder(t, s.folder(), backup)
	forgotten(t, "--data-dir", dir, "--config", s.config)
	if err := os.RemoveAll(s.folder()); err != nil {
		t.Fatal(err)
	}
	copyFolder(t, backup, s.folder())
	must(t, "replay", "--data-dir", t.TempDir(), "--config", s.config, "--yes")
	for _, id := range annasIDs {
		if tables := s.tablesWith(t, id); tables != "" {
			t.Errorf("%s is in %s", id, tables)
		}
	}
	wantNoTraces(t, "after a replay", s.s3.Folder)
}

// tablesWith names the tables that have a text in any cell, as text or as bytes.
func (s *stores) tablesWith(t *testing.T, text string) string {
	t.Helper()
	const tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'atomic' AND table_type = 'BASE TABLE'"
	names, err := s.postgres.SQL(s.database, tables)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for table := range strings.FieldsSeq(names) {
		out, err := s.postgres.SQL(s.database, fmt.Sprintf(
			"SELECT count(*) FROM atomic.%s t WHERE t::text LIKE '%%%s%%' OR t::text LIKE '%%%x%%'", table, text, text,
		))
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(out) != "0" {
			found = append(found, table)
		}
	}
	slices.Sort(found)
	return strings.Join(slices.DeleteFunc(found, func(name string) bool { return strings.HasPrefix(name, "events_") }), ", ")
}

// TestForgottenCopiesLeaveTheJournal: after its retention nothing of a forgotten
// person is in the data folder at all.
func TestForgottenCopiesLeaveTheJournal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := settingsFile(t, "bus: {journal: {segmentBytes: 65536, retention: 1s}}\narchive: {rollAge: 1s}\nrecommender: {snapshot: {interval: 1s}}\n")
	p := start(t, dir, "serve", "--config", config)
	sendVisits(t, p, true)
	forgotten(t, "--data-dir", dir)
	inJournal := func() (found []string) {
		segments, err := filepath.Glob(filepath.Join(dir, "journal", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range segments {
			text, _ := os.ReadFile(path) // it may be gone by now
			found = append(found, named(path, text)...)
		}
		return found
	}
	if len(inJournal()) == 0 {
		t.Fatal("the journal holds no copies that could go")
	}
	filler := view(click{"9", "9"})
	filler["co"] = strings.Repeat(" ", 8000)
	eventually(t, 30*time.Second, func() error {
		for range 4 { // others go on
			if _, err := p.send(http.DefaultClient, tp2(filler)); err != nil {
				return err
			}
		}
		if found := inJournal(); len(found) > 0 {
			return fmt.Errorf("%s", found)
		}
		return nil
	})
}

// TestMistakesOfForget: a wrong command says what is wrong with it, and nothing is
// forgotten without a yes.
func TestMistakesOfForget(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, dir, "serve")
	sendVisits(t, p, true)
	p.stop(t)
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "name at least one user"},
		{[]string{"--user", ""}, "empty identifier"},
		{[]string{"--user", "00000000-0000-0000-0000-000000000000", "--yes"}, "names nobody"},
		{[]string{"--user", annaUser}, "--yes"},
		{[]string{annaUser, "--yes"}, annaUser},
	} {
		_, stderr, code := run(t, append([]string{"forget", "--data-dir", dir}, c.args...)...)
		if code != 1 || !strings.Contains(stderr, c.want) {
			t.Errorf("forget %q ended with %d and said %q, want %q", c.args, code, stderr, c.want)
		}
	}
	preview := must(t, "forget", "--data-dir", dir, "--user", annaUser, "--preview")
	for _, want := range []string{"4 events", annaDomain, "kiosk"} {
		if !strings.Contains(preview, want) {
			t.Errorf("the preview lacks %q:\n%s", want, preview)
		}
	}
	if n := len(sqliteEvents(t, database(t, dir))); n != 70 {
		t.Errorf("%d events are left of 70", n)
	}
}
