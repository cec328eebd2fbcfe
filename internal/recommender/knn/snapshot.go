package knn

import (
	"encoding/binary"
	"errors"
	"math"

	"furrow/internal/recommender/pack"
)

var errSnapshot = errors.New("knn: snapshot is cut short or damaged")

// places returns the place of an item in the next snapshot's table of items, by
// item number; items that are not in use have none.
func (x *Index) places() (place []uint32, used int) {
	place = make([]uint32, len(x.items))
	for n := range x.items {
		place[n] = none
		if x.items[n].id != "" {
			place[n] = uint32(used)
			used++
		}
	}
	return place, used
}

// Each calls f for every item, in the order of the snapshot's table.
func (x *Index) Each(f func(item uint32, id string)) {
	for n := range x.items {
		if id := x.items[n].id; id != "" {
			f(uint32(n), id)
		}
	}
}

// AppendSnapshot appends all that Load needs: the items, then the sessions, the
// least active first. Postings are not written: they follow from the sessions.
func (x *Index) AppendSnapshot(b []byte) []byte {
	place, used := x.places()
	b = binary.AppendVarint(b, x.clock)
	b = binary.AppendUvarint(b, uint64(used)) //nolint:gosec // not negative
	x.Each(func(_ uint32, id string) {
		b = binary.AppendUvarint(b, uint64(len(id)))
		b = append(b, id...)
	})
	b = binary.AppendUvarint(b, uint64(x.byKey.n)) //nolint:gosec // not negative
	for n := x.oldest; n != none; n = x.slot(n).newer {
		s := x.slot(n)
		b = binary.BigEndian.AppendUint64(b, s.key[0])
		b = binary.BigEndian.AppendUint64(b, s.key[1])
		retiredBit := uint64(0)
		if s.status == retired {
			retiredBit = 1
		}
		b = binary.AppendUvarint(b, uint64(len(s.log))<<1|retiredBit)
		at := int64(0)
		for _, c := range s.log {
			t := s.base + int64(c.at)
			b = binary.AppendVarint(b, t-at)
			b = binary.AppendUvarint(b, uint64(place[c.id()]))
			at = t
		}
	}
	return b
}

// Load fills an empty index from a snapshot, click by click within the bounds of
// its own configuration, and returns what follows the snapshot and the ids of the
// snapshot's table.
func (x *Index) Load(b []byte) (rest []byte, ids []string, err error) {
	r := &pack.Reader{Rest: b}
	x.clock = r.Varint()
	for range r.Uvarint() {
		ids = append(ids, string(r.Take(r.Uvarint())))
		if r.Bad {
			return nil, nil, errSnapshot
		}
	}
	for range r.Uvarint() {
		raw := r.Take(16)
		if r.Bad {
			return nil, nil, errSnapshot
		}
		key := Key{binary.BigEndian.Uint64(raw), binary.BigEndian.Uint64(raw[8:])}
		if err := x.loadSession(r, key, ids); err != nil {
			return nil, nil, err
		}
	}
	if r.Bad {
		return nil, nil, errSnapshot
	}
	return r.Rest, ids, nil
}

func (x *Index) loadSession(r *pack.Reader, key Key, ids []string) error {
	head := r.Uvarint()
	at := int64(0)
	for range head >> 1 {
		at += r.Varint()
		place := r.Uvarint()
		if r.Bad || place >= uint64(len(ids)) || at < math.MinInt64/4 || at > math.MaxInt64/4 {
			return errSnapshot
		}
		x.Add(key, ids[place], at)
	}
	if n, ok := x.find(key); ok && head&1 == 1 {
		if s := x.slot(n); s.status != retired {
			if s.status == visible {
				x.hide(n, s)
			}
			s.status = retired
		}
	}
	return nil
}
