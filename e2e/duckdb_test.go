package e2e

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/archive"
	"furrow/internal/bus"
	"furrow/internal/event"
)

// duck runs queries with DuckDB, from the folder that holds archive/.
func duck(t *testing.T, dir string, queries ...string) [][]map[string]any {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		unavailable(t, "node")
	}
	if _, err := os.Stat(filepath.Join("duckdb", "node_modules", "@duckdb", "node-api")); err != nil {
		unavailable(t, "the npm package @duckdb/node-api")
	}
	script, err := filepath.Abs(filepath.Join("duckdb", "query.mjs"))
	if err != nil {
		t.Fatal(err)
	}
	in, err := json.Marshal(queries)
	if err != nil {
		t.Fatal(err)
	}
	var out, said bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "node", script)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, bytes.NewReader(in), &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("DuckDB: %v\n%s", err, said.String())
	}
	var results [][]map[string]any
	lines := bufio.NewReaderSize(&out, 1<<20)
	for i := range queries {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatalf("no answer to %s", queries[i])
		}
		var rows []map[string]any
		if err := json.Unmarshal(line, &rows); err != nil {
			t.Fatal(err)
		}
		results = append(results, rows)
	}
	return results
}

const (
	shopVisits   = 1000
	shopProducts = 120
	productsSeen = 110 // page views of a visit; with shopVisits more values than any dictionary holds
)

var shopOpens = time.Date(2026, 11, 22, 22, 0, 0, 0, time.UTC)

// shop is the history of a shop: visits that each see products, and put every
// fifth time something into the cart, and pay half of these times; every tenth
// sends a record that fails.
func shop() []archive.Entry {
	var log []archive.Entry
	n := 0
	add := func(user, session int, at time.Time, name, path string, set func(*event.Event)) {
		e := &event.Event{Content: uint64(n)*0x9e3779b97f4a7c15 | 1}
		record := fmt.Appendf(nil, "record \x00\xff %d %s", n, path)
		id := event.NewRecordID(record)
		e.Record = id
		for f, s := range map[event.Field]string{
			event.EventID: event.DeriveEventID(id, 0), event.AppID: "shop", event.Platform: "web", event.VCollector: "furrow", event.VEtl: "furrow",
			event.EventName: name, event.DomainUserID: fmt.Sprint("visitor-", user), event.DomainSessionID: fmt.Sprint("session-", session),
			event.PageURL: fmt.Sprintf("https://shop.example%s?visit=%d&n=%d", path, session, n), event.PageURLPath: path,
			event.PageTitle: fmt.Sprintf("Gewürz № %d – „für“ 日本 %d", n, n*7), event.UserID: fmt.Sprintf("user-%d-%d", session, n),
			event.Contexts: fmt.Sprintf(`{"schema":"iglu:c/contexts/jsonschema/1-0-0","data":[{"schema":"iglu:a/web_page/jsonschema/1-0-0","data":{"id":"%d","q":"\"ü\""}}]}`, n),
			event.SeValue:  strconv.FormatFloat(float64(n)/8, 'f', -1, 64), event.Useragent: fmt.Sprint("agent ", n%300),
		} {
			e.SetText(f, s)
		}
		e.SetTime(event.CollectorTstamp, at)
		e.SetTime(event.DvceCreatedTstamp, at.Add(-time.Duration(n)*time.Millisecond))
		e.SetInt(event.TxnID, int64(n))
		e.SetInt(event.BrCookies, int64(n%2))
		e.SetFloat(event.GeoLatitude, float32(n)/16)
		if set != nil {
			set(e)
		}
		log = append(log, archive.Entry{Record: record, ID: id, Key: []byte(e.Text(event.DomainUserID)), Time: at, Events: []*event.Event{e}})
		n++
	}
	for visit := range shopVisits {
		user, at := visit/2, shopOpens.Add(time.Duration(visit)*10*time.Second)
		for i := range productsSeen {
			add(user, visit, at.Add(time.Duration(i)*time.Second), "page_view", fmt.Sprintf("/products/item-%d", (visit+i)%shopProducts), nil)
		}
		if visit%5 == 0 {
			add(user, visit, at.Add(200*time.Second), "add_to_cart", "/cart", nil)
		}
		if visit%10 == 0 {
			add(user, visit, at.Add(300*time.Second), "transaction", "/paid", nil)
			e := &log[len(log)-1]
			for i := range 3 {
				e.Bad = append(e.Bad, event.BadRow{
					ID: event.BadRowID(e.ID, i+1), Record: e.ID, Index: i + 1, Time: e.Time, Payload: e.Record,
					Schema:  "iglu:com.snowplowanalytics.snowplow.badrows/generic_error/jsonschema/1-0-0",
					Failure: fmt.Appendf(nil, `{"timestamp":"x","errors":["reason %d"]}`, i),
				})
			}
		}
	}
	return log
}

// fill writes the shop's history as ranges, the way the recorder does.
func fill(t *testing.T, dir string, log []archive.Entry) *archive.Archive {
	t.Helper()
	a, err := archive.Open(filepath.Join(dir, "archive"), archive.Default(), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	const roll = 30_000
	for first := 0; first < len(log); first += roll {
		r, err := a.Begin(t.Context(), "raw", "0", bus.Position(fmt.Sprintf("%012d", first)))
		if err != nil {
			t.Fatal(err)
		}
		piece := log[first:min(len(log), first+roll)]
		for _, e := range piece {
			if err := r.Add(e); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Commit(t.Context(), bus.Position(fmt.Sprintf("%012d", first+len(piece)-1))); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// TestDuckDBReadsTheArchive compares what DuckDB reads with what was written, row by
// row, and runs every query of the documentation, before and after the hours were
// merged.
func TestDuckDBReadsTheArchive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	duck(t, dir, "SELECT 1") // skips before the work is done
	log := shop()
	a := fill(t, dir, log)
	wantRows(t, dir, log)
	wantQueries(t, dir)
	c, err := a.Compact(t.Context(), shopOpens.AddDate(1, 0, 0))
	if err != nil || c.Left != 0 || c.FilesAfter >= c.FilesBefore {
		t.Fatalf("%+v %v", c, err)
	}
	t.Logf("merged %d files of %d bytes into %d of %d", c.FilesBefore, c.BytesBefore, c.FilesAfter, c.BytesAfter)
	wantRows(t, dir, log)
	wantQueries(t, dir)
	// A file of before the last column was appended stands beside the others.
	duck(t, dir, "COPY (SELECT * EXCLUDE (content_hash, date, hour) FROM read_parquet('archive/events/*/*/*.parquet', hive_partitioning=true) LIMIT 10) "+
		"TO 'archive/events/date=2026-11-22/hour=22/old.parquet' (FORMAT parquet)")
	got := duck(t, dir, "SELECT count(*) AS n, count(content_hash) AS hashes FROM read_parquet('archive/events/*/*/*.parquet', hive_partitioning=true, union_by_name=true)")
	if want := fmt.Sprint(len(log), len(log)+10); fmt.Sprint(got[0][0]["hashes"], " ", got[0][0]["n"]) != want && fmt.Sprint(got[0][0]["hashes"], got[0][0]["n"]) != want {
		t.Errorf("with an old file: %v, want %s", got[0], want)
	}
}

// wantRows compares all rows of the three datasets.
func wantRows(t *testing.T, dir string, log []archive.Entry) {
	t.Helper()
	from := func(set string) string {
		return "read_parquet('archive/" + set + "/*/*/*.parquet', hive_partitioning=true)"
	}
	got := duck(t, dir,
		"SELECT event_id, app_id, epoch_us(collector_tstamp) AS at, epoch_us(dvce_created_tstamp) AS created, page_url, page_title, user_id, useragent, "+
			"contexts, json_extract_string(contexts, '$.data[0].data.id') AS page, se_value, txn_id, br_cookies, geo_latitude, content_hash, tr_total, date, hour FROM "+from("events"),
		"SELECT record_id, epoch_us(collector_tstamp) AS at, hex(record) AS record, decode(key) AS key FROM "+from("raw"),
		"SELECT id, epoch_us(time) AS at, schema, failure, event_index, record_id, count(record) OVER (PARTITION BY record_id) AS records FROM "+from("bad"))
	events, raw, bad := map[string]map[string]any{}, map[string]map[string]any{}, map[string]map[string]any{}
	for _, entry := range log {
		for _, e := range entry.Events {
			n := e.Int(event.TxnID)
			events[e.ID()] = map[string]any{
				"event_id": e.ID(), "app_id": "shop", "at": text(entry.Time.UnixMicro()), "created": text(e.Time(event.DvceCreatedTstamp).UnixMicro()),
				"page_url": e.Text(event.PageURL), "page_title": e.Text(event.PageTitle), "user_id": e.Text(event.UserID), "useragent": e.Text(event.Useragent),
				"contexts": e.Text(event.Contexts), "page": text(n), "se_value": float64(n) / 8, "txn_id": float64(n), "br_cookies": n%2 == 1,
				"geo_latitude": float64(n) / 16, "content_hash": text(int64(e.Content)), "tr_total": nil,
				"date": entry.Time.Format(time.DateOnly), "hour": entry.Time.Format("15"),
			}
		}
		raw[entry.ID.String()] = map[string]any{
			"record_id": entry.ID.String(), "at": text(entry.Time.UnixMicro()), "record": strings.ToUpper(hex.EncodeToString(entry.Record)), "key": string(entry.Key),
		}
		for _, b := range entry.Bad {
			bad[b.ID] = map[string]any{
				"id": b.ID, "at": text(b.Time.UnixMicro()), "schema": b.Schema, "failure": string(b.Failure), "event_index": float64(b.Index),
				"record_id": b.Record.String(), "records": "1",
			}
		}
	}
	for i, want := range []map[string]map[string]any{events, raw, bad} {
		key := []string{"event_id", "record_id", "id"}[i]
		if len(got[i]) != len(want) {
			t.Fatalf("DuckDB reads %d rows by %s, want %d", len(got[i]), key, len(want))
		}
		for _, row := range got[i] {
			id, _ := row[key].(string)
			if h, ok := row["hour"]; ok { // a number or a text, as DuckDB takes it
				row["hour"] = fmt.Sprintf("%02s", fmt.Sprint(h))
			}
			if d := cmp.Diff(want[id], row); d != "" {
				t.Fatalf("%s %s differs:\n%s", key, id, d)
			}
			delete(want, id)
		}
	}
}

// text is a BIGINT as DuckDB's JSON has it.
func text(n int64) string { return strconv.FormatInt(n, 10) }

var sqlBlock = regexp.MustCompile("(?s)```sql\n(.*?)```")

// wantQueries runs what docs/queries.md shows and looks at what comes out.
func wantQueries(t *testing.T, dir string) {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join("..", "docs", "queries.md"))
	if err != nil {
		t.Fatal(err)
	}
	var names, queries []string
	for _, m := range sqlBlock.FindAllStringSubmatch(string(doc), -1) {
		name, _ := strings.CutPrefix(strings.SplitN(m[1], "\n", 2)[0], "-- ")
		names, queries = append(names, name), append(queries, m[1])
	}
	answers := map[string][]map[string]any{}
	for i, rows := range duck(t, dir, queries...) {
		answers[names[i]] = rows
	}
	column := func(name, column string) (all []string) {
		for _, row := range answers[name] {
			all = append(all, fmt.Sprint(row[column]))
		}
		return all
	}
	sum := func(name, of string) (n int) {
		for _, s := range column(name, of) {
			i, _ := strconv.Atoi(s)
			n += i
		}
		return n
	}
	for what, pair := range map[string][2]any{
		"days":                {2, len(answers["page views by day"])},
		"page views":          {shopVisits * productsSeen, sum("page views by day", "page_views")},
		"sessions":            {shopVisits, len(answers["sessions"])},
		"landing page":        {"/products/item-0", column("sessions", "landing_page")[0]},
		"length of a session": {"300", column("sessions", "seconds")[0]},
		"pauses":              {shopVisits / 2, sum("sessions by pauses", "visitors")},
		"seen":                {shopVisits / 2, sum("funnel", "seen")},
		"added":               {shopVisits / 5, sum("funnel", "added")},
		"paid":                {shopVisits / 10, sum("funnel", "paid")},
		"pairs":               {20, len(answers["item pairs"])},
		"contexts":            {[]string{"iglu:a/web_page/jsonschema/1-0-0"}, column("contexts", "schema")},
		"reasons":             {[]string{"reason 0", "reason 1", "reason 2"}, column("bad rows by reason", "reason")},
		"bad rows by reason":  {3 * shopVisits / 10, sum("bad rows by reason", "events")},
		"bad rows":            {3 * shopVisits / 10, len(answers["bad rows with their records"])},
	} {
		if d := cmp.Diff(pair[0], pair[1]); d != "" {
			t.Errorf("%s:\n%s", what, d)
		}
	}
}
