package enrich

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"furrow/internal/event"
)

const minimal = `{"e":"pv","p":"web","tv":"x"}`

// TestRequestWithTooManyEvents: a request of 130 KB must not ask for gigabytes.
func TestRequestWithTooManyEvents(t *testing.T) {
	t.Parallel()
	iglu := post()
	iglu.Path = event.Some("/com.snowplowanalytics.iglu/v1")
	iglu.Querystring = event.Some("schema=iglu%3Aa%2Fb%2Fjsonschema%2F1-0-0")
	iglu.Body = event.Some("[" + strings.Repeat("1,", MaxEvents) + "1]")
	for name, p := range map[string]event.Payload{
		"batch": post(slices.Repeat([]string{minimal}, MaxEvents+1)...), "webhook": iglu,
	} {
		result := parse(t, p)
		if len(result.Events) != 0 || len(result.Bad) != 1 || result.Bad[0].Index != event.WholeRecord {
			t.Errorf("%s: %d events, %d bad rows", name, len(result.Events), len(result.Bad))
			continue
		}
		if f := string(result.Bad[0].Failure); len(f) > 1000 || !strings.Contains(f, "at most 65536 events") {
			t.Errorf("%s: %.300s", name, f)
		}
	}
}

// TestQueryStringSpreadOverABatch repeats 30 KB in every event of a batch, as
// contexts that are right, that are wrong, and as a value that is too long.
func TestQueryStringSpreadOverABatch(t *testing.T) {
	t.Parallel()
	const n = 6000
	large := strings.Repeat("x", 30<<10)
	for name, query := range map[string]string{
		"right": "co=" + url.QueryEscape(`{"schema":"iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0","data":[{"schema":"iglu:a/b/jsonschema/1-0-0","data":{"x":"`+large+`"}}]}`),
		"wrong": "co=" + url.QueryEscape(`{"schema":"no schema","data":"`+large+`"}`),
		"long":  "page=" + large + "&url=" + large,
	} {
		p := post(slices.Repeat([]string{minimal}, n)...)
		p.Querystring = event.Some(query)
		result := parse(t, p)
		size, next := 0, 0
		for _, e := range result.Events {
			size += textBytes(e)
		}
		for _, b := range result.Bad {
			size += len(b.Failure)
			if b.Record != result.RecordID || len(b.Payload) == 0 || &b.Payload[0] != &result.Bad[0].Payload[0] {
				t.Fatalf("%s: bad row %d does not share its record", name, b.Index)
			}
		}
		if limit := maxSpread + (fewEvents+1)*len(query) + n*600; size > limit {
			t.Errorf("%s: events and failures have %d bytes of text, want at most %d", name, size, limit)
		}
		// Each event is one or the other.
		for i, j := 0, 0; next < n; next++ {
			switch {
			case i < len(result.Events) && result.Events[i].Index == next:
				i++
			case j < len(result.Bad) && result.Bad[j].Index == next:
				j++
			default:
				t.Fatalf("%s: event %d is lost", name, next)
			}
		}
		if name != "long" && (len(result.Bad) < n/2 || !strings.Contains(string(result.Bad[len(result.Bad)-1].Failure), "bytes of text together")) {
			t.Errorf("%s: %d bad rows do not say why", name, len(result.Bad))
		}
	}
}
