package archive

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"time"
)

// recountLimit is for listing a folder whose figures are to be mended.
const recountLimit = 30 * time.Second

// stock is what one dataset holds.
type stock struct {
	files int64
	bytes int64
}

// inventory knows the files at rest by hour.
type inventory map[hour]*[numDatasets]stock

func (v inventory) add(h hour, d dataset, files, bytes int64) {
	at := v[h]
	if at == nil {
		at = new([numDatasets]stock)
		v[h] = at
	}
	at[d].files += files
	at[d].bytes += bytes
}

func (v inventory) sorted() []hour { return slices.Sorted(maps.Keys(v)) }

func (v inventory) totals() [numDatasets]stock {
	var sum [numDatasets]stock
	for _, at := range v {
		for d := range sum {
			sum[d].files += at[d].files
			sum[d].bytes += at[d].bytes
		}
	}
	return sum
}

// folder is an hour of a dataset.
type folder struct {
	set  dataset
	hour hour
}

// tend does what Prune does first: it takes stock, if that is still to be done, and
// takes back what a crash left half uploaded.
func (a *Archive) tend(ctx context.Context, now time.Time) error {
	if err := a.ensureStock(ctx); err != nil {
		return err
	}
	b, ok := a.place.(*bucket)
	if !ok {
		return nil
	}
	if err := b.sweep(ctx, now); err != nil && ctx.Err() == nil {
		// They cost money and nothing else, and not every server can list them.
		a.log.Warn("unfinished uploads could not be looked for", "error", err)
	}
	return nil
}

// ensureStock takes stock unless that was done. The caller does not hold placing.
func (a *Archive) ensureStock(ctx context.Context) error {
	if a.stockedAt.Load() != 0 {
		return nil
	}
	select {
	case a.stocking <- struct{}{}:
		defer func() { <-a.stocking }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if a.stockedAt.Load() != 0 {
		return nil
	}
	if err := a.takeStock(ctx); err != nil {
		return fmt.Errorf("%w; what the archive holds is not known yet", err)
	}
	return nil
}

// takeStock lists all data files. Ranges may be committed meanwhile: what they
// touch is counted again at the end.
func (a *Archive) takeStock(ctx context.Context) error {
	a.placing.RLock() // no hour is deleted meanwhile
	defer a.placing.RUnlock()
	a.mu.Lock()
	a.touched = make(map[folder]struct{})
	a.mu.Unlock()
	found := make(inventory)
	var err error
	for d := range numDatasets {
		if err = a.countInto(ctx, found, d.String()+"/"); err != nil {
			break
		}
	}
	a.mu.Lock()
	touched := a.touched
	a.touched = nil
	if err == nil {
		a.hours = found
		a.stockedAt.Store(a.now().UnixNano())
	}
	a.mu.Unlock()
	if err != nil {
		return err
	}
	a.recount(ctx, touched)
	return nil
}

// countInto adds the files under a prefix to an inventory.
func (a *Archive) countInto(ctx context.Context, to inventory, prefix string) error {
	err := a.place.list(ctx, prefix, func(name string, size int64) error {
		if d, h, ok := parseName(name); ok && dataFile(name) {
			to.add(h, d, 1, size)
			if !merged(path.Base(name)) {
				a.gens.late(h)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("archive: list %s: %w", prefix, err)
	}
	return nil
}

// book adds the files of a range that is in place. declared are all files it ever
// said to write; existed says that some may have been there before.
func (a *Archive) book(ctx context.Context, r *Range, files []*finished, declared []intentFile, existed bool) {
	folders := make(map[folder]struct{})
	for _, f := range files {
		folders[folder{f.set, f.hour}] = struct{}{}
	}
	for _, f := range declared {
		if d, h, ok := parseName(f.Name); ok {
			folders[folder{d, h}] = struct{}{}
		}
	}
	a.mu.Lock()
	stockedAt := a.stockedAt.Load()
	switch {
	case a.touched != nil: // stock is being taken
		maps.Copy(a.touched, folders)
	case stockedAt == 0 || !existed && r.started.UnixNano() > stockedAt:
		for _, f := range files {
			a.hours.add(f.hour, f.set, 1, f.bytes)
		}
		a.booked++
		a.publishSizes()
	default:
		a.mu.Unlock()
		a.recount(ctx, folders)
		return
	}
	a.mu.Unlock()
}

// recount counts folders again, because some of their files may have been counted
// before. The files are in place; a figure that is off until the next start is no
// reason to fail.
func (a *Archive) recount(ctx context.Context, folders map[folder]struct{}) {
	for f := range folders {
		if err := a.recountFolder(ctx, f); err != nil {
			a.log.Warn("size of an hour is unknown", "folder", f.hour.folder(f.set), "error", err)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.publishSizes()
}

// recountFolder lists without holding up the others, and once more when one of
// them changed the figures meanwhile.
func (a *Archive) recountFolder(ctx context.Context, f folder) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recountLimit)
	defer cancel()
	for try := 1; ; try++ {
		a.mu.Lock()
		before := a.booked
		a.mu.Unlock()
		found := make(inventory)
		if err := a.countInto(ctx, found, f.hour.folder(f.set)); err != nil {
			return err
		}
		a.mu.Lock()
		if a.booked != before && try < 3 {
			a.mu.Unlock()
			continue
		}
		if at := a.hours[f.hour]; at != nil {
			at[f.set] = stock{}
		}
		for h, at := range found {
			a.hours.add(h, f.set, at[f.set].files, at[f.set].bytes)
		}
		if at := a.hours[f.hour]; at != nil && *at == ([numDatasets]stock{}) {
			delete(a.hours, f.hour)
		}
		a.booked++
		a.mu.Unlock()
		return nil
	}
}

// publishSizes updates the gauges. The caller holds a.mu, or is alone.
func (a *Archive) publishSizes() {
	for d, s := range a.hours.totals() {
		name := dataset(d).String()
		a.metrics.bytes.WithLabelValues(name).Set(float64(s.bytes))
		a.metrics.files.WithLabelValues(name).Set(float64(s.files))
	}
}
