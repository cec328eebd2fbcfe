package history

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"furrow/internal/archive"
	"furrow/internal/bus"
	"furrow/internal/enrich"
	"furrow/internal/event"
)

// What things weigh in memory, in bytes, rounded up: events, and records with what
// else is kept of them.
const (
	eventWeight  = 5500
	recordWeight = 1000
)

// Bounds of the records that are enriched at a time.
const (
	pieceRecords = 256
	pieceBytes   = 8 << 20 // of what may come of them
	fewRecords   = 4       // so many are not worth another goroutine
)

// piece is a run of records that is enriched at a time.
type piece struct {
	rows   []archive.RawRow
	weight int64
}

// add takes one more record and says whether the piece is full. The elements of a
// batch are those of a JSON array, so a record has no more events than commas, and
// one.
func (p *piece) add(row archive.RawRow) (full bool) {
	events := min(1+bytes.Count(row.Record, []byte{','}), enrich.MaxEvents)
	p.rows = append(p.rows, row)
	p.weight += recordWeight + 3*int64(len(row.Record)) + eventWeight*int64(events)
	return len(p.rows) >= pieceRecords || p.weight >= pieceBytes
}

// enrich returns what the records of the piece give, in order, and empties it. It
// fails only when ctx ends.
func (p *piece) enrich(ctx context.Context, h *History) ([]archive.RawRow, []enrich.Result, error) {
	rows := p.rows
	*p = piece{}
	results := make([]enrich.Result, len(rows))
	var next atomic.Int64
	work := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(rows) {
				return
			}
			result, err := h.enrichAgain(ctx, rows[i].Record)
			if err != nil {
				return // ctx has ended
			}
			results[i] = result
		}
	}
	var others sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(rows)/fewRecords) - 1 {
		others.Go(work)
	}
	work()
	others.Wait()
	return rows, results, ctx.Err()
}

// forgotten says whether a tombstone covers an event that came without a record.
func (h *History) forgotten(e *event.Event) bool {
	return h.opts.Forgotten(e.Text(event.UserID), e.Text(event.DomainUserID), e.Text(event.NetworkUserID), e.Time(event.CollectorTstamp))
}

// flight is work that goes on while the next is prepared, one piece at a time.
type flight struct{ done chan error }

// launch waits for the work before, then begins this one.
func (f *flight) launch(ctx context.Context, work func(context.Context) error) error {
	if err := f.land(); err != nil {
		return err
	}
	done := make(chan error, 1)
	f.done = done
	go func() { done <- work(ctx) }()
	return nil
}

// land waits for the work that goes on, if there is any.
func (f *flight) land() error {
	if f.done == nil {
		return nil
	}
	err := <-f.done
	f.done = nil
	return err
}

// patience is how an effect is tried again.
type patience struct {
	attempts int           // of an effect that fails; a full bus is tried for ever
	first    time.Duration // pause after the first attempt; doubled each time
	longest  time.Duration
}

// persist calls try until it succeeds, ctx ends, or it has failed too often.
func (h *History) persist(ctx context.Context, what string, try func(context.Context) error) error {
	pause := h.patience.first
	for failed := 1; ; failed++ {
		err := try(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, bus.ErrFull):
			failed = 0
		case errors.Is(err, bus.ErrClosed), again(err), failed >= h.patience.attempts:
			return err
		}
		h.opts.Log.Warn("an operation on history has to try again", "what", what, "error", err, "pause", pause.String())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, h.patience.longest)
	}
}
