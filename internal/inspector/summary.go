package inspector

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"furrow/internal/event"
)

// EventSummary is an event as the live stream shows it. Long texts are cut.
type EventSummary struct {
	ID              string `json:"id"`
	Time            string `json:"time"`     // collector_tstamp, RFC 3339 with milliseconds
	Recorded        string `json:"recorded"` // when the recorder had stored it
	LatencyMS       int64  `json:"latency_ms"`
	AppID           string `json:"app_id,omitempty"`
	EventName       string `json:"event_name"`
	PageURL         string `json:"page_url,omitempty"`
	PageTitle       string `json:"page_title,omitempty"`
	UserID          string `json:"user_id,omitempty"`
	DomainUserID    string `json:"domain_userid,omitempty"`
	NetworkUserID   string `json:"network_userid,omitempty"`
	DomainSessionID string `json:"domain_sessionid,omitempty"`
	Action          string `json:"action,omitempty"` // what was done in the shop
	Item            string `json:"item,omitempty"`   // the item it was done with
	VTracker        string `json:"v_tracker,omitempty"`
}

// BadSummary is a bad row as the live stream shows it.
type BadSummary struct {
	ID         string `json:"id"`
	Time       string `json:"time"`
	Schema     string `json:"schema"`      // short name, for example enrichment_failures
	Message    string `json:"message"`     // the first one
	EventIndex int    `json:"event_index"` // -1: the whole record
}

const (
	summaryURL     = 400
	summaryText    = 160
	summaryMessage = 400
)

// clip cuts a text to at most n bytes without breaking a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

func (e *entry) summary() EventSummary {
	s := EventSummary{ID: e.id, AppID: e.appID, EventName: clip(e.name, summaryText), Recorded: stamp(e.recorded)}
	var contexts, unstruct, kind string
	e.each(func(f event.Field, text string, num int64) {
		switch f {
		case event.CollectorTstamp:
			at := time.UnixMilli(num)
			s.Time, s.LatencyMS = stamp(at), max(0, e.recorded.Sub(at).Milliseconds())
		case event.EventType:
			kind = text
		case event.PageURL:
			s.PageURL = clip(text, summaryURL)
		case event.PageTitle:
			s.PageTitle = clip(text, summaryText)
		case event.UserID:
			s.UserID = clip(text, summaryText)
		case event.DomainUserID:
			s.DomainUserID = text
		case event.NetworkUserID:
			s.NetworkUserID = text
		case event.DomainSessionID:
			s.DomainSessionID = text
		case event.VTracker:
			s.VTracker = text
		case event.SeAction:
			s.Action = clip(text, summaryText)
		case event.SeLabel:
			if s.Item == "" {
				s.Item = clip(text, summaryText)
			}
		case event.TrOrderID:
			s.Action = "order " + clip(text, summaryText)
		case event.TiSku:
			s.Item = clip(text, summaryText)
		case event.Contexts:
			contexts = text
		case event.UnstructEvent:
			unstruct = text
		default:
		}
	})
	if s.EventName == "" {
		s.EventName = kind
	}
	action, item := shop(unstruct, contexts)
	if action != "" {
		s.Action = clip(action, summaryText)
	}
	if item != "" {
		s.Item = clip(item, summaryText)
	}
	return s
}

// shop finds the action and the item of an ecommerce event: Snowplow's ecommerce
// and older cart schemas, and the enhanced ecommerce entities shaped like Google
// Analytics'.
func shop(unstruct, contexts string) (action, item string) {
	if unstruct != "" {
		inner := gjson.Get(unstruct, "data")
		switch schemaName(inner.Get("schema").Str) {
		case "snowplow_ecommerce_action":
			action = inner.Get("data.type").String()
		case "action":
			action = inner.Get("data.action").String()
		case "add_to_cart", "remove_from_cart":
			item = inner.Get("data.sku").String()
		default:
		}
	}
	if item != "" || contexts == "" {
		return action, item
	}
	gjson.Get(contexts, "data").ForEach(func(_, c gjson.Result) bool {
		switch schemaName(c.Get("schema").Str) {
		case "product", "productFieldObject", "impressionFieldObject":
			item = c.Get("data.id").String()
		default:
		}
		return item == ""
	})
	return action, item
}

// schemaName returns the name in an Iglu URI, iglu:vendor/NAME/format/version.
func schemaName(uri string) string {
	parts := strings.Split(strings.TrimPrefix(uri, "iglu:"), "/")
	if len(parts) != 4 {
		return uri
	}
	return parts[1]
}

func (e *badEntry) summary() BadSummary {
	return BadSummary{
		ID: e.id, Time: stamp(e.time), Schema: clip(schemaName(e.schema), summaryText),
		Message: clip(firstMessage(e.failure), summaryMessage), EventIndex: e.index,
	}
}

// firstMessage says in one line what a failure object says first. The shapes are
// those of the Snowplow bad row schemas 1-0-x and 2-0-x.
func firstMessage(failure string) string {
	if failure == "" {
		return "the failure was too large to keep here"
	}
	f := gjson.Parse(failure)
	m := f
	for _, path := range []string{"messages.0", "message", "errors.0"} {
		if at := f.Get(path); at.Exists() {
			m = at
			break
		}
	}
	enrichment := m.Get("enrichment.identifier").String()
	if inner := m.Get("message"); inner.IsObject() {
		m = inner
	}
	text := messageText(m)
	if enrichment != "" {
		text = enrichment + ": " + text
	}
	return text
}

func messageText(m gjson.Result) string {
	if !m.IsObject() {
		return m.String()
	}
	var parts []string
	for _, key := range []string{"field", "payloadField", "schemaKey"} {
		if v := m.Get(key); v.String() != "" {
			parts = append(parts, v.String())
		}
	}
	for _, key := range []string{"value", "actual"} {
		if v := m.Get(key); v.Exists() && v.Type != gjson.Null {
			parts = append(parts, "“"+clip(v.String(), summaryText)+"”")
		}
	}
	head := strings.Join(parts, " ")
	for _, key := range []string{"expectation", "error", "schemaCriterion"} {
		v := m.Get(key)
		if !v.Exists() {
			continue
		}
		text := v.String()
		if v.IsObject() {
			text = igluError(v)
		}
		if head == "" {
			return text
		}
		return head + ": " + text
	}
	if head != "" {
		return head
	}
	return m.Raw
}

// igluError words an Iglu client's error: what the schema refused, or why there
// was none.
func igluError(v gjson.Result) string {
	kind := v.Get("error").String()
	for _, path := range []string{"dataReports.0", "schemaIssues.0"} {
		if r := v.Get(path); r.Exists() {
			text := r.Get("message").String()
			if at := r.Get("path").String(); at != "" && !strings.Contains(text, at) {
				text += " (" + at + ")"
			}
			return text
		}
	}
	if why := v.Get("lookupHistory.0.errors.0.error").String(); why != "" {
		return kind + ", " + why + " in " + v.Get("lookupHistory.0.repository").String()
	}
	return kind
}
