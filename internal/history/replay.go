package history

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"furrow/internal/archive"
	"furrow/internal/enrich"
	"furrow/internal/event"
	"furrow/internal/snowplow"
)

// Target is where a replay goes.
type Target string

// The targets.
const (
	ToDatabase    Target = "database"    // enriched again, and stored
	ToBus         Target = "bus"         // the exact records, to the stream raw
	ToRecommender Target = "recommender" // which learns everything anew
)

// ReplaySpec says what to replay, and where to. A zero field restricts nothing.
type ReplaySpec struct {
	From    time.Time `json:"from,omitzero"`  // collector time at or after
	To      time.Time `json:"to,omitzero"`    // before
	App     string    `json:"app,omitempty"`  // app_id
	Type    string    `json:"type,omitempty"` // event_name such as page_view, or event such as unstruct
	Target  Target    `json:"target"`
	Preview bool      `json:"preview,omitempty"` // only say what would be done
}

func (s *ReplaySpec) filtered() bool { return s.App != "" || s.Type != "" }

func (s *ReplaySpec) takes(e *event.Event) bool {
	return (s.App == "" || e.Text(event.AppID) == s.App) &&
		(s.Type == "" || e.Text(event.EventName) == s.Type || e.Text(event.EventType) == s.Type)
}

// ReplayGroup is a part of what was replayed.
type ReplayGroup struct {
	App    string `json:"app"`
	Type   string `json:"type"` // event_name
	Events int64  `json:"events"`
}

// ReplayReport says what a replay did, or a preview found. A replay that went on
// after an end before its time counts what was done before, too; what was stored
// since its last note is then among the doubles.
type ReplayReport struct {
	Target      Target        `json:"target"`
	Preview     bool          `json:"preview"`
	ResumedFrom time.Time     `json:"resumedFrom,omitzero"` // what was collected before had been done by an earlier run
	First       time.Time     `json:"first,omitzero"`       // collector times of the records and events
	Last        time.Time     `json:"last,omitzero"`
	Records     int64         `json:"records"`   // read; those that are archived twice count once
	Imported    int64         `json:"imported"`  // selected events that came without a record; a bus gets none of them
	Events      int64         `json:"events"`    // selected, imported ones among them
	Bad         int64         `json:"bad"`       // bad rows; none when events were selected by app or type
	Forgotten   int64         `json:"forgotten"` // events left out because their person was forgotten
	Groups      []ReplayGroup `json:"groups"`    // of the selected events, by app and type
	Known       int64         `json:"known"`     // preview for the database: events that it has already
	New         int64         `json:"new"`       // events that the database had not
	Doubles     int64         `json:"doubles"`   // events that it had, or that came twice
	Conflicts   int64         `json:"conflicts"` // events that it had with other content, now bad rows
	Refused     int64         `json:"refused"`   // events that it cannot hold, now bad rows
	NewBad      int64         `json:"newBad"`    // bad rows that it had not, those two included
	Published   int64         `json:"published"` // records given to the bus
	Seconds     float64       `json:"seconds"`
}

// sink is what a replay feeds.
type sink interface {
	// record takes a record with its selected events and bad rows.
	record(ctx context.Context, row *archive.RawRow, events []*event.Event, bad []event.BadRow) error
	// imported takes an event that came without a record.
	imported(ctx context.Context, e *event.Event) error
	// flush returns when all that was given is durable and counted.
	flush(ctx context.Context) error
	// stop ends what goes on behind; nothing is to be expected from it.
	stop()
}

// replayState is how far a replay is.
type replayState struct {
	Done    time.Time    `json:"done"`              // what was collected before is done
	Witness string       `json:"witness,omitempty"` // see storing
	Report  ReplayReport `json:"report"`
}

// replay is one that runs.
type replay struct {
	h        *History
	spec     ReplaySpec
	report   ReplayReport
	groups   *groups
	sink     sink
	holder   *holder // nil: nothing is stored
	piece    piece
	seen     idSet // records of this hour
	read     int64 // rows, doubles included
	total    int64
	progress Progress
}

// Replay gives what is archived to the database, the bus or the recommender again.
// It doubles nothing: identifiers are derived from the records. A replay that ended
// early goes on after the last hour that it had noted as done when the same spec is
// given again; a bus may then get that last hour's records twice, which its
// consumers drop. The recommender learns anew from the start, and takes no filter.
func (h *History) Replay(ctx context.Context, spec ReplaySpec, progress Progress) (ReplayReport, error) {
	began := h.opts.Now()
	if err := h.checkReplay(&spec); err != nil {
		return ReplayReport{}, err
	}
	r := &replay{h: h, spec: spec, progress: progress, report: ReplayReport{Target: spec.Target, Preview: spec.Preview}}
	var err error
	switch {
	case spec.Preview:
		err = r.preview(ctx)
	case spec.Target == ToRecommender:
		err = h.opts.Rebuild(ctx, spec.From, spec.To, func(done int64) {
			r.report.Events = done
			progress.report("teaching the recommender", done, 0)
		})
	default:
		err = r.run(ctx)
	}
	r.report.Seconds += h.opts.Now().Sub(began).Seconds()
	if err != nil {
		return r.report, fmt.Errorf("history: replay to the %s: %w", spec.Target, err)
	}
	return r.report, nil
}

func (h *History) checkReplay(spec *ReplaySpec) error {
	if !spec.From.IsZero() && !spec.To.IsZero() && !spec.From.Before(spec.To) {
		return fmt.Errorf("history: replay from %s to %s is empty: to must be later", spec.From.Format(time.RFC3339), spec.To.Format(time.RFC3339))
	}
	if h.opts.Archive == nil {
		return errors.New("history: a replay reads the archive, and this process has none")
	}
	switch spec.Target {
	case ToDatabase:
		if h.opts.Database == nil {
			return errNoDatabase
		}
	case ToBus:
		if h.opts.Bus == nil && !spec.Preview {
			return errNoBus
		}
	case ToRecommender:
		if h.opts.Rebuild == nil && !spec.Preview {
			return errors.New("history: this process has no recommender")
		}
		if spec.filtered() {
			return errors.New("history: the recommender learns from all events: replay to it without app and type")
		}
	default:
		return fmt.Errorf("history: replay to %q: must be %s, %s or %s", spec.Target, ToDatabase, ToBus, ToRecommender)
	}
	return nil
}

func (r *replay) preview(ctx context.Context) error {
	r.groups = newGroups(nil)
	p := &foreseen{h: r.h, report: &r.report, known: r.spec.Target == ToDatabase, seen: idSet{}}
	r.sink = p
	err := r.walk(ctx, r.spec.From, func(time.Time) error {
		clear(p.seen)
		return nil
	})
	if err == nil {
		err = p.flush(ctx)
	}
	r.report.Groups = r.groups.list()
	return err
}

// run replays, and notes how far it came.
func (r *replay) run(ctx context.Context) error {
	j, err := r.h.begin("replay", r.spec)
	if err != nil {
		return err
	}
	defer j.end()
	if err := r.h.know(ctx); err != nil {
		return err
	}
	var state replayState
	from := r.spec.From
	resumed, err := j.load(&state)
	if err != nil {
		return err
	}
	if resumed && r.spec.Target == ToDatabase {
		if resumed, err = r.h.has(ctx, state.Witness); err != nil {
			return err
		}
	}
	if resumed {
		from, r.report = state.Done, state.Report
		r.report.ResumedFrom = state.Done
	}
	r.groups = newGroups(r.report.Groups)
	r.holder = r.h.hold()
	defer r.holder.release()
	into := &storing{h: r.h, count: r.inserted, tell: r.progress, witness: state.Witness}
	if r.sink = into; r.spec.Target == ToBus {
		r.sink = &publishing{h: r.h, report: &r.report}
	}
	defer r.sink.stop()
	began, before, saved := r.h.opts.Now(), r.report.Seconds, time.Now()
	err = r.walk(ctx, from, func(done time.Time) error {
		if time.Since(saved) < r.h.saveEvery || done.IsZero() {
			return nil
		}
		if err := r.sink.flush(ctx); err != nil {
			return err
		}
		saved = time.Now()
		state := replayState{Done: done, Witness: into.witness, Report: r.report}
		state.Report.Groups = r.groups.list()
		state.Report.Seconds = before + r.h.opts.Now().Sub(began).Seconds()
		return j.save(state)
	})
	if err == nil {
		err = r.sink.flush(ctx)
	}
	r.report.Groups = r.groups.list()
	if err != nil {
		return err
	}
	return j.drop()
}

// walk feeds the sink hour by hour and calls done after each; the hour's end is
// zero when it has none.
func (r *replay) walk(ctx context.Context, from time.Time, done func(upto time.Time) error) error {
	_, rows, _, err := r.h.opts.Archive.CountRaw(ctx, from, r.spec.To)
	if err != nil {
		return err
	}
	r.total = rows
	return r.h.hours(ctx, from, r.spec.To, func(from, to time.Time) (bool, error) {
		found, err := r.hour(ctx, from, to)
		if err != nil {
			return false, err
		}
		return found, done(to)
	})
}

func (r *replay) hour(ctx context.Context, from, to time.Time) (found bool, err error) {
	a := r.h.opts.Archive
	r.seen = idSet{}
	err = a.ReadRaw(ctx, from, within(to), func(row archive.RawRow) error {
		found = true
		r.read++
		if !r.seen.addText(row.ID) || !r.piece.add(row) {
			return nil
		}
		return r.judge(ctx)
	})
	if err == nil {
		err = r.judge(ctx)
	}
	if err != nil {
		return found, err
	}
	err = a.ReadImported(ctx, from, within(to), func(e *event.Event) error {
		found = true
		if r.h.forgotten(e) {
			r.report.Forgotten++
			return nil
		}
		if !r.spec.takes(e) {
			return nil
		}
		r.report.Imported++
		r.note(e.Time(event.CollectorTstamp))
		r.count(e)
		if err := r.sink.imported(ctx, e); err != nil {
			return err
		}
		return r.yield(ctx)
	})
	if err != nil {
		return found, err
	}
	return r.badRows(ctx, from, to, found)
}

// badRows feeds the bad rows that no record of raw/ gives: those that the collector
// made at the door, and lines of imports.
func (r *replay) badRows(ctx context.Context, from, to time.Time, found bool) (bool, error) {
	err := r.h.opts.Archive.ReadBad(ctx, from, within(to), func(b event.BadRow) error {
		found = true
		if r.spec.filtered() || ofRecord(&b) {
			return nil
		}
		if r.h.unlessForgotten(&b) == nil {
			r.report.Forgotten++
			return nil
		}
		r.report.Bad++
		r.note(b.Time)
		if err := r.sink.record(ctx, nil, nil, []event.BadRow{b}); err != nil {
			return err
		}
		return r.yield(ctx)
	})
	return found, err
}

// ofRecord says whether a bad row is of a collector's payload, so that enriching
// the record judges again whether it is bad.
func ofRecord(b *event.BadRow) bool {
	if b.Schema == snowplow.PayloadFormatViolation {
		return true
	}
	_, err := snowplow.DecodePayload(b.Payload)
	return err == nil
}

// judge enriches the piece and feeds the sink with it.
func (r *replay) judge(ctx context.Context) error {
	rows, results, err := r.piece.enrich(ctx, r.h)
	if err != nil {
		return err
	}
	for i := range rows {
		result := results[i]
		results[i] = enrich.Result{} // may be large
		if err := r.take(ctx, &rows[i], &result); err != nil {
			return err
		}
	}
	r.progress.report("replaying the archive", r.read, max(r.total, r.read))
	return r.yield(ctx)
}

// yield lets a forgetting in, now that all that was enriched is with the sink.
func (r *replay) yield(ctx context.Context) error {
	if r.holder == nil {
		return nil
	}
	return r.holder.checkpoint(func() error { return r.sink.flush(ctx) })
}

func (r *replay) take(ctx context.Context, row *archive.RawRow, result *enrich.Result) error {
	r.report.Records++
	r.report.Forgotten += int64(result.Forgotten)
	r.note(row.Time)
	if !bytes.Equal(row.Record, result.Record) { // without what is forgotten
		row.Record, row.Key = result.Record, nil // the key may be an identifier of theirs
	}
	events, bad := result.Events, result.Bad
	if r.spec.filtered() {
		events, bad = events[:0], nil
		for _, e := range result.Events {
			if r.spec.takes(e) {
				events = append(events, e)
			}
		}
	}
	for _, e := range events {
		r.count(e)
	}
	r.report.Bad += int64(len(bad))
	if len(events)+len(bad) == 0 {
		return nil
	}
	return r.sink.record(ctx, row, events, bad)
}

func (r *replay) count(e *event.Event) {
	r.report.Events++
	r.groups.add(e)
}

func (r *replay) note(at time.Time) {
	if r.report.First.IsZero() || at.Before(r.report.First) {
		r.report.First = at
	}
	if at.After(r.report.Last) {
		r.report.Last = at
	}
}
