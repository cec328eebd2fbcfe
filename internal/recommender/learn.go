package recommender

import (
	"crypto/sha256"
	"encoding/binary"
	"regexp"
	"strings"
	"sync"
	"time"

	"furrow/internal/event"
	"furrow/internal/recommender/knn"
)

// state is all that was learned. The consumer changes it under the lock, requests
// read it under the shared lock.
type state struct {
	mu       sync.RWMutex
	cfg      Config
	rules    []rule
	ignore   *regexp.Regexp  // user agents; nil: none
	robots   map[string]bool // what ignore says of user agents that came before; only inspect uses it
	index    *knn.Index
	standing *standings
	users    *window[knn.Key, visit]    // by visitor
	events   *window[knn.Key, struct{}] // by event id
	coverage coverage
	ruled    bool // a rule has matched
	newest   int64
	context  []uint32
	counts   counts

	forgotten string // digest of the tombstones that were obeyed while learning
	partial   bool   // learned without what a discarded snapshot held
}

// visit is a visitor's latest session.
type visit struct {
	session knn.Key
	last    int64
}

const (
	// Go's maps take up to about two and a half times their entries' bytes.
	userBytes = (16 + 24) * 5 / 2
	seenBytes = 16 * 5 / 2
	// Few user agents make most of the traffic, and matching one takes longer than
	// all else that is done with an event.
	maxAgents   = 1024
	maxAgentLen = 512
	agentBytes  = maxAgents * (maxAgentLen + 64)
)

// counts are what became of events.
type counts struct {
	interactions [len(kindNames)]int64
	doubles      int64
	late         int64 // too old, or an item that cannot be held
	robots       int64
}

func newState(cfg Config) (*state, error) {
	rules, err := compileRules(cfg.Rules)
	if err != nil {
		return nil, err
	}
	s := &state{cfg: cfg, rules: rules, robots: map[string]bool{}, events: newWindow[knn.Key, struct{}](cfg.Limits.Events)}
	if cfg.Ignore != "" {
		if s.ignore, err = regexp.Compile(cfg.Ignore); err != nil {
			return nil, err
		}
	}
	s.clear()
	return s, nil
}

// clear forgets what was learned of items and sessions.
func (s *state) clear() {
	s.index = knn.New(s.cfg.index(), func(item uint32) { s.standing.drop(item) })
	index := s.index
	s.standing = newStandings(s.cfg, func(item uint32) uint32 { return index.Generation(item) })
	s.users = newWindow[knn.Key, visit](s.cfg.Limits.Users)
}

// found is what an event says: who did what with which items.
type found struct {
	id       knn.Key
	items    []interaction
	at       int64
	ruled    bool // by a rule, not by the page's path
	sid      string
	domain   string
	network  string
	user     string
	pageView bool
	path     string
	robot    bool
}

// zeroUUID is the network user id of a visitor who wants none.
const zeroUUID = "00000000-0000-0000-0000-000000000000"

// inspect reads an event; it takes no lock, and is called from one goroutine. It
// returns nil for an event that cannot matter here.
func (s *state) inspect(e *event.Event, now time.Time) *found {
	kind := e.Text(event.EventType)
	if kind == "page_ping" {
		return nil
	}
	f := &found{
		pageView: kind == "page_view", path: e.Text(event.PageURLPath),
		sid: e.Text(event.DomainSessionID), domain: e.Text(event.DomainUserID),
		network: e.Text(event.NetworkUserID), user: e.Text(event.UserID),
	}
	if f.network == zeroUUID {
		f.network = ""
	}
	if s.isRobot(e.Text(event.Useragent)) {
		f.robot, f.id = true, hashed("event", e.ID())
		return f
	}
	matched := false
	for i := range s.rules {
		if f.items, matched = s.rules[i].match(e); matched {
			f.ruled = len(f.items) > 0
			break
		}
	}
	if !matched && f.pageView && s.cfg.PageItems != "never" {
		f.items = one(canonicalPath(f.path), View)
	}
	if len(f.items) == 0 && !f.pageView {
		return nil
	}
	f.at = when(e, now)
	f.id = hashed("event", e.ID())
	return f
}

func (s *state) isRobot(agent string) bool {
	if s.ignore == nil || agent == "" {
		return false
	}
	robot, known := s.robots[agent]
	if known {
		return robot
	}
	robot = s.ignore.MatchString(agent)
	if len(agent) <= maxAgentLen {
		if len(s.robots) >= maxAgents {
			clear(s.robots)
		}
		s.robots[strings.Clone(agent)] = robot
	}
	return robot
}

// when returns the time of an event: the tracker's own, put right for its clock,
// unless that is absurd.
func when(e *event.Event, now time.Time) int64 {
	at := now
	if e.Has(event.CollectorTstamp) {
		at = e.Time(event.CollectorTstamp)
	}
	if e.Has(event.DerivedTstamp) {
		if d := e.Time(event.DerivedTstamp); d.Before(at) && d.After(at.Add(-24*time.Hour)) {
			at = d
		}
	}
	return at.UnixMilli()
}

// hashed returns the key of a name in a space of names.
func hashed(space, name string) knn.Key {
	buf := make([]byte, 0, 96)
	buf = append(append(append(buf, space...), 0), name...)
	sum := sha256.Sum256(buf)
	return knn.Key{binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])}
}

// learn applies what an event said. The caller holds the lock.
func (s *state) learn(f *found) {
	if f.robot {
		s.counts.robots++
		return
	}
	if f.ruled && !s.ruled {
		s.ruled = true
		if s.cfg.PageItems == "auto" {
			s.clear()
		}
	}
	items := f.items
	if !f.ruled && s.ruled && s.cfg.PageItems == "auto" {
		items = nil
	}
	if _, double := s.events.get(f.id); double {
		s.counts.doubles++
		return
	}
	s.events.put(f.id, struct{}{})
	if f.pageView {
		s.coverage.view(f.path, len(items) > 0)
	}
	if len(items) == 0 {
		return
	}
	session := s.session(f)
	for _, it := range items {
		s.click(session, it, f.at)
	}
}

func (s *state) click(session knn.Key, it interaction, at int64) {
	s.context = s.index.Session(s.context[:0], session)
	added := s.index.Add(session, it.item, at)
	if !added.OK {
		s.counts.late++
		return
	}
	s.counts.interactions[it.kind]++
	s.newest = max(s.newest, at)
	if added.New {
		s.standing.follow(s.context, added.Item, at)
	}
	switch {
	case it.kind == Cart:
		s.standing.count(added.Item, s.cfg.Weights.Cart, at)
	case it.kind == Purchase:
		s.standing.count(added.Item, s.cfg.Weights.Purchase, at)
	case added.New: // a reload is no second sign of interest
		s.standing.count(added.Item, s.cfg.Weights.View, at)
	}
}

// session returns the session of an event, and remembers it as the visitor's
// latest. Without any identifier each event is a session of its own.
func (s *state) session(f *found) knn.Key {
	var key knn.Key
	visitor := f.domain
	if visitor == "" {
		visitor = f.network
	}
	switch {
	case f.sid != "":
		key = hashed("session", f.sid)
	case visitor != "":
		known, ok := s.users.get(hashed("visitor", visitor))
		if ok && f.at-known.last <= s.cfg.Session.Idle.Milliseconds() {
			key = known.session
		} else {
			key = hashed("visit", visitor+"\x00"+time.UnixMilli(f.at).UTC().Format(time.RFC3339Nano))
		}
	default:
		return f.id
	}
	for i, name := range [...]string{f.domain, f.network, f.user} {
		if name == "" {
			continue
		}
		space := "visitor"
		if i == 2 {
			space = "user"
		}
		k := hashed(space, name)
		if known, ok := s.users.get(k); !ok || f.at >= known.last {
			s.users.put(k, visit{session: key, last: f.at})
		}
	}
	return key
}

// latest returns the latest session of a visitor or user.
func (s *state) latest(name string) (knn.Key, bool) {
	v, ok := s.users.get(hashed("visitor", name))
	if u, known := s.users.get(hashed("user", name)); known && (!ok || u.last > v.last) {
		v, ok = u, true
	}
	return v.session, ok
}
