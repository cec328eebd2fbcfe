package app

import (
	"context"
	"errors"
	"sync"
)

var errStopping = errors.New("this furrow is stopping; run the same command again when it is back, or now that it is gone: it goes on where it was")

// operating is the operations that run. They end before what they work with does.
type operating struct {
	mu      sync.Mutex
	stopped bool
	next    int
	cancel  map[int]context.CancelCauseFunc
	idle    chan struct{} // closed once stopped and none is left
}

func newOperating() *operating {
	return &operating{cancel: map[int]context.CancelCauseFunc{}, idle: make(chan struct{})}
}

// begin gives an operation its context; done must be called when it has ended. It
// fails once the process stops.
func (o *operating) begin(ctx context.Context) (_ context.Context, done func(), err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stopped {
		return nil, nil, errStopping
	}
	ctx, cancel := context.WithCancelCause(ctx)
	id := o.next
	o.next++
	o.cancel[id] = cancel
	return ctx, func() {
		cancel(nil)
		o.mu.Lock()
		defer o.mu.Unlock()
		if delete(o.cancel, id); o.stopped && len(o.cancel) == 0 {
			close(o.idle)
		}
	}, nil
}

// stop ends all of them and waits until they have, at most until the deadline.
func (o *operating) stop(deadline context.Context) error {
	o.mu.Lock()
	o.stopped = true
	for _, cancel := range o.cancel {
		cancel(errStopping)
	}
	if len(o.cancel) == 0 {
		close(o.idle)
	}
	o.mu.Unlock()
	select {
	case <-o.idle:
		return nil
	case <-deadline.Done():
		return errors.New("an operation did not stop in time; run it again, it goes on where it was")
	}
}
