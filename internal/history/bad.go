package history

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"furrow/internal/event"
	"furrow/internal/snowplow"
	"furrow/internal/store"
)

// Limits of what is said about bad rows.
const (
	maxCauses   = 10_000 // more share one heading
	otherCauses = "other causes"
	causeBytes  = 500 // of one cause
	tellEvery   = 1000
)

// BadSelect selects bad rows. A zero field restricts nothing.
type BadSelect struct {
	IDs    []string  `json:"ids,omitempty"`
	Cause  string    `json:"cause,omitempty"`  // a part of the cause, in any case
	Schema string    `json:"schema,omitempty"` // a part of the bad row's Iglu URI, in any case
	From   time.Time `json:"from,omitzero"`    // collector time at or after
	To     time.Time `json:"to,omitzero"`      // before
}

func (s BadSelect) filter(records bool) store.BadFilter {
	return store.BadFilter{IDs: s.IDs, From: s.From, To: s.To, Records: records}
}

// takes says whether the row is selected, and why the row is bad.
func (s BadSelect) takes(row *event.BadRow) (cause string, ok bool) {
	if !contains(row.Schema, s.Schema) {
		return "", false
	}
	cause = causeOf(row)
	return cause, contains(cause, s.Cause)
}

func contains(text, part string) bool {
	return part == "" || strings.Contains(strings.ToLower(text), strings.ToLower(part))
}

func causeOf(row *event.BadRow) string { return causeText(snowplow.Cause(row.Schema, row.Failure)) }

func causeText(cause string) string {
	if len(cause) <= causeBytes {
		return cause
	}
	return strings.ToValidUTF8(cause[:causeBytes], "") + "…"
}

// BadCause is one reason why rows are bad.
type BadCause struct {
	Cause   string    `json:"cause"`
	Schema  string    `json:"schema"`
	Rows    int64     `json:"rows"`
	First   time.Time `json:"first"` // collector time
	Last    time.Time `json:"last"`
	Example string    `json:"example"` // id of the newest row
}

// BadListReport tells why rows are bad, the commonest cause first. At most 10,000
// causes are told apart; the rows of further ones are under the heading "other
// causes", which is the last.
type BadListReport struct {
	Rows   int64      `json:"rows"`
	Causes []BadCause `json:"causes"`
}

var (
	errNoDatabase = errors.New("history: this process has no database")
	errNoBus      = errors.New("history: this process has no bus to publish to")
)

type causeKey struct{ cause, schema string }

// BadList groups the selected bad rows of the database by cause.
func (h *History) BadList(ctx context.Context, spec BadSelect, progress Progress) (BadListReport, error) {
	var report BadListReport
	if h.opts.Database == nil {
		return report, errNoDatabase
	}
	total := h.countBad(ctx, spec)
	causes := map[causeKey]*BadCause{}
	seen := int64(0)
	err := h.opts.Database.EachBad(ctx, spec.filter(false), func(row event.BadRow) error {
		if seen++; seen%tellEvery == 0 {
			progress.report("reading bad rows", seen, total)
		}
		cause, ok := spec.takes(&row)
		if !ok {
			return nil
		}
		report.Rows++
		count(causes, causeKey{cause, row.Schema}, &row)
		return nil
	})
	for _, c := range causes {
		report.Causes = append(report.Causes, *c)
	}
	slices.SortFunc(report.Causes, func(a, b BadCause) int {
		return cmp.Or(compareLast(a.Cause, b.Cause), cmp.Compare(b.Rows, a.Rows), cmp.Compare(a.Cause, b.Cause), cmp.Compare(a.Schema, b.Schema))
	})
	return report, err
}

// compareLast puts the heading for all other causes behind them.
func compareLast(a, b string) int {
	switch {
	case a == otherCauses && b != otherCauses:
		return 1
	case b == otherCauses && a != otherCauses:
		return -1
	}
	return 0
}

func count(causes map[causeKey]*BadCause, key causeKey, row *event.BadRow) {
	c := causes[key]
	if c == nil && len(causes) >= maxCauses {
		key = causeKey{cause: otherCauses}
		c = causes[key]
	}
	if c == nil {
		c = &BadCause{Cause: key.cause, Schema: key.schema, First: row.Time}
		causes[key] = c
	}
	c.Rows++
	if row.Time.Before(c.First) {
		c.First = row.Time
	}
	if c.Example == "" || row.Time.After(c.Last) {
		c.Last, c.Example = row.Time, row.ID
	}
}

// countBad returns how many bad rows will be read, 0 when nobody knows.
func (h *History) countBad(ctx context.Context, spec BadSelect) int64 {
	if len(spec.IDs) > 0 {
		return int64(len(spec.IDs))
	}
	if !spec.From.IsZero() || !spec.To.IsZero() {
		return 0
	}
	status, err := h.opts.Database.Status(ctx)
	if err != nil {
		return 0 // the read itself will say why
	}
	return status.Bad
}
