package archive

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"furrow/internal/bus"
	"furrow/internal/event"
)

// Errors that callers branch on.
var (
	// ErrBroken: the range's local files are of no more use. Abort it and feed its
	// positions again to a range that begins at the same one.
	ErrBroken = errors.New("archive: range is broken, abort it and begin again")
	// ErrTaken: another owner declared the range meanwhile with another end. Abort
	// it and begin again at the same position, where Intended tells that end.
	ErrTaken = errors.New("archive: range was declared by another owner, abort it and begin again")
)

const (
	maxRangeRows  = 1 << 20 // bounds the event ids that a range remembers
	maxRangeFiles = 64      // bounds what a replay across many hours leaves behind
	badRowBytes   = 256     // of a bad row, without its failure and record
)

// Entry is one record and what enrichment made of it. Nothing in it may change
// until the range is committed or aborted.
type Entry struct {
	Record []byte
	ID     event.RecordID
	Key    []byte
	Time   time.Time // collector_tstamp, or when it was published if the record cannot be read
	Events []*event.Event
	Bad    []event.BadRow
	NoRaw  bool // the record is no collector payload, so raw/ gets no row: its bad row holds it
}

// Range is the run of positions of one partition that goes into the archive as
// one unit. Its methods are called from one goroutine.
type Range struct {
	archive   *Archive
	stream    string
	partition string
	first     bus.Position
	folder    string // local, for files being written
	started   time.Time

	before    *intent // an earlier owner's, or our own once declared
	replace   bool    // an intent stands there that does not count: torn, or of another bus
	record    event.RecordID
	ids       map[[16]byte]uint64 // with the content's hash
	others    map[string]uint64   // ids that are no UUID
	doubles   int64
	conflicts int64
	filler    eventFiller
	raw       *shelf[rawRow]
	events    *shelf[eventRow]
	bad       *shelf[badRow]
	lastBad   badRun
	touched   map[hour]struct{} // hours that may get files; under Archive.mu
	sealed    bool              // files are finished
	closed    bool
	broken    error

	rows    atomic.Int64 // records, for Status
	bytes   atomic.Int64 // record bytes
	created atomic.Int64 // when the first record came, in Unix nanoseconds; 0: none yet
}

// Begin starts the range at a position: the first one after what was
// acknowledged. One range of a partition is open at a time. It fails when an
// intent cannot be read or when a newer Furrow wrote it.
func (a *Archive) Begin(ctx context.Context, stream, partition string, first bus.Position) (*Range, error) {
	for _, part := range []string{stream, partition, string(first)} {
		if !safeName(part) {
			return nil, fmt.Errorf("archive: %q cannot be part of a file name", part)
		}
	}
	if n := len(stream) + len(partition) + len(first); n > 180 {
		return nil, fmt.Errorf("archive: stream, partition and position have %d characters, a file name holds 180 of them", n)
	}
	r := &Range{
		archive: a, stream: stream, partition: partition, first: first, started: a.now(),
		ids: make(map[[16]byte]uint64), touched: make(map[hour]struct{}),
	}
	var err error
	if r.before, err = r.readIntent(ctx); err != nil {
		return nil, err
	}
	if r.folder, err = os.MkdirTemp(a.tmp, "range-*"); err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	if r.before != nil {
		r.touchFiles(r.before.Files)
	}
	if err := a.enter(r); err != nil {
		os.RemoveAll(r.folder)
		return nil, err
	}
	return r, nil
}

// readIntent returns the intent at the range's first position, nil when there is
// none that counts.
func (r *Range) readIntent(ctx context.Context) (*intent, error) {
	name := intentName(r.stream, r.partition, r.first)
	obj, err := r.archive.place.open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no intent is an answer
	}
	if err != nil {
		return nil, fmt.Errorf("archive: intent %s: %w", name, err)
	}
	defer obj.Close()
	data, err := io.ReadAll(io.NewSectionReader(obj, 0, min(obj.size(), maxIntentBytes)))
	if err != nil {
		return nil, fmt.Errorf("archive: intent %s: %w", name, err)
	}
	in, err := parseIntent(data)
	if errors.Is(err, errNewer) {
		return nil, fmt.Errorf("archive: intent %s: %w", name, err)
	}
	if err != nil {
		r.archive.log.Warn("torn intent is ignored: none of its files was placed", "name", name, "error", err)
		r.replace = true
		return nil, nil //nolint:nilnil // torn means that nothing was declared
	}
	return in, nil
}

// Intended returns the last position of an earlier owner's intent at this first
// position. Then exactly the messages up to that position are to be added, and
// Commit is to name it. Ask again after the first Add: it turns false when the
// first record shows that the intent is of a bus that was since set up anew.
func (r *Range) Intended() (bus.Position, bool) {
	if r.before == nil {
		return "", false
	}
	return r.before.Last, true
}

// Add writes a record and what came of it. After an error the range is broken.
func (r *Range) Add(e Entry) error {
	if r.broken != nil || r.closed || r.sealed {
		return r.unusable()
	}
	if r.raw == nil {
		r.open(e.ID)
	}
	if err := r.add(&e); err != nil {
		return r.fail(err)
	}
	r.rows.Add(1)
	r.bytes.Add(int64(len(e.Record)))
	return nil
}

// open makes the shelves, now that the first record and with it the name of the
// files is known.
func (r *Range) open(record event.RecordID) {
	if r.before != nil && r.before.Record != record.String() {
		r.archive.log.Warn("intent is of another bus: its range is left alone", "stream", r.stream, "partition", r.partition, "first", string(r.first))
		r.before, r.replace = nil, true
	}
	a := r.archive
	r.record = record
	base := rangeName(r.stream, r.partition, string(r.first), record)
	r.raw = newShelf(rawSet, r.folder, base, fillRaw, a.cfg.OpenHours, &a.budget, r.touch)
	r.events = newShelf(eventSet, r.folder, base, r.filler.fill, a.cfg.OpenHours, &a.budget, r.touch)
	r.bad = newShelf(badSet, r.folder, base, fillBad, a.cfg.OpenHours, &a.budget, r.touch)
	r.created.Store(a.now().UnixNano())
}

func (r *Range) add(e *Entry) error {
	at := e.Time.UnixMilli()
	if !e.NoRaw {
		row := rawRow{id: e.ID, ms: at, key: e.Key, record: e.Record}
		if err := r.raw.add(hourOf(e.Time), row, len(e.Record)+len(e.Key)); err != nil {
			return err
		}
	}
	for _, ev := range e.Events {
		if first, there := r.seen(ev.ID(), ev.Content); there {
			if first == 0 || ev.Content == 0 || first == ev.Content {
				r.doubles++
				continue
			}
			if err := r.addBad(conflict(e, ev)); err != nil {
				return err
			}
			r.conflicts++
			continue
		}
		t := e.Time
		if ev.Has(event.CollectorTstamp) {
			t = ev.Time(event.CollectorTstamp)
		}
		// The record's size stands for the event's: it bounds what is gathered.
		if err := r.events.add(hourOf(t), eventRow{ev, at}, len(e.Record)/len(e.Events)); err != nil {
			return err
		}
	}
	for i := range e.Bad {
		if err := r.addBad(e.Bad[i]); err != nil {
			return err
		}
	}
	return nil
}

// badRun says of which record the last bad row was, and in which file it is.
type badRun struct {
	record event.RecordID
	hour   hour
	part   int
}

// addBad writes a bad row. Its record is written, and counted, only when the row
// before it in the same file is of another one, so that every file stands alone.
func (r *Range) addBad(b event.BadRow) error {
	if b.Record == (event.RecordID{}) { // nobody's hash: derived, lest records be mixed up
		b.Record = event.NewRecordID(b.Payload)
	}
	h := hourOf(b.Time)
	run := badRun{b.Record, h, r.bad.parts[h]}
	row := badRow{BadRow: b, first: run != r.lastBad}
	size := len(b.Failure) + badRowBytes
	if row.first {
		size += len(b.Payload)
	} else {
		row.Payload = nil
	}
	if err := r.bad.add(h, row, size); err != nil {
		return err
	}
	r.lastBad = run
	return nil
}

// seen returns the content's hash of the event in the range that has the id, and
// whether there is one; if not it remembers this one.
func (r *Range) seen(id string, content uint64) (uint64, bool) {
	var key [16]byte
	if uuidKey(&key, id) {
		if first, ok := r.ids[key]; ok {
			return first, true
		}
		r.ids[key] = content
		return 0, false
	}
	if first, ok := r.others[id]; ok {
		return first, true
	}
	if r.others == nil {
		r.others = make(map[string]uint64)
	}
	r.others[strings.Clone(id)] = content
	return 0, false
}

// uuidKey decodes a lower-case canonical UUID: 16 bytes to remember in place of 36.
func uuidKey(key *[16]byte, id string) bool {
	if len(id) != 36 || id[8] != '-' || id[13] != '-' || id[18] != '-' || id[23] != '-' {
		return false
	}
	var digits [32]byte
	n := copy(digits[:], id[:8])
	n += copy(digits[n:], id[9:13])
	n += copy(digits[n:], id[14:18])
	n += copy(digits[n:], id[19:23])
	copy(digits[n:], id[24:])
	for _, c := range digits {
		if c >= 'A' && c <= 'F' {
			return false // would share its key with the lower-case id
		}
	}
	_, err := hex.Decode(key[:], digits[:])
	return err == nil
}

// Full reports whether the range should be committed now. It never is while
// Intended tells its end, nor while it is empty.
func (r *Range) Full(now time.Time) bool {
	if _, intended := r.Intended(); intended || r.raw == nil {
		return false
	}
	return r.bytes.Load() >= r.archive.cfg.RollBytes ||
		now.Sub(r.started) >= r.archive.cfg.RollAge ||
		r.raw.rows+r.events.rows+r.bad.rows >= maxRangeRows ||
		len(r.raw.done)+len(r.events.done)+len(r.bad.done) >= maxRangeFiles
}

// Abort drops the range: nothing of it was archived, unless a Commit failed after
// it had declared the range, which the next owner then finishes. It may be called
// at any time, after Commit too.
func (r *Range) Abort() {
	if r.closed {
		return
	}
	r.archive.metrics.ranges.WithLabelValues("aborted").Inc()
	r.close()
}

func (r *Range) close() {
	r.closed = true
	if r.raw != nil {
		r.raw.discard()
		r.events.discard()
		r.bad.discard()
	}
	r.ids, r.others = nil, nil
	os.RemoveAll(r.folder)
	r.archive.leave(r)
}

func (r *Range) fail(err error) error {
	r.broken = fmt.Errorf("%w: %w", ErrBroken, err)
	return r.broken
}

func (r *Range) unusable() error {
	switch {
	case r.broken != nil:
		return r.broken
	case r.closed:
		return fmt.Errorf("archive: range of %s/%s at %s is closed", r.stream, r.partition, r.first)
	default:
		return fmt.Errorf("archive: range of %s/%s at %s is being committed", r.stream, r.partition, r.first)
	}
}
