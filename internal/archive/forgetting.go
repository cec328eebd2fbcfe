package archive

import (
	"time"

	"furrow/internal/event"
)

// Forgetting is an order to take people's rows out of the archive.
type Forgetting struct {
	Until time.Time // hours after this time are not touched
	// Event says whether the event with these identifiers, empty when it has none,
	// goes.
	Event func(userID, domainUserID, networkUserID string, collected time.Time) bool
	// Record judges a record of raw/ or bad/. kept is the record without what goes,
	// nil when all of it goes; gone says whether the bad row of an event index goes.
	// When changed is false it stays as it is. The rewritten record keeps the id of
	// the original.
	Record func(id event.RecordID, record []byte) (kept []byte, gone func(index int) bool, changed bool)
}

// Forgotten says what a Forgetting took out.
type Forgotten struct {
	Files   int64 `json:"files"` // rewritten
	Events  int64 `json:"events"`
	BadRows int64 `json:"badRows"`
	Records int64 `json:"records"` // of raw/, deleted or rewritten
}
