package archive

import (
	"encoding/json"
	"fmt"

	"furrow/internal/event"
)

const genericError = "iglu:com.snowplowanalytics.snowplow.badrows/generic_error/jsonschema/1-0-0"

// conflict makes the bad row of an event whose id the range has with other content:
// the same row, with the same id, as the database makes of it.
func conflict(e *Entry, ev *event.Event) event.BadRow {
	at := e.Time
	if ev.Has(event.CollectorTstamp) {
		at = ev.Time(event.CollectorTstamp)
	}
	failure, err := json.Marshal(struct {
		Timestamp string   `json:"timestamp"`
		Errors    []string `json:"errors"`
	}{at.UTC().Format("2006-01-02T15:04:05.000Z"), []string{fmt.Sprintf("event_id %s is already stored with other content", ev.ID())}})
	if err != nil {
		failure = nil // strings always marshal
	}
	return event.BadRow{
		ID: event.BadRowID(ev.Record, ev.Index), Record: ev.Record, Index: ev.Index, Time: at,
		Schema: genericError, Failure: failure, Payload: e.Record,
	}
}
