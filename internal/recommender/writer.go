package recommender

import (
	"context"
	"errors"
	"time"

	"furrow/internal/bus"
)

// writer writes snapshots while the loop goes on, and acknowledges what they
// hold. Its methods are called from the loop.
type writer struct {
	r     *Recommender
	input int64 // bytes learned since the last snapshot began
	next  time.Time
	busy  chan snapshotResult // nil: none is being written
}

// snapshotResult is what became of a snapshot.
type snapshotResult struct {
	at        time.Time
	size      int64
	positions bus.Positions
	err       error
}

func newWriter(r *Recommender) *writer {
	return &writer{r: r, next: r.opt.Now().Add(r.cfg.Snapshot.Interval)}
}

// step acknowledges a snapshot that is done and begins one that is due.
func (w *writer) step(ctx context.Context, sub bus.Subscription) {
	select {
	case result := <-w.busy:
		w.busy = nil
		w.done(ctx, sub, result)
	default:
	}
	due := w.input >= w.r.cfg.Snapshot.Bytes || w.input > 0 && !w.r.opt.Now().Before(w.next)
	if w.busy == nil && due {
		w.begin()
	}
}

// begin encodes the state, which stops learning but no request, and leaves the
// writing to a goroutine.
func (w *writer) begin() {
	snap := w.r.encode(w.r.state.Load(), w.r.progress.positions())
	w.r.metrics.pause.Observe(time.Since(snap.began).Seconds())
	w.input = 0
	w.next = w.r.opt.Now().Add(w.r.cfg.Snapshot.Interval)
	busy := make(chan snapshotResult, 1)
	w.busy = busy
	go func() { busy <- w.r.write(snap) }()
}

// encoded is a snapshot that is not yet on disk.
type encoded struct {
	began     time.Time
	bytes     []byte
	positions bus.Positions
}

// encode takes a snapshot of a state that has applied the bus up to positions. The
// caller sees to it that nothing is learned meanwhile.
func (r *Recommender) encode(s *state, positions bus.Positions) encoded {
	snap := encoded{began: time.Now(), positions: positions}
	s.mu.RLock()
	snap.bytes = s.encode(positions)
	s.mu.RUnlock()
	return snap
}

func (r *Recommender) write(snap encoded) snapshotResult {
	err := store(r.opt.Dir, snap.bytes)
	r.metrics.snapshot.Observe(time.Since(snap.began).Seconds())
	return snapshotResult{at: r.opt.Now(), size: int64(len(snap.bytes)), positions: snap.positions, err: err}
}

// note keeps what became of a snapshot for the status.
func (r *Recommender) note(result snapshotResult) {
	r.mu.Lock()
	r.lastErr = result.err
	if result.err == nil {
		r.last = result
	}
	r.mu.Unlock()
	if result.err != nil {
		r.metrics.failures.Inc()
	} else {
		r.metrics.snapshotSize.Set(float64(result.size))
	}
}

func (w *writer) done(ctx context.Context, sub bus.Subscription, result snapshotResult) {
	w.r.note(result)
	if result.err != nil {
		w.input++ // try again when the interval is over, even if nothing arrives
		w.r.log.Error("writing the snapshot failed; the bus keeps what it would have held", "error", result.err)
		return
	}
	if sub == nil {
		return // the bus keeps more than is needed until the next snapshot
	}
	for partition, position := range result.positions {
		err := sub.Ack(ctx, bus.Batch{Partition: partition, First: position, Last: position})
		if err != nil && !errors.Is(err, bus.ErrLost) {
			w.r.log.Warn("acknowledging failed; the bus keeps more than is needed", "partition", partition, "error", err)
		}
	}
}

// ackTimeout bounds what acknowledging the last snapshot may take.
const ackTimeout = 5 * time.Second

// drain waits for a snapshot that is being written.
func (w *writer) drain(ctx context.Context, sub bus.Subscription) {
	if w.busy != nil {
		result := <-w.busy
		w.busy = nil
		w.done(ctx, sub, result)
	}
}

// finish writes what is not yet in a snapshot.
func (w *writer) finish(ctx context.Context, sub bus.Subscription) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ackTimeout)
	defer cancel()
	w.drain(ctx, sub)
	if w.input > 0 {
		w.begin()
		w.drain(ctx, sub)
	}
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	return w.r.lastErr
}
