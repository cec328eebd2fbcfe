package recommender

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"furrow/internal/recommender/knn"
)

// Item is one recommended item. Scores order a list from 1 downwards and compare
// only inside it.
type Item struct {
	ID      string   `json:"id"`
	Score   float64  `json:"score"`
	Source  string   `json:"source"`
	Reasons []string `json:"reasons,omitempty"` // when the request asks to explain
}

// The rungs of the ladder, best first. Each fills what is missing.
const (
	sourceSession  = "session_knn" // sessions like this one
	sourceFollows  = "co_visit"    // what followed the session's last items
	sourceTrending = "trending"
	sourcePopular  = "popular"
	sourceNewest   = "newest"
)

// list is a list that is being filled.
type list struct {
	s       *state
	n       int
	explain bool
	out     map[uint32]bool // left out or listed already
	items   []Item
}

// wanted is what a request asks for, checked.
type wanted struct {
	session string
	user    string
	item    string
	n       int
	exclude []string
	explain bool
}

const (
	lastItems  = 4 // items of the session whose followers count
	maxReasons = 3
	// trendingFloor is the decayed weight that a trend needs: more than one view.
	trendingFloor = 1.2
)

// recommend makes a list. The caller holds the shared lock.
func (s *state) recommend(w wanted, p *knn.Params) []Item {
	q := s.query(w)
	l := &list{s: s, n: w.n, explain: w.explain, out: s.leaveOut(w.exclude, q.Context)}
	for item := range l.out {
		q.Exclude = append(q.Exclude, item)
	}
	l.add(sourceSession, s.index.Search(q, p).Items)
	l.climbDown(q.Context)
	return l.items
}

// query finds the session that a request is about and joins the item that is
// being looked at.
func (s *state) query(w wanted) knn.Query {
	q := knn.Query{N: w.n, Explain: w.explain}
	if w.session != "" {
		q.Own, q.HasOwn = hashed("session", w.session), true
	}
	if (!q.HasOwn || !s.index.Has(q.Own)) && w.user != "" {
		q.Own, q.HasOwn = s.latest(w.user)
	}
	if q.HasOwn {
		q.Context = s.index.Session(nil, q.Own)
	}
	if w.item == "" {
		return q
	}
	item, ok := s.index.Item(w.item)
	if !ok {
		item = math.MaxUint32 // unknown, but it pushes the others back
	}
	if last := len(q.Context) - 1; last < 0 || q.Context[last] != item {
		q.Context = append(q.Context, item)
	}
	return q
}

// leaveOut returns the items that must not be listed.
func (s *state) leaveOut(exclude []string, context []uint32) map[uint32]bool {
	out := map[uint32]bool{}
	for _, id := range exclude {
		if item, ok := s.index.Item(id); ok {
			out[item] = true
		}
	}
	if s.cfg.Serve.ExcludeCurrent && len(context) > 0 {
		out[context[len(context)-1]] = true
	}
	if s.cfg.Serve.ExcludeSeen {
		for _, item := range context {
			out[item] = true
		}
	}
	return out
}

// climbDown fills a list from the lower rungs.
func (l *list) climbDown(context []uint32) {
	s := l.s
	if l.full() {
		return
	}
	l.add(sourceFollows, s.followers(context))
	now := float64(max(s.newest, s.index.Clock()))
	floor := math.Log2(trendingFloor)
	l.addBoard(sourceTrending, &s.standing.hot, func(score float64) (float64, bool) {
		weight := score - now/s.standing.hotLife
		return math.Exp2(weight), weight >= floor
	})
	l.addBoard(sourcePopular, &s.standing.popular, func(score float64) (float64, bool) {
		return math.Exp2(score - now/s.standing.popLife), true
	})
	l.addBoard(sourceNewest, &s.standing.newest, func(float64) (float64, bool) { return 1, true })
	if l.full() || s.index.Items() <= len(l.out) {
		return
	}
	var rest []knn.Scored
	s.index.Each(func(item uint32, _ string) {
		if !l.out[item] {
			rest = append(rest, knn.Scored{Item: item, Score: float64(s.standing.get(item).since)})
		}
	})
	slices.SortFunc(rest, func(a, b knn.Scored) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), strings.Compare(s.index.ID(a.Item), s.index.ID(b.Item)))
	})
	l.add(sourceNewest, rest)
}

func (l *list) full() bool { return len(l.items) >= l.n }

// add lists items of one rung, best first. Their scores are scaled so that the
// list stays in order.
func (l *list) add(source string, scored []knn.Scored) {
	ceiling := 1.0
	if last := len(l.items) - 1; last >= 0 {
		ceiling = l.items[last].Score
	}
	best := 0.0
	for _, c := range scored {
		if l.full() {
			return
		}
		if l.out[c.Item] {
			continue
		}
		if best == 0 {
			best = c.Score
		}
		item := Item{ID: l.s.index.ID(c.Item), Source: source, Score: ceiling}
		if best > 0 {
			item.Score = ceiling * min(1, max(0, c.Score/best))
		}
		if l.explain {
			item.Reasons = l.reasons(source, c.Reasons)
		}
		l.out[c.Item] = true
		l.items = append(l.items, item)
	}
}

func (l *list) addBoard(source string, b *board, score func(float64) (float64, bool)) {
	if l.full() {
		return
	}
	scored := make([]knn.Scored, 0, len(b.places))
	for _, p := range b.places {
		v, ok := score(p.score)
		if !ok {
			break
		}
		scored = append(scored, knn.Scored{Item: p.item, Score: v})
	}
	l.add(source, scored)
}

func (l *list) reasons(source string, items []uint32) []string {
	var words string
	switch source {
	case sourceSession:
		words = "viewed "
	case sourceFollows:
		words = "often follows "
	case sourceTrending:
		return []string{"trending now"}
	case sourcePopular:
		return []string{"popular"}
	default:
		return []string{"new here"}
	}
	var reasons []string
	for _, item := range items[:min(maxReasons, len(items))] {
		if id := l.s.index.ID(item); id != "" {
			reasons = append(reasons, words+id)
		}
	}
	return reasons
}

// followers returns what followed the last items of a session, the newer ones
// counting more.
func (s *state) followers(context []uint32) []knn.Scored {
	sums, reasons := map[uint32]float64{}, map[uint32]uint32{}
	for d := 1; d <= lastItems && d <= len(context); d++ {
		item := context[len(context)-d]
		if s.index.ID(item) == "" || slices.Contains(context[len(context)-d+1:], item) {
			continue
		}
		for _, p := range s.standing.get(item).next {
			if s.index.ID(p.item) == "" || s.index.Generation(p.item) != p.gen {
				continue
			}
			if _, ok := sums[p.item]; !ok {
				reasons[p.item] = item
			}
			sums[p.item] += float64(p.weight) / float64(d)
		}
	}
	scored := make([]knn.Scored, 0, len(sums))
	for item, sum := range sums {
		scored = append(scored, knn.Scored{Item: item, Score: sum, Reasons: []uint32{reasons[item]}})
	}
	slices.SortFunc(scored, func(a, b knn.Scored) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), knn.CompareIDs(s.index.ID(a.Item), s.index.ID(b.Item)))
	})
	return scored
}
