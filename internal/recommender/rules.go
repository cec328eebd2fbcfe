package recommender

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/tidwall/gjson"

	"furrow/internal/event"
)

// Rule says how an item and what was done with it are found in an event.
//
// Where no rule has matched yet, a site that sends page views only still gets
// recommendations: the item is the page's canonical path (pageItems: auto). With
// the first event that a rule matches this ends for good, and what was learned
// from paths is dropped, because a list must not mix pages and products.
type Rule struct {
	From     string `yaml:"from"`     // one of the From constants
	Pattern  string `yaml:"pattern"`  // page: regular expression on the path; its first group is the item
	Schema   string `yaml:"schema"`   // selfDescribing: vendor/name of the event
	Item     string `yaml:"item"`     // selfDescribing: path of the item in the data, a.b.0; struct: label or property
	Category string `yaml:"category"` // struct: se_category
	Action   string `yaml:"action"`   // struct: se_action
	Kind     string `yaml:"kind"`     // page, selfDescribing, struct: view, cart, purchase or ignore; default view
}

// What a rule looks at.
const (
	FromEcommerce       = "ecommerce"         // Snowplow ecommerce actions and their product entities
	FromEnhanced        = "enhancedEcommerce" // GA-shaped actions and their product contexts
	FromCart            = "cart"              // add_to_cart and remove_from_cart events of the legacy tracker API
	FromTransactionItem = "transactionItem"   // transaction items of the legacy tracker API
	FromPage            = "page"              // page views by path
	FromSelfDescribing  = "selfDescribing"    // one's own self-describing events
	FromStruct          = "struct"            // structured events
)

// Kind is what was done with an item.
type Kind uint8

// The kinds of interactions. Ignored ones are understood, but no sign of
// interest: impressions, removals.
const (
	Ignored Kind = iota
	View
	Cart
	Purchase
)

var kindNames = [...]string{"ignore", "view", "cart", "purchase"}

// String returns the kind's name.
func (k Kind) String() string { return kindNames[k] }

func parseKind(name string) (Kind, error) {
	if name == "" {
		return View, nil
	}
	for k, n := range kindNames {
		if n == name {
			return Kind(k), nil
		}
	}
	return 0, fmt.Errorf("kind %q must be view, cart, purchase or ignore", name)
}

func ruleKey(i int) string { return fmt.Sprintf("rules[%d]", i) }

func (r Rule) check() error {
	if _, err := parseKind(r.Kind); err != nil {
		return err
	}
	switch r.From {
	case FromEcommerce, FromEnhanced, FromCart, FromTransactionItem:
		return nil
	case FromPage:
		re, err := regexp.Compile(r.Pattern)
		if err != nil {
			return fmt.Errorf("pattern must be a regular expression: %w", err)
		}
		if re.NumSubexp() < 1 {
			return errors.New("pattern must have a group that is the item, as in ^/product/([^/]+)")
		}
	case FromSelfDescribing:
		if strings.Count(r.Schema, "/") != 1 || r.Item == "" {
			return errors.New("selfDescribing needs schema (vendor/name) and item (path in the data)")
		}
	case FromStruct:
		if r.Category == "" && r.Action == "" || r.Item != "label" && r.Item != "property" {
			return errors.New("struct needs category or action, and item: label or property")
		}
	default:
		return fmt.Errorf("from %q must be ecommerce, enhancedEcommerce, cart, transactionItem, page, selfDescribing or struct", r.From)
	}
	return nil
}

// interaction is one item that an event is about.
type interaction struct {
	item string
	kind Kind
}

// rule is a Rule made ready.
type rule struct {
	Rule
	kind    Kind
	pattern *regexp.Regexp
}

func compileRules(rules []Rule) ([]rule, error) {
	var ready []rule
	for i, r := range rules {
		if err := r.check(); err != nil {
			return nil, fmt.Errorf("recommender: %s: %w", ruleKey(i), err)
		}
		kind, err := parseKind(r.Kind)
		if err != nil {
			return nil, fmt.Errorf("recommender: %s: %w", ruleKey(i), err)
		}
		c := rule{Rule: r, kind: kind}
		if r.From == FromPage {
			c.pattern = regexp.MustCompile(r.Pattern) // checked above
		}
		ready = append(ready, c)
	}
	return ready, nil
}

// match returns the items of an event, and whether the rule is about it at all.
func (r *rule) match(e *event.Event) ([]interaction, bool) {
	switch r.From {
	case FromPage:
		return r.matchPage(e)
	case FromTransactionItem:
		if sku := e.Text(event.TiSku); sku != "" && e.Text(event.EventType) == "transaction_item" {
			return []interaction{{sku, Purchase}}, true
		}
		return nil, false
	case FromStruct:
		return r.matchStruct(e)
	}
	if e.Text(event.EventType) != "unstruct" {
		return nil, false
	}
	inner := gjson.Get(e.Text(event.UnstructEvent), "data")
	name := schemaName(inner.Get("schema").String())
	data := inner.Get("data")
	switch r.From {
	case FromEcommerce:
		return matchEcommerce(e, name, data)
	case FromEnhanced:
		return matchEnhanced(e, name, data)
	case FromCart:
		return matchCart(name, data)
	default:
		if name != r.Schema {
			return nil, false
		}
		item := data.Get(r.Item).String()
		return one(item, r.kind), item != ""
	}
}

func (r *rule) matchPage(e *event.Event) ([]interaction, bool) {
	if e.Text(event.EventType) != "page_view" {
		return nil, false
	}
	item := r.pageItem(e.Text(event.PageURLPath))
	return one(item, r.kind), item != ""
}

func (r *rule) pageItem(path string) string {
	m := r.pattern.FindStringSubmatch(path)
	if m == nil {
		return ""
	}
	if plain, err := url.PathUnescape(m[1]); err == nil {
		return plain
	}
	return m[1]
}

func (r *rule) matchStruct(e *event.Event) ([]interaction, bool) {
	if e.Text(event.EventType) != "struct" ||
		r.Category != "" && r.Category != e.Text(event.SeCategory) || r.Action != "" && r.Action != e.Text(event.SeAction) {
		return nil, false
	}
	item := e.Text(event.SeLabel)
	if r.Item == "property" {
		item = e.Text(event.SeProperty)
	}
	return one(item, r.kind), item != ""
}

func one(item string, kind Kind) []interaction {
	if item == "" || kind == Ignored {
		return nil
	}
	return []interaction{{item, kind}}
}

// ecommerceKinds are the types of snowplow_ecommerce_action that name products.
// A list view is an impression, not a click.
var ecommerceKinds = map[string]Kind{
	"product_view": View, "list_click": View, "add_to_cart": Cart, "transaction": Purchase,
}

var enhancedKinds = map[string]Kind{"click": View, "detail": View, "add": Cart, "purchase": Purchase}

func matchEcommerce(e *event.Event, name string, data gjson.Result) ([]interaction, bool) {
	if name != "com.snowplowanalytics.snowplow.ecommerce/snowplow_ecommerce_action" {
		return nil, false
	}
	return products(e, "com.snowplowanalytics.snowplow.ecommerce/product", ecommerceKinds[data.Get("type").String()]), true
}

func matchEnhanced(e *event.Event, name string, data gjson.Result) ([]interaction, bool) {
	if name != "com.google.analytics.enhanced-ecommerce/action" {
		return nil, false
	}
	return products(e, "com.google.analytics.enhanced-ecommerce/productFieldObject", enhancedKinds[data.Get("action").String()]), true
}

func matchCart(name string, data gjson.Result) ([]interaction, bool) {
	switch name {
	case "com.snowplowanalytics.snowplow/add_to_cart":
		sku := data.Get("sku").String()
		return one(sku, Cart), sku != ""
	case "com.snowplowanalytics.snowplow/remove_from_cart":
		return nil, true
	}
	return nil, false
}

// maxProducts is how many products of one event count; a cart rarely has more.
const maxProducts = 100

func products(e *event.Event, schema string, kind Kind) (found []interaction) {
	if kind == Ignored {
		return nil
	}
	for _, field := range []event.Field{event.Contexts, event.DerivedContexts} {
		gjson.Get(e.Text(field), "data").ForEach(func(_, entity gjson.Result) bool {
			if schemaName(entity.Get("schema").String()) == schema {
				if id := entity.Get("data.id").String(); id != "" {
					found = append(found, interaction{id, kind})
				}
			}
			return len(found) < maxProducts
		})
	}
	return found
}

// schemaName returns vendor/name of an Iglu URI.
func schemaName(uri string) string {
	rest, ok := strings.CutPrefix(uri, "iglu:")
	if !ok {
		return ""
	}
	vendor, rest, _ := strings.Cut(rest, "/")
	name, _, ok := strings.Cut(rest, "/")
	if !ok {
		return ""
	}
	return vendor + "/" + name
}

// canonicalPath returns the item that a page is when paths are items: its path
// without a trailing slash or index page. The home page is none.
func canonicalPath(path string) string {
	dir, last := path[:strings.LastIndexByte(path, '/')+1], path[strings.LastIndexByte(path, '/')+1:]
	switch strings.ToLower(last) {
	case "index.html", "index.htm", "index.php", "default.aspx":
		path = dir
	}
	path = strings.TrimRight(path, "/")
	if path == "" || path[0] != '/' {
		return ""
	}
	return path
}
