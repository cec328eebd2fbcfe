package enrich

import (
	"encoding/json"
	"net/url"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/event"
	"furrow/internal/snowplow"
)

// request is one line of testdata/requests.jsonl: what a real tracker sent.
type request struct {
	ID          string `json:"id"`
	Tracker     string `json:"tracker"`
	Path        string `json:"path"`
	Querystring string `json:"querystring"`
	Body        string `json:"body"`
	ContentType string `json:"contentType"`
	UserAgent   string `json:"userAgent"`
	Referer     string `json:"referer"`
}

func (q *request) record() []byte {
	text := func(s string) event.Optional { return event.Optional{Value: s, Set: s != ""} }
	return snowplow.AppendPayload(nil, &event.Payload{
		IPAddress: "203.0.113.9", Timestamp: 1795378610000, Encoding: "UTF-8", Collector: "furrow-0.2.0",
		UserAgent: text(q.UserAgent), RefererURI: text(q.Referer), Path: text(q.Path), Querystring: text(q.Querystring),
		Body: text(q.Body), ContentType: text(q.ContentType), Hostname: event.Some("sp.shop.localhost"),
		NetworkUserID: event.Some("75a13583-5c99-40e3-81fc-541084dfc784"),
	})
}

// eids returns the event ids that the tracker put into the request.
func (q *request) eids(t *testing.T) []string {
	t.Helper()
	query, err := url.ParseQuery(q.Querystring)
	if err != nil {
		t.Fatal(err)
	}
	if q.Body == "" {
		return query["eid"]
	}
	var batch struct {
		Data []struct {
			EID string `json:"eid"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(q.Body), &batch); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range batch.Data {
		all = append(all, e.EID)
	}
	return all
}

// Every event that a real tracker sends must come out.
func TestCapturedRequests(t *testing.T) {
	t.Parallel()
	r := newEnricher(t)
	for _, q := range readLines[request](t, "testdata/requests.jsonl") {
		t.Run(q.ID+"/"+q.Tracker, func(t *testing.T) {
			t.Parallel()
			result := r.Parse(q.record(), testTime)
			for _, row := range result.Bad {
				t.Errorf("bad row %s: %s", row.Schema, row.Failure)
			}
			var got []string
			for _, e := range result.Events {
				got = append(got, e.ID())
				if !e.Has(event.EventName) || !e.Has(event.DerivedTstamp) || !e.Has(event.AppID) {
					t.Errorf("event %s lacks its name, time or application", e.ID())
				}
				line := string(snowplow.AppendTSV(nil, e))
				back, err := snowplow.ParseTSV(line)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(line, string(snowplow.AppendTSV(nil, back))); diff != "" {
					t.Errorf("TSV round trip (-want +got):\n%s", diff)
				}
			}
			want := q.eids(t)
			if len(want) == 0 || !slices.Equal(got, want) {
				t.Errorf("events %v, want %v", got, want)
			}
		})
	}
}
