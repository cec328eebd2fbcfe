package history

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"slices"
	"time"

	"furrow/internal/archive"
	"furrow/internal/enrich"
	"furrow/internal/event"
	"furrow/internal/store"
	"furrow/internal/tombstone"
)

// sweep takes out of the stores what tombstones cover that were not applied there
// yet: those of this forgetting, of one that ended early, or all that are younger
// than a backup.
type sweep struct {
	h        *History
	named    []string  // identifiers just forgotten; may be empty
	until    time.Time // of named
	progress Progress
	away     map[string]error // stores that were not reached just now
	settle   bool             // wait for what is on its way before anything is taken out
	// What is on its way may still land: the tombstones are not noted, so that the
	// stores are cleaned again.
	unsettled bool
}

type match func(userID, domainUserID, networkUserID string, collected time.Time) bool

// stores cleans both stores, and says what went out of those that lacked
// tombstones. One that fails does not stop the other.
func (s *sweep) stores(ctx context.Context) (database *store.Forgotten, files *archive.Forgotten, failed []Failure) {
	var err error
	if s.h.opts.Database != nil {
		if database, err = s.database(ctx); err != nil {
			failed = append(failed, Failure{InDatabase, err.Error()})
		}
	}
	if s.h.opts.Cleaner != nil {
		if files, err = s.archive(ctx); err != nil {
			failed = append(failed, Failure{InArchive, err.Error()})
		}
	}
	return database, files, failed
}

// database applies the missing tombstones to the database and notes them there.
func (s *sweep) database(ctx context.Context) (*store.Forgotten, error) {
	db := s.h.opts.Database
	missing, err := s.missing(ctx, InDatabase, db)
	if err != nil || len(missing) == 0 {
		return nil, err
	}
	total := new(store.Forgotten)
	s.progress.report("cleaning the database", 0, 0)
	orders := map[time.Time][]string{}
	if s.others(missing) {
		if orders, err = s.covered(ctx, missing); err != nil {
			return total, err
		}
	}
	if len(s.named) > 0 {
		orders[s.until] = append(orders[s.until], s.named...)
	}
	last := latest(missing)
	if _, ok := orders[last]; !ok {
		orders[last] = nil // bad rows may hold somebody whom no event does
	}
	judge := s.record(s.match(missing))
	for until, identifiers := range orders {
		slices.Sort(identifiers)
		order := store.Forgetting{Identifiers: slices.Compact(identifiers), Until: until, Record: untouched}
		if until.Equal(last) {
			order.Record = judge // once for all of them
		}
		done, err := db.Forget(ctx, order)
		total.Events += done.Events
		total.BadRows += done.BadRows
		total.Records += done.Records
		if err != nil {
			return total, err
		}
	}
	return total, s.bury(ctx, db, missing)
}

// archive applies the missing tombstones to the archive and notes them there.
func (s *sweep) archive(ctx context.Context) (*archive.Forgotten, error) {
	files := s.h.opts.Cleaner
	missing, err := s.missing(ctx, InArchive, files)
	if err != nil || len(missing) == 0 {
		return nil, err
	}
	goes := s.match(missing)
	done, err := files.Forget(ctx, archive.Forgetting{Until: latest(missing), Event: goes, Record: s.record(goes)}, func(done, total int) {
		s.progress.report("cleaning the archive", int64(done), int64(total))
	})
	if err != nil {
		return &done, err
	}
	return &done, s.bury(ctx, files, missing)
}

// graveyard is the list of tombstones that a store keeps.
type graveyard interface {
	Buried(ctx context.Context) ([]tombstone.Tombstone, error)
	Bury(ctx context.Context, stones []tombstone.Tombstone) error
}

// bury notes that the tombstones were applied.
func (s *sweep) bury(ctx context.Context, in graveyard, stones []tombstone.Tombstone) error {
	if s.unsettled {
		return nil
	}
	return in.Bury(ctx, stones)
}

// missing returns the tombstones that were not applied to a store. When there are
// any, nothing that was enriched without them can land there any more.
func (s *sweep) missing(ctx context.Context, where string, in graveyard) ([]tombstone.Tombstone, error) {
	if err := s.away[where]; err != nil {
		return nil, err
	}
	buried, err := in.Buried(ctx)
	if err != nil {
		return nil, err
	}
	missing := missingFrom(s.h.opts.Tombstones.All(), buried)
	if len(missing) > 0 && s.settle {
		if err := s.h.settled(ctx); err != nil {
			return nil, err
		}
		s.settle = false
	}
	return missing, nil
}

// others says whether tombstones are missing that are not of the named identifiers.
func (s *sweep) others(missing []tombstone.Tombstone) bool {
	latest := latestByHash(missing)
	for key, hashes := range latest {
		for _, name := range s.named {
			delete(hashes, hashOf(key, name))
		}
		if len(hashes) > 0 {
			return true
		}
	}
	return false
}

// match says which events go. Where only named identifiers do, no hash is needed.
func (s *sweep) match(missing []tombstone.Tombstone) match {
	if s.others(missing) {
		return s.h.opts.Tombstones.Event
	}
	named := make(map[string]bool, len(s.named))
	for _, name := range s.named {
		named[name] = true
	}
	return func(userID, domainUserID, networkUserID string, collected time.Time) bool {
		return !collected.After(s.until) && (named[userID] || named[domainUserID] || named[networkUserID])
	}
}

// record judges records by what their events are.
func (s *sweep) record(goes match) func(event.RecordID, []byte) ([]byte, func(int) bool, bool) {
	return func(_ event.RecordID, record []byte) ([]byte, func(int) bool, bool) {
		r := enrich.Redact(record, goes)
		return r.Record, r.Gone, r.Changed
	}
}

// untouched leaves every record as it is.
func untouched(_ event.RecordID, record []byte) ([]byte, func(int) bool, bool) {
	return record, func(int) bool { return false }, false
}

// covered finds the stored identifiers that a missing tombstone covers, by the time
// until which it does.
func (s *sweep) covered(ctx context.Context, missing []tombstone.Tombstone) (map[time.Time][]string, error) {
	latest := latestByHash(missing)
	orders := map[time.Time][]string{}
	seen := int64(0)
	err := s.h.opts.Database.EachIdentifier(ctx, func(identifier string) error {
		if seen++; seen%tellEvery == 0 {
			s.progress.report("looking for people to forget", seen, 0)
		}
		if identifier == nobody {
			return nil
		}
		var until time.Time
		for key, hashes := range latest {
			if t, ok := hashes[hashOf(key, identifier)]; ok && t.After(until) {
				until = t
			}
		}
		if !until.IsZero() {
			orders[until] = append(orders[until], identifier)
		}
		return nil
	})
	return orders, err
}

// hashOf is how a tombstone names an identifier.
func hashOf(key tombstone.Hash, identifier string) tombstone.Hash {
	mac := hmac.New(sha256.New, key[:])
	_, _ = mac.Write([]byte(identifier)) // never fails
	return tombstone.Hash(mac.Sum(nil))
}

// latestByHash returns the last Until of each hash under each key.
func latestByHash(stones []tombstone.Tombstone) map[tombstone.Hash]map[tombstone.Hash]time.Time {
	all := map[tombstone.Hash]map[tombstone.Hash]time.Time{}
	for _, stone := range stones {
		if all[stone.Key] == nil {
			all[stone.Key] = map[tombstone.Hash]time.Time{}
		}
		if stone.Until.After(all[stone.Key][stone.Hash]) {
			all[stone.Key][stone.Hash] = stone.Until.UTC()
		}
	}
	return all
}

// missingFrom returns the tombstones that were not applied to a store.
func missingFrom(all, buried []tombstone.Tombstone) []tombstone.Tombstone {
	there := latestByHash(buried)
	var missing []tombstone.Tombstone
	for _, stone := range all {
		if until, ok := there[stone.Key][stone.Hash]; !ok || until.Before(stone.Until) {
			missing = append(missing, stone)
		}
	}
	return missing
}

func latest(stones []tombstone.Tombstone) time.Time {
	var last time.Time
	for _, stone := range stones {
		if stone.Until.After(last) {
			last = stone.Until.UTC()
		}
	}
	return last
}
