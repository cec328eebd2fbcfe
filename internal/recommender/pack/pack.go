// Package pack reads the parts of a snapshot: variable-length numbers and runs of
// bytes, one after the other.
//
// A reader never fails in between: what is damaged or cut short marks it as bad,
// and from then on it returns zeros, so that the caller checks once. It refuses to
// know what the numbers mean.
package pack

import "encoding/binary"

// fixed is the longest run that callers take apart without looking at Bad.
const fixed = 16

// Reader reads from the front of Rest. Bad tells that something was not there.
type Reader struct {
	Rest []byte
	Bad  bool
}

// Uvarint reads an unsigned number as binary.AppendUvarint writes it.
func (r *Reader) Uvarint() uint64 {
	v, n := binary.Uvarint(r.Rest)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.Rest = r.Rest[n:]
	return v
}

// Varint reads a signed number as binary.AppendVarint writes it.
func (r *Reader) Varint() int64 {
	v, n := binary.Varint(r.Rest)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.Rest = r.Rest[n:]
	return v
}

// Count reads the number of things that follow; each takes at least one byte, so
// more of them than bytes is damage.
func (r *Reader) Count() uint64 {
	v := r.Uvarint()
	if v > uint64(len(r.Rest)) {
		r.fail()
		return 0
	}
	return v
}

// Take returns the next n bytes, which share the memory of Rest. When they are not
// there it returns zeros, as many as asked for up to 16.
func (r *Reader) Take(n uint64) []byte {
	if n > uint64(len(r.Rest)) {
		r.fail()
		return make([]byte, min(n, fixed))
	}
	taken := r.Rest[:n]
	r.Rest = r.Rest[n:]
	return taken
}

func (r *Reader) fail() { r.Bad, r.Rest = true, nil }
