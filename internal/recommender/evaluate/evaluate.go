package evaluate

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"furrow/internal/recommender/knn"
)

// Options say what to run.
type Options struct {
	TrainFile string
	TestFile  string
	Algorithm string            // vmis, vsknn or vstan
	Params    map[string]string // see Parameters
	ListsFile string            // every list as a JSON line; empty: none. Gzip when the name ends in .gz
	// Progress, which may be nil, is told how many predictions are done.
	Progress func(done, total int)
}

// listLen is the length of the lists that are compared.
const listLen = 20

// Report is what a run found. HR and MRR look at the next item; NDCG, Precision
// and Recall at all items that are still to come, as Serenade's evaluator counts
// them; all at 20. Times are wall-clock microseconds of one prediction.
type Report struct {
	Algorithm   string            `json:"algorithm"`
	Params      map[string]string `json:"params"` // all of them, defaults too
	Sessions    int               `json:"trainSessions"`
	Clicks      int               `json:"trainClicks"`
	Items       int               `json:"trainItems"`
	Predictions int               `json:"predictions"`
	HR20        float64           `json:"hr20"`
	MRR20       float64           `json:"mrr20"`
	NDCG        float64           `json:"ndcg20"`
	Precision   float64           `json:"precision20"`
	Recall      float64           `json:"recall20"`
	Coverage    float64           `json:"coverage20"`   // distinct listed items / items of the training file
	Popularity  float64           `json:"popularity20"` // mean of clicks / most clicks over listed items
	P50Micros   float64           `json:"p50Micros"`
	P90Micros   float64           `json:"p90Micros"`
	P99Micros   float64           `json:"p99Micros"`
	LearnMillis float64           `json:"learnMillis"` // for the whole training file
}

// Run evaluates an algorithm.
func Run(ctx context.Context, opt Options) (Report, error) {
	set, err := parse(opt.Algorithm, opt.Params)
	if err != nil {
		return Report{}, err
	}
	train, err := ReadFile(opt.TrainFile)
	if err != nil {
		return Report{}, err
	}
	test, err := ReadFile(opt.TestFile)
	if err != nil {
		return Report{}, err
	}
	began := time.Now()
	r := &run{set: set, clicks: map[string]int{}}
	if err := r.learn(ctx, train); err != nil {
		return Report{}, err
	}
	r.report.LearnMillis = float64(time.Since(began).Microseconds()) / 1000
	r.report.Algorithm = opt.Algorithm
	r.report.Params = map[string]string{}
	for _, p := range Parameters(opt.Algorithm) {
		r.report.Params[p.Key] = parameters[p.Key].get(&set)
	}
	out, err := createLists(opt.ListsFile)
	if err != nil {
		return Report{}, err
	}
	if err := r.predict(ctx, test, out, opt.Progress); err != nil {
		_ = out.close()
		return Report{}, err
	}
	if err := out.close(); err != nil {
		return Report{}, err
	}
	return r.report, nil
}

type run struct {
	set       settings
	index     *knn.Index
	clicks    map[string]int // of the training file
	most      int
	listed    map[uint32]bool
	latencies []float64
	report    Report
}

// learn feeds the training file to the index in the order of time, one click
// after the other, as they would arrive live.
func (r *run) learn(ctx context.Context, train []Session) error {
	if r.set.dropLast {
		last := &train[len(train)-1]
		last.Clicks = last.Clicks[:len(last.Clicks)-1]
	}
	type arrival struct {
		key knn.Key
		Click
	}
	var all []arrival
	for _, s := range train {
		if len(s.Clicks) > 0 {
			r.report.Sessions++
		}
		for _, c := range s.Clicks {
			if r.set.wholeSeconds {
				c.Time = int64(math.Round(float64(c.Time)/1000)) * 1000
			}
			all = append(all, arrival{key: knn.Key(sessionKey(s.ID)), Click: c})
			r.clicks[c.Item]++
			r.most = max(r.most, r.clicks[c.Item])
		}
	}
	slices.SortStableFunc(all, func(a, b arrival) int { return cmp.Compare(a.Time, b.Time) })
	r.report.Clicks, r.report.Items = len(all), len(r.clicks)
	r.index = knn.New(unbounded(train, r.set), nil)
	for i, a := range all {
		if i%4096 == 0 && ctx.Err() != nil {
			return fmt.Errorf("learn: %w", ctx.Err())
		}
		if added := r.index.Add(a.key, a.Item, a.Time); !added.OK {
			return fmt.Errorf("learn: item %.80q cannot be held: ids may have up to 512 bytes", a.Item)
		}
	}
	return nil
}

// unbounded returns a configuration that evicts nothing.
func unbounded(train []Session, set settings) knn.Config {
	clicks, idBytes := 0, 0
	lengths := make([]int, 0, len(train))
	for _, s := range train {
		clicks += len(s.Clicks)
		distinct := map[string]bool{}
		for _, c := range s.Clicks {
			idBytes += len(c.Item)
			distinct[c.Item] = true
		}
		lengths = append(lengths, len(distinct))
	}
	cfg := knn.Config{
		Sessions: len(train) + 1, Items: clicks + 1, Clicks: 4*clicks + 8*len(train), IDBytes: idBytes + 1, Postings: len(train) + 1,
		MinDistinct: set.minDistinct, MaxDistinct: set.maxDistinct, FirstSeen: set.firstSeen,
	}
	if set.maxDistinct < 0 {
		slices.Sort(lengths)
		cfg.MaxDistinct = lengths[min(len(lengths)-1, int(0.995*float64(len(lengths))))]
	}
	return cfg
}

// predict asks for a list after every click but the last of each test session.
func (r *run) predict(ctx context.Context, test []Session, out *lists, progress func(done, total int)) error {
	if r.set.dropUnseen {
		test = r.withoutUnseen(test)
	}
	total := 0
	for _, s := range test {
		total += max(0, len(s.Clicks)-1)
	}
	if total == 0 {
		return fmt.Errorf("the test file has no session with two clicks or more: nothing to predict")
	}
	r.listed = map[uint32]bool{}
	for _, s := range test {
		if ctx.Err() != nil {
			return fmt.Errorf("predict: %w", ctx.Err())
		}
		numbers := r.numbers(s)
		for seen := 1; seen < len(numbers); seen++ {
			items := r.list(numbers[:seen])
			r.score(items, numbers[seen:])
			if err := out.write(s.ID, seen, r.index, items); err != nil {
				return err
			}
			r.report.Predictions++
			if progress != nil {
				progress(r.report.Predictions, total)
			}
		}
	}
	r.finish()
	return nil
}

func (r *run) withoutUnseen(test []Session) []Session {
	kept := make([]Session, 0, len(test))
	for _, s := range test {
		clicks := slices.DeleteFunc(slices.Clone(s.Clicks), func(c Click) bool { return r.clicks[c.Item] == 0 })
		kept = append(kept, Session{ID: s.ID, Clicks: clicks})
	}
	return kept
}

// numbers returns the items of a session as numbers of the index; items that it
// does not know get numbers from the upper end.
func (r *run) numbers(s Session) []uint32 {
	unknown := map[string]uint32{}
	numbers := make([]uint32, 0, len(s.Clicks))
	for _, c := range s.Clicks {
		n, ok := r.index.Item(c.Item)
		if !ok {
			if n, ok = unknown[c.Item]; !ok {
				n = math.MaxUint32 - uint32(len(unknown)) //nolint:gosec // a session is short
				unknown[c.Item] = n
			}
		}
		numbers = append(numbers, n)
	}
	return numbers
}

func (r *run) list(seen []uint32) []knn.Scored {
	q := knn.Query{Context: seen, N: listLen}
	if !r.set.keepCurrent {
		q.Exclude = seen[len(seen)-1:]
	}
	began := time.Now()
	result := r.index.Search(q, &r.set.search)
	r.latencies = append(r.latencies, float64(time.Since(began).Nanoseconds())/1000)
	return result.Items
}

// score adds one prediction to the sums.
func (r *run) score(items []knn.Scored, rest []uint32) {
	dcg, ideal, popularity := 0.0, 0.0, 0.0
	hits := map[uint32]bool{}
	for i, it := range items {
		r.listed[it.Item] = true
		popularity += float64(r.clicks[r.index.ID(it.Item)]) / float64(r.most)
		if it.Item == rest[0] {
			r.report.HR20++
			r.report.MRR20 += 1 / float64(i+1)
		}
		if slices.Contains(rest, it.Item) {
			hits[it.Item] = true
			dcg += gain(i)
		}
	}
	for i := range rest[:min(listLen, len(rest))] {
		ideal += gain(i)
	}
	r.report.NDCG += dcg / ideal
	r.report.Precision += float64(len(hits)) / listLen
	r.report.Recall += float64(len(hits)) / float64(len(rest))
	if len(items) > 0 {
		r.report.Popularity += popularity / float64(len(items))
	}
}

// gain is the weight of a place; the first two weigh 1, as in Serenade.
func gain(i int) float64 {
	if i == 0 {
		return 1
	}
	return 1 / math.Log2(float64(i+1))
}

func (r *run) finish() {
	n := float64(r.report.Predictions)
	for _, sum := range []*float64{
		&r.report.HR20, &r.report.MRR20, &r.report.NDCG, &r.report.Precision, &r.report.Recall, &r.report.Popularity,
	} {
		*sum /= n
	}
	r.report.Coverage = float64(len(r.listed)) / float64(len(r.clicks))
	slices.Sort(r.latencies)
	at := func(q float64) float64 { return r.latencies[int(q*float64(len(r.latencies)-1))] }
	r.report.P50Micros, r.report.P90Micros, r.report.P99Micros = at(.5), at(.9), at(.99)
	r.report.Params = maps.Clone(r.report.Params)
}

// key is a knn.Key that can be compared.
type key knn.Key

func (k key) compare(other key) int {
	return cmp.Or(cmp.Compare(k[0], other[0]), cmp.Compare(k[1], other[1]))
}

// sessionKey returns the key of a session: its number, or a hash of its name,
// which counts as greater than any number.
func sessionKey(id string) key {
	if n, err := strconv.ParseUint(id, 10, 64); err == nil && strconv.FormatUint(n, 10) == id {
		return key{0, n}
	}
	sum := sha256.Sum256([]byte(id))
	return key{binary.BigEndian.Uint64(sum[:]) | 1<<63, binary.BigEndian.Uint64(sum[8:])}
}
