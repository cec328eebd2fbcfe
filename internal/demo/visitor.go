package demo

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"net/http"
	"strconv"
)

const (
	vendor    = "iglu:com.snowplowanalytics.snowplow/"
	ecommerce = "iglu:com.snowplowanalytics.snowplow.ecommerce/"
)

// How often visitors do more than look: with these odds a viewed product goes
// into the cart, and a filled cart is paid for.
const (
	cartOdds    = 0.12
	buyOdds     = 0.4
	returnOdds  = 0.2
	landingOdds = 0.3
)

// device is a browser as its requests and events show it.
type device struct{ agent, screen, window, lang, zone string }

var devices = []device{
	{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36", "1920x1080", "1903x937", "de-DE", "Europe/Berlin"},
	{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0", "1536x864", "1519x730", "nl-NL", "Europe/Amsterdam"},
	{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15", "1728x1117", "1728x962", "en-GB", "Europe/London"},
	{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36", "1512x982", "1512x857", "en-US", "America/New_York"},
	{"Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0", "2560x1440", "2545x1289", "cs-CZ", "Europe/Prague"},
	{"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0", "1920x1080", "1905x955", "fr-FR", "Europe/Paris"},
	{"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1", "393x852", "393x659", "nl-NL", "Europe/Amsterdam"},
	{"Mozilla/5.0 (iPhone; CPU iPhone OS 17_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.7 Mobile/15E148 Safari/604.1", "390x844", "390x664", "en-IE", "Europe/Dublin"},
	{"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36", "412x915", "412x785", "es-ES", "Europe/Madrid"},
	{"Mozilla/5.0 (Linux; Android 15; SM-S928B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36", "384x832", "384x700", "pl-PL", "Europe/Warsaw"},
}

var campaigns = []string{
	"", "", "", "https://www.google.com/", "https://www.google.com/", "https://duckduckgo.com/", "https://www.pinterest.com/", "https://l.instagram.com/",
}

// event is one event of the tracker protocol: parameter name to value.
type event map[string]string

// person is who a visitor is between visits.
type person struct {
	device
	duid    string
	address string // from the ranges reserved for documentation
	visits  int
	cookies []*http.Cookie // what the collector has set
}

// visit is one session in the shop.
type visit struct {
	*person
	shop string
	sid  string
	at   string // the page the visitor is on
	refr string
	cart []Product
	dice *mathrand.Rand
}

func newPerson(dice *mathrand.Rand) *person {
	nets := []string{"192.0.2", "198.51.100", "203.0.113"}
	return &person{
		device:  devices[dice.IntN(len(devices))],
		duid:    newUUID(),
		address: fmt.Sprintf("%s.%d", nets[dice.IntN(len(nets))], 1+dice.IntN(254)),
	}
}

// newVisit begins a session: a new session id, the count one up, and the site the
// visitor came from.
func newVisit(p *person, shop string, dice *mathrand.Rand) *visit {
	p.visits++
	return &visit{person: p, shop: shop, sid: newUUID(), refr: campaigns[dice.IntN(len(campaigns))], dice: dice}
}

// base holds what every event of the page has.
func (v *visit) base(kind, title, page string) event {
	e := event{
		"e": kind, "url": v.at, "page": title, "eid": newUUID(), "tv": "furrow-0.1.0", "tna": "sp", "aid": "shop", "p": "web",
		"cookie": "1", "cs": "UTF-8", "lang": v.lang, "res": v.screen, "cd": "24", "tz": v.zone, "vp": v.window, "ds": v.window,
		"vid": strconv.Itoa(v.visits), "sid": v.sid, "duid": v.duid,
		"co": selfDescribing(vendor+"contexts/jsonschema/1-0-0", []any{webPage(page)}),
	}
	if v.refr != "" {
		e["refr"] = v.refr
	}
	return e
}

// look moves the visitor to a page and returns its page view and the page's id.
func (v *visit) look(path, title string) (event, string) {
	if v.at != "" {
		v.refr = v.at
	}
	v.at = v.shop + path
	page := newUUID()
	return v.base("pv", title, page), page
}

// product is a look at a product, which may end in the cart.
func (v *visit) product(p Product) []event {
	title := p.Name + " · Hazel & Loam"
	view, page := v.look("/product/"+p.ID, title)
	events := []event{view, v.action("product_view", title, page, entity("product", goods(p, 0)))}
	if v.dice.Float64() < cartOdds {
		v.cart = append(v.cart, p)
		events = append(events, v.action("add_to_cart", title, page,
			entity("product", goods(p, 1)),
			entity("cart", map[string]any{"total_value": total(v.cart), "currency": currency})))
	}
	return events
}

// pay is the cart's page and the purchase of all that is in it.
func (v *visit) pay() []event {
	const title = "Your cart · Hazel & Loam"
	view, page := v.look("/cart", title)
	entities := []any{entity("transaction", map[string]any{
		"transaction_id": newUUID(), "revenue": total(v.cart), "currency": currency, "payment_method": "card", "total_quantity": len(v.cart),
	})}
	for _, p := range v.cart {
		entities = append(entities, entity("product", goods(p, 1)))
	}
	v.cart = nil
	return []event{view, v.action("transaction", title, page, entities...)}
}

// action is an ecommerce event with its entities.
func (v *visit) action(kind, title, page string, entities ...any) event {
	e := v.base("ue", title, page)
	e["ue_pr"] = selfDescribing(vendor+"unstruct_event/jsonschema/1-0-0",
		schemaData{ecommerce + "snowplow_ecommerce_action/jsonschema/1-0-2", map[string]any{"type": kind}})
	e["co"] = selfDescribing(vendor+"contexts/jsonschema/1-0-0", append(entities, webPage(page)))
	return e
}

type schemaData struct {
	Schema string `json:"schema"`
	Data   any    `json:"data"`
}

func entity(name string, data map[string]any) schemaData {
	return schemaData{ecommerce + name + "/jsonschema/1-0-0", data}
}

func webPage(id string) schemaData {
	return schemaData{vendor + "web_page/jsonschema/1-0-0", map[string]any{"id": id}}
}

func goods(p Product, quantity int) map[string]any {
	g := map[string]any{"id": p.ID, "name": p.Name, "brand": p.Brand, "category": p.Category, "price": p.Price, "currency": p.Currency}
	if quantity > 0 {
		g["quantity"] = quantity
	}
	return g
}

// total is the value of a cart, to the cent.
func total(cart []Product) float64 {
	sum := 0.0
	for _, p := range cart {
		sum += p.Price
	}
	return math.Round(sum*100) / 100
}

func selfDescribing(schema string, data any) string {
	text, err := json.Marshal(schemaData{schema, data})
	if err != nil {
		panic("demo: " + err.Error()) // only texts and finite numbers come here
	}
	return string(text)
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
