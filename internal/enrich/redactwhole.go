package enrich

import (
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"furrow/internal/event"
	"furrow/internal/snowplow"
)

// Redacted is what is left of a record.
type Redacted struct {
	Changed bool // false: the record and all its bad rows stay as they are
	// Record is what is left, nil when all of it goes. It keeps the id of the
	// original: Parse takes it from the mark.
	Record []byte
	// Gone says whether what came of the event with that index goes, its bad row for
	// one; of event.WholeRecord when the row may tell of somebody who goes.
	Gone func(index int) bool
}

// Redact takes out of a record the events that match. It takes every record that is
// stored anywhere: collector payloads, those redacted before, what cannot be
// decoded, bad rows that a collector wrote, and lines of an import. One that cannot
// be understood as a whole goes as a whole, when an identifier that stands in its
// network user id, its headers, its referrer, its query string or its body matches.
// A record that does not tell when it was collected counts as older than any other.
func Redact(record []byte, match func(userID, domainUserID, networkUserID string, collected time.Time) bool) (r Redacted) {
	defer func() {
		// A defect in enrichment must not keep anybody from being forgotten.
		if recover() != nil {
			r = Redacted{Record: record, Gone: func(int) bool { return false }}
			if scan(match, time.Time{}, string(record), true) {
				r = Redacted{Changed: true, Gone: func(int) bool { return true }}
			}
		}
	}()
	p := parsers.Get().(*parser)
	p.reset("", record, time.Time{})
	p.forgotten, p.judging = match, true
	p.parse()
	p.settle()
	r = Redacted{Changed: p.changed, Record: p.result.Record, Gone: func(int) bool { return false }}
	switch {
	case r.Record == nil:
		r.Gone = func(int) bool { return true }
	case len(p.gone)+len(p.holes) > 0:
		gone := map[int]bool{event.WholeRecord: len(p.gone) > 0}
		for _, indexes := range [][]int{p.gone, p.holes} {
			for _, i := range indexes {
				gone[i] = true
			}
		}
		r.Gone = func(index int) bool { return gone[index] }
	}
	p.release()
	parsers.Put(p)
	return r
}

// Redact is the function of that name.
func (*Enricher) Redact(record []byte, match func(userID, domainUserID, networkUserID string, collected time.Time) bool) Redacted {
	return Redact(record, match)
}

// Forgets says whether a record that is no payload, such as a bad row that a
// collector wrote at that time, is to be left out.
func (r *Enricher) Forgets(record []byte, at time.Time) bool {
	return r.forgotten != nil && scanDoor(r.forgotten, at, record)
}

// mayBeForgotten judges a record that failed as a whole.
func (p *parser) mayBeForgotten() bool {
	if p.result.Payload == nil {
		return scanDoor(p.forgotten, p.collected, p.record) || matchLine(p.forgotten, string(p.record))
	}
	if id := p.payload.NetworkUserID.Value; id != "" && id != zeroID {
		plain, ok := snowplow.NormalizeUUID(id)
		if p.forgotten("", "", snowplow.SafeText(id), p.collected) || ok && plain != zeroID && p.forgotten("", "", plain, p.collected) {
			return true
		}
	}
	for _, h := range p.payload.Headers {
		if (isHeader(h, "Cookie") || isHeader(h, "Referer")) && scan(p.forgotten, p.collected, h, true) {
			return true
		}
	}
	return scan(p.forgotten, p.collected, p.payload.Querystring.Value, false) ||
		scan(p.forgotten, p.collected, p.payload.Body.Value, false) ||
		scan(p.forgotten, p.collected, p.payload.RefererURI.Value, true)
}

// matchLine judges a line of an import. Where it has not the cells of an event,
// nobody knows which of them name somebody, and any may.
func matchLine(match matcher, line string) bool {
	cells := strings.Split(line, "\t")
	if len(cells) == 1 {
		return false
	}
	var collected time.Time
	if len(cells) > int(event.CollectorTstamp) {
		collected, _ = time.Parse("2006-01-02 15:04:05.999", cells[event.CollectorTstamp])
	}
	if len(cells) == event.NumFields {
		cells = []string{cells[event.UserID], cells[event.DomainUserID], cells[event.NetworkUserID]}
	}
	return slices.ContainsFunc(cells, func(cell string) bool {
		safe := snowplow.SafeText(cell)
		return cell != "" && match(cell, cell, cell, collected) || safe != cell && match(safe, safe, safe, collected)
	})
}

// scanDoor judges what cannot be decoded. A bad row may hold what it is about in
// base64.
func scanDoor(match matcher, collected time.Time, record []byte) bool {
	if scan(match, collected, string(record), true) {
		return true
	}
	payload, ok := snowplow.Text(doorMember(record, "payload"))
	if !ok {
		return false
	}
	if scan(match, collected, payload, false) {
		return true
	}
	inner, err := base64.StdEncoding.DecodeString(payload)
	return err == nil && scan(match, collected, string(inner), true)
}

// scan judges every candidate in a text.
func scan(match matcher, collected time.Time, text string, uuids bool) bool {
	seen := map[snowplow.Candidate]bool{}
	for c := range snowplow.Candidates(text, uuids) {
		if c.Text == "" || c.Text == zeroID || seen[c] {
			continue
		}
		seen[c] = true
		var hit bool
		switch c.Kind {
		case snowplow.CandidateUser:
			hit = match(c.Text, "", "", collected)
		case snowplow.CandidateDomain:
			hit = match("", c.Text, "", collected)
		case snowplow.CandidateNetwork:
			hit = match("", "", c.Text, collected)
		case snowplow.CandidateAny:
			hit = match(c.Text, c.Text, c.Text, collected)
		}
		if hit {
			return true
		}
	}
	return false
}

// doorTime returns when a collector wrote the bad row, the zero time when the
// record is none.
func doorTime(record []byte) time.Time {
	failure := doorMember(record, "failure")
	for key, value := range snowplow.Members(failure) {
		if key != "timestamp" {
			continue
		}
		if text, ok := snowplow.Text(value); ok {
			at, err := time.Parse(time.RFC3339Nano, text)
			if err == nil {
				return at
			}
		}
	}
	return time.Time{}
}

// doorMember returns a member of the data of a bad row, empty when the record is
// none.
func doorMember(record []byte, name string) string {
	if len(record) == 0 || record[0] != '{' {
		return ""
	}
	var c snowplow.Compactor
	text, err := c.Append(nil, record)
	if err != nil {
		return ""
	}
	for key, data := range snowplow.Members(string(text)) {
		if key != "data" {
			continue
		}
		for key, value := range snowplow.Members(data) {
			if key == name {
				return value
			}
		}
	}
	return ""
}
