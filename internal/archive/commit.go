package archive

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"furrow/internal/bus"
)

const maxIntentBytes = 1 << 20

// Commit makes the range durable up to and including the position last: it
// finishes the files, declares the range, and places the files. When it returns
// nil the positions may be acknowledged, and the range is closed. After an error
// it may be called again with the same position, except that ErrBroken and
// ErrTaken ask for Abort. A range without a record leaves nothing behind.
func (r *Range) Commit(ctx context.Context, last bus.Position) error {
	if r.broken != nil || r.closed {
		return r.unusable()
	}
	if !safeName(string(last)) || last < r.first {
		return fmt.Errorf("archive: range of %s/%s at %s cannot end at %q", r.stream, r.partition, r.first, last)
	}
	if r.raw == nil {
		r.close()
		return nil
	}
	if want, ok := r.Intended(); ok && want != last {
		return fmt.Errorf("archive: range of %s/%s at %s was declared to end at %s, not at %s", r.stream, r.partition, r.first, want, last)
	}
	began := r.archive.now()
	if err := r.seal(); err != nil {
		return err
	}
	resumed := r.before != nil
	files := r.files()
	stale, err := r.declare(ctx, last, files)
	if err != nil {
		return err
	}
	if err := r.place(ctx, files, stale); err != nil {
		return err
	}
	r.archive.committed(ctx, r, files, resumed || r.replace, r.archive.now().Sub(began))
	r.close()
	return nil
}

// seal finishes the files. A failure cannot be repaired: what the operating
// system kept of a failed write or sync is unknown.
func (r *Range) seal() error {
	if r.sealed {
		return nil
	}
	for _, finish := range []func() error{r.raw.finishAll, r.events.finishAll, r.bad.finishAll} {
		if err := finish(); err != nil {
			return r.fail(err)
		}
	}
	r.sealed = true
	return nil
}

// files returns all finished files of the range.
func (r *Range) files() []*finished {
	var all []*finished
	for _, done := range [][]finished{r.raw.done, r.events.done, r.bad.done} {
		for i := range done {
			all = append(all, &done[i])
		}
	}
	return all
}

// declare makes the intent durable. It returns the names that an earlier owner
// declared and this one does not write: enrichment may have changed since.
func (r *Range) declare(ctx context.Context, last bus.Position, files []*finished) ([]string, error) {
	in := &intent{Format: formatVersion, Last: last, Record: r.record.String(), Doubles: r.doubles}
	for _, f := range files {
		in.Files = append(in.Files, intentFile{Name: f.name, Rows: f.rows})
	}
	name := intentName(r.stream, r.partition, r.first)
	if r.before == nil && !r.replace {
		data, err := in.encode()
		if err != nil {
			return nil, fmt.Errorf("archive: intent %s: %w", name, err)
		}
		created, err := r.archive.place.create(ctx, name, data)
		if err != nil {
			return nil, fmt.Errorf("archive: intent %s: %w", name, err)
		}
		if created {
			r.before = in
			return nil, nil
		}
		if err := r.meet(ctx, in); err != nil {
			return nil, err
		}
	}
	return r.redeclare(ctx, name, in)
}

// meet handles an intent that appeared after Begin.
func (r *Range) meet(ctx context.Context, ours *intent) error {
	other, err := r.readIntent(ctx)
	if err != nil {
		return err
	}
	if other != nil && (other.Last != ours.Last || other.Record != ours.Record) {
		return fmt.Errorf("%w: %s/%s from %s to %s", ErrTaken, r.stream, r.partition, r.first, other.Last)
	}
	r.before = other
	return nil
}

// redeclare writes the intent over the one that is there, unless it already names
// all our files. Names of the earlier owner stay in it, so that whoever comes
// after a crash knows them too.
func (r *Range) redeclare(ctx context.Context, name string, in *intent) ([]string, error) {
	var stale []string
	if r.before != nil {
		ours := in.Files
		for _, f := range r.before.Files {
			if !slices.ContainsFunc(ours, func(o intentFile) bool { return o.Name == f.Name }) {
				stale = append(stale, f.Name)
				in.Files = append(in.Files, intentFile{Name: f.Name})
			}
		}
		if len(in.Files) == len(r.before.Files) {
			return stale, nil
		}
	}
	data, err := in.encode()
	if err != nil {
		return nil, fmt.Errorf("archive: intent %s: %w", name, err)
	}
	local, err := writeTemp(r.folder, data)
	if err != nil {
		return nil, fmt.Errorf("archive: intent %s: %w", name, err)
	}
	if err := r.archive.place.put(ctx, local, name); err != nil {
		return nil, fmt.Errorf("archive: intent %s: %w", name, err)
	}
	r.before = in
	return stale, nil
}

// place moves the files to their names and removes those of an earlier owner that
// this one does not have.
func (r *Range) place(ctx context.Context, files []*finished, stale []string) error {
	a := r.archive
	a.placing.RLock()
	defer a.placing.RUnlock()
	for _, f := range files {
		if f.placed {
			continue
		}
		if err := a.place.put(ctx, f.local, f.name); err != nil {
			if _, gone := os.Stat(f.local); gone != nil {
				return r.fail(err)
			}
			return fmt.Errorf("archive: place %s: %w", f.name, err)
		}
		f.placed = true
	}
	for _, name := range stale {
		if err := a.place.remove(ctx, name); err != nil {
			return fmt.Errorf("archive: remove %s: %w", name, err)
		}
	}
	return nil
}

// committed counts a range that is in place.
func (a *Archive) committed(ctx context.Context, r *Range, files []*finished, existed bool, took time.Duration) {
	m := a.metrics
	result := "committed"
	if existed {
		result = "resumed"
	}
	m.ranges.WithLabelValues(result).Inc()
	m.commits.Observe(took.Seconds())
	m.lastCommit.Set(float64(a.now().UnixMilli()) / 1000)
	m.doubles.Add(float64(r.doubles))
	m.unfit.Add(float64(r.filler.unfit))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lastCommit = a.now()
	a.doubles += r.doubles
	a.declared++
	for _, f := range files {
		m.rows.WithLabelValues(f.set.String()).Add(float64(f.rows))
		m.written.WithLabelValues(f.set.String()).Add(float64(f.bytes))
		a.rows[f.set] += f.rows
		a.written[f.set] += f.bytes
		if !existed {
			a.hours.add(f.hour, f.set, 1, f.bytes)
		}
	}
	if existed {
		a.recount(ctx, files, r.before.Files)
	}
	a.publishSizes()
}
