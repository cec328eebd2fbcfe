package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// stage is a set of actors that start and stop together. The first that returns
// before it was told to ends the process.
type stage struct {
	ctx    context.Context //nolint:containedctx // the lifetime of the stage, not of a call
	cancel context.CancelFunc
	failed chan error
	wg     sync.WaitGroup
}

// newStage makes a stage that outlives ctx: it ends only when it is stopped.
func newStage(ctx context.Context) *stage {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	return &stage{ctx: own, cancel: cancel, failed: make(chan error, 1)}
}

// start runs an actor until the stage is stopped.
func (s *stage) start(name string, run func(context.Context) error) {
	s.wg.Go(func() {
		err := run(s.ctx)
		if s.ctx.Err() != nil && err == nil {
			return
		}
		if err == nil {
			err = errors.New("ended by itself")
		}
		s.fail(fmt.Errorf("%s: %w", name, err))
	})
}

// server is an HTTP server: net/http's, or the collector's own.
type server interface {
	Serve(l net.Listener) error
	Shutdown(ctx context.Context) error
}

// serve runs an HTTP server until it is shut down.
func (s *stage) serve(name string, server server, l net.Listener) {
	s.wg.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.fail(fmt.Errorf("%s: %w", name, err))
		}
	})
}

func (s *stage) fail(err error) {
	select {
	case s.failed <- err:
	default: // the first failure ends the process and is the one to report
	}
}

// stop ends the stage and waits for its actors, at most until the deadline. An
// error that came while stopping is returned.
func (s *stage) stop(deadline context.Context) error {
	s.cancel()
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-deadline.Done():
		return errors.New("did not stop in time; what is on disk is safe and goes on at the next start")
	}
	select {
	case err := <-s.failed:
		return err
	default:
		return nil
	}
}

// wait blocks for d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
