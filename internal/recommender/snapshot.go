package recommender

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"furrow/internal/bus"
	"furrow/internal/recommender/knn"
	"furrow/internal/recommender/pack"
)

const (
	snapshotName = "recommender.snapshot"
	// snapshotMagic ends in the number of the format. The first format did not say
	// who was forgotten: nobody.
	snapshotMagic = "FURROW-RECOMMENDER-2\n"
	firstMagic    = "FURROW-RECOMMENDER-1\n"
)

var (
	errDamaged = errors.New("damaged or cut short")
	// errOutdated is a snapshot that may hold what was forgotten since.
	errOutdated = errors.New("learned before somebody was forgotten")
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
)

// encode writes down all that was learned and the positions it reflects. The
// caller keeps the state from changing.
func (s *state) encode(at bus.Positions) []byte {
	b := append(make([]byte, 0, 1<<20), snapshotMagic...)
	b = appendText(b, s.forgotten)
	b = appendBool(b, s.partial)
	b = binary.AppendUvarint(b, uint64(len(at)))
	for partition, position := range at {
		b = appendText(b, partition)
		b = appendText(b, string(position))
	}
	b = s.index.AppendSnapshot(b)
	s.index.Each(func(item uint32, _ string) { b = s.appendStanding(b, item) })
	b = appendWindow(b, s.users, func(b []byte, v visit) []byte {
		return binary.AppendVarint(appendKey(b, v.session), v.last)
	})
	b = appendWindow(b, s.events, func(b []byte, _ struct{}) []byte { return b })
	b = appendBool(b, s.ruled)
	b = binary.AppendVarint(b, s.newest)
	b = s.coverage.append(b)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func (s *state) appendStanding(b []byte, item uint32) []byte {
	it := s.standing.get(item)
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(it.hot))
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(it.popular))
	b = binary.AppendVarint(b, it.since)
	b = binary.AppendVarint(b, it.nextAt)
	var live []partner
	for _, p := range it.next {
		if s.index.ID(p.item) != "" && s.index.Generation(p.item) == p.gen {
			live = append(live, p)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(live)))
	for _, p := range live {
		b = appendText(b, s.index.ID(p.item))
		b = binary.BigEndian.AppendUint32(b, math.Float32bits(p.weight))
	}
	return b
}

func (c *coverage) append(b []byte) []byte {
	b = binary.AppendVarint(b, c.views)
	b = binary.AppendVarint(b, c.matched)
	b = binary.AppendUvarint(b, uint64(len(c.paths)))
	for p, n := range c.paths {
		b = binary.AppendVarint(appendText(b, p), n)
	}
	return b
}

func appendBool(b []byte, yes bool) []byte {
	if yes {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendKey(b []byte, k knn.Key) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, k[0]), k[1])
}

func appendWindow[V any](b []byte, w *window[knn.Key, V], value func([]byte, V) []byte) []byte {
	var body []byte
	n := uint64(0)
	w.each(func(k knn.Key, v V) {
		n++
		body = value(appendKey(body, k), v)
	})
	return append(binary.AppendUvarint(b, n), body...)
}

// decode fills an empty state from a snapshot that was learned under the digest
// that the state has.
func (s *state) decode(b []byte) (bus.Positions, error) {
	rest, ok := bytes.CutPrefix(b, []byte(snapshotMagic))
	first := false
	if !ok {
		if rest, first = bytes.CutPrefix(b, []byte(firstMagic)); !first {
			return nil, errors.New("of another format")
		}
	}
	if len(rest) < 4 || crc32.Checksum(b[:len(b)-4], castagnoli) != binary.BigEndian.Uint32(b[len(b)-4:]) {
		return nil, errDamaged
	}
	r := &reader{pack.Reader{Rest: rest[:len(rest)-4]}}
	forgotten := ""
	if !first {
		forgotten, s.partial = r.text(), r.Count() == 1
	}
	if !r.Bad && forgotten != s.forgotten {
		return nil, errOutdated
	}
	at := bus.Positions{}
	for range r.Count() {
		partition := r.text()
		at[partition] = bus.Position(r.text())
	}
	after, ids, err := s.index.Load(r.Rest)
	if err != nil {
		return nil, err
	}
	r.Rest = after
	for _, id := range ids {
		s.decodeStanding(r, id)
	}
	for range r.Count() {
		k := r.key()
		s.users.put(k, visit{session: r.key(), last: r.Varint()})
	}
	for range r.Count() {
		s.events.put(r.key(), struct{}{})
	}
	s.ruled = r.Count() == 1
	s.newest = r.Varint()
	s.coverage = coverage{views: r.Varint(), matched: r.Varint(), paths: map[string]int64{}}
	for range r.Count() {
		path := r.text()
		s.coverage.paths[path] = r.Varint()
	}
	if r.Bad {
		return nil, errDamaged
	}
	return at, nil
}

func (s *state) decodeStanding(r *reader, id string) {
	read := standing{
		hot: math.Float64frombits(r.uint64()), popular: math.Float64frombits(r.uint64()),
		since: r.Varint(), nextAt: r.Varint(),
	}
	for range r.Count() {
		to, weight := r.text(), math.Float32frombits(r.uint32())
		if n, ok := s.index.Item(to); ok && len(read.next) < maxPartners {
			read.next = append(read.next, partner{item: n, gen: s.index.Generation(n), weight: weight})
		}
	}
	if item, ok := s.index.Item(id); ok && !r.Bad {
		*s.standing.of(item) = read
		s.standing.lead(item, &read)
	}
}

// reader reads the parts of a snapshot.
type reader struct{ pack.Reader }

func (r *reader) text() string   { return string(r.Take(r.Count())) }
func (r *reader) uint64() uint64 { return binary.BigEndian.Uint64(r.Take(8)) }
func (r *reader) uint32() uint32 { return binary.BigEndian.Uint32(r.Take(4)) }
func (r *reader) key() knn.Key   { return knn.Key{r.uint64(), r.uint64()} }

// load reads the snapshot in dir into an empty state. A snapshot that cannot be
// read is set aside under another name, which is returned with the reason: what
// it held is learned anew from the bus. One that may hold what was forgotten stays
// until the next is written over it, and the state is partial.
func (s *state) load(dir string) (at bus.Positions, aside string, reason, err error) {
	path := filepath.Join(dir, snapshotName)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil, nil
	}
	if err != nil {
		return nil, "", nil, fmt.Errorf("recommender: snapshot: %w", err)
	}
	at, reason = s.decode(b)
	if reason == nil {
		return at, "", nil, nil
	}
	s.clear()
	s.events = newWindow[knn.Key, struct{}](s.cfg.Limits.Events)
	s.ruled, s.newest, s.coverage, s.partial = false, 0, coverage{}, false
	if errors.Is(reason, errOutdated) {
		s.partial = true
		return nil, "", reason, nil
	}
	aside = path + damagedSuffix
	if err := os.Rename(path, aside); err != nil {
		return nil, "", nil, fmt.Errorf("recommender: set snapshot aside: %w", err)
	}
	return nil, aside, reason, nil
}

// damagedSuffix ends the name of a snapshot that was set aside.
const damagedSuffix = ".damaged"

// sweep removes what earlier snapshots left in dir: one that was set aside, and
// what crashes left half written. They may hold what was forgotten.
func sweep(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, snapshotName+".*.tmp"))
	if err != nil {
		return fmt.Errorf("recommender: remains of snapshots: %w", err)
	}
	for _, path := range append(left, filepath.Join(dir, snapshotName+damagedSuffix)) {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("recommender: remains of snapshots: %w", err)
		}
	}
	return nil
}

// store writes a snapshot so that either the old or the new one is there, whole,
// whatever happens.
func store(dir string, b []byte) error {
	f, err := os.CreateTemp(dir, snapshotName+".*.tmp")
	if err != nil {
		return fmt.Errorf("recommender: snapshot: %w", err)
	}
	defer os.Remove(f.Name()) // fails once it was renamed
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, snapshotName))
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("recommender: snapshot: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
