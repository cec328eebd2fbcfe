package enrich

import (
	"strconv"

	"furrow/internal/event"
	"furrow/internal/snowplow"
)

// MaxEvents is how many events one request may hold; one with more becomes a single
// bad row. An event takes kilobytes however few bytes it was sent in, so without it
// a request of 2 MiB could ask for gigabytes of memory.
const MaxEvents = 1 << 16

// maxSpread bounds, in bytes, what the texts of all events of a request and the
// failures of its bad rows come to. The parameters of the query string belong to
// each event of a batch, so a small request can make much of them.
const maxSpread = 64 << 20

// fewEvents is up to how many events a request need not be weighed: headers, query
// string and a body's own texts are limited where the request comes in.
const fewEvents = 64

// tooMany gives up a request that holds more than MaxEvents events.
func (p *parser) tooMany() {
	p.rejectRequest(snowplow.FieldMessage("body", event.Optional{}, "at most "+strconv.Itoa(MaxEvents)+" events"))
}

// overspread gives up an event because those before it took all there is.
func (p *parser) overspread(index int) {
	message := snowplow.FieldMessage("body", event.Optional{},
		"events with at most "+strconv.Itoa(maxSpread)+" bytes of text together, what the query string repeats in each included")
	p.bad(index, snowplow.EnrichmentFailures, snowplow.EventFailure(p.now, snowplow.EnrichmentMessage(message)))
}

func textBytes(e *event.Event) int {
	n := 0
	for f := range event.Field(event.NumFields) {
		n += len(e.Cell(f).Text)
	}
	return n
}
