package journal

import (
	"cmp"
	"slices"
	"time"

	"furrow/internal/bus"
)

// Status is what an operator wants to know about the journal.
type Status struct {
	Head     bus.Position  `json:"head"`     // last durable position
	Segments int           `json:"segments"` // files, the one being written included
	Bytes    int64         `json:"bytes"`    // in all segments
	MaxBytes int64         `json:"maxBytes"`
	Oldest   time.Time     `json:"oldest"`   // of the records kept; zero when there is none
	Groups   []GroupStatus `json:"groups"`   // by name
	SetAside []SetAside    `json:"setAside"` // damaged ranges, at most 1000
	Unready  string        `json:"unready"`  // why publishing does not work; empty when it does
}

// GroupStatus says how far a group is. Lag counts every stream, the streams that
// the group filters out included.
type GroupStatus struct {
	Name       string       `json:"name"`
	Registered bool         `json:"registered"` // segments of others wait until Release
	Subscribed bool         `json:"subscribed"`
	Position   bus.Position `json:"position"` // last acknowledged
	LagRecords int64        `json:"lagRecords"`
	LagBytes   int64        `json:"lagBytes"`   // to within a commit, estimated in segments of an earlier run
	LagSeconds float64      `json:"lagSeconds"` // age of the oldest record not acknowledged, estimated likewise
}

// Status returns a snapshot. It reads no disk.
func (j *Journal) Status() Status {
	now := j.hooks.now()
	j.mu.Lock()
	defer j.mu.Unlock()
	head := j.head.Load()
	st := Status{
		Head:     formatPosition(head),
		Segments: len(j.segments),
		Bytes:    j.bytes,
		MaxBytes: j.cfg.MaxBytes,
		SetAside: slices.Clone(j.setAside),
	}
	for _, s := range j.segments {
		if !s.empty() {
			st.Oldest = time.UnixMilli(s.minTime).UTC()
			break
		}
	}
	for _, g := range j.groups {
		gs := GroupStatus{
			Name: g.name, Registered: g.registered, Subscribed: g.sub != nil,
			Position: formatPosition(g.acked),
		}
		if g.acked < head {
			gs.LagRecords = int64(head - g.acked) //nolint:gosec // far below 2^63
			var oldest int64
			gs.LagBytes, oldest = j.lag(g.acked)
			if gs.LagBytes > 0 {
				gs.LagSeconds = max(now.Sub(time.UnixMilli(oldest)).Seconds(), 0)
			}
		}
		st.Groups = append(st.Groups, gs)
	}
	slices.SortFunc(st.Groups, func(a, b GroupStatus) int { return cmp.Compare(a.Name, b.Name) })
	if r := j.unready.Load(); r != nil {
		st.Unready = r.err.Error()
	}
	return st
}

// lag returns the bytes behind acked and the time of the first record there.
// Callers hold mu.
func (j *Journal) lag(acked uint64) (bytes, oldest int64) {
	for _, s := range j.segments {
		e := s.extent.Load()
		if e.last <= acked || s.empty() {
			continue
		}
		from, millis := s.locate(max(acked+1, s.first), e)
		if bytes == 0 {
			oldest = millis
		}
		bytes += e.end - from
	}
	return bytes, oldest
}

// locate finds about where a record lies and what time it has: by the marks,
// else in proportion.
func (s *segment) locate(seq uint64, e *extent) (offset, millis int64) {
	if m, ok := s.before(seq); ok {
		return m.offset, m.millis
	}
	part := float64(seq-s.first) / float64(e.last-s.first+1)
	return segmentHeader + int64(part*float64(e.end-segmentHeader)), s.minTime + int64(part*float64(s.maxTime-s.minTime))
}
