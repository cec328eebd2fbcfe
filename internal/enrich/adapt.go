package enrich

import (
	"encoding/base64"
	"strings"

	"furrow/internal/event"
	"furrow/internal/snowplow"
)

// places says where the known parameters of an event are, by their number. It has
// no pointers, so copying it is cheap.
type places struct {
	set [(snowplow.NumParams + 63) / 64]uint64
	at  [snowplow.NumParams]int32 // index in the event's own parameters, or -1-index in the query string's
}

func (v *places) has(i int) bool { return v.set[i/64]&(1<<(i%64)) != 0 }

func (v *places) put(i, at int) {
	v.at[i] = int32(at) //nolint:gosec // a record has fewer parameters than 2^31 bytes
	v.set[i/64] |= 1 << (i % 64)
}

// adapt finds the events of the request, as its vendor and version say.
func (p *parser) adapt() {
	switch {
	case p.vendor == snowplowVendor && p.version == "tp1":
		p.adaptGET()
	case p.vendor == snowplowVendor && p.version == "tp2":
		p.adaptTP2()
	case p.vendor == "r" && p.version == "tp2":
		p.adaptRedirect()
	case p.vendor == "com.snowplowanalytics.iglu" && p.version == "v1":
		p.adaptIglu()
	default:
		p.rejectRequest(snowplow.FieldMessage("vendor/version",
			event.Some(p.vendor+"/"+p.version), "a vendor and version that Furrow has an adapter for"))
	}
}

// adaptGET takes the query string as the event.
func (p *parser) adaptGET() {
	if len(p.query) == 0 {
		p.rejectRequest(missing("querystring"))
		return
	}
	p.single(p.query)
}

// missing is the message about a part of a request that is not there.
func missing(part string) snowplow.Message {
	return snowplow.FieldMessage(part, event.Optional{}, "not empty")
}

// single makes the parameters the request's only event.
func (p *parser) single(params []snowplow.Param) {
	p.expect(1)
	p.emit(0, params)
}

// adaptRedirect reports the target of a redirect, as the event or with it.
func (p *parser) adaptRedirect() {
	target, ok := lookup(p.query, "u")
	if !ok {
		value := event.Optional{}
		if len(p.query) > 0 {
			value = event.Some(printQuery(p.query))
		}
		p.rejectRequest(snowplow.FieldMessage("querystring", value, "a parameter u with the address to redirect to"))
		return
	}
	entity := snowplow.AppendJSONText([]byte(`{"schema":"`+redirectSchema+`","data":{"uri":`), target)
	entity = append(entity, "}}"...)

	params := append(p.own[:0], p.query...)
	if _, ok := lookup(params, "e"); ok {
		if params, ok = p.addEntity(params, string(entity)); !ok {
			return
		}
	} else {
		params = remove(params, "ue_px")
		params = put(params, "e", "ue")
		params = put(params, "ue_pr", `{"schema":"`+snowplow.UnstructEventSchema+`","data":`+string(entity)+`}`)
	}
	if platform, ok := lookup(params, "p"); !ok || platform == "" {
		params = put(params, "p", "web")
	}
	params = put(params, "tv", "r-tp2")
	p.own = remove(params, "u")
	p.single(p.own)
}

const redirectSchema = "iglu:com.snowplowanalytics.snowplow/uri_redirect/jsonschema/1-0-0"

// addEntity puts an entity in front of the contexts that came with a redirect.
func (p *parser) addEntity(params []snowplow.Param, entity string) ([]snowplow.Param, bool) {
	name := "cx"
	sent, _ := lookup(params, name)
	if sent == "" {
		params = remove(params, name)
		name = "co"
		sent, _ = lookup(params, name)
	}
	if sent == "" {
		return put(params, "co", `{"schema":"`+snowplow.ContextsSchema+`","data":[`+entity+`]}`), true
	}
	text := append(p.decoded[:0], sent...)
	if name == "cx" {
		text = snowplow.AppendBase64(p.decoded[:0], sent)
	}
	p.decoded = text
	joined, ok := p.joinEntity(text, entity)
	if !ok {
		p.rejectRequest(snowplow.FieldError("co|cx", event.Some(snowplow.ValidText(string(text))), "not the JSON of contexts"))
		return params, false
	}
	if name == "cx" {
		joined = base64.URLEncoding.EncodeToString([]byte(joined))
	}
	return put(params, name, joined), true
}

// joinEntity returns the contexts with the entity first in their data.
func (p *parser) joinEntity(text []byte, entity string) (string, bool) {
	compact, err := p.compactor.Append(p.scratch[:0], text)
	if err != nil {
		return "", false
	}
	p.scratch = compact
	out := []byte{'{'}
	joined := false
	for key, value := range snowplow.Members(string(compact)) {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, '"')
		out = append(out, key...)
		out = append(out, `":`...)
		if key != "data" || value[0] != '[' {
			out = append(out, value...)
			continue
		}
		joined = true
		out = append(append(out, '['), entity...)
		if value != "[]" {
			out = append(out, ',')
		}
		out = append(out, value[1:]...)
	}
	return string(append(out, '}')), joined
}

// lookup returns the value of a parameter that has one.
func lookup(params []snowplow.Param, name string) (string, bool) {
	for i := range params {
		if params[i].Name == name {
			return params[i].Value, params[i].Set
		}
	}
	return "", false
}

func put(params []snowplow.Param, name, value string) []snowplow.Param {
	p := snowplow.Param{Name: name, Value: value, Set: true}
	for i := range params {
		if params[i].Name == name {
			params[i] = p
			return params
		}
	}
	return append(params, p)
}

func remove(params []snowplow.Param, name string) []snowplow.Param {
	for i := range params {
		if params[i].Name == name {
			return append(params[:i], params[i+1:]...)
		}
	}
	return params
}

// printQuery writes parameters for a person who reads a failure.
func printQuery(params []snowplow.Param) string {
	var b strings.Builder
	for i, p := range params {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p.Name)
		b.WriteByte('=')
		if p.Set {
			b.WriteString(p.Value)
		} else {
			b.WriteString("null")
		}
	}
	return b.String()
}
