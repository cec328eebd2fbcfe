package journal

import (
	"bytes"
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
)

// load reads the folder: every segment that holds records, and what is known
// about the sequence numbers. Only the newest segment is read in full; the
// others are checked as consumers read them.
func (j *Journal) load() error {
	if err := os.MkdirAll(filepath.Join(j.dir, groupsDir), 0o750); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	entries, err := os.ReadDir(j.dir)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	var found []*segment
	for _, e := range entries {
		if first, seed, ok := parseSegmentName(e.Name()); ok && e.Type().IsRegular() {
			found = append(found, &segment{path: filepath.Join(j.dir, e.Name()), first: first, seed: seed})
		}
	}
	slices.SortFunc(found, func(a, b *segment) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.path, b.path))
	})
	j.next = 1
	for i, s := range slices.Backward(found) {
		if err := j.loadSegment(s, i == len(found)-1); err != nil {
			return err
		}
	}
	slices.Reverse(j.segments)
	for _, s := range j.segments {
		e := s.extent.Load()
		j.bytes += e.end
		j.head.Store(max(j.head.Load(), e.last))
	}
	j.next = max(j.next, j.head.Load()+1)
	return j.loadSetAside()
}

// loadSegment adds one segment, newest first. The header of the segment loaded
// before tells where this one ended.
func (j *Journal) loadSegment(s *segment, newest bool) error {
	f, err := os.Open(s.path)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	s.lastWrite = info.ModTime()
	later := j.later
	h, whole := decodeHeader(readAll(f, 0, min(segmentHeader, info.Size())))
	if whole = whole && h.first == s.first && h.seed == s.seed; whole {
		j.later = &h
		j.next = max(j.next, h.prevLast+1)
		j.head.Store(max(j.head.Load(), h.prevLast))
	} else {
		j.later = &header{first: s.first, prevLast: s.first - 1}
	}
	j.next = max(j.next, s.first)
	e := &extent{end: info.Size(), sealed: true}
	switch {
	case newest:
		if e, err = j.recoverTail(s, f, info.Size()); err != nil {
			return err
		}
	case later.prevMax != 0 || later.prevMin != 0:
		e.last, s.minTime, s.maxTime = later.prevLast, later.prevMin, later.prevMax
	default: // the later header is damaged: assume the widest
		e.last, s.minTime, s.maxTime = later.prevLast, info.ModTime().UnixMilli(), info.ModTime().UnixMilli()
	}
	if e.end <= segmentHeader || e.last < s.first {
		j.stale = append(j.stale, s.path) // without records; deleted once there is a new segment
		if later != nil && !newest {
			j.later = mergeLater(j.later, later)
		}
		return nil
	}
	s.extent.Store(e)
	j.segments = append(j.segments, s)
	return nil
}

// mergeLater keeps what a later header says about the last segment with
// records, when the segment between them is empty.
func mergeLater(empty, later *header) *header {
	if later.prevLast < empty.first {
		return &header{first: empty.first, prevLast: later.prevLast, prevMin: later.prevMin, prevMax: later.prevMax}
	}
	return empty
}

// recoverTail reads the newest segment, cuts what was torn off its end and makes
// durable what it keeps: a consumer must never have seen what a later power cut
// takes away.
func (j *Journal) recoverTail(s *segment, f *os.File, size int64) (*extent, error) {
	data := readAll(f, 0, size)
	var run stamped
	found := scan(data, s.seed, s.first, func(off int64, r record) {
		run.minTime, run.maxTime = r.millis, r.millis
		s.note(mark{r.seq, off, r.millis}, run)
	})
	for _, g := range found.bad {
		reason := "damaged"
		if g.from >= found.commit {
			reason = "damaged in the last commit before a crash; may never have been acknowledged"
		}
		j.found = append(j.found, damage{segment: filepath.Base(s.path), gap: g, reason: reason, bytes: data[g.from:g.to]})
	}
	if found.records == 0 {
		return &extent{end: 0, last: 0, sealed: true}, nil
	}
	w, err := os.OpenFile(s.path, os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	defer w.Close()
	if found.end < size {
		if torn := bytes.TrimRight(data[found.end:], "\x00"); len(torn) > 0 {
			j.log.Warn("journal: cut off a torn tail, which was never acknowledged",
				slog.String("segment", s.path), slog.Int64("offset", found.end), slog.Int("bytes", len(torn)))
		}
		if err := w.Truncate(found.end); err != nil {
			return nil, fmt.Errorf("journal: torn tail: %w", err)
		}
	}
	if err := w.Sync(); err != nil {
		return nil, fmt.Errorf("journal: segment %s cannot be made durable: %w", s.path, err)
	}
	return &extent{end: found.end, last: found.last, sealed: true}, nil
}

// removeStale deletes the segments that turned out empty.
func (j *Journal) removeStale() error {
	for _, path := range j.stale {
		if err := removeFile(path); err != nil {
			return fmt.Errorf("journal: %w", err)
		}
	}
	j.stale = nil
	return nil
}
