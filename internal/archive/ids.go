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

// idsReader reads a list of ids from its start to its end.
type idsReader struct {
	buf  *bufio.Reader
	last uint64
	sum  uint32
	any  bool
}

func newIDsReader(r io.Reader) (*idsReader, error) {
	in := &idsReader{buf: bufio.NewReaderSize(r, 64<<10)}
	var magic [len(idsMagic)]byte
	if _, err := io.ReadFull(in.buf, magic[:]); err != nil || string(magic[:]) != idsMagic {
		return nil, errBadIDs
	}
	in.sum = crc32.Update(0, castagnoli, magic[:])
	return in, nil
}

// next returns the next prefix, and false at the end of a list that is whole.
func (in *idsReader) next() (uint64, bool, error) {
	var b [binary.MaxVarintLen64]byte
	n := 0
	for {
		c, err := in.buf.ReadByte()
		if err != nil || n == len(b) {
			return 0, false, errBadIDs
		}
		b[n] = c
		n++
		if c < 0x80 {
			break
		}
	}
	in.sum = crc32.Update(in.sum, castagnoli, b[:n])
	delta, _ := binary.Uvarint(b[:n])
	if delta == 0 {
		var sum [4]byte
		if _, err := io.ReadFull(in.buf, sum[:]); err != nil || binary.BigEndian.Uint32(sum[:]) != in.sum {
			return 0, false, errBadIDs
		}
		return 0, false, nil
	}
	if !in.any {
		delta-- // the first may be zero
	}
	in.any = true
	if delta >= 1<<prefixBits-in.last {
		return 0, false, errBadIDs
	}
	in.last += delta
	return in.last, true, nil
}
