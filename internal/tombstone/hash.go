package tombstone

import (
	"encoding/hex"
	"fmt"
)

// MarshalText writes 64 lower-case hex digits.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText reads 64 hex digits.
func (h *Hash) UnmarshalText(text []byte) error {
	if hex.DecodedLen(len(text)) != len(h) {
		return fmt.Errorf("tombstone: a hash has 64 hex digits, %q has %d", text, len(text))
	}
	_, err := hex.Decode(h[:], text)
	return err
}
