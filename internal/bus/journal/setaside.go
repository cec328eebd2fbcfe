package journal

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// setAsideDir holds a copy of every damaged range.
const setAsideDir = "set-aside"

// SetAside is a range of a segment that held no readable record. Reading goes
// on behind it.
type SetAside struct {
	Segment string `json:"segment"`
	Offset  int64  `json:"offset"`
	Bytes   int64  `json:"bytes"`
	// File is the copy, relative to the journal's folder; empty when it was not
	// copied because the copies reached their limit or could not be written.
	File string `json:"file,omitempty"`
	// Reason is empty for a range found by an earlier run.
	Reason string `json:"reason,omitempty"`
}

// damage is a damaged range as it is found.
type damage struct {
	segment string
	gap
	reason string
	bytes  []byte
}

func (d damage) file() string {
	return filepath.Join(setAsideDir, fmt.Sprintf("%s_%d_%d.bin", strings.TrimSuffix(d.segment, segmentSuffix), d.from, d.to-d.from))
}

// loadSetAside lists the ranges that earlier runs set aside, then keeps those
// that this opening found.
func (j *Journal) loadSetAside() error {
	if err := os.MkdirAll(filepath.Join(j.dir, setAsideDir), 0o750); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	entries, err := os.ReadDir(filepath.Join(j.dir, setAsideDir))
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	for _, e := range entries {
		parts := strings.Split(strings.TrimSuffix(e.Name(), ".bin"), "_")
		var a SetAside
		if len(parts) != 3 {
			continue
		}
		if _, err := fmt.Sscanf(parts[1]+" "+parts[2], "%d %d", &a.Offset, &a.Bytes); err != nil {
			continue
		}
		a.Segment, a.File = parts[0]+segmentSuffix, filepath.Join(setAsideDir, e.Name())
		j.setAside = append(j.setAside, a)
		j.setAsideBytes += a.Bytes
	}
	for _, d := range j.found {
		j.keepDamage(d)
	}
	j.found = nil
	return nil
}

// keepDamage notes a damaged range once and copies it beside the log.
func (j *Journal) keepDamage(d damage) {
	a := SetAside{Segment: d.segment, Offset: d.from, Bytes: d.to - d.from, Reason: d.reason}
	j.mu.Lock()
	known := slices.ContainsFunc(j.setAside, func(o SetAside) bool { return o.Segment == a.Segment && o.Offset == a.Offset })
	full := j.setAsideBytes+a.Bytes > 4*j.cfg.SegmentBytes || len(j.setAside) >= maxSetAside
	if !known && !full {
		a.File = d.file()
		j.setAsideBytes += a.Bytes
	}
	if !known && len(j.setAside) < maxSetAside {
		j.setAside = append(j.setAside, a)
	}
	j.mu.Unlock()
	if known {
		return
	}
	j.metrics.damaged.Inc()
	j.log.Error("journal: damaged records, reading goes on behind them",
		slog.String("segment", a.Segment), slog.Int64("offset", a.Offset), slog.Int64("bytes", a.Bytes), slog.String("copy", a.File))
	if a.File == "" {
		return
	}
	if err := writeFile(filepath.Join(j.dir, a.File), d.bytes); err != nil {
		j.log.Error("journal: the damaged range was not copied", slog.Any("error", err))
	}
}

// maxSetAside bounds the list, not the count in the metrics.
const maxSetAside = 1000
