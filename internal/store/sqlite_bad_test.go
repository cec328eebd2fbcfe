package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/event"
	"furrow/internal/tombstone"
)

// eachBad collects what the filter selects, without the ids of the records.
func eachBad(tb testing.TB, s *SQLite, filter BadFilter) []event.BadRow {
	tb.Helper()
	var got []event.BadRow
	if err := s.EachBad(tb.Context(), filter, func(b event.BadRow) error {
		got = append(got, b)
		return nil
	}); err != nil {
		tb.Fatal(err)
	}
	return got
}

// together fails unless the rows of each record follow each other.
func together(tb testing.TB, rows []event.BadRow) {
	tb.Helper()
	seen := map[event.RecordID]bool{}
	for i, b := range rows {
		if i > 0 && rows[i-1].Record == b.Record {
			continue
		}
		if seen[b.Record] {
			tb.Fatalf("the rows of record %s are apart", b.Record)
		}
		seen[b.Record] = true
	}
}

func TestEachBadReadsInPagesByRecord(t *testing.T) {
	t.Parallel()
	s := open(t, Default())
	var all []event.BadRow
	for i := range 40 {
		n := 10
		if i == 7 {
			n = 2*pageRows + 100 // over several pages
		}
		rows := badRows(noise(uint64(i), 300), n, noon.Add(time.Duration(i)*time.Minute))
		if i%2 == 1 {
			for j := range rows {
				rows[j].Schema = GenericError
			}
		}
		all = append(all, rows...)
	}
	// The rows of a record do not come together, and one is larger than a page.
	all[5].Failure = fmt.Appendf(nil, "%q", bytes.Repeat([]byte("x"), pageBytes+1))
	for from := range 3 {
		var some []event.BadRow
		for i := from; i < len(all); i += 3 {
			some = append(some, all[i])
		}
		insert(t, s, nil, some...)
	}
	rows := eachBad(t, s, BadFilter{Records: true})
	if len(rows) != len(all) {
		t.Fatalf("%d rows, want %d", len(rows), len(all))
	}
	together(t, rows)
	byID := map[string]event.BadRow{}
	for _, b := range all {
		byID[b.ID] = b
	}
	for _, b := range rows {
		if diff := cmp.Diff(byID[b.ID], b); diff != "" {
			t.Fatal(diff)
		}
		delete(byID, b.ID)
	}
	for name, c := range map[string]struct {
		filter BadFilter
		want   int
	}{
		"from":             {BadFilter{From: noon.Add(38 * time.Minute)}, 20},
		"to":               {BadFilter{To: noon.Add(2 * time.Minute)}, 20},
		"from and to":      {BadFilter{From: noon.Add(3 * time.Minute), To: noon.Add(4 * time.Minute)}, 10},
		"name":             {BadFilter{Schema: "schema_violations"}, 200},
		"uri":              {BadFilter{Schema: GenericError, From: noon.Add(8 * time.Minute)}, 160},
		"part of a name":   {BadFilter{Schema: "schema"}, 0},
		"ids":              {BadFilter{IDs: []string{all[3].ID, all[60].ID, all[3].ID, "none"}}, 2},
		"ids and schema":   {BadFilter{IDs: []string{all[3].ID, all[15].ID}, Schema: "generic_error"}, 1},
		"unknown ids only": {BadFilter{IDs: []string{"none", "\xff", "\x00"}}, 0},
	} {
		got := eachBad(t, s, c.filter)
		together(t, got)
		if len(got) != c.want {
			t.Errorf("%s: %d rows, want %d", name, len(got), c.want)
		}
		for _, b := range got {
			if b.Payload != nil {
				t.Errorf("%s: a record that nobody asked for", name)
			}
		}
	}
	var ids []string
	for _, b := range all {
		ids = append(ids, b.ID)
	}
	got := eachBad(t, s, BadFilter{IDs: ids, Records: true})
	together(t, got)
	if len(got) != len(all) {
		t.Errorf("by all ids: %d rows, want %d", len(got), len(all))
	}
}

// TestEachBadLetsItsCallerWrite is a repair: what was replayed is deleted at once.
func TestEachBadLetsItsCallerWrite(t *testing.T) {
	t.Parallel()
	s := open(t, Default())
	insert(t, s, nil, append(badRows(noise(1, 100), 600, noon), badRows(noise(2, 100), 600, noon)...)...)
	seen := 0
	err := s.EachBad(t.Context(), BadFilter{Records: true}, func(b event.BadRow) error {
		seen++
		n, err := s.DeleteBad(t.Context(), []string{b.ID})
		if n != 1 {
			t.Errorf("%d deleted", n)
		}
		return err
	})
	if err != nil || seen != 1200 {
		t.Errorf("%d rows, %v", seen, err)
	}
	if st, err := s.Status(t.Context()); err != nil || st.Bad != 0 {
		t.Errorf("%+v, %v", st, err)
	}
	if n := count(t, s, "SELECT count(*) FROM bad_records"); n != 0 {
		t.Errorf("%d records are left", n)
	}
	insert(t, s, nil, badRows(noise(1, 100), 2, noon)...)
	stop := errors.New("enough")
	if err := s.EachBad(t.Context(), BadFilter{}, func(event.BadRow) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v, want the caller's error", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.EachBad(ended, BadFilter{}, func(event.BadRow) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

func TestDeleteBadTakesRecordsWithTheirLastRow(t *testing.T) {
	t.Parallel()
	s := open(t, Default())
	rows := badRows(noise(1, 100), 1200, noon)
	insert(t, s, nil, rows...)
	var ids []string
	for _, b := range rows[1:] {
		ids = append(ids, b.ID, b.ID)
	}
	n, err := s.DeleteBad(t.Context(), append(ids, "none"))
	if err != nil || n != 1199 {
		t.Errorf("%d deleted, %v", n, err)
	}
	left := eachBad(t, s, BadFilter{Records: true})
	if diff := cmp.Diff(rows[:1], left); diff != "" {
		t.Error(diff)
	}
	if n, err := s.DeleteBad(t.Context(), []string{rows[0].ID}); err != nil || n != 1 {
		t.Errorf("%d deleted, %v", n, err)
	}
	if n := count(t, s, "SELECT (SELECT count(*) FROM bad_records) + (SELECT rows FROM totals WHERE name = 'bad_rows')"); n != 0 {
		t.Errorf("%d are left", n)
	}
}

func TestTombstonesAreNotedOnce(t *testing.T) {
	t.Parallel()
	s := open(t, Default())
	at := time.Date(2026, 11, 22, 12, 0, 0, 123456789, time.FixedZone("", 3600))
	stones := []tombstone.Tombstone{
		{Key: tombstone.Hash{1}, Hash: tombstone.Hash{2}, Until: at},
		{Key: tombstone.Hash{1}, Hash: tombstone.Hash{2}, Until: at.Add(time.Nanosecond)},
		{Key: tombstone.Hash{1}, Hash: tombstone.Hash{3}, Until: at},
	}
	if got, err := s.Buried(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	for range 2 {
		if err := s.Bury(t.Context(), append(stones[1:], stones[0], stones[0])); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Buried(t.Context())
	if diff := cmp.Diff(stones, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	if err := s.Bury(t.Context(), nil); err != nil {
		t.Error(err)
	}
}
