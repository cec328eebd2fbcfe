package archive

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
)

const (
	foreseenHours = 2048 // hours of one backlog
	hourBits      = 64 - prefixBits
)

// errFull: there is no room for more.
var errFull = errors.New("archive: no room for more ids")

// backlog spares hours that are merged one after the other from reading the lists
// of ids of all other hours each for itself: it takes the ids of as many of them as
// its memory holds, and goes through the lists once. What it tells are guesses as
// those of a list are: files decide. What it does not know, such as an hour that
// changed since or a list that came, is looked up as if there were no backlog.
type backlog struct {
	archive *Archive
	hours   map[hour]*foreseen
	read    map[string]bitmap    // lists: numbers of the hours that may share ids with them
	made    map[string]*foreseen // lists that these hours got since

	ids []uint64 // prefix and number of the hour, sorted; while lists are read
}

// foreseen is an hour of a backlog.
type foreseen struct {
	number    int64
	committed int      // the generation that stood there
	inputs    []string // of events
	lists     []string // of what was merged before
	shared    bitmap   // numbers of the hours with which it may share ids
}

// foresee makes the backlog of the first of some hours. What goes wrong only makes
// it know less: the merge meets the same trouble, and says so.
func (a *Archive) foresee(ctx context.Context, due []hour) *backlog {
	b := &backlog{archive: a, hours: make(map[hour]*foreseen), read: make(map[string]bitmap), made: make(map[string]*foreseen)}
	if len(due) < 2 {
		return b
	}
	decisions, err := a.allDecisions(ctx)
	if err != nil {
		return b
	}
	for _, h := range due[:min(len(due), foreseenHours)] {
		if !b.gather(ctx, h, listsOf(decisions[h])) {
			break
		}
	}
	if len(b.hours) < 2 {
		return &backlog{}
	}
	hours := slices.Sorted(maps.Keys(b.hours))
	first, last := hours[0]-a.window(), hours[len(hours)-1]+a.window()
	slices.Sort(b.ids)
	b.ids = slices.Compact(b.ids)
	b.share()
	buf := make([]byte, idsBuffer)
	for h, records := range decisions {
		if h < first || h > last {
			continue
		}
		for _, name := range listsOf(records) {
			b.look(ctx, name, buf)
		}
	}
	b.ids = nil
	return b
}

// gather takes the ids of an hour. It answers false when there is no more to take.
func (b *backlog) gather(ctx context.Context, h hour, lists []string) bool {
	room := b.archive.cfg.MemoryBytes / 4 / 8
	if n := b.archive.gens.idsAtOnce; n > 0 {
		room = n
	}
	all, err := b.archive.files(ctx, h, eventSet)
	if err != nil {
		return ctx.Err() == nil
	}
	inputs, _ := b.archive.toMerge(all.live[eventSet])
	f := &foreseen{number: int64(len(b.hours)), committed: all.state.committed, inputs: namesOf(inputs), lists: lists}
	before := len(b.ids)
	for _, file := range inputs {
		err := b.archive.eachID(ctx, file, func(_ int64, key idKey, _ uint64) error {
			if int64(len(b.ids)) >= room {
				return errFull
			}
			b.ids = append(b.ids, key.prefix()<<hourBits|uint64(f.number)) //nolint:gosec // of 2048
			return nil
		})
		if err != nil {
			b.ids = b.ids[:before]
			return !errors.Is(err, errFull) && ctx.Err() == nil
		}
	}
	b.hours[h] = f
	return true
}

func namesOf(files []liveFile) []string {
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = fmt.Sprint(f.name, " ", f.size)
	}
	return names
}

// share finds the hours that share ids with each other.
func (b *backlog) share() {
	shared := make([]bitmap, len(b.hours))
	run := make(bitmap, foreseenHours/64)
	for ids := b.ids; len(ids) > 0; {
		n := 1
		for n < len(ids) && ids[n]>>hourBits == ids[0]>>hourBits {
			n++
		}
		if n > 1 {
			clear(run)
			for _, id := range ids[:n] {
				run.set(numberOf(id))
			}
			for _, id := range ids[:n] {
				shared[numberOf(id)].add(run)
			}
		}
		ids = ids[n:]
	}
	for _, f := range b.hours {
		f.shared = shared[f.number]
	}
}

func numberOf(id uint64) int64 { return int64(id & (1<<hourBits - 1)) }

// look goes through a list. One that cannot be read is looked up when it matters.
func (b *backlog) look(ctx context.Context, name string, buf []byte) {
	var hits bitmap
	ids := b.ids
	err := b.archive.eachListed(ctx, name, buf, func(prefix uint64) bool {
		// As far ahead as it takes: a list may be much longer than ids, or shorter.
		step := 1
		for step < len(ids) && ids[step]>>hourBits < prefix {
			step *= 2
		}
		ids = ids[step/2:]
		ids = ids[sort.Search(min(step, len(ids)), func(i int) bool { return ids[i]>>hourBits >= prefix }):]
		for _, id := range ids {
			if id>>hourBits != prefix {
				break
			}
			hits.set(numberOf(id))
		}
		return len(ids) > 0
	})
	if err == nil {
		b.read[name] = hits
	}
}

// current forgets what is known of an hour that is not as it was.
func (b *backlog) current(before *hourFiles, inputs []liveFile) {
	h := before.state.hour
	if f := b.hours[h]; f != nil && (f.committed != before.state.committed || !slices.Equal(f.inputs, namesOf(inputs))) {
		delete(b.hours, h)
	}
}

// merged notes the list that an hour got: of what was listed before, and its inputs.
func (b *backlog) merged(h hour, list string) {
	if f := b.hours[h]; f != nil {
		b.made[list] = f
		return
	}
	delete(b.read, list) // an hour that was deleted counts from 1 again
}

// mayShare reports whether what an hour merges may share ids with a list, and
// whether that is known.
func (b *backlog) mayShare(h hour, list string) (may, known bool) {
	f := b.hours[h]
	if f == nil {
		return false, false
	}
	lists := []string{list}
	if other := b.made[list]; other != nil {
		if other.shared.has(f.number) {
			return true, true
		}
		lists = other.lists
	}
	for _, name := range lists {
		hits, known := b.read[name]
		if !known || hits.has(f.number) {
			return known, known
		}
	}
	return false, true
}
