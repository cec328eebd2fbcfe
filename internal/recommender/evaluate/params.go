package evaluate

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"furrow/internal/recommender/knn"
)

// settings are an algorithm's parameters.
type settings struct {
	search       knn.Params
	minDistinct  int
	maxDistinct  int  // sessions with more distinct items are no neighbours; 0: none left out; -1: the 99.5th percentile
	firstSeen    bool // date a session by its newest first click on an item
	wholeSeconds bool
	dropLast     bool // lose the last click of the training file
	keepCurrent  bool // the current item may be returned
	dropUnseen   bool // drop test clicks on items that training does not have
}

// parameter is one key that a run accepts.
type parameter struct {
	doc string
	set func(s *settings, value string) error
	get func(s *settings) string
	of  []knn.Variant // nil: every one
}

func whole(at func(*settings) *int, least int) parameter {
	return parameter{
		set: func(s *settings, v string) error {
			n, err := strconv.Atoi(v)
			if err != nil || n < least {
				return fmt.Errorf("%q is not a whole number of at least %d", v, least)
			}
			*at(s) = n
			return nil
		},
		get: func(s *settings) string { return strconv.Itoa(*at(s)) },
	}
}

func number(at func(*settings) *float64, least float64) parameter {
	return parameter{
		set: func(s *settings, v string) error {
			f, err := strconv.ParseFloat(v, 64)
			if err != nil || !(f >= least) || f > 1e9 {
				return fmt.Errorf("%q is not a number from %g to 1e9", v, least)
			}
			*at(s) = f
			return nil
		},
		get: func(s *settings) string { return strconv.FormatFloat(*at(s), 'g', -1, 64) },
	}
}

func yesNo(at func(*settings) *bool) parameter {
	return parameter{
		set: func(s *settings, v string) error {
			b, err := strconv.ParseBool(v)
			if err != nil {
				return fmt.Errorf("%q is neither 0 nor 1", v)
			}
			*at(s) = b
			return nil
		},
		get: func(s *settings) string {
			if *at(s) {
				return "1"
			}
			return "0"
		},
	}
}

func weighting(at func(*settings) *knn.Weighting) parameter {
	return parameter{
		set: func(s *settings, v string) (err error) {
			*at(s), err = knn.ParseWeighting(v)
			return err
		},
		get: func(s *settings) string { return at(s).String() },
	}
}

func (p parameter) with(doc string, of ...knn.Variant) parameter {
	p.doc, p.of = doc, of
	return p
}

var parameters = map[string]parameter{
	"m":       whole(func(s *settings) *int { return &s.search.M }, 1).with("most recent candidate sessions considered"),
	"k":       whole(func(s *settings) *int { return &s.search.K }, 1).with("nearest sessions used"),
	"last":    whole(func(s *settings) *int { return &s.search.LastN }, 0).with("newest clicks of the session that count; 0: all"),
	"idf":     number(func(s *settings) *float64 { return &s.search.IDF }, 0).with("how much rare items gain; 0: nothing"),
	"minlen":  whole(func(s *settings) *int { return &s.minDistinct }, 1).with("distinct items from which a session is a neighbour"),
	"maxlen":  maxLen().with("distinct items up to which a session is a neighbour; 0: any; auto: their 99.5th percentile"),
	"first":   yesNo(func(s *settings) *bool { return &s.firstSeen }).with("date a session by its newest first click on an item (1) or by its newest click (0)"),
	"seconds": yesNo(func(s *settings) *bool { return &s.wholeSeconds }).with("round times to whole seconds"),
	"droplast": yesNo(func(s *settings) *bool { return &s.dropLast }).
		with("lose the last click of the training file, as Serenade's reader does"),
	"current": yesNo(func(s *settings) *bool { return &s.keepCurrent }).with("the current item may be in the list"),
	"seen":    yesNo(func(s *settings) *bool { return &s.dropUnseen }).with("drop test clicks on items that the training file does not have"),
	"weight": weighting(func(s *settings) *knn.Weighting { return &s.search.Weight }).
		with("weight of a click by its position: div, linear, log, quadratic, same", knn.VSkNN),
	"match": weighting(func(s *settings) *knn.Weighting { return &s.search.Match }).
		with("weight of a neighbour by its newest match, same names", knn.VSkNN),
	"cosine": yesNo(func(s *settings) *bool { return &s.search.Cosine }).with("cosine similarity instead of vec", knn.VSkNN),
	"l1":     number(func(s *settings) *float64 { return &s.search.L1 }, 1e-6).with("decay by position in the session", knn.VSTAN),
	"l2":     number(func(s *settings) *float64 { return &s.search.L2 }, 1e-6).with("decay by age of a neighbour, days", knn.VSTAN),
	"l3":     number(func(s *settings) *float64 { return &s.search.L3 }, 1e-6).with("decay by distance to the match inside a neighbour", knn.VSTAN),
	"l4":     number(func(s *settings) *float64 { return &s.search.L4 }, 1e-6).with("decay by position of the match", knn.VSTAN),
}

func maxLen() parameter {
	limit := whole(func(s *settings) *int { return &s.maxDistinct }, 0)
	return parameter{
		set: func(s *settings, v string) error {
			if v == "auto" {
				s.maxDistinct = -1
				return nil
			}
			return limit.set(s, v)
		},
		get: func(s *settings) string {
			if s.maxDistinct < 0 {
				return "auto"
			}
			return limit.get(s)
		},
	}
}

var algorithms = map[string]settings{
	"vmis": {
		search: knn.Defaults(knn.VMIS), minDistinct: 1, maxDistinct: -1,
		firstSeen: true, wholeSeconds: true, dropLast: true,
	},
	"vsknn": {search: knn.Defaults(knn.VSkNN), minDistinct: 1, keepCurrent: true},
	"vstan": {search: knn.Defaults(knn.VSTAN), minDistinct: 1, keepCurrent: true},
}

// Algorithms returns the names that a run accepts.
func Algorithms() []string { return slices.Sorted(maps.Keys(algorithms)) }

// Parameter describes one key that a run of an algorithm accepts.
type Parameter struct{ Key, Default, Doc string }

// Parameters returns the keys that a run of an algorithm accepts.
func Parameters(algorithm string) []Parameter {
	s, ok := algorithms[algorithm]
	if !ok {
		return nil
	}
	var list []Parameter
	for _, key := range slices.Sorted(maps.Keys(parameters)) {
		if p := parameters[key]; p.accepts(s.search.Variant) {
			list = append(list, Parameter{Key: key, Default: p.get(&s), Doc: p.doc})
		}
	}
	return list
}

func (p parameter) accepts(v knn.Variant) bool { return p.of == nil || slices.Contains(p.of, v) }

// spelling accepts the names of the configuration and of the literature for the
// same things: lastN and last_n_clicks are last, lambda is idf.
func spelling(key string) string {
	key = strings.ToLower(strings.ReplaceAll(key, "_", ""))
	switch key {
	case "lastn", "lastnclicks":
		return "last"
	case "lambda", "idfweighting", "lambdaidf":
		return "idf"
	}
	return key
}

// parse applies a run's parameters to its algorithm's defaults.
func parse(algorithm string, given map[string]string) (settings, error) {
	s, ok := algorithms[algorithm]
	if !ok {
		return s, fmt.Errorf("algorithm %q is unknown: want %s", algorithm, strings.Join(Algorithms(), ", "))
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		p, ok := parameters[spelling(key)]
		if !ok || !p.accepts(s.search.Variant) {
			var keys []string
			for _, k := range Parameters(algorithm) {
				keys = append(keys, k.Key)
			}
			return s, fmt.Errorf("parameter %s: unknown to %s: want %s", key, algorithm, strings.Join(keys, ", "))
		}
		if err := p.set(&s, given[key]); err != nil {
			return s, fmt.Errorf("parameter %s: %w", key, err)
		}
	}
	return s, nil
}
