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
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
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

	write *pgPool
	read  *pgPool

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
	// pgInsertTimeout ends a transaction that hangs on a network or a lock; the
	// caller repeats it.
	pgInsertTimeout = time.Minute
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
	p.write = newPgPool(config, pgWriters, prepareWriter)
	p.read = newPgPool(config, max(cfg.Readers, 1), func(ctx context.Context, conn *pgx.Conn) error {
		return prepareReader(ctx, conn, cfg.ReadTimeout)
	})
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
func (c Config) connection() (*pgx.ConnConfig, error) {
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
	config, err := pgx.ParseConfig(c.URL)
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
	return config, nil
}

// prepareWriter makes commits durable even where the server's default is not to
// wait, ends what hangs, and takes the cheaper compression where there is one.
func prepareWriter(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SELECT set_config('idle_in_transaction_session_timeout', '60s', false);
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
SELECT set_config('default_toast_compression', 'lz4', false) FROM pg_settings
WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)`, pgx.QueryExecModeSimpleProtocol)
	return err
}

func prepareReader(ctx context.Context, conn *pgx.Conn, timeout time.Duration) error {
	_, err := conn.Exec(ctx, `SELECT set_config('idle_in_transaction_session_timeout', '60s', false),
set_config('statement_timeout', $1, false)`, strconv.FormatInt(timeout.Milliseconds(), 10)+"ms")
	return err
}

// reading runs a short read, with its deadline.
func (p *Postgres) reading(ctx context.Context, fn func(ctx context.Context, c *pgConn) error) error {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.ReadTimeout)
	defer cancel()
	return p.use(ctx, p.read, fn)
}

// writing runs fn on a connection without a deadline of its own.
func (p *Postgres) writing(ctx context.Context, fn func(ctx context.Context, c *pgConn) error) error {
	return p.use(ctx, p.write, fn)
}

func (p *Postgres) use(ctx context.Context, pool *pgPool, fn func(ctx context.Context, c *pgConn) error) error {
	if err := p.tables(ctx); err != nil {
		return err
	}
	c, err := pool.acquire(ctx)
	if err != nil {
		return p.noted(ctx, err)
	}
	defer pool.release(ctx, c)
	return p.noted(ctx, fn(ctx, c))
}

// noted draws the conclusions from an error: connections to a server that went
// away or only reads are dropped, and one without our tables gets them.
func (p *Postgres) noted(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, errClosed) {
		return err
	}
	gone, empty := lostServer(err), lostTables(err)
	if gone || empty {
		p.mu.Lock()
		p.migrated = false
		clear(p.days)
		p.mu.Unlock()
	}
	if gone {
		p.write.reset(ctx)
		p.read.reset(ctx)
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
	c, err := p.write.acquire(ctx)
	if err != nil {
		return p.noted(ctx, err)
	}
	defer p.write.release(ctx, c)
	if err := migratePostgres(ctx, c); err != nil {
		return p.noted(ctx, err)
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
	p.write.close()
	p.read.close()
	p.mu.Lock()
	p.migrated = false
	p.mu.Unlock()
	return nil
}
