package inspector

import "time"

// Status is the state of the whole process, as /status shows it. The app fills
// it; calls must be cheap, the page asks once a second while someone watches.
type Status struct {
	Version   string    `json:"version"`
	Started   time.Time `json:"started"`
	Now       time.Time `json:"now"` // set by the inspector when zero, so that rates are exact
	DataDir   string    `json:"data_dir"`
	Listen    string    `json:"listen"`               // the public listener's address, for example :8080
	PublicURL string    `json:"public_url,omitempty"` // how browsers reach it, when known
	Roles     []string  `json:"roles"`
	Stages    []Stage   `json:"stages"` // in the order of the flow
	Database  *Storage  `json:"database,omitempty"`
	Archive   *Storage  `json:"archive,omitempty"`
	Disk      Disk      `json:"disk"`
}

// The kinds of stages, which decide where the page draws them.
const (
	KindCollector   = "collector"
	KindJournal     = "journal"
	KindRelay       = "relay"
	KindStore       = "recorder-store"
	KindArchive     = "recorder-archive"
	KindRecommender = "recommender"
)

// Stage is one station of the flow.
type Stage struct {
	Name       string    `json:"name"`
	Kind       string    `json:"kind"`
	Ready      bool      `json:"ready"`
	Reason     string    `json:"reason,omitempty"` // why it is not ready
	Counters   []Counter `json:"counters"`         // the first one is the headline, its growth is the stage's rate
	LagRecords int64     `json:"lag_records"`
	LagSeconds float64   `json:"lag_seconds"` // age of the oldest record that was not handled yet
	Details    []Detail  `json:"details,omitempty"`
}

// Counter is a count that only grows while the process runs.
type Counter struct {
	Name  string `json:"name"`
	Value int64  `json:"value"`
}

// Detail is a fact about a stage in words.
type Detail struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Storage is the size of the database or of the archive.
type Storage struct {
	Path          string  `json:"path"`
	Rows          int64   `json:"rows"`
	BadRows       int64   `json:"bad_rows"`
	Bytes         int64   `json:"bytes"`
	BytesPerEvent float64 `json:"bytes_per_event"`
}

// Disk is what the data folder takes of its budget.
type Disk struct {
	UsedBytes     int64    `json:"used_bytes"`
	BudgetBytes   int64    `json:"budget_bytes"` // 0: no budget
	FreeBytes     int64    `json:"free_bytes"`   // on the file system
	BytesPerDay   float64  `json:"bytes_per_day"`
	DaysUntilFull *float64 `json:"days_until_full"` // null: not known yet
}

// Check is one thing that /healthz and /readyz ask.
type Check struct {
	Name    string `json:"name"`    // a role, for /readyz?role=
	Healthy bool   `json:"healthy"` // false: the process should be restarted
	Ready   bool   `json:"ready"`   // false: send no traffic now
	Reason  string `json:"reason,omitempty"`
}

// Coverage says how much of the traffic the recommender understands.
type Coverage struct {
	PageViews    int64       `json:"page_views"`
	Interactions int64       `json:"interactions"`
	Share        float64     `json:"share"`     // interactions in page views, 0 to 1
	Unmatched    []PathCount `json:"unmatched"` // the commonest paths that no rule matched
	Suggestion   *Rule       `json:"suggestion,omitempty"`
}

// PathCount is a page path and how often it was seen.
type PathCount struct {
	Path  string `json:"path"`
	Count int64  `json:"count"`
}

// Rule is a proposed pattern that finds the item in a path, with what it would
// have matched.
type Rule struct {
	Pattern string   `json:"pattern"`
	Matches int64    `json:"matches"`
	Preview []string `json:"preview"`
}
