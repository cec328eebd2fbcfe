package evaluate

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"math"
	"os"
	"strconv"
	"testing"

	"furrow/internal/recommender/knn"
)

const (
	trainFile = "../../demo/data/serenade_example.train.tsv.gz"
	testFile  = "../../demo/data/serenade_example.test.tsv.gz"
	goldFile  = "testdata/serenade_example.jsonl.gz"
)

// golden is one line of the golden file: see testdata/ATTRIBUTION.
type golden struct {
	Prefix []int                   `json:"prefix"`
	Lists  map[string][][2]float64 `json:"-"`
	VMIS   [][2]float64            `json:"vmis"`
	VSkNN  [][2]float64            `json:"vsknn"`
	VSTAN  [][2]float64            `json:"vstan"`
	Near   map[string][][2]float64 `json:"nbr"`
	Used   map[string]int          `json:"nn"`
}

// TestGoldenLists is the proof of parity: the index, fed click by click as live,
// gives the lists of two independent implementations that learned all at once.
func TestGoldenLists(t *testing.T) {
	t.Parallel()
	lines := readGolden(t)
	train, err := ReadFile(trainFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		algorithm string
		params    map[string]string
		want      func(golden) [][2]float64
	}{
		{"vmis", map[string]string{"m": "1502", "k": "288", "last": "4", "idf": "1"}, func(g golden) [][2]float64 { return g.VMIS }},
		{"vsknn", map[string]string{"m": "1000", "k": "100", "weight": "quadratic", "match": "div", "idf": "5"}, func(g golden) [][2]float64 { return g.VSkNN }},
		{"vstan", map[string]string{"m": "2500", "k": "500", "l1": "1.25", "l2": "20", "l3": "4", "l4": "2", "idf": "2"}, func(g golden) [][2]float64 { return g.VSTAN }},
	} {
		t.Run(c.algorithm, func(t *testing.T) {
			t.Parallel()
			set, err := parse(c.algorithm, c.params)
			if err != nil {
				t.Fatal(err)
			}
			r := &run{set: set, clicks: map[string]int{}}
			if err := r.learn(t.Context(), copySessions(train)); err != nil {
				t.Fatal(err)
			}
			for _, g := range lines {
				s := Session{}
				for _, item := range g.Prefix {
					s.Clicks = append(s.Clicks, Click{Item: strconv.Itoa(item)})
				}
				seen := r.numbers(s)
				q := knn.Query{Context: seen, N: listLen, Explain: true}
				if !set.keepCurrent {
					q.Exclude = seen[len(seen)-1:]
				}
				got := r.index.Search(q, &set.search)
				compareLists(t, r.index, g, got.Items, c.want(g))
				if len(got.Neighbours) != g.Used[c.algorithm] {
					t.Errorf("prefix %v: %d neighbours, want %d", g.Prefix, len(got.Neighbours), g.Used[c.algorithm])
				}
				for i, want := range g.Near[c.algorithm] {
					if i >= len(got.Neighbours) {
						break
					}
					if n := got.Neighbours[i]; float64(n.Key[1]) != want[0] || !near(n.Similarity, want[1]) {
						t.Errorf("prefix %v: neighbour %d is %d at %v, want %v", g.Prefix, i, n.Key[1], n.Similarity, want)
					}
				}
			}
		})
	}
}

// compareLists wants the same scores place by place, and the same items but for
// the order inside runs of nearly equal scores.
func compareLists(t *testing.T, x *knn.Index, g golden, got []knn.Scored, want [][2]float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("prefix %v: %d items, want %d", g.Prefix, len(got), len(want))
		return
	}
	for i, w := range want {
		if !near(got[i].Score, w[1]) {
			t.Errorf("prefix %v: place %d scores %v, want %v", g.Prefix, i, got[i].Score, w[1])
			return
		}
		if id := strconv.Itoa(int(w[0])); x.ID(got[i].Item) != id {
			tied := i == len(want)-1 // the next one may lie behind the cut
			for j := range got {
				tied = tied || x.ID(got[j].Item) == id && near(got[j].Score, w[1])
			}
			if !tied {
				t.Errorf("prefix %v: place %d is %s, want %s", g.Prefix, i, x.ID(got[i].Item), id)
			}
		}
	}
}

func near(a, b float64) bool {
	return math.Abs(a-b) <= 1e-9*max(math.Abs(a), math.Abs(b))
}

func copySessions(sessions []Session) []Session {
	c := make([]Session, len(sessions))
	copy(c, sessions)
	return c
}

func readGolden(t *testing.T) []golden {
	t.Helper()
	f, err := os.Open(goldFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var all []golden
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var g golden
		if err := json.Unmarshal(lines.Bytes(), &g); err != nil {
			t.Fatal(err)
		}
		all = append(all, g)
	}
	if lines.Err() != nil || len(all) != 200 {
		t.Fatalf("%d golden lines, %v", len(all), lines.Err())
	}
	return all
}
