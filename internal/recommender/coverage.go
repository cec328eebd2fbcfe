package recommender

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// Coverage says how much of what visitors look at becomes interactions, and what
// rule might help.
type Coverage struct {
	PageViews    int64       `json:"pageViews"`
	Interactions int64       `json:"interactions"` // page views that became one
	Share        float64     `json:"share"`
	PageItems    bool        `json:"pageItems"` // pages are items, because no rule has matched yet
	Unmatched    []PathCount `json:"unmatched"` // commonest paths of page views that did not; counts may be too high
	Suggested    string      `json:"suggested"` // pattern for a page rule; empty when there is no good guess
	Preview      []Preview   `json:"preview"`   // what it would match
}

// PathCount is a path and how many page views had it.
type PathCount struct {
	Path  string `json:"path"`
	Count int64  `json:"count"`
}

// Preview is what a suggested rule would make of a path.
type Preview struct {
	Path  string `json:"path"`
	Item  string `json:"item"`
	Count int64  `json:"count"`
}

const (
	maxPaths      = 256
	maxPathLen    = 256
	coverageBytes = maxPaths * (maxPathLen + 64)
	// minPages is how many different pages make a pattern.
	minPages = 3
)

// coverage counts page views, with the space-saving algorithm for their paths.
type coverage struct {
	views   int64
	matched int64
	paths   map[string]int64
}

func (c *coverage) view(path string, matched bool) {
	c.views++
	if matched {
		c.matched++
		return
	}
	if path == "" || len(path) > maxPathLen {
		return
	}
	if c.paths == nil {
		c.paths = make(map[string]int64, maxPaths)
	}
	if n, ok := c.paths[path]; ok || len(c.paths) < maxPaths {
		c.paths[strings.Clone(path)] = n + 1
		return
	}
	least, count := "", int64(-1)
	for p, n := range c.paths {
		if count < 0 || n < count || n == count && p < least {
			least, count = p, n
		}
	}
	delete(c.paths, least)
	c.paths[strings.Clone(path)] = count + 1
}

// report makes a Coverage.
func (c *coverage) report(pageItems bool) Coverage {
	r := Coverage{PageViews: c.views, Interactions: c.matched, PageItems: pageItems, Unmatched: []PathCount{}, Preview: []Preview{}}
	if c.views > 0 {
		r.Share = float64(c.matched) / float64(c.views)
	}
	for p, n := range c.paths {
		r.Unmatched = append(r.Unmatched, PathCount{p, n})
	}
	slices.SortFunc(r.Unmatched, func(a, b PathCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Path, b.Path))
	})
	r.Suggested = suggest(r.Unmatched)
	if r.Suggested != "" {
		re := regexp.MustCompile(r.Suggested) // made of quoted parts
		for _, p := range r.Unmatched {
			if m := re.FindStringSubmatch(p.Path); m != nil && len(r.Preview) < 10 {
				r.Preview = append(r.Preview, Preview{Path: p.Path, Item: m[1], Count: p.Count})
			}
		}
	}
	r.Unmatched = r.Unmatched[:min(20, len(r.Unmatched))]
	return r
}

// suggest guesses a page rule: the parent with the most different pages below
// it, at least minPages.
func suggest(paths []PathCount) string {
	pages, views := map[string]int{}, map[string]int64{}
	for _, p := range paths {
		trimmed := strings.TrimRight(p.Path, "/")
		at := strings.LastIndexByte(trimmed, '/')
		if at <= 0 || at == len(trimmed)-1 {
			continue // a page at the top may be anything
		}
		pages[trimmed[:at]]++
		views[trimmed[:at]] += p.Count
	}
	best := ""
	for parent, n := range pages {
		if n < minPages {
			continue
		}
		if best == "" || cmp.Or(cmp.Compare(n, pages[best]), cmp.Compare(views[parent], views[best]), strings.Compare(best, parent)) > 0 {
			best = parent
		}
	}
	if best == "" {
		return ""
	}
	return "^" + regexp.QuoteMeta(best) + "/([^/?#]+)/?$"
}
