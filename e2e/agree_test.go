package e2e

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"furrow/internal/event"
	"furrow/internal/store/pgtest"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"
)

// row is an event as one of the stores has it: the text of each cell that is not
// null, written alike for all stores. When it was enriched is left out: two stores
// may enrich for themselves.
type row map[string]string

var kinds = func() map[string]event.Kind {
	m := map[string]event.Kind{}
	for _, f := range event.Fields() {
		m[f.Name()] = f.Kind()
	}
	delete(m, event.EtlTstamp.Name())
	return m
}()

// set keeps a cell, given as its store returns it.
func (r row) set(name string, v any) error {
	kind, ok := kinds[name]
	if !ok || v == nil {
		return nil
	}
	switch v := v.(type) {
	case bool:
		r[name] = map[bool]string{true: "1", false: "0"}[v]
	case int64:
		r[name] = strconv.FormatInt(v, 10)
	case float64:
		r[name] = strconv.FormatFloat(v, 'g', -1, 64)
	case time.Time:
		r[name] = v.UTC().Format("2006-01-02T15:04:05.000")
	case string:
		switch kind {
		case event.Time:
			t, err := time.Parse("2006-01-02T15:04:05.999999", strings.Replace(v, " ", "T", 1))
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return r.set(name, t)
		case event.JSON:
			var doc any
			if err := json.Unmarshal([]byte(v), &doc); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			canonical, err := json.Marshal(doc)
			if err != nil {
				return err
			}
			v = string(canonical)
		default:
		}
		r[name] = v
	default:
		return fmt.Errorf("%s: a %T", name, v)
	}
	return nil
}

// events are what a store holds, by event id.
type events map[string]row

// add refuses a second row of one id.
func (e events) add(r row) error {
	id := r[event.EventID.Name()]
	if _, ok := e[id]; ok {
		return fmt.Errorf("event %s is there twice", id)
	}
	e[id] = r
	return nil
}

func (e events) ids() map[string]int {
	ids := make(map[string]int, len(e))
	for id := range e {
		ids[id] = 1
	}
	return ids
}

// sqliteEvents reads the database of a data folder.
func sqliteEvents(t *testing.T, db *sql.DB) events {
	t.Helper()
	rows, err := db.Query("SELECT * FROM events")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	values, into := make([]any, len(names)), make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	all := events{}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		r := row{}
		for i, name := range names {
			if err := r.set(name, values[i]); err != nil {
				t.Fatal(err)
			}
		}
		if err := all.add(r); err != nil {
			t.Errorf("SQLite: %v", err)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// postgresEvents reads atomic.events.
func postgresEvents(t *testing.T, server *pgtest.Server, database string) events {
	t.Helper()
	text, err := server.SQL(database, "SELECT row_to_json(e) FROM atomic.events e")
	if err != nil {
		t.Fatal(err)
	}
	all := events{}
	for line := range strings.Lines(text) {
		cells := map[string]json.RawMessage{}
		if err := json.Unmarshal([]byte(line), &cells); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		r := row{}
		for name, cell := range cells {
			if err := r.set(name, jsonValue(t, name, cell)); err != nil {
				t.Fatal(err)
			}
		}
		if err := all.add(r); err != nil {
			t.Errorf("Postgres: %v", err)
		}
	}
	return all
}

// jsonValue is a cell of row_to_json as a driver would give it.
func jsonValue(t *testing.T, name string, cell json.RawMessage) any {
	t.Helper()
	if bytes.Equal(cell, []byte("null")) {
		return nil
	}
	kind := kinds[name]
	if kind == event.JSON {
		return string(cell)
	}
	var v any
	if err := json.Unmarshal(cell, &v); err != nil {
		t.Fatal(err)
	}
	if n, ok := v.(float64); ok && kind == event.Int {
		return int64(n)
	}
	return v
}

// parquetEvents reads every Parquet file under a folder as it lies.
func parquetEvents(t *testing.T, folder string) events {
	t.Helper()
	all := events{}
	err := filepath.WalkDir(filepath.Join(folder, "events"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".parquet") {
			return err
		}
		rows, err := parquet.ReadFile[any](path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for _, v := range rows {
			r := row{}
			for name, cell := range v.(map[string]any) {
				if err := r.set(name, parquetValue(name, cell)); err != nil {
					return fmt.Errorf("%s: %w", path, err)
				}
			}
			if err := all.add(r); err != nil {
				t.Errorf("archive: %v", err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func parquetValue(name string, cell any) any {
	switch v := cell.(type) {
	case []byte:
		return string(v)
	case int32:
		return int64(v)
	case int64:
		if kinds[name] == event.Time {
			return time.UnixMicro(v)
		}
	}
	return cell
}

// agree holds two stores against each other, event by event.
func agree(t *testing.T, a, b string, in, other events) {
	t.Helper()
	told := 0
	for _, id := range slices.Sorted(maps.Keys(in)) {
		switch theirs, ok := other[id]; {
		case !ok:
			t.Errorf("%s has event %s, %s has not", a, id, b)
		case !maps.EqualFunc(in[id], theirs, sameCell):
			t.Errorf("event %s differs, -%s +%s:\n%s", id, a, b, cmp.Diff(in[id], theirs))
		default:
			continue
		}
		if told++; told == 5 {
			t.Fatal("and so on")
		}
	}
	if len(other) != len(in) {
		t.Errorf("%s has %d events, %s %d", a, len(in), b, len(other))
	}
}

// sameCell allows for the last digit of a number that one store holds as text.
func sameCell(a, b string) bool {
	if a == b {
		return true
	}
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	return errX == nil && errY == nil && math.Abs(x-y) <= 1e-12*max(math.Abs(x), math.Abs(y))
}
