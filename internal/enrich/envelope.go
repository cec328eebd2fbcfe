package enrich

import (
	"errors"
	"strconv"
	"strings"

	"furrow/internal/event"
	"furrow/internal/snowplow"
)

// errNotSelfDescribing is Iglu's code for JSON without schema or data.
var errNotSelfDescribing = errors.New("INVALID_DATA_PAYLOAD")

// selfDescribing splits compact JSON into the URI of its schema and its data.
func selfDescribing(text string) (uri, data string, err error) {
	okURI := false
	for key, value := range snowplow.Members(text) {
		switch key {
		case "schema":
			uri, okURI = snowplow.Text(value)
		case "data":
			data = value
		}
	}
	if !okURI || data == "" {
		return "", "", errNotSelfDescribing
	}
	return uri, data, nil
}

// envelope is one kind of wrapper around self-describing JSON.
type envelope struct {
	name   string // of its schema
	newest int    // addition of that schema, 1-0-newest
	head   string // what is written before the data
}

var (
	contexts      = envelope{"contexts", 1, `{"schema":"` + snowplow.ContextsSchema + `","data":`}
	unstructEvent = envelope{"unstruct_event", 0, `{"schema":"` + snowplow.UnstructEventSchema + `","data":`}
)

// open checks the envelope in text, compact JSON, and returns its data. On failure
// it returns the messages of schema violations.
func (v *envelope) open(text string) (data string, failures []snowplow.Message) {
	uri, data, err := selfDescribing(text)
	var key snowplow.SchemaKey
	if err == nil {
		key, err = snowplow.ParseSchemaKey(uri)
	}
	if err != nil {
		return "", []snowplow.Message{snowplow.JSONMessage(text, err.Error())}
	}
	if key.Vendor != snowplowVendor || key.Name != v.name || key.Format != "jsonschema" || key.Model != 1 || key.Revision != 0 {
		criterion := "iglu:" + snowplowVendor + "/" + v.name + "/jsonschema/1-0-*"
		return "", []snowplow.Message{snowplow.CriterionMessage(uri, criterion)}
	}
	if key.Addition > v.newest {
		return "", []snowplow.Message{snowplow.UnknownSchemaMessage(uri)}
	}
	var reports []snowplow.Report
	if v == &contexts {
		reports = checkContexts(data, key.Addition == 0)
	} else {
		reports = checkItem(nil, data, "$")
	}
	if len(reports) > 0 {
		return "", []snowplow.Message{snowplow.ValidationMessage(uri, reports)}
	}
	return data, nil
}

// checkContexts applies the schema of contexts: an array of closed objects with
// schema and data.
func checkContexts(data string, nonEmpty bool) (reports []snowplow.Report) {
	if data[0] != '[' {
		return []snowplow.Report{{
			Message: "$ is of type " + jsonType(data) + ", not array", Path: "$", Keyword: "type", Targets: []string{jsonType(data), "array"},
		}}
	}
	n := 0
	for item := range snowplow.Elements(data) {
		if _, ok := splitItem(item); !ok && len(reports) < maxReports {
			reports = checkItem(reports, item, "$["+strconv.Itoa(n)+"]")
		}
		n++
	}
	if n == 0 && nonEmpty {
		return []snowplow.Report{{
			Message: "$ has no items, at least 1 is wanted", Path: "$", Keyword: "minItems", Targets: []string{"1"},
		}}
	}
	return reports
}

// splitItem returns the schema of an item that has the form that is written: schema
// and data only, in this order, the schema like an Iglu URI.
func splitItem(item string) (uri string, ok bool) {
	const head, middle = `{"schema":"`, `","data":`
	rest, ok := strings.CutPrefix(item, head)
	if !ok {
		return "", false
	}
	i := strings.IndexByte(rest, '"')
	if i < 0 || !strings.HasPrefix(rest[i:], middle) {
		return "", false
	}
	uri = rest[:i]
	data := rest[i+len(middle) : len(rest)-1]
	if end := snowplow.ValueEnd(data); end != len(data) {
		return "", false
	}
	return uri, looksLikeIgluURI(uri)
}

// looksLikeIgluURI is the pattern in the schemas of the envelopes; unlike a schema
// key it allows any digits in the version.
func looksLikeIgluURI(s string) bool {
	_, err := snowplow.ParseSchemaKey(s)
	if err == nil {
		return true
	}
	i := strings.LastIndexByte(s, '/')
	return errors.Is(err, snowplow.ErrSchemaVer) && !strings.Contains(s[i:], "--") && !strings.Contains(s[i:], "/-") && !strings.HasSuffix(s, "-")
}

// checkItem applies the schema of one item: a closed object with schema and data.
func checkItem(reports []snowplow.Report, item, path string) []snowplow.Report {
	if item[0] != '{' {
		return append(reports, snowplow.Report{
			Message: path + " is of type " + jsonType(item) + ", not object", Path: path, Keyword: "type", Targets: []string{jsonType(item), "object"},
		})
	}
	hasSchema, hasData := false, false
	for key, value := range snowplow.Members(item) {
		switch key {
		case "schema":
			hasSchema = true
			uri, isText := snowplow.Text(value)
			switch at := path + ".schema"; {
			case !isText:
				reports = append(reports, snowplow.Report{
					Message: at + " is of type " + jsonType(value) + ", not string", Path: at, Keyword: "type", Targets: []string{jsonType(value), "string"},
				})
			case !looksLikeIgluURI(uri):
				reports = append(reports, snowplow.Report{
					Message: at + " is not an Iglu URI", Path: at, Keyword: "pattern", Targets: []string{igluPattern},
				})
			}
		case "data":
			hasData = true
		default:
			if len(reports) >= maxReports {
				return reports
			}
			reports = append(reports, snowplow.Report{
				Message: path + "." + key + " is not a property that the schema knows", Path: path, Keyword: "additionalProperties", Targets: []string{key},
			})
		}
	}
	for _, r := range [...]struct {
		name string
		ok   bool
	}{{"schema", hasSchema}, {"data", hasData}} {
		if !r.ok {
			reports = append(reports, snowplow.Report{
				Message: path + "." + r.name + " is required", Path: path, Keyword: "required", Targets: []string{r.name},
			})
		}
	}
	return reports
}

const igluPattern = `^iglu:[a-zA-Z0-9-_.]+/[a-zA-Z0-9-_]+/[a-zA-Z0-9-_]+/[0-9]+-[0-9]+-[0-9]+$`

// describe sets contexts and unstruct_event from the JSON that came with the
// event and returns the schema of the event. It returns the messages of schema
// violations instead of setting anything.
func (p *parser) describe(e *event.Event) (snowplow.SchemaKey, []snowplow.Message) {
	var failures []snowplow.Message
	if text := e.Text(event.Contexts); text != "" {
		out, messages := writeContexts(text)
		failures = append(failures, messages...)
		e.SetText(event.Contexts, out)
	}
	var key snowplow.SchemaKey
	if text := e.Text(event.UnstructEvent); text != "" {
		data, messages := unstructEvent.open(text)
		if messages == nil {
			uri, inner, _ := selfDescribing(data)
			var err error
			if key, err = snowplow.ParseSchemaKey(uri); err != nil {
				messages = []snowplow.Message{snowplow.JSONMessage(data, err.Error())}
			} else if _, inOrder := splitItem(data); !inOrder {
				data = `{"schema":"` + uri + `","data":` + inner + `}`
			}
			e.SetText(event.UnstructEvent, wrap(text, unstructEvent.head, data))
		}
		failures = append(failures, messages...)
	}
	return key, failures
}

// wrap writes an envelope, or returns text when that already is it.
func wrap(text, head, data string) string {
	if len(text) == len(head)+len(data)+1 && strings.HasPrefix(text, head) && strings.HasPrefix(text[len(head):], data) {
		return text
	}
	return head + data + "}"
}

// writeContexts checks contexts and returns them as 1-0-1, each item with its
// schema first. An empty array is returned as it came.
func writeContexts(text string) (string, []snowplow.Message) {
	data, failures := contexts.open(text)
	if failures != nil {
		return "", failures
	}
	if data == "[]" {
		return text, nil
	}
	inOrder := true
	for item := range snowplow.Elements(data) {
		uri, ok := splitItem(item)
		if !ok {
			inOrder = false
			uri, _, _ = selfDescribing(item)
		}
		if _, err := snowplow.ParseSchemaKey(uri); err != nil {
			failures = append(failures, snowplow.JSONMessage(item, err.Error()))
		}
	}
	if failures != nil {
		return "", failures
	}
	if inOrder {
		return wrap(text, contexts.head, data), nil
	}
	b := append(make([]byte, 0, len(text)+8), '[')
	for item := range snowplow.Elements(data) {
		uri, data, _ := selfDescribing(item)
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(b, `{"schema":"`...)
		b = append(b, uri...)
		b = append(b, `","data":`...)
		b = append(b, data...)
		b = append(b, '}')
	}
	return wrap(text, contexts.head, string(append(b, ']'))), nil
}
