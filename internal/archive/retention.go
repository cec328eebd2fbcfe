package archive

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// keepIntents is how many of the newest intents of a partition are kept. Only
// the newest matters while positions are acknowledged in order; the others are
// for a partition that is set back.
const keepIntents = 4096

// Prune deletes the oldest hours, whole, that retention and maxBytes do not keep,
// and intents that no longer matter. The newest hour always stays. Call it about
// once a minute.
func (a *Archive) Prune(ctx context.Context, now time.Time) error {
	if err := a.tend(ctx, now); err != nil {
		return err
	}
	for _, h := range a.surplus(now) {
		if err := a.removeHour(ctx, h); err != nil {
			return err
		}
	}
	return a.pruneIntents(ctx)
}

// surplus returns the hours to delete, oldest first.
func (a *Archive) surplus(now time.Time) []hour {
	a.mu.Lock()
	defer a.mu.Unlock()
	total := int64(0)
	for _, s := range a.hours.totals() {
		total += s.bytes
	}
	var old []hour
	hours := a.hours.sorted()
	for i, h := range hours {
		expired := a.cfg.Retention > 0 && now.Sub(h.time().Add(time.Hour)) > a.cfg.Retention
		tooMuch := a.cfg.MaxBytes > 0 && total > a.cfg.MaxBytes
		if !expired && !tooMuch || i == len(hours)-1 {
			break
		}
		old = append(old, h)
		for _, s := range a.hours[h] {
			total -= s.bytes
		}
	}
	return old
}

func (a *Archive) removeHour(ctx context.Context, h hour) error {
	release, err := a.gens.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	a.placing.Lock()
	defer a.placing.Unlock()
	for d := range numDatasets {
		if err := a.place.remove(ctx, h.folder(d)); err != nil {
			return fmt.Errorf("archive: delete %s: %w", h.folder(d), err)
		}
	}
	// Last: while files are left it says which of them count.
	if err := a.place.remove(ctx, h.decisions()); err != nil {
		return fmt.Errorf("archive: delete %s: %w", h.decisions(), err)
	}
	a.gens.done(h)
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.hours, h)
	a.metrics.pruned.Inc()
	a.publishSizes()
	a.log.Info("archive hour deleted by retention", "hour", h.time())
	return nil
}

// pruneIntents deletes all but the newest intents of every partition, now and
// then: listing them is not free.
func (a *Archive) pruneIntents(ctx context.Context) error {
	a.mu.Lock()
	due := a.declared >= a.intentsEvery
	if due {
		a.declared = 0
	}
	a.mu.Unlock()
	if !due {
		return nil
	}
	intents := make(map[string][]string)
	err := a.place.list(ctx, rangesFolder+"/", func(name string, _ int64) error {
		if strings.Count(name, "/") == 3 {
			intents[path.Dir(name)] = append(intents[path.Dir(name)], path.Base(name))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("archive: list intents: %w", err)
	}
	for folder, names := range intents {
		slices.Sort(names)
		for _, name := range names[:max(0, len(names)-a.keepIntents)] {
			if err := a.place.remove(ctx, path.Join(folder, name)); err != nil {
				return fmt.Errorf("archive: delete intent %s: %w", name, err)
			}
		}
	}
	return nil
}
