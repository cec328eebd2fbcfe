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
	if err := r.settle(ctx, files); err != nil {
		return nil, err
	}
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
	if err := r.skipDead(ctx, files); err != nil {
		return err
	}
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
	m.conflicts.WithLabelValues("range").Add(float64(r.conflicts))
	m.unfit.Add(float64(r.filler.unfit))
	a.mu.Lock()
	a.lastCommit = a.now()
	a.doubles += r.doubles
	a.conflicts += r.conflicts
	a.declared++
	for _, f := range files {
		m.rows.WithLabelValues(f.set.String()).Add(float64(f.rows))
		m.written.WithLabelValues(f.set.String()).Add(float64(f.bytes))
		a.rows[f.set] += f.rows
		a.written[f.set] += f.bytes
		a.gens.late(f.hour)
	}
	a.mu.Unlock()
	a.book(ctx, r, files, r.before.Files, existed)
}

// settle gives a file another name that an earlier, forgotten range of the same
// first position had, if that one was replaced since: the name counts no more. It
// does nothing once the range is declared.
func (r *Range) settle(ctx context.Context, files []*finished) error {
	dead, err := r.deadFiles(ctx, files)
	if err != nil {
		return err
	}
	for _, f := range files {
		for part := maxRangeFiles; dead[f.name] && !r.declares(f.name); part += maxRangeFiles {
			base, n := splitPart(f.name)
			f.name = fmt.Sprintf("%s-%d%s", base, n+part, fileSuffix)
		}
	}
	return nil
}

// skipDead takes those files as placed that were replaced by a generation: an
// earlier owner had placed them, and their rows are in what replaced them.
func (r *Range) skipDead(ctx context.Context, files []*finished) error {
	dead, err := r.deadFiles(ctx, files)
	if err != nil {
		return err
	}
	for _, f := range files {
		if dead[f.name] && r.declares(f.name) {
			f.placed = true
		}
	}
	return nil
}

func (r *Range) declares(name string) bool {
	return r.before != nil && slices.ContainsFunc(r.before.Files, func(f intentFile) bool { return f.Name == name })
}

// deadFiles returns the names that were replaced in the hours of some files.
func (r *Range) deadFiles(ctx context.Context, files []*finished) (map[string]bool, error) {
	dead := make(map[string]bool)
	known := make(map[hour]bool)
	for _, f := range files {
		if known[f.hour] {
			continue
		}
		known[f.hour] = true
		state, err := r.archive.readDecisions(ctx, f.hour)
		if err != nil {
			return nil, err
		}
		for d := range numDatasets {
			for name := range state.dead[d] {
				dead[f.hour.folder(d)+name] = true
			}
		}
	}
	return dead, nil
}

// touch notes an hour that gets a file.
func (r *Range) touch(h hour) {
	r.archive.mu.Lock()
	defer r.archive.mu.Unlock()
	r.touched[h] = struct{}{}
}

func (r *Range) touchFiles(files []intentFile) {
	for _, f := range files {
		if _, h, ok := parseName(f.Name); ok {
			r.touch(h)
		}
	}
}
