package recommender

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/event"
)

// parsed returns the event of a doc.
func parsed(d doc) *event.Event { return parseDoc(d.record(), time.Time{})[0] }

func selfDescribing(schema, data string) string {
	return `{"schema":"iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0","data":{"schema":"iglu:` + schema + `","data":` + data + `}}`
}

func TestRules(t *testing.T) {
	t.Parallel()
	cfg := Default()
	cfg.Rules = append(cfg.Rules,
		Rule{From: FromSelfDescribing, Schema: "com.acme/play", Item: "video.id", Kind: "view"},
		Rule{From: FromStruct, Category: "shop", Action: "buy", Item: "label", Kind: "purchase"})
	s, err := newState(cfg)
	if err != nil {
		t.Fatal(err)
	}
	commerce := func(kind string, products ...string) doc {
		u, c := action(kind, products...)
		return doc{Type: "unstruct", Unstruct: u, Contexts: c}
	}
	const enhanced = `{"schema":"iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0","data":[{"schema":"iglu:com.google.analytics.enhanced-ecommerce/productFieldObject/jsonschema/1-0-0","data":{"id":"g1"}}]}`
	for name, c := range map[string]struct {
		doc  doc
		want map[string]Kind
	}{
		"product view":     {commerce("product_view", "1"), map[string]Kind{"1": View}},
		"list click":       {commerce("list_click", "1"), map[string]Kind{"1": View}},
		"cart":             {commerce("add_to_cart", "1"), map[string]Kind{"1": Cart}},
		"purchase":         {commerce("transaction", "1", "2"), map[string]Kind{"1": Purchase, "2": Purchase}},
		"impressions":      {commerce("list_view", "1", "2"), nil},
		"removal":          {commerce("remove_from_cart", "1"), nil},
		"checkout":         {commerce("checkout_step", "1"), nil},
		"no entity":        {commerce("product_view"), nil},
		"legacy cart":      {doc{Type: "unstruct", Unstruct: selfDescribing("com.snowplowanalytics.snowplow/add_to_cart/jsonschema/1-0-0", `{"sku":"s1","quantity":1}`)}, map[string]Kind{"s1": Cart}},
		"legacy removal":   {doc{Type: "unstruct", Unstruct: selfDescribing("com.snowplowanalytics.snowplow/remove_from_cart/jsonschema/1-0-0", `{"sku":"s1","quantity":1}`)}, nil},
		"enhanced":         {doc{Type: "unstruct", Unstruct: selfDescribing("com.google.analytics.enhanced-ecommerce/action/jsonschema/1-0-0", `{"action":"add"}`), Contexts: enhanced}, map[string]Kind{"g1": Cart}},
		"transaction item": {doc{Type: "transaction_item", Sku: "s2"}, map[string]Kind{"s2": Purchase}},
		"page":             {doc{Path: "/products/caf%C3%A9/reviews"}, map[string]Kind{"café": View}},
		"another event":    {doc{Type: "unstruct", Unstruct: selfDescribing("com.acme/login/jsonschema/1-0-0", `{}`)}, nil},
		"own event":        {doc{Type: "unstruct", Unstruct: selfDescribing("com.acme/play/jsonschema/2-1-0", `{"video":{"id":7}}`)}, map[string]Kind{"7": View}},
		"own structured":   {doc{Type: "struct", Category: "shop", Action: "buy", Label: "l1"}, map[string]Kind{"l1": Purchase}},
		"other structured": {doc{Type: "struct", Category: "shop", Action: "look", Label: "l1"}, nil},
		"path":             {doc{Path: "/blog/first-post/index.html"}, map[string]Kind{"/blog/first-post": View}},
		"home":             {doc{Path: "/"}, nil},
	} {
		var got map[string]Kind
		if f := s.inspect(parsed(c.doc), time.Now()); f != nil {
			for _, it := range f.items {
				if got == nil {
					got = map[string]Kind{}
				}
				got[it.item] = it.kind
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

func TestEventTime(t *testing.T) {
	t.Parallel()
	collected := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for derived, want := range map[time.Duration]time.Duration{-time.Minute: -time.Minute, -72 * time.Hour: 0, time.Hour: 0} {
		e := &event.Event{}
		e.SetTime(event.CollectorTstamp, collected)
		e.SetTime(event.DerivedTstamp, collected.Add(derived))
		if got := when(e, time.Now()); got != collected.Add(want).UnixMilli() {
			t.Errorf("derived %v from the collector's: %v", derived, time.UnixMilli(got))
		}
	}
}

func TestPagesAreItemsUntilARuleMatches(t *testing.T) {
	t.Parallel()
	r := start(t, newDouble(), t.TempDir(), nil)
	for _, s := range []string{"a", "b", "c"} {
		r.bus.publish(doc{Session: s, Path: "/blog/one/", At: day0}.record(), doc{Session: s, Path: "/blog/two", At: day0 + 1000}.record(), doc{Session: s, Path: "/blog/three", At: day0 + 2000}.record())
	}
	if got := names(ask(t, r, "/v1/recommend?item_id=/blog/one&n=1")); len(got) != 1 || got[0] == "/blog/one" {
		t.Errorf("list %v, want another page", got)
	}
	c := r.Coverage()
	if !c.PageItems || c.PageViews != 9 || c.Share != 1 {
		t.Errorf("coverage %+v", c)
	}
	r.bus.publish(doc{Session: "a", Path: "/p/tea", At: day0 + 3000}.record(), doc{Session: "a", Path: "/blog/one", At: day0 + 4000}.record())
	if got := names(ask(t, r, "/v1/recommend")); !cmp.Equal(got, []string{"tea"}) {
		t.Errorf("list %v, want products only", got)
	}
	if c := r.Coverage(); c.PageItems || c.Interactions != 10 || c.PageViews != 11 {
		t.Errorf("coverage %+v", c)
	}
}

func TestCoverageSuggestsARule(t *testing.T) {
	t.Parallel()
	var c coverage
	for range 5 {
		for _, p := range []string{"/shop/de/a.1", "/shop/de/b2", "/shop/de/c3/", "/about", "/", "/help/x", "/help/y"} {
			c.view(p, false)
		}
	}
	c.view("/p/1", true)
	r := c.report(false)
	if r.Suggested != `^/shop/de/([^/?#]+)/?$` || len(r.Preview) != 3 || r.Preview[0] != (Preview{Path: "/shop/de/a.1", Item: "a.1", Count: 5}) {
		t.Errorf("report %+v", r)
	}
	if r.PageViews != 36 || r.Interactions != 1 || len(r.Unmatched) != 7 {
		t.Errorf("report %+v", r)
	}
	for i := range 10_000 { // a flood neither grows memory nor hides what is common
		c.view("/flood/"+string(rune('a'+i%26))+time.Duration(i).String(), false)
		c.view("/common", false)
	}
	if len(c.paths) > maxPaths || c.report(false).Unmatched[0].Path != "/common" {
		t.Errorf("%d paths, first %v", len(c.paths), c.report(false).Unmatched[0])
	}
}

func TestStandings(t *testing.T) {
	t.Parallel()
	cfg := Default()
	cfg.Trending = time.Hour
	gens := map[uint32]uint32{}
	s := newStandings(cfg, func(i uint32) uint32 { return gens[i] })
	const hour = 3_600_000
	for range 3 {
		s.count(1, 1, day0) // three views, four hours ago: 3/16
	}
	s.count(2, 1, day0+4*hour)
	if s.hot.places[0].item != 2 || s.popular.places[0].item != 1 {
		t.Errorf("hot %v, popular %v", s.hot.places, s.popular.places)
	}
	s.follow([]uint32{7, 8, 9}, 5, day0)
	if p := s.get(9).next[0]; p.item != 5 || p.weight != 1 {
		t.Errorf("follows %+v", p)
	}
	if p := s.get(7).next[0]; p.weight > 0.34 || p.weight < 0.33 {
		t.Errorf("three steps away weighs %v", p.weight)
	}
	gens[5]++ // the number now stands for another item
	s.follow([]uint32{9}, 5, day0)
	if p := s.get(9).next[0]; p.weight != 1 {
		t.Errorf("weight of a reclaimed number lives on: %+v", p)
	}
	for i := range uint32(3 * boardLen) {
		s.count(100+i, 1+float64(i), day0+4*hour)
	}
	if len(s.hot.places) != boardLen || s.hot.places[0].item != 100+3*boardLen-1 {
		t.Errorf("board of %d, first %v", len(s.hot.places), s.hot.places[0])
	}
	s.drop(100 + 3*boardLen - 1)
	if s.hot.places[0].item != 100+3*boardLen-2 {
		t.Errorf("first after a drop: %v", s.hot.places[0])
	}
}
