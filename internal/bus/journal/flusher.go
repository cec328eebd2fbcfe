package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"time"

	"furrow/internal/bus"

	"golang.org/x/sys/unix"
)

// retryEvery is how long the flusher waits before it tries a refused or failed
// journal again, and how old a measurement of the free space may be.
const retryEvery = 250 * time.Millisecond

// yields is how often the flusher lets others run before a sync. Three instead of
// one gave the collector some 5 % more requests a second on one core.
const yields = 3

// flusher is the only goroutine that writes segments.
func (j *Journal) flusher() {
	retry := time.NewTicker(retryEvery)
	defer retry.Stop()
	for {
		var again <-chan time.Time
		if j.unready.Load() != nil {
			again = retry.C
		}
		select {
		case <-j.queue.kick:
			// On one core the flusher runs right after the first message came. Let
			// every other publisher that can run, or is about to, add its own
			// before this sync.
			for range yields {
				runtime.Gosched()
			}
			j.flush()
		case <-again:
			j.setReady(j.admit(0))
		case <-j.aged:
			if j.active == nil || j.active.empty() {
				continue
			}
			if err := j.roll(); err != nil {
				j.log.Warn("journal: no new segment", slog.Any("error", err))
			}
		case <-j.closing:
			j.flush()
			return
		}
	}
}

// flush stores what waits and tells the publishers.
func (j *Journal) flush() {
	buf, c := j.queue.take()
	if c != nil {
		c.err = j.store(buf, c)
		if c.err == nil {
			j.metrics.stored(c.count, len(buf), j.hooks.now().Sub(c.since))
		}
		close(c.done)
		j.commits.notify()
	}
	j.queue.recycle(buf)
}

// store makes one commit durable.
func (j *Journal) store(buf []byte, c *commit) error {
	if err := j.admit(int64(len(buf))); err != nil {
		j.setReady(err)
		return err
	}
	e := *j.active.extent.Load()
	if e.end > segmentHeader && e.end+int64(len(buf)) > j.cfg.SegmentBytes {
		if err := j.roll(); err != nil {
			return j.failed(err)
		}
		e = *j.active.extent.Load()
	}
	first := j.next
	run := stamp(buf, first, j.active.seed, e.end)
	j.next += c.count // whatever happens: these numbers may be on the disk
	begun := j.hooks.now()
	err := j.reserve(e.end + int64(len(buf)))
	if err == nil {
		_, err = j.file.WriteAt(buf, e.end)
	}
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		return j.failed(fmt.Errorf("journal: segment %s: %w", j.active.path, err))
	}
	done := j.hooks.now()
	j.metrics.sync(done.Sub(begun))
	m := mark{first, e.end, run.minTime}
	e.end += int64(len(buf))
	e.last = j.next - 1
	j.mu.Lock()
	j.bytes += int64(len(buf))
	j.active.lastWrite = done
	j.active.note(m, run)
	j.mu.Unlock()
	j.space.used(int64(len(buf)))
	j.active.extent.Store(&e)
	j.head.Store(e.last)
	j.setReady(nil)
	return nil
}

// reserve writes zeros up to end and some way beyond, unless they are there. A
// commit that overwrites them changes no size and no extent of the file, which
// halves the time of its sync on ext4. No record begins with zeros.
func (j *Journal) reserve(end int64) error {
	if end <= j.reserved {
		return nil
	}
	j.mu.Lock()
	left := j.cfg.MaxBytes - j.bytes - end
	j.mu.Unlock()
	ahead := max(0, min(end, maxReserve, j.cfg.SegmentBytes-end, left))
	for end += ahead; j.reserved < end; {
		n, err := j.file.WriteAt(zeros[:min(end-j.reserved, int64(len(zeros)))], j.reserved)
		j.reserved += int64(n)
		if err != nil {
			return err
		}
	}
	return nil
}

// maxReserve is how far ahead of the records zeros are written at most; a small
// segment gets as much as it holds.
const maxReserve = 4 * mib

var zeros [mib]byte

// failed handles an error of the disk. What was written is not written again,
// since after a failed sync nobody knows what the kernel dropped: the segment
// ends at its last durable byte and a new one is begun, at once if possible,
// else the journal is not ready and tries again later.
func (j *Journal) failed(cause error) error {
	j.metrics.failures.Inc()
	j.log.Error("journal: write failed, the segment is closed", slog.Any("error", cause))
	if j.active != nil {
		j.seal()
	}
	if errors.Is(cause, unix.ENOSPC) || errors.Is(cause, unix.EDQUOT) {
		cause = fmt.Errorf("%w: %w", bus.ErrFull, cause)
		j.space.exhausted()
	} else if err := j.roll(); err == nil {
		return cause // these waiters fail, the next ones need not
	}
	j.retryAt = j.hooks.now().Add(retryEvery)
	j.setReady(cause)
	return cause
}

// seal closes the active segment, without what was reserved or not made durable.
// One without records is deleted.
func (j *Journal) seal() {
	s := j.active
	// Best effort: the next segment's header says where this one ends.
	_ = j.file.Truncate(s.extent.Load().end)
	_ = j.file.Close() // everything durable in it was synced
	j.active, j.file = nil, nil
	e := *s.extent.Load()
	e.sealed = true
	s.extent.Store(&e)
	if !s.empty() {
		return
	}
	j.mu.Lock()
	j.dropSegment(s)
	j.mu.Unlock()
	if err := removeFile(s.path); err != nil {
		j.log.Warn("journal: empty segment not deleted", slog.Any("error", err))
	}
}

// roll begins a new segment, and seals the one before once the new one is
// durable.
func (j *Journal) roll() error {
	prev := header{prevLast: j.head.Load()}
	j.mu.Lock()
	for _, s := range slices.Backward(j.segments) {
		if !s.empty() {
			prev.prevMin, prev.prevMax = s.minTime, s.maxTime
			break
		}
	}
	j.mu.Unlock()
	s, f, err := j.createSegment(j.next, prev)
	if err != nil {
		return err
	}
	if j.active != nil {
		j.seal()
	}
	j.active, j.file, j.reserved = s, f, segmentHeader
	j.mu.Lock()
	j.segments = append(j.segments, s)
	j.bytes += segmentHeader
	j.mu.Unlock()
	j.commits.notify() // readers at the end of the sealed one
	return nil
}
