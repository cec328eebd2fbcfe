package history

import (
	"context"
	"errors"
	"time"

	"furrow/internal/archive"
	"furrow/internal/event"
)

// errEnough ends a read of the archive that found what it looked for.
var errEnough = errors.New("enough")

// hours calls fn for the hours of [from, to), oldest first, with the bounds of the
// part that is asked for. A zero time is no bound. fn says whether there was
// anything in it; stretches of the calendar without records are skipped.
func (h *History) hours(ctx context.Context, from, to time.Time, fn func(from, to time.Time) (found bool, err error)) error {
	status := h.opts.Archive.Status()
	if status.OldestHour.IsZero() {
		return nil
	}
	at, end := from, to
	if at.Before(status.OldestHour) {
		at = status.OldestHour
	}
	if after := status.NewestHour.Add(time.Hour); end.IsZero() || end.After(after) {
		end = after
	}
	for at.Before(end) {
		next := at.Truncate(time.Hour).Add(time.Hour)
		lower, upper := at, next
		// Clocks that were set far wrong: their records lie in the first or last hour.
		if at.Equal(status.OldestHour) && !from.Equal(at) {
			lower = from
		}
		switch {
		case next.Before(end):
		case to.IsZero():
			upper = time.Time{}
		default:
			upper = to
		}
		found, err := fn(lower, upper)
		if err != nil {
			return err
		}
		if !found && next.Before(end) {
			if next, err = h.occupied(ctx, next, end, status.NewestHour); err != nil {
				return err
			}
		}
		at = next
	}
	return ctx.Err()
}

// within is the upper bound of a read that touches no file of the hour that begins
// at to: times are whole microseconds.
func within(to time.Time) time.Time {
	if to.IsZero() {
		return to
	}
	return to.Add(-time.Nanosecond)
}

// occupied returns the first hour at or after from that holds anything, to when
// there is none.
func (h *History) occupied(ctx context.Context, from, to, newest time.Time) (time.Time, error) {
	first := to
	note := func(at time.Time) error {
		if at = at.Truncate(time.Hour); at.After(newest) {
			at = newest
		}
		if at.Before(first) {
			first = at
		}
		return errEnough
	}
	a := h.opts.Archive
	for _, probe := range []func() error{
		func() error {
			return a.ReadRaw(ctx, from, time.Time{}, func(row archive.RawRow) error { return note(row.Time) })
		},
		func() error {
			return a.ReadImported(ctx, from, within(first), func(e *event.Event) error { return note(e.Time(event.CollectorTstamp)) })
		},
		func() error {
			return a.ReadBad(ctx, from, within(first), func(b event.BadRow) error { return note(b.Time) })
		},
	} {
		if err := probe(); err != nil && !errors.Is(err, errEnough) {
			return to, err
		}
	}
	return first, nil
}

// maxIDs bounds an idSet.
const maxIDs = 1 << 20

// idSet remembers identifiers by sixteen bytes of their hash, up to a bound; what
// comes later counts as new.
type idSet map[[16]byte]struct{}

// add says whether the identifier is new.
func (s idSet) add(id event.RecordID) bool {
	key := [16]byte(id[:16])
	if _, ok := s[key]; ok {
		return false
	}
	if len(s) < maxIDs {
		s[key] = struct{}{}
	}
	return true
}

// addText is add for an identifier that is a text.
func (s idSet) addText(id string) bool { return s.add(event.NewRecordID([]byte(id))) }
