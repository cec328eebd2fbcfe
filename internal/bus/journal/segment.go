package journal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A segment file is named FIRST-SEED.seg: the sequence number from which it
// counts, 20 digits, and the seed of its checksums, 8 hexadecimal digits. It
// begins with a header of 64 bytes, little endian:
//
//	 0  "furrowj1"
//	 8  first sequence number
//	16  seed
//	20  zero
//	24  the last durable sequence number before this segment
//	32  smallest and largest time in the segment before, Unix milliseconds
//	48  zero
//	60  CRC32C of bytes 0 to 60
//
// The name repeats what is needed to read the records when the header is damaged.
const (
	segmentHeader = 64
	segmentMagic  = "furrowj1"
	segmentSuffix = ".seg"
)

// extent is the readable part of a segment; one value, so that a reader sees
// its fields agree.
type extent struct {
	end    int64  // where the durable bytes end
	last   uint64 // last durable sequence number; that of the segment before when empty
	sealed bool   // nothing will be added
}

// segment is one file. The fields below the line are guarded by Journal.mu.
type segment struct {
	path   string
	first  uint64
	seed   uint32
	extent atomic.Pointer[extent]

	// -----
	minTime, maxTime int64 // Unix milliseconds, over all records
	lastWrite        time.Time
	marks            []mark
	spacing          int64 // bytes between marks
}

// mark remembers where a commit began: an index in memory for seeking and lag.
type mark struct {
	seq    uint64
	offset int64
	millis int64
}

const (
	maxMarks    = 512
	markSpacing = 64 * kib
)

func (s *segment) empty() bool { return s.extent.Load().end <= segmentHeader }

// note records a commit of durable records. It thins the marks out when there
// are many.
func (s *segment) note(m mark, st stamped) {
	if s.maxTime == 0 && s.minTime == 0 {
		s.minTime, s.maxTime = st.minTime, st.maxTime
	}
	s.minTime, s.maxTime = min(s.minTime, st.minTime), max(s.maxTime, st.maxTime)
	if n := len(s.marks); n > 0 && m.offset-s.marks[n-1].offset < max(s.spacing, markSpacing) &&
		m.millis-s.marks[n-1].millis < int64(time.Second/time.Millisecond) {
		return
	}
	if len(s.marks) == maxMarks {
		kept := s.marks[:0]
		for i := 0; i < maxMarks; i += 2 {
			kept = append(kept, s.marks[i])
		}
		s.marks = kept
		s.spacing = 2 * max(s.spacing, markSpacing)
	}
	s.marks = append(s.marks, m)
}

// before returns the last mark at or before seq.
func (s *segment) before(seq uint64) (mark, bool) {
	i, found := slices.BinarySearchFunc(s.marks, seq, func(m mark, seq uint64) int {
		switch {
		case m.seq < seq:
			return -1
		case m.seq > seq:
			return 1
		}
		return 0
	})
	if found {
		i++
	}
	if i == 0 {
		return mark{}, false
	}
	return s.marks[i-1], true
}

// header is the content of a segment's first 64 bytes.
type header struct {
	first    uint64
	seed     uint32
	prevLast uint64
	prevMin  int64
	prevMax  int64
}

func (h header) encode() []byte {
	b := make([]byte, segmentHeader)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint64(b[8:], h.first)
	binary.LittleEndian.PutUint32(b[16:], h.seed)
	binary.LittleEndian.PutUint64(b[24:], h.prevLast)
	binary.LittleEndian.PutUint64(b[32:], uint64(h.prevMin)) //nolint:gosec // read back the same way
	binary.LittleEndian.PutUint64(b[40:], uint64(h.prevMax)) //nolint:gosec // read back the same way
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

// decodeHeader returns false for bytes that are no whole header.
func decodeHeader(b []byte) (h header, ok bool) {
	if len(b) < segmentHeader || string(b[:8]) != segmentMagic ||
		crc32.Checksum(b[:60], castagnoli) != binary.LittleEndian.Uint32(b[60:]) {
		return h, false
	}
	return header{
		first:    binary.LittleEndian.Uint64(b[8:]),
		seed:     binary.LittleEndian.Uint32(b[16:]),
		prevLast: binary.LittleEndian.Uint64(b[24:]),
		prevMin:  int64(binary.LittleEndian.Uint64(b[32:])), //nolint:gosec // written by encode
		prevMax:  int64(binary.LittleEndian.Uint64(b[40:])), //nolint:gosec // written by encode
	}, true
}

func segmentName(first uint64, seed uint32) string {
	return fmt.Sprintf("%0*d-%08x%s", digits, first, seed, segmentSuffix)
}

func parseSegmentName(name string) (first uint64, seed uint32, ok bool) {
	stem, isSegment := strings.CutSuffix(name, segmentSuffix)
	left, right, dash := strings.Cut(stem, "-")
	if !isSegment || !dash || len(left) != digits || len(right) != 8 {
		return 0, 0, false
	}
	first, err := strconv.ParseUint(left, 10, 64)
	s, err2 := strconv.ParseUint(right, 16, 32)
	return first, uint32(s), err == nil && err2 == nil && first > 0
}

// createSegment makes an empty durable segment that follows prev.
func (j *Journal) createSegment(first uint64, prev header) (*segment, segmentFile, error) {
	var seed [4]byte
	_, _ = rand.Read(seed[:]) // never fails
	prev.first, prev.seed = first, binary.LittleEndian.Uint32(seed[:])
	s := &segment{path: filepath.Join(j.dir, segmentName(first, prev.seed)), first: first, seed: prev.seed, lastWrite: j.hooks.now()}
	f, err := j.hooks.disk.create(s.path)
	if err != nil {
		return nil, nil, fmt.Errorf("journal: new segment: %w", err)
	}
	_, err = f.WriteAt(prev.encode(), 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = j.hooks.disk.syncDir(j.dir)
	}
	if err != nil {
		_ = f.Close()
		_ = os.Remove(s.path)
		return nil, nil, fmt.Errorf("journal: new segment %s: %w", s.path, err)
	}
	s.extent.Store(&extent{end: segmentHeader, last: prev.prevLast})
	return s, f, nil
}

// scanned is what reading a whole segment found.
type scanned struct {
	end     int64  // behind the last whole record
	last    uint64 // zero when there is no record
	commit  int64  // where the last commit began that left a record
	bad     []gap
	records int
}

// gap is a range of a segment that holds no whole record.
type gap struct{ from, to int64 }

// scan reads every whole record of a segment's bytes, its header included. What
// follows the last whole record is torn; a gap between records is damage.
func scan(data []byte, seed uint32, first uint64, each func(off int64, r record)) (s scanned) {
	s.end = segmentHeader
	after := first - 1
	for off := int64(segmentHeader); off < int64(len(data)); {
		r, _, ok := parse(data[off:], seed, off)
		if !ok || r.seq <= after {
			from := off
			off++
			off = padded(off)
			if off >= int64(len(data)) {
				break
			}
			off += resync(data[off:], seed, off, after, math.MaxUint64)
			if off < int64(len(data)) {
				s.bad = append(s.bad, gap{from, off})
			}
			continue
		}
		after = r.seq
		s.records++
		s.commit = r.commit
		each(off, r)
		off += r.size
		s.end, s.last = off, r.seq
	}
	return s
}

// readAll reads [from, to) of a file. Bytes that the disk does not give come
// back as zeros, which no record begins with.
func readAll(f io.ReaderAt, from, to int64) []byte {
	b := make([]byte, max(to-from, 0))
	readRange(f, b, from)
	return b
}

// readRange is readAll into dst.
func readRange(f io.ReaderAt, dst []byte, from int64) {
	n, err := f.ReadAt(dst, from)
	if n == len(dst) {
		return
	}
	clear(dst[n:])
	if errors.Is(err, io.EOF) {
		return
	}
	const page = 4 * kib
	for n < len(dst) { // step over the unreadable pages
		end := min(n+page, len(dst))
		if k, err := f.ReadAt(dst[n:end], from+int64(n)); err != nil {
			clear(dst[n+k : end])
		}
		n = end
	}
}
