package snowplow

import (
	"iter"
	"strings"
)

// Candidate is a text that may be an identifier of a person, by the name that
// stands before it.
type Candidate struct {
	Kind CandidateKind
	Text string
}

// CandidateKind is what a Candidate may identify.
type CandidateKind uint8

// The kinds of candidates.
const (
	CandidateUser    CandidateKind = iota // uid
	CandidateDomain                       // duid
	CandidateNetwork                      // nuid, tnuid or networkUserId
	CandidateAny                          // a UUID, whatever it stands for
)

// Candidates finds what may be identifiers in a text that cannot be parsed: what
// follows the names uid, duid, nuid, tnuid and networkUserId as in a query string,
// as in JSON, as in JSON within JSON, or as Snowplow prints a payload. Each is given
// in the forms that it may have been meant in. With uuids every UUID is one too. One
// text may be given more than once. All of them together are bounded to some times
// the size of the text, which only a text made for that purpose exceeds.
func Candidates(text string, uuids bool) iter.Seq[Candidate] {
	return func(yield func(Candidate) bool) {
		if uuids && !eachUUID(text, func(id string) bool { return yield(Candidate{CandidateAny, id}) }) {
			return
		}
		budget := candidateFactor*len(text) + 1<<16
		for _, s := range [...]struct {
			word string
			kind func(before string) (CandidateKind, bool)
		}{
			{"uid", nameBefore},
			{"networkUserId", func(string) (CandidateKind, bool) { return CandidateNetwork, true }},
		} {
			for i := 0; ; {
				at := strings.Index(text[i:], s.word)
				if at < 0 {
					break
				}
				at += i
				i = at + len(s.word)
				kind, ok := s.kind(text[max(0, at-3):at])
				if ok && !eachForm(text[i:], func(form string) bool {
					budget -= len(form)
					return budget > 0 && yield(Candidate{kind, form})
				}) {
					return
				}
			}
		}
	}
}

// nameBefore says which parameter ends in uid after the text before, and false when
// none does.
func nameBefore(before string) (CandidateKind, bool) {
	kind := CandidateUser
	switch {
	case strings.HasSuffix(before, "tn"):
		kind, before = CandidateNetwork, before[:len(before)-2]
	case strings.HasSuffix(before, "n"):
		kind, before = CandidateNetwork, before[:len(before)-1]
	case strings.HasSuffix(before, "d"):
		kind, before = CandidateDomain, before[:len(before)-1]
	}
	if before == "" {
		return kind, true
	}
	c := before[len(before)-1]
	return kind, c|0x20 < 'a' || c|0x20 > 'z'
}

const (
	// maxCandidate bounds how long an identifier in unparsed text may be, as it is
	// written there: the fields for them take some hundred characters.
	maxCandidate = 4096
	// candidateFactor is the size of all candidates in relation to the text.
	candidateFactor = 16
)

// eachForm calls yield with the value that s begins with, after a name.
func eachForm(s string, yield func(string) bool) bool {
	if rest, ok := strings.CutPrefix(s, "="); ok {
		return eachQueryForm(rest, yield)
	}
	i := 0
	for i < len(s) && i < 8 && (s[i] == '\\' || s[i] == '"') {
		i++
	}
	i = skipSpace(s, i)
	if i >= len(s) || s[i] != ':' {
		return true
	}
	i = skipSpace(s, i+1)
	escapes := 0
	for i < len(s) && s[i] == '\\' {
		i++
		escapes++
	}
	if i >= len(s) || s[i] != '"' {
		return eachQueryForm(s[i:], yield) // as a payload is printed
	}
	s = s[i+1:]
	return eachJSONForm(s[:min(len(s), maxCandidate)], escapes, yield)
}

// eachJSONForm calls yield with the JSON string that s begins with, after a
// quotation mark that had so many backslashes before it, unless the text was cut
// off.
func eachJSONForm(s string, escapes int, yield func(string) bool) bool {
	form, closed := s, false
	for i := range len(s) {
		// Each level of JSON doubles the backslashes and puts one before the mark.
		if s[i] == '"' && backslashes(s[:i])%(2*(escapes+1)) == escapes {
			form, closed = s[:i-escapes], true
			break
		}
	}
	if !closed && !eachQueryForm(s, yield) {
		return false
	}
	for {
		if !yield(form) || !yieldSafe(form, yield) {
			return false
		}
		plain, ok := unescape(form)
		if !ok || plain == form {
			return true
		}
		form = plain
	}
}

func backslashes(s string) int { return len(s) - len(strings.TrimRight(s, `\`)) }

// unescape undoes one level of JSON escapes.
func unescape(s string) (string, bool) {
	if !strings.Contains(s, `\`) {
		return s, false
	}
	var c Compactor
	text, err := c.Append(nil, []byte(`"`+s+`"`))
	if err != nil {
		return s, false
	}
	return Text(string(text))
}

func yieldSafe(form string, yield func(string) bool) bool {
	if safe := SafeText(form); safe != form {
		return yield(safe)
	}
	return true
}

// eachQueryForm calls yield with the value that s begins with, as long and as short
// as it may be, encoded and decoded.
func eachQueryForm(s string, yield func(string) bool) bool {
	s = s[:min(len(s), maxCandidate)]
	last := ""
	for _, stop := range [...]string{"&;#\"' \\", "&;#\"' \\,)]}", "&;#"} {
		form := s
		if i := strings.IndexFunc(s, func(r rune) bool { return isASCIIControl(r) || strings.ContainsRune(stop, r) }); i >= 0 {
			form = s[:i]
		}
		if form == last {
			continue
		}
		last = form
		if !yield(form) {
			return false
		}
		d := queryDecoder{size: len(form)}
		plain, _ := d.decode(form)
		if plain != form && !yield(plain) || !yieldSafe(plain, yield) {
			return false
		}
	}
	return true
}

const uuidLength = 36

// eachUUID calls yield with every UUID in s that is no part of a longer word, in
// lower case.
func eachUUID(s string, yield func(string) bool) bool {
	for at := nextUUID(s, 0); at >= 0; at = nextUUID(s, at+uuidLength) {
		if !yield(strings.ToLower(s[at : at+uuidLength])) {
			return false
		}
	}
	return true
}

// nextUUID returns where the first UUID at or after from begins, -1 when there is
// none.
func nextUUID(s string, from int) int {
	for i := from; ; {
		dash := strings.IndexByte(s[i:], '-')
		if dash < 0 {
			return -1
		}
		start := i + dash - 8
		i += dash + 1
		if start < from || start+uuidLength > len(s) || !isUUID(s[start:start+uuidLength]) {
			continue
		}
		if start > 0 && isHex(s[start-1]) || start+uuidLength < len(s) && isHex(s[start+uuidLength]) {
			continue
		}
		return start
	}
}

// ReplaceUUIDs puts a text in place of the UUIDs in s for which gone says so. It is
// given them in lower case.
func ReplaceUUIDs(s, with string, gone func(id string) bool) string {
	var b strings.Builder
	done := 0
	for at := nextUUID(s, 0); at >= 0; at = nextUUID(s, at+uuidLength) {
		if gone(strings.ToLower(s[at : at+uuidLength])) {
			b.WriteString(s[done:at])
			b.WriteString(with)
			done = at + uuidLength
		}
	}
	if done == 0 {
		return s
	}
	b.WriteString(s[done:])
	return b.String()
}
