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
	sub   bus.Subscription
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

func newWriter(r *Recommender, sub bus.Subscription) *writer {
	return &writer{r: r, sub: sub, next: r.opt.Now().Add(r.cfg.Snapshot.Interval)}
}

// step acknowledges a snapshot that is done and begins one that is due.
func (w *writer) step(ctx context.Context) {
	select {
	case result := <-w.busy:
		w.busy = nil
		w.done(ctx, result)
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
	began := time.Now()
	w.r.state.mu.RLock()
	positions := w.r.progress.positions()
	b := w.r.state.encode(positions)
	w.r.state.mu.RUnlock()
	w.r.metrics.pause.Observe(time.Since(began).Seconds())
	w.input = 0
	w.next = w.r.opt.Now().Add(w.r.cfg.Snapshot.Interval)
	busy := make(chan snapshotResult, 1)
	w.busy = busy
	go func() {
		err := store(w.r.opt.Dir, b)
		w.r.metrics.snapshot.Observe(time.Since(began).Seconds())
		busy <- snapshotResult{at: w.r.opt.Now(), size: int64(len(b)), positions: positions, err: err}
	}()
}

func (w *writer) done(ctx context.Context, result snapshotResult) {
	w.r.mu.Lock()
	w.r.lastErr = result.err
	if result.err == nil {
		w.r.last = result
	}
	w.r.mu.Unlock()
	if result.err != nil {
		w.r.metrics.failures.Inc()
		w.input++ // try again when the interval is over, even if nothing arrives
		w.r.log.Error("writing the snapshot failed; the bus keeps what it would have held", "error", result.err)
		return
	}
	w.r.metrics.snapshotSize.Set(float64(result.size))
	for partition, position := range result.positions {
		err := w.sub.Ack(ctx, bus.Batch{Partition: partition, First: position, Last: position})
		if err != nil && !errors.Is(err, bus.ErrLost) {
			w.r.log.Warn("acknowledging failed; the bus keeps more than is needed", "partition", partition, "error", err)
		}
	}
}

// ackTimeout bounds what acknowledging the last snapshot may take.
const ackTimeout = 5 * time.Second

// finish writes what is not yet in a snapshot.
func (w *writer) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ackTimeout)
	defer cancel()
	if w.busy != nil {
		w.done(ctx, <-w.busy)
	}
	if w.input > 0 {
		w.begin()
		w.done(ctx, <-w.busy)
	}
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	return w.r.lastErr
}
