package snowplow

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"furrow/internal/event"
)

// anyEvent draws events with any fields set to any values that may be in them.
func anyEvent(t *rapid.T) *event.Event {
	var e event.Event
	text := rapid.String()
	for _, f := range event.Fields() {
		if !rapid.Bool().Draw(t, "has "+f.Name()) {
			continue
		}
		switch f.Kind() {
		case event.Text:
			e.SetText(f, SafeText(text.Draw(t, "text")))
		case event.JSON:
			e.SetText(f, string(AppendJSONText(nil, text.Draw(t, "json"))))
		case event.Decimal:
			s, ok := FormatDecimal(rapid.StringMatching(`-?[0-9]{1,9}(\.[0-9]{0,12})?([eE][+-]?[0-9]{1,2})?`).Draw(t, "decimal"))
			if !ok {
				t.Fatal("refused")
			}
			e.SetText(f, s)
		case event.Int:
			e.SetInt(f, int64(rapid.Int32().Draw(t, "int")))
		case event.Bool:
			e.SetInt(f, rapid.Int64Range(0, 1).Draw(t, "bool"))
		case event.Time:
			e.SetTime(f, time.UnixMilli(rapid.Int64Range(minMillis, maxMillis).Draw(t, "time")))
		case event.Float:
			e.SetFloat(f, rapid.Float32().Draw(t, "float"))
		}
	}
	return &e
}

func TestTSVRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent(t)
		line := string(AppendTSV(nil, e))
		back, err := ParseTSV(line)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range event.Fields() {
			if diff := cmp.Diff(*e.Cell(f), *back.Cell(f)); diff != "" {
				t.Fatalf("%s (-want +got):\n%s", f.Name(), diff)
			}
		}
	})
}

func TestFloatText(t *testing.T) {
	t.Parallel()
	for in, want := range map[float32]string{
		43.88: "43.88", -122: "-122.0", 0: "0.0", 1e-4: "1.0E-4", 1.5e-4: "1.5E-4", 1e7: "1.0E7", 9999999: "9999999.0", 0.001: "0.001",
		float32(math.Inf(-1)): "-Infinity",
	} {
		if got := string(appendFloat(nil, in)); got != want {
			t.Errorf("%v: %s, want %s", in, got, want)
		}
	}
}

func TestParseTSVErrors(t *testing.T) {
	t.Parallel()
	cells := func(f event.Field, text string) string {
		all := make([]string, event.NumFields)
		all[f] = text
		return strings.Join(all, "\t")
	}
	for _, c := range []struct{ line, wants string }{
		{"", "1 cells"},
		{strings.Repeat("\t", event.NumFields), "132 cells"},
		{cells(event.CollectorTstamp, "2026-11-22T10:00:00.000"), "collector_tstamp"},
		{cells(event.CollectorTstamp, "2026-11-22 10:00:00"), "collector_tstamp"},
		{cells(event.TxnID, "x"), "txn_id"},
		{cells(event.TrTotal, "1,5"), "tr_total"},
		{cells(event.Contexts, "{"), "contexts"},
		{cells(event.BrCookies, "true"), "br_cookies"},
		{cells(event.GeoLatitude, "north"), "geo_latitude"},
		{cells(event.PageTitle, "a\nb"), "page_title"},
	} {
		_, err := ParseTSV(c.line)
		if !errors.Is(err, ErrTSV) || !strings.Contains(err.Error(), c.wants) {
			t.Errorf("%q: %v, want %s", c.line, err, c.wants)
		}
	}
	if e, err := ParseTSV(strings.Repeat("\t", event.NumFields-1)); err != nil || e.Has(event.AppID) {
		t.Errorf("an empty event: %v", err)
	}
}

func FuzzTSV(f *testing.F) {
	var e event.Event
	e.SetText(event.AppID, "shop")
	e.SetText(event.Contexts, `{"schema":"x","data":[]}`)
	e.SetText(event.SeValue, "1E-7")
	e.SetTime(event.CollectorTstamp, time.UnixMilli(1398762054001))
	e.SetFloat(event.GeoLatitude, 43.88)
	f.Add(string(AppendTSV(nil, &e)))
	f.Add("a\tb")
	f.Fuzz(func(t *testing.T, line string) {
		e, err := ParseTSV(line)
		if err != nil {
			return
		}
		first := string(AppendTSV(nil, e))
		again, err := ParseTSV(first)
		if err != nil {
			t.Fatal(err)
		}
		if second := string(AppendTSV(nil, again)); second != first {
			t.Errorf("%q was written as %q, then as %q", line, first, second)
		}
	})
}

func TestAppendBadRow(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 10, 0, 0, 5e6, time.UTC)
	row := event.BadRow{
		Schema: EnrichmentFailures,
		Failure: EventFailure(at,
			EnrichmentMessage(FieldMessage("vid", event.Some("x\"\n"), "a 32-bit integer")),
			EnrichmentMessage(ErrorMessage("too long"))),
		Payload: []byte("record\x00"),
	}
	const want = `{"schema":"iglu:com.snowplowanalytics.snowplow.badrows/enrichment_failures/jsonschema/2-0-1","data":{` +
		`"failure":{"timestamp":"2026-11-22T10:00:00.005Z","messages":[` +
		`{"enrichment":null,"message":{"field":"vid","value":"x\"\n","expectation":"a 32-bit integer"}},` +
		`{"enrichment":null,"message":{"error":"too long"}}]},` +
		`"payload":"cmVjb3JkAA==","processor":{"artifact":"furrow","version":"1.2.3"}}}`
	got := string(AppendBadRow(nil, &row, Processor{Artifact: "furrow", Version: "1.2.3"}))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, failure := range [][]byte{
		LoaderFailure(at, PayloadFieldMessage("path", event.Optional{}, "x")),
		AdapterFailure(at, "com.acme", "v1", JSONMessage(`{"a":1}`, "INVALID_DATA_PAYLOAD"), CriterionMessage("a", "b"), UnknownSchemaMessage("c")),
		EventFailure(at, ValidationMessage("k", []Report{{"m", "$", "type", []string{"a", "b"}}, {"m", "$", "required", nil}})),
		EventFailure(at),
	} {
		if !json.Valid(failure) {
			t.Errorf("not JSON: %s", failure)
		}
	}
}
