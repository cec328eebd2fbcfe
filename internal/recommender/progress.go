package recommender

import (
	"context"
	"maps"
	"sync"
	"time"

	"furrow/internal/bus"
)

// progress is how far the bus was consumed. Requests wait on it.
type progress struct {
	mu      sync.Mutex
	applied bus.Positions
	settled bus.Positions // nothing more was to be read although the head was there
	moved   chan struct{} // closed and replaced with each step
	last    time.Time     // when the newest applied message was published
}

func newProgress(at bus.Positions) *progress {
	p := &progress{applied: bus.Positions{}, settled: bus.Positions{}, moved: make(chan struct{})}
	maps.Copy(p.applied, at)
	return p
}

// advance says that a partition was applied up to a position.
func (p *progress) advance(partition string, to bus.Position, published time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.applied[partition] = max(p.applied[partition], to)
	if published.After(p.last) {
		p.last = published
	}
	p.step()
}

// replace says that another state serves from now on, which has applied this much.
func (p *progress) replace(at bus.Positions, published time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.applied = maps.Clone(at)
	if published.After(p.last) {
		p.last = published
	}
	p.step()
}

func (p *progress) step() {
	close(p.moved)
	p.moved = make(chan struct{})
}

// settle says that nothing was to be read after the head was taken. A head can
// lie behind the last message that there is: on an empty bus, or when the newest
// records were lost. Requests must not wait for those; positions in a snapshot
// are not moved by it.
func (p *progress) settle(head bus.Positions) {
	if ok, _ := p.reached(head); ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.Copy(p.settled, head)
	p.step()
}

// forget drops positions that the bus cannot have given: it is another bus than
// the one that was read before.
func (p *progress) forget(head bus.Positions) (forgotten bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for partition, position := range head {
		if p.applied[partition] > position {
			delete(p.applied, partition)
			forgotten = true
		}
	}
	return forgotten
}

// positions returns a copy of the applied positions.
func (p *progress) positions() bus.Positions {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.applied)
}

// reached reports whether everything up to target was applied; if not, it
// returns a channel that is closed with the next step.
func (p *progress) reached(target bus.Positions) (bool, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for partition, position := range target {
		if position > max(p.applied[partition], p.settled[partition]) {
			return false, p.moved
		}
	}
	return true, nil
}

// wait waits until everything up to target was applied, but no longer than d.
func (p *progress) wait(ctx context.Context, target bus.Positions, d time.Duration) bool {
	ok, moved := p.reached(target)
	if ok {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	for !ok {
		select {
		case <-moved:
			ok, moved = p.reached(target)
		case <-timer.C:
			ok, _ = p.reached(target)
			return ok
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// published returns when the newest applied message was published; zero when
// none was.
func (p *progress) published() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}
