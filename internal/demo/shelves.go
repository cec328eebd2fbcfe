package demo

import (
	"maps"
	"math"
	"slices"
)

// group puts items that are seen in the same sessions on the same shelf. It
// returns a shelf number for every item. It is greedy and the same on every run:
// the seeds are popular items seen together least, then each item moves a few
// times to the shelf it is drawn to most, fuller shelves drawing less.
func group(items []string, sessions []session, n int) []int {
	index := make(map[string]int, len(items))
	for i, item := range items {
		index[item] = i
	}
	pulls, total := together(index, sessions)
	// Sums of floats depend on their order, and a map has none.
	near := make([][]int, len(items))
	for i, p := range pulls {
		near[i] = slices.Sorted(maps.Keys(p))
	}
	shelf := make([]int, len(items))
	for i := range shelf {
		shelf[i] = -1
	}
	size := make([]int, n)
	for s, i := range seeds(pulls, n) {
		shelf[i], size[s] = s, 1
	}
	room := float64(len(items)) / float64(n)
	draw := make([]float64, n)
	for range 12 {
		for i := range items {
			clear(draw)
			for _, j := range near[i] {
				if shelf[j] >= 0 {
					draw[shelf[j]] += float64(pulls[i][j]) / math.Sqrt(float64(total[j]))
				}
			}
			if shelf[i] >= 0 {
				size[shelf[i]]--
			}
			shelf[i] = strongest(draw, size, room)
			size[shelf[i]]++
		}
	}
	return shelf
}

// strongest is the shelf that draws most for how full it is.
func strongest(draw []float64, size []int, room float64) int {
	best, score := 0, -1.0
	for s := range draw {
		full := float64(size[s]) / room
		if v := (draw[s] + 1e-6) / (0.3 + full*full); v > score {
			best, score = s, v
		}
	}
	return best
}

// together counts for each pair of items the sessions that hold both, and for
// each item the sum over its pairs.
func together(index map[string]int, sessions []session) (pulls []map[int]int, total []int) {
	pulls, total = make([]map[int]int, len(index)), make([]int, len(index))
	for i := range pulls {
		pulls[i] = map[int]int{}
	}
	for _, s := range sessions {
		s = s[:min(len(s), 30)] // a session that saw everything says nothing
		for a, x := range s {
			for _, y := range s[a+1:] {
				i, okX := index[x]
				j, okY := index[y]
				if okX && okY && i != j {
					pulls[i][j]++
					pulls[j][i]++
					total[i]++
					total[j]++
				}
			}
		}
	}
	return pulls, total
}

// seeds picks n items from the top of the list that are seen together least.
func seeds(pulls []map[int]int, n int) []int {
	picked := []int{0}
	for len(picked) < n {
		best, least := -1, math.MaxInt
		for i := range min(len(pulls), 10*n) {
			sum := 0
			for _, p := range picked {
				sum += pulls[i][p]
				if i == p {
					sum = math.MaxInt
					break
				}
			}
			if sum < least {
				best, least = i, sum
			}
		}
		picked = append(picked, best)
	}
	return picked
}
