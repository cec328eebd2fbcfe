package enrich

import (
	"encoding/binary"
	"math/bits"
	"strconv"
	"strings"

	"furrow/internal/event"
	"furrow/internal/snowplow"
)

// share makes the query string's parameters part of every event of a batch.
func (p *parser) share() {
	p.shared = places{}
	p.hash = 0
	for i := range p.query {
		p.hash += paramHash(&p.query[i])
		if id, ok := snowplow.LookupParam(p.query[i].Name); ok && p.query[i].Set {
			p.shared.put(id, -1-i)
		}
	}
}

// maxBlock is how many events are allocated at once.
const maxBlock = 16

// expect makes room for n events.
func (p *parser) expect(n int) {
	if p.judging {
		n = 1 // they are looked at one by one
	}
	p.result.Events = make([]*event.Event, 0, n)
}

// next returns the next empty event. It stays next until it is kept.
func (p *parser) next() *event.Event {
	if len(p.block) == 0 {
		room := cap(p.result.Events) - len(p.result.Events)
		p.block = make([]event.Event, max(1, min(room, maxBlock)))
	}
	return &p.block[0]
}

// emit makes one event, or one bad row, of the parameters and what is shared, or
// neither when it is to be forgotten.
func (p *parser) emit(index int, params []snowplow.Param) {
	content := p.gather(params)
	e := p.next()
	e.Record, e.Index, e.Content = p.result.RecordID, index, content
	if p.spread > maxSpread {
		p.identify(e, params)
		if !p.forgets(index, e) {
			p.overspread(index)
		}
		*e = event.Event{}
		return
	}
	schema, failures := p.fill(e, params)
	var failure []byte
	if len(failures) > 0 {
		failure = snowplow.EventFailure(p.now, failures...)
		p.spread += len(failure)
	} else if index >= fewEvents {
		p.spread += textBytes(e)
	}
	forgotten := p.forgets(index, e)
	if forgotten || p.judging || failure != nil {
		*e = event.Event{}
		if failure != nil && !forgotten {
			p.bad(index, schema, failure)
		}
		return
	}
	p.block = p.block[1:]
	p.result.Events = append(p.result.Events, e)
}

// gather finds the known parameters of an event and returns the hash of all. The
// shared ones win over the event's own.
func (p *parser) gather(params []snowplow.Param) (content uint64) {
	p.places = p.shared
	content = p.hash + p.delta
	for i := range params {
		id, known := snowplow.LookupParam(params[i].Name)
		if known && p.shared.has(id) {
			continue
		}
		content += paramHash(&params[i])
		if known && params[i].Set {
			p.places.put(id, i)
		}
	}
	return content
}

// value returns the value of a known parameter that is there.
func (p *parser) value(id int, params []snowplow.Param) string {
	if at := p.places.at[id]; at >= 0 {
		return params[at].Value
	}
	return p.query[-1-p.places.at[id]].Value
}

// fill sets all fields of the event. What is wrong is returned with the schema of
// its bad row.
func (p *parser) fill(e *event.Event, params []snowplow.Param) (schema string, failures []snowplow.Message) {
	p.failures = p.failures[:0]
	p.setDefaults(e)
	p.setParams(e, params)
	if len(p.failures) > 0 {
		return snowplow.EnrichmentFailures, p.failures
	}
	key, violations := p.describe(e)
	if len(violations) > 0 {
		return snowplow.SchemaViolations, violations
	}
	if !e.Has(event.VCollector) {
		p.fail("v_collector", event.Optional{}, "not empty")
	}
	p.setPage(e)
	p.setDerivedTime(e)
	p.setSchema(e, key)
	p.checkLengths(e)
	return snowplow.EnrichmentFailures, p.failures
}

// fail notes one failure of the event.
func (p *parser) fail(field string, value event.Optional, expectation string) {
	p.failures = append(p.failures, snowplow.EnrichmentMessage(snowplow.FieldMessage(field, value, expectation)))
}

// setDefaults sets what is known without the tracker.
func (p *parser) setDefaults(e *event.Event) {
	e.SetText(event.VCollector, snowplow.SafeText(p.payload.Collector))
	e.SetText(event.VEtl, p.etl)
	e.SetTime(event.EtlTstamp, p.now)
	e.SetText(event.NetworkUserID, p.userID)
	e.SetText(event.UserIPAddress, snowplow.SafeText(clientAddress(&p.payload)))
	e.SetText(event.Useragent, snowplow.SafeText(p.payload.UserAgent.Value))
	if snowplow.ValidMillis(p.payload.Timestamp) {
		e.SetTime(event.CollectorTstamp, p.payload.Time())
	} else {
		p.fail("collector_tstamp", event.Some(p.payload.Time().String()), "a year from 0 to 9999")
	}
}

// setParams converts and sets every known parameter, and the event's id when the
// tracker sent none.
func (p *parser) setParams(e *event.Event, params []snowplow.Param) {
	for word, set := range p.places.set {
		for ; set != 0; set &= set - 1 {
			i := word*64 + bits.TrailingZeros64(set)
			spec := snowplow.ParamSpec(i)
			value := p.value(i, params)
			var err error
			switch spec.Conversion {
			case snowplow.AsJSON:
				p.decoded = append(p.decoded[:0], value...)
				err = p.setJSON(e, spec.Field)
			case snowplow.AsBase64JSON:
				p.decoded = snowplow.AppendBase64(p.decoded[:0], value)
				err = p.setJSON(e, spec.Field)
			default:
				err = spec.Set(e, value)
			}
			if err != nil {
				p.fail(spec.Name, event.Some(value), err.Error())
			}
		}
	}
	if !e.Has(event.EventID) {
		e.SetText(event.EventID, event.DeriveEventID(e.Record, e.Index))
	}
}

// setJSON sets the field to the JSON document in decoded, compact.
func (p *parser) setJSON(e *event.Event, f event.Field) error {
	out, err := p.compactor.Append(p.scratch[:0], p.decoded)
	if err != nil {
		return err
	}
	p.scratch = out
	e.SetText(f, string(out))
	return nil
}

// setPage splits the addresses of the page and its referrer and takes what another
// site of the same owner put into the query string.
func (p *parser) setPage(e *event.Event) {
	if !e.Has(event.PageURL) && p.payload.RefererURI.Value != "" {
		e.SetText(event.PageURL, snowplow.SafeText(p.payload.RefererURI.Value))
	}
	if text := e.Text(event.PageURL); text != "" {
		if u, ok := parseURI(text); ok {
			e.SetText(event.PageURL, u.text)
			setURI(e, event.PageURLScheme, &u)
			p.setCrossDomain(e, u.query)
		} else {
			p.fail("page_url", event.Some(text), "an address that can be parsed")
		}
	}
	if text := e.Text(event.PageReferrer); text != "" {
		if u, ok := parseURI(text); ok {
			setURI(e, event.RefrURLScheme, &u)
		} else {
			p.fail("page_referrer", event.Some(text), "an address that can be parsed")
		}
	}
}

// setURI sets the six component fields that start at first.
func setURI(e *event.Event, first event.Field, u *uri) {
	e.SetText(first, u.scheme)
	e.SetText(first+1, u.host)
	e.SetInt(first+2, u.effectivePort())
	e.SetText(first+3, u.path)
	e.SetText(first+4, u.query)
	e.SetText(first+5, u.fragment)
}

// setCrossDomain reads _sp, made of the linking site's user id, a dot and the
// device's time of the click, and more that is not used.
func (p *parser) setCrossDomain(e *event.Event, query string) {
	if !strings.Contains(query, "_sp") && !strings.Contains(query, "%") {
		return
	}
	p.sp, _ = snowplow.AppendQuery(p.sp[:0], query)
	sp, ok := lookup(p.sp, "_sp")
	if !ok {
		return
	}
	id, rest, _ := strings.Cut(sp, ".")
	stamp, _, _ := strings.Cut(rest, ".")
	e.SetText(event.RefrDomainUserID, snowplow.SafeText(id))
	if stamp == "" {
		return
	}
	ms, ok := snowplow.ParseMillis(stamp)
	if !ok {
		p.fail("sp_dtm", event.Some(stamp), "milliseconds since the epoch, of a year from 0 to 9999")
		return
	}
	*e.Cell(event.RefrDvceTstamp) = event.Cell{Num: ms, Set: true}
}

// setDerivedTime estimates when the event happened: the stated exact time, else
// the collector's time less what the event waited on the device.
func (p *parser) setDerivedTime(e *event.Event) {
	at := *e.Cell(event.CollectorTstamp)
	created, sent := e.Cell(event.DvceCreatedTstamp), e.Cell(event.DvceSentTstamp)
	if exact := e.Cell(event.TrueTstamp); exact.Set {
		at = *exact
	} else if created.Set && sent.Set && created.Num < sent.Num {
		at.Num -= sent.Num - created.Num
	}
	if at.Set && !snowplow.ValidMillis(at.Num) {
		p.fail("derived_tstamp", event.Optional{}, "a year from 0 to 9999")
		return
	}
	*e.Cell(event.DerivedTstamp) = at
}

// setSchema names the schema of the event: of a self-describing event its own,
// else the one that stands for its type.
func (p *parser) setSchema(e *event.Event, key snowplow.SchemaKey) {
	switch kind := e.Text(event.EventType); kind {
	case "unstruct":
		if key.Vendor == "" {
			return
		}
	case "page_view", "page_ping", "transaction", "transaction_item":
		key = snowplow.SchemaKey{Vendor: snowplowVendor, Name: kind, Format: "jsonschema", Model: 1}
	case "struct":
		key = snowplow.SchemaKey{Vendor: "com.google.analytics", Name: "event", Format: "jsonschema", Model: 1}
	default:
		p.fail("event", event.Optional{Value: kind, Set: kind != ""}, "an event type that has a schema")
		return
	}
	e.SetText(event.EventVendor, key.Vendor)
	e.SetText(event.EventName, key.Name)
	e.SetText(event.EventFormat, key.Format)
	e.SetText(event.EventVersion, key.Version())
}

// checkLengths notes every text that is too long for its field.
func (p *parser) checkLengths(e *event.Event) {
	first := true
	for f := range event.Field(event.NumFields) {
		limit := f.MaxLen()
		text := e.Text(f)
		if limit == 0 || len(text) <= limit || utf16Len(text) <= limit {
			continue
		}
		if first {
			p.failures = append(p.failures, snowplow.EnrichmentMessage(snowplow.ErrorMessage("a field is longer than it may be")))
			first = false
		}
		p.failures = append(p.failures, snowplow.EnrichmentMessage(snowplow.ErrorMessage(
			"field "+f.Name()+" is longer than its maximum of "+strconv.Itoa(limit)+" characters",
		)))
	}
}

// utf16Len counts as the limits do, in UTF-16 units.
func utf16Len(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r > 0xffff {
			n++
		}
	}
	return n
}

// paramHash hashes one parameter. The hash of an event is the sum over its
// parameters, which does not depend on their order. What differs between two
// sendings of one event, stm, and what has no value count for nothing.
func paramHash(p *snowplow.Param) uint64 {
	if !p.Set || p.Name == "stm" {
		return 0
	}
	return mix(textHash(p.Name), textHash(p.Value))
}

// Odd constants from the fractional digits of pi and e.
const (
	hashA = 0x243f6a8885a308d3
	hashB = 0xb7e151628aed2a6b
)

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^hashA, b^hashB)
	return hi ^ lo
}

// textHash is stable across processes and machines, unlike hash/maphash.
func textHash(s string) uint64 {
	h := uint64(len(s))
	for len(s) >= 8 {
		h = mix(h, binary.LittleEndian.Uint64([]byte(s[:8])))
		s = s[8:]
	}
	var tail [8]byte
	copy(tail[:], s)
	return mix(h, binary.LittleEndian.Uint64(tail[:]))
}
