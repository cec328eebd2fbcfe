package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// Postgres is the database on a PostgreSQL server, which several recorders may
// share. Its methods are safe for concurrent use. The server may come and go: a
// call fails while it is away, and the next one connects again.
type Postgres struct {
	cfg     Config
	place   string
	log     *slog.Logger
	metrics *metrics
	slot    int16 // which rows of totals this process counts in
	clock   func() time.Time

	write  *pgxpool.Pool
	read   *pgxpool.Pool
	closed atomic.Bool

	gate     chan struct{} // holds one token; its owner may bring the tables up to date
	mu       sync.Mutex
	migrated bool
	days     map[pgDay]bool // that have a partition, as far as we know
	size     int64          // at measured
	measured time.Time
}

var _ Database = (*Postgres)(nil)

const (
	pgWriters        = 4 // connections that write
	pgSlots          = 16
	pgConnectTimeout = 5 * time.Second
	// pgLongWork bounds a statement that reads or tidies a whole partition.
	pgLongWork = time.Hour
)

// OpenPostgres prepares the use of the database at Config.URL. It does not
// connect: the server may be away, and the tables are made by the first call that
// reaches it. A URL that cannot be used is refused.
func OpenPostgres(cfg Config, reg prometheus.Registerer, log *slog.Logger) (*Postgres, error) {
	config, err := cfg.connection()
	if err != nil {
		return nil, err
	}
	p := &Postgres{
		cfg: cfg, place: cfg.Place(), log: log, metrics: newMetrics(reg),
		slot:  int16(rand.N(pgSlots)), //nolint:gosec // a way to stay out of each other's way, no secret
		clock: time.Now, gate: make(chan struct{}, 1), days: map[pgDay]bool{},
	}
	p.gate <- struct{}{}
	p.write, err = newPgPool(config, pgWriters, func(ctx context.Context, conn *pgx.Conn) error {
		return prepareWriter(ctx, conn, cfg.WriteTimeout)
	})
	if err != nil {
		return nil, err
	}
	p.read, err = newPgPool(config, max(cfg.Readers, 1), func(ctx context.Context, conn *pgx.Conn) error {
		return prepareReader(ctx, conn, cfg.ReadTimeout)
	})
	if err != nil {
		p.write.Close()
		return nil, err
	}
	return p, nil
}

// Place is Config.URL without its passwords, for status pages and logs; empty when
// there is no URL, or none that can be shown safely.
func (c Config) Place() string {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return ""
	}
	if _, ok := u.User.Password(); ok {
		u.User = url.UserPassword(u.User.Username(), "xxxxx")
	}
	query := u.Query()
	for key := range query {
		if strings.Contains(strings.ToLower(key), "password") {
			query.Set(key, "xxxxx")
		}
	}
	u.RawQuery = query.Encode()
	return u.String()
}

// connection checks the URL. Its errors never show what may be a password.
func (c Config) connection() (*pgxpool.Config, error) {
	const form = "store: url must have the form postgres://USER:PASSWORD@HOST:PORT/DATABASE"
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, errors.New(form + "; what is there is no URL (a password with special characters must be percent-encoded)")
	}
	if u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, fmt.Errorf("%s; the scheme is %q", form, u.Scheme)
	}
	if name := strings.Trim(u.Path, "/"); strings.Contains(name, "/") {
		return nil, fmt.Errorf("%s; the path %q is no database name", form, u.Path)
	}
	for key := range u.Query() {
		if strings.HasPrefix(key, "pool_") {
			return nil, fmt.Errorf("%s; %s is no parameter of a server: store.readers says how many connections read", form, key)
		}
	}
	pool, err := pgxpool.ParseConfig(c.URL)
	if err != nil {
		reason := "its parameters cannot be used"
		if inner := errors.Unwrap(err); inner != nil {
			reason = inner.Error()
		}
		if password, ok := u.User.Password(); ok && password != "" {
			reason = strings.ReplaceAll(reason, password, "xxxxx")
		}
		return nil, fmt.Errorf("%s; %s: %s", form, c.Place(), reason)
	}
	config := pool.ConnConfig
	if config.ConnectTimeout == 0 || config.ConnectTimeout > pgConnectTimeout {
		config.ConnectTimeout = pgConnectTimeout
	}
	dialer := &net.Dialer{
		Timeout:         config.ConnectTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
	}
	config.DialFunc = dialer.DialContext
	config.RuntimeParams["application_name"] = "furrow"
	config.RuntimeParams["timezone"] = "UTC"
	if config.ValidateConnect == nil {
		// A standby, or the old primary after a failover, takes no rows.
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	// The end of a context cancels the statement on the server, and only if that
	// does not help in time, the connection.
	config.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: pgPatience}
	}
	return pool, nil
}

// prepareWriter makes commits durable even where the server's default is not to
// wait, takes the cheaper compression where there is one, and has the server end
// the transaction of a client that went silent or vanished, before which nobody
// else gets the ids that it claimed. Plans are made for the arguments at hand: one
// for any would lock every partition, of which there may be more than a server has
// locks for.
func prepareWriter(ctx context.Context, conn *pgx.Conn, timeout time.Duration) error {
	const durable = `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'`
	if _, err := conn.Exec(ctx, durable, pgx.QueryExecModeSimpleProtocol); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, `SELECT set_config(s.name, given.value, false)
FROM pg_settings AS s JOIN unnest($1::text[], $2::text[]) AS given (name, value) USING (name)
WHERE s.enumvals IS NULL OR given.value = ANY (s.enumvals)`, pgx.QueryExecModeExec,
		[]string{"plan_cache_mode", "idle_in_transaction_session_timeout", "default_toast_compression", "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout"},
		[]string{"force_custom_plan", milliseconds(timeout), "lz4", "15s", "5s", "3", "30s"})
	return err
}

func prepareReader(ctx context.Context, conn *pgx.Conn, timeout time.Duration) error {
	_, err := conn.Exec(ctx, `SELECT set_config('idle_in_transaction_session_timeout', '60s', false), set_config('statement_timeout', $1, false),
set_config('plan_cache_mode', 'force_custom_plan', false)`, pgx.QueryExecModeExec, milliseconds(timeout))
	return err
}

// milliseconds is a duration as settings have it, at least one: 0 would be none.
func milliseconds(d time.Duration) string {
	return strconv.FormatInt(max(d.Milliseconds(), 1), 10) + "ms"
}

// reading runs a short read, with its deadline.
func (p *Postgres) reading(ctx context.Context, fn func(ctx context.Context, c *pgConn) error) error {
	return p.within(ctx, p.cfg.ReadTimeout, "readTimeout", p.read, fn)
}

// writing runs a step of writing, with its deadline.
func (p *Postgres) writing(ctx context.Context, fn func(ctx context.Context, c *pgConn) error) error {
	return p.within(ctx, p.cfg.WriteTimeout, "writeTimeout", p.write, fn)
}

func (p *Postgres) within(outer context.Context, limit time.Duration, key string, pool *pgxpool.Pool, fn func(ctx context.Context, c *pgConn) error) error {
	ctx, cancel := context.WithTimeout(outer, limit)
	defer cancel()
	return late(ctx, outer, limit, key, p.use(ctx, pool, fn))
}

func (p *Postgres) use(ctx context.Context, pool *pgxpool.Pool, fn func(ctx context.Context, c *pgConn) error) error {
	if err := p.tables(ctx); err != nil {
		return err
	}
	return p.lend(ctx, pool, fn)
}

// lend runs fn on a connection and draws the conclusions from its error:
// connections to a server that went away, hangs or only reads are dropped, and one
// without our tables gets them.
func (p *Postgres) lend(ctx context.Context, pool *pgxpool.Pool, fn func(ctx context.Context, c *pgConn) error) error {
	broken := false
	c, err := p.acquire(ctx, pool)
	if err == nil {
		defer c.release()
		err = fn(ctx, c)
		broken = err != nil && c.IsClosed()
	}
	if err == nil || errors.Is(err, errClosed) {
		return err
	}
	gone := broken || lostServer(err)
	if gone || lostTables(err) {
		p.mu.Lock()
		p.migrated = false
		clear(p.days)
		p.mu.Unlock()
	}
	if gone {
		p.write.Reset()
		p.read.Reset()
	}
	return err
}

// tables makes the tables, once.
func (p *Postgres) tables(ctx context.Context) error {
	if p.isMigrated() {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-p.gate:
	}
	defer func() { p.gate <- struct{}{} }()
	if p.isMigrated() {
		return nil
	}
	if err := p.lend(ctx, p.write, migratePostgres); err != nil {
		return err
	}
	p.mu.Lock()
	p.migrated = true
	p.mu.Unlock()
	return nil
}

func (p *Postgres) isMigrated() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.migrated
}

// Close waits for what is going on, then closes the connections. Calls after it
// fail.
func (p *Postgres) Close() error {
	p.closed.Store(true)
	p.write.Close()
	p.read.Close()
	p.mu.Lock()
	p.migrated = false
	p.mu.Unlock()
	return nil
}
