package archive

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"os"
)

// A list of ids is the magic, the varint deltas of ascending 48-bit prefixes, each
// at least 1, a zero, and the CRC-32C of all that. It takes 4 to 5 bytes an id.
const (
	idsMagic   = "furrow ids 1\n"
	prefixBits = 48
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// idKey is an id as it is compared: 128 bits, scattered so that ids that count up
// do not crowd one range of prefixes. Different UUIDs have different keys; other
// ids are hashed, and so is a record id, of which half would do.
type idKey struct{ hi, lo uint64 }

func (k idKey) prefix() uint64 { return k.hi >> (64 - prefixBits) }

func keyOfUUID(b *[16]byte) idKey {
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	return idKey{scatter(hi + bits.RotateLeft64(lo, 32)*0x9e3779b97f4a7c15), lo}
}

// scatter is a bijection of 64 bits in which every bit of x moves half of the others
// (David Stafford's variant 13 of the finalizer of MurmurHash3).
func scatter(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// keyOf returns the key of any id.
func keyOf(id []byte) idKey {
	var b [16]byte
	if len(id) == 36 && uuidKey(&b, string(id)) {
		return keyOfUUID(&b)
	}
	if len(id) == hex.EncodedLen(sha256.Size) {
		var sum [sha256.Size]byte
		if _, err := hex.Decode(sum[:], id); err == nil {
			return keyOfUUID((*[16]byte)(sum[:16]))
		}
	}
	sum := sha256.Sum256(id)
	return keyOfUUID((*[16]byte)(sum[:16]))
}

// idsWriter writes a list of ids.
type idsWriter struct {
	file *os.File
	buf  *bufio.Writer
	sum  uint32
	last uint64
	any  bool
	n    int64
}

func newIDsWriter(local string) (*idsWriter, error) {
	f, err := os.OpenFile(local, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	w := &idsWriter{file: f, buf: bufio.NewWriterSize(f, 64<<10)}
	w.write([]byte(idsMagic))
	return w, nil
}

func (w *idsWriter) write(b []byte) {
	w.sum = crc32.Update(w.sum, castagnoli, b)
	_, _ = w.buf.Write(b) // the error stays until Flush
}

// add adds a prefix: one of a run that never falls.
func (w *idsWriter) add(prefix uint64) {
	if w.any && prefix == w.last {
		return
	}
	delta := prefix - w.last
	if !w.any {
		delta = prefix + 1
	}
	w.last, w.any = prefix, true
	w.n++
	var b [binary.MaxVarintLen64]byte
	w.write(b[:binary.PutUvarint(b[:], delta)])
}

// finish completes the list and makes it durable.
func (w *idsWriter) finish() error {
	w.write([]byte{0})
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], w.sum)
	_, _ = w.buf.Write(b[:])
	if err := errors.Join(w.buf.Flush(), w.file.Sync(), w.file.Close()); err != nil {
		return fmt.Errorf("archive: list of ids: %w", err)
	}
	return nil
}

func (w *idsWriter) discard() { w.file.Close() }

var errBadIDs = errors.New("damaged list of ids")

const idsBuffer = 64 << 10 // bytes of a list that are read at a time

// readIDs calls fn with the prefixes of a list until it answers false. The list was
// whole only when it came to its end. buf has idsBuffer bytes.
func readIDs(from io.Reader, buf []byte, fn func(prefix uint64) bool) error {
	if _, err := io.ReadFull(from, buf[:len(idsMagic)]); err != nil || string(buf[:len(idsMagic)]) != idsMagic {
		return badIDs(err)
	}
	in := idsReader{sum: crc32.Update(0, castagnoli, buf[:len(idsMagic)])}
	for left := 0; ; {
		n, err := io.ReadFull(from, buf[left:])
		if err != nil && !errors.Is(badIDs(err), errBadIDs) {
			return err
		}
		rest, err := in.take(buf[:left+n], err != nil, fn)
		if rest == nil || err != nil {
			return err
		}
		left = copy(buf, rest)
	}
}

// idsReader is what was read of a list.
type idsReader struct {
	last uint64
	any  bool
	sum  uint32
}

// take reads on, and returns what is left of data: nil when there is no more to do.
func (in *idsReader) take(data []byte, end bool, fn func(prefix uint64) bool) ([]byte, error) {
	at := 0
	for end || len(data)-at >= binary.MaxVarintLen64+crc32.Size {
		delta, n := binary.Uvarint(data[at:])
		if n <= 0 {
			return nil, errBadIDs
		}
		at += n
		if delta == 0 {
			in.sum = crc32.Update(in.sum, castagnoli, data[:at])
			if data = data[at:]; len(data) < crc32.Size || binary.BigEndian.Uint32(data) != in.sum {
				return nil, errBadIDs
			}
			return nil, nil
		}
		if !in.any {
			delta-- // the first may be zero
			in.any = true
		}
		if delta >= 1<<prefixBits-in.last {
			return nil, errBadIDs
		}
		if in.last += delta; !fn(in.last) {
			return nil, nil
		}
	}
	in.sum = crc32.Update(in.sum, castagnoli, data[:at])
	return data[at:], nil
}

// badIDs is errBadIDs for an end that comes too early, and else what went wrong.
func badIDs(err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errBadIDs
	}
	return err
}
