package store

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	pastBytes  = 64   // of one past id in both its trees, about
	pruneRows  = 500  // past ids of one deleting transaction
	knownBatch = 2000 // ids of one look
)

// pastKeySQL is pastKey as an expression over a column.
func pastKeySQL(column string) string {
	groups := make([]string, 0, 5)
	for _, n := range []int{8, 4, 4, 4, 12} {
		groups = append(groups, strings.Repeat("[0-9a-f]", n))
	}
	return fmt.Sprintf("CASE WHEN %[1]s GLOB '%[2]s' THEN unhex(replace(%[1]s, '-', '')) ELSE %[1]s END",
		column, strings.Join(groups, "-"))
}

// rememberIDs moves the ids of the events that the next statement deletes.
var rememberIDs = `INSERT INTO past_ids (event_id, content_hash, day)
SELECT ` + pastKeySQL("event_id") + `, content_hash, coalesce(unixepoch(collector_tstamp), 0) / 86400 FROM events
WHERE rowid IN (SELECT rowid FROM events WHERE collector_tstamp < ?1 ORDER BY collector_tstamp LIMIT ?2)
  AND +collector_tstamp >= ?3
ON CONFLICT(event_id) DO NOTHING`

// pastKey is an event id as past_ids holds it: the 16 bytes of a UUID in lower
// case, else the text.
func pastKey(id string) any {
	const dashes = 1<<8 | 1<<13 | 1<<18 | 1<<23
	if len(id) != 36 {
		return id
	}
	digits := make([]byte, 0, 32)
	for i := range len(id) {
		c := id[i]
		dash := dashes>>i&1 == 1
		switch {
		case dash && c == '-':
		case !dash && (c >= '0' && c <= '9' || c >= 'a' && c <= 'f'):
			digits = append(digits, c)
		default:
			return id
		}
	}
	key := make([]byte, 16)
	if _, err := hex.Decode(key, digits); err != nil {
		return id
	}
	return key
}

// pastIDs returns how many ids are remembered of events that were deleted.
func (s *SQLite) pastIDs() (int64, error) {
	return s.writer.number("SELECT rows FROM totals WHERE name = 'past_ids'")
}

// uniqueFrom returns the start of the first day whose event ids are unique.
func (s *SQLite) uniqueFrom(now time.Time) time.Time {
	return now.UTC().Truncate(24*time.Hour).AddDate(0, 0, -s.cfg.DedupDays)
}

// prunePast forgets the ids of days before unique.
func (s *SQLite) prunePast(ctx context.Context, unique time.Time) error {
	day := unique.Unix() / (24 * 60 * 60)
	for {
		n, err := s.prunePastSome(ctx, day)
		if err != nil {
			return fmt.Errorf("store: delete past ids of days before %s: %w", unique.Format(time.DateOnly), err)
		}
		if n < pruneRows {
			return nil
		}
	}
}

func (s *SQLite) prunePastSome(ctx context.Context, day int64) (int64, error) {
	if err := s.acquire(ctx); err != nil {
		return 0, err
	}
	defer s.release()
	if row, err := s.writer.first("SELECT 1 FROM past_ids WHERE day < ? LIMIT 1", day); err != nil || row == nil {
		return 0, err
	}
	return s.change(func() (int64, error) {
		n, err := s.writer.exec(`DELETE FROM past_ids WHERE event_id IN (
  SELECT event_id FROM past_ids WHERE day < ? ORDER BY day LIMIT ?)`, day, int64(pruneRows))
		if err != nil {
			return 0, err
		}
		return n, s.count(0, 0, -n)
	})
}

// change runs do in a transaction. The caller has the lock.
func (s *SQLite) change(do func() (int64, error)) (int64, error) {
	if err := s.writer.begin(); err != nil {
		return 0, err
	}
	n, err := do()
	if err == nil {
		err = s.writer.commit()
	}
	if err != nil {
		s.writer.rollback()
		return 0, err
	}
	return n, nil
}

var countKnown = `SELECT
  (SELECT count(*) FROM events WHERE event_id IN (SELECT value FROM json_each(?1))) +
  (SELECT count(*) FROM past_ids WHERE event_id IN (SELECT ` + pastKeySQL("value") + ` FROM json_each(?1)))`

// Known returns how many of the event ids are stored, or were within the window in
// which an id is unique. An id that is given twice counts once.
func (s *SQLite) Known(ctx context.Context, ids []string) (int, error) {
	distinct := slices.Clone(ids)
	slices.Sort(distinct)
	total := 0
	for some := range slices.Chunk(slices.Compact(distinct), knownBatch) {
		n, err := s.known(ctx, some)
		if err != nil {
			return 0, fmt.Errorf("store: look for %d event ids: %w", len(ids), err)
		}
		total += n
	}
	return total, nil
}

func (s *SQLite) known(ctx context.Context, ids []string) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ReadTimeout)
	defer cancel()
	list, err := textList(ids)
	if err != nil {
		return 0, err
	}
	err = s.pool.QueryRowContext(ctx, countKnown, list).Scan(&n)
	return n, err
}

// textList makes one argument of many texts, for json_each. Texts that no column
// can hold, since they are no UTF-8 or have a NUL, would come out as others and
// are left out.
func textList(texts []string) (string, error) {
	kept := make([]string, 0, len(texts))
	for _, t := range texts {
		if storable(t) {
			kept = append(kept, t)
		}
	}
	list, err := json.Marshal(kept)
	return string(list), err
}
