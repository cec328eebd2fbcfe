package snowplow

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"furrow/internal/event"
)

func TestCause(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	const (
		thing   = "iglu:com.acme/thing/jsonschema/1-0-0"
		generic = "iglu:com.snowplowanalytics.snowplow.badrows/generic_error/jsonschema/1-0-0"
		size    = "iglu:com.snowplowanalytics.snowplow.badrows/size_violation/jsonschema/1-0-0"
	)
	reports := []Report{{Message: "$[3].price is of type string", Path: "$[3].price", Keyword: "type", Targets: []string{"secret"}}}
	required := []Report{{Path: "$", Keyword: "required", Targets: []string{"tv"}}}
	keys := []Report{{Path: "$.people.alice@example.com[2]", Keyword: "additionalProperties", Targets: []string{"alice"}}}
	enrichment := func(field, value string, err error) []byte {
		return EventFailure(at, EnrichmentMessage(FieldMessage(field, event.Some(value), err.Error())))
	}
	for _, c := range []struct {
		schema  string
		failure []byte
		want    string
	}{
		{SchemaViolations, EventFailure(at, UnknownSchemaMessage(thing)), "schema_violations: com.acme/thing/jsonschema/1-0-0: not found in any registry"},
		{EnrichmentFailures, enrichment("se_va", "ten", errDecimal), "enrichment_failures: se_value: cannot be converted to a number"},
		{EnrichmentFailures, enrichment("vid", "1x", errInt), "enrichment_failures: domain_sessionidx: cannot be converted to a 32-bit integer"},
		{EnrichmentFailures, enrichment("eid", "x", errUUID), "enrichment_failures: event_id: must be a UUID in canonical form"},
		{EnrichmentFailures, enrichment("res", "1", errDimension), "enrichment_failures: res: must be WIDTHxHEIGHT, both 32-bit integers"},
		{EnrichmentFailures, enrichment("page_url", "http://alice", errors.New("an address that can be parsed")), "enrichment_failures: page_url: must be an address that can be parsed"},
		{EnrichmentFailures, enrichment("co", "{", errors.New(`not JSON: byte 12 is 'x' where a value should be`)), "enrichment_failures: contexts: not JSON"},
		{EnrichmentFailures, EventFailure(at, EnrichmentMessage(ErrorMessage(tooLong)), EnrichmentMessage(ErrorMessage("field br_colordepth is longer than its maximum of 12 characters"))), "enrichment_failures: br_colordepth: is longer than its maximum"},
		{EnrichmentFailures, []byte(`{"messages":[{"enrichment":{"schemaKey":"x","identifier":"sql-query"},"message":{"error":"no row for 'alice' at 10.0.0.1"}}]}`), "enrichment_failures: sql-query: no row for … at …"},
		{TrackerProtocolViolations, AdapterFailure(at, "v", "tp2", ValidationMessage(thing, reports)), "tracker_protocol_violations: com.acme/thing/jsonschema/1-0-0: $.*.price violates type"},
		{TrackerProtocolViolations, AdapterFailure(at, "v", "tp2", ValidationMessage(thing, required)), "tracker_protocol_violations: com.acme/thing/jsonschema/1-0-0: $ violates required tv"},
		{SchemaViolations, EventFailure(at, ValidationMessage(thing, keys)), "schema_violations: com.acme/thing/jsonschema/1-0-0: $.people.….com.* violates additionalProperties"},
		{TrackerProtocolViolations, AdapterFailure(at, "v", "tp2", CriterionMessage(thing, "iglu:a.b/payload_data/jsonschema/1-0-*")), "tracker_protocol_violations: com.acme/thing/jsonschema/1-0-0: must match a.b/payload_data/jsonschema/1-0-*"},
		{SchemaViolations, EventFailure(at, JSONMessage(`{"x":1}`, "INVALID_DATA_PAYLOAD")), "schema_violations: not self-describing JSON"},
		{SchemaViolations, EventFailure(at, JSONMessage(`{"x":1}`, "INVALID_IGLUURI")), "schema_violations: not an Iglu URI"},
		{AdapterFailures, AdapterFailure(at, "v", "x", FieldMessage("vendor/version", event.Some("v/x"), "a vendor and version that Furrow has an adapter for")), "adapter_failures: vendor/version: must be a vendor and version that Furrow has an adapter for"},
		{AdapterFailures, AdapterFailure(at, "v", "x", FieldMessage("body", event.Optional{}, "not empty")), "adapter_failures: body: is missing or empty"},
		{TrackerProtocolViolations, AdapterFailure(at, "v", "x", FieldMessage("contentType", event.Optional{}, "set when there is a body")), "tracker_protocol_violations: contentType: is missing, must be set when there is a body"},
		{PayloadFormatViolation, LoaderFailure(at, PayloadFieldMessage("networkUserId", event.Some("x"), "a UUID")), "collector_payload_format_violation: networkUserId: must be a UUID"},
		{PayloadFormatViolation, LoaderFailure(at, ErrorMessage("not a collector payload: field 340: record ends too early at byte 5 of 10")), "collector_payload_format_violation: not a collector payload: field …: record ends too early at byte … of …"},
		{generic, []byte(`{"timestamp":"x","errors":["event_id 13c7ae3d-3d0d-4c08-991b-6badf55fb0e3 is already stored with other content"]}`), "generic_error: event_id … is already stored with other content"},
		{generic, []byte(`{"errors":["it doesn't know \"alice\" or 'bob' or alice@example.com"]}`), "generic_error: it doesn't know … or … or …"},
		{size, []byte(`{"timestamp":"x","maximumAllowedSizeBytes":10,"actualSizeBytes":20,"expectation":"oversized collector payload: GET requests cannot be split"}`), "size_violation: oversized collector payload: GET requests cannot be split"},
		{SchemaViolations, []byte(`{"messages":[{"schemaKey":"` + thing + `","error":{"error":"ResolutionError","lookupHistory":[{"repository":"a","errors":[{"error":"RepoFailure"}]}]}}]}`), "schema_violations: com.acme/thing/jsonschema/1-0-0: a registry cannot be asked"},
		{LoaderParsingError, (&TSVError{Cells: 1}).Failure(), "loader_parsing_error: no tabs in the line"},
		{LoaderParsingError, (&TSVError{Cells: 130}).Failure(), "loader_parsing_error: not the number of cells that an enriched event has"},
		{LoaderParsingError, (&TSVError{Cells: event.NumFields, Values: []ValueError{{event.EventID, "alice", "a UUID"}}}).Failure(), "loader_parsing_error: event_id: not a UUID"},
		{LoaderParsingError, []byte(`{"type":"RowDecodingError","errors":[]}`), "loader_parsing_error: no reason is given"},
		{"nonsense", []byte("x"), "unknown: its failure cannot be read"},
		{generic, []byte("{}"), "generic_error: no reason is given"},
		{generic, nil, "generic_error: its failure cannot be read"},
	} {
		if got := Cause(c.schema, c.failure); got != c.want && c.want != "" {
			t.Errorf("%s\n got %s\nwant %s", c.failure, got, c.want)
		}
	}
}

func FuzzCause(f *testing.F) {
	f.Add(SchemaViolations, []byte(`{"messages":[{"schemaKey":"iglu:a/b/c/1-0-0","error":{"error":"ValidationError","dataReports":[{"path":"$[0]"}]}}]}`), "alice7@x")
	f.Add("x", []byte(`{"message":{"field":"x","value":null,"expectation":"y"},"errors":["z"]}`), "0123")
	f.Fuzz(func(t *testing.T, schema string, failure []byte, value string) {
		for _, failure := range [][]byte{failure, EventFailure(time.Time{}, EnrichmentMessage(FieldMessage("se_va", event.Some(value), errDecimal.Error())))} {
			got := Cause(schema, failure)
			if got == "" || len(got) > maxCause+len(leftOut) || !utf8.ValidString(got) || strings.ContainsAny(got, "\n\t\x00") {
				t.Errorf("%q", got)
			}
			if Cause(schema, failure) != got {
				t.Error("not stable")
			}
		}
		if len(value) > 4 && strings.ContainsAny(value, "0123456789@") && !strings.ContainsAny(value, " \t\r\n\v\f\u0085\u00a0") && !strings.Contains(schema, value) {
			reason := ErrorMessage("cannot read " + value + " here")
			if got := Cause(SchemaViolations, EventFailure(time.Time{}, reason)); strings.Contains(got, value) {
				t.Errorf("%q is in %q", value, got)
			}
		}
	})
}
