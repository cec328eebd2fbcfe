package store

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	pgCheckAfter = time.Second     // a connection that was idle for longer is asked whether it lives
	pgIdle       = 5 * time.Minute // after which one is closed
	pgLifetime   = time.Hour       // so that a changed address or password is noticed
	pgPatience   = 2 * time.Second // for a goodbye, a rollback, or a sign of life
)

// pgPool is a bounded set of connections, made when they are needed. It has no
// goroutine of its own.
type pgPool struct {
	config *pgx.ConnConfig
	begin  func(ctx context.Context, conn *pgx.Conn) error // prepares a new connection
	slots  chan struct{}

	mu     sync.Mutex
	idle   []*pgConn // the last one was used last
	age    int       // of the pool; connections of an earlier one are closed on return
	closed bool
}

type pgConn struct {
	*pgx.Conn
	age         int
	made, since time.Time
}

func newPgPool(config *pgx.ConnConfig, limit int, begin func(context.Context, *pgx.Conn) error) *pgPool {
	return &pgPool{config: config, begin: begin, slots: make(chan struct{}, limit)}
}

// acquire returns a connection that lives, as far as one can know.
func (p *pgPool) acquire(ctx context.Context) (*pgConn, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case p.slots <- struct{}{}:
	}
	for {
		c, age, err := p.pop()
		if err != nil {
			<-p.slots
			return nil, err
		}
		if c == nil {
			c, err = p.connect(ctx, age)
			if err != nil {
				<-p.slots
			}
			return c, err
		}
		if c.lives(ctx) {
			return c, nil
		}
		c.drop(ctx)
	}
}

func (p *pgPool) pop() (*pgConn, int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, 0, errClosed
	}
	if len(p.idle) == 0 {
		return nil, p.age, nil
	}
	c := p.idle[len(p.idle)-1]
	p.idle = p.idle[:len(p.idle)-1]
	return c, p.age, nil
}

func (p *pgPool) connect(ctx context.Context, age int) (*pgConn, error) {
	conn, err := pgx.ConnectConfig(ctx, p.config)
	if err != nil {
		return nil, err
	}
	c := &pgConn{Conn: conn, age: age, made: time.Now()}
	if err := p.begin(ctx, conn); err != nil {
		c.drop(ctx)
		return nil, err
	}
	return c, nil
}

// release gives a connection back. One that is broken, or in the middle of
// something, is closed.
func (p *pgPool) release(ctx context.Context, c *pgConn) {
	defer func() { <-p.slots }()
	c.since = time.Now()
	keep := !c.IsClosed() && c.PgConn().TxStatus() == 'I' && time.Since(c.made) < pgLifetime
	p.mu.Lock()
	keep = keep && !p.closed && c.age == p.age
	if keep {
		p.idle = append(p.idle, c)
	}
	p.mu.Unlock()
	if !keep {
		c.drop(ctx)
	}
}

// reset closes the connections, those in use once they are given back.
func (p *pgPool) reset(ctx context.Context) {
	p.mu.Lock()
	old := p.idle
	p.idle = nil
	p.age++
	p.mu.Unlock()
	for _, c := range old {
		c.drop(ctx)
	}
}

// prune closes what has been idle for long.
func (p *pgPool) prune(ctx context.Context) {
	p.mu.Lock()
	n := 0
	for n < len(p.idle) && time.Since(p.idle[n].since) > pgIdle {
		n++
	}
	old := p.idle[:n:n]
	p.idle = append([]*pgConn(nil), p.idle[n:]...)
	p.mu.Unlock()
	for _, c := range old {
		c.drop(ctx)
	}
}

// close waits for the connections in use.
func (p *pgPool) close() {
	p.mu.Lock()
	was := p.closed
	p.closed = true
	p.mu.Unlock()
	if was {
		return
	}
	for range cap(p.slots) {
		p.slots <- struct{}{}
	}
	p.reset(context.Background())
	for range cap(p.slots) { // whoever waits learns that it is closed
		<-p.slots
	}
}

func (c *pgConn) lives(ctx context.Context) bool {
	if c.IsClosed() || time.Since(c.made) > pgLifetime {
		return false
	}
	if time.Since(c.since) < pgCheckAfter {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, pgPatience)
	defer cancel()
	return c.Ping(ctx) == nil
}

// drop says goodbye for as long as that takes no time, also when ctx has ended.
func (c *pgConn) drop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pgPatience)
	defer cancel()
	_ = c.Close(ctx) // it is closed either way
}

// transact runs fn in a transaction that it rolls back on an error.
func (c *pgConn) transact(ctx context.Context, fn func() error) error {
	if _, err := c.Exec(ctx, "BEGIN"); err != nil {
		return err
	}
	if err := fn(); err != nil {
		c.rollback(ctx)
		return err
	}
	_, err := c.Exec(ctx, "COMMIT")
	return err
}

// rollback ends a transaction, if need be with its connection.
func (c *pgConn) rollback(ctx context.Context) {
	if c.IsClosed() || c.PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pgPatience)
	defer cancel()
	if _, err := c.Exec(ctx, "ROLLBACK"); err != nil {
		_ = c.Close(ctx) // the server then rolls back by itself
	}
}
