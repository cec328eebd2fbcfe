package tombstone

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func open(tb testing.TB, path string) *Set {
	tb.Helper()
	s, err := Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func newPath(tb testing.TB) string {
	tb.Helper()
	return filepath.Join(tb.TempDir(), "data", "tombstones")
}

func add(tb testing.TB, s *Set, until time.Time, ids ...string) []Tombstone {
	tb.Helper()
	stones, err := s.Add(ids, until)
	if err != nil {
		tb.Fatal(err)
	}
	return stones
}

func TestEmptySet(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := open(t, path)
	if s.Covers("alice", noon) || s.Event("a", "b", "c", noon) || s.Digest() != "" || len(s.All()) != 0 {
		t.Error("an empty set is not empty")
	}
	if err := s.Merge(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("a file was made for nothing: %v", err)
	}
}

func TestForgetsUntil(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := open(t, path)
	stones := add(t, s, noon.Add(900*time.Microsecond), "alice", "D-1", "alice")
	if len(stones) != 2 {
		t.Errorf("%d tombstones of two identifiers", len(stones))
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	for name, s := range map[string]*Set{"live": s, "after a restart": open(t, path)} {
		for _, c := range []struct {
			user, domain, network string
			at                    time.Time
			want                  bool
		}{
			{"alice", "", "", noon, true},
			{"", "alice", "", noon.AddDate(-10, 0, 0), true},
			{"bob", "x", "alice", noon, true},
			{"bob", "D-1", "y", time.Time{}, true},
			{"alice", "", "", noon.Add(time.Millisecond), false},
			{"Alice", "d-1", "alice ", noon, false},
			{"", "", "", noon, false},
			{"", "", anonymous, noon, false},
		} {
			if got := s.Event(c.user, c.domain, c.network, c.at); got != c.want {
				t.Errorf("%s: %+v: %v", name, c, got)
			}
		}
		if !s.Covers("D-1", noon) || s.Covers("D-1", noon.Add(time.Millisecond)) || s.Covers("", noon) {
			t.Errorf("%s: Covers disagrees", name)
		}
		if diff := cmp.Diff(stones, s.All()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestRefusesNobody(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := open(t, path)
	for name, c := range map[string]struct {
		ids   []string
		until time.Time
	}{
		"empty": {[]string{"alice", ""}, noon}, "zero UUID": {[]string{anonymous}, noon}, "none": {nil, noon},
		"no time": {[]string{"alice"}, time.Time{}}, "far future": {[]string{"alice"}, noon.AddDate(9000, 0, 0)},
	} {
		if _, err := s.Add(c.ids, c.until); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if err := s.Merge([]Tombstone{{Until: noon}}); err == nil {
		t.Error("a tombstone without a key was merged")
	}
	if s.Covers("alice", noon) || s.Digest() != "" {
		t.Error("a refused call left something")
	}
}

func TestLaterTimeWins(t *testing.T) {
	t.Parallel()
	s := open(t, newPath(t))
	add(t, s, noon, "alice")
	first := s.Digest()
	if got := add(t, s, noon.Add(-time.Hour), "alice"); !got[0].Until.Equal(noon) || s.Digest() != first {
		t.Errorf("an earlier time changed it: %+v", got)
	}
	add(t, s, noon.Add(time.Hour), "alice")
	if len(s.All()) != 1 || !s.Covers("alice", noon.Add(time.Hour)) || s.Digest() == first {
		t.Errorf("%+v", s.All())
	}
}

// Two installations that shared a database know each other's people.
func TestMerge(t *testing.T) {
	t.Parallel()
	pathA := newPath(t)
	a, b := open(t, pathA), open(t, newPath(t))
	add(t, a, noon, "alice")
	add(t, b, noon.Add(time.Hour), "alice", "bob")
	if a.All()[0].Key == b.All()[0].Key {
		t.Fatal("two installations drew one key")
	}
	for range 2 {
		if err := a.Merge(b.All()); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Merge(a.All()); err != nil {
		t.Fatal(err)
	}
	if a.Digest() != b.Digest() || a.Digest() == "" {
		t.Errorf("digests %s and %s", a.Digest(), b.Digest())
	}
	a = open(t, pathA)
	if !a.Covers("bob", noon) || !a.Covers("alice", noon.Add(time.Hour)) || a.Covers("carol", noon) || len(a.All()) != 3 {
		t.Errorf("%+v", a.All())
	}
	// What is added after a merge still has the installation's own key.
	key := a.own
	if got := add(t, a, noon, "carol"); got[0].Key != key {
		t.Error("the key changed")
	}
	// An installation that lost its file goes on with what its stores give back.
	lost := open(t, newPath(t))
	if err := lost.Merge([]Tombstone{b.All()[0]}); err != nil {
		t.Fatal(err)
	}
	if got := add(t, lost, noon, "dora"); got[0].Key != b.All()[0].Key {
		t.Error("a second key was drawn")
	}
}

func TestNoIdentifierIsStored(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	add(t, open(t, path), noon, "alice@example.com")
	data, err := os.ReadFile(path)
	if err != nil || bytes.Contains(data, []byte("alice")) {
		t.Errorf("%s, %v", data, err)
	}
}

// A damaged file must not be taken for an empty one.
func TestDamagedFile(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	add(t, open(t, path), noon, "alice", "bob")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(good) {
		for name, data := range map[string][]byte{
			"cut":     good[:i],
			"changed": append(append(bytes.Clone(good[:i]), good[i]^1), good[i+1:]...),
		} {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := Open(path)
			if err != nil {
				if !strings.Contains(err.Error(), path) {
					t.Fatalf("the error does not name the file: %v", err)
				}
				continue
			}
			if !s.Covers("alice", noon) || !s.Covers("bob", noon) { // a harmless change, such as of the spelling of a key in the tail
				t.Fatalf("%s at byte %d: the people came back", name, i)
			}
		}
	}
	newer := bytes.Replace(good, []byte(`"furrow_tombstones":1`), []byte(`"furrow_tombstones":2`), 1)
	if _, _, err := decode(newer); err == nil {
		t.Error("a newer format was read")
	}
}

// A failed write leaves the old set in force.
func TestFailedWrite(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "data")
	path := filepath.Join(folder, "tombstones")
	s := open(t, path)
	add(t, s, noon, "alice")
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(folder, nil, 0o600); err != nil { // a file stands where the folder was
		t.Fatal(err)
	}
	if _, err := s.Add([]string{"bob"}, noon); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	if s.Covers("bob", noon) || !s.Covers("alice", noon) {
		t.Error("what is not on disk is in force")
	}
}

func TestNoLeftovers(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := open(t, path)
	for i := range 5 {
		add(t, s, noon, fmt.Sprint("user ", i))
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	s := open(t, newPath(t))
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 20 {
				id := fmt.Sprintf("user %d of %d", i, w)
				if _, err := s.Add([]string{id}, noon); err != nil {
					t.Error(err)
				}
				if !s.Event("", id, "", noon) {
					t.Errorf("%s is not in force", id)
				}
				s.Digest()
				s.All()
			}
		})
	}
	wg.Wait()
	if len(s.All()) != 80 {
		t.Errorf("%d tombstones", len(s.All()))
	}
}

// Any order of adding and merging comes to the same set as a plain map.
func TestSetIsAUnion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		path := filepath.Join(dir, fmt.Sprint(runs))
		s, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		model := map[string]time.Time{}
		for range rapid.IntRange(1, 5).Draw(t, "steps") {
			id := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "id")
			until := noon.Add(time.Duration(rapid.IntRange(-3, 3).Draw(t, "hours")) * time.Hour)
			if _, err := s.Add([]string{id}, until); err != nil {
				t.Fatal(err)
			}
			if until.After(model[id]) {
				model[id] = until
			}
			if rapid.Bool().Draw(t, "restart") {
				before := s.Digest()
				if s, err = Open(path); err != nil || s.Digest() != before {
					t.Fatal(err, "the restart changed it")
				}
			}
		}
		for _, id := range []string{"a", "b", "c"} {
			for h := -4; h <= 4; h++ {
				at := noon.Add(time.Duration(h) * time.Hour)
				until, ok := model[id]
				if want := ok && !at.After(until); s.Covers(id, at) != want {
					t.Fatalf("%s at %d h: want %v", id, h, want)
				}
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	data, err := encode(Hash{1}, []Tombstone{{Key: Hash{1}, Hash: Hash{2}, Until: noon}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("{}\n{}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		own, stones, err := decode(data)
		if err != nil {
			return
		}
		again, err := encode(own, stones)
		if err != nil {
			t.Fatal(err)
		}
		if _, back, err := decode(again); err != nil || !cmp.Equal(stones, back) {
			t.Errorf("%v: %v", err, cmp.Diff(stones, back))
		}
	})
}

func BenchmarkEvent(b *testing.B) {
	const duid, nuid = "bd682192-909d-421b-a2c1-ca372337292f", "75a13583-5c99-40e3-81fc-541084dfc784"
	for _, n := range []int{0, 1, 10_000} {
		s := open(b, filepath.Join(b.TempDir(), "tombstones"))
		if n > 0 {
			ids := make([]string, n)
			for i := range ids {
				ids[i] = fmt.Sprint("user ", i)
			}
			add(b, s, noon, ids...)
		}
		for name, at := range map[string]time.Time{"live": noon.Add(time.Second), "replayed": noon} {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if s.Event("", duid, nuid, at) {
						b.Fatal("forgotten")
					}
				}
			})
		}
	}
}
