package history

import (
	"context"
	"sync/atomic"
)

// holder is an operation between enriching, or a look at the tombstones, and
// storing. A forgetting waits for it: what it holds was enriched without the new
// tombstones.
type holder struct {
	h      *History
	asked  atomic.Bool
	landed []chan struct{} // closed at the next checkpoint; under h.mu
}

// hold begins an operation that enriches and stores. release must be called, after
// what it began has landed.
func (h *History) hold() *holder {
	o := &holder{h: h}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.holders == nil {
		h.holders = make(map[*holder]bool)
	}
	h.holders[o] = true
	return o
}

// checkpoint is called now and then, between what was enriched and what will be.
// When a forgetting waits it flushes, which must leave nothing that was enriched
// before and is not stored.
func (o *holder) checkpoint(flush func() error) error {
	if !o.asked.Load() {
		return nil
	}
	waiting := o.take()
	if err := flush(); err != nil {
		o.h.mu.Lock()
		defer o.h.mu.Unlock()
		o.landed = append(o.landed, waiting...) // until release
		return err
	}
	for _, landed := range waiting {
		close(landed)
	}
	return nil
}

func (o *holder) take() []chan struct{} {
	o.h.mu.Lock()
	defer o.h.mu.Unlock()
	waiting := o.landed
	o.landed = nil
	o.asked.Store(false)
	return waiting
}

func (o *holder) release() {
	o.h.mu.Lock()
	delete(o.h.holders, o)
	o.h.mu.Unlock()
	for _, landed := range o.take() {
		close(landed)
	}
}

// landed waits until everything is stored that operations of this package enriched
// before the call.
func (h *History) landed(ctx context.Context) error {
	h.mu.Lock()
	var waiting []chan struct{}
	for o := range h.holders {
		landed := make(chan struct{})
		waiting = append(waiting, landed)
		o.landed = append(o.landed, landed)
		o.asked.Store(true)
	}
	h.mu.Unlock()
	for _, landed := range waiting {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-landed:
		}
	}
	return nil
}
