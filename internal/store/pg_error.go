package store

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// sqlState is PostgreSQL's code of an error, empty when it has none.
func sqlState(err error) string {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return ""
	}
	return e.Code
}

// lostServer reports whether the connection, or the server behind it, is of no
// more use: it ended, is shutting down or starting, or became a standby.
func lostServer(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, pgx.ErrNoRows) {
		return false
	}
	code := sqlState(err)
	switch {
	case code == "": // of the network, or of the protocol
		return true
	case code[:2] == "08":
		return true
	}
	switch code {
	case "57P01", "57P02", "57P03", "57P05", "25006", "25P03":
		return true
	}
	return false
}

// lostTables reports whether the tables we know are not there: the server was
// restored, or somebody dropped them.
func lostTables(err error) bool {
	switch sqlState(err) {
	case "3F000", "42P01", "3D000":
		return true
	}
	return false
}

// noPartition reports whether a row found no partition for its day: retention, or
// another process's, dropped it.
func noPartition(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "23514" && e.ConstraintName == ""
}

// refusedByPostgres reports whether the server will never take the row: the
// failure lies in the data and not in the server, a lock or the network.
func refusedByPostgres(err error) bool {
	code := sqlState(err)
	if code == "" || noPartition(err) {
		return false
	}
	switch code[:2] {
	case "22", // data exception, encodings included
		"23", // a constraint
		"0A", // not supported, such as \u0000 in a server of another encoding
		"44", // a view's check option
		"54": // beyond a limit: an index row, the depth of a document
		return true
	}
	return code == "P0001" // raised by a trigger of the owner's
}
