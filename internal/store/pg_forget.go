package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"furrow/internal/event"
	"furrow/internal/tombstone"
)

const (
	pgForgetRows = 2000 // events of one deleting transaction
	pgRecords    = 16   // records that one read takes; each may have megabytes

	ofPgPerson = "(user_id = ANY ($1) OR domain_userid = ANY ($1) OR network_userid = ANY ($1))"
)

// identifiersOf returns the identifiers as the columns hold them.
func identifiersOf(given []string) []string {
	var out []string
	for _, i := range given {
		if i = mendText(i); i != "" {
			out = append(out, i)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// partitions lists the partitions now.
func (p *Postgres) partitions(ctx context.Context) (parts []partition, err error) {
	err = p.reading(ctx, func(ctx context.Context, c *pgConn) error {
		parts, err = listPartitions(ctx, c)
		return err
	})
	return parts, err
}

// Person describes what is stored under any of the identifiers. It looks into one
// partition after the other; one that is dropped meanwhile counts as empty.
func (p *Postgres) Person(ctx context.Context, identifiers []string) (Person, error) {
	out := Person{Linked: []Identity{}}
	wanted := identifiersOf(identifiers)
	if len(wanted) == 0 {
		return out, nil
	}
	parts, err := p.partitions(ctx)
	linked := map[Identity]int64{}
	for i := 0; err == nil && i < len(parts); i++ {
		err = p.reading(ctx, func(ctx context.Context, c *pgConn) error {
			return out.look(ctx, c, parts[i].table, wanted, linked)
		})
		if sqlState(err) == "42P01" {
			err = nil
		}
	}
	if err != nil {
		return Person{}, fmt.Errorf("store: look for %d identifiers: %w", len(identifiers), err)
	}
	for id, n := range linked {
		id.Events = n
		out.Linked = append(out.Linked, id)
	}
	slices.SortFunc(out.Linked, func(a, b Identity) int {
		return cmp.Or(cmp.Compare(b.Events, a.Events), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Value, b.Value))
	})
	out.Linked = out.Linked[:min(len(out.Linked), linkedMost)]
	return out, nil
}

// look adds what one partition has.
func (p *Person) look(ctx context.Context, c *pgConn, table string, wanted []string, linked map[Identity]int64) error {
	rows, err := c.Query(ctx, `SELECT user_id, domain_userid, network_userid, count(*), min(collector_tstamp), max(collector_tstamp)
FROM `+table+` WHERE `+ofPgPerson+` GROUP BY 1, 2, 3`, wanted)
	if err != nil {
		return err
	}
	var values [3]*string
	var n int64
	var first, last time.Time
	_, err = pgx.ForEachRow(rows, []any{&values[0], &values[1], &values[2], &n, &first, &last}, func() error {
		for i, v := range values {
			if v == nil {
				continue
			}
			if _, asked := slices.BinarySearch(wanted, *v); asked {
				continue
			}
			id := Identity{Field: identifierColumns[i], Value: *v}
			if have, known := linked[id]; known || len(linked) < linkedHeld {
				linked[id] = have + n
			}
		}
		if p.Events == 0 || first.Before(p.First) {
			p.First = first.UTC()
		}
		if p.Events == 0 || last.After(p.Last) {
			p.Last = last.UTC()
		}
		p.Events += n
		return nil
	})
	return err
}

// Forget deletes people's events and bad rows in small transactions, partition by
// partition, and vacuums what it touched. After an error it may be repeated with
// the same order. Dead rows that a long transaction of somebody else still sees
// stay until autovacuum comes by.
func (p *Postgres) Forget(ctx context.Context, order Forgetting) (Forgotten, error) {
	var done Forgotten
	var touched []string
	err := p.forgetEvents(ctx, order, &done, &touched)
	if err != nil {
		err = fmt.Errorf("store: forget the events of %d identifiers: %w", len(order.Identifiers), err)
	} else if err = p.forgetRecords(ctx, order, &done); err != nil {
		err = fmt.Errorf("store: forget in bad rows: %w", err)
	}
	if err != nil {
		return done, err
	}
	for _, table := range append(touched, "atomic.bad_failures", "atomic.bad_records") {
		if err := p.vacuum(ctx, table); err != nil {
			return done, fmt.Errorf("store: vacuum %s: %w", table, err)
		}
	}
	return done, nil
}

// vacuum removes dead rows. A table that is gone has none.
func (p *Postgres) vacuum(ctx context.Context, table string) error {
	ctx, cancel := context.WithTimeout(ctx, pgLongWork)
	defer cancel()
	err := p.use(ctx, p.write, func(ctx context.Context, c *pgConn) error {
		_, err := c.Exec(ctx, "VACUUM (INDEX_CLEANUP ON) "+table, pgx.QueryExecModeSimpleProtocol)
		return err
	})
	if sqlState(err) == "42P01" {
		return nil
	}
	return err
}

func (p *Postgres) forgetEvents(ctx context.Context, order Forgetting, done *Forgotten, touched *[]string) error {
	wanted := identifiersOf(order.Identifiers)
	if len(wanted) == 0 {
		return nil
	}
	parts, err := p.partitions(ctx)
	if err != nil {
		return err
	}
	until := badTime(order.Until)
	if order.Until.Before(until) { // before the year 1
		return nil
	}
	for _, part := range parts {
		if part.ours && part.day.time().After(until) {
			continue
		}
		n, dead, err := p.forgetIn(ctx, part, wanted, until)
		done.Events += n
		if err != nil {
			return err
		}
		if n > 0 || dead {
			*touched = append(*touched, part.table)
		}
	}
	return nil
}

// forgetIn deletes people's events from a partition. dead says whether it holds
// dead rows, which may be those of a try before that failed.
func (p *Postgres) forgetIn(ctx context.Context, part partition, wanted []string, until time.Time) (total int64, dead bool, err error) {
	const someRows = "ctid = ANY (ARRAY(SELECT ctid FROM %[1]s WHERE " + ofPgPerson + " AND collector_tstamp <= $2 LIMIT $3))"
	query := fmt.Sprintf("DELETE FROM %[1]s WHERE "+someRows+" AND "+ofPgPerson+
		" AND collector_tstamp <= $2 RETURNING event_id::text, floor(extract(epoch FROM collector_tstamp) / 86400)::int4", part.table)
	for {
		n := int64(0)
		err = p.writing(ctx, func(ctx context.Context, c *pgConn) error {
			defer c.rollback(ctx)
			var err error
			n, err = p.forgetSome(ctx, c, query, wanted, until)
			if err == nil && n < pgForgetRows {
				const count = "SELECT coalesce(max(n_dead_tup), 0) > 0 FROM pg_stat_user_tables WHERE relid = to_regclass($1)"
				err = c.QueryRow(ctx, count, part.table).Scan(&dead)
			}
			return err
		})
		if sqlState(err) == "42P01" { // retention was faster
			p.forgetDays()
			return total, false, nil
		}
		if err != nil {
			return total, dead, err
		}
		if total += n; n < pgForgetRows {
			return total, dead, nil
		}
	}
}

func (p *Postgres) forgetSome(ctx context.Context, c *pgConn, query string, wanted []string, until time.Time) (int64, error) {
	if _, err := c.Exec(ctx, "BEGIN"); err != nil {
		return 0, err
	}
	if _, err := c.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(pgLockForgetting)); err != nil {
		return 0, err
	}
	rows, err := c.Query(ctx, query, wanted, until, pgForgetRows)
	if err != nil {
		return 0, err
	}
	var ids [][16]byte
	byDay := map[pgDay]int64{}
	var id string
	var day int32
	tag, err := pgx.ForEachRow(rows, []any{&id, &day}, func() error {
		if key, ok := parseUUID(id); ok {
			ids = append(ids, key)
		}
		byDay[pgDay(day)]++
		return nil
	})
	if err != nil || tag.RowsAffected() == 0 {
		return 0, err
	}
	if _, err := c.Exec(ctx, "DELETE FROM atomic.event_ids WHERE event_id = ANY ($1)", ids); err != nil {
		return 0, err
	}
	var changes []total
	for day, n := range byDay {
		changes = append(changes, total{name: "events", day: day, rows: -n})
	}
	return tag.RowsAffected(), p.commit(ctx, c, changes)
}

// pgRecord is a record of bad rows.
type pgRecord struct {
	id    event.RecordID
	bytes []byte
}

func (p *Postgres) forgetRecords(ctx context.Context, order Forgetting, done *Forgotten) error {
	if order.Record == nil {
		return nil
	}
	after := []byte{}
	for {
		var records []pgRecord
		err := p.writing(ctx, func(ctx context.Context, c *pgConn) error {
			rows, err := c.Query(ctx, "SELECT record_id, record FROM atomic.bad_records WHERE record_id > $1 ORDER BY record_id LIMIT $2", after, pgRecords)
			if err != nil {
				return err
			}
			records, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (pgRecord, error) {
				var r pgRecord
				var raw []byte
				if err := row.Scan(&raw, &r.bytes); err != nil {
					return r, err
				}
				r.id, err = toRecordID(raw)
				return r, err
			})
			return err
		})
		if err != nil || len(records) == 0 {
			return err
		}
		for _, r := range records {
			after = slices.Clone(r.id[:])
			kept, gone, changed := order.Record(r.id, r.bytes)
			if !changed {
				continue
			}
			if err := p.redact(ctx, r.id, kept, gone, done); err != nil {
				return fmt.Errorf("record %s: %w", r.id, err)
			}
		}
	}
}

// redact takes rows of a record out and rewrites it, or deletes it with all rows,
// in one transaction.
func (p *Postgres) redact(ctx context.Context, id event.RecordID, kept []byte, gone func(int) bool, done *Forgotten) error {
	goes := func(index int32) bool { return kept == nil || gone != nil && gone(int(index)) }
	deleted := 0
	err := p.writing(ctx, func(ctx context.Context, c *pgConn) error {
		return c.transact(ctx, func() error {
			if err := lockBad(ctx, c); err != nil {
				return err
			}
			ids, err := failuresOf(ctx, c, id, goes)
			if err != nil {
				return err
			}
			if deleted, err = p.deleteBadRows(ctx, c, "id = ANY ($1)", ids); err != nil {
				return err
			}
			if kept == nil { // also when it had no rows
				_, err = c.Exec(ctx, "DELETE FROM atomic.bad_records WHERE record_id = $1", id[:])
			} else {
				_, err = c.Exec(ctx, "UPDATE atomic.bad_records SET record = $2 WHERE record_id = $1", id[:], kept)
			}
			return err
		})
	})
	if err != nil {
		return err
	}
	done.BadRows += int64(deleted)
	done.Records++
	return nil
}

// failuresOf returns the ids of a record's bad rows that go.
func failuresOf(ctx context.Context, c *pgConn, record event.RecordID, goes func(int32) bool) ([]string, error) {
	rows, err := c.Query(ctx, "SELECT id, event_index FROM atomic.bad_failures WHERE record_id = $1", record[:])
	if err != nil {
		return nil, err
	}
	var ids []string
	var id string
	var index int32
	_, err = pgx.ForEachRow(rows, []any{&id, &index}, func() error {
		if goes(index) {
			ids = append(ids, id)
		}
		return nil
	})
	return ids, err
}

// EachIdentifier calls fn with every distinct identifier that is stored. It reads
// the whole table, a partition at a time. What was seen lies in a temporary table
// on the server; no transaction is open while fn runs.
func (p *Postgres) EachIdentifier(ctx context.Context, fn func(identifier string) error) error {
	parts, err := p.partitions(ctx)
	if err != nil {
		return fmt.Errorf("store: read the identifiers: %w", err)
	}
	var stop error // what fn said, which is not about the server
	err = p.use(ctx, p.write, func(ctx context.Context, c *pgConn) error {
		defer c.drop(ctx) // and with it the temporary tables
		for _, s := range []string{
			"CREATE TEMPORARY TABLE seen (identifier text PRIMARY KEY)",
			"CREATE TEMPORARY TABLE fresh (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, identifier text)",
		} {
			if _, err := c.Exec(ctx, s); err != nil {
				return err
			}
		}
		for _, part := range parts {
			stop, err = identifiersIn(ctx, c, part.table, fn)
			if sqlState(err) == "42P01" {
				continue // dropped meanwhile
			}
			if err := errors.Join(stop, err); err != nil {
				return err
			}
		}
		return nil
	})
	if stop != nil {
		return stop
	}
	if err != nil {
		return fmt.Errorf("store: read the identifiers: %w", err)
	}
	return nil
}

// identifiersIn passes on the identifiers of a partition that were not seen before.
// stop is what fn said.
func identifiersIn(ctx context.Context, c *pgConn, table string, fn func(string) error) (stop, err error) {
	const query = `WITH found AS (
  SELECT user_id AS i FROM %[1]s WHERE user_id IS NOT NULL
  UNION SELECT domain_userid FROM %[1]s WHERE domain_userid IS NOT NULL
  UNION SELECT network_userid FROM %[1]s WHERE network_userid IS NOT NULL
), fresh AS (INSERT INTO seen SELECT i FROM found ON CONFLICT DO NOTHING RETURNING identifier)
INSERT INTO fresh (identifier) SELECT identifier FROM fresh`
	working, cancel := context.WithTimeout(ctx, pgLongWork)
	defer cancel()
	if _, err := c.Exec(working, fmt.Sprintf(query, table)); err != nil {
		return nil, err
	}
	for after := int64(0); ; {
		identifiers, err := freshIdentifiers(ctx, c, &after)
		if err != nil {
			return nil, err
		}
		for _, i := range identifiers {
			if err := fn(i); err != nil {
				return err, nil
			}
		}
		if len(identifiers) < pageRows {
			_, err := c.Exec(ctx, "TRUNCATE fresh")
			return nil, err
		}
	}
}

// freshIdentifiers reads the next page.
func freshIdentifiers(ctx context.Context, c *pgConn, after *int64) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, pgLongWork)
	defer cancel()
	rows, err := c.Query(ctx, "SELECT n, identifier FROM fresh WHERE n > $1 ORDER BY n LIMIT $2", *after, pageRows)
	if err != nil {
		return nil, err
	}
	var out []string
	var identifier string
	_, err = pgx.ForEachRow(rows, []any{after, &identifier}, func() error {
		out = append(out, identifier)
		return nil
	})
	return out, err
}

// Buried returns the tombstones that were applied to this database, by key, hash
// and time.
func (p *Postgres) Buried(ctx context.Context) ([]tombstone.Tombstone, error) {
	var stones []tombstone.Tombstone
	err := p.writing(ctx, func(ctx context.Context, c *pgConn) error {
		rows, err := c.Query(ctx, "SELECT key, hash, until FROM atomic.tombstones ORDER BY key, hash, until")
		if err != nil {
			return err
		}
		stones, err = pgx.CollectRows(rows, scanTombstone)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("store: read the tombstones: %w", err)
	}
	return stones, nil
}

func scanTombstone(row pgx.CollectableRow) (tombstone.Tombstone, error) {
	var t tombstone.Tombstone
	var key, hash []byte
	var until string
	if err := row.Scan(&key, &hash, &until); err != nil {
		return t, err
	}
	if len(key) != len(t.Key) || len(hash) != len(t.Hash) {
		return t, fmt.Errorf("a tombstone has a key of %d bytes and a hash of %d, want %d each", len(key), len(hash), len(t.Key))
	}
	t.Key, t.Hash = tombstone.Hash(key), tombstone.Hash(hash)
	var err error
	t.Until, err = time.Parse(untilLayout, until)
	return t, err
}

// Bury notes that tombstones were applied, all or none. Known ones are left alone.
func (p *Postgres) Bury(ctx context.Context, stones []tombstone.Tombstone) error {
	if len(stones) == 0 {
		return nil
	}
	var keys, hashes [][]byte
	var untils []string
	for i := range stones {
		keys, hashes = append(keys, stones[i].Key[:]), append(hashes, stones[i].Hash[:])
		untils = append(untils, stones[i].Until.UTC().Format(untilLayout))
	}
	err := p.writing(ctx, func(ctx context.Context, c *pgConn) error {
		_, err := c.Exec(ctx, `INSERT INTO atomic.tombstones (key, hash, until)
SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::text[]) ORDER BY 1, 2, 3 ON CONFLICT DO NOTHING`, keys, hashes, untils)
		return err
	})
	if err != nil {
		return fmt.Errorf("store: note %d tombstones: %w", len(stones), err)
	}
	return nil
}
