package history

import (
	"context"
	"errors"
	"fmt"
	"time"

	"furrow/internal/archive"
	"furrow/internal/store"
	"furrow/internal/tombstone"
)

// probeTimeout bounds how long a store that is away may hold up the start.
const probeTimeout = 10 * time.Second

// ReconcileReport says what Reconcile did.
type ReconcileReport struct {
	Learned  int                `json:"learned"`            // tombstones that a store had and this process did not
	Database *store.Forgotten   `json:"database,omitempty"` // what went; nil when it lacked no tombstone
	Archive  *archive.Forgotten `json:"archive,omitempty"`
	Relearn  bool               `json:"relearn"` // the recommender is to learn anew: call Relearn once it runs
	// Stores that are not clean yet: call Reconcile again.
	Pending []Failure `json:"pending,omitempty"`
}

// Reconcile brings the tombstones of this process and of its stores together, and
// cleans a store that lacks some: because a forgetting ended early, or because the
// store was restored from a backup. It is for the start, before consumers run, and
// again while something is pending. A store that is away is pending, no error; what
// was learned from the other is in force. Cleaning a store that was restored takes
// as long as reading it.
func (h *History) Reconcile(ctx context.Context) (ReconcileReport, error) {
	var report ReconcileReport
	if h.opts.Tombstones == nil {
		return report, errors.New("history: this process keeps no tombstones")
	}
	job, err := h.beginForgetting()
	if err != nil {
		return report, err
	}
	defer job.end()
	learned, away, err := h.learn(ctx)
	report.Learned = learned
	if err != nil {
		return report, err
	}
	var state forgetState
	if _, err := job.load(&state); err != nil {
		return report, err
	}
	if learned > 0 && h.opts.Rebuild != nil && !state.Relearn {
		state.Relearn = true // it may come from before them
		if err := job.save(state); err != nil {
			return report, err
		}
	}
	report.Relearn = state.Relearn && h.opts.Rebuild != nil
	s := &sweep{h: h, away: away, settle: true}
	report.Database, report.Archive, report.Pending = s.stores(ctx)
	return report, ctx.Err()
}

// know learns the tombstones of the stores before an operation brings back what was
// collected earlier: what it stored without them would never be taken out, for the
// store notes them as applied.
func (h *History) know(ctx context.Context) error {
	h.mu.Lock()
	knows := h.knows
	h.mu.Unlock()
	if knows || h.opts.Tombstones == nil {
		return nil
	}
	_, away, err := h.learn(ctx)
	if err != nil {
		return err
	}
	for where, err := range away {
		return fmt.Errorf("the %s does not tell who is forgotten: %w; run it again when it answers", where, err)
	}
	h.mu.Lock()
	h.knows = true
	h.mu.Unlock()
	return nil
}

// learn takes over the tombstones that the stores have. It returns how many were
// new, and which stores are away.
func (h *History) learn(ctx context.Context) (int, map[string]error, error) {
	away := map[string]error{}
	var known []tombstone.Tombstone
	probe := func(where string, in graveyard) {
		ctx, cancel := context.WithTimeout(ctx, probeTimeout)
		defer cancel()
		buried, err := in.Buried(ctx)
		if err != nil {
			away[where] = err
			return
		}
		known = append(known, buried...)
	}
	if h.opts.Database != nil {
		probe(InDatabase, h.opts.Database)
	}
	if h.opts.Cleaner != nil {
		probe(InArchive, h.opts.Cleaner)
	}
	unknown := missingFrom(known, h.opts.Tombstones.All())
	if len(unknown) == 0 {
		return 0, away, nil
	}
	return len(unknown), away, h.opts.Tombstones.Merge(unknown)
}
