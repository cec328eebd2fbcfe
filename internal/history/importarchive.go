package history

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"furrow/internal/archive"
	"furrow/internal/bus"
	"furrow/internal/event"
)

// importSpan is the stream of the archive's ranges that hold imports.
const importSpan = "import"

// rangeLimits bound a range of an import.
type rangeLimits struct {
	lines, bytes int
	hours        int // each makes a file
}

// importMark says what the archive holds of a source.
type importMark struct {
	Lines  int64        `json:"lines"`
	First  bus.Position `json:"first"` // of the last range
	Digest digest       `json:"digest"`
}

// archiver puts the lines of an import into ranges of the archive. Its positions
// are line numbers. The methods of a nil archiver do nothing.
type archiver struct {
	h         *History
	marks     *job
	mark      importMark
	partition string
	begun     time.Time
	limits    rangeLimits
	tell      Progress

	span   *archive.Range // of what is pending; nil when nothing is
	end    int64          // the line where it was declared to end; 0: nowhere
	first  bus.Position
	lines  []*record
	bytes  int
	hours  map[int64]struct{}
	digest digest // up to the last of lines
}

// newArchiver finds out what the archive holds of the source.
func (h *History) newArchiver(ctx context.Context, spec ImportSpec, marks *job, begun time.Time) (*archiver, error) {
	sum := sha256.Sum256([]byte(spec.Name + "\x00" + strconv.FormatInt(spec.Size, 10)))
	a := &archiver{h: h, marks: marks, partition: hex.EncodeToString(sum[:8]), begun: begun, hours: map[int64]struct{}{}}
	a.limits = h.ranges
	found, err := marks.load(&a.mark)
	if err != nil || !found {
		a.mark = importMark{}
		return a, err
	}
	// The archive may have been deleted, or replaced by an older copy.
	r, err := a.begin(ctx, a.mark.First)
	if err != nil {
		return nil, err
	}
	defer r.Abort()
	if end, ok := r.Intended(); !ok || end != position(a.mark.Lines) {
		h.opts.Log.Info("the archive does not hold what was imported before, it is archived anew", "source", spec.Name)
		a.mark = importMark{}
	}
	return a, nil
}

// position is a line number as positions are: they compare as strings.
func position(line int64) bus.Position { return bus.Position(fmt.Sprintf("%012d", line)) }

func (a *archiver) begin(ctx context.Context, first bus.Position) (r *archive.Range, err error) {
	err = a.h.persist(ctx, "begin a range of the archive", func(ctx context.Context) (err error) {
		r, err = a.h.opts.Archive.Begin(ctx, importSpan, a.partition, first)
		return err
	})
	return r, err
}

// has says whether the archive holds the line already.
func (a *archiver) has(line int64, d digest) (bool, error) {
	if a == nil {
		return true, nil
	}
	if line == a.mark.Lines && d != a.mark.Digest {
		return false, errOtherSource
	}
	return line <= a.mark.Lines, nil
}

// expects says whether the archive holds more lines than there are.
func (a *archiver) expects(lines int64) bool { return a != nil && lines < a.mark.Lines }

// forget drops the mark, so that the source is archived anew.
func (a *archiver) forget() error {
	if a == nil {
		return nil
	}
	return a.marks.drop()
}

// add takes the next line and commits the range where it ends.
func (a *archiver) add(ctx context.Context, l *record, d digest) error {
	if a.span == nil {
		a.first = position(l.number)
		if err := a.open(ctx); err != nil {
			return err
		}
	}
	a.lines = append(a.lines, l)
	a.bytes += len(l.line)
	a.hours[l.hour()] = struct{}{}
	a.digest = d
	full := l.number >= a.end
	if a.end == 0 {
		full = len(a.lines) >= a.limits.lines || a.bytes >= a.limits.bytes || len(a.hours) >= a.limits.hours
	}
	if !full {
		return nil
	}
	return a.commit(ctx)
}

func (l *record) hour() int64 { return l.at.Unix() / 3600 }

func (a *archiver) open(ctx context.Context) error {
	r, err := a.begin(ctx, a.first)
	if err != nil {
		return err
	}
	a.span, a.end = r, 0
	if end, ok := r.Intended(); ok {
		if a.end, err = strconv.ParseInt(string(end), 10, 64); err != nil {
			return fmt.Errorf("a range of the archive was declared to end at %q, which is no line", end)
		}
	}
	return nil
}

// rangeAttempts is how often a range is begun again.
const rangeAttempts = 3

// commit makes durable what is pending, if anything is.
func (a *archiver) commit(ctx context.Context) error {
	if a == nil || a.span == nil {
		return nil
	}
	if err := a.h.room(ctx, InArchive, a.tell); err != nil {
		return err
	}
	last := a.lines[len(a.lines)-1].number
	// The first line comes first whatever its hour: it tells ranges of two sources
	// apart. The others are sorted, so that few files are open at a time.
	slices.SortStableFunc(a.lines[1:], func(x, y *record) int { return int(x.hour() - y.hour()) })
	for attempt := 1; ; attempt++ {
		err := a.write(ctx, last)
		if err == nil {
			break
		}
		a.stop()
		if !again(err) || attempt == rangeAttempts {
			return err
		}
		if err := a.open(ctx); err != nil {
			return err
		}
	}
	a.span = nil
	a.mark = importMark{Lines: last, First: a.first, Digest: a.digest}
	clear(a.lines)
	clear(a.hours)
	a.lines, a.bytes = a.lines[:0], 0
	return a.marks.save(a.mark)
}

// again says that a range is to be begun again.
func again(err error) bool {
	return errors.Is(err, archive.ErrBroken) || errors.Is(err, archive.ErrTaken)
}

func (a *archiver) write(ctx context.Context, last int64) error {
	for i, l := range a.lines {
		e, bad := a.h.readRecord(l, a.begun)
		if e == nil && bad == nil && i > 0 {
			continue
		}
		// A forgotten line at the start still tells whose range this is.
		entry := archive.Entry{Record: []byte(l.line), ID: l.id, Time: l.at, NoRaw: true}
		if e != nil {
			entry.Events = []*event.Event{e}
		}
		if bad != nil {
			entry.Bad = []event.BadRow{*bad}
		}
		if err := a.span.Add(entry); err != nil {
			return err
		}
	}
	return a.h.persist(ctx, "commit a range of the archive", func(ctx context.Context) error {
		return a.span.Commit(ctx, position(last))
	})
}

// stop gives up what is pending.
func (a *archiver) stop() {
	if a != nil && a.span != nil {
		a.span.Abort()
		a.span = nil
	}
}
