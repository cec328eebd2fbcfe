package history

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"furrow/internal/archive"
	"furrow/internal/bus"
	"furrow/internal/event"
	"furrow/internal/snowplow"
	"furrow/internal/store"
)

// Bounds of one transaction of the database, and of one call of the bus.
const (
	batchRows     = 1000
	batchBytes    = 16 << 20 // in memory
	batchMessages = 500
	messageBytes  = 1 << 20
)

// storing puts what it gets into the database: while one transaction is written,
// the next is gathered.
type storing struct {
	h      *History
	count  func(store.Inserted) // called by the goroutine that feeds
	tell   Progress
	rows   []store.Row
	bad    []event.BadRow
	bytes  int64
	flight flight
	result store.Inserted // of the flight, read once it landed
	last   string         // id of an event of the flight
	// witness is the id of an event that the database has now. One that has it no more
	// was replaced by another, or by an older copy.
	witness string
}

func (s *storing) record(ctx context.Context, row *archive.RawRow, events []*event.Event, bad []event.BadRow) error {
	s.bytes += recordWeight
	if row != nil {
		s.bytes += 3 * int64(len(row.Record))
	}
	for _, e := range events {
		// These two may be written anew for each event, from one parameter of all.
		s.bytes += eventWeight + int64(len(e.Text(event.Contexts))+len(e.Text(event.UnstructEvent)))
		s.rows = append(s.rows, store.Row{Event: e, Record: row.Record})
	}
	for i := range bad {
		s.bytes += recordWeight + int64(len(bad[i].Failure))
	}
	s.bad = append(s.bad, bad...)
	return s.ripe(ctx)
}

// imported makes a line of the event again: its record, should the database refuse
// it.
func (s *storing) imported(ctx context.Context, e *event.Event) error {
	line := snowplow.AppendTSV(nil, e)
	e.Record = event.NewRecordID(line)
	return s.line(ctx, e, line)
}

// line stores the event of a line.
func (s *storing) line(ctx context.Context, e *event.Event, line []byte) error {
	s.bytes += eventWeight + 3*int64(len(line))
	s.rows = append(s.rows, store.Row{Event: e, Record: line})
	return s.ripe(ctx)
}

func (s *storing) ripe(ctx context.Context) error {
	if len(s.rows)+len(s.bad) < batchRows && s.bytes < batchBytes {
		return nil
	}
	return s.launch(ctx)
}

func (s *storing) launch(ctx context.Context) error {
	if err := s.land(); err != nil {
		return err
	}
	if err := s.h.room(ctx, InDatabase, s.tell); err != nil {
		return err
	}
	rows, bad := s.rows, s.bad
	s.rows, s.bad, s.bytes, s.last = nil, nil, 0, ""
	if len(rows) > 0 {
		s.last = strings.Clone(rows[len(rows)-1].Event.ID()) // lest it keep its record
	}
	return s.flight.launch(ctx, func(ctx context.Context) error {
		return s.h.persist(ctx, "store", func(ctx context.Context) (err error) {
			s.result, err = s.h.opts.Database.Insert(ctx, rows, bad)
			return err
		})
	})
}

func (s *storing) land() error {
	err := s.flight.land()
	if err == nil {
		s.count(s.result)
		if s.last != "" && s.result.Refused == 0 {
			s.witness = s.last
		}
		s.result, s.last = store.Inserted{}, ""
	}
	return err
}

// has says whether the database still has what an earlier run stored.
func (h *History) has(ctx context.Context, witness string) (bool, error) {
	if witness == "" {
		return true, nil
	}
	known, err := h.opts.Database.Known(ctx, []string{witness})
	if err == nil && known == 0 {
		h.opts.Log.Info("the database lacks what an earlier run stored, the operation begins anew")
	}
	return known > 0, err
}

func (s *storing) flush(ctx context.Context) error {
	if len(s.rows)+len(s.bad) > 0 {
		if err := s.launch(ctx); err != nil {
			return err
		}
	}
	return s.land()
}

func (s *storing) stop() { _ = s.land() } // its error was, or will be, told elsewhere

// inserted counts what the database made of a batch.
func (r *replay) inserted(done store.Inserted) {
	r.report.New += int64(done.Events)
	r.report.Doubles += int64(done.Doubles)
	r.report.Conflicts += int64(done.Conflicts)
	r.report.Refused += int64(done.Refused)
	r.report.NewBad += int64(done.Bad)
}

// publishing puts exact records on the bus, one call at a time, so that what one
// key holds keeps its order and no more than a call's bytes are under way.
type publishing struct {
	h        *History
	report   *ReplayReport
	messages []bus.Message
	bytes    int
	flight   flight
	under    int // messages of the flight
}

func (p *publishing) record(ctx context.Context, row *archive.RawRow, _ []*event.Event, _ []event.BadRow) error {
	if row == nil {
		return nil // a bad row without a record of the stream
	}
	p.messages = append(p.messages, bus.Message{Stream: bus.Raw, Key: row.Key, Value: row.Record})
	p.bytes += len(row.Key) + len(row.Record)
	if len(p.messages) < batchMessages && p.bytes < messageBytes {
		return nil
	}
	return p.launch(ctx)
}

func (p *publishing) imported(context.Context, *event.Event) error { return nil }

func (p *publishing) launch(ctx context.Context) error {
	if err := p.land(); err != nil {
		return err
	}
	messages := p.messages
	p.messages, p.bytes, p.under = nil, 0, len(messages)
	return p.flight.launch(ctx, func(ctx context.Context) error {
		return p.h.persist(ctx, "publish", func(ctx context.Context) error { return p.h.opts.Bus.Publish(ctx, messages...) })
	})
}

func (p *publishing) land() error {
	err := p.flight.land()
	if err == nil {
		p.report.Published += int64(p.under)
	}
	p.under = 0
	return err
}

func (p *publishing) flush(ctx context.Context) error {
	if len(p.messages) > 0 {
		if err := p.launch(ctx); err != nil {
			return err
		}
	}
	return p.land()
}

func (p *publishing) stop() { _ = p.land() } // its error was, or will be, told elsewhere

// foreseen counts what a replay would do.
type foreseen struct {
	h      *History
	report *ReplayReport
	known  bool  // ask the database
	seen   idSet // events of this hour
	ids    []string
}

func (f *foreseen) record(ctx context.Context, row *archive.RawRow, events []*event.Event, _ []event.BadRow) error {
	if row != nil && f.report.Target == ToBus {
		f.report.Published++
	}
	for _, e := range events {
		if err := f.imported(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

func (f *foreseen) imported(ctx context.Context, e *event.Event) error {
	if !f.known {
		return nil
	}
	if !f.seen.addText(e.ID()) {
		f.report.Doubles++
		return nil
	}
	f.ids = append(f.ids, strings.Clone(e.ID())) // lest it keep its record
	if len(f.ids) < batchRows {
		return nil
	}
	return f.flush(ctx)
}

func (f *foreseen) flush(ctx context.Context) error {
	if len(f.ids) == 0 {
		return nil
	}
	known, err := f.h.opts.Database.Known(ctx, f.ids)
	if err != nil {
		return err
	}
	f.report.Known += int64(known)
	f.report.New += int64(len(f.ids) - known)
	f.ids = f.ids[:0]
	return nil
}

func (f *foreseen) stop() {}

// maxGroups bounds the groups of a report; events of further ones are under one
// whose app and type are an ellipsis.
const maxGroups = 10_000

// groups counts events by app and type.
type groups struct{ events map[[2]string]int64 }

func newGroups(known []ReplayGroup) *groups {
	g := &groups{events: make(map[[2]string]int64)}
	for _, k := range known {
		g.events[[2]string{k.App, k.Type}] = k.Events
	}
	return g
}

func (g *groups) add(e *event.Event) {
	key := [2]string{e.Text(event.AppID), e.Text(event.EventName)}
	if n, ok := g.events[key]; ok {
		g.events[key] = n + 1
		return
	}
	if len(g.events) >= maxGroups {
		g.events[[2]string{"…", "…"}]++
		return
	}
	g.events[[2]string{strings.Clone(key[0]), strings.Clone(key[1])}] = 1 // lest they keep their record
}

// list returns the groups, the largest first.
func (g *groups) list() []ReplayGroup {
	all := make([]ReplayGroup, 0, len(g.events))
	for key, n := range g.events {
		all = append(all, ReplayGroup{App: key[0], Type: key[1], Events: n})
	}
	slices.SortFunc(all, func(a, b ReplayGroup) int {
		return cmp.Or(cmp.Compare(b.Events, a.Events), strings.Compare(a.App, b.App), strings.Compare(a.Type, b.Type))
	})
	return all
}
