package pack

import (
	"encoding/binary"
	"testing"
)

func TestReader(t *testing.T) {
	t.Parallel()
	b := binary.AppendUvarint(nil, 3)
	b = append(b, "abc"...)
	b = binary.AppendVarint(b, -7)
	r := Reader{Rest: b}
	if got := string(r.Take(r.Count())); got != "abc" || r.Varint() != -7 || r.Bad || len(r.Rest) != 0 {
		t.Errorf("read %q, bad %v, %d bytes left", got, r.Bad, len(r.Rest))
	}
	for cut := range b {
		r := Reader{Rest: b[:cut]}
		r.Take(r.Count())
		r.Varint()
		if !r.Bad {
			t.Errorf("cut at %d was not noticed", cut)
		}
	}
	if got := (&Reader{}).Take(1 << 40); len(got) != fixed {
		t.Errorf("a huge run that is not there took %d bytes", len(got))
	}
}
