package snowplow

import (
	"errors"
	"strconv"
	"strings"
)

// SchemaKey names one self-describing schema.
type SchemaKey struct {
	Vendor, Name, Format      string
	Model, Revision, Addition int
}

// Why a schema key cannot be read, in the words of Iglu's own error codes.
var (
	ErrIgluURI   = errors.New("INVALID_IGLUURI")
	ErrSchemaVer = errors.New("INVALID_SCHEMAVER")
)

// ParseSchemaKey reads iglu:vendor/name/format/MODEL-REVISION-ADDITION. Its error
// is ErrIgluURI, or ErrSchemaVer when only the version is wrong (the model starts
// at 1, no leading zeros). The texts share the memory of uri.
func ParseSchemaKey(uri string) (SchemaKey, error) {
	rest, ok := strings.CutPrefix(uri, "iglu:")
	vendor, rest, ok1 := strings.Cut(rest, "/")
	name, rest, ok2 := strings.Cut(rest, "/")
	format, version, ok3 := strings.Cut(rest, "/")
	if !ok || !ok1 || !ok2 || !ok3 || !isSchemaWord(vendor, true) || !isSchemaWord(name, false) || !isSchemaWord(format, false) {
		return SchemaKey{}, ErrIgluURI
	}
	model, rest, ok1 := strings.Cut(version, "-")
	revision, addition, ok2 := strings.Cut(rest, "-")
	if !ok1 || !ok2 || !allDigits(model) || !allDigits(revision) || !allDigits(addition) {
		return SchemaKey{}, ErrIgluURI
	}
	k := SchemaKey{Vendor: vendor, Name: name, Format: format}
	var okM, okR, okA bool
	k.Model, okM = versionPart(model)
	k.Revision, okR = versionPart(revision)
	k.Addition, okA = versionPart(addition)
	if !okM || !okR || !okA || k.Model == 0 {
		return SchemaKey{}, ErrSchemaVer
	}
	return k, nil
}

func isSchemaWord(s string, dots bool) bool {
	for i := range len(s) {
		c := s[i]
		if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' && dots {
			continue
		}
		return false
	}
	return s != ""
}

func versionPart(s string) (int, bool) {
	if s == "" || len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 32)
	return int(n), err == nil
}

// Version returns the version alone, for example 1-0-2.
func (k SchemaKey) Version() string {
	if k.Model == 1 && k.Revision == 0 && k.Addition < len(commonVersions) {
		return commonVersions[k.Addition]
	}
	return strconv.Itoa(k.Model) + "-" + strconv.Itoa(k.Revision) + "-" + strconv.Itoa(k.Addition)
}

var commonVersions = [...]string{"1-0-0", "1-0-1", "1-0-2", "1-0-3", "1-0-4"}

// URI returns the key in the form that ParseSchemaKey reads.
func (k SchemaKey) URI() string {
	return "iglu:" + k.Vendor + "/" + k.Name + "/" + k.Format + "/" + k.Version()
}

// The schemas of the tracker protocol's own envelopes.
const (
	ContextsSchema      = "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1"
	UnstructEventSchema = "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0"
)
