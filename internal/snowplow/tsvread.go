package snowplow

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"furrow/internal/event"
)

// LoaderParsingError is the schema of the bad row of a line that is no enriched
// event, see TSVError.Failure.
const LoaderParsingError = badRows + "loader_parsing_error/jsonschema/2-0-0"

// ErrTSV is wrapped by every error of ParseTSV and ParseStored, which are all
// *TSVError.
var ErrTSV = errors.New("not an enriched event")

// TSVError says why a line is no enriched event.
type TSVError struct {
	Cells  int          // that the line has; unless it is event.NumFields nothing was read
	Values []ValueError // of the cells that are wrong, in the order of the line
}

// ValueError is one cell that is wrong.
type ValueError struct {
	Field event.Field
	Value string
	Want  string // what would be right
}

func (e *TSVError) Error() string {
	if len(e.Values) == 0 {
		return fmt.Sprintf("%v: %d cells, want %d", ErrTSV, e.Cells, event.NumFields)
	}
	v := e.Values[0]
	text := fmt.Sprintf("%v: cell %d (%s): %q is not %s", ErrTSV, v.Field, v.Field.Name(), cut(v.Value), v.Want)
	if n := len(e.Values) - 1; n > 0 {
		text += fmt.Sprintf(", and %d more", n)
	}
	return text
}

// Unwrap returns ErrTSV.
func (e *TSVError) Unwrap() error { return ErrTSV }

// maxFieldCount is the greatest number of cells that the schema of the failure takes.
const maxFieldCount = 1024

// Failure is the failure object of a LoaderParsingError, as Snowplow's loaders
// write it.
func (e *TSVError) Failure() []byte {
	switch {
	case len(e.Values) == 0 && e.Cells <= 1:
		return []byte(`{"type":"NotTSV"}`)
	case len(e.Values) == 0:
		f := strconv.AppendInt([]byte(`{"type":"FieldNumberMismatch","fieldCount":`), int64(min(e.Cells, maxFieldCount)), 10)
		return append(f, '}')
	}
	f := []byte(`{"type":"RowDecodingError","errors":[`)
	for i, v := range e.Values {
		if i > 0 {
			f = append(f, ',')
		}
		f = AppendJSONText(append(f, `{"type":"InvalidValue","key":`...), v.Field.Name())
		f = AppendJSONText(append(f, `,"value":`...), cut(v.Value))
		f = AppendJSONText(append(f, `,"message":`...), "not "+v.Want)
		f = append(f, '}')
	}
	return append(f, "]}"...)
}

// cut returns the start of a value: the whole of it is in the bad row anyway.
func cut(s string) string {
	if len(s) > maxValue {
		s = s[:maxValue]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// ParseTSV reads a line that AppendTSV, or Snowplow's enrichment, wrote. Record,
// Index and Content are not in a line and stay zero. The texts of the event share
// the memory of line. With an error the event holds the cells that are right; it is
// nil when the line has not the right number of cells.
func ParseTSV(line string) (*event.Event, error) {
	e, wrong := parseTSV(line)
	if wrong != nil { // lest a nil pointer be an error
		return e, wrong
	}
	return e, nil
}

func parseTSV(line string) (*event.Event, *TSVError) {
	wrong := &TSVError{Cells: strings.Count(line, "\t") + 1}
	if wrong.Cells != event.NumFields {
		return nil, wrong
	}
	e := new(event.Event)
	for f := range event.Field(event.NumFields) {
		var text string
		text, line, _ = strings.Cut(line, "\t")
		if text == "" {
			continue
		}
		if err := setCell(e, f, text); err != nil {
			wrong.Values = append(wrong.Values, ValueError{f, text, err.Error()})
		}
	}
	if len(wrong.Values) > 0 {
		return e, wrong
	}
	return e, nil
}

// ParseStored is ParseTSV for lines of any origin: it refuses, too, what
// enrichment never writes and stores need not hold. The event has an id, a UUID
// that is made lower case, a collector time, a collector and an enrichment; texts
// keep to their greatest lengths, numbers are finite, and JSON describes itself.
func ParseStored(line string) (*event.Event, error) {
	e, wrong := parseTSV(line)
	if e == nil {
		return nil, wrong
	}
	if wrong == nil {
		wrong = &TSVError{Cells: event.NumFields}
	}
	unread := wrong.Values
	for f := range event.Field(event.NumFields) {
		c := e.Cell(f)
		switch {
		case c.Set:
			if want := unfit(e, f); want != "" {
				wrong.Values = append(wrong.Values, ValueError{f, c.Text, want})
			}
		case requiredCell(f) && !slices.ContainsFunc(unread, func(v ValueError) bool { return v.Field == f }):
			wrong.Values = append(wrong.Values, ValueError{f, "", "there, and must be"})
		}
	}
	if len(wrong.Values) > 0 {
		return e, wrong
	}
	return e, nil
}

// requiredCell reports whether the atomic table has the field as not null.
func requiredCell(f event.Field) bool {
	return f == event.EventID || f == event.CollectorTstamp || f == event.VCollector || f == event.VEtl
}

// unfit says what a cell that could be read should have been instead, nothing when
// it is fit. It makes the event id canonical.
func unfit(e *event.Event, f event.Field) string {
	text := e.Text(f)
	switch {
	case f == event.EventID:
		id, ok := NormalizeUUID(text)
		if !ok {
			return "a UUID"
		}
		e.SetText(f, id)
	case f.Kind() == event.JSON:
		if !describesItself(text, f != event.UnstructEvent) {
			return "self-describing JSON"
		}
	case f.Kind() == event.Float:
		if v := float64(e.Float(f)); math.IsNaN(v) || math.IsInf(v, 0) {
			return "a finite number"
		}
	case f.MaxLen() > 0 && len(text) > f.MaxLen() && utf16Len(text) > f.MaxLen():
		return "of at most " + strconv.Itoa(f.MaxLen()) + " characters"
	}
	return ""
}

// describesItself reports whether compact JSON is an object with a schema and data,
// an array where it is to be.
func describesItself(object string, array bool) bool {
	schema, data := false, false
	for key, value := range Members(object) {
		switch key {
		case "schema":
			uri, ok := Text(value)
			_, err := ParseSchemaKey(uri)
			schema = ok && err == nil
		case "data":
			data = !array || value[0] == '['
		}
	}
	return schema && data
}

// utf16Len counts as the limits do, in UTF-16 units.
func utf16Len(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r > 0xffff {
			n++
		}
	}
	return n
}
