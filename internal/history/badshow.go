package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"furrow/internal/event"
	"furrow/internal/snowplow"
	"furrow/internal/store"
)

// BadShowSpec names a bad row.
type BadShowSpec struct {
	ID string `json:"id"`
}

// BadShowReport is everything about a bad row. It shows what is stored, cookies and
// addresses included.
type BadShowReport struct {
	ID        string          `json:"id"`
	Time      time.Time       `json:"time"` // collector time
	Schema    string          `json:"schema"`
	Cause     string          `json:"cause"`
	Failure   json.RawMessage `json:"failure"`
	Index     int             `json:"index"`    // of the event in the record; -1 when the whole record failed
	RecordID  string          `json:"recordId"` // hex
	Record    []byte          `json:"record"`   // exact
	RecordLen int             `json:"recordLen"`
	Payload   *BadPayload     `json:"payload,omitempty"` // nil when the record cannot be decoded
	Now       BadNow          `json:"now"`
}

// BadPayload is the request that a bad row came with. What was absent is nil.
type BadPayload struct {
	Time          time.Time `json:"time"`
	Collector     string    `json:"collector"`
	Hostname      *string   `json:"hostname"`
	Path          *string   `json:"path"`
	Querystring   *string   `json:"querystring"`
	ContentType   *string   `json:"contentType"`
	Body          *string   `json:"body"`
	Headers       []string  `json:"headers"`
	IPAddress     string    `json:"ipAddress"`
	UserAgent     *string   `json:"userAgent"`
	RefererURI    *string   `json:"refererUri"`
	NetworkUserID *string   `json:"networkUserId"`
}

// BadNow is what a bad row gives under the configuration of now.
type BadNow struct {
	Outcome Outcome         `json:"outcome"`
	Cause   string          `json:"cause,omitempty"` // why it still fails
	Schema  string          `json:"schema,omitempty"`
	Failure json.RawMessage `json:"failure,omitempty"`
	Events  []string        `json:"events,omitempty"` // ids of the events it gives, at most 100
}

// ErrNoBadRow says that there is no bad row with the id.
var ErrNoBadRow = errors.New("history: no such bad row")

var errFound = errors.New("found")

// BadShow decodes one bad row and enriches it again.
func (h *History) BadShow(ctx context.Context, spec BadShowSpec, _ Progress) (BadShowReport, error) {
	if h.opts.Database == nil {
		return BadShowReport{}, errNoDatabase
	}
	if spec.ID == "" {
		return BadShowReport{}, fmt.Errorf("%w: its id is empty", ErrNoBadRow)
	}
	var row event.BadRow
	err := h.opts.Database.EachBad(ctx, store.BadFilter{IDs: []string{spec.ID}, Records: true}, func(found event.BadRow) error {
		row = found
		return errFound
	})
	if err == nil {
		return BadShowReport{}, fmt.Errorf("%w: %q", ErrNoBadRow, spec.ID)
	}
	if !errors.Is(err, errFound) {
		return BadShowReport{}, err
	}
	report := BadShowReport{
		ID: row.ID, Time: row.Time, Schema: row.Schema, Cause: causeOf(&row), Failure: rawJSON(row.Failure),
		Index: row.Index, RecordID: row.Record.String(), Record: row.Payload, RecordLen: len(row.Payload),
	}
	if p, err := snowplow.DecodePayload(row.Payload); err == nil {
		report.Payload = showPayload(&p)
	}
	report.Now, err = h.showNow(ctx, &row)
	return report, err
}

func (h *History) showNow(ctx context.Context, row *event.BadRow) (BadNow, error) {
	j, err := h.judge(ctx, row.Payload)
	if err != nil {
		return BadNow{}, err
	}
	v, err := h.foresee(ctx, row, j.row(row))
	if err != nil {
		return BadNow{}, err
	}
	now := BadNow{Outcome: v.outcome, Cause: v.cause}
	if v.failure != nil {
		now.Schema, now.Failure = v.failure.Schema, rawJSON(v.failure.Failure)
	}
	for _, e := range v.events[:min(len(v.events), 100)] {
		now.Events = append(now.Events, e.ID())
	}
	return now, nil
}

// rawJSON makes a stored failure safe to write as JSON.
func rawJSON(b []byte) json.RawMessage {
	if json.Valid(b) {
		return b
	}
	text, err := json.Marshal(string(b))
	if err != nil {
		return nil // texts always marshal
	}
	return text
}

func showPayload(p *event.Payload) *BadPayload {
	text := func(o event.Optional) *string {
		if !o.Set {
			return nil
		}
		return &o.Value
	}
	return &BadPayload{
		Time: p.Time(), Collector: p.Collector, Hostname: text(p.Hostname), Path: text(p.Path),
		Querystring: text(p.Querystring), ContentType: text(p.ContentType), Body: text(p.Body),
		Headers: p.Headers, IPAddress: p.IPAddress, UserAgent: text(p.UserAgent),
		RefererURI: text(p.RefererURI), NetworkUserID: text(p.NetworkUserID),
	}
}
