package history

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"furrow/internal/enrich"
	"furrow/internal/event"
	"furrow/internal/snowplow"
	"furrow/internal/store"
)

// Outcome is what a bad row gives under the configuration of now.
type Outcome string

// The outcomes of enriching a bad row again.
const (
	Passes    Outcome = "passes"    // it is an event now
	Settled   Outcome = "settled"   // its event is in the database already
	Fails     Outcome = "fails"     // it is a bad row again
	Forgotten Outcome = "forgotten" // a tombstone covers it: it is skipped
	Stuck     Outcome = "stuck"     // there is nothing to enrich
)

// judged is a record enriched again.
type judged struct {
	result enrich.Result
	events map[int]*event.Event
	bad    map[int]*event.BadRow
	stuck  string // why there is nothing to enrich; empty when there is
}

// verdict is the outcome of one bad row.
type verdict struct {
	outcome Outcome
	cause   string         // why it fails, or is stuck
	failure *event.BadRow  // what it gives now when it fails in enrichment
	events  []*event.Event // what it gives now when it passes
	bad     []event.BadRow // and what else the whole record gives, of a row of a whole record
	refused bool           // enrichment passed it before: only the database did not take it
}

// Reasons why a row has nothing to enrich.
const (
	stuckDoor    = "made by the collector at the door, where there was no payload to keep: it cannot be retried"
	stuckMissing = "its record is missing: it cannot be retried"
	stuckLine    = "it did not come through the collector, as the lines of an import: import its source again"
)

// judge enriches a record again. It fails only when ctx ends.
func (h *History) judge(ctx context.Context, record []byte) (*judged, error) {
	if len(record) == 0 {
		return &judged{stuck: stuckMissing}, nil
	}
	result, err := h.enrichAgain(ctx, record)
	if err != nil {
		return nil, err
	}
	if result.Payload == nil && fromDoor(record) {
		return &judged{stuck: stuckDoor}, nil
	}
	j := &judged{result: result, events: make(map[int]*event.Event), bad: make(map[int]*event.BadRow)}
	for _, e := range result.Events {
		j.events[e.Index] = e
	}
	for i := range result.Bad {
		j.bad[result.Bad[i].Index] = &result.Bad[i]
	}
	return j, nil
}

// enrichAgain enriches a record. Some records are here because enrichment panicked
// over them; they must not end the process again.
func (h *History) enrichAgain(ctx context.Context, record []byte) (result enrich.Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			id := event.NewRecordID(record)
			h.opts.Log.Error("enrichment panicked", "record", id.String(), "panic", fmt.Sprint(p))
			failure, marshalErr := json.Marshal(map[string]any{
				"timestamp": h.opts.Now().UTC().Format("2006-01-02T15:04:05.000Z"),
				"errors":    []string{fmt.Sprintf("enrichment panicked: %v", p)},
			})
			if marshalErr != nil {
				failure = []byte("{}") // texts always marshal
			}
			result, err = enrich.Result{RecordID: id, Bad: []event.BadRow{{
				ID: event.BadRowID(id, event.WholeRecord), Record: id, Index: event.WholeRecord,
				Time: h.opts.Now(), Schema: store.GenericError, Failure: failure, Payload: record,
			}}}, nil
		}
	}()
	return h.opts.Enricher.Do(ctx, record, h.opts.Now())
}

// fromDoor says whether a record is a bad row that the collector made.
func fromDoor(record []byte) bool {
	record = bytes.TrimSpace(record)
	return len(record) > 0 && record[0] == '{' && gjson.ValidBytes(record) &&
		gjson.GetBytes(record, "schema").Type == gjson.String && gjson.GetBytes(record, "data").IsObject()
}

// row says what a bad row of the record gives in enrichment now.
func (j *judged) row(row *event.BadRow) verdict {
	if j.stuck != "" {
		return verdict{outcome: Stuck, cause: j.stuck}
	}
	if whole := j.bad[event.WholeRecord]; whole != nil {
		if j.result.Payload == nil && whole.Schema == snowplow.PayloadFormatViolation && row.Schema != whole.Schema {
			return verdict{outcome: Stuck, cause: stuckLine} // no collector wrote it
		}
		return fails(whole)
	}
	if row.Index == event.WholeRecord {
		switch {
		case len(j.result.Events) > 0:
			return verdict{outcome: Passes, events: j.result.Events, bad: j.result.Bad}
		case len(j.result.Bad) > 0:
			return fails(&j.result.Bad[0])
		}
		return verdict{outcome: Forgotten}
	}
	if e := j.events[row.Index]; e != nil {
		// Only the database makes generic errors of events that can be enriched.
		return verdict{outcome: Passes, events: []*event.Event{e}, refused: row.Schema == store.GenericError}
	}
	if bad := j.bad[row.Index]; bad != nil {
		return fails(bad)
	}
	if j.result.Forgotten > 0 {
		return verdict{outcome: Forgotten}
	}
	return verdict{outcome: Fails, cause: "its record no longer has an event of that index"}
}

func fails(bad *event.BadRow) verdict {
	return verdict{outcome: Fails, cause: causeOf(bad), failure: bad}
}

// eventIDs returns the distinct ids of events.
func eventIDs(events []*event.Event) []string {
	ids := make([]string, len(events))
	for i, e := range events {
		ids[i] = e.ID()
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

const causeConflict = "event_id is already stored with other content"

// foresee says what the database would make of a row that passes enrichment.
// It changes nothing. A row of a whole record counts as settled when all its
// events are known.
func (h *History) foresee(ctx context.Context, row *event.BadRow, v verdict) (verdict, error) {
	if v.outcome != Passes || h.opts.Database == nil {
		return v, nil
	}
	ids := eventIDs(v.events)
	known, err := h.opts.Database.Known(ctx, ids)
	switch {
	case err != nil:
		return v, err
	case row.Index == event.WholeRecord:
		if known == len(ids) {
			v.outcome = Settled
		}
		return v, nil
	case known == 0 && v.refused && !strings.Contains(string(row.Failure), "already stored with other content"):
		return verdict{outcome: Fails, cause: causeOf(row)}, nil // the database would refuse it again
	case known == 0:
		return v, nil
	case v.refused:
		return verdict{outcome: Fails, cause: causeOf(row)}, nil // as before
	}
	columns, found, err := h.opts.Database.Event(ctx, ids[0])
	if err != nil {
		return v, err
	}
	if found && !sameEvent(columns, v.events[0]) {
		return verdict{outcome: Fails, cause: causeConflict}, nil
	}
	v.outcome = Settled
	return v, nil
}

// compared are columns that hold what the tracker sent, whatever request brought
// it and whatever enrichment added.
var compared = []event.Field{
	event.AppID, event.Platform, event.EventType, event.NameTracker, event.VTracker, event.UserID, event.DomainUserID,
	event.DomainSessionIdx, event.PageURL, event.PageTitle, event.SeCategory, event.SeAction, event.SeLabel, event.SeProperty,
	event.TrOrderID, event.TiOrderID, event.TiSku, event.PpXoffsetMax, event.PpYoffsetMax, event.EventName, event.UnstructEvent, event.Contexts,
}

// sameEvent says whether a stored event is the one at hand. Only a preview rests on
// it: a retry lets the database judge.
func sameEvent(columns []store.Column, e *event.Event) bool {
	stored := make(map[string]any, len(columns))
	for _, c := range columns {
		stored[c.Name] = c.Value
	}
	for _, f := range compared {
		if !sameCell(stored[f.Name()], f, e.Cell(f)) {
			return false
		}
	}
	return true
}

func sameCell(stored any, f event.Field, cell *event.Cell) bool {
	if stored == nil || !cell.Set {
		return (stored == nil) == !cell.Set
	}
	switch value := stored.(type) {
	case string:
		return value == cell.Text || f.Kind() == event.JSON && sameJSON(value, cell.Text)
	case int64:
		return value == cell.Num
	}
	return true
}

// sameJSON compares documents that a database may have formatted anew.
func sameJSON(a, b string) bool {
	normal := func(s string) string {
		var v any
		if json.Unmarshal([]byte(s), &v) != nil {
			return s
		}
		text, err := json.Marshal(v)
		if err != nil {
			return s
		}
		return string(text)
	}
	return normal(a) == normal(b)
}
