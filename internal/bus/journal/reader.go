package journal

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"furrow/internal/bus"
)

// A batch is bounded by messages and, but for a larger record, by bytes.
const (
	batchMessages = 1000
	minChunk      = 64 * kib
	maxChunk      = mib
)

// reader walks through the durable records. It has its own file and needs no
// lock of the journal but to find a segment, so a slow one hinders nobody. A
// segment that is deleted under it stays readable until it lets go.
type reader struct {
	journal *Journal
	streams []bus.Stream // empty: all
	since   int64        // Unix milliseconds; nothing before the first record of that time

	passed  uint64 // everything up to here was delivered or filtered out
	segment *segment
	file    *os.File
	offset  int64
	chunk   int64 // how much to read at once; follows the size of the records
}

// next returns a batch, or false when everything durable was read.
func (r *reader) next() (bus.Batch, bool, error) {
	for {
		more, err := r.seek()
		if !more || err != nil {
			return bus.Batch{}, false, err
		}
		if b := r.read(); b.Last != "" {
			return b, true, nil
		}
	}
}

// seek makes sure that the open segment has records to read.
func (r *reader) seek() (bool, error) {
	var missing *segment
	for {
		if r.segment != nil {
			e := r.segment.extent.Load()
			if r.passed < e.last && r.offset < e.end {
				return true, nil
			}
			if !e.sealed {
				return false, nil
			}
			r.passed = max(r.passed, e.last)
			r.release()
		}
		s, offset := r.journal.after(r.passed)
		if s == nil {
			return false, nil
		}
		f, there, err := openSegment(s)
		switch {
		case err != nil:
			return false, err
		case there:
			r.segment, r.file, r.offset = s, f, offset
		case s == missing: // still on the list, so it was not retention
			e := s.extent.Load()
			r.passed = e.last
			r.journal.keepDamage(damage{segment: filepath.Base(s.path), gap: gap{0, e.end}, reason: "the file is gone"})
		default:
			missing = s
		}
	}
}

func (r *reader) release() {
	if r.file != nil {
		_ = r.file.Close()
	}
	r.segment, r.file = nil, nil
}

// read decodes one chunk of the open segment. The batch has no last position
// when the reader did not get on to a newer record.
func (r *reader) read() bus.Batch {
	e := r.segment.extent.Load()
	data := readAll(r.file, r.offset, min(r.offset+r.chunk, e.end))
	before, pos := r.passed, int64(0)
	msgs := make([]bus.Message, 0, min(batchMessages, e.last-r.passed, uint64(len(data)/recordHeader+1)))
	seqs := make([]uint64, 0, cap(msgs))
	for pos < int64(len(data)) && len(msgs) < batchMessages {
		rec, need, ok := parse(data[pos:], r.segment.seed, r.offset+pos)
		if !ok && need > 0 && r.offset+pos+need <= e.end { // cut by the end of the chunk
			if pos > 0 {
				break
			}
			data = readAll(r.file, r.offset, r.offset+need) // one record, larger than the chunk
			continue
		}
		if !ok {
			if pos == 0 {
				r.skip(e)
				return r.batch(before, nil, nil)
			}
			break // deliver what is whole first
		}
		if rec.seq > e.last { // written by a commit that failed
			pos = e.end - r.offset
			break
		}
		pos += rec.size
		if rec.seq <= r.passed {
			continue
		}
		r.passed = rec.seq
		if r.wanted(&rec) {
			msgs = append(msgs, message(&rec))
			seqs = append(seqs, rec.seq)
		}
	}
	r.adapt(pos, len(msgs) == batchMessages)
	r.offset += pos
	if r.offset >= e.end {
		r.passed = e.last
	}
	return r.batch(before, msgs, seqs)
}

// adapt aims at reading only what one batch takes.
func (r *reader) adapt(used int64, full bool) {
	if full {
		r.chunk = max(minChunk, used+used/8)
		return
	}
	r.chunk = min(maxChunk, 2*r.chunk)
}

func (r *reader) wanted(rec *record) bool {
	if r.since != 0 {
		if rec.millis < r.since {
			return false
		}
		r.since = 0
	}
	return len(r.streams) == 0 || slices.Contains(r.streams, streamName(rec.stream))
}

// batch makes the batch that brought the reader from before to where it is.
func (r *reader) batch(before uint64, msgs []bus.Message, seqs []uint64) bus.Batch {
	if r.passed == before {
		return bus.Batch{}
	}
	b := bus.Batch{Partition: Partition, Messages: msgs, Last: formatPosition(r.passed)}
	b.First = b.Last
	if len(msgs) == 0 {
		return b
	}
	var text strings.Builder // one allocation for all positions
	text.Grow(digits * len(seqs))
	var one [digits]byte
	for _, seq := range seqs {
		text.Write(putPosition(one[:], seq))
	}
	for i := range msgs {
		msgs[i].Position = bus.Position(text.String()[i*digits : (i+1)*digits])
	}
	b.First = msgs[0].Position
	return b
}

// skip gets over a damaged range and sets it aside.
func (r *reader) skip(e *extent) {
	rest := readAll(r.file, r.offset, e.end)
	n := min(recordAlign, int64(len(rest)))
	n += resync(rest[n:], r.segment.seed, r.offset+n, r.passed, e.last)
	r.journal.keepDamage(damage{
		segment: filepath.Base(r.segment.path),
		gap:     gap{r.offset, r.offset + n},
		reason:  "damaged",
		bytes:   rest[:n],
	})
	r.offset += n
	if r.offset >= e.end {
		r.passed = e.last
	}
}

func message(rec *record) bus.Message {
	m := bus.Message{Stream: streamName(rec.stream), Value: rec.value, Time: time.UnixMilli(rec.millis).UTC()}
	if len(rec.key) > 0 {
		m.Key = rec.key
	}
	return m
}

// streamName saves the allocation for the streams of Furrow.
func streamName(b []byte) bus.Stream {
	switch string(b) {
	case string(bus.Raw):
		return bus.Raw
	case string(bus.Bad):
		return bus.Bad
	case string(bus.Events):
		return bus.Events
	}
	return bus.Stream(b)
}
