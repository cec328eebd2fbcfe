package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"furrow/internal/tombstone"
)

// untilLayout keeps what a time has and sorts as text.
const untilLayout = "2006-01-02 15:04:05.000000000"

// Buried returns the tombstones that were applied to this database, by key, hash
// and time.
func (s *SQLite) Buried(ctx context.Context) ([]tombstone.Tombstone, error) {
	var stones []tombstone.Tombstone
	err := s.read(ctx, "SELECT key, hash, until FROM tombstones ORDER BY key, hash, until", nil, func(rows *sql.Rows) (bool, error) {
		var t tombstone.Tombstone
		var key, hash []byte
		var until string
		if err := rows.Scan(&key, &hash, &until); err != nil {
			return false, err
		}
		if len(key) != len(t.Key) || len(hash) != len(t.Hash) {
			return false, fmt.Errorf("a tombstone has a key of %d bytes and a hash of %d, want %d each", len(key), len(hash), len(t.Key))
		}
		t.Key, t.Hash = tombstone.Hash(key), tombstone.Hash(hash)
		var err error
		t.Until, err = time.Parse(untilLayout, until)
		stones = append(stones, t)
		return true, err
	})
	if err != nil {
		return nil, fmt.Errorf("store: read the tombstones: %w", err)
	}
	return stones, nil
}

// Bury notes that tombstones were applied, all or none. Known ones are left alone.
func (s *SQLite) Bury(ctx context.Context, stones []tombstone.Tombstone) error {
	if len(stones) == 0 {
		return nil
	}
	if err := s.acquire(ctx); err != nil {
		return err
	}
	defer s.release()
	_, err := s.change(func() (int64, error) {
		for i := range stones {
			t := &stones[i]
			_, err := s.writer.exec("INSERT INTO tombstones (key, hash, until) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
				t.Key[:], t.Hash[:], t.Until.UTC().Format(untilLayout))
			if err != nil {
				return 0, err
			}
		}
		return int64(len(stones)), nil
	})
	if err != nil {
		return fmt.Errorf("store: note %d tombstones: %w", len(stones), err)
	}
	return nil
}
