package enrich

import (
	"encoding/binary"
	"encoding/hex"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"furrow/internal/event"
	"furrow/internal/snowplow"
)

// matcher says whether events with these identifiers are to be forgotten.
type matcher = func(userID, domainUserID, networkUserID string, collected time.Time) bool

// A redacted record bears a mark: a line before its headers that no client can
// send, since the name of a header cannot begin with a colon. It names the id of
// the record as it came, 64 hex digits, and, when the query string was changed,
// what that took from the content hash of every event, 16 more.
const markName = ":furrow-forgotten: "

// In a batch an element that was taken out is replaced by one that payload_data
// allows and that names the same id. It counts only in a record with the mark.
const (
	placeholderHead = `{"e":"pv","p":"srv","tv":"furrow-forgotten","tna":"`
	placeholderTail = `"}`
)

const zeroID = "00000000-0000-0000-0000-000000000000"

var (
	paramUID, _   = snowplow.LookupParam("uid")
	paramDUID, _  = snowplow.LookupParam("duid")
	paramNUID, _  = snowplow.LookupParam("nuid")
	paramTNUID, _ = snowplow.LookupParam("tnuid")
)

// redaction is what a parser knows about forgetting.
type redaction struct {
	forgotten matcher
	judging   bool // events are looked at and not kept
	collected time.Time

	placeholder string // of a record that bears the mark
	delta       uint64 // from the mark
	batch       bool   // of tp2
	holes       []int  // indexes of placeholders

	gone      []int // indexes of what is to be forgotten
	stays     int   // number of events and bad rows that are not
	keepsID   bool  // one that stays has the payload's network user id
	keepsNUID bool  // one that stays has its network user id from nuid
	changed   bool  // the record was redacted, or nothing of it is left
}

// readMark takes the identity of a redacted record from its mark.
func (p *parser) readMark() {
	for _, h := range p.payload.Headers {
		if h == "" || h[0] != ':' {
			continue
		}
		text, ok := strings.CutPrefix(h, markName)
		if !ok {
			continue
		}
		name, delta, changed := strings.Cut(text, " ")
		var id event.RecordID
		if len(name) != 2*len(id) {
			continue
		}
		if _, err := hex.Decode(id[:], []byte(name)); err != nil {
			continue
		}
		if changed {
			p.delta, _ = strconv.ParseUint(delta, 16, 64)
		}
		p.result.RecordID = id
		p.placeholder = placeholderHead + id.String() + placeholderTail
		return
	}
}

// mark writes the line that readMark reads.
func (p *parser) mark(delta uint64) string {
	line := markName + p.result.RecordID.String()
	if delta != 0 {
		line += " " + hex.EncodeToString(binary.BigEndian.AppendUint64(nil, delta))
	}
	return line
}

// forgets judges an event that was filled as far as it goes.
func (p *parser) forgets(index int, e *event.Event) bool {
	if p.forgotten == nil {
		p.stays++
		return false
	}
	network := e.Text(event.NetworkUserID)
	if p.forgotten(e.Text(event.UserID), e.Text(event.DomainUserID), network, p.collected) {
		p.gone = append(p.gone, index)
		return true
	}
	p.stays++
	p.keepsID = p.keepsID || network == p.userID
	p.keepsNUID = p.keepsNUID || p.places.has(paramNUID) && !p.places.has(paramTNUID)
	return false
}

// identify sets the identifiers of an event and nothing else.
func (p *parser) identify(e *event.Event, params []snowplow.Param) {
	e.SetText(event.NetworkUserID, p.userID)
	for _, id := range [...]int{paramUID, paramDUID, paramNUID, paramTNUID} { // in the order in which they apply
		if p.places.has(id) {
			_ = snowplow.ParamSpec(id).Set(e, p.value(id, params)) // a text cannot fail
		}
	}
}

// settle says what may be kept of the record.
func (p *parser) settle() {
	r := &p.result
	r.Record, r.Forgotten = p.record, len(p.gone)
	// Only a batch has events of several people. If the elements of another array
	// were judged differently, somebody was forgotten in between.
	if p.stays == 0 || len(p.gone) > 0 && !p.batch {
		r.Forgotten += len(r.Events) + len(r.Bad)
		r.Events, r.Bad, r.Record, p.changed = nil, nil, nil, true
		return
	}
	if p.forgotten == nil || r.Payload == nil {
		return
	}
	edited := p.payload
	if !p.redact(&edited) {
		return
	}
	record, err := snowplow.EditPayload(p.record, &edited)
	if err != nil { // it was decoded, so it can be edited
		record = nil
	}
	r.Record, p.changed = record, true
	for i := range r.Bad {
		r.Bad[i].Payload = record
	}
}

// redact takes out of the payload what is to be forgotten and returns whether
// anything was. Results share the payload's memory, so nothing is changed in place.
func (p *parser) redact(edited *event.Payload) bool {
	changed := len(p.gone) > 0
	if changed {
		next := 0 // the indexes are in order
		with := placeholderHead + p.result.RecordID.String() + placeholderTail
		edited.Body.Value = snowplow.ReplaceElements(edited.Body.Value, "data", with, func(i int) bool {
			hit := next < len(p.gone) && p.gone[next] == i
			if hit {
				next++
			}
			return hit
		})
	}
	// The network user id is said once for all events, which may each say another.
	id := p.userID
	goes := id != "" && id != zeroID && !p.keepsID && p.forgotten("", "", id, p.collected)
	if goes {
		changed = true
		edited.NetworkUserID.Value = zeroID
	}
	headers := edited.Headers
	for i, h := range edited.Headers {
		after := p.blankHeader(h, goes)
		if after == h {
			continue
		}
		if &headers[0] == &edited.Headers[0] {
			headers = slices.Clone(headers)
		}
		headers[i], changed = after, true
	}
	if after := p.blankAddress(edited.RefererURI.Value); after != edited.RefererURI.Value {
		edited.RefererURI.Value, changed = after, true
	}
	delta, blanked := p.blankQuery(edited)
	if !changed && !blanked {
		return false
	}
	if p.placeholder != "" { // its mark is written anew
		headers = withoutMark(headers)
	}
	edited.Headers = append([]string{p.mark(p.delta + delta)}, headers...)
	return true
}

// blankQuery empties nuid in the query string where tnuid, or another nuid, overrides
// it in everything that stays. It returns what that takes from the content of each
// event.
func (p *parser) blankQuery(edited *event.Payload) (delta uint64, changed bool) {
	sent, ok := lookup(p.query, "nuid")
	raw := edited.Querystring.Value
	if !ok && !strings.Contains(raw, "nuid") {
		return 0, false
	}
	text := snowplow.BlankParams(raw, func(name, value string) bool {
		if name != "nuid" || ok && value == sent && p.keepsNUID {
			return false
		}
		value = snowplow.SafeText(value)
		return value != "" && value != zeroID && (value != p.userID || !p.keepsID) && p.forgotten("", "", value, p.collected)
	})
	if text == raw {
		return 0, false
	}
	edited.Querystring.Value = text
	rest, _ := snowplow.AppendQuery(nil, text)
	return queryHash(p.query) - queryHash(rest), true
}

func queryHash(params []snowplow.Param) (sum uint64) {
	for i := range params {
		sum += paramHash(&params[i])
	}
	return sum
}

// blankHeader takes out of a header who is forgotten, the network user id where it
// goes.
func (p *parser) blankHeader(line string, network bool) string {
	if network {
		line = blankID(blankID(line, p.payload.NetworkUserID.Value), p.userID)
	}
	switch {
	case isHeader(line, "Cookie"):
		return p.blankNames(line)
	case isHeader(line, "Referer"):
		return p.blankAddress(line)
	}
	return line
}

// blankAddress is blankNames for the address of a page. It may be that of somebody
// else's event, who followed a link with an identifier in it: where nobody's events
// were taken out it stays.
func (p *parser) blankAddress(text string) string {
	if len(p.gone)+len(p.holes) == 0 {
		return text
	}
	return p.blankNames(text)
}

func isHeader(line, name string) bool {
	return len(line) > len(name) && line[len(name)] == ':' && strings.EqualFold(line[:len(name)], name)
}

// blankNames takes forgotten identifiers out of a line of cookies or an address: they
// are not those of anybody who stays. It puts the zero UUID in place of UUIDs. Where
// somebody's events were taken out it empties values, too, that are an identifier, or
// begin with one and a dot as Snowplow's do; elsewhere a value that looks like
// somebody's, as 2 may, is something else.
func (p *parser) blankNames(text string) string {
	text = snowplow.ReplaceUUIDs(text, zeroID, func(id string) bool { return p.forgotten(id, id, id, p.collected) })
	if len(p.gone)+len(p.holes) == 0 {
		return text
	}
	for i := 0; i < len(text); {
		end := len(text)
		if n := strings.IndexAny(text[i:], "?&;#"); n >= 0 {
			end = i + n
		}
		if eq := strings.IndexByte(text[i:end], '='); eq >= 0 && p.namesForgotten(text[i+eq+1:end]) {
			text = text[:i+eq+1] + text[end:]
			end = i + eq + 1
		}
		i = end + 1
	}
	return text
}

func (p *parser) namesForgotten(value string) bool {
	if strings.ContainsAny(value, "%+") {
		if plain, err := url.QueryUnescape(value); err == nil {
			value = plain
		}
	}
	value = snowplow.SafeText(strings.Trim(value, ` "`))
	first, _, _ := strings.Cut(value, ".")
	for _, id := range [...]string{value, first} {
		if id != "" && id != zeroID && p.forgotten(id, id, id, p.collected) {
			return true
		}
	}
	return false
}

// blankID puts the zero UUID in place of an identifier, whatever its case.
func blankID(line, id string) string {
	if id == "" {
		return line
	}
	for i := 0; i+len(id) <= len(line); i++ {
		if strings.EqualFold(line[i:i+len(id)], id) {
			line = line[:i] + zeroID + line[i+len(id):]
			i += len(zeroID) - 1
		}
	}
	return line
}

func withoutMark(headers []string) []string {
	var rest []string
	for _, h := range headers {
		if !strings.HasPrefix(h, markName) {
			rest = append(rest, h)
		}
	}
	return rest
}
