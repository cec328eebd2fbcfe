package snowplow

import (
	"encoding/base64"
	"strconv"
	"time"

	"furrow/internal/event"
)

const badRows = "iglu:com.snowplowanalytics.snowplow.badrows/"

// The schemas of bad rows.
const (
	PayloadFormatViolation    = badRows + "collector_payload_format_violation/jsonschema/1-0-0"
	AdapterFailures           = badRows + "adapter_failures/jsonschema/1-0-0"
	TrackerProtocolViolations = badRows + "tracker_protocol_violations/jsonschema/1-0-1"
	SchemaViolations          = badRows + "schema_violations/jsonschema/2-0-1"
	EnrichmentFailures        = badRows + "enrichment_failures/jsonschema/2-0-1"
)

// Processor is the program that wrote a bad row; its version must look like 1.2.3.
type Processor struct{ Artifact, Version string }

// AppendBadRow appends the bad row as one line of compact JSON. The payload is the
// exact record in base64 whatever the schema, so that it can be replayed.
func AppendBadRow(dst []byte, row *event.BadRow, by Processor) []byte {
	dst = append(dst, `{"schema":`...)
	dst = AppendJSONText(dst, row.Schema)
	dst = append(dst, `,"data":{"failure":`...)
	dst = append(dst, row.Failure...)
	dst = append(dst, `,"payload":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, row.Payload)
	dst = append(dst, `","processor":{"artifact":`...)
	dst = AppendJSONText(dst, by.Artifact)
	dst = append(dst, `,"version":`...)
	dst = AppendJSONText(dst, by.Version)
	return append(dst, `}}}`...)
}

// Message is one message of a failure, compact JSON.
type Message []byte

// maxValue bounds how much of an offending value a message repeats: the record is
// in the bad row anyway.
const maxValue = 4096

// FieldMessage says what was expected in a field instead of its value.
func FieldMessage(field string, value event.Optional, expectation string) Message {
	return fieldMessage("field", field, value, "expectation", expectation)
}

// FieldError says why a field could not be read.
func FieldError(field string, value event.Optional, reason string) Message {
	return fieldMessage("field", field, value, "error", reason)
}

// PayloadFieldMessage is FieldMessage for the parts of a collector payload.
func PayloadFieldMessage(field string, value event.Optional, expectation string) Message {
	return fieldMessage("payloadField", field, value, "expectation", expectation)
}

func fieldMessage(kind, field string, value event.Optional, why, text string) Message {
	m := append(Message(`{"`), kind...)
	m = append(m, `":`...)
	m = AppendJSONText(m, field)
	m = append(m, `,"value":`...)
	if value.Set {
		v := value.Value
		if len(v) > maxValue {
			v = v[:maxValue]
		}
		m = AppendJSONText(m, v)
	} else {
		m = append(m, "null"...)
	}
	m = append(m, `,"`...)
	m = append(m, why...)
	m = append(m, `":`...)
	m = AppendJSONText(m, text)
	return append(m, '}')
}

// ErrorMessage is a message that is only a reason.
func ErrorMessage(reason string) Message {
	return append(AppendJSONText(Message(`{"error":`), reason), '}')
}

// JSONMessage says why a JSON document, compact, is not self-describing.
func JSONMessage(json, reason string) Message {
	m := append(Message(`{"json":`), json...)
	m = append(m, `,"error":`...)
	return append(AppendJSONText(m, reason), '}')
}

// CriterionMessage says which schemas were acceptable.
func CriterionMessage(key, criterion string) Message {
	m := AppendJSONText(Message(`{"schemaKey":`), key)
	m = append(m, `,"schemaCriterion":`...)
	return append(AppendJSONText(m, criterion), '}')
}

// Report is one complaint about data that does not follow its schema.
type Report struct {
	Message string // what is wrong
	Path    string // where, for example $[0].e
	Keyword string // the schema's keyword that was violated
	Targets []string
}

// ValidationMessage says how data violates its schema.
func ValidationMessage(key string, reports []Report) Message {
	m := AppendJSONText(Message(`{"schemaKey":`), key)
	m = append(m, `,"error":{"error":"ValidationError","dataReports":[`...)
	for i, r := range reports {
		if i > 0 {
			m = append(m, ',')
		}
		m = AppendJSONText(append(m, `{"message":`...), r.Message)
		m = AppendJSONText(append(m, `,"path":`...), r.Path)
		m = AppendJSONText(append(m, `,"keyword":`...), r.Keyword)
		m = append(m, `,"targets":[`...)
		for j, t := range r.Targets {
			if j > 0 {
				m = append(m, ',')
			}
			m = AppendJSONText(m, t)
		}
		m = append(m, "]}"...)
	}
	return append(m, "]}}"...)
}

// UnknownSchemaMessage says that a schema is in no registry.
func UnknownSchemaMessage(key string) Message {
	m := AppendJSONText(Message(`{"schemaKey":`), key)
	return append(m, `,"error":{"error":"ResolutionError","lookupHistory":[]}}`...)
}

// EnrichmentMessage puts a message into the form of enrichment failures; no single
// enrichment is to blame.
func EnrichmentMessage(message Message) Message {
	m := append(Message(`{"enrichment":null,"message":`), message...)
	return append(m, '}')
}

// LoaderFailure is the failure of a PayloadFormatViolation.
func LoaderFailure(at time.Time, message Message) []byte {
	f := failureHead(at)
	f = append(f, `,"loader":"thrift","message":`...)
	f = append(f, message...)
	return append(f, '}')
}

// AdapterFailure is the failure of AdapterFailures and TrackerProtocolViolations.
func AdapterFailure(at time.Time, vendor, version string, messages ...Message) []byte {
	f := failureHead(at)
	f = AppendJSONText(append(f, `,"vendor":`...), vendor)
	f = AppendJSONText(append(f, `,"version":`...), version)
	return appendMessages(f, messages)
}

// EventFailure is the failure of SchemaViolations and EnrichmentFailures.
func EventFailure(at time.Time, messages ...Message) []byte {
	return appendMessages(failureHead(at), messages)
}

func failureHead(at time.Time) []byte {
	f := append(make([]byte, 0, 256), `{"timestamp":`...)
	f = strconv.AppendQuote(f, at.UTC().Format(time.RFC3339Nano))
	return f
}

func appendMessages(f []byte, messages []Message) []byte {
	f = append(f, `,"messages":[`...)
	for i, m := range messages {
		if i > 0 {
			f = append(f, ',')
		}
		f = append(f, m...)
	}
	return append(f, "]}"...)
}
