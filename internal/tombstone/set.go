package tombstone

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// anonymous is what stands in place of an identifier when nobody is to be known.
const anonymous = "00000000-0000-0000-0000-000000000000"

// Set is the tombstones of one data folder. It is safe for concurrent use. Readers
// take no lock, and pay one comparison for an event that no tombstone is late
// enough for.
type Set struct {
	path string

	writing sync.Mutex
	own     Hash // key of this installation; zero until the first Add
	state   atomic.Pointer[state]
}

// state is an immutable set of tombstones; nil holds none.
type state struct {
	newest time.Time // the latest Until
	keys   []*keyed
	sorted []Tombstone
	digest string
}

// keyed is the tombstones of one key.
type keyed struct {
	until map[Hash]time.Time
	macs  sync.Pool // of hash.Hash, keyed
}

// Open reads the tombstones in the file at path, none when there is no file. It
// creates nothing. A file that cannot be read is an error: going on without it
// would bring back people who were forgotten.
func Open(path string) (*Set, error) {
	s := &Set{path: path}
	own, stones, err := read(path)
	if err != nil {
		return nil, err
	}
	s.own = own
	s.state.Store(newState(stones))
	return s, nil
}

// Add forgets identifiers, exact values of user_id, domain_userid or
// network_userid, with what was collected until then. When it returns nil the
// tombstones are on disk and in force. It returns those of the identifiers, sorted,
// each with its latest time. An identifier that is empty or the zero UUID, which
// stands for nobody, is refused, and so is a time that is not set. Times count in
// milliseconds, as collectors do.
func (s *Set) Add(identifiers []string, until time.Time) ([]Tombstone, error) {
	until, err := moment(until)
	if err != nil {
		return nil, err
	}
	if len(identifiers) == 0 {
		return nil, errors.New("tombstone: no identifier was named")
	}
	for _, id := range identifiers {
		if !names(id) {
			return nil, fmt.Errorf("tombstone: %q stands for nobody: name an identifier that is not empty and not the zero UUID", id)
		}
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	old := s.state.Load()
	own := s.own
	if own == (Hash{}) {
		own = old.anyKey()
	}
	if own == (Hash{}) {
		rand.Read(own[:]) // never fails, by its documentation
	}
	mac := hmac.New(sha256.New, own[:])
	all := union(old.stones())
	added := make(map[place]time.Time, len(identifiers))
	for _, id := range identifiers {
		p := place{own, sum(mac, id)}
		added[p] = later(all, p, until)
	}
	if err := s.keep(own, all); err != nil {
		return nil, err
	}
	return list(added), nil
}

// Merge adds tombstones of another set, of any keys: of two for one identifier the
// later time holds. When it returns nil they are on disk and in force.
func (s *Set) Merge(stones []Tombstone) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	all := union(s.state.Load().stones())
	changed := false
	for _, t := range stones {
		until, err := moment(t.Until)
		if err != nil {
			return err
		}
		if t.Key == (Hash{}) || t.Hash == (Hash{}) {
			return errors.New("tombstone: one without key or hash cannot be merged")
		}
		p := place{t.Key, t.Hash}
		was, known := all[p]
		changed = changed || !known || until.After(was)
		later(all, p, until)
	}
	if !changed {
		return nil
	}
	return s.keep(s.own, all)
}

// keep makes a union durable, then puts it in force. Callers hold writing.
func (s *Set) keep(own Hash, all map[place]time.Time) error {
	stones := list(all)
	if err := write(s.path, own, stones); err != nil {
		return err
	}
	s.own = own
	s.state.Store(newState(stones))
	return nil
}

// All returns the tombstones, sorted by key and hash.
func (s *Set) All() []Tombstone { return slices.Clone(s.state.Load().stones()) }

// Digest names the state of the set: two sets of the same tombstones have the same
// one, and an empty set has none. It is 64 hex digits.
func (s *Set) Digest() string {
	if st := s.state.Load(); st != nil {
		return st.digest
	}
	return ""
}

// Covers reports whether what was collected at that time under the identifier is
// to be skipped.
func (s *Set) Covers(identifier string, collected time.Time) bool {
	st := s.state.Load()
	return st.reaches(collected) && st.covers(identifier, collected)
}

// Event reports whether the event with these identifiers, empty where it has none,
// is to be skipped.
func (s *Set) Event(userID, domainUserID, networkUserID string, collected time.Time) bool {
	st := s.state.Load()
	return st.reaches(collected) &&
		(st.covers(userID, collected) || st.covers(domainUserID, collected) || st.covers(networkUserID, collected))
}

func names(identifier string) bool { return identifier != "" && identifier != anonymous }

// moment returns t as tombstones hold it.
func moment(t time.Time) (time.Time, error) {
	if year := t.UTC().Year(); t.IsZero() || year < 0 || year > 9999 {
		return t, fmt.Errorf("tombstone: %s is no time until which to forget: name one of a year from 0 to 9999", t)
	}
	return t.UTC().Truncate(time.Millisecond), nil
}

// reaches reports whether any tombstone is late enough.
func (st *state) reaches(collected time.Time) bool { return st != nil && !collected.After(st.newest) }

func (st *state) covers(identifier string, collected time.Time) bool {
	if !names(identifier) {
		return false
	}
	for _, k := range st.keys {
		mac, _ := k.macs.Get().(hash.Hash)
		h := sum(mac, identifier)
		k.macs.Put(mac)
		if until, ok := k.until[h]; ok && !collected.After(until) {
			return true
		}
	}
	return false
}

func (st *state) stones() []Tombstone {
	if st == nil {
		return nil
	}
	return st.sorted
}

// anyKey returns the first of the keys, zero when there is none. An installation
// that lost its file goes on with the key that its stores give back.
func (st *state) anyKey() Hash {
	if st == nil {
		return Hash{}
	}
	return st.sorted[0].Key
}

func newState(sorted []Tombstone) *state {
	if len(sorted) == 0 {
		return nil
	}
	st := &state{sorted: sorted}
	digest := sha256.New()
	for i, t := range sorted {
		if i == 0 || t.Key != sorted[i-1].Key {
			k := &keyed{until: map[Hash]time.Time{}}
			k.macs.New = func() any { return hmac.New(sha256.New, t.Key[:]) }
			st.keys = append(st.keys, k)
		}
		st.keys[len(st.keys)-1].until[t.Hash] = t.Until
		if t.Until.After(st.newest) || i == 0 {
			st.newest = t.Until
		}
		digest.Write(t.Key[:])
		digest.Write(t.Hash[:])
		digest.Write(binary.BigEndian.AppendUint64(nil, uint64(t.Until.UnixMilli())))
	}
	st.digest = hex.EncodeToString(digest.Sum(nil))
	return st
}

// sum is the keyed hash of an identifier.
func sum(mac hash.Hash, identifier string) (h Hash) {
	var space [128]byte
	mac.Reset()
	mac.Write(append(space[:0], identifier...))
	mac.Sum(h[:0])
	return h
}

// place is what two tombstones for the same identifier have in common.
type place struct{ key, hash Hash }

func union(stones []Tombstone) map[place]time.Time {
	all := make(map[place]time.Time, len(stones)+1)
	for _, t := range stones {
		later(all, place{t.Key, t.Hash}, t.Until)
	}
	return all
}

// later sets the time of p unless it has a later one, and returns what it has.
func later(all map[place]time.Time, p place, until time.Time) time.Time {
	if was, ok := all[p]; ok && was.After(until) {
		return was
	}
	all[p] = until
	return until
}

func list(all map[place]time.Time) []Tombstone {
	stones := make([]Tombstone, 0, len(all))
	for p, until := range maps.All(all) {
		stones = append(stones, Tombstone{Key: p.key, Hash: p.hash, Until: until})
	}
	slices.SortFunc(stones, func(a, b Tombstone) int {
		return cmp.Or(bytes.Compare(a.Key[:], b.Key[:]), bytes.Compare(a.Hash[:], b.Hash[:]))
	})
	return stones
}
