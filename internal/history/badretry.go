package history

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"furrow/internal/bus"
	"furrow/internal/event"
	"furrow/internal/snowplow"
	"furrow/internal/store"
)

// BadRetrySpec selects bad rows to try again.
type BadRetrySpec struct {
	BadSelect
	Preview bool `json:"preview,omitempty"` // only say what would happen
}

// BadRetryReport says what became of the selected bad rows, or, of a preview, what
// would. Rows = Pass + Settled + Fail + Forgotten + Stuck.
type BadRetryReport struct {
	Preview   bool  `json:"preview"`
	Rows      int64 `json:"rows"`
	Pass      int64 `json:"pass"`      // events now: stored, and deleted as bad rows
	Settled   int64 `json:"settled"`   // their events were stored already: deleted as bad rows
	Fail      int64 `json:"fail"`      // bad again: kept
	Forgotten int64 `json:"forgotten"` // a tombstone covers them: kept until the forgetting takes them
	Stuck     int64 `json:"stuck"`     // nothing to enrich: kept
	Records   int64 `json:"records"`   // published anew
	Deleted   int64 `json:"deleted"`   // bad rows
	// By the cause that the rows have now, the commonest first, at most 10,000.
	Causes []RetryCause `json:"causes"`
}

// RetryCause says what became of the bad rows of one cause.
type RetryCause struct {
	Cause     string `json:"cause"`
	Schema    string `json:"schema"`
	Rows      int64  `json:"rows"`
	Pass      int64  `json:"pass"`
	Settled   int64  `json:"settled"`
	Fail      int64  `json:"fail"`
	Forgotten int64  `json:"forgotten"`
	Stuck     int64  `json:"stuck"`
	// Why rows fail now where that is another cause than before, the commonest
	// first, at most 20.
	Now  []NewCause `json:"now,omitempty"`
	Note string     `json:"note,omitempty"` // why rows are stuck
}

// NewCause is a cause that rows of another cause have now.
type NewCause struct {
	Cause string `json:"cause"`
	Rows  int64  `json:"rows"`
}

// Limits of what is held while bad rows are tried again.
const (
	retryRecords  = 64
	retryBytes    = 8 << 20
	retryIDs      = 256
	maxNewCauses  = 20
	firstFullWait = 100 * time.Millisecond
	longestWait   = 5 * time.Second
)

// BadRetry enriches the records of the selected bad rows again under the
// configuration of now. A record of which a selected row passes is published on the
// stream raw as it is stored, so that every consumer gets the events, under the
// identifiers they would have had; what those consumers have of it already is a
// double to them. Its events are stored in the database, and only then are the bad
// rows deleted that they came from. It may end at any point and be repeated.
//
// A row that only the database refused is not published: the archive and the
// recommender had its event. It passes when the database takes it now; one that is
// there with other content fails for as long as the other is kept.
func (h *History) BadRetry(ctx context.Context, spec BadRetrySpec, progress Progress) (BadRetryReport, error) {
	r := &retry{h: h, preview: spec.Preview, tell: progress, causes: map[causeKey]*RetryCause{}, report: BadRetryReport{Preview: spec.Preview}}
	if h.opts.Database == nil {
		return r.report, errNoDatabase
	}
	if h.opts.Bus == nil && !spec.Preview {
		return r.report, errNoBus
	}
	job, err := h.begin("bad-retry", spec)
	if err != nil {
		return r.report, err
	}
	defer job.end()
	if !spec.Preview {
		if err := h.know(ctx); err != nil {
			return r.report, err
		}
	}
	total, seen := h.countBad(ctx, spec.BadSelect), int64(0)
	err = h.eachSelected(ctx, spec.BadSelect, func(row *event.BadRow, cause string) error {
		if seen++; seen%tellEvery == 0 {
			progress.report("retrying bad rows", seen, total)
		}
		return r.take(ctx, row, cause)
	})
	if err == nil {
		err = r.flush(ctx)
	}
	r.sum()
	return r.report, err
}

// eachSelected calls fn for every selected bad row with its record. Where the cause
// selects, records are read only of the rows that it takes.
func (h *History) eachSelected(ctx context.Context, spec BadSelect, fn func(row *event.BadRow, cause string) error) error {
	selected := func(row event.BadRow) error {
		cause, ok := spec.takes(&row)
		if !ok {
			return nil
		}
		return fn(&row, cause)
	}
	if spec.Cause == "" && spec.Schema == "" {
		return h.opts.Database.EachBad(ctx, spec.filter(true), selected)
	}
	var ids []string
	var last event.RecordID
	withRecords := func() error {
		if len(ids) == 0 {
			return nil
		}
		some := spec
		some.IDs, ids = ids, nil
		return h.opts.Database.EachBad(ctx, some.filter(true), selected)
	}
	err := h.opts.Database.EachBad(ctx, spec.filter(false), func(row event.BadRow) error {
		if len(ids) >= retryIDs && row.Record != last {
			if err := withRecords(); err != nil {
				return err
			}
		}
		if _, ok := spec.takes(&row); ok {
			ids, last = append(ids, row.ID), row.Record
		}
		return nil
	})
	if err != nil {
		return err
	}
	return withRecords()
}

// retry is one run over bad rows.
type retry struct {
	h       *History
	preview bool
	tell    Progress
	report  BadRetryReport
	causes  map[causeKey]*RetryCause

	records []*retried // gathered and not dealt with
	bytes   int
}

// retried is a record and its selected bad rows.
type retried struct {
	id     event.RecordID
	record []byte
	send   []byte // the record without what is forgotten
	rows   []retriedRow
}

type retriedRow struct {
	row   event.BadRow
	cause string // before
	v     verdict
}

// take gathers a row, and deals with what was gathered when that is enough.
func (r *retry) take(ctx context.Context, row *event.BadRow, cause string) error {
	if n := len(r.records); n == 0 || r.records[n-1].id != row.Record {
		if n >= retryRecords || r.bytes >= retryBytes {
			if err := r.flush(ctx); err != nil {
				return err
			}
		}
		r.records = append(r.records, &retried{id: row.Record, record: row.Payload})
		r.bytes += len(row.Payload)
	}
	last := r.records[len(r.records)-1]
	one := retriedRow{row: *row, cause: cause}
	one.row.Payload = nil // it is with the record
	last.rows = append(last.rows, one)
	r.bytes += len(row.Failure)
	return nil
}

// flush deals with the gathered rows. While the bus is full it waits, and begins
// anew: what was enriched before may have been forgotten meanwhile.
func (r *retry) flush(ctx context.Context) error {
	for wait := firstFullWait; ; wait = min(2*wait, longestWait) {
		if !r.preview {
			if err := r.h.room(ctx, InDatabase, r.tell); err != nil {
				return err
			}
		}
		err := r.deal(ctx)
		if !errors.Is(err, bus.ErrFull) {
			r.records, r.bytes = nil, 0
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(ctx.Err(), err)
		case <-timer.C:
		}
	}
}

// deal does everything about the gathered records. Until something is deleted it
// may be repeated.
func (r *retry) deal(ctx context.Context) error {
	defer r.h.hold().release()
	for _, record := range r.records {
		if err := r.judge(ctx, record); err != nil {
			return err
		}
	}
	if !r.preview {
		if err := r.carryOut(ctx); err != nil {
			return err
		}
	}
	for _, record := range r.records {
		for i := range record.rows {
			r.count(&record.rows[i])
		}
	}
	return nil
}

// judge enriches one record and foresees what becomes of its rows.
func (r *retry) judge(ctx context.Context, record *retried) error {
	j, err := r.h.judge(ctx, record.record)
	if err != nil {
		return err
	}
	record.send = record.record
	if j.result.Forgotten > 0 {
		record.send = j.result.Record // somebody in it must not go round again
	}
	for i := range record.rows {
		one := &record.rows[i]
		one.v = j.row(&one.row)
		if r.preview {
			if one.v, err = r.h.foresee(ctx, &one.row, one.v); err != nil {
				return err
			}
		}
	}
	if r.preview {
		if r.wanted(record) {
			r.report.Records++
		}
		return nil
	}
	return r.settle(ctx, record)
}

// wanted says whether a record is to be published: a row passes that consumers do
// not have.
func (r *retry) wanted(record *retried) bool {
	return slices.ContainsFunc(record.rows, func(one retriedRow) bool { return one.v.outcome == Passes && !one.v.refused })
}

// settle lets the database judge the rows whose events it knows, and those that it
// refused before: they need not be published.
func (r *retry) settle(ctx context.Context, record *retried) error {
	var ids []string
	for _, one := range record.rows {
		for _, e := range one.v.events {
			ids = append(ids, e.ID())
		}
	}
	if len(ids) == 0 {
		return nil
	}
	known, err := r.h.opts.Database.Known(ctx, ids)
	if err != nil {
		return err
	}
	var there []*retriedRow
	for i := range record.rows {
		one := &record.rows[i]
		if one.v.outcome != Passes || known == 0 && !one.v.refused {
			continue
		}
		is, err := r.h.allKnown(ctx, one.v.events)
		if err != nil {
			return err
		}
		if is || one.v.refused {
			there = append(there, one)
		}
		if is {
			one.v.outcome = Settled // unless the database says otherwise
		}
	}
	return r.h.storeRows(ctx, record.send, there)
}

func (h *History) allKnown(ctx context.Context, events []*event.Event) (bool, error) {
	ids := eventIDs(events)
	known, err := h.opts.Database.Known(ctx, ids)
	return known == len(ids), err
}

// storeRows stores the events of rows, and marks the rows that the database did not
// take. A row of a whole record is done with in any case: those of its events that
// are not taken are bad rows of their own then.
func (h *History) storeRows(ctx context.Context, record []byte, rows []*retriedRow) error {
	if len(rows) == 0 {
		return nil
	}
	var events []store.Row
	for _, one := range rows {
		for _, e := range one.v.events {
			events = append(events, store.Row{Event: e, Record: record})
		}
	}
	done, err := h.opts.Database.Insert(ctx, events, nil)
	switch {
	case err != nil:
		return err
	case done.Conflicts+done.Refused == 0:
		return nil
	case len(rows) > 1:
		half := len(rows) / 2
		return errors.Join(h.storeRows(ctx, record, rows[:half]), h.storeRows(ctx, record, rows[half:]))
	case rows[0].row.Index == event.WholeRecord:
		return nil
	}
	one := rows[0]
	cause := causeConflict
	if done.Refused > 0 {
		cause = causeRefused
	}
	if one.v.refused {
		cause = one.cause // as before
	}
	one.v = verdict{outcome: Fails, cause: cause}
	return nil
}

const causeRefused = "the database refuses the event"

// carryOut publishes what passes, stores it, and deletes the bad rows it came from.
func (r *retry) carryOut(ctx context.Context) error {
	var messages []bus.Message
	var published []*retried
	for _, record := range r.records {
		if r.wanted(record) {
			messages = append(messages, bus.Message{Stream: bus.Raw, Key: record.key(), Value: record.send})
			published = append(published, record)
		}
	}
	if len(messages) > 0 {
		if err := r.h.opts.Bus.Publish(ctx, messages...); err != nil {
			return err
		}
		r.report.Records += int64(len(messages))
	}
	for _, record := range published {
		if err := r.store(ctx, record); err != nil {
			return err
		}
	}
	var ids []string
	for _, record := range r.records {
		for _, one := range record.rows {
			if one.v.outcome == Passes || one.v.outcome == Settled {
				ids = append(ids, one.row.ID)
			}
		}
	}
	if len(ids) == 0 {
		return nil
	}
	deleted, err := r.h.opts.Database.DeleteBad(ctx, ids)
	r.report.Deleted += int64(deleted)
	return err
}

// store stores what a published record gives in place of its bad rows.
func (r *retry) store(ctx context.Context, record *retried) error {
	var rows []*retriedRow
	for i := range record.rows {
		one := &record.rows[i]
		if one.v.outcome != Passes || one.v.refused {
			continue
		}
		rows = append(rows, one)
		if one.row.Index != event.WholeRecord || len(one.v.bad) == 0 {
			continue
		}
		if _, err := r.h.opts.Database.Insert(ctx, nil, one.v.bad); err != nil {
			return err
		}
	}
	return r.h.storeRows(ctx, record.send, rows)
}

// key returns the text that keeps one user's events in order, as the collector
// would choose it.
func (r *retried) key() []byte {
	for _, one := range r.rows {
		for _, e := range one.v.events {
			if id := e.Text(event.DomainUserID); id != "" {
				return []byte(id)
			}
		}
	}
	if p, err := snowplow.DecodePayload(r.send); err == nil {
		switch {
		case p.NetworkUserID.Value != "" && p.NetworkUserID.Value != nobody:
			return []byte(p.NetworkUserID.Value)
		case p.IPAddress != "" && p.IPAddress != "unknown":
			return []byte(p.IPAddress)
		}
	}
	return r.id[:]
}

// nobody is the network user id of everyone who is anonymous.
const nobody = "00000000-0000-0000-0000-000000000000"

// count adds the outcome of a row to the report.
func (r *retry) count(one *retriedRow) {
	key := causeKey{one.cause, one.row.Schema}
	c := r.causes[key]
	if c == nil && len(r.causes) >= maxCauses {
		key = causeKey{cause: otherCauses}
		c = r.causes[key]
	}
	if c == nil {
		c = &RetryCause{Cause: key.cause, Schema: key.schema}
		r.causes[key] = c
	}
	c.Rows++
	switch one.v.outcome {
	case Passes:
		c.Pass++
	case Settled:
		c.Settled++
	case Forgotten:
		c.Forgotten++
	case Stuck:
		c.Stuck++
		c.Note = one.v.cause
	case Fails:
		c.Fail++
		c.fails(one)
	}
}

func (c *RetryCause) fails(one *retriedRow) {
	if one.v.cause == one.cause {
		return
	}
	for i := range c.Now {
		if c.Now[i].Cause == one.v.cause {
			c.Now[i].Rows++
			return
		}
	}
	if len(c.Now) < maxNewCauses {
		c.Now = append(c.Now, NewCause{Cause: one.v.cause, Rows: 1})
	}
}

// sum makes the totals of the causes.
func (r *retry) sum() {
	for _, c := range r.causes {
		r.report.Rows += c.Rows
		r.report.Pass += c.Pass
		r.report.Settled += c.Settled
		r.report.Fail += c.Fail
		r.report.Forgotten += c.Forgotten
		r.report.Stuck += c.Stuck
		slices.SortFunc(c.Now, func(a, b NewCause) int { return cmp.Or(cmp.Compare(b.Rows, a.Rows), cmp.Compare(a.Cause, b.Cause)) })
		r.report.Causes = append(r.report.Causes, *c)
	}
	slices.SortFunc(r.report.Causes, func(a, b RetryCause) int {
		return cmp.Or(compareLast(a.Cause, b.Cause), cmp.Compare(b.Rows, a.Rows), cmp.Compare(a.Cause, b.Cause), cmp.Compare(a.Schema, b.Schema))
	})
}
