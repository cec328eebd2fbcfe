package knn

import (
	"fmt"
	"math"
)

// Variant is an algorithm of the session-kNN family.
type Variant uint8

// The variants. VMIS is Serenade's VMIS-kNN, VSkNN session-rec's vsknn, VSTAN
// session-rec's vstan.
const (
	VMIS Variant = iota
	VSkNN
	VSTAN
)

// Weighting says how fast the weight of an older click falls.
type Weighting uint8

// The weightings of VS-kNN. For a click at position p of n (1 = oldest), or a
// newest match d clicks from the end (1 = the last): Div p/n or 1/d, Linear
// 1-0.1(n-p) or 1-0.1d, Log 1/log10(n-p+1.7) or 1/log10(d+1.7), Quadratic the
// square of Div, Same 1.
const (
	Div Weighting = iota
	Linear
	Log
	Quadratic
	Same
)

var weightings = [...]string{"div", "linear", "log", "quadratic", "same"}

// String returns the weighting's name.
func (w Weighting) String() string { return weightings[w] }

// ParseWeighting returns the weighting of a name.
func ParseWeighting(name string) (Weighting, error) {
	for i, n := range weightings {
		if n == name {
			return Weighting(i), nil
		}
	}
	return 0, fmt.Errorf("%q is no weighting: want div, linear, log, quadratic or same", name)
}

// Params are what a search may vary without another index.
type Params struct {
	Variant Variant
	M       int  // most recent candidate sessions considered
	K       int  // nearest of them used
	LastN   int  // newest clicks of the context that count; 0: all
	Cosine  bool // VSkNN: cosine similarity instead of vec
	// Weight and Match are VSkNN's weights of the context's items and of the step
	// between the context's end and the newest match.
	Weight Weighting
	Match  Weighting
	// IDF scales how much rare items gain. VMIS: any value above 0 gives one
	// ranking, 0 turns it off. Others: a score times 1 + IDF x idf.
	IDF float64
	// L1 to L4 are VSTAN's decays: position in the context; age of a session, in
	// days; distance to the match inside a session; position of the match.
	L1, L2, L3, L4 float64
}

// Defaults returns a variant's published defaults.
func Defaults(v Variant) Params {
	switch v {
	case VSkNN:
		return Params{Variant: v, M: 1000, K: 100, Weight: Div, Match: Div}
	case VSTAN:
		return Params{Variant: v, M: 5000, K: 500, L1: 1.02, L2: 5, L3: 2.05, L4: 1.02, IDF: 5}
	default:
		return Params{Variant: VMIS, M: 500, K: 50, LastN: 2, IDF: 1}
	}
}

// ScratchBound returns the greatest number of bytes that one running search uses
// on an index of a configuration, with contexts of at most so many items.
func (p Params) ScratchBound(c Config, context int) int64 {
	if p.LastN > 0 && p.Variant == VMIS {
		context = min(context, p.LastN)
	}
	sessions := min(context*c.Postings, c.Sessions)
	items := min(p.K*max(c.MaxDistinct, 1), c.Items)
	const cellBytes, entryBytes = 24 + 4, 48
	return 4*int64(sessions+items)*cellBytes + 2*int64(sessions+items)*entryBytes
}

// weigh returns the integer numerator and the denominator of the weight of
// position pos of n, so that sums of weights are exact.
func (w Weighting) weigh(pos, n int) (num, den float64) {
	p, of := float64(pos), float64(n)
	switch w {
	case Div:
		return p, of
	case Linear:
		// session-rec tests the position, not the age: a click beyond the tenth
		// counts nothing.
		if pos > 10 {
			return 0, 10
		}
		return 10 - (of - p), 10
	case Log:
		return 1 / math.Log10(of-p+1.7), 1
	case Quadratic:
		return p * p, of * of
	default:
		return 1, 1
	}
}

// decay returns the weight of a newest match d steps from the end, likewise.
func (w Weighting) decay(d int) (num, den float64) {
	switch w {
	case Div:
		return 1 / float64(d), 1
	case Linear:
		return max(10-float64(d), 0), 10
	case Log:
		return 1 / math.Log10(float64(d)+1.7), 1
	case Quadratic:
		return 1 / (float64(d) * float64(d)), 1
	default:
		return 1, 1
	}
}
