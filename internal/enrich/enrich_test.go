package enrich

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/event"
	"furrow/internal/snowplow"
)

func get(query string) event.Payload {
	return event.Payload{
		IPAddress: "203.0.113.9", Timestamp: 1795378610000, Encoding: "UTF-8", Collector: "furrow-0.2.0",
		Path: event.Some("/i"), Querystring: event.Some(query),
	}
}

func post(objects ...string) event.Payload {
	p := get("")
	p.Path = event.Some("/com.snowplowanalytics.snowplow/tp2")
	p.ContentType = event.Some("application/json")
	p.Body = event.Some(`{"schema":"iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4","data":[` + strings.Join(objects, ",") + `]}`)
	return p
}

func parse(t *testing.T, p event.Payload) Result {
	t.Helper()
	return newEnricher(t).Parse(snowplow.AppendPayload(nil, &p), testTime)
}

func one(t *testing.T, p event.Payload) *event.Event {
	t.Helper()
	result := parse(t, p)
	if len(result.Events) != 1 || len(result.Bad) != 0 {
		for _, row := range result.Bad {
			t.Errorf("bad row: %s", row.Failure)
		}
		t.Fatalf("%d events, want 1", len(result.Events))
	}
	return result.Events[0]
}

func TestNewWantsItsName(t *testing.T) {
	t.Parallel()
	if _, err := New(Options{Artifact: "furrow"}); err == nil {
		t.Error("no version was accepted")
	}
}

func TestDo(t *testing.T) {
	t.Parallel()
	r := newEnricher(t)
	p := get("e=pv")
	record := snowplow.AppendPayload(nil, &p)
	result, err := r.Do(context.Background(), record, testTime)
	if err != nil || len(result.Events) != 1 {
		t.Errorf("%d events, %v", len(result.Events), err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.Do(ctx, record, testTime); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want the end of the context", err)
	}
}

func TestUndecodableRecord(t *testing.T) {
	t.Parallel()
	record := []byte("not thrift")
	result := newEnricher(t).Parse(record, testTime)
	if result.Payload != nil || len(result.Events) != 0 || len(result.Bad) != 1 {
		t.Fatalf("%+v", result)
	}
	row := result.Bad[0]
	want := event.BadRow{
		ID: event.BadRowID(result.RecordID, event.WholeRecord), Record: event.NewRecordID(record), Index: event.WholeRecord,
		Time: testTime, Schema: snowplow.PayloadFormatViolation, Failure: row.Failure, Payload: record,
	}
	if diff := cmp.Diff(want, row); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	record[0] = 'X'
	if row.Payload[0] != 'n' {
		t.Error("the bad row shares the caller's buffer")
	}
}

// One wrong event must not take its neighbours with it, nor move their identity.
func TestBadEventAlone(t *testing.T) {
	t.Parallel()
	p := post(`{"e":"pv","p":"web","tv":"t"}`, `{"e":"pv","p":"web","tv":"t","vid":"x","tid":"y"}`, `{"e":"pv","p":"web","tv":"t"}`)
	result := parse(t, p)
	if len(result.Events) != 2 || len(result.Bad) != 1 {
		t.Fatalf("%d events and %d bad rows", len(result.Events), len(result.Bad))
	}
	id := result.RecordID
	for i, index := range []int{0, 2} {
		e := result.Events[i]
		if e.Index != index || e.Record != id || e.ID() != event.DeriveEventID(id, index) {
			t.Errorf("event %d has index %d and id %s", i, e.Index, e.ID())
		}
		if e.Has(event.DomainSessionIdx) {
			t.Error("the next event inherits from the wrong one")
		}
	}
	row := result.Bad[0]
	if row.Index != 1 || row.ID != event.BadRowID(id, 1) || !row.Time.Equal(time.UnixMilli(p.Timestamp)) {
		t.Errorf("bad row %+v", row)
	}
	for _, field := range []string{`"field":"vid"`, `"field":"tid"`} {
		if !bytes.Contains(row.Failure, []byte(field)) {
			t.Errorf("%s lacks %s", row.Failure, field)
		}
	}
}

// Replays at another time on another machine must agree.
func TestSameRecordSameResult(t *testing.T) {
	t.Parallel()
	p := post(`{"e":"pv","p":"web","tv":"t"}`, `{"e":"se","p":"web","tv":"t","aid":"\u00e9"}`)
	record := snowplow.AppendPayload(nil, &p)
	a := newEnricher(t).Parse(record, testTime)
	b := newEnricher(t).Parse(record, testTime.Add(time.Hour))
	for i := range a.Events {
		if a.Events[i].ID() != b.Events[i].ID() || a.Events[i].Content != b.Events[i].Content {
			t.Errorf("event %d differs", i)
		}
		if !b.Events[i].Time(event.EtlTstamp).Equal(testTime.Add(time.Hour)) {
			t.Error("etl_tstamp is not the caller's time")
		}
	}
}

func TestContent(t *testing.T) {
	t.Parallel()
	content := func(p event.Payload) uint64 { t.Helper(); return one(t, p).Content }
	base := content(get("e=pv&p=web&tv=t&aid=a&stm=1"))
	if content(get("stm=2&tv=t&aid=a&e=pv&p=web&page")) != base {
		t.Error("order, stm or a name without value changed it")
	}
	if content(post(`{"aid":"a","e":"pv","p":"web","tv":"t","stm":"3"}`)) != base {
		t.Error("the same event by POST differs")
	}
	merged := post(`{"e":"pv","p":"web","tv":"other"}`)
	merged.Querystring = event.Some("aid=a&tv=t")
	if content(merged) != base {
		t.Error("parameters of the query string do not win")
	}
	for _, query := range []string{"e=pv&p=web&tv=t&aid=b", "e=pv&p=web&tv=t", "e=pv&p=web&tv=a&aid=t", "e=pv&p=web&tv=t&aid=a&x=1", "e=pv&p=web&tv=t&aid=a&page="} {
		if content(get(query)) == base {
			t.Errorf("%s has the same content", query)
		}
	}
}

// What cannot be decoded strictly is still an event.
func TestTolerantQuery(t *testing.T) {
	t.Parallel()
	e := one(t, get(`e=pv&p=web&page=100% {raw}|"x"&aid=shop`))
	if e.Text(event.PageTitle) != `100% {raw}|"x"` || e.Text(event.AppID) != "shop" {
		t.Errorf("page %q of %q", e.Text(event.PageTitle), e.Text(event.AppID))
	}
}

func TestClientAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		headers []string
		want    string
	}{
		{nil, "203.0.113.9"},
		{[]string{"x-forwarded-for: 1.2.3.4, 5.6.7.8"}, "1.2.3.4"},
		{[]string{"X-FORWARDED-FOR: unknown", "X-Forwarded-For: 1.2.3.4:80"}, "1.2.3.4"},
		{[]string{"Forwarded: for=2.2.2.2;proto=http", "Accept: */*"}, "2.2.2.2"},
		{[]string{"Forwarded: for=2.2.2.2", "X-Forwarded-For: ::1"}, "::1"},
		{[]string{`Forwarded: for="[2001:db8::1]:80"`}, "2001:db8::1"},
		{[]string{"X-Forwarded-For: cafe", "X-Forwarded-For: 1.2.3"}, "203.0.113.9"},
		{[]string{"X-Forwarded-For: ", "X-Forwarded-For:1.2.3.4", "application/json"}, "203.0.113.9"},
	} {
		p := get("e=pv")
		p.Headers = c.headers
		if got := one(t, p).Text(event.UserIPAddress); got != c.want {
			t.Errorf("%q: %s, want %s", c.headers, got, c.want)
		}
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	const unstruct = `{"schema":"iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0","data":`
	for _, c := range []struct {
		name  string
		p     event.Payload
		field event.Field
		want  string
	}{
		{"true time wins over a later collector", get("e=pv&ttm=5&dtm=1&stm=2"), event.DerivedTstamp, "1970-01-01 00:00:00.005"},
		{"tnuid wins over nuid whatever their order", get("e=pv&tnuid=a&nuid=b"), event.NetworkUserID, "a"},
		{"an empty cx fails beside a good co", get("e=pv&cx=bnVsbA&co=%7B%7D&cx="), event.Contexts, bad},
		{"an address of commas", get("e=pv&ip=,"), event.UserIPAddress, ""},
		{"_sp of one dot", get("e=pv&url=http://a.com/?_sp=."), event.RefrDvceTstamp, ""},
		{"_sp, last one, name escaped", get("e=pv&url=http://a.com/?_sp=a.1%26%2575%255Fsp=x%26%255Fsp=b.2"), event.RefrDomainUserID, "b"},
		{"the Referer header is the page", func() event.Payload {
			p := get("e=pv&url=")
			p.RefererURI = event.Some("http://a.com/x y")
			return p
		}(), event.PageURL, "http://a.com/x%20y"},
		{
			"an inner event is reordered", get(`e=ue&ue_pr=` + unstruct + `{"data":[1.0],"schema":"iglu:com.acme/a/jsonschema/2-0-13"}}`), event.UnstructEvent,
			unstruct + `{"schema":"iglu:com.acme/a/jsonschema/2-0-13","data":[1.0]}}`,
		},
		{"its version is the event's", get(`e=ue&ue_pr=` + unstruct + `{"data":[1.0],"schema":"iglu:com.acme/a/jsonschema/2-0-13"}}`), event.EventVersion, "2-0-13"},
		{
			"an empty contexts array stays", get(`e=pv&co={"data":[],"schema":"iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1"}`), event.Contexts,
			`{"data":[],"schema":"iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1"}`,
		},
		{"contexts of a later version", get(`e=pv&co={"schema":"iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-7","data":[]}`), event.Contexts, bad},
		{"an item with version 0-0-0", get(`e=pv&co={"schema":"iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0","data":[{"schema":"iglu:a/b/jsonschema/0-0-0","data":1}]}`), event.Contexts, bad},
		{"no event type", get("p=web"), event.EventType, bad},
		{"a time that cannot be written", get("e=pv&dtm=-62167219200000&stm=253402300799999"), event.DerivedTstamp, bad},
		{"a text as long as it may be in UTF-16", get("e=pv&cd=" + strings.Repeat("é", 12)), event.BrColordepth, strings.Repeat("é", 12)},
		{"and one unit more", get("e=pv&cd=" + strings.Repeat("é", 11) + "🌱"), event.BrColordepth, bad},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			result := parse(t, c.p)
			if len(result.Events)+len(result.Bad) != 1 {
				t.Fatalf("%d events, %d bad rows", len(result.Events), len(result.Bad))
			}
			got := bad
			if len(result.Events) == 1 {
				got = string(snowplow.AppendCell(nil, result.Events[0], c.field))
			}
			if got != c.want {
				t.Errorf("%q, want %q", got, c.want)
				for _, row := range result.Bad {
					t.Errorf("bad row: %s", row.Failure)
				}
			}
		})
	}
}

// bad marks a case that gives a bad row.
const bad = "bad row"

func TestCollectorTimeOutOfRange(t *testing.T) {
	t.Parallel()
	p := get("e=pv")
	p.Timestamp = 1 << 62
	result := parse(t, p)
	if len(result.Bad) != 1 || !bytes.Contains(result.Bad[0].Failure, []byte("collector_tstamp")) {
		t.Errorf("%+v", result.Bad)
	}
}

// A small record must not ask for much more work than its size.
func TestHostileBatch(t *testing.T) {
	t.Parallel()
	objects := make([]string, 2000)
	for i := range objects {
		objects[i] = `{"e":"pv","p":"web","tv":"t"}`
	}
	p := post(objects...)
	var query strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&query, "x%d&", i)
	}
	p.Querystring = event.Some(query.String())
	if result := parse(t, p); len(result.Events) != len(objects) {
		t.Errorf("%d events", len(result.Events))
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	r := newEnricher(t)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 200 {
				title := fmt.Sprintf("page %d of %d", i, worker)
				p := post(`{"e":"pv","p":"web","tv":"t","page":"`+title+`"}`, `{"e":"pp","p":"web","tv":"t","vid":"x"}`)
				result := r.Parse(snowplow.AppendPayload(nil, &p), testTime)
				if len(result.Events) != 1 || len(result.Bad) != 1 || result.Events[0].Text(event.PageTitle) != title {
					t.Errorf("%d events, %d bad rows", len(result.Events), len(result.Bad))
				}
			}
		})
	}
	wg.Wait()
}

func FuzzParse(f *testing.F) {
	for _, q := range readLines[request](f, "testdata/requests.jsonl")[:8] {
		f.Add(q.record())
	}
	f.Add(pageViewGET())
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, record []byte) { checkAnything(t, newEnricher(t), record) })
}

// FuzzRequest varies the parts of a request that is a payload for sure.
func FuzzRequest(f *testing.F) {
	f.Add("/i", "e=pv&co={}", "", "", "", "")
	f.Add("/r/tp2", "u=x&e=se&cx=e30", "", "", "", "X-Forwarded-For: [::1]")
	f.Add("/com.snowplowanalytics.iglu/v1", "schema=iglu:a/b/c/1-0-0&a", `[{"a":1},2]`, "application/json", "http://a|b", "")
	f.Add("/com.snowplowanalytics.snowplow/tp2", "url=x", post(`{"e":"pv","p":"web","tv":"t"}`).Body.Value, "application/json", "", "1-2-3-4-5")
	f.Fuzz(func(t *testing.T, path, query, body, contentType, referer, header string) {
		checkAnything(t, newEnricher(t), snowplow.AppendPayload(nil, &event.Payload{
			IPAddress: header, Timestamp: 1795378610000, Encoding: "UTF-8", Collector: "c", Path: event.Some(path), Querystring: event.Some(query),
			Body: event.Optional{Value: body, Set: body != ""}, ContentType: event.Optional{Value: contentType, Set: contentType != ""},
			RefererURI: event.Some(referer), Headers: []string{header},
		}))
	})
}

// checkAnything holds for every record.
func checkAnything(t *testing.T, r *Enricher, record []byte) {
	t.Helper()
	result := r.Parse(record, testTime)
	if len(result.Events)+len(result.Bad) == 0 {
		t.Error("neither event nor bad row")
	}
	for _, e := range result.Events {
		line := string(snowplow.AppendTSV(nil, e))
		back, err := snowplow.ParseTSV(line)
		if err != nil {
			t.Fatal(err)
		}
		if again := string(snowplow.AppendTSV(nil, back)); again != line {
			t.Errorf("TSV %q, then %q", line, again)
		}
		for _, f := range [...]event.Field{event.EventID, event.EventType, event.CollectorTstamp, event.DerivedTstamp, event.VCollector, event.VEtl} {
			if !e.Has(f) {
				t.Errorf("no %s", f.Name())
			}
		}
	}
	for i := range result.Bad {
		checkBad(t, &result.Bad[i], result.Bad[i].Schema, nil)
		if !bytes.Equal(result.Bad[i].Payload, record) {
			t.Error("a bad row without the exact record")
		}
	}
}

func TestRedirectKeepsContexts(t *testing.T) {
	t.Parallel()
	const (
		entity = `{"schema":"iglu:com.acme/a/jsonschema/1-0-0","data":{"data":[1]}}`
		target = `{"schema":"iglu:com.snowplowanalytics.snowplow/uri_redirect/jsonschema/1-0-0","data":{"uri":"http://b.com/?q=\"x\""}}`
		head   = `{"schema":"iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1","data":[`
	)
	sent := head + entity + "]}"
	for query, want := range map[string]string{
		"co=" + sent: head + target + "," + entity + "]}",
		"cx=" + base64.StdEncoding.EncodeToString([]byte(sent)): head + target + "," + entity + "]}",
		"co=" + head + "]}": head + target + "]}",
		"cx=":               head + target + "]}",
		"co":                head + target + "]}",
	} {
		p := get(`u=http://b.com/?q="x"&e=se&` + strings.ReplaceAll(query, "+", "%2B"))
		p.Path = event.Some("/r/tp2")
		e := one(t, p)
		if diff := cmp.Diff(want, e.Text(event.Contexts)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
		if e.Text(event.Platform) != "web" || e.Text(event.VTracker) != "r-tp2" {
			t.Errorf("%s: platform %q, tracker %q", query, e.Text(event.Platform), e.Text(event.VTracker))
		}
	}
}

func TestIgluWebhookArray(t *testing.T) {
	t.Parallel()
	p := get("schema=iglu:com.acme/a/jsonschema/1-0-0&aid=shop")
	p.Path = event.Some("/com.snowplowanalytics.iglu/v1")
	p.ContentType = event.Some("application/json")
	p.Body = event.Some(` [ {"a":1.50}, [], "x" ] `)
	result := parse(t, p)
	if len(result.Events) != 3 {
		t.Fatalf("%d events, bad rows %v", len(result.Events), result.Bad)
	}
	for i, data := range []string{`{"a":1.50}`, "[]", `"x"`} {
		want := `{"schema":"` + snowplow.UnstructEventSchema + `","data":{"schema":"iglu:com.acme/a/jsonschema/1-0-0","data":` + data + `}}`
		e := result.Events[i]
		if e.Text(event.UnstructEvent) != want || e.Index != i || e.Text(event.AppID) != "shop" || e.Text(event.EventName) != "a" {
			t.Errorf("event %d: %s", i, e.Text(event.UnstructEvent))
		}
	}
}
