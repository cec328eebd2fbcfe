package store

import (
	"context"
	"fmt"
	"strings"

	"furrow/internal/event"
)

// Keys of advisory locks, "furw" and a number.
const (
	pgLockTables     = 0x66757277_00000001 // whoever changes tables or partitions
	pgLockForgetting = 0x66757277_00000002 // one Forget at a time
)

// pgType is how Postgres holds a field. Money is numeric without a scale, so that
// nothing is rounded; a document is jsonb.
func pgType(f event.Field) string {
	switch f.Kind() {
	case event.Int:
		return "integer"
	case event.Bool:
		return "boolean"
	case event.Float:
		return "double precision"
	case event.Decimal:
		if f == event.SeValue {
			return "double precision" // as everybody has it
		}
		return "numeric"
	case event.Time:
		return "timestamp"
	case event.JSON:
		return "jsonb"
	}
	switch n := f.MaxLen(); {
	case f == event.EventID:
		return "char(36)"
	case n > 0:
		return fmt.Sprintf("varchar(%d)", n)
	default:
		return "text"
	}
}

func createPgEvents() string {
	var b strings.Builder
	b.WriteString("CREATE TABLE atomic.events (\n")
	for _, f := range columns {
		fmt.Fprintf(&b, "  %s %s", f.Name(), pgType(f))
		if required[f] {
			b.WriteString(" NOT NULL")
		}
		b.WriteString(",\n")
	}
	b.WriteString("  content_hash bigint NOT NULL,\n")
	// What incremental models go by. The server fills it.
	b.WriteString("  load_tstamp timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')\n")
	b.WriteString(") PARTITION BY RANGE (collector_tstamp)")
	return b.String()
}

// copyEvents names the columns that Insert gives.
var copyEvents = func() string {
	names := make([]string, 0, len(columns)+1)
	for _, f := range columns {
		names = append(names, f.Name())
	}
	return "COPY atomic.events (" + strings.Join(append(names, "content_hash"), ", ") + ") FROM STDIN BINARY"
}()

// pgMigrations bring a database from version n to n+1, as migrations do for
// SQLite.
var pgMigrations = [][]string{
	{
		createPgEvents(),
		`CREATE INDEX events_collector_tstamp ON atomic.events (collector_tstamp)`,
		// Follows collector_tstamp closely, so a summary of the blocks will do.
		`CREATE INDEX events_derived_tstamp ON atomic.events USING brin (derived_tstamp) WITH (autosummarize = on)`,
		`CREATE INDEX events_domain_userid ON atomic.events (domain_userid) WHERE domain_userid IS NOT NULL`,
		`CREATE INDEX events_domain_sessionid ON atomic.events (domain_sessionid) WHERE domain_sessionid IS NOT NULL`,
		`CREATE INDEX events_event_name ON atomic.events (event_name)`,
		// A person is looked for under any of three identifiers.
		`CREATE INDEX events_user_id ON atomic.events (user_id) WHERE user_id IS NOT NULL`,
		`CREATE INDEX events_network_userid ON atomic.events (network_userid) WHERE network_userid IS NOT NULL`,
		// day and day_millis are the collector time, so that an event is found by
		// its id; content_hash tells a resend from another event. No index by day:
		// it would cost every insert more than the daily walk through the table.
		`CREATE TABLE atomic.event_ids (
  event_id uuid PRIMARY KEY,
  day date NOT NULL,
  day_millis integer NOT NULL,
  content_hash bigint NOT NULL
)`,
		// Days whose partition was dropped and whose ids are still there.
		`CREATE TABLE atomic.past_days (day date PRIMARY KEY)`,
		`CREATE TABLE atomic.bad_records (
  record_id bytea PRIMARY KEY,
  record bytea NOT NULL
)`,
		// json and not jsonb: the exact text is kept.
		`CREATE TABLE atomic.bad_failures (
  id text PRIMARY KEY,
  time timestamp NOT NULL,
  schema text NOT NULL,
  failure json NOT NULL,
  record_id bytea NOT NULL,
  event_index integer NOT NULL,
  seq bigint GENERATED ALWAYS AS IDENTITY
)`,
		`CREATE INDEX bad_failures_time ON atomic.bad_failures (time, seq)`,
		`CREATE INDEX bad_failures_record ON atomic.bad_failures (record_id, seq)`,
		`CREATE VIEW atomic.bad_rows AS
SELECT f.id, f.time, f.schema, f.failure, r.record, f.event_index
FROM atomic.bad_failures AS f LEFT JOIN atomic.bad_records AS r USING (record_id)`,
		// Exact counts, kept by the transactions that change the tables. Each
		// process counts in a slot, so that they do not wait for each other.
		`CREATE TABLE atomic.totals (
  name text NOT NULL,
  day date NOT NULL,
  slot smallint NOT NULL,
  rows bigint NOT NULL,
  PRIMARY KEY (name, day, slot)
) WITH (fillfactor = 50)`,
		// until is RFC 3339 with nanoseconds, which no timestamp here holds.
		`CREATE TABLE atomic.tombstones (
  key bytea NOT NULL,
  hash bytea NOT NULL,
  until text NOT NULL,
  applied timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
  PRIMARY KEY (key, hash, until)
)`,
	},
}

// migratePostgres brings the tables to this version. Of several processes that
// start together one does it and the others wait for it.
func migratePostgres(ctx context.Context, c *pgConn) error {
	have, err := pgVersion(ctx, c)
	if err != nil {
		return err
	}
	if have < len(pgMigrations) {
		err = c.transact(ctx, func() error { return upgradePostgres(ctx, c, &have) })
		if err != nil {
			return fmt.Errorf("bring the tables from version %d to %d: %w", have, len(pgMigrations), err)
		}
	}
	if have > len(pgMigrations) {
		return fmt.Errorf("its tables have version %d and this program knows up to %d: use the newer program, or another database", have, len(pgMigrations))
	}
	return nil
}

func upgradePostgres(ctx context.Context, c *pgConn, have *int) error {
	if _, err := c.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(pgLockTables)); err != nil {
		return err
	}
	v, err := pgVersion(ctx, c)
	if err != nil {
		return err
	}
	*have = v
	if v == 0 {
		var there bool
		if err := c.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'atomic')").Scan(&there); err != nil {
			return err
		}
		if !there { // making it takes a right that its owner may not have given
			if _, err := c.Exec(ctx, "CREATE SCHEMA atomic"); err != nil {
				return err
			}
		}
		const versions = `CREATE TABLE IF NOT EXISTS atomic.schema_version (
  version integer PRIMARY KEY,
  applied timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
)`
		if _, err := c.Exec(ctx, versions); err != nil {
			return err
		}
	}
	for ; v < len(pgMigrations); v++ {
		for _, statement := range pgMigrations[v] {
			if _, err := c.Exec(ctx, statement); err != nil {
				return fmt.Errorf("%w in: %s", err, strings.SplitN(statement, "\n", 2)[0])
			}
		}
		if _, err := c.Exec(ctx, "INSERT INTO atomic.schema_version (version) VALUES ($1)", v+1); err != nil {
			return err
		}
	}
	*have = max(*have, v)
	return nil
}

// pgVersion is 0 for a database without our tables.
func pgVersion(ctx context.Context, c *pgConn) (int, error) {
	there, err := hasTable(ctx, c, "schema_version")
	if err != nil || !there {
		return 0, err
	}
	var v int
	err = c.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM atomic.schema_version").Scan(&v)
	return v, err
}

// hasTable looks into the catalogue itself: to_regclass and the like answer from
// memory, and still say no when another process made the table while this one
// waited for a lock.
func hasTable(ctx context.Context, c *pgConn, name string) (there bool, err error) {
	err = c.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'atomic' AND c.relname = $1)`, name).Scan(&there)
	return there, err
}
