package snowplow

import (
	"strings"
	"unicode/utf8"
)

// maxCause bounds a cause, in bytes.
const maxCause = 240

// Cause says in a few words why a bad row is bad: the name of its schema, then the
// field, the schema or the enrichment that the first message of the failure blames,
// then the reason. Rows that fail for the same reason have the same cause, so that
// they can be counted together. It repeats no value that a user sent: quoted texts,
// numbers and whatever is no plain word are left out of reasons that others wrote.
// It is never empty, whatever it is given.
func Cause(schema string, failure []byte) string {
	name := "unknown"
	if key, err := ParseSchemaKey(schema); err == nil {
		name = key.Name
	}
	var c Compactor
	text, err := c.Append(nil, failure)
	if err != nil || len(text) == 0 || text[0] != '{' {
		return cutCause(name + ": its failure cannot be read")
	}
	blamed, reason := explain(string(text))
	if reason == "" {
		reason = "no reason is given"
	}
	if blamed != "" {
		reason = blamed + ": " + reason
	}
	return cutCause(name + ": " + reason)
}

// cutCause makes a cause one line of bounded length.
func cutCause(s string) string {
	s = SafeText(s)
	if len(s) <= maxCause {
		return s
	}
	n := maxCause
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// memberOf returns the first member with that name, empty when there is none.
func memberOf(object, name string) string {
	for key, value := range Members(object) {
		if key == name {
			return value
		}
	}
	return ""
}

func textMember(object, name string) (string, bool) { return Text(memberOf(object, name)) }

// explain finds what a failure blames and why, in any of the forms of bad rows.
func explain(failure string) (blamed, reason string) {
	if blamed, reason, ok := explainLine(failure); ok {
		return blamed, reason
	}
	if message := memberOf(failure, "message"); message != "" {
		return explainMessage(message)
	}
	n := 0
	for message := range Elements(memberOf(failure, "messages")) {
		blamed, reason = explainMessage(message)
		if n++; reason != tooLong || n > 1 { // which one is in the next message
			return blamed, reason
		}
	}
	if n > 0 {
		return blamed, reason
	}
	for e := range Elements(memberOf(failure, "errors")) {
		if text, ok := Text(e); ok {
			return "", plainReason(text)
		}
	}
	if text, ok := textMember(failure, "expectation"); ok {
		return "", plainReason(text)
	}
	return "", ""
}

// explainLine says why a line is no enriched event, see TSVError.Failure; ok is
// false when the failure is not about a line.
func explainLine(failure string) (blamed, reason string, ok bool) {
	switch kind, _ := textMember(failure, "type"); kind {
	case "NotTSV":
		return "", "no tabs in the line", true
	case "FieldNumberMismatch":
		return "", "not the number of cells that an enriched event has", true
	case "RowDecodingError":
		for e := range Elements(memberOf(failure, "errors")) {
			if key, ok := textMember(e, "key"); ok {
				blamed = plainName(key)
			}
			message, _ := textMember(e, "message")
			return blamed, plainReason(message), true
		}
	}
	return "", "", false
}

// explainMessage explains one message, whatever wraps it.
func explainMessage(message string) (blamed, reason string) {
	if inner := memberOf(message, "message"); inner != "" && inner[0] == '{' {
		blamed, reason = explainMessage(inner)
		if id, ok := textMember(memberOf(message, "enrichment"), "identifier"); ok {
			if blamed != "" {
				reason = blamed + ": " + reason
			}
			blamed = plainName(id)
		} else if i, ok := LookupParam(blamed); ok && ParamSpec(i).Conversion != Ignored && ParamSpec(i).Conversion != AsDimension {
			blamed = ParamSpec(i).Field.Name()
		}
		return blamed, reason
	}
	if uri, ok := textMember(message, "schemaKey"); ok {
		return plainKey(uri), explainSchema(message)
	}
	for _, name := range [...]string{"field", "payloadField"} {
		if field, ok := textMember(message, name); ok {
			return plainName(field), explainField(message)
		}
	}
	reason, ok := textMember(message, "error")
	switch {
	case ok && memberOf(message, "json") != "":
		return "", igluReason(reason)
	case ok:
		return explainError(reason)
	}
	if expectation, ok := textMember(message, "expectation"); ok {
		return "", plainReason(expectation)
	}
	return "", ""
}

const tooLong = "a field is longer than it may be"

// explainError explains a reason that stands alone.
func explainError(reason string) (blamed, why string) {
	if rest, ok := strings.CutPrefix(reason, "field "); ok {
		if field, _, ok := strings.Cut(rest, " is longer than its maximum of "); ok {
			return plainName(field), "is longer than its maximum"
		}
	}
	if reason == tooLong {
		return "", tooLong
	}
	return "", plainReason(reason)
}

// explainField says what is wrong with the value of a field.
func explainField(message string) string {
	if reason, ok := textMember(message, "error"); ok {
		return igluReason(reason)
	}
	want, _ := textMember(message, "expectation")
	value, sent := textMember(message, "value")
	switch {
	case strings.HasPrefix(want, ErrJSON.Error()):
		return ErrJSON.Error()
	case want == errDecimal.Error():
		return "cannot be converted to a number"
	case want == errInt.Error():
		return "cannot be converted to a 32-bit integer"
	case want == "not empty":
		return "is missing or empty"
	case want == "":
		return ""
	case !sent && memberOf(message, "value") == "null":
		return "is missing, must be " + want
	case len(value) >= 4 && strings.Contains(want, value): // shorter ones are in it by chance
		return "must be " + plainReason(want)
	}
	return "must be " + want
}

// explainSchema says how a schema is violated, or why it cannot be used.
func explainSchema(message string) string {
	if criterion, ok := textMember(message, "schemaCriterion"); ok {
		return "must match " + plainKey(criterion)
	}
	problem := memberOf(message, "error")
	switch kind, _ := textMember(problem, "error"); kind {
	case "ResolutionError":
		for repository := range Elements(memberOf(problem, "lookupHistory")) {
			for e := range Elements(memberOf(repository, "errors")) {
				if why, _ := textMember(e, "error"); why != "NotFound" {
					return "a registry cannot be asked"
				}
			}
		}
		return "not found in any registry"
	case "ValidationError":
		for report := range Elements(memberOf(problem, "dataReports")) {
			return explainReport(report)
		}
		return "the schema itself is wrong"
	case "":
		if reason, ok := Text(problem); ok {
			return igluReason(reason)
		}
		return "cannot be used"
	default:
		return plainReason(kind)
	}
}

// explainReport names the place in the data and the keyword of the schema that it
// violates.
func explainReport(report string) string {
	path, _ := textMember(report, "path")
	keyword, _ := textMember(report, "keyword")
	where := plainPath(path)
	if keyword == "" {
		message, _ := textMember(report, "message")
		return strings.TrimPrefix(where+": "+plainReason(message), ": ")
	}
	if keyword == "required" { // its target is a name from the schema
		for t := range Elements(memberOf(report, "targets")) {
			if name, ok := Text(t); ok {
				return where + " violates required " + plainName(name)
			}
		}
	}
	return where + " violates " + plainName(keyword)
}

// igluReason puts Iglu's codes into words.
func igluReason(reason string) string {
	switch reason {
	case ErrIgluURI.Error():
		return "not an Iglu URI"
	case ErrSchemaVer.Error():
		return "not the version of a schema"
	case "INVALID_DATA_PAYLOAD":
		return "not self-describing JSON"
	}
	if strings.HasPrefix(reason, ErrJSON.Error()) {
		return ErrJSON.Error()
	}
	return plainReason(reason)
}

const leftOut = "…"

// plainKey returns the schema that a URI names, without what all of them begin
// with.
func plainKey(uri string) string {
	rest := strings.TrimPrefix(uri, "iglu:")
	for i := range len(rest) {
		if c := rest[i]; !isWord(c) && c != '.' && c != '/' && c != '*' {
			return leftOut
		}
	}
	if strings.Count(rest, "/") != 3 || len(rest) > maxCause/2 {
		return leftOut
	}
	return rest
}

// plainName returns the name of a field or a keyword.
func plainName(s string) string {
	for i := range len(s) {
		if c := s[i]; !isWord(c) && c != '.' && c != '/' && c != '|' {
			return leftOut
		}
	}
	if s == "" || len(s) > 64 {
		return leftOut
	}
	return s
}

func isWord(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// plainPath returns a path in data without the indexes of arrays. Keys that are no
// names may be values.
func plainPath(path string) string {
	var b strings.Builder
	for i, part := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '/' || r == '[' || r == ']' }) {
		if i > 0 {
			b.WriteByte('.')
		}
		switch {
		case part == "$":
			b.WriteByte('$')
		case allDigits(part):
			b.WriteByte('*')
		case len(part) > 40 || strings.Trim(part, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_") != "":
			b.WriteString(leftOut)
		default:
			b.WriteString(part)
		}
	}
	if b.Len() == 0 {
		return "$"
	}
	return b.String()
}

// plainReason returns the plain words of a reason. Quoted texts and words with
// digits or signs in them may be values.
func plainReason(reason string) string {
	reason = withoutQuotes(reason)
	words := strings.Fields(reason)
	out := words[:0]
	for _, w := range words {
		core := strings.Trim(w, ".,:;!?()[]{}<>…")
		if core != "" && (len(core) > 40 || !isPlainWord(core)) {
			i := strings.Index(w, core)
			w = w[:i] + leftOut + w[i+len(core):]
		}
		if w == leftOut && len(out) > 0 && out[len(out)-1] == leftOut {
			continue
		}
		out = append(out, w)
	}
	return strings.Join(out, " ")
}

func isPlainWord(s string) bool {
	for i := range len(s) {
		if c := s[i]; c|0x20 < 'a' || c|0x20 > 'z' {
			if i == 0 || i == len(s)-1 || c != '-' && c != '_' && c != '\'' {
				return false
			}
		}
	}
	return true
}

// withoutQuotes leaves out what stands between quotation marks, to the end when the
// last one is never closed.
func withoutQuotes(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		c := s[i]
		apostrophe := c == '\'' && i > 0 && isWord(s[i-1])
		if c != '"' && c != '`' && (c != '\'' || apostrophe) {
			b.WriteByte(c)
			i++
			continue
		}
		b.WriteString(leftOut)
		end := strings.IndexByte(s[i+1:], c)
		if end < 0 {
			break
		}
		i += end + 2
	}
	return b.String()
}
