package enrich

import (
	"errors"

	"furrow/internal/event"
	"furrow/internal/snowplow"
)

// igluTypes are the content types that the Iglu webhook takes: two of JSON, one of
// forms. Unlike tp2 it does not know the spelling UTF-8.
var igluTypes = [...]string{"application/json", "application/json; charset=utf-8", "application/x-www-form-urlencoded"}

// adaptIglu makes self-describing events of a webhook's parameters or body.
func (p *parser) adaptIglu() {
	body, contentType := p.payload.Body, p.payload.ContentType
	hasBody := body.Set && body.Value != ""
	uri, hasSchema := lookup(p.query, "schema")
	switch {
	case hasBody && !contentType.Set:
		p.rejectRequest(snowplow.FieldMessage("contentType", contentType, "set when there is a body"))
	case !hasSchema && !hasBody:
		p.rejectRequest(missing("schema"), missing("body"))
	case !hasSchema:
		p.adaptSelfDescribingBody()
	default:
		if _, err := snowplow.ParseSchemaKey(uri); err != nil {
			p.rejectRequest(snowplow.FieldError("schema", event.Some(uri), err.Error()))
			return
		}
		p.adaptIgluData(uri, hasBody)
	}
}

// adaptSelfDescribingBody takes a body that names its own schema.
func (p *parser) adaptSelfDescribingBody() {
	body, contentType := p.payload.Body, p.payload.ContentType
	if contentType.Value != igluTypes[0] && contentType.Value != igluTypes[1] {
		p.rejectRequest(snowplow.FieldMessage("contentType", contentType, "one of "+igluTypes[0]+", "+igluTypes[1]))
		return
	}
	text, err := p.compact(body.Value)
	if err != nil {
		p.rejectRequest(snowplow.FieldError("body", body, err.Error()))
		return
	}
	uri, data, err := selfDescribing(text)
	if err == nil {
		_, err = snowplow.ParseSchemaKey(uri)
	}
	if err != nil {
		p.rejectRequest(snowplow.JSONMessage(text, err.Error()))
		return
	}
	p.expect(1)
	p.emitIglu(0, uri, data, "app")
}

// adaptIgluData takes data whose schema is a parameter.
func (p *parser) adaptIgluData(uri string, hasBody bool) {
	body, contentType := p.payload.Body, p.payload.ContentType
	switch {
	case !hasBody:
		p.expect(1)
		p.emitIglu(0, uri, objectOf(p.query, isWebhookParam, true), "app")
	case contentType.Value == igluTypes[2]:
		form, _ := snowplow.AppendQuery(nil, body.Value)
		p.expect(1)
		p.emitIglu(0, uri, objectOf(form, func(string) bool { return false }, false), "srv")
	case contentType.Value == igluTypes[0] || contentType.Value == igluTypes[1]:
		text, err := p.compact(body.Value)
		if err == nil && (text[0] != '{' && text[0] != '[' || len(text) == 2) {
			err = errors.New("want an object or an array that is not empty")
		}
		if err != nil {
			p.rejectRequest(snowplow.FieldError("body", body, err.Error()))
			return
		}
		if text[0] == '{' {
			p.expect(1)
			p.emitIglu(0, uri, text, "app")
			return
		}
		p.adaptIgluArray(uri, text)
	default:
		p.rejectRequest(snowplow.FieldMessage("contentType", contentType, "one of "+igluTypes[0]+", "+igluTypes[1]+", "+igluTypes[2]))
	}
}

// adaptIgluArray takes each element of an array as an event.
func (p *parser) adaptIgluArray(uri, array string) {
	n := 0
	for range snowplow.Elements(array) {
		n++
	}
	if n > MaxEvents {
		p.tooMany()
		return
	}
	p.expect(n)
	i := 0
	for data := range snowplow.Elements(array) {
		p.emitIglu(i, uri, data, "app")
		i++
	}
}

// isWebhookParam tells the parameters that are about the event, not in it.
func isWebhookParam(name string) bool {
	switch name {
	case "schema", "nuid", "aid", "cv", "p":
		return true
	}
	return false
}

// objectOf writes parameters as a JSON object of texts, without value null. An
// empty value is null too where emptyIsNull.
func objectOf(params []snowplow.Param, leaveOut func(name string) bool, emptyIsNull bool) string {
	b := []byte{'{'}
	for _, p := range params {
		if leaveOut(p.Name) {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(snowplow.AppendJSONText(b, p.Name), ':')
		if !p.Set || emptyIsNull && p.Value == "" {
			b = append(b, "null"...)
		} else {
			b = snowplow.AppendJSONText(b, p.Value)
		}
	}
	return string(append(b, '}'))
}

func (p *parser) emitIglu(index int, uri, data, platform string) {
	if sent, ok := lookup(p.query, "p"); ok && sent != "" {
		platform = sent
	}
	inner := string(snowplow.AppendJSONText(nil, uri))
	params := append(
		p.own[:0],
		snowplow.Param{Name: "e", Value: "ue", Set: true},
		snowplow.Param{Name: "tv", Value: "com.snowplowanalytics.iglu-v1", Set: true},
		snowplow.Param{Name: "p", Value: platform, Set: true},
		snowplow.Param{Name: "ue_pr", Value: `{"schema":"` + snowplow.UnstructEventSchema + `","data":{"schema":` + inner + `,"data":` + data + `}}`, Set: true},
	)
	for _, name := range [...]string{"nuid", "aid", "cv", "eid", "ttm", "url"} {
		if value, ok := lookup(p.query, name); ok {
			params = append(params, snowplow.Param{Name: name, Value: value, Set: true})
		}
	}
	p.own = params
	p.emit(index, params)
}
