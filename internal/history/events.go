package history

import (
	"context"
	"errors"
	"fmt"
	"time"

	"furrow/internal/archive"
	"furrow/internal/event"
	"furrow/internal/snowplow"
)

// eventsAtOnce is how many events Events hands on at a time.
const eventsAtOnce = 256

// Events calls fn with the archived events whose collector time is in [from, to), a
// zero time being no bound: those of archived records, enriched again, and those
// that came without a record, in the order of their collector times, the oldest
// first. An event that is archived twice comes once; beyond a million events of one
// hour it may come again. keep leaves out what is not needed, nil keeps all. fn may
// keep what it gets. The memory it takes does not grow with the hours; an hour that
// is large is sorted on disk.
func (h *History) Events(ctx context.Context, from, to time.Time, keep func(*event.Event) bool, fn func([]*event.Event) error) error {
	if h.opts.Archive == nil {
		return errors.New("history: events are read from the archive, and this process has none")
	}
	if keep == nil {
		keep = func(*event.Event) bool { return true }
	}
	g := &gathering{h: h, keep: keep, fn: fn, spool: spool{dir: h.opts.Dir, limit: h.spoolBytes}}
	defer g.spool.clear()
	err := h.hours(ctx, from, to, func(from, to time.Time) (bool, error) { return g.hour(ctx, from, to) })
	if err != nil {
		return fmt.Errorf("history: read events: %w", err)
	}
	return nil
}

// gathering reads the events of an hour in order.
type gathering struct {
	h     *History
	keep  func(*event.Event) bool
	fn    func([]*event.Event) error
	spool spool
	seen  idSet // of this hour
	piece piece
	out   []*event.Event
}

func (g *gathering) hour(ctx context.Context, from, to time.Time) (found bool, err error) {
	a := g.h.opts.Archive
	defer g.spool.clear()
	records := idSet{}
	err = a.ReadRaw(ctx, from, within(to), func(row archive.RawRow) error {
		found = true
		if !records.addText(row.ID) {
			return nil
		}
		return g.spool.add(item{ms: row.Time.UnixMilli(), data: row.Record})
	})
	if err != nil {
		return found, err
	}
	err = a.ReadImported(ctx, from, within(to), func(e *event.Event) error {
		found = true
		if g.h.forgotten(e) || !g.keep(e) {
			return nil
		}
		return g.spool.add(item{ms: e.Time(event.CollectorTstamp).UnixMilli(), line: true, data: snowplow.AppendTSV(nil, e)})
	})
	if err != nil {
		return found, err
	}
	g.seen = idSet{}
	if err := g.spool.each(func(it item) error { return g.take(ctx, it) }); err != nil {
		return found, err
	}
	return found, g.flush(ctx)
}

// take gathers records to enrich together; a line comes after the records before.
func (g *gathering) take(ctx context.Context, it item) error {
	if !it.line {
		if !g.piece.add(archive.RawRow{Record: it.data}) {
			return nil
		}
		return g.judge(ctx)
	}
	if err := g.judge(ctx); err != nil {
		return err
	}
	e, err := snowplow.ParseTSV(string(it.data))
	if err != nil {
		return fmt.Errorf("history: an archived event does not read back: %w", err)
	}
	return g.give(e)
}

func (g *gathering) judge(ctx context.Context) error {
	if len(g.piece.rows) == 0 {
		return ctx.Err()
	}
	_, results, err := g.piece.enrich(ctx, g.h)
	if err != nil {
		return err
	}
	for _, result := range results {
		for _, e := range result.Events {
			if !g.keep(e) {
				continue
			}
			if err := g.give(e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *gathering) give(e *event.Event) error {
	if !g.seen.addText(e.ID()) {
		return nil
	}
	g.out = append(g.out, e)
	if len(g.out) < eventsAtOnce {
		return nil
	}
	out := g.out
	g.out = nil
	return g.fn(out)
}

func (g *gathering) flush(ctx context.Context) error {
	if err := g.judge(ctx); err != nil || len(g.out) == 0 {
		return err
	}
	out := g.out
	g.out = nil
	return g.fn(out)
}
