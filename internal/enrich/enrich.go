package enrich

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"furrow/internal/event"
	"furrow/internal/snowplow"
)

// Options is what the program that enriches knows about itself.
type Options struct {
	Artifact string // name in v_etl and bad rows, for example furrow
	Version  string // like 1.2.3, as bad rows want it
	// Forgotten says which events are left out, as if they had never been sent: by
	// what they have as user_id, domain_userid and network_userid, empty when null,
	// and when they were collected. Nil leaves none out. It is called for every
	// event, from many goroutines.
	Forgotten func(userID, domainUserID, networkUserID string, collected time.Time) bool
}

// Enricher turns records into events and bad rows. It is safe for concurrent use.
type Enricher struct {
	etl       string // v_etl
	forgotten matcher
}

// parsers keeps the buffers of parsers that are done.
var parsers = sync.Pool{New: func() any { return new(parser) }}

// New returns an enricher. It fails when the options are incomplete.
func New(opts Options) (*Enricher, error) {
	if opts.Artifact == "" || opts.Version == "" {
		return nil, errors.New("enrich: artifact and version must be set, they are part of every event")
	}
	return &Enricher{etl: snowplow.SafeText(opts.Artifact + "-" + opts.Version), forgotten: opts.Forgotten}, nil
}

// Result is what became of one record. The texts of its events share the memory of
// one copy of the record: clone what must outlive its neighbours.
type Result struct {
	Payload  *event.Payload // nil when the record could not be decoded
	RecordID event.RecordID
	Events   []*event.Event // in the order of the request
	Bad      []event.BadRow // in the order of the request
	// Forgotten is how many events and bad rows were left out, see Options.
	Forgotten int
	// Record is the record as it may be kept: the one that was given, unless
	// something was left out; then a redacted one, or nil when nothing is left.
	Record []byte
}

// Do enriches a record. An error only ever means that ctx ended; then the record
// was not judged and the result is empty.
func (r *Enricher) Do(ctx context.Context, record []byte, now time.Time) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	return r.Parse(record, now), nil
}

// Parse decodes a record and gives at least one event or bad row, unless all of it
// is to be forgotten. now becomes etl_tstamp and the time of failures and enters no
// identifier. The record is not kept, but for being in the result.
func (r *Enricher) Parse(record []byte, now time.Time) Result {
	p := parsers.Get().(*parser)
	defer parsers.Put(p)
	p.reset(r.etl, record, now)
	p.forgotten = r.forgotten
	p.parse()
	p.settle()
	result := p.result
	p.release()
	return result
}

// parser holds the work on one record; its buffers serve record after record.
type parser struct {
	etl     string
	now     time.Time
	record  []byte
	kept    []byte // a copy of the record for bad rows, made when first needed
	result  Result
	payload event.Payload

	vendor, version string
	userID          string // network user id of the payload, canonical

	query  []snowplow.Param // of the query string; merged over each event of a batch
	shared places           // the known ones of query
	hash   uint64           // of query
	own    []snowplow.Param // of one event, or of a batch one after the other
	ends   []int            // where in own each event of a batch ends
	places places

	compactor snowplow.Compactor
	scratch   []byte
	decoded   []byte
	sp        []snowplow.Param
	block     []event.Event // allocated ahead, next first
	failures  []snowplow.Message
	spread    int // bytes that the events so far hold, see maxSpread

	redaction
}

// maxKeptScratch bounds the buffers that stay allocated between records.
const maxKeptScratch = 1 << 20

func (p *parser) reset(etl string, record []byte, now time.Time) {
	p.etl, p.now, p.record = etl, now, record
	p.result = Result{RecordID: event.NewRecordID(record)}
}

// release lets go of everything that belongs to the record.
func (p *parser) release() {
	clear(p.query)
	clear(p.own)
	clear(p.sp)
	clear(p.failures)
	q, o, s, f, ends := p.query[:0], p.own[:0], p.sp[:0], p.failures[:0], p.ends[:0]
	c, d, compactor := p.scratch[:0], p.decoded[:0], p.compactor
	if cap(c) > maxKeptScratch || cap(d) > maxKeptScratch {
		c, d, compactor = nil, nil, snowplow.Compactor{}
		o, ends = nil, nil
	}
	*p = parser{query: q, own: o, sp: s, failures: f, ends: ends, scratch: c, decoded: d, compactor: compactor}
}

func (p *parser) parse() {
	payload, err := snowplow.DecodePayload(p.record)
	if err != nil {
		p.collected = doorTime(p.record)
		p.rejectPayload(snowplow.ErrorMessage(err.Error()))
		return
	}
	p.payload = payload
	kept := payload
	p.result.Payload = &kept
	p.collected = payload.Time()
	p.readMark()
	if message := p.load(); message != nil {
		p.rejectPayload(message)
		return
	}
	p.adapt()
}

// rejectPayload gives up the whole record.
func (p *parser) rejectPayload(message snowplow.Message) {
	p.reject(snowplow.PayloadFormatViolation, snowplow.LoaderFailure(p.now, message))
}

// rejectRequest gives up a request that its adapter cannot understand.
func (p *parser) rejectRequest(messages ...snowplow.Message) {
	schema := snowplow.AdapterFailures
	if p.version == "tp2" && (p.vendor == snowplowVendor || p.vendor == "r") {
		schema = snowplow.TrackerProtocolViolations
	}
	p.reject(schema, snowplow.AdapterFailure(p.now, p.vendor, p.version, messages...))
}

// reject makes the one bad row of a record, unless it may be somebody's who is to
// be forgotten.
func (p *parser) reject(schema string, failure []byte) {
	if p.forgotten != nil && p.mayBeForgotten() {
		p.gone = append(p.gone, event.WholeRecord)
		return
	}
	p.stays++
	p.bad(event.WholeRecord, schema, failure)
}

func (p *parser) bad(index int, schema string, failure []byte) {
	if p.judging {
		return
	}
	if p.kept == nil {
		p.kept = bytes.Clone(p.record)
	}
	at := p.now.UTC()
	if p.result.Payload != nil {
		at = p.payload.Time()
	}
	p.result.Bad = append(p.result.Bad, event.BadRow{
		ID:      event.BadRowID(p.result.RecordID, index),
		Record:  p.result.RecordID,
		Index:   index,
		Time:    at,
		Schema:  schema,
		Failure: failure,
		Payload: p.kept,
	})
}
