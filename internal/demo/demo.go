package demo

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Options are what the shop is given besides its settings.
type Options struct {
	// Pages holds index.html, main.js and style.css.
	Pages fs.FS
	// CollectorURL is where browsers and simulated visitors send their events and
	// ask for recommendations, such as http://127.0.0.1:8080.
	CollectorURL string
	// InspectorURL is linked from every page; empty leaves the link out.
	InspectorURL string
	// ShopURL is the shop's own address, which simulated visitors report as the
	// page they are on; empty means https://shop.example.
	ShopURL string
	// Log may be nil.
	Log *slog.Logger
	// Now is the clock of the events' times; nil means time.Now.
	Now func() time.Time
}

// Demo is the shop with its visitors.
type Demo struct {
	cfg      Config
	log      *slog.Logger
	now      func() time.Time
	products map[string]Product
	sessions []session
	endpoint string // where visitors post
	shop     string // without a trailing slash
	handler  http.Handler
	client   *http.Client
}

// New reads the data set and makes the catalogue and the pages. It fails when a
// setting cannot work, an address is no http or https URL, or the pages lack
// their index.
func New(cfg Config, o Options) (*Demo, error) {
	var wrong []error
	cfg.Validate(func(key, rule string) { wrong = append(wrong, fmt.Errorf("demo.%s %s", key, rule)) })
	collector, err := origin("collector", o.CollectorURL)
	wrong = append(wrong, err)
	if o.ShopURL == "" {
		o.ShopURL = "https://shop.example"
	}
	shop, err := origin("shop", o.ShopURL)
	wrong = append(wrong, err)
	if o.InspectorURL != "" {
		_, err := origin("inspector", o.InspectorURL)
		wrong = append(wrong, err)
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	train, err := readSessions("serenade_example.train", trainFile)
	if err != nil {
		return nil, err
	}
	test, err := readSessions("serenade_example.test", testFile)
	if err != nil {
		return nil, err
	}
	list := catalogue(train, cfg.Items)
	products := make(map[string]Product, len(list))
	for _, p := range list {
		products[p.ID] = p
	}
	handler, err := newHandler(o.Pages, list, products, collector, strings.TrimRight(o.InspectorURL, "/"))
	if err != nil {
		return nil, err
	}
	known := func(item string) bool { _, ok := products[item]; return ok }
	return &Demo{
		cfg:      cfg,
		log:      o.Log,
		now:      o.Now,
		products: products,
		sessions: within(append(train, test...), known),
		endpoint: collector + "/com.snowplowanalytics.snowplow/tp2",
		shop:     shop,
		handler:  handler,
		client: &http.Client{
			Transport: &http.Transport{
				MaxIdleConnsPerHost: max(1, cfg.Visitors),
				IdleConnTimeout:     time.Minute,
			},
			Timeout:       cfg.Timeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Handler serves the shop: its pages under every route the single-page shop
// knows, its static files and catalogue.json.
func (d *Demo) Handler() http.Handler { return d.handler }

// origin checks an address and returns it without a trailing slash.
func origin(what, address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return "", fmt.Errorf("demo: the %s address %q is no http or https URL", what, address)
	}
	return strings.TrimRight(address, "/"), nil
}
