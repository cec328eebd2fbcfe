package store

import (
	"context"
	"fmt"
	"time"
)

const (
	trimEvery  = time.Minute
	trimRows   = 500 // rows of one deleting transaction: some 10 ms in which no insert runs
	vacuumStep = 512 // pages given back at a time
)

// Trimmed says what one Trim deleted.
type Trimmed struct {
	Events int
	Bad    int
}

// Run applies the retention until ctx ends. Without a retention it only keeps the
// size in the metrics.
func (s *SQLite) Run(ctx context.Context) error {
	ticker := time.NewTicker(trimEvery)
	defer ticker.Stop()
	failing := false
	for {
		_, err := s.Trim(ctx, time.Now())
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !failing {
			s.log.Warn("cannot delete old rows, will try again", "error", err)
		} else if err == nil && failing {
			s.log.Info("old rows are deleted again")
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// Trim deletes what is older than the retention, then the oldest rows until the
// database fits its size, and gives the space back. The ids of what it deletes are
// remembered until they are older than the window in which an id is unique. It
// works in small transactions and lets inserts between them.
func (s *SQLite) Trim(ctx context.Context, now time.Time) (Trimmed, error) {
	var total Trimmed
	unique := s.uniqueFrom(now)
	if err := s.prunePast(ctx, unique); err != nil {
		return total, err
	}
	if s.cfg.Retention > 0 {
		before := timeText(now.Add(-s.cfg.Retention))
		for {
			n, err := s.delete(ctx, unique, func() (string, error) { return before, nil })
			total.add(n)
			if err != nil {
				return total, err
			}
			if n == (Trimmed{}) {
				break
			}
		}
	}
	for s.cfg.MaxBytes > 0 {
		n, err := s.delete(ctx, unique, s.sizeCut)
		total.add(n)
		if err != nil {
			return total, err
		}
		if n == (Trimmed{}) {
			break
		}
	}
	if err := s.giveBack(ctx); err != nil {
		return total, err
	}
	s.metrics.size.Set(float64(s.diskBytes()))
	if total != (Trimmed{}) {
		s.log.Info("old rows deleted", "events", total.Events, "bad_rows", total.Bad)
	}
	return total, nil
}

func (t *Trimmed) add(n Trimmed) { t.Events += n.Events; t.Bad += n.Bad }

// sizeCut returns the time before which rows go to make the database smaller:
// that of the trimRows-th oldest row of both tables. It is empty when the
// database fits.
func (s *SQLite) sizeCut() (string, error) {
	used, err := s.usedBytes()
	if err != nil || used <= s.cfg.MaxBytes {
		return "", err
	}
	// Past ids stay as long as they were promised to. They push rows out of half
	// the space at most; what is more comes on top of it.
	past, err := s.pastIDs()
	if err != nil || used-max(0, past*pastBytes-s.cfg.MaxBytes/2) <= s.cfg.MaxBytes {
		return "", err
	}
	row, err := s.writer.first(`SELECT max(t) FROM (
  SELECT t FROM (
    SELECT * FROM (SELECT collector_tstamp AS t FROM events ORDER BY collector_tstamp LIMIT ?1)
    UNION ALL
    SELECT * FROM (SELECT time AS t FROM bad_failures ORDER BY time LIMIT ?1)
  ) ORDER BY t LIMIT ?1
)`, int64(trimRows))
	if err != nil || len(row) == 0 {
		return "", err
	}
	cut, ok := row[0].(string)
	if !ok {
		return "", nil // no rows
	}
	// The cut is exclusive; this is the next text after it.
	return cut + "\x00", nil
}

// usedBytes is the size of the pages that hold something.
func (s *SQLite) usedBytes() (int64, error) {
	var n [3]int64
	for i, p := range []string{"page_count", "freelist_count", "page_size"} {
		var err error
		if n[i], err = s.writer.number("PRAGMA " + p); err != nil {
			return 0, err
		}
	}
	return (n[0] - n[1]) * n[2], nil
}

// delete deletes up to trimRows rows of each table whose time is below the cut,
// and remembers the ids of events since unique.
func (s *SQLite) delete(ctx context.Context, unique time.Time, cut func() (string, error)) (Trimmed, error) {
	var n Trimmed
	if err := s.acquire(ctx); err != nil {
		return n, err
	}
	defer s.release()
	before, err := cut()
	if err != nil || before == "" {
		return n, err
	}
	n, err = s.deleteBefore(before, timeText(unique))
	if err != nil {
		s.writer.rollback()
		return Trimmed{}, fmt.Errorf("store: delete rows before %s: %w", before, err)
	}
	s.metrics.deleted.WithLabelValues("events").Add(float64(n.Events))
	s.metrics.deleted.WithLabelValues("bad_rows").Add(float64(n.Bad))
	return n, nil
}

func (s *SQLite) deleteBefore(before, unique string) (Trimmed, error) {
	var n Trimmed
	if err := s.writer.begin(); err != nil {
		return n, err
	}
	past, err := s.writer.exec(rememberIDs, before, int64(trimRows), unique)
	if err != nil {
		return n, err
	}
	events, err := s.writer.exec(`DELETE FROM events WHERE rowid IN (
  SELECT rowid FROM events WHERE collector_tstamp < ? ORDER BY collector_tstamp LIMIT ?)`, before, int64(trimRows))
	if err != nil {
		return n, err
	}
	// A trigger deletes a record with the last of its rows.
	bad, err := s.writer.exec(`DELETE FROM bad_failures WHERE rowid IN (
  SELECT rowid FROM bad_failures WHERE time < ? ORDER BY time LIMIT ?)`, before, int64(trimRows))
	if err != nil {
		return n, err
	}
	n = Trimmed{Events: int(events), Bad: int(bad)}
	if err := s.count(-events, -bad, past); err != nil {
		return n, err
	}
	return n, s.writer.commit()
}

// giveBack returns free pages to the file system, a few at a time. A part of
// them stays, since the next inserts would ask for them at once. While someone is
// forgotten it does nothing: pages must stay where they are, and Forget gives all
// of them back.
func (s *SQLite) giveBack(ctx context.Context) error {
	select {
	case <-s.vacuum:
	default:
		return nil
	}
	defer func() { s.vacuum <- struct{}{} }()
	for {
		more, err := s.vacuumSome(ctx, func(pages int64) int64 { return max(vacuumStep/4, pages/50) })
		if err != nil || !more {
			return err
		}
	}
}

// vacuumSome gives some pages back unless no more are free than may stay, and
// reports whether to go on.
func (s *SQLite) vacuumSome(ctx context.Context, stay func(pages int64) int64) (bool, error) {
	if err := s.acquire(ctx); err != nil {
		return false, err
	}
	defer s.release()
	free, err := s.writer.number("PRAGMA freelist_count")
	if err != nil {
		return false, err
	}
	pages, err := s.writer.number("PRAGMA page_count")
	if err != nil {
		return false, err
	}
	if free <= stay(pages) {
		return false, nil
	}
	if _, err := s.writer.exec(fmt.Sprintf("PRAGMA incremental_vacuum(%d)", vacuumStep)); err != nil {
		return false, fmt.Errorf("store: give space back: %w", err)
	}
	after, err := s.writer.number("PRAGMA freelist_count")
	return after < free, err
}
