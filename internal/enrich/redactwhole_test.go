package enrich

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"furrow/internal/event"
	"furrow/internal/snowplow"
)

// What cannot be understood goes whole, with whoever is named in it.
func TestWholeRecordsAreForgotten(t *testing.T) {
	t.Parallel()
	wrong := post(`{"e":"pv","p":"web","tv":"t","duid" : "d\u0031","nonsense":"1"}`, `{"e":"pv","p":"web","tv":"t","uid":"bob"}`)
	notJSON := post(`{"e":"pv","duid":"d1","uid":"al`)
	badPath := get("e=pv&uid=a%40b")
	badPath.Path = event.Some("/nowhere")
	badID := get("e=pv")
	badID.NetworkUserID = event.Some("netti")
	small := get("e=pv")
	small.NetworkUserID, small.Path = event.Some(strings.ToUpper(netA)), event.Some("/nowhere")
	line := func(cells int, set map[event.Field]string) []byte {
		all := make([]string, cells)
		for f, text := range set {
			all[f] = text
		}
		return []byte(strings.Join(all, "\t"))
	}
	person := map[event.Field]string{
		event.UserID: "alice", event.DomainUserID: "d1", event.NetworkUserID: netA, event.AppID: "shop", event.VTracker: "too\x00long",
	}
	prefix := "CollectorPayload(schema:s, ipAddress:1.2.3.4, querystring:e=pv&duid=d1, body:{\"data\":[{\"uid\":\"alice\"}]}, networkUserId:" + netA + ")"
	door := func(payload string) []byte {
		text, err := json.Marshal(payload)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Appendf(nil, `{"schema":"iglu:com.snowplowanalytics.snowplow.badrows/size_violation/jsonschema/1-0-0","data":{"failure":{"timestamp":"2026-11-22T12:00:00.000Z"},"payload":%s}}`, text)
	}
	inner := get("e=pv&uid=alice")
	encode := func(p event.Payload) []byte { return snowplow.AppendPayload(nil, &p) }
	for name, c := range map[string]struct {
		record []byte
		yes    []string
		no     []string
	}{
		"schema violation":  {encode(wrong), []string{"d1", "bob"}, []string{"d", "1", "t"}},
		"not JSON":          {encode(notJSON), []string{"d1", "al"}, []string{"alice"}},
		"bad path":          {encode(badPath), []string{"a@b"}, []string{"a"}},
		"bad network id":    {encode(badID), []string{"netti"}, []string{"e"}},
		"network id":        {encode(small), []string{netA}, []string{netB}},
		"not Thrift":        {[]byte("x duid=d1& " + netB), []string{"d1", netB}, []string{"x"}},
		"door, printed":     {door(prefix), []string{"d1", "alice", netA}, []string{"pv"}},
		"door, base64":      {door(base64.StdEncoding.EncodeToString(encode(inner))), []string{"alice"}, []string{"pv"}},
		"door, cut":         {door(prefix[:len(prefix)-45]), []string{"d1", "alice"}, []string{netA}},
		"door, query alone": {door("e=pv&uid=alice"), []string{"alice"}, nil},
		"imported line":     {line(event.NumFields, person), []string{"alice", "d1", netA}, []string{"shop", "lice"}},
		"some cells":        {line(60, person), []string{"alice", "d1"}, []string{"lice"}},
	} {
		for _, id := range c.yes {
			r := Redact(c.record, people(id))
			if !r.Changed || r.Record != nil || !r.Gone(event.WholeRecord) {
				t.Errorf("%s: %s is not forgotten", name, id)
			}
			if got := forgetting(t, people(id)).Parse(c.record, testTime); got.Forgotten != 1 || got.Record != nil || len(got.Bad) != 0 || got.RecordID != event.NewRecordID(c.record) {
				t.Errorf("%s: %s: %d forgotten, %d bad rows", name, id, got.Forgotten, len(got.Bad))
			}
		}
		for _, id := range append(c.no, "", zeroID) {
			if r := Redact(c.record, people(id)); r.Changed || !bytes.Equal(r.Record, c.record) || r.Gone(event.WholeRecord) {
				t.Errorf("%s: %q is forgotten", name, id)
			}
		}
	}
}

// The collector's own bad rows count from when they were written.
func TestForgetsAtTheDoor(t *testing.T) {
	t.Parallel()
	match := func(user, _, _ string, at time.Time) bool { return user == "alice" && !at.After(testTime) }
	record := []byte(`{"data":{"payload":"e=pv&uid=alice","failure":{"timestamp":"` + testTime.Add(time.Second).Format(time.RFC3339Nano) + `"}}}`)
	r := forgetting(t, match)
	if !r.Forgets(record, testTime) || r.Forgets(record, testTime.Add(time.Second)) || newEnricher(t).Forgets(record, testTime) {
		t.Error("the time does not count")
	}
	if Redact(record, match).Changed {
		t.Error("a later bad row is forgotten")
	}
}

// Lines of imports count from when they were collected, if they tell.
func TestLinesAreForgottenUntil(t *testing.T) {
	t.Parallel()
	until := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	match := func(user, _, _ string, at time.Time) bool { return user == "alice" && !at.After(until) }
	for stamp, want := range map[string]bool{"": true, "yesterday": true, "2026-11-20 09:00:00.000": true, "2026-11-20 09:00:00.001": false} {
		cells := make([]string, event.NumFields)
		cells[event.UserID], cells[event.CollectorTstamp] = "alice", stamp
		if got := Redact([]byte(strings.Join(cells, "\t")), match).Changed; got != want {
			t.Errorf("collected at %q: goes is %v", stamp, got)
		}
	}
}
