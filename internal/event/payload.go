package event

import "time"

// Optional is a text that may be absent, which differs from empty: a request
// without a question mark has no query string, one that ends in it has an empty
// one.
type Optional struct {
	Value string
	Set   bool
}

// Some returns a present text.
func Some(s string) Optional { return Optional{Value: s, Set: true} }

// Payload is one collector request, field by field Snowplow's CollectorPayload.
type Payload struct {
	IPAddress     string   // client address, or "unknown"
	Timestamp     int64    // when the collector received the request, milliseconds since the epoch
	Encoding      string   // always UTF-8
	Collector     string   // name and version of the collector, then its sink
	UserAgent     Optional // User-Agent header
	RefererURI    Optional // Referer header
	Path          Optional // after path mapping
	Querystring   Optional // raw, undecoded, without the question mark
	Body          Optional // POST only
	Headers       []string // "Name: value"; a POST's last element is the bare content type
	ContentType   Optional // POST only
	Hostname      Optional // host of the request, lower-case, without port
	NetworkUserID Optional // cookie identifier, or the zero UUID when anonymous
}

// Time returns when the collector received the request, in UTC.
func (p *Payload) Time() time.Time { return time.UnixMilli(p.Timestamp).UTC() }

// BadRow is a record, or one event of a record, that could not be understood. It
// holds the exact record, so that it can be repaired and replayed.
type BadRow struct {
	ID      string    // derived from record and index, see BadRowID
	Record  RecordID  // the record it came from
	Index   int       // position of the event in the record; WholeRecord when the whole record failed
	Time    time.Time // when the collector received the record
	Schema  string    // Iglu URI of the failure, for example iglu:…badrows/enrichment_failures/jsonschema/2-0-1
	Failure []byte    // the failure object of that schema, compact JSON
	Payload []byte    // the exact record
}

// WholeRecord is a BadRow's Index when no single event is to blame.
const WholeRecord = -1
