package demo

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	_ "embed" // the data set
	"fmt"
	"slices"
	"strconv"
	"strings"
)

var (
	//go:embed data/serenade_example.train.tsv.gz
	trainFile []byte
	//go:embed data/serenade_example.test.tsv.gz
	testFile []byte
)

// session is what one visitor of the data set clicked, in order.
type session []string

// readSessions reads a gzipped table of session id, item id and time, in the
// order of the sessions' first clicks.
func readSessions(name string, file []byte) ([]session, error) {
	zr, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf("demo: %s: %w", name, err)
	}
	type click struct {
		item string
		at   float64
	}
	byID := map[string][]click{}
	lines := bufio.NewScanner(zr)
	for n := 0; lines.Scan(); n++ {
		f := strings.Split(lines.Text(), "\t")
		if n == 0 {
			continue // the heading
		}
		if len(f) != 3 {
			return nil, fmt.Errorf("demo: %s line %d: %d fields instead of 3", name, n+1, len(f))
		}
		at, err := strconv.ParseFloat(f[2], 64)
		if err != nil {
			return nil, fmt.Errorf("demo: %s line %d: time %q is no number", name, n+1, f[2])
		}
		byID[f[0]] = append(byID[f[0]], click{f[1], at})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("demo: %s: %w", name, err)
	}
	type visit struct {
		id     string
		clicks []click
	}
	visits := make([]visit, 0, len(byID))
	for id, clicks := range byID {
		slices.SortStableFunc(clicks, func(a, b click) int { return cmp.Compare(a.at, b.at) })
		visits = append(visits, visit{id, clicks})
	}
	slices.SortFunc(visits, func(a, b visit) int {
		return cmp.Or(cmp.Compare(a.clicks[0].at, b.clicks[0].at), cmp.Compare(a.id, b.id))
	})
	sessions := make([]session, len(visits))
	for i, v := range visits {
		for _, c := range v.clicks {
			sessions[i] = append(sessions[i], c.item)
		}
	}
	return sessions, nil
}

// popular returns the n most clicked items, ties in the order of their ids.
func popular(sessions []session, n int) []string {
	clicks := map[string]int{}
	for _, s := range sessions {
		for _, item := range s {
			clicks[item]++
		}
	}
	items := make([]string, 0, len(clicks))
	for item := range clicks {
		items = append(items, item)
	}
	slices.SortFunc(items, func(a, b string) int {
		return cmp.Or(cmp.Compare(clicks[b], clicks[a]), cmp.Compare(a, b))
	})
	return items[:min(n, len(items))]
}

// within keeps of every session the clicks on known items, and of the sessions
// those with at least two clicks: one click teaches nothing.
func within(sessions []session, known func(item string) bool) []session {
	var kept []session
	for _, s := range sessions {
		var k session
		for _, item := range s {
			if known(item) {
				k = append(k, item)
			}
		}
		if len(k) >= 2 {
			kept = append(kept, k)
		}
	}
	return kept
}
