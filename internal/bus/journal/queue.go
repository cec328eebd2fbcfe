package journal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"furrow/internal/bus"
)

// queue collects the records that wait for the next commit. There are two
// buffers: one fills while the flusher writes the other.
type queue struct {
	limit int64
	kick  chan struct{} // has room for one; tells the flusher that there is work

	mu     sync.Mutex
	buf    []byte
	spare  []byte
	commit *commit       // what the waiters of buf wait for; nil when buf is empty
	room   chan struct{} // closed when buf is swapped; nil when nobody waits for that
	closed bool
}

// commit is the shared fate of the records that are written together.
type commit struct {
	done  chan struct{}
	err   error // set before done is closed
	count uint64
	since time.Time // when the first of them came
}

func (q *queue) init(limit int64) {
	q.limit = limit
	q.kick = make(chan struct{}, 1)
}

// add puts the messages into the buffer, as many as fit but at least one, and
// returns their commit. It waits for room.
func (q *queue) add(ctx context.Context, msgs []bus.Message, now time.Time, closing <-chan struct{}) (*commit, int, error) {
	q.mu.Lock()
	for !q.closed && len(q.buf) > 0 && int64(len(q.buf))+recordSize(&msgs[0]) > q.limit {
		if q.room == nil {
			q.room = make(chan struct{})
		}
		room := q.room
		q.mu.Unlock()
		select {
		case <-room:
		case <-closing:
		case <-ctx.Done():
			return nil, 0, fmt.Errorf("journal: %w: the disk does not keep up: %w", bus.ErrFull, context.Cause(ctx))
		}
		q.mu.Lock()
	}
	defer q.mu.Unlock()
	if q.closed {
		return nil, 0, bus.ErrClosed
	}
	if q.commit == nil {
		q.commit = &commit{done: make(chan struct{}), since: now}
		select {
		case q.kick <- struct{}{}:
		default:
		}
	}
	n := 0
	for n < len(msgs) && (len(q.buf) == 0 || int64(len(q.buf))+recordSize(&msgs[n]) <= q.limit) {
		at := msgs[n].Time
		if at.IsZero() {
			at = now
		}
		q.buf = appendRecord(q.buf, &msgs[n], at.UnixMilli())
		n++
	}
	q.commit.count += uint64(n)
	return q.commit, n, nil
}

// take swaps the buffers and returns the full one. The flusher gives it back
// with recycle.
func (q *queue) take() ([]byte, *commit) {
	q.mu.Lock()
	defer q.mu.Unlock()
	buf, c := q.buf, q.commit
	q.buf, q.spare, q.commit = q.spare[:0], nil, nil
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
	return buf, c
}

func (q *queue) recycle(buf []byte) {
	q.mu.Lock()
	q.spare = buf[:0]
	q.mu.Unlock()
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
}

// Publish stores messages durably; see bus.Publisher. When ctx ends before the
// commit, they may or may not be stored. A message that is larger than
// Config.WaitingBytes, has no stream or too long a key is refused for good.
func (j *Journal) Publish(ctx context.Context, msgs ...bus.Message) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("journal: publish: %w", err)
	}
	for i := range msgs {
		if err := j.checkMessage(&msgs[i]); err != nil {
			return err
		}
	}
	now := j.hooks.now()
	for len(msgs) > 0 {
		c, n, err := j.queue.add(ctx, msgs, now, j.closing)
		if err != nil {
			j.metrics.refuse(err)
			return err
		}
		select {
		case <-c.done:
			if c.err != nil {
				j.metrics.refuse(c.err)
				return c.err
			}
		case <-ctx.Done():
			return fmt.Errorf("journal: publish: not known to be stored: %w", ctx.Err())
		}
		msgs = msgs[n:]
	}
	return nil
}

var errMessage = errors.New("message refused")

func (j *Journal) checkMessage(m *bus.Message) error {
	switch {
	case m.Stream == "" || len(m.Stream) > maxStream:
		return fmt.Errorf("journal: %w: the stream name has %d bytes, it must have 1 to %d", errMessage, len(m.Stream), maxStream)
	case len(m.Key) > maxKey:
		return fmt.Errorf("journal: %w: the key has %d bytes, the limit is %d", errMessage, len(m.Key), maxKey)
	case recordSize(m) > j.cfg.WaitingBytes:
		return fmt.Errorf("journal: %w: it takes %d bytes; raise waitingBytes (%d)", errMessage, recordSize(m), j.cfg.WaitingBytes)
	}
	return nil
}
