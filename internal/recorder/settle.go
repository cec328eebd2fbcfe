package recorder

import (
	"context"
	"fmt"
)

// Settle is a barrier. When it returns nil, nothing that was enriched before the
// call can reach a sink any more: the database has what was on its way to it, the
// open ranges of the archive are committed, and no result is kept for the slower
// group. What a sink would not end with (a range that another owner declared with a
// later end, or one that broke) is dropped and comes again from the bus, to be
// enriched anew. Records that come meanwhile do not delay it.
//
// It fails when ctx ends first, when a group is paused with something in hand, and
// when Run ends without having stored what it held. Without Run there is nothing to
// wait for.
func (r *Recorder) Settle(ctx context.Context) error {
	// First the memo: what is put into it from now on was enriched after the call.
	if r.feed.memo != nil {
		r.feed.memo.empty()
	}
	var waits []func() error
	for _, g := range []*group{r.store, r.archive} {
		if g == nil {
			continue
		}
		answer := g.ask()
		waits = append(waits, func() error {
			select {
			case err := <-answer:
				return err
			case <-ctx.Done():
			}
			if s := g.report(); s.Error != "" {
				return fmt.Errorf("recorder: %s has not stored what it holds, it fails with %q: %w", g.name, s.Error, ctx.Err())
			}
			return fmt.Errorf("recorder: %s has not stored what it holds: %w", g.name, ctx.Err())
		})
	}
	for _, wait := range waits {
		if err := wait(); err != nil {
			return err
		}
	}
	return nil
}

// ask returns where the group's loop says that it holds nothing of what was enriched
// before. It is answered at once when the loop does not run.
func (g *group) ask() <-chan error {
	answer := make(chan error, 1) // nobody may be there any more to take it
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.running {
		answer <- nil
		return answer
	}
	g.asks = append(g.asks, answer)
	if g.wake != nil {
		g.wake()
	}
	return answer
}

func (g *group) asked() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.asks) > 0
}

// answer tells all who asked. A loop enriches nothing while it settles, so what it
// says holds for those too who asked meanwhile.
func (g *group) answer(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, a := range g.asks {
		a <- err
	}
	g.asks = nil
}

// leave says that the loop has ended, with this error.
func (g *group) leave(err error) {
	g.mu.Lock()
	g.running = false
	g.mu.Unlock()
	g.answer(err)
}

// waitForBus returns a context for a wait that ends when somebody asks the group to
// settle, and what is to be called after it.
func (g *group) waitForBus() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(g.ended)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wake = cancel
	if len(g.asks) > 0 {
		cancel()
	}
	return ctx, func() {
		g.mu.Lock()
		g.wake = nil
		g.mu.Unlock()
		cancel()
	}
}
