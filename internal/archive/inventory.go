package archive

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

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

// takeStock lists all data files.
func (a *Archive) takeStock(ctx context.Context) error {
	for d := range numDatasets {
		if err := a.count(ctx, d.String()+"/"); err != nil {
			return err
		}
	}
	a.publishSizes()
	return nil
}

func (a *Archive) count(ctx context.Context, prefix string) error {
	err := a.place.list(ctx, prefix, func(name string, size int64) error {
		if d, h, ok := parseName(name); ok && dataFile(name) {
			a.hours.add(h, d, 1, size)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("archive: list %s: %w", prefix, err)
	}
	return nil
}

// recount lists the hours of a resumed range again: some of its files were there
// before. The caller holds a.mu.
func (a *Archive) recount(ctx context.Context, files []*finished, declared []intentFile) {
	type folder struct {
		set  dataset
		hour hour
	}
	touched := make(map[folder]bool)
	for _, f := range files {
		touched[folder{f.set, f.hour}] = true
	}
	for _, f := range declared {
		if d, h, ok := parseName(f.Name); ok {
			touched[folder{d, h}] = true
		}
	}
	for f := range touched {
		if at := a.hours[f.hour]; at != nil {
			at[f.set] = stock{}
		}
		// The files are in place; a figure that is off until the next start is no
		// reason to fail.
		if err := a.count(context.WithoutCancel(ctx), f.hour.folder(f.set)); err != nil {
			a.log.Warn("size of an hour is unknown", "folder", f.hour.folder(f.set), "error", err)
		}
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
