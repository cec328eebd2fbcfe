package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// writer is the one connection that writes. It speaks to the driver without
// database/sql between, which would copy every argument of every row. It is used
// by one goroutine at a time.
type writer struct {
	conn driver.Conn
	open bool // a transaction is open
	// forever runs every statement. With a caller's context the driver would start
	// a goroutine per statement to watch it; callers look at theirs between
	// statements instead.
	forever context.Context
}

func (w *writer) exec(query string, args ...driver.Value) (int64, error) {
	e, ok := w.conn.(driver.ExecerContext)
	if !ok {
		return 0, errors.New("the SQLite driver cannot execute")
	}
	r, err := e.ExecContext(w.forever, query, named(args))
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// number returns the first column of the first row as a number.
func (w *writer) number(query string) (int64, error) {
	row, err := w.first(query)
	if err != nil {
		return 0, err
	}
	return firstNumber(query, row)
}

func firstNumber(query string, row []driver.Value) (int64, error) {
	if len(row) == 0 {
		return 0, io.EOF
	}
	n, ok := row[0].(int64)
	if !ok {
		return 0, fmt.Errorf("%s: answered %T, not a number", query, row[0])
	}
	return n, nil
}

// first returns the first row, nil when there is none.
func (w *writer) first(query string, args ...driver.Value) ([]driver.Value, error) {
	q, ok := w.conn.(driver.QueryerContext)
	if !ok {
		return nil, errors.New("the SQLite driver cannot query")
	}
	rows, err := q.QueryContext(w.forever, query, named(args))
	if err != nil {
		return nil, err
	}
	return firstRow(rows)
}

func firstRow(rows driver.Rows) ([]driver.Value, error) {
	row := make([]driver.Value, len(rows.Columns()))
	err := rows.Next(row)
	if errors.Is(err, io.EOF) {
		return nil, rows.Close()
	}
	if err := errors.Join(err, rows.Close()); err != nil {
		return nil, err
	}
	return row, nil
}

// all returns all rows of a query that has few.
func (w *writer) all(query string, args ...driver.Value) ([][]driver.Value, error) {
	q, ok := w.conn.(driver.QueryerContext)
	if !ok {
		return nil, errors.New("the SQLite driver cannot query")
	}
	rows, err := q.QueryContext(w.forever, query, named(args))
	if err != nil {
		return nil, err
	}
	var all [][]driver.Value
	for {
		row := make([]driver.Value, len(rows.Columns()))
		err := rows.Next(row)
		if errors.Is(err, io.EOF) {
			return all, rows.Close()
		}
		if err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		all = append(all, row)
	}
}

func (w *writer) prepare(query string) (*statement, error) {
	st, err := w.conn.Prepare(query)
	if err != nil {
		return nil, err
	}
	run, canRun := st.(driver.StmtExecContext)
	ask, canAsk := st.(driver.StmtQueryContext)
	if !canRun || !canAsk {
		return nil, errors.Join(errors.New("the SQLite driver cannot execute statements"), st.Close())
	}
	return &statement{query: query, closer: st, run: run, ask: ask, forever: w.forever}, nil
}

func (w *writer) begin() error {
	if w.open {
		w.rollback()
	}
	// Immediate: a deferred transaction that turns into a write fails at once
	// whatever the busy timeout.
	if _, err := w.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	w.open = true
	return nil
}

func (w *writer) commit() error {
	if _, err := w.exec("COMMIT"); err != nil {
		return err
	}
	w.open = false
	return nil
}

// rollback ends an open transaction. SQLite may have ended it already, on a full
// disk for example, and then says so; either way none is open afterwards.
func (w *writer) rollback() {
	if w.open {
		_, _ = w.exec("ROLLBACK")
		w.open = false
	}
}

type statement struct {
	query   string
	closer  driver.Stmt
	run     driver.StmtExecContext
	ask     driver.StmtQueryContext
	forever context.Context
}

func (s *statement) exec(args []driver.NamedValue) (int64, error) {
	r, err := s.run.ExecContext(s.forever, args)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// number is writer.number for a statement.
func (s *statement) number(args ...driver.Value) (int64, error) {
	rows, err := s.ask.QueryContext(s.forever, named(args))
	if err != nil {
		return 0, err
	}
	row, err := firstRow(rows)
	if err != nil {
		return 0, err
	}
	return firstNumber(s.query, row)
}

func named(args []driver.Value) []driver.NamedValue {
	out := make([]driver.NamedValue, len(args))
	for i, v := range args {
		out[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return out
}

// refused reports whether the database will never take the row: the failure lies
// in the row and not in the disk, a lock or the file. SQLite then has undone the
// one statement and the transaction goes on.
func refused(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH:
		return true
	}
	return false
}

const timeLayout = "2006-01-02 15:04:05.000"

// timeText writes a time as atomic.events has it, in UTC.
func timeText(t time.Time) string { return t.UTC().Format(timeLayout) }
