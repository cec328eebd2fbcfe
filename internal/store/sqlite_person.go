package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"modernc.org/sqlite"
)

const (
	linkedMost = 100     // identities that Person returns
	linkedHeld = 100_000 // identities that it counts; later ones are left out
)

var identifierColumns = []string{"user_id", "domain_userid", "network_userid"}

// Person describes what is stored under any of the identifiers. It reads the whole
// table, in steps.
func (s *SQLite) Person(ctx context.Context, identifiers []string) (Person, error) {
	p := Person{Linked: []Identity{}}
	wanted := map[string]bool{}
	for _, i := range identifiers {
		if i != "" && storable(i) {
			wanted[i] = true
		}
	}
	list, err := textList(slices.DeleteFunc(slices.Clone(identifiers), func(i string) bool { return !wanted[i] }))
	if err != nil || len(wanted) == 0 {
		return p, err
	}
	linked := map[Identity]int64{}
	const query = "SELECT user_id, domain_userid, network_userid, collector_tstamp FROM events WHERE rowid BETWEEN ?3 AND ?4 AND " + ofPerson
	err = s.eachRange(ctx, func(first, last int64) error {
		return s.read(ctx, query, []any{endOfTime, list, first, last}, func(rows *sql.Rows) (bool, error) {
			var values [3]sql.NullString
			var at string
			if err := rows.Scan(&values[0], &values[1], &values[2], &at); err != nil {
				return false, err
			}
			for i, v := range values {
				id := Identity{Field: identifierColumns[i], Value: v.String}
				if n, known := linked[id]; v.Valid && !wanted[v.String] && (known || len(linked) < linkedHeld) {
					linked[id] = n + 1
				}
			}
			return true, p.saw(at)
		})
	})
	if err != nil {
		return Person{}, fmt.Errorf("store: look for %d identifiers: %w", len(identifiers), err)
	}
	for id, n := range linked {
		id.Events = n
		p.Linked = append(p.Linked, id)
	}
	slices.SortFunc(p.Linked, func(a, b Identity) int {
		return cmp.Or(cmp.Compare(b.Events, a.Events), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Value, b.Value))
	})
	p.Linked = p.Linked[:min(len(p.Linked), linkedMost)]
	return p, nil
}

// endOfTime is after every time as the table holds it.
const endOfTime = "~"

// saw counts an event collected at a time of the table.
func (p *Person) saw(at string) error {
	t, err := time.Parse(timeLayout, at)
	if err != nil {
		return err
	}
	if p.Events == 0 || t.Before(p.First) {
		p.First = t
	}
	if p.Events == 0 || t.After(p.Last) {
		p.Last = t
	}
	p.Events++
	return nil
}

// EachIdentifier calls fn with every distinct identifier that is stored. It reads
// the whole table in steps, and no transaction is open while fn runs. What it has
// seen lies in a temporary file, which has no name and goes with the call.
func (s *SQLite) EachIdentifier(ctx context.Context, fn func(identifier string) error) (err error) {
	w, err := s.scratch(ctx)
	if err != nil {
		return fmt.Errorf("store: read the identifiers: %w", err)
	}
	defer func() {
		if cerr := w.conn.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("store: read the identifiers: %w", cerr)
		}
	}()
	const query = `INSERT INTO seen (identifier)
SELECT user_id FROM events WHERE rowid BETWEEN ?1 AND ?2 AND user_id IS NOT NULL
UNION SELECT domain_userid FROM events WHERE rowid BETWEEN ?1 AND ?2 AND domain_userid IS NOT NULL
UNION SELECT network_userid FROM events WHERE rowid BETWEEN ?1 AND ?2 AND network_userid IS NOT NULL
ON CONFLICT DO NOTHING RETURNING identifier`
	return s.eachRange(ctx, func(first, last int64) error {
		rows, err := w.all(query, first, last)
		if err != nil {
			return fmt.Errorf("store: read the identifiers: %w", err)
		}
		for _, row := range rows {
			identifier, ok := row[0].(string)
			if !ok {
				continue // the columns are text
			}
			if err := fn(identifier); err != nil {
				return err
			}
		}
		return nil
	})
}

// scratch opens a connection with a temporary table of its own. It never writes to
// the database.
func (s *SQLite) scratch(ctx context.Context) (*writer, error) {
	connector, err := sqlite.NewConnector(fileName(s.path))
	if err != nil {
		return nil, err
	}
	conn, err := connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	w := &writer{conn: conn, forever: ctx}
	for _, statement := range []string{
		fmt.Sprintf("PRAGMA busy_timeout=%d", busyTimeout.Milliseconds()),
		"PRAGMA temp_store=FILE",
		"PRAGMA cache_size=-8192",
		"PRAGMA temp.cache_size=-32768",
		"CREATE TEMP TABLE seen (identifier TEXT NOT NULL PRIMARY KEY) WITHOUT ROWID",
	} {
		if _, err := w.first(statement); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return w, nil
}
