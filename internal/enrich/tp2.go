package enrich

import (
	"strconv"
	"strings"

	"furrow/internal/event"
	"furrow/internal/snowplow"
)

// adaptTP2 takes the events from a batch in the body, each merged with the query
// string, or the query string as the event when there is no body.
func (p *parser) adaptTP2() {
	body := p.payload.Body
	hasBody := body.Set && body.Value != ""
	contentType := p.payload.ContentType
	switch {
	case !hasBody && len(p.query) == 0:
		p.rejectRequest(missing("body"), missing("querystring"))
	case contentType.Set && !isJSONType(contentType.Value):
		p.rejectRequest(snowplow.FieldMessage("contentType", contentType, "one of "+strings.Join(jsonTypes[:], ", ")))
	case hasBody && !contentType.Set:
		p.rejectRequest(snowplow.FieldMessage("contentType", contentType, "set when there is a body"))
	case !hasBody && contentType.Set:
		p.rejectRequest(snowplow.FieldMessage("body", event.Optional{}, "not empty when there is a content type"))
	case !hasBody:
		p.single(p.query)
	default:
		p.adaptBatch()
	}
}

var jsonTypes = [...]string{"application/json", "application/json; charset=utf-8", "application/json; charset=UTF-8"}

func isJSONType(s string) bool { return s == jsonTypes[0] || s == jsonTypes[1] || s == jsonTypes[2] }

func (p *parser) adaptBatch() {
	text, err := p.compact(p.payload.Body.Value)
	if err != nil {
		p.rejectRequest(snowplow.FieldError("body", p.payload.Body, err.Error()))
		return
	}
	uri, data, err := selfDescribing(text)
	if err != nil {
		p.rejectRequest(snowplow.JSONMessage(text, err.Error()))
		return
	}
	key, err := snowplow.ParseSchemaKey(uri)
	switch {
	case err != nil:
		p.rejectRequest(snowplow.JSONMessage(text, err.Error()))
		return
	case key.Vendor != snowplowVendor || key.Name != "payload_data" || key.Format != "jsonschema" || key.Model != 1 || key.Revision != 0:
		p.rejectRequest(snowplow.CriterionMessage(uri, payloadDataCriterion))
		return
	case key.Addition > newestPayloadData:
		p.rejectRequest(snowplow.UnknownSchemaMessage(uri))
		return
	}
	addition := uint8(key.Addition) //nolint:gosec // at most newestPayloadData
	if !p.readBatch(data, addition) {
		p.rejectRequest(snowplow.ValidationMessage(uri, checkPayloadData(data, addition)))
		return
	}
	if len(p.ends) > MaxEvents {
		p.tooMany()
		return
	}
	p.share()
	p.expect(len(p.ends))
	p.batch = true
	start := 0
	for i, end := range p.ends {
		if start == end {
			p.holes = append(p.holes, i)
			continue
		}
		p.emit(i, p.own[start:end])
		start = end
	}
}

// readBatch takes the parameters of all events out of a batch that follows
// payload_data 1-0-addition. It returns false for any other. A placeholder has no
// parameters, in contrast to every event.
func (p *parser) readBatch(data string, addition uint8) bool {
	p.own, p.ends = p.own[:0], p.ends[:0]
	if data[0] != '[' {
		return false
	}
	for rest := data; rest != "]"; {
		if p.placeholder != "" && strings.HasPrefix(rest[1:], p.placeholder) {
			rest = rest[1+len(p.placeholder):]
			p.ends = append(p.ends, len(p.own))
			continue
		}
		start := len(p.own)
		var ok bool
		if p.own, rest, ok = snowplow.AppendTextMembers(p.own, rest[1:]); !ok || !followsPayloadData(p.own[start:], addition) {
			return false
		}
		p.ends = append(p.ends, len(p.own))
	}
	return true
}

const (
	payloadDataCriterion = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-*"
	newestPayloadData    = 4
)

// compact returns the JSON document in s, compact, in memory of its own.
func (p *parser) compact(s string) (string, error) {
	p.decoded = append(p.decoded[:0], s...)
	out, err := p.compactor.Append(p.scratch[:0], p.decoded)
	if err != nil {
		return "", err
	}
	p.scratch = out
	return string(out), nil
}

// maxReports bounds what one bad row says about a batch.
const maxReports = 100

// checkPayloadData explains how data violates the schema payload_data
// 1-0-addition: an array of at least one closed object of texts.
func checkPayloadData(data string, addition uint8) (reports []snowplow.Report) {
	if data[0] != '[' {
		return []snowplow.Report{{
			Message: "$ is of type " + jsonType(data) + ", not array", Path: "$", Keyword: "type", Targets: []string{jsonType(data), "array"},
		}}
	}
	n := 0
	for object := range snowplow.Elements(data) {
		if reports = append(reports, explainPayloadData(object, "$["+strconv.Itoa(n)+"]", addition)...); len(reports) >= maxReports {
			break
		}
		n++
	}
	if n == 0 && len(reports) == 0 {
		reports = []snowplow.Report{{
			Message: "$ has no items, at least 1 is wanted", Path: "$", Keyword: "minItems", Targets: []string{"1"},
		}}
	}
	return reports
}

// payloadDataParam returns the number of a parameter that payload_data
// 1-0-addition knows.
func payloadDataParam(name string, addition uint8) (int, bool) {
	i, ok := snowplow.LookupParam(name)
	return i, ok && snowplow.ParamSpec(i).Since <= addition
}

var (
	paramE, _    = snowplow.LookupParam("e")
	paramP, _    = snowplow.LookupParam("p")
	paramTV, _   = snowplow.LookupParam("tv")
	requiredKeys = [...]int{paramE, paramP, paramTV}
)

func followsPayloadData(params []snowplow.Param, addition uint8) bool {
	required := 0
	for i := range params {
		id, ok := payloadDataParam(params[i].Name, addition)
		if !ok {
			return false
		}
		if id == paramE || id == paramP || id == paramTV {
			required++
		}
	}
	return required == len(requiredKeys)
}

func explainPayloadData(object, path string, addition uint8) []snowplow.Report {
	if object[0] != '{' {
		return []snowplow.Report{{
			Message: path + " is of type " + jsonType(object) + ", not object", Path: path, Keyword: "type", Targets: []string{jsonType(object), "object"},
		}}
	}
	var reports []snowplow.Report
	var seen [snowplow.NumParams]bool
	for name, value := range snowplow.Members(object) {
		at := path + "." + name
		i, ok := payloadDataParam(name, addition)
		switch {
		case !ok:
			reports = append(reports, snowplow.Report{
				Message: at + " is not a property that the schema knows", Path: path, Keyword: "additionalProperties", Targets: []string{name},
			})
		case value[0] != '"':
			reports = append(reports, snowplow.Report{
				Message: at + " is of type " + jsonType(value) + ", not string", Path: at, Keyword: "type", Targets: []string{jsonType(value), "string"},
			})
		}
		if ok {
			seen[i] = true
		}
		if len(reports) >= maxReports {
			return reports
		}
	}
	for _, i := range requiredKeys {
		if name := snowplow.ParamSpec(i).Name; !seen[i] {
			reports = append(reports, snowplow.Report{
				Message: path + "." + name + " is required", Path: path, Keyword: "required", Targets: []string{name},
			})
		}
	}
	return reports
}

func jsonType(value string) string {
	switch value[0] {
	case '{':
		return "object"
	case '[':
		return "array"
	case '"':
		return "string"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	}
	if strings.ContainsAny(value, ".eE") {
		return "number"
	}
	return "integer"
}
