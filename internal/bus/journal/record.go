package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"

	"furrow/internal/bus"
)

// A record is a header of 32 bytes, little endian, then stream, key and value,
// padded with zeros to a multiple of eight:
//
//	 0  CRC32C of bytes 4 up to the padding, begun with the segment's seed and the offset
//	 4  length of stream, key and value together
//	 8  sequence number
//	16  time, Unix milliseconds
//	24  offset in the segment at which the commit began that wrote the record
//	28  length of the stream (8 bits), length of the key (24 bits)
const (
	recordHeader = 32
	recordAlign  = 8
	maxKey       = 1<<24 - 1
	maxStream    = 1<<8 - 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is a decoded record; its slices point into the segment's bytes.
type record struct {
	seq    uint64
	millis int64
	commit int64 // where the commit began
	size   int64 // with header and padding
	stream []byte
	key    []byte
	value  []byte
}

// recordSize returns the bytes that a message takes in a segment.
func recordSize(m *bus.Message) int64 {
	return padded(recordHeader + int64(len(m.Stream)) + int64(len(m.Key)) + int64(len(m.Value)))
}

func padded(n int64) int64 { return (n + recordAlign - 1) &^ (recordAlign - 1) }

// appendRecord writes a record that lacks what stamp adds.
func appendRecord(dst []byte, m *bus.Message, millis int64) []byte {
	var h [recordHeader]byte
	body := len(m.Stream) + len(m.Key) + len(m.Value)
	binary.LittleEndian.PutUint32(h[4:], uint32(body))                                 //nolint:gosec // bounded by checkMessage
	binary.LittleEndian.PutUint64(h[16:], uint64(millis))                              //nolint:gosec // read back the same way
	binary.LittleEndian.PutUint32(h[28:], uint32(len(m.Key))<<8|uint32(len(m.Stream))) //nolint:gosec // bounded by checkMessage
	dst = append(dst, h[:]...)
	dst = append(dst, m.Stream...)
	dst = append(dst, m.Key...)
	dst = append(dst, m.Value...)
	var zero [recordAlign]byte
	return append(dst, zero[:padded(int64(recordHeader+body))-int64(recordHeader+body)]...)
}

// stamped is what a run of records turned out to hold.
type stamped struct {
	records          int
	minTime, maxTime int64
}

// stamp numbers the records of one commit from first on and seals them with
// their checksums. at is the offset in the segment where the commit begins.
func stamp(buf []byte, first uint64, seed uint32, at int64) (s stamped) {
	for off := int64(0); off < int64(len(buf)); s.records++ {
		r := buf[off:]
		body := int64(binary.LittleEndian.Uint32(r[4:]))
		millis := int64(binary.LittleEndian.Uint64(r[16:])) //nolint:gosec // written by appendRecord
		if s.records == 0 || millis < s.minTime {
			s.minTime = millis
		}
		if s.records == 0 || millis > s.maxTime {
			s.maxTime = millis
		}
		binary.LittleEndian.PutUint64(r[8:], first)
		binary.LittleEndian.PutUint32(r[24:], uint32(at)) //nolint:gosec // segments are below 2 GiB
		binary.LittleEndian.PutUint32(r, checksum(r[4:recordHeader+body], seed, at+off))
		first++
		off += padded(recordHeader + body)
	}
	return s
}

// checksum mixes in the place, so that a block written elsewhere by mistake is
// not believed, and the seed, so that no visitor can send bytes that would pass
// for a record.
func checksum(b []byte, seed uint32, at int64) uint32 {
	return crc32.Update(seed^uint32(at/recordAlign), castagnoli, b) //nolint:gosec // segments are below 2 GiB
}

// parse reads the record that begins at data[0], which is offset at of the
// segment. need is how many bytes it takes to tell, when data is too short.
func parse(data []byte, seed uint32, at int64) (r record, need int64, ok bool) {
	if len(data) < recordHeader {
		return r, recordHeader, false
	}
	body := int64(binary.LittleEndian.Uint32(data[4:]))
	lengths := binary.LittleEndian.Uint32(data[28:])
	stream, key := int64(lengths&maxStream), int64(lengths>>8)
	r.seq = binary.LittleEndian.Uint64(data[8:])
	r.commit = int64(binary.LittleEndian.Uint32(data[24:]))
	if r.seq == 0 || stream == 0 || stream+key > body || r.commit > at {
		return record{}, 0, false
	}
	r.size = padded(recordHeader + body)
	if int64(len(data)) < r.size {
		return record{}, r.size, false
	}
	if checksum(data[4:recordHeader+body], seed, at) != binary.LittleEndian.Uint32(data) {
		return record{}, 0, false
	}
	r.millis = int64(binary.LittleEndian.Uint64(data[16:])) //nolint:gosec // written by appendRecord
	b := data[recordHeader : recordHeader+body : recordHeader+body]
	r.stream, r.key, r.value = b[:stream:stream], b[stream:stream+key:stream+key], b[stream+key:]
	return r, 0, true
}

// resync finds the first whole record in data that is newer than after and not
// newer than last. It returns len(data) when there is none.
func resync(data []byte, seed uint32, at int64, after, last uint64) int64 {
	for off := int64(0); off+recordHeader <= int64(len(data)); off += recordAlign {
		seq := binary.LittleEndian.Uint64(data[off+8:])
		if seq <= after || seq > last {
			continue
		}
		if _, _, ok := parse(data[off:], seed, at+off); ok {
			return off
		}
	}
	return int64(len(data))
}

// digits is the width of a position: enough for every uint64.
const digits = 20

func formatPosition(seq uint64) bus.Position {
	var b [digits]byte
	return bus.Position(putPosition(b[:], seq))
}

// putPosition writes the position into dst, which has room for it.
func putPosition(dst []byte, seq uint64) []byte {
	dst = dst[:digits]
	for i := digits - 1; i >= 0; i-- {
		dst[i] = byte('0' + seq%10)
		seq /= 10
	}
	return dst
}

func parsePosition(p bus.Position) (uint64, error) {
	if len(p) == digits {
		if seq, err := strconv.ParseUint(string(p), 10, 64); err == nil && formatPosition(seq) == p {
			return seq, nil
		}
	}
	return 0, fmt.Errorf("journal: %q is not a position of this journal; it has %d digits", p, digits)
}
