package archive

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"furrow/internal/bus"
)

// formatVersion is in every intent and in every file's footer. It rises only when
// an older reader would misread; columns are appended without it.
const formatVersion = 1

// errNewer: written by a Furrow that this one does not understand.
var errNewer = errors.New("archive: written by a newer format; run a newer furrow")

// intent says what a range covers, before any of its files is in place.
type intent struct {
	Format  int          `json:"format"`
	Last    bus.Position `json:"last"`    // the last position of the range
	Record  string       `json:"record"`  // id of the first record: positions of another bus may look the same
	Files   []intentFile `json:"files"`   // every file that may be in place
	Doubles int64        `json:"doubles"` // events dropped because their id was already in the range
}

type intentFile struct {
	Name string `json:"name"` // relative to the archive
	Rows int64  `json:"rows"`
}

// intentName is where the intent of a range is kept.
func intentName(stream, partition string, first bus.Position) string {
	return path.Join(rangesFolder, stream, partition, string(first))
}

// parseIntent reads an intent. A torn one is an error; since files are placed
// only after the whole intent was durable, torn means that none was placed.
func parseIntent(data []byte) (*intent, error) {
	var in intent
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, fmt.Errorf("archive: intent: %w", err)
	}
	if in.Format > formatVersion {
		return nil, fmt.Errorf("archive: intent of format %d: %w", in.Format, errNewer)
	}
	if in.Format < 1 {
		return nil, fmt.Errorf("archive: intent of format %d", in.Format)
	}
	if !safeName(string(in.Last)) {
		return nil, fmt.Errorf("archive: intent ends at position %q, which is no position", in.Last)
	}
	for _, f := range in.Files {
		// A stale file is deleted by the name found here, so it must be one of ours.
		if !dataFile(f.Name) {
			return nil, fmt.Errorf("archive: intent names %q, which is no file of a dataset", f.Name)
		}
	}
	return &in, nil
}

func (in *intent) encode() ([]byte, error) { return json.MarshalIndent(in, "", " ") }

// dataFile reports whether name is a Parquet file in an hour folder of a dataset.
func dataFile(name string) bool {
	if !fs.ValidPath(name) || !strings.HasSuffix(name, fileSuffix) {
		return false
	}
	_, _, ok := parseName(name)
	return ok
}

// safeName reports whether a part of a file name cannot lead elsewhere.
func safeName(s string) bool {
	if s == "" || len(s) > 128 || s[0] == '.' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || c == '/' || c == '\\' {
			return false
		}
	}
	return true
}
