package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"furrow/internal/bus"
)

// spaceGauge remembers the free space, so that it is asked for a few times a
// second and not on every commit.
type spaceGauge struct {
	free    int64
	checked time.Time
}

func (g *spaceGauge) used(n int64) { g.free -= n }

// exhausted notes that the file system refused a write.
func (g *spaceGauge) exhausted() { g.free = 0 }

// admit says whether n more bytes may be written. It deletes consumed segments
// first, whatever their age, when a limit binds. Only the flusher calls it.
func (j *Journal) admit(n int64) error {
	now := j.hooks.now()
	if j.active == nil {
		if now.Before(j.retryAt) {
			return j.unready.Load().err
		}
		j.retryAt = now.Add(retryEvery)
		if err := j.roll(); err != nil {
			return fmt.Errorf("journal: still no new segment after a failure: %w", err)
		}
	}
	if r := j.unready.Load(); r != nil && errors.Is(r.err, bus.ErrFull) {
		n += j.cfg.SegmentBytes / 4 // once shut, the door opens for more than one message
	}
	if err := j.overBudget(n); err != nil {
		j.makeRoom(n)
		if err = j.overBudget(n); err != nil {
			return err
		}
	}
	if j.lowSpace(n, now) {
		if j.makeRoom(j.cfg.MaxBytes) { // everything that may go
			j.space.checked = time.Time{}
		}
		if j.lowSpace(n, now) {
			return fmt.Errorf("journal: %w: %d bytes are free on the file system of %s, minFreeBytes is %d", bus.ErrFull, j.space.free, j.dir, j.cfg.MinFreeBytes)
		}
	}
	return nil
}

func (j *Journal) overBudget(n int64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.bytes+n+segmentHeader <= j.cfg.MaxBytes {
		return nil
	}
	slowest, at := "none", uint64(math.MaxUint64)
	for _, g := range j.groups {
		if g.holds() < at {
			slowest, at = g.name, g.holds()
		}
	}
	return fmt.Errorf("journal: %w: it holds %d bytes, maxBytes is %d; the slowest group is %s", bus.ErrFull, j.bytes, j.cfg.MaxBytes, slowest)
}

// lowSpace measures the free space when the last figure is old. A file system
// that cannot tell is not held against the publishers.
func (j *Journal) lowSpace(n int64, now time.Time) bool {
	if j.cfg.MinFreeBytes == 0 && j.space.free > 0 {
		return false
	}
	if since := now.Sub(j.space.checked); since >= retryEvery || since < 0 {
		free, err := j.hooks.disk.free(j.dir)
		if err != nil {
			j.log.Debug("journal: free space unknown", slog.Any("error", err))
			return false
		}
		j.space = spaceGauge{free: free, checked: now}
	}
	return j.space.free-n < j.cfg.MinFreeBytes
}

// makeRoom deletes consumed segments until n bytes fit, the active one included
// when it is consumed too. It says whether it deleted any.
func (j *Journal) makeRoom(n int64) bool {
	fits := func() bool { return j.bytes+n+segmentHeader <= j.cfg.MaxBytes }
	freed := j.reclaim(func(*segment) bool { return !fits() })
	j.mu.Lock()
	rest := !fits() && !j.active.empty() && j.passed() >= j.active.extent.Load().last
	j.mu.Unlock()
	if !rest {
		return freed
	}
	if err := j.roll(); err != nil {
		j.log.Warn("journal: no new segment", slog.Any("error", err))
		return freed
	}
	return j.reclaim(func(*segment) bool { return !fits() }) || freed
}

// expire deletes consumed segments whose retention has run out.
func (j *Journal) expire(now time.Time) {
	j.reclaim(func(s *segment) bool { return now.Sub(s.lastWrite) >= j.cfg.Retention })
}

// shortestSegment is the least time that a segment is written to before its age
// ends it.
const shortestSegment = time.Minute

func (c Config) longestSegment() time.Duration { return max(c.Retention, shortestSegment) }

// age ends the active segment when its first record is old. Without it a site
// with little traffic would keep what it was told to forget until the segment is
// full, which may take months.
func (j *Journal) age(now time.Time) {
	j.mu.Lock()
	due := false
	if len(j.segments) > 0 {
		s := j.segments[len(j.segments)-1]
		due = !s.empty() && !s.extent.Load().sealed && now.Sub(time.UnixMilli(s.minTime)) >= j.cfg.longestSegment()
	}
	j.mu.Unlock()
	if !due {
		return
	}
	select {
	case j.aged <- struct{}{}:
	default: // asked already
	}
}

// LastCopy returns when the last copy of a record that was published before now is
// deleted, and the groups that hold it up: with any, it is deleted that long after
// they have passed it, or were dropped.
func (j *Journal) LastCopy(now time.Time) (at time.Time, waitingFor []string) {
	head := j.head.Load()
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, g := range j.groups {
		if g.holds() < head {
			waitingFor = append(waitingFor, g.name)
		}
	}
	slices.Sort(waitingFor)
	// The segment is written to for the one time at most, and kept for the other.
	return now.Add(j.cfg.longestSegment() + j.cfg.Retention + expiresEvery*saveEvery), waitingFor
}

// reclaim deletes sealed segments from the oldest on, as long as every group
// has passed them and may says so. It says whether there were any.
func (j *Journal) reclaim(may func(*segment) bool) bool {
	var gone []*segment
	j.mu.Lock()
	passed := j.passed()
	for len(j.segments) > 0 {
		s := j.segments[0]
		e := s.extent.Load()
		if !e.sealed || e.last > passed || !may(s) {
			break
		}
		j.dropSegment(s)
		gone = append(gone, s)
	}
	j.mu.Unlock()
	for _, s := range gone {
		if err := removeFile(s.path); err != nil {
			j.log.Warn("journal: consumed segment not deleted", slog.Any("error", err))
		}
	}
	return len(gone) > 0
}

// dropSegment takes a segment off the list. Callers hold mu.
func (j *Journal) dropSegment(s *segment) {
	if i := slices.Index(j.segments, s); i >= 0 {
		j.segments = slices.Delete(j.segments, i, i+1)
		j.bytes -= s.extent.Load().end
	}
}

// passed is the sequence number that every group has passed. Callers hold mu.
func (j *Journal) passed() uint64 {
	passed := j.head.Load()
	for _, g := range j.groups {
		passed = min(passed, g.holds())
	}
	return passed
}
