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

func TestParseStored(t *testing.T) {
	t.Parallel()
	fit := func() *event.Event {
		var e event.Event
		e.SetText(event.EventID, "500c6cfe-d3ed-4b43-b39b-c8d619b77996")
		e.SetTime(event.CollectorTstamp, time.UnixMilli(1398762054001))
		e.SetText(event.VCollector, "c")
		e.SetText(event.VEtl, "e")
		e.SetText(event.Contexts, `{"schema":"iglu:a/contexts/jsonschema/1-0-0","data":[]}`)
		e.SetText(event.UnstructEvent, `{"schema":"iglu:a/unstruct_event/jsonschema/1-0-0","data":{}}`)
		return &e
	}
	for _, c := range []struct {
		name    string
		change  func(e *event.Event)
		failure string
	}{
		{"fit", func(*event.Event) {}, ""},
		{"longest title", func(e *event.Event) { e.SetText(event.PageTitle, strings.Repeat("\u00fc", 2000)) }, ""},
		{"title of one more", func(e *event.Event) { e.SetText(event.PageTitle, strings.Repeat("x", 1999)+"\U0001F600") }, "page_title"},
		{"no id", func(e *event.Event) { e.Clear(event.EventID) }, "event_id"},
		{"no time", func(e *event.Event) { e.Clear(event.CollectorTstamp) }, "collector_tstamp"},
		{"no enrichment", func(e *event.Event) { e.Clear(event.VEtl) }, "v_etl"},
		{"no UUID", func(e *event.Event) { e.SetText(event.EventID, "x") }, "event_id"},
		{"not finite", func(e *event.Event) { e.SetFloat(event.GeoLatitude, float32(math.Inf(1))) }, "geo_latitude"},
		{"no schema", func(e *event.Event) { e.SetText(event.Contexts, `{"data":[]}`) }, "contexts"},
		{"no array", func(e *event.Event) {
			e.SetText(event.DerivedContexts, `{"schema":"iglu:a/b/jsonschema/1-0-0","data":{}}`)
		}, "derived_contexts"},
		{"a number", func(e *event.Event) { e.SetText(event.UnstructEvent, "5") }, "unstruct_event"},
	} {
		e := fit()
		c.change(e)
		_, err := ParseStored(string(AppendTSV(nil, e)))
		var wrong *TSVError
		if c.failure == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if !errors.As(err, &wrong) || len(wrong.Values) != 1 || wrong.Values[0].Field.Name() != c.failure {
			t.Errorf("%s: %v, want %s", c.name, err, c.failure)
		}
	}
	e := fit()
	e.SetText(event.EventID, "500C6CFE-D3ED-4B43-B39B-C8D619B77996")
	if got, err := ParseStored(string(AppendTSV(nil, e))); err != nil || got.ID() != fit().ID() {
		t.Errorf("upper case id: %v", err)
	}
}

func TestTSVFailure(t *testing.T) {
	t.Parallel()
	cells := make([]string, event.NumFields)
	cells[event.TxnID], cells[event.CollectorTstamp], cells[event.AppID] = "x\"", "yesterday", "a\xff\x01"
	for line, want := range map[string]string{
		"":                         `{"type":"NotTSV"}`,
		"a":                        `{"type":"NotTSV"}`,
		"a\t":                      `{"type":"FieldNumberMismatch","fieldCount":2}`,
		strings.Repeat("\t", 5000): `{"type":"FieldNumberMismatch","fieldCount":1024}`,
		strings.Join(cells, "\t"): `{"type":"RowDecodingError","errors":[` +
			`{"type":"InvalidValue","key":"app_id","value":"a�\u0001","message":"not text without control characters"},` +
			`{"type":"InvalidValue","key":"collector_tstamp","value":"yesterday","message":"not a time as yyyy-MM-dd HH:mm:ss.SSS"},` +
			`{"type":"InvalidValue","key":"txn_id","value":"x\"","message":"not a 32-bit integer"}]}`,
	} {
		_, err := ParseTSV(line)
		var wrong *TSVError
		if !errors.As(err, &wrong) {
			t.Fatalf("%.20q: %v", line, err)
		}
		got := string(wrong.Failure())
		if got != strings.ReplaceAll(want, `\uFFFD`, "\uFFFD") || !json.Valid([]byte(got)) {
			t.Errorf("%.20q: %s", line, got)
		}
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
		var wrong *TSVError
		if _, err := ParseStored(line); errors.As(err, &wrong) && !json.Valid(wrong.Failure()) {
			t.Errorf("%q: failure %s", line, wrong.Failure())
		}
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
