package archive

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"furrow/internal/tombstone"
)

const forgottenFolder = "_forgotten"

// Buried returns the tombstones that were applied to this archive, ordered by key,
// hash and time.
func (a *Archive) Buried(ctx context.Context) ([]tombstone.Tombstone, error) {
	var names []string
	err := a.place.list(ctx, forgottenFolder+"/", func(name string, _ int64) error {
		names = append(names, name)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("archive: list %s: %w", forgottenFolder, err)
	}
	var all []tombstone.Tombstone
	for _, name := range names {
		data, err := a.readSmall(ctx, name)
		if err != nil {
			return nil, err
		}
		var some []tombstone.Tombstone
		if err := json.Unmarshal(data, &some); err != nil {
			// Torn: it was never said to be stored, and its people are forgotten again.
			a.log.Warn("torn list of tombstones is ignored", "name", name, "error", err)
			continue
		}
		all = append(all, some...)
	}
	slices.SortFunc(all, compareStones)
	return slices.CompactFunc(all, func(x, y tombstone.Tombstone) bool { return compareStones(x, y) == 0 }), nil
}

// Bury notes that tombstones were applied. Known ones are left alone.
func (a *Archive) Bury(ctx context.Context, stones []tombstone.Tombstone) error {
	known, err := a.Buried(ctx)
	if err != nil {
		return err
	}
	var fresh []tombstone.Tombstone
	for _, s := range stones {
		s.Until = s.Until.UTC()
		if _, ok := slices.BinarySearchFunc(known, s, compareStones); !ok {
			fresh = append(fresh, s)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	slices.SortFunc(fresh, compareStones)
	data, err := json.Marshal(fresh)
	if err != nil {
		return fmt.Errorf("archive: tombstones: %w", err)
	}
	// The content names the object: who writes it again writes the same.
	sum := sha256.Sum256(data)
	name := forgottenFolder + "/" + hex.EncodeToString(sum[:16]) + ".json"
	created, err := a.place.create(ctx, name, data)
	if err != nil {
		return fmt.Errorf("archive: %s: %w", name, err)
	}
	if created {
		return nil
	}
	// A torn one stands there, since what it holds is not known.
	local, err := writeTemp(a.tmp, data)
	if err != nil {
		return fmt.Errorf("archive: %s: %w", name, err)
	}
	if err := a.place.put(ctx, local, name); err != nil {
		return fmt.Errorf("archive: %s: %w", name, err)
	}
	return nil
}

func compareStones(x, y tombstone.Tombstone) int {
	return cmp.Or(slices.Compare(x.Key[:], y.Key[:]), slices.Compare(x.Hash[:], y.Hash[:]), x.Until.Compare(y.Until))
}
