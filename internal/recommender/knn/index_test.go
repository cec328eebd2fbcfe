package knn

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func key(n int) Key { return Key{0, uint64(n)} }

func small() Config {
	return Config{Sessions: 100, Items: 60, Clicks: 2000, IDBytes: 600, Postings: 32, MinDistinct: 2, MaxDistinct: 10, MaxClicks: 20}
}

// roomy is small without a limit that these tests would run into.
func roomy() Config {
	cfg := small()
	cfg.Postings = 1000
	return cfg
}

// lists asks for the list after each of a few items.
func lists(x *Index, p Params) (all []string) {
	for i := range 60 {
		n, ok := x.Item(fmt.Sprint("i", i))
		if !ok {
			continue
		}
		line := fmt.Sprint(i, ":")
		for _, it := range x.Search(Query{Context: []uint32{n}, N: 10}, &p).Items {
			line += fmt.Sprintf(" %s=%.9g", x.ID(it.Item), it.Score)
		}
		all = append(all, line)
	}
	return all
}

func TestOwnSessionIsNoNeighbour(t *testing.T) {
	t.Parallel()
	x := New(small(), nil)
	for _, id := range []string{"tea", "pot"} {
		x.Add(key(1), id, 1000)
	}
	p := Defaults(VMIS)
	q := Query{Context: x.Session(nil, key(1))[:1], Own: key(1), HasOwn: true, N: 5}
	if r := x.Search(q, &p); len(r.Items) != 0 {
		t.Errorf("its own neighbour: %v", r.Items)
	}
	q.HasOwn = false
	if r := x.Search(q, &p); len(r.Items) != 2 {
		t.Errorf("another's neighbour: %v", r.Items)
	}
}

func TestLateClickTakesItsPlace(t *testing.T) {
	t.Parallel()
	cfg := small()
	cfg.Horizon = time.Hour
	x := New(cfg, nil)
	x.Add(key(1), "b", 10_000_000)
	x.Add(key(1), "c", 10_002_000)
	x.Add(key(1), "a", 9_999_000)
	x.Add(key(1), "b", 10_001_000)
	var got string
	for _, n := range x.Session(nil, key(1)) {
		got += x.ID(n)
	}
	if got != "abbc" {
		t.Errorf("session %q, want abbc", got)
	}
	if a := x.Add(key(2), "z", 10_002_000-3_600_001); a.OK || x.Has(key(2)) {
		t.Error("a click beyond the horizon was learned")
	}
	x.Add(key(3), "z", 10_002_000+3_600_001)
	if x.Has(key(1)) || x.Items() != 1 {
		t.Error("a session beyond the horizon is still there")
	}
}

func TestRobotsLeave(t *testing.T) {
	t.Parallel()
	x := New(small(), nil)
	var retired int
	for i := range 200 {
		if x.Add(key(1), fmt.Sprint("i", i%50), int64(i)).Retired {
			retired++
		}
	}
	if held, neighbours := x.Sessions(); retired != 1 || held != 1 || neighbours != 0 || x.pairs != 0 {
		t.Errorf("retired %d times, %d held, %d neighbours, %d pairs", retired, held, neighbours, x.pairs)
	}
	s := x.Session(nil, key(1))
	if len(s) != 20 || x.ID(s[19]) != "i49" {
		t.Errorf("its context has %d clicks, last %s", len(s), x.ID(s[len(s)-1]))
	}
	if x.Items() != 20 {
		t.Errorf("%d items held, want those of the 20 newest clicks", x.Items())
	}
}

// check verifies every count against a recount.
func check(t *testing.T, x *Index) {
	t.Helper()
	refs, df, clicks := map[uint32]uint32{}, map[uint32]uint32{}, map[uint32]uint32{}
	pairs, neighbours, logs, rings := 0, 0, 0, 0
	for n := x.oldest; n != none; n = x.slot(n).newer {
		s := x.slot(n)
		logs += cap(s.log)
		seen := map[uint32]bool{}
		for i, c := range s.log {
			if i > 0 && c.at < s.log[i-1].at {
				t.Fatalf("session %v is out of order", s.key)
			}
			if s.status == visible {
				clicks[c.id()]++
			}
			if c.first() {
				if seen[c.id()] {
					t.Fatalf("session %v holds item %d twice as new", s.key, c.id())
				}
				seen[c.id()] = true
				refs[c.id()]++
			}
		}
		if len(seen) != int(s.distinct) {
			t.Fatalf("session %v has %d distinct items, says %d", s.key, len(seen), s.distinct)
		}
		if s.status == visible {
			neighbours++
			pairs += len(seen)
			for it := range seen {
				df[it]++
			}
		}
	}
	ids := 0
	for n := range x.items {
		it := &x.items[n]
		rings += len(it.ring)
		ids += len(it.id)
		if it.refs != refs[uint32(n)] || it.df != df[uint32(n)] || it.clicks != clicks[uint32(n)] {
			t.Fatalf("item %d counts %d %d %d, recounted %d %d %d", n, it.refs, it.df, it.clicks, refs[uint32(n)], df[uint32(n)], clicks[uint32(n)])
		}
		if len(it.ring) > max(minRing, 4*int(it.df)) {
			t.Fatalf("item %d: a ring of %d for %d sessions", n, len(it.ring), it.df)
		}
		live := map[uint64]bool{}
		for i, at := uint32(0), oldest(it); i < it.n; i, at = i+1, next(at, len(it.ring)) {
			if p := it.ring[at]; x.alive(p) {
				if live[p] {
					t.Fatalf("item %d: a session twice in its postings", n)
				}
				live[p] = true
			}
		}
		if len(live) != min(int(it.df), len(live)) || int(it.df) <= x.cfg.Postings/2 && len(live) != int(it.df) {
			t.Fatalf("item %d: %d live postings for %d sessions", n, len(live), it.df)
		}
	}
	if pairs != x.pairs || neighbours != x.neighbour || logs != x.logLen || rings != x.ringLen || ids != x.idBytes {
		t.Fatalf("totals %d %d %d %d %d, recounted %d %d %d %d %d", x.pairs, x.neighbour, x.logLen, x.ringLen, x.idBytes, pairs, neighbours, logs, rings, ids)
	}
	if b := x.Bytes(); b > x.cfg.Bound() {
		t.Fatalf("%d bytes, bound %d", b, x.cfg.Bound())
	}
}

// TestBounds lets clicks of every kind, robots and floods of items among them,
// run into every limit, and recounts.
func TestBounds(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		cfg := small()
		if seed%2 == 1 {
			cfg.Clicks, cfg.IDBytes, cfg.Horizon = 300, 200, 2*time.Minute
		}
		released := 0
		x := New(cfg, func(uint32) { released++ })
		for i := range 20_000 {
			session, item := rnd.IntN(300), int(rnd.ExpFloat64()*12)
			if rnd.IntN(50) == 0 {
				session = 1000 // a robot
				item = rnd.IntN(500)
			}
			at := int64(i)*100 - rnd.Int64N(5000)
			x.Add(key(session), fmt.Sprint("i", item), at)
			if rnd.IntN(500) == 0 {
				x.Forget(key(rnd.IntN(300)))
			}
			if i%101 == 0 {
				check(t, x)
			}
		}
		if held, _ := x.Sessions(); held > cfg.Sessions || x.Items() > cfg.Items || released == 0 {
			t.Errorf("%d sessions, %d items, %d released", held, x.Items(), released)
		}
	}
}

// TestEvictedLeavesNoTrace compares with an index that never saw what was
// forgotten.
func TestEvictedLeavesNoTrace(t *testing.T) {
	t.Parallel()
	with, without := New(roomy(), nil), New(roomy(), nil)
	for i := range 800 {
		session, item, at := i*7%80, fmt.Sprint("i", i*i%37), int64(i)*1000
		with.Add(key(session), item, at)
		if session%3 != 0 {
			without.Add(key(session), item, at)
		}
	}
	for s := 0; s < 80; s += 3 {
		with.Forget(key(s))
	}
	for _, v := range []Variant{VMIS, VSkNN, VSTAN} {
		if diff := cmp.Diff(lists(without, Defaults(v)), lists(with, Defaults(v))); diff != "" {
			t.Errorf("variant %d:\n%s", v, diff)
		}
	}
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	x := New(roomy(), nil)
	for i := range 1000 {
		x.Add(key(i*7%90), fmt.Sprint("i", i*i%31), int64(i)*1000)
	}
	b := x.AppendSnapshot(nil)
	y := New(roomy(), nil)
	rest, _, err := y.Load(append(slices.Clone(b), "rest"...))
	if err != nil || string(rest) != "rest" {
		t.Fatalf("rest %q, %v", rest, err)
	}
	check(t, y)
	for _, v := range []Variant{VMIS, VSkNN, VSTAN} {
		if diff := cmp.Diff(lists(x, Defaults(v)), lists(y, Defaults(v))); diff != "" {
			t.Errorf("variant %d:\n%s", v, diff)
		}
	}
	if y.Clock() != x.Clock() {
		t.Errorf("clock %d, want %d", y.Clock(), x.Clock())
	}
	tight := small()
	tight.Sessions, tight.Items = 10, 9
	z := New(tight, nil)
	if _, _, err := z.Load(b); err != nil {
		t.Fatal(err)
	}
	check(t, z)
}

func FuzzLoad(f *testing.F) {
	x := New(small(), nil)
	for i := range 50 {
		x.Add(key(i%9), fmt.Sprint("i", i%11), int64(i)*1000)
	}
	f.Add(x.AppendSnapshot(nil))
	f.Add([]byte{0, 1, 1, 'a', 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		y := New(small(), nil)
		if _, _, err := y.Load(b); err == nil {
			check(t, y)
		}
	})
}

func TestTop(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		s := make([]int, rnd.IntN(200))
		for i := range s {
			s[i] = rnd.IntN(40)
		}
		n := rnd.IntN(220)
		want := slices.Clone(s)
		slices.Sort(want)
		got := top(s, n, func(a, b int) int { return a - b })
		slices.Sort(got)
		if !slices.Equal(got, want[:min(n, len(want))]) {
			t.Fatalf("top %d of %v: %v", n, want, got)
		}
	}
}

// synthetic returns clicks with a few hot items, as shops have them.
func synthetic(n int) func(i int) (Key, string, int64) {
	rnd := rand.New(rand.NewPCG(7, 7))
	zipf := rand.NewZipf(rnd, 1.1, 20, 49_999)
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprint("item-", zipf.Uint64())
	}
	return func(i int) (Key, string, int64) {
		return key(i%1000 + i/5000*1000), ids[i%n], int64(i) * 20 // 1,000 sessions at a time, 5 clicks each
	}
}

func large() Config {
	return Config{
		Sessions: 500_000, Items: 200_000, Clicks: 5_000_000, IDBytes: 64 * 200_000, Postings: 1024,
		MinDistinct: 2, MaxDistinct: 50, MaxClicks: 100, Horizon: 60 * 24 * time.Hour,
	}
}

func filled(tb testing.TB, clicks int) *Index {
	tb.Helper()
	x, click := New(large(), nil), synthetic(clicks)
	for i := range clicks {
		k, id, at := click(i)
		x.Add(k, id, at)
	}
	return x
}

// TestHeapIsBounded compares the index's own account with the heap.
func TestHeapIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("fills an index")
	}
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	cfg := large()
	cfg.Sessions, cfg.Items, cfg.Clicks, cfg.IDBytes = 20_000, 50_000, 200_000, 1_000_000
	x, click := New(cfg, nil), synthetic(400_000)
	for i := range 400_000 {
		k, id, at := click(i)
		x.Add(k, id, at)
	}
	after := heap()
	t.Logf("heap %d, account %d, bound %d", after-before, x.Bytes(), cfg.Bound())
	if x.Bytes() > cfg.Bound() || after-before > cfg.Bound() {
		t.Errorf("heap %d, account %d, bound %d", after-before, x.Bytes(), cfg.Bound())
	}
	runtime.KeepAlive(x)
}

func BenchmarkAdd(b *testing.B) {
	x, click := New(large(), nil), synthetic(1<<20)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		k, id, at := click(i)
		x.Add(k, id, at)
		i++
	}
}

func BenchmarkSearch(b *testing.B) {
	const clicks = 1_000_000
	x := filled(b, clicks)
	held, _ := x.Sessions()
	b.Logf("%d sessions, %d items, %d MB of at most %d MB", held, x.Items(), x.Bytes()>>20, large().Bound()>>20)
	for name, p := range map[string]Params{
		"vmis-m500-k50":   Defaults(VMIS),
		"vsknn-m1000":     Defaults(VSkNN),
		"vstan-m500":      {Variant: VSTAN, M: 500, K: 500, IDF: 4, L1: 2, L2: 30, L3: 2, L4: 2},
		"vmis-m1024-k288": {Variant: VMIS, M: 1024, K: 288, LastN: 4, IDF: 1},
	} {
		b.Run(name, func(b *testing.B) {
			var times []time.Duration
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				k := key(i * 7919 % held)
				context := x.Session(nil, k)
				began := time.Now()
				x.Search(Query{Context: context, Own: k, HasOwn: true, N: 20, Exclude: context}, &p)
				times = append(times, time.Since(began))
				i++
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-us")
			b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-us")
		})
	}
}

func BenchmarkSnapshot(b *testing.B) {
	x := filled(b, 1_000_000)
	b.ReportAllocs()
	var size int
	for b.Loop() {
		size = len(x.AppendSnapshot(nil))
	}
	b.ReportMetric(float64(size), "bytes")
}
