package enrich

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"furrow/internal/event"
	"furrow/internal/snowplow"
)

// people matches anybody who is named, whatever the field.
func people(ids ...string) matcher {
	return func(user, domain, network string, _ time.Time) bool {
		for _, id := range ids {
			if id != "" && id != zeroID && (id == user || id == domain || id == network) {
				return true
			}
		}
		return false
	}
}

// forgetting is an enricher that leaves somebody out.
func forgetting(t interface{ Fatal(...any) }, match matcher) *Enricher {
	r, err := New(Options{Artifact: "furrow", Version: "0.2.0", Forgotten: match})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// printed is a result as text, but for its record.
func printed(r *Result) (lines []string) {
	for _, e := range r.Events {
		lines = append(lines, fmt.Sprintf("%d %s %x %s", e.Index, e.Record, e.Content, snowplow.AppendTSV(nil, e)))
	}
	for _, b := range r.Bad {
		lines = append(lines, fmt.Sprintf("%d %s %s %s %s %s", b.Index, b.Record, b.ID, b.Time, b.Schema, b.Failure))
	}
	return lines
}

// without is what is left of a result when the events with these indexes are gone.
func without(r Result, gone map[int]bool) Result {
	r.Events = slices.DeleteFunc(slices.Clone(r.Events), func(e *event.Event) bool { return gone[e.Index] })
	r.Bad = slices.DeleteFunc(slices.Clone(r.Bad), func(b event.BadRow) bool { return gone[b.Index] })
	return r
}

const (
	netA = "aaaaaaaa-5c99-40e3-81fc-541084dfc784"
	netB = "bbbbbbbb-5c99-40e3-81fc-541084dfc784"
	netC = "cccccccc-5c99-40e3-81fc-541084dfc784"
)

func optionalOf(t *rapid.T, label string, values ...string) event.Optional {
	i := rapid.IntRange(-2, len(values)-1).Draw(t, label)
	if i < 0 {
		return event.Optional{}
	}
	return event.Some(values[i])
}

var identityValues = map[string][]string{
	"uid": {"alice", "bob", "", "caro\tl"}, "duid": {"d1", "d2", "alice"},
	"nuid": {netA, netB, "", zeroID}, "tnuid": {netB, netC, ""},
}

// requestOf draws a batch and returns it with the identifiers that each of its
// events ends up with: user, domain, network.
func requestOf(t *rapid.T) (p event.Payload, ids [][3]string) {
	p = get("")
	p.Path = event.Some("/com.snowplowanalytics.snowplow/tp2")
	p.ContentType = event.Some("application/json")
	p.NetworkUserID = event.Optional{}
	network := optionalOf(t, "network", netA, netB, strings.ToUpper(netA), zeroID)
	p.NetworkUserID = network
	p.Headers = []string{"Host: a.b", "Cookie: sp=" + network.Value + "; x=1", "application/json"}
	shared := map[string]event.Optional{}
	var query []string
	for _, name := range []string{"uid", "duid", "nuid", "tnuid"} {
		if rapid.IntRange(0, 3).Draw(t, "shares "+name) > 0 {
			continue
		}
		if v := optionalOf(t, "shared "+name, identityValues[name]...); v.Set {
			shared[name] = v
			query = append(query, name+"="+url.QueryEscape(v.Value))
		}
	}
	query = append(query, rapid.SampledFrom([]string{"aid=shop", "page=a;x=1", "stm=1", "nuid"}).Draw(t, "query"))
	if query[len(query)-1] == "nuid" { // the last one wins, and has no value
		delete(shared, "nuid")
	}
	p.Querystring = event.Some(strings.Join(query, "&"))
	space := rapid.SampledFrom([]string{"", " ", "\n\t"}).Draw(t, "space")
	var objects []string
	for i := range rapid.IntRange(1, 6).Draw(t, "events") {
		o := []string{`"e":"pv"`, `"p":"web"`, `"t\u0076":"t"`, fmt.Sprintf(`"page":"secret-%d-]},{\"\\\\"`, i)}
		own := map[string]event.Optional{}
		for _, name := range []string{"uid", "duid", "nuid", "tnuid"} {
			v := optionalOf(t, name, identityValues[name]...)
			if v.Set {
				own[name] = v
				text, err := json.Marshal(v.Value)
				if err != nil {
					t.Fatal(err)
				}
				o = append(o, `"`+name+`"`+space+":"+string(text))
			}
		}
		if rapid.Bool().Draw(t, "eid") {
			o = append(o, fmt.Sprintf(`"eid":"13c7ae3d-3d0d-4c08-991b-%012d"`, i))
		}
		if rapid.IntRange(0, 4).Draw(t, "wrong") == 0 {
			o = append(o, `"vid":"x"`)
		}
		objects = append(objects, "{"+strings.Join(o, space+",")+space+"}")
		one := func(name string) event.Optional {
			if v, ok := shared[name]; ok {
				return v
			}
			return own[name]
		}
		net := strings.ToLower(network.Value)
		for _, name := range []string{"nuid", "tnuid"} {
			if v := one(name); v.Set {
				net = v.Value
			}
		}
		ids = append(ids, [3]string{snowplow.SafeText(one("uid").Value), one("duid").Value, net})
	}
	p.Headers = append(p.Headers, "cookie: id="+rapid.SampledFrom(ids).Draw(t, "cookie")[rapid.IntRange(0, 1).Draw(t, "which")]+".17.2; x=1")
	head := rapid.SampledFrom([]string{"", `"data":[{"uid":"alice"},5],`, `"extra":{"data":[1]},`}).Draw(t, "head")
	key := rapid.SampledFrom([]string{"data", `d\u0061ta`}).Draw(t, "key")
	p.Body = event.Some(`{` + head + `"schema":"iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4",` + space +
		`"` + key + `":[` + space + strings.Join(objects, space+",") + `]` + space + `}` + space)
	return p, ids
}

// What is left of any batch is what was there, less the forgotten, and it stays so
// when the redacted record is parsed, and redacted again for another person.
func TestRedactedBatch(t *testing.T) {
	t.Parallel()
	rapid.Check(t, checkBatch)
}

func FuzzRedactedBatch(f *testing.F) {
	f.Fuzz(rapid.MakeFuzz(checkBatch))
}

func checkBatch(t *rapid.T) {
	p, ids := requestOf(t)
	original := snowplow.AppendPayload(nil, &p)
	plain := forgetting(t, nil)
	whole := plain.Parse(original, testTime)
	if len(whole.Events)+len(whole.Bad) != len(ids) || &whole.Record[0] != &original[0] {
		t.Fatalf("%d events and %d bad rows of %d", len(whole.Events), len(whole.Bad), len(ids))
	}
	everybody := []string{"alice", "bob", "caro    l", "d1", "d2", netA, netB, netC}
	first := rapid.SliceOfN(rapid.SampledFrom(everybody), 0, 3).Draw(t, "first")
	second := rapid.SliceOfN(rapid.SampledFrom(everybody), 0, 3).Draw(t, "second")

	check := func(record []byte, result Result, forgotten []string) {
		t.Helper()
		gone := map[int]bool{}
		for i, id := range ids {
			gone[i] = people(forgotten...)(id[0], id[1], id[2], time.Time{})
		}
		want := without(whole, gone)
		if diff := cmp.Diff(printed(&want), printed(&result)); diff != "" {
			t.Fatalf("forgotten %q of %q (-want +got):\n%s\n%q", forgotten, ids, diff, record)
		}
		for i := range ids {
			if bytes.Contains(record, fmt.Appendf(nil, "secret-%d-", i)) == gone[i] {
				t.Fatalf("event %d, gone %v: %q", i, gone[i], record)
			}
		}
		shared, _ := snowplow.DecodePayload(record)
		for _, id := range forgotten {
			if record != nil && slices.ContainsFunc(shared.Headers, func(h string) bool { return strings.Contains(h, "="+id+".") || strings.Contains(h, "="+id+";") }) {
				t.Fatalf("%s is still in a cookie: %q", id, record)
			}
			if record != nil && len(id) == len(netA) && (strings.EqualFold(shared.NetworkUserID.Value, id) || strings.Contains(strings.ToLower(strings.Join(shared.Headers, "")), id)) {
				t.Fatalf("%s is still in what all events share: %q", id, record)
			}
		}
		for i := range result.Bad {
			if !bytes.Equal(result.Bad[i].Payload, record) {
				t.Fatalf("a bad row has another record")
			}
		}
	}
	a := forgetting(t, people(first...)).Parse(original, testTime)
	check(a.Record, a, first)
	if a.Forgotten != len(ids)-len(a.Events)-len(a.Bad) {
		t.Fatalf("%d forgotten", a.Forgotten)
	}
	if b := Redact(original, people(first...)); !bytes.Equal(b.Record, a.Record) || b.Changed == bytes.Equal(a.Record, original) {
		t.Fatalf("redacted to %q, changed %v, want %q", b.Record, b.Changed, a.Record)
	}
	both := append(slices.Clone(first), second...)
	at := forgetting(t, people(both...)).Parse(original, testTime)
	check(at.Record, at, both)
	for _, order := range [][2][]string{{first, second}, {second, first}} {
		record := original
		for _, names := range order {
			if record != nil {
				record = Redact(record, people(names...)).Record
			}
		}
		if !bytes.Equal(record, at.Record) {
			t.Fatalf("%q one after the other:\n%q, at once\n%q", order, record, at.Record)
		}
	}
	if at.Record != nil {
		again := plain.Parse(at.Record, testTime)
		check(at.Record, again, both)
		if r := Redact(at.Record, people(both...)); r.Changed || !bytes.Equal(r.Record, at.Record) {
			t.Fatalf("redacted once more: %q", r.Record)
		}
		checkBytes(t, original, at.Record)
	}
}

// checkBytes fails unless only what may change has changed.
func checkBytes(t *rapid.T, original, redacted []byte) {
	was, err1 := snowplow.DecodePayload(original)
	is, err2 := snowplow.DecodePayload(redacted)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if bytes.Equal(original, redacted) {
		return
	}
	if !strings.HasPrefix(is.Headers[0], markName+event.NewRecordID(original).String()) || len(is.Headers) != len(was.Headers)+1 {
		t.Fatalf("headers %q", is.Headers)
	}
	if !json.Valid([]byte(is.Body.Value)) {
		t.Fatalf("body %s", is.Body.Value)
	}
	is.Headers, is.Body, is.NetworkUserID = was.Headers, was.Body, was.NetworkUserID
	anyNUID := func(name, _ string) bool { return name == "nuid" }
	if a, b := snowplow.BlankParams(was.Querystring.Value, anyNUID), snowplow.BlankParams(is.Querystring.Value, anyNUID); a != b {
		t.Fatalf("query string %q, was %q", b, a)
	}
	is.Querystring = was.Querystring
	if diff := cmp.Diff(was, is); diff != "" {
		t.Fatal(diff)
	}
}

// What a record says for all its events names nobody who went.
func TestSharedTextsNameNobody(t *testing.T) {
	t.Parallel()
	p := post(`{"e":"pv","p":"web","tv":"t","uid":"alice@a.b","duid":"`+netA+`"}`, `{"e":"pv","p":"web","tv":"t","uid":"bob"}`)
	page := "https://shop.test/" + strings.ToUpper(netA) + "/x?user=alice%40a.b&size=2&_sp=" + netA + ".17#f"
	p.RefererURI = event.Some(page)
	p.Headers = []string{"Referer: " + page, "COOKIE: login=alice@a.b; _sp_id.9=" + netA + ".1.2.3; theme=dark; who=bob", "Accept: */*"}
	record := snowplow.AppendPayload(nil, &p)
	r := Redact(record, people("alice@a.b", netA))
	for _, id := range []string{"alice", netA, strings.ToUpper(netA)} {
		if bytes.Contains(r.Record, []byte(id)) {
			t.Errorf("%s is still in %q", id, r.Record)
		}
	}
	left, err := snowplow.DecodePayload(r.Record)
	if err != nil {
		t.Fatal(err)
	}
	where := "https://shop.test/" + zeroID + "/x?user=&size=2&_sp=" + zeroID + ".17#f"
	want := []string{left.Headers[0], "Referer: " + where, "COOKIE: login=; _sp_id.9=" + zeroID + ".1.2.3; theme=dark; who=bob", "Accept: */*"}
	if diff := cmp.Diff(want, left.Headers); diff != "" || left.RefererURI.Value != where {
		t.Errorf("%s\n%s", diff, left.RefererURI.Value)
	}
	// Elsewhere what looks like an identifier may be anything.
	if r := Redact(record, people("dark", "2")); r.Changed {
		t.Errorf("changed without cause: %q", r.Record)
	}
	// A UUID is nothing else, whoever's events the record has.
	p.Headers[0] = "Referer: " + strings.ReplaceAll(page, netA, netB)
	p.RefererURI.Value = p.Headers[0]
	p.Headers[1] = "x"
	if r := Redact(snowplow.AppendPayload(nil, &p), people(netB)); r.Changed {
		t.Errorf("the address of somebody's page changed: %q", r.Record)
	}
	p.Headers[0], p.RefererURI.Value = "x", page
	p.Headers[1] = "Cookie: _sp_id.9=" + netB + ".1"
	if r := Redact(snowplow.AppendPayload(nil, &p), people(netB)); !r.Changed || bytes.Contains(r.Record, []byte(netB)) || len(r.Record) == 0 {
		t.Errorf("%q", r.Record)
	}
	p.Headers[1] = "Cookie: _sp_id.9=" + netA + ".1"
	// A record that cannot be understood is somebody's whose cookie it has.
	p.Path = event.Some("/nowhere")
	if r := Redact(snowplow.AppendPayload(nil, &p), people(netA)); r.Record != nil {
		t.Errorf("%q", r.Record)
	}
}

// The placeholder is an event that payload_data allows, in the same place.
func TestPlaceholder(t *testing.T) {
	t.Parallel()
	p := post(`{"e":"pv","p":"web","tv":"t","duid":"d1"}`, ` {"e":"pv","p":"web","tv":"t","duid":"d2"}`)
	original := snowplow.AppendPayload(nil, &p)
	result := forgetting(t, people("d1")).Parse(original, testTime)
	id := event.NewRecordID(original)
	redacted, err := snowplow.DecodePayload(result.Record)
	if err != nil {
		t.Fatal(err)
	}
	want := post(`{"e":"pv","p":"srv","tv":"furrow-forgotten","tna":"`+id.String()+`"}`, ` {"e":"pv","p":"web","tv":"t","duid":"d2"}`)
	want.Headers = []string{":furrow-forgotten: " + id.String()}
	if diff := cmp.Diff(want, redacted); diff != "" {
		t.Error(diff)
	}
	if result.RecordID != id || result.Forgotten != 1 || len(result.Events) != 1 || result.Events[0].ID() != event.DeriveEventID(id, 1) {
		t.Errorf("%+v", result)
	}
	// Whoever edits it through a payload and writes it anew keeps its identity.
	again := newEnricher(t).Parse(snowplow.AppendPayload(nil, &redacted), testTime)
	if again.RecordID != id || len(again.Events) != 1 || again.Events[0].Index != 1 {
		t.Errorf("%+v", again)
	}
}

// A stranger may write what looks like a placeholder; it is an event like others.
func TestForgedPlaceholder(t *testing.T) {
	t.Parallel()
	p := post(`{"e":"pv","p":"srv","tv":"furrow-forgotten","tna":"` + strings.Repeat("ab", 32) + `"}`)
	p.Headers = []string{"furrow-forgotten: " + strings.Repeat("ab", 32), ":furrow-forgotten: zz", "application/json"}
	record := snowplow.AppendPayload(nil, &p)
	result := newEnricher(t).Parse(record, testTime)
	if len(result.Events) != 1 || result.RecordID != event.NewRecordID(record) {
		t.Errorf("%+v", result)
	}
}

// One event for a request: it goes or stays, and what others may share is blanked.
func TestSingleEventsAreForgotten(t *testing.T) {
	t.Parallel()
	redirect := get("u=http://a.b&uid=alice")
	redirect.Path = event.Some("/r/tp2")
	webhook := get("schema=iglu:a/b/jsonschema/1-0-0&nuid=" + netB)
	webhook.Path = event.Some("/com.snowplowanalytics.iglu/v1")
	webhook.NetworkUserID = event.Some(netA)
	array := webhook
	array.ContentType, array.Body = event.Some("application/json"), event.Some(`[{"a":1},{"a":2}]`)
	override := get("e=pv&nuid=" + netA + "&tnuid=" + netB)
	override.NetworkUserID = event.Some(netA)
	override.Headers = []string{"Cookie: a=" + strings.ToUpper(netA)}
	for name, c := range map[string]struct {
		p         event.Payload
		forget    string
		forgotten int
		changed   bool
	}{
		"user of a GET":              {get("e=pv&uid=alice"), "alice", 1, true},
		"nobody":                     {get("e=pv&uid=alice"), "bob", 0, false},
		"an event that fails":        {get("e=pv&uid=alice&vid=x"), "alice", 1, true},
		"an encoded name":            {get("e=pv&d%75id=a%40b"), "a@b", 1, true},
		"a redirect":                 {redirect, "alice", 1, true},
		"a webhook":                  {webhook, netB, 1, true},
		"a webhook's array":          {array, netB, 2, true},
		"the cookie of a webhook":    {webhook, netA, 0, true},
		"the cookie beside tnuid":    {override, netA, 0, true},
		"an overridden user is none": {get("e=pv&uid=alice&uid=bob"), "alice", 0, false},
	} {
		original := snowplow.AppendPayload(nil, &c.p)
		whole := newEnricher(t).Parse(original, testTime)
		result := forgetting(t, people(c.forget)).Parse(original, testTime)
		if result.Forgotten != c.forgotten || (c.forgotten > 0) != (result.Record == nil) || bytes.Equal(result.Record, original) == c.changed {
			t.Errorf("%s: %d forgotten, record %q", name, result.Forgotten, result.Record)
		}
		if bytes.Contains(bytes.ToLower(result.Record), []byte(netA)) && c.forget == netA {
			t.Errorf("%s: %q still names %s", name, result.Record, netA)
		}
		if c.forgotten > 0 {
			continue
		}
		again := newEnricher(t).Parse(result.Record, testTime)
		for _, r := range []Result{result, again} {
			if diff := cmp.Diff(printed(&whole), printed(&r)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	}
}

// Only what was collected until then goes.
func TestForgottenUntil(t *testing.T) {
	t.Parallel()
	p := get("e=pv&uid=alice")
	until := p.Time()
	match := func(user, _, _ string, at time.Time) bool { return user == "alice" && !at.After(until) }
	for ms, want := range map[int64]int{0: 1, -1: 1, 1: 0} {
		p := p
		p.Timestamp += ms
		if r := forgetting(t, match).Parse(snowplow.AppendPayload(nil, &p), testTime); r.Forgotten != want {
			t.Errorf("%d ms later: %d forgotten", ms, r.Forgotten)
		}
	}
}

// Bad rows in stores are judged by the index of their event.
func TestGone(t *testing.T) {
	t.Parallel()
	p := post(`{"e":"pv","p":"web","tv":"t","vid":"x","uid":"alice"}`, `{"e":"pv","p":"web","tv":"t","uid":"bob"}`, `{"e":"pv","p":"web","tv":"t","vid":"x","uid":"alice"}`)
	record := snowplow.AppendPayload(nil, &p)
	r := newEnricher(t).Redact(record, people("alice"))
	var got []int
	for i := event.WholeRecord; i < 5; i++ {
		if r.Gone(i) {
			got = append(got, i)
		}
	}
	if diff := cmp.Diff([]int{event.WholeRecord, 0, 2}, got); diff != "" || !r.Changed {
		t.Error(diff)
	}
	if r := Redact(r.Record, people("bob")); r.Record != nil || !r.Gone(1) {
		t.Errorf("%+v", r)
	}
}

// An event beyond the bound on texts is judged like the others.
func TestForgottenBeyondTheBound(t *testing.T) {
	t.Parallel()
	const n = 3000
	objects := make([]string, n)
	for i := range objects {
		objects[i] = fmt.Sprintf(`{"e":"pv","p":"web","tv":"c","duid":"d%d"}`, i%2)
	}
	p := post(objects...)
	large := strings.Repeat("x", 30<<10)
	p.Querystring = event.Some("co=" + url.QueryEscape(`{"schema":"iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0","data":[{"schema":"iglu:a/b/jsonschema/1-0-0","data":{"x":"`+large+`"}}]}`))
	result := forgetting(t, people("d1")).Parse(snowplow.AppendPayload(nil, &p), testTime)
	if result.Forgotten != n/2 || len(result.Events)+len(result.Bad) != n/2 || len(result.Bad) == 0 {
		t.Errorf("%d forgotten, %d events, %d bad rows", result.Forgotten, len(result.Events), len(result.Bad))
	}
}

// A tombstone may come into force while a record is judged.
func TestForgottenMeanwhile(t *testing.T) {
	t.Parallel()
	array := get("schema=iglu:a/b/jsonschema/1-0-0&nuid=" + netB)
	array.Path = event.Some("/com.snowplowanalytics.iglu/v1")
	array.ContentType, array.Body = event.Some("application/json"), event.Some(`[{"a":1},{"a":2},{"a":3}]`)
	array.NetworkUserID = event.Some(netB)
	batch := post(slices.Repeat([]string{`{"e":"pv","p":"web","tv":"t"}`}, 3)...)
	batch.NetworkUserID = event.Some(netB)
	for name, p := range map[string]event.Payload{"array": array, "batch": batch} {
		record := snowplow.AppendPayload(nil, &p)
		calls := 0
		r := forgetting(t, func(_, _, network string, _ time.Time) bool { calls++; return network == netB && calls > 1 }).Parse(record, testTime)
		if r.Record == nil {
			if len(r.Events) != 0 || r.Forgotten != 3 {
				t.Errorf("%s: %+v", name, r)
			}
			continue
		}
		if p, err := snowplow.DecodePayload(r.Record); err != nil || p.NetworkUserID.Value != netB || len(r.Events) != 1 {
			t.Errorf("%s: an event that stays lost its network user id: %+v", name, r)
		}
		if rest := Redact(r.Record, people(netB)); rest.Record != nil {
			t.Errorf("%s: %q", name, rest.Record)
		}
	}
}

// FuzzRedact judges anything.
func FuzzRedact(f *testing.F) {
	p := post(`{"e":"pv","p":"web","tv":"t","duid":"d1"}`, `{"e":"pv","p":"web","tv":"t","uid":"bob"}`)
	record := snowplow.AppendPayload(nil, &p)
	f.Add(record, "d1")
	f.Add(Redact(record, people("d1")).Record, "bob")
	f.Add([]byte(`{"data":{"payload":"uid=x&duid=\\\"d\\u0031","failure":{"timestamp":"2026-11-22T12:00:00.000Z"}}}`), "d1")
	f.Fuzz(func(t *testing.T, record []byte, id string) {
		if id == "" {
			return
		}
		r := Redact(record, people(id))
		if !r.Changed != (r.Record != nil && bytes.Equal(r.Record, record)) {
			t.Fatalf("changed %v: %q", r.Changed, r.Record)
		}
		plain := newEnricher(t)
		before := plain.Parse(record, testTime)
		kept := forgetting(t, people(id)).Parse(record, testTime)
		if !bytes.Equal(kept.Record, r.Record) {
			t.Fatalf("kept %q, redacted %q", kept.Record, r.Record)
		}
		if r.Record == nil {
			return
		}
		gone := map[int]bool{}
		for i := range len(before.Events) + len(before.Bad) + 8 {
			gone[i] = r.Changed && r.Gone(i)
		}
		after, want := plain.Parse(r.Record, testTime), without(before, gone)
		if diff := cmp.Diff(printed(&want), printed(&after)); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		if again := Redact(r.Record, people(id)); again.Changed {
			t.Fatalf("%q, then %q", r.Record, again.Record)
		}
	})
}
