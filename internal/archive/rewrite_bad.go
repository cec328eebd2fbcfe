package archive

import (
	"context"

	"furrow/internal/event"
)

// badOutlet writes bad rows into files of a generation. A record stands with the
// first of a run of rows, in each file.
type badOutlet struct {
	outlet[badRow]
	last event.RecordID
	file int // the part that last is in, from 1
}

func newBadOutlet(ctx context.Context, g *generation) *badOutlet {
	return &badOutlet{outlet: outlet[badRow]{ctx: ctx, g: g, set: badSet, fill: fillBad}}
}

func (o *badOutlet) add(b event.BadRow) error {
	w, err := o.writer()
	if err != nil {
		return err
	}
	row := badRow{BadRow: b, first: o.last != b.Record || o.file != o.parts}
	size := len(b.Failure) + badRowBytes
	if row.first {
		size += len(b.Payload)
	} else {
		row.Payload = nil
	}
	o.last, o.file = b.Record, o.parts
	if err := w.add(row, size); err != nil {
		return err
	}
	return o.roll()
}
