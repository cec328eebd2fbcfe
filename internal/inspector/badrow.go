package inspector

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"furrow/internal/event"
	"furrow/internal/snowplow"
)

// badEntry is a bad row in the ring.
type badEntry struct {
	id      string
	record  event.RecordID
	index   int
	time    time.Time
	schema  string
	failure string
	payload string // the record's beginning
	length  int    // of the whole record
	cut     bool
}

func (e *badEntry) size() int64 {
	return int64(len(e.failure)+len(e.payload)+len(e.schema)+len(e.id)) + entryOverhead
}

func newBadEntry(row *event.BadRow) *badEntry {
	e := &badEntry{
		id: string([]byte(row.ID)), record: row.Record, index: row.Index, time: row.Time,
		schema: string([]byte(row.Schema)), length: len(row.Payload),
		payload: string(row.Payload[:min(len(row.Payload), badLimit)]),
	}
	if len(row.Failure) <= badLimit {
		e.failure = string(row.Failure)
	}
	e.cut = len(e.payload) < len(row.Payload) || len(e.failure) < len(row.Failure)
	return e
}

// badDetail is a bad row as /api/bad/{id} shows it.
type badDetail struct {
	BadSummary
	Record        string          `json:"record"`
	SchemaURI     string          `json:"schema_uri"`
	Failure       json.RawMessage `json:"failure"`           // null when it was too large to keep
	Request       *badRequest     `json:"request,omitempty"` // when the record is a whole collector payload
	PayloadBytes  int             `json:"payload_bytes"`
	PayloadText   string          `json:"payload_text,omitempty"` // when it is text
	PayloadBase64 string          `json:"payload_base64"`
	Cut           bool            `json:"cut"`
}

// badRequest is what the visitor sent, as far as it tells what went wrong.
type badRequest struct {
	Time        string `json:"time"`
	Hostname    string `json:"hostname,omitempty"`
	Path        string `json:"path,omitempty"`
	Querystring string `json:"querystring,omitempty"`
	ContentType string `json:"content_type,omitempty"`
	Body        string `json:"body,omitempty"`
	RefererURI  string `json:"referer_uri,omitempty"`
	UserAgent   string `json:"user_agent,omitempty"`
}

func (e *badEntry) detail() badDetail {
	d := badDetail{
		BadSummary: e.summary(), Record: e.record.String(), SchemaURI: e.schema,
		PayloadBytes: e.length, PayloadBase64: base64.StdEncoding.EncodeToString([]byte(e.payload)), Cut: e.cut,
	}
	if json.Valid([]byte(e.failure)) {
		d.Failure = json.RawMessage(e.failure)
	}
	if isPlain(e.payload) {
		d.PayloadText = e.payload
	}
	if len(e.payload) < e.length {
		return d
	}
	if p, err := snowplow.DecodePayload([]byte(e.payload)); err == nil {
		d.Request = &badRequest{
			Time: stamp(p.Time()), Hostname: p.Hostname.Value, Path: p.Path.Value, Querystring: p.Querystring.Value,
			ContentType: p.ContentType.Value, Body: p.Body.Value, RefererURI: p.RefererURI.Value, UserAgent: p.UserAgent.Value,
		}
	}
	return d
}

// isPlain reports whether a record can be shown as text.
func isPlain(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) && r != '\t' && r != '\n' && r != '\r'
	})
}
