package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"modernc.org/sqlite"
)

// SQLite is the database in one file. Its methods are safe for concurrent use.
type SQLite struct {
	path    string
	cfg     Config
	log     *slog.Logger
	metrics *metrics

	lock   chan struct{} // holds one token; whoever has it owns all below
	writer *writer
	events *statement
	// newEvents is events for a database that remembers past ids.
	newEvents *statement
	past      bool // it does, in this transaction
	shapes    shapes
	content   *statement
	bad       *statement
	record    *statement
	binder    *binder
	last      lastRecord
	closed    bool

	pool *sql.DB
	// vacuum holds one token; whoever has it may move pages, or rely on none being
	// moved. It is taken before lock.
	vacuum chan struct{}
}

var _ Database = (*SQLite)(nil)

// busyTimeout is how long a statement waits for a lock of another process, such
// as a person's sqlite3 shell.
const busyTimeout = 5 * time.Second

const (
	pageSize = 8192
	// The log is folded into the file when it has this many pages. Ids are random, so
	// that nearly every event changes a page of their index that no other event of
	// its batch does; the more batches a checkpoint spans, the fewer of these pages
	// it writes.
	maxLogPages = 8192
	minLogPages = 2000
)

// logPages keeps the log small beside a file that is to stay small.
func (s *SQLite) logPages() int64 {
	if s.cfg.MaxBytes == 0 {
		return maxLogPages
	}
	return min(max(s.cfg.MaxBytes/8/pageSize, minLogPages), maxLogPages)
}

var errClosed = errors.New("store: closed")

// Open opens or creates the database at path, and brings its tables to this
// version. The folder is created when missing. A file of a newer version, or one
// that is no database, is refused.
func Open(path string, cfg Config, reg prometheus.Registerer, log *slog.Logger) (*SQLite, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("store: make the folder of %s: %w", path, err)
	}
	s := &SQLite{
		path: path, cfg: cfg, log: log, metrics: newMetrics(reg),
		lock: make(chan struct{}, 1), vacuum: make(chan struct{}, 1), binder: newBinder(),
		shapes: shapes{prepared: map[shape]*statement{}, seen: map[shape]int{}},
	}
	if cfg.DedupDays == 0 {
		s.cfg.DedupDays = Default().DedupDays
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("store: open %s: %w", path, err), s.Close())
	}
	s.lock <- struct{}{}
	s.vacuum <- struct{}{}
	return s, nil
}

func fileName(path string) string { return "file:" + (&url.URL{Path: path}).EscapedPath() }

func (s *SQLite) open() error {
	name := fileName(s.path)
	connector, err := sqlite.NewConnector(name)
	if err != nil {
		return err
	}
	forever := context.Background()
	conn, err := connector.Connect(forever)
	if err != nil {
		return err
	}
	s.writer = &writer{conn: conn, forever: forever}
	pragmas := []string{
		fmt.Sprintf("busy_timeout=%d", busyTimeout.Milliseconds()),
		// These two count only before the first table: larger pages because a row
		// is some two kilobytes, and freed pages that can be given back.
		fmt.Sprintf("page_size=%d", pageSize),
		"auto_vacuum=INCREMENTAL",
		"journal_mode=WAL",
		// A position is acknowledged after the commit, so the commit must be on
		// disk; batching makes the sync cheap.
		"synchronous=FULL",
		// What is deleted is overwritten with zeros, so that nothing of a person who
		// is to be forgotten lies in free space that an earlier deletion made.
		"secure_delete=ON",
		fmt.Sprintf("cache_size=-%d", s.cfg.CacheBytes>>10),
		fmt.Sprintf("wal_autocheckpoint=%d", s.logPages()),
		fmt.Sprintf("journal_size_limit=%d", maxLogPages*pageSize),
	}
	for _, p := range pragmas {
		if _, err := s.writer.first("PRAGMA " + p); err != nil {
			return fmt.Errorf("set %s: %w", p, err)
		}
	}
	if err := s.migrate(); err != nil {
		return err
	}
	if s.events, err = s.writer.prepare(insertEvent(columns)); err != nil {
		return err
	}
	if s.newEvents, err = s.writer.prepare(insertNewEvent(columns)); err != nil {
		return err
	}
	if s.content, err = s.writer.prepare(selectContent); err != nil {
		return err
	}
	if s.bad, err = s.writer.prepare(insertFailure); err != nil {
		return err
	}
	if s.record, err = s.writer.prepare(insertRecord); err != nil {
		return err
	}
	reader, err := sqlite.NewConnector(name + fmt.Sprintf(
		"?_busy_timeout=%d&_query_only=1&_pragma=cache_size(-8192)", busyTimeout.Milliseconds(),
	))
	if err != nil {
		return err
	}
	s.pool = sql.OpenDB(reader)
	s.pool.SetMaxOpenConns(s.cfg.Readers)
	s.pool.SetConnMaxIdleTime(time.Minute)
	return nil
}

// migrate brings the tables to the newest version, each step in its own
// transaction.
func (s *SQLite) migrate() error {
	w := s.writer
	if _, err := w.exec(`CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL PRIMARY KEY, applied TEXT NOT NULL)`); err != nil {
		return err
	}
	have, err := w.number("SELECT coalesce(max(version), 0) FROM schema_version")
	if err != nil {
		return err
	}
	if have > int64(len(migrations)) {
		return fmt.Errorf("its tables have version %d and this program knows up to %d: use the newer program, or another file", have, len(migrations))
	}
	for v := have; v < int64(len(migrations)); v++ {
		if err := s.step(int(v)); err != nil {
			w.rollback()
			return fmt.Errorf("bring the tables to version %d: %w", v+1, err)
		}
	}
	return nil
}

func (s *SQLite) step(v int) error {
	if err := s.writer.begin(); err != nil {
		return err
	}
	for _, statement := range migrations[v] {
		if _, err := s.writer.exec(statement); err != nil {
			return err
		}
	}
	if _, err := s.writer.exec("INSERT INTO schema_version (version, applied) VALUES (?, ?)", int64(v+1), timeText(time.Now())); err != nil {
		return err
	}
	return s.writer.commit()
}

// acquire waits for the writing connection.
func (s *SQLite) acquire(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.lock:
	}
	if s.closed {
		s.release()
		return errClosed
	}
	return nil
}

func (s *SQLite) release() { s.lock <- struct{}{} }

// Close waits for the write that is going on, then closes the database. Calls
// after it fail.
func (s *SQLite) Close() error {
	var errs []error
	if s.pool != nil {
		errs = append(errs, s.pool.Close())
	}
	if s.writer == nil {
		return errors.Join(errs...)
	}
	if s.pool != nil { // open succeeded, so others may be writing
		<-s.lock
		defer s.release()
		if s.closed {
			return nil
		}
		s.closed = true
	}
	for _, st := range []*statement{s.events, s.newEvents, s.content, s.bad, s.record} {
		if st != nil {
			errs = append(errs, st.closer.Close())
		}
	}
	return errors.Join(append(errs, s.shapes.close(), s.writer.conn.Close())...)
}
