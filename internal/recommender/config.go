package recommender

import (
	"regexp"
	"time"

	"furrow/internal/recommender/knn"
)

// Config is the recommender's part of the configuration.
type Config struct {
	// Group is the consumer group; empty reads every partition and remembers
	// nothing on the bus, as replicas on an external bus must.
	Group     string          `yaml:"group"`
	Rules     []Rule          `yaml:"rules"`     // which events are about which item, the first that matches holds
	PageItems string          `yaml:"pageItems"` // auto, always or never: whether a page is an item, see Rule
	Weights   Weights         `yaml:"weights"`
	Ignore    string          `yaml:"ignoreUserAgents"` // regular expression; empty: none
	Algorithm AlgorithmConfig `yaml:"algorithm"`
	Session   SessionConfig   `yaml:"session"`
	Limits    LimitsConfig    `yaml:"limits"`
	Serve     ServeConfig     `yaml:"serve"`
	Trending  time.Duration   `yaml:"trendingHalfLife"` // after which an interaction counts half in what is trending
	Popular   time.Duration   `yaml:"popularHalfLife"`  // after which it counts half in what is popular
	Snapshot  SnapshotConfig  `yaml:"snapshot"`
}

// Weights say how much an interaction adds to an item's popularity.
type Weights struct {
	View     float64 `yaml:"view"`     // of a view in popularity
	Cart     float64 `yaml:"cart"`     // of an addition to the cart
	Purchase float64 `yaml:"purchase"` // of a purchase
}

// AlgorithmConfig chooses the session algorithm and its parameters. See package
// knn for their meaning.
type AlgorithmConfig struct {
	Name   string  `yaml:"name"`   // vstan, vsknn or vmis
	M      int     `yaml:"m"`      // newest sessions that share an item and are compared
	K      int     `yaml:"k"`      // most similar sessions that vote
	LastN  int     `yaml:"lastN"`  // newest clicks of the session that count; 0: all
	IDF    float64 `yaml:"idf"`    // weight of rare items; 0: none
	Weight string  `yaml:"weight"` // vsknn
	Match  string  `yaml:"match"`  // vsknn
	Cosine bool    `yaml:"cosine"` // vsknn
	L1     float64 `yaml:"l1"`     // vstan
	L2     float64 `yaml:"l2"`     // vstan, days
	L3     float64 `yaml:"l3"`     // vstan
	L4     float64 `yaml:"l4"`     // vstan
}

// SessionConfig says what a session is.
type SessionConfig struct {
	Idle     time.Duration `yaml:"idle"`     // ends the session of a visitor whose events name none
	MinItems int           `yaml:"minItems"` // distinct items from which a session is a neighbour
	MaxItems int           `yaml:"maxItems"` // distinct items beyond which it is a robot's, and no neighbour
	Clicks   int           `yaml:"clicks"`   // newest clicks kept of a session
}

// LimitsConfig bounds memory.
type LimitsConfig struct {
	Sessions int           `yaml:"sessions"` // sessions remembered
	Items    int           `yaml:"items"`    // distinct items
	Clicks   int           `yaml:"clicks"`   // room for clicks of all sessions
	Postings int           `yaml:"postings"` // newest sessions remembered per item
	Users    int           `yaml:"users"`    // identifiers whose latest session is known
	Events   int           `yaml:"events"`   // event ids remembered against doubles
	Horizon  time.Duration `yaml:"horizon"`  // sessions without a click for so long are dropped
}

// ServeConfig shapes the answers.
type ServeConfig struct {
	N              int           `yaml:"n"`              // items in a list when the request does not say
	MaxN           int           `yaml:"maxN"`           // most that a request may ask for
	ExcludeCurrent bool          `yaml:"excludeCurrent"` // leave out the item that is being looked at
	ExcludeSeen    bool          `yaml:"excludeSeen"`    // leave out every item of the session; visitors often go back to one, so it is off
	Wait           time.Duration `yaml:"wait"`           // how long a request waits for what was published before it
}

// SnapshotConfig says when what was learned is written to disk.
type SnapshotConfig struct {
	Interval time.Duration `yaml:"interval"` // between two snapshots
	Bytes    int64         `yaml:"bytes"`    // input after which one is written earlier
}

// Default returns the configuration that runs when nothing is set. The algorithm
// is the one that did best on the example data of Serenade: see DESIGN.md.
func Default() Config {
	return Config{
		Group: "recommender",
		Rules: []Rule{
			{From: FromEcommerce},
			{From: FromEnhanced},
			{From: FromCart},
			{From: FromTransactionItem},
			{From: FromPage, Pattern: `^/(?:product|products|item|items|p)/([^/?#]+)`, Kind: "view"},
		},
		PageItems: "auto",
		Weights:   Weights{View: 1, Cart: 3, Purchase: 5},
		Ignore:    `(?i)(?:(?:^|[^u])bot|crawler|spider)\b`,
		Algorithm: AlgorithmConfig{
			Name: "vstan", M: 500, K: 500, IDF: 4, Weight: "div", Match: "div", L1: 2, L2: 30, L3: 2, L4: 2,
		},
		Session:  SessionConfig{Idle: 30 * time.Minute, MinItems: 2, MaxItems: 50, Clicks: 100},
		Limits:   LimitsConfig{Sessions: 500_000, Items: 200_000, Clicks: 5_000_000, Postings: 1024, Users: 500_000, Events: 250_000, Horizon: 60 * 24 * time.Hour},
		Serve:    ServeConfig{N: 20, MaxN: 200, ExcludeCurrent: true, Wait: 50 * time.Millisecond},
		Trending: time.Hour,
		Popular:  14 * 24 * time.Hour,
		Snapshot: SnapshotConfig{Interval: time.Minute, Bytes: 256 << 20},
	}
}

// Validate calls bad for every key that breaks a rule.
func (c Config) Validate(bad func(key, rule string)) {
	c.validateRules(bad)
	c.validateAlgorithm(bad)
	for key, n := range map[string]int{
		"session.minItems": c.Session.MinItems, "limits.sessions": c.Limits.Sessions, "limits.items": c.Limits.Items,
		"limits.postings": c.Limits.Postings, "limits.users": c.Limits.Users, "limits.events": c.Limits.Events, "serve.n": c.Serve.N,
	} {
		if n < 1 || n > 1<<30 {
			bad(key, "must be a whole number from 1 to 1073741824")
		}
	}
	if c.Session.MaxItems < c.Session.MinItems {
		bad("session.maxItems", "must not be less than session.minItems")
	}
	if c.Session.Clicks <= c.Session.MaxItems {
		bad("session.clicks", "must be greater than session.maxItems")
	}
	if c.Limits.Clicks < 2*c.Session.Clicks {
		bad("limits.clicks", "must be at least twice session.clicks")
	}
	if c.Serve.MaxN < c.Serve.N || c.Serve.MaxN > 1000 {
		bad("serve.maxN", "must be from serve.n to 1000")
	}
	if c.Serve.Wait < 0 || c.Serve.Wait > 5*time.Second {
		bad("serve.wait", "must be from 0 to 5s")
	}
	for key, d := range map[string]time.Duration{
		"session.idle": c.Session.Idle, "limits.horizon": c.Limits.Horizon,
		"trendingHalfLife": c.Trending, "popularHalfLife": c.Popular, "snapshot.interval": c.Snapshot.Interval,
	} {
		if d < time.Second {
			bad(key, "must be at least 1s")
		}
	}
	if c.Snapshot.Bytes < 1<<16 {
		bad("snapshot.bytes", "must be at least 65536")
	}
	for key, w := range map[string]float64{"weights.view": c.Weights.View, "weights.cart": c.Weights.Cart, "weights.purchase": c.Weights.Purchase} {
		if !(w > 0 && w <= 1e6) {
			bad(key, "must be greater than 0 and at most 1e6")
		}
	}
}

func (c Config) validateRules(bad func(key, rule string)) {
	for i, r := range c.Rules {
		if err := r.check(); err != nil {
			bad(ruleKey(i), err.Error())
		}
	}
	switch c.PageItems {
	case "auto", "always", "never":
	default:
		bad("pageItems", "must be auto, always or never")
	}
	if _, err := regexp.Compile(c.Ignore); err != nil {
		bad("ignoreUserAgents", "must be a regular expression: "+err.Error())
	}
}

func (c Config) validateAlgorithm(bad func(key, rule string)) {
	a := c.Algorithm
	if _, ok := variants[a.Name]; !ok {
		bad("algorithm.name", "must be vstan, vsknn or vmis")
	}
	if a.M < 1 || a.M > c.Limits.Postings {
		bad("algorithm.m", "must be from 1 to limits.postings")
	}
	if a.K < 1 || a.K > a.M {
		bad("algorithm.k", "must be from 1 to algorithm.m")
	}
	if a.LastN < 0 {
		bad("algorithm.lastN", "must not be negative; 0 means all")
	}
	if !(a.IDF >= 0 && a.IDF <= 1e6) {
		bad("algorithm.idf", "must be from 0 to 1e6")
	}
	for key, name := range map[string]string{"algorithm.weight": a.Weight, "algorithm.match": a.Match} {
		if _, err := knn.ParseWeighting(name); err != nil {
			bad(key, "must be div, linear, log, quadratic or same")
		}
	}
	for key, l := range map[string]float64{"algorithm.l1": a.L1, "algorithm.l2": a.L2, "algorithm.l3": a.L3, "algorithm.l4": a.L4} {
		if !(l > 0 && l <= 1e9) {
			bad(key, "must be greater than 0 and at most 1e9")
		}
	}
}

var variants = map[string]knn.Variant{"vstan": knn.VSTAN, "vsknn": knn.VSkNN, "vmis": knn.VMIS}

func (a AlgorithmConfig) params() knn.Params {
	weight, _ := knn.ParseWeighting(a.Weight)
	match, _ := knn.ParseWeighting(a.Match)
	return knn.Params{
		Variant: variants[a.Name], M: a.M, K: a.K, LastN: a.LastN, IDF: a.IDF, Cosine: a.Cosine,
		Weight: weight, Match: match, L1: a.L1, L2: a.L2, L3: a.L3, L4: a.L4,
	}
}

// index returns the configuration of the index. Item ids may take 64 bytes each
// on average.
func (c Config) index() knn.Config {
	return knn.Config{
		Sessions: c.Limits.Sessions, Items: c.Limits.Items, Clicks: c.Limits.Clicks, IDBytes: 64 * c.Limits.Items,
		Postings: c.Limits.Postings, MinDistinct: c.Session.MinItems, MaxDistinct: c.Session.MaxItems, MaxClicks: c.Session.Clicks,
		Horizon: c.Limits.Horizon, FirstSeen: c.Algorithm.Name == "vmis",
	}
}

// Bound returns the greatest number of bytes that what was learned takes in
// memory. Requests that run, and the snapshot while it is written, come on top.
func (c Config) Bound() int64 {
	return c.index().Bound() +
		int64(c.Limits.Items)*(standingBytes+maxPartners*partnerBytes) +
		int64(c.Limits.Users)*userBytes + int64(c.Limits.Events)*seenBytes + coverageBytes + agentBytes
}
