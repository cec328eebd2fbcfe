package archive

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"furrow/internal/event"
)

var update = flag.Bool("update", false, "write the golden file anew")

// TestSchemaOnlyGrows pins names, order, types and nullability of all columns:
// files of years hold them. A new column goes to the end of its dataset.
func TestSchemaOnlyGrows(t *testing.T) {
	t.Parallel()
	var got bytes.Buffer
	for d := range numDatasets {
		if err := parquet.PrintSchema(&got, d.String(), schemas[d].parquet); err != nil {
			t.Fatal(err)
		}
		got.WriteByte('\n')
	}
	golden := filepath.Join("testdata", "schema.golden")
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got.String()); d != "" {
		t.Errorf("columns changed (run with -update if one was appended):\n%s", d)
	}
	if n := len(schemas[eventSet].columns); n != event.NumFields+1 { // and content_hash
		t.Errorf("events has %d columns, want %d", n, event.NumFields+1)
	}
}

// readAll returns the rows of all files of a dataset as column name → value.
func readAll(tb testing.TB, a *Archive, d dataset) []map[string]any {
	tb.Helper()
	var all []map[string]any
	err := a.place.list(tb.Context(), d.String()+"/", func(name string, _ int64) error {
		obj, err := a.place.open(tb.Context(), name)
		if err != nil {
			return err
		}
		defer obj.Close()
		file, err := parquet.OpenFile(obj, obj.size())
		if err != nil {
			return err
		}
		if set, _ := file.Lookup(metaDataset); set != d.String() {
			tb.Errorf("%s: footer says dataset %q", name, set)
		}
		if version, _ := file.Lookup(metaFormat); version != "1" {
			tb.Errorf("%s: footer says format %q", name, version)
		}
		for _, group := range file.RowGroups() {
			rows := group.Rows()
			defer rows.Close()
			for {
				buf := make([]parquet.Row, 50)
				n, err := rows.ReadRows(buf)
				for _, row := range buf[:n] {
					all = append(all, values(row, file.Schema()))
				}
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

func values(row parquet.Row, s *parquet.Schema) map[string]any {
	got := make(map[string]any)
	for _, v := range row {
		name := strings.Join(s.Columns()[v.Column()], ".")
		switch {
		case v.IsNull():
		case v.Kind() == parquet.Boolean:
			got[name] = v.Boolean()
		case v.Kind() == parquet.Int32:
			got[name] = v.Int32()
		case v.Kind() == parquet.Int64:
			got[name] = v.Int64()
		case v.Kind() == parquet.Double:
			got[name] = v.Double()
		default:
			got[name] = string(v.ByteArray())
		}
	}
	return got
}

func TestEveryColumnComesBack(t *testing.T) {
	t.Parallel()
	a := openAt(t, t.TempDir())
	full, empty := &event.Event{}, &event.Event{}
	want, bare := map[string]any{}, map[string]any{
		"event_id": "", "v_collector": "", "v_etl": "", "collector_tstamp": day.UnixMicro(),
	}
	for i, f := range event.Fields() {
		switch f.Kind() {
		case event.Text, event.JSON:
			s := fmt.Sprintf("text\x00%d %s", i, strings.Repeat("ü", i*20))
			full.SetText(f, s)
			want[f.Name()] = s
		case event.Decimal:
			full.SetText(f, fmt.Sprintf("%d.5E-2", i))
			want[f.Name()] = (float64(i) + 0.5) / 100
		case event.Int:
			full.SetInt(f, int64(i)-100)
			want[f.Name()] = int32(i) - 100
		case event.Bool:
			full.SetInt(f, int64(i%2))
			want[f.Name()] = i%2 == 1
		case event.Time:
			at := day.Add(time.Duration(i) * time.Millisecond)
			full.SetTime(f, at)
			want[f.Name()] = at.UnixMicro()
		case event.Float:
			full.SetFloat(f, float32(i)+0.25)
			want[f.Name()] = float64(i) + 0.25
		}
	}
	e := entry(1, day)
	e.Events = []*event.Event{full, empty}
	write(t, a, "0", 1, e)
	rows := readAll(t, a, eventSet)
	if len(rows) != 2 {
		t.Fatalf("%d rows", len(rows))
	}
	if d := cmp.Diff(want, rows[0]); d != "" {
		t.Errorf("full event:\n%s", d)
	}
	if d := cmp.Diff(bare, rows[1]); d != "" {
		t.Errorf("event with no cell:\n%s", d)
	}
	readAll(t, a, rawSet)
}

func TestValuesThatDoNotFit(t *testing.T) {
	t.Parallel()
	a := openAt(t, t.TempDir())
	e := entry(1, day)
	ev := e.Events[0]
	ev.SetInt(event.TxnID, math.MaxInt32+1)
	ev.SetText(event.TrTotal, "1E400")
	ev.SetText(event.TrTax, "much")
	ev.SetInt(event.PageURLPort, math.MinInt32)
	ev.SetText(event.PageTitle, "a\xffb")
	write(t, a, "0", 1, e)
	row := readAll(t, a, eventSet)[0]
	for _, name := range []string{"txn_id", "tr_total", "tr_tax"} {
		if v, ok := row[name]; ok {
			t.Errorf("%s is %v, want null", name, v)
		}
	}
	if row["page_title"] != "a\uFFFDb" {
		t.Errorf("page_title is %q: broken UTF-8 makes a file unreadable elsewhere", row["page_title"])
	}
	if row["page_urlport"] != int32(math.MinInt32) {
		t.Errorf("page_urlport is %v", row["page_urlport"])
	}
}

// TestDictionaryBeyondItsLimit writes columns whose dictionaries outgrow their
// limit by far, with nulls between, and several row groups: a former version of
// the library lost values there.
func TestDictionaryBeyondItsLimit(t *testing.T) {
	t.Parallel()
	for _, memory := range []int64{8 << 20, 96 << 20} {
		a := openAt(t, t.TempDir(), func(c *Config) { c.MemoryBytes = memory })
		const n = 20_000
		title := func(i int) string { return fmt.Sprintf("%d %s", i, strings.Repeat(fmt.Sprint(i*7), 30)) }
		r := begin(t, a, "0", 1)
		for i := range n {
			e := entry(i, day)
			if i%3 != 0 {
				e.Events[0].SetText(event.PageTitle, title(i))
			}
			e.Events[0].SetInt(event.TxnID, int64(i))
			e.Events[0].SetText(event.AppID, []string{"shop", "blog"}[i%2])
			if err := r.Add(e); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Commit(t.Context(), position(n)); err != nil {
			t.Fatal(err)
		}
		rows := readAll(t, a, eventSet)
		if len(rows) != n {
			t.Fatalf("%d rows, want %d", len(rows), n)
		}
		for i, row := range rows {
			want, ok := row["page_title"]
			if ok != (i%3 != 0) || ok && want != title(i) || row["txn_id"] != int32(i) || row["app_id"] != []string{"shop", "blog"}[i%2] {
				t.Fatalf("row %d came back as %v", i, row)
			}
		}
	}
}
