package journal

import (
	"os"
	"path/filepath"
	"testing"

	"furrow/internal/bus"
)

// FuzzOpen opens a journal over a segment of arbitrary bytes, once as the newest
// and once as a sealed one. Whatever is in it, new records can be stored and
// read.
func FuzzOpen(f *testing.F) {
	const seed = 7
	m := bus.Message{Stream: bus.Raw, Key: []byte("k"), Value: []byte("some value")}
	whole := header{first: 1, seed: seed}.encode()
	for i := range uint64(3) {
		r := appendRecord(nil, &m, 1_700_000_000_000)
		stamp(r, i+1, seed, int64(len(whole)))
		whole = append(whole, r...)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-5])
	f.Add(whole[:segmentHeader])
	f.Add([]byte{})
	for _, at := range []int{3, 70, 90, 140} {
		flipped := append([]byte(nil), whole...)
		flipped[at] ^= 4
		f.Add(flipped)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		for _, sealed := range []bool{false, true} {
			dir := t.TempDir()
			path := filepath.Join(dir, segmentName(1, seed))
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			if sealed {
				next := header{first: 4, seed: seed, prevLast: 3, prevMin: 1, prevMax: 2}
				if err := os.WriteFile(filepath.Join(dir, segmentName(4, seed)), next.encode(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			j := mustOpen(t, dir, Default(), "g")
			put(t, j, "new")
			got := get(t, j)
			if n := len(got); n == 0 || got[n-1] != "new" {
				t.Fatalf("sealed %v: read %q", sealed, got)
			}
			_ = j.Close()
		}
	})
}

// FuzzScan reads a whole segment of arbitrary bytes.
func FuzzScan(f *testing.F) {
	m := bus.Message{Stream: bus.Raw, Value: []byte("some value")}
	whole := header{first: 1, seed: 7}.encode()
	for i := range uint64(3) {
		r := appendRecord(nil, &m, 1)
		stamp(r, i+1, 7, int64(len(whole)))
		whole = append(whole, r...)
	}
	f.Add(whole)
	f.Add(append(append(whole[:112:112], 1, 2, 3, 4, 5, 6, 7, 8), whole[112:]...))
	f.Fuzz(func(t *testing.T, data []byte) {
		var end int64 = segmentHeader
		last, n := uint64(0), 0
		s := scan(data, 7, 1, func(off int64, r record) {
			if off < end || off+r.size > int64(len(data)) || r.seq <= last {
				t.Fatalf("record %d at %d behind record %d, which ends at %d", r.seq, off, last, end)
			}
			end, last, n = off+r.size, r.seq, n+1
		})
		if s.records != n || s.last != last || s.end != end {
			t.Fatalf("scan says %+v, saw %d records up to %d at %d", s, n, last, end)
		}
	})
}

// FuzzParse reads a record from arbitrary bytes.
func FuzzParse(f *testing.F) {
	m := bus.Message{Stream: bus.Bad, Key: []byte("key"), Value: []byte("value")}
	r := appendRecord(nil, &m, 5)
	stamp(r, 9, 3, 64)
	f.Add(r, uint32(3), int64(64))
	f.Fuzz(func(t *testing.T, b []byte, seed uint32, at int64) {
		at &= gib - 8
		rec, need, ok := parse(b, seed, at)
		if ok && (rec.size > int64(len(b)) || rec.seq == 0 || len(rec.stream) == 0) {
			t.Fatalf("record %+v from %d bytes", rec, len(b))
		}
		if !ok && need != 0 && need <= int64(len(b)) {
			t.Fatalf("needs %d of %d bytes", need, len(b))
		}
	})
}
