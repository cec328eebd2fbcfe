package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	pgIdle     = 5 * time.Minute // after which an unused connection is closed
	pgLifetime = time.Hour       // so that a changed address or password is noticed
	pgPatience = 2 * time.Second // for a goodbye, a rollback, or a sign of life
)

// pgConn is a connection lent from a pool.
type pgConn struct {
	*pgx.Conn
	lent *pgxpool.Conn
}

// newPgPool returns a pool that connects when somebody needs a connection, and asks
// one that was idle for a second whether it lives before it lends it again.
func newPgPool(config *pgxpool.Config, limit int, prepare func(context.Context, *pgx.Conn) error) (*pgxpool.Pool, error) {
	config = config.Copy()
	config.MaxConns = int32(limit) //nolint:gosec // at most 64
	config.MaxConnIdleTime, config.MaxConnLifetime = pgIdle, pgLifetime
	config.PingTimeout = pgPatience
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		// The caller's deadline does not reach here: a connection that it no longer
		// waits for is made all the same.
		ctx, cancel := context.WithTimeout(ctx, pgConnectTimeout)
		defer cancel()
		return prepare(ctx, conn)
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return pool, nil
}

func (p *Postgres) acquire(ctx context.Context, pool *pgxpool.Pool) (*pgConn, error) {
	lent, err := pool.Acquire(ctx)
	if p.closed.Load() {
		if err == nil {
			lent.Release()
		}
		return nil, errClosed
	}
	if err != nil {
		return nil, err
	}
	return &pgConn{Conn: lent.Conn(), lent: lent}, nil
}

// release gives the connection back; one in the middle of something is closed. What
// is left of a broken one, a goodbye that waits for its server, takes up no place.
func (c *pgConn) release() {
	if c.IsClosed() {
		c.lent.Hijack()
		return
	}
	c.lent.Release()
}

// drop closes the connection, saying goodbye for as long as that takes no time, also
// when ctx has ended.
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
	tag, err := c.Exec(ctx, "COMMIT")
	if err == nil && tag.String() != "COMMIT" {
		err = fmt.Errorf("the server answered %q to COMMIT", tag)
	}
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
		c.drop(ctx) // the server then rolls back by itself
	}
}

// late explains the end of a deadline of ours.
func late(ctx, outer context.Context, limit time.Duration, key string, err error) error {
	if err != nil && outer.Err() == nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("the server was not done within %s of store.%s: %w", limit, key, err)
	}
	return err
}
