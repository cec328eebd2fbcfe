package event

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// RecordID identifies a record on the bus: the SHA-256 of its exact bytes.
type RecordID [sha256.Size]byte

// NewRecordID returns the identifier of a record.
func NewRecordID(record []byte) RecordID { return sha256.Sum256(record) }

// String returns the identifier in lower-case hex.
func (r RecordID) String() string { return hex.EncodeToString(r[:]) }

// DeriveEventID returns the v4-shaped UUID of an event that came without one:
// the same for every consumer and every replay.
func DeriveEventID(record RecordID, index int) string { return derive("event", record, index) }

// BadRowID returns the v4-shaped UUID of the bad row that a record, or one event
// in it, gives.
func BadRowID(record RecordID, index int) string { return derive("bad", record, index) }

// derive hashes with a purpose in front, so that an event and its bad row never
// share an identifier.
func derive(purpose string, record RecordID, index int) string {
	buf := make([]byte, 0, 64)
	buf = append(buf, purpose...)
	buf = append(buf, 0)
	buf = append(buf, record[:]...)
	buf = binary.BigEndian.AppendUint64(buf, uint64(int64(index))) //nolint:gosec // two's complement on purpose
	sum := sha256.Sum256(buf)
	sum[6] = sum[6]&0x0f | 0x40
	sum[8] = sum[8]&0x3f | 0x80
	var text [36]byte
	hex.Encode(text[:8], sum[:4])
	hex.Encode(text[9:13], sum[4:6])
	hex.Encode(text[14:18], sum[6:8])
	hex.Encode(text[19:23], sum[8:10])
	hex.Encode(text[24:], sum[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}
