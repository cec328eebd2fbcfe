package recorder

import (
	"bytes"
	"iter"

	"furrow/internal/bus"
	"furrow/internal/enrich"
	"furrow/internal/event"
)

// What things weigh in memory, in bytes, rounded up.
const (
	eventBytes  = 4500 // the cells of an event, without their texts
	badRowBytes = 512  // a bad row, without its failure and record
	recordBytes = 500  // what is kept of a record besides its bytes and rows
	copies      = 3    // of a record: its own, and as texts of its events
)

// resultBytes estimates what a record and its result hold in memory.
func resultBytes(record []byte, r *enrich.Result) int64 {
	n := recordBytes + copies*int64(len(record))
	for _, e := range r.Events {
		// These two may be written anew for each event, from one parameter of all.
		n += eventBytes + int64(len(e.Text(event.Contexts))+len(e.Text(event.UnstructEvent)))
	}
	for i := range r.Bad { // they share the record
		n += badRowBytes + int64(len(r.Bad[i].Failure))
	}
	return n
}

// mostBytes says beforehand what a record may come to. Several events in one record
// are the elements of a JSON array, so there are no more than commas, and one.
func mostBytes(record []byte) int64 {
	events := min(1+bytes.Count(record, []byte{','}), enrich.MaxEvents)
	return recordBytes + copies*int64(len(record)) + eventBytes*int64(events)
}

// pieces splits a batch so that the results of a piece stay within limit bytes,
// unless a single record exceeds it.
func pieces(b bus.Batch, limit int64) iter.Seq[bus.Batch] {
	return func(yield func(bus.Batch) bool) {
		rest, weight, n := b, int64(0), 0
		for i := range b.Messages {
			most := mostBytes(b.Messages[i].Value)
			if n > 0 && weight+most > limit {
				if !yield(rest.Head(n - 1)) {
					return
				}
				rest.Messages, rest.First = b.Messages[i:], b.Messages[i].Position
				weight, n = 0, 0
			}
			weight += most
			n++
		}
		yield(rest)
	}
}
