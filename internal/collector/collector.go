package collector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"furrow/internal/bus"
)

// Options are what a Collector needs beside its Config. The zero value of each
// but Name has a default.
type Options struct {
	// Name stands in every payload's collector field: program, version, sink, for
	// example furrow-0.1.0-journal.
	Name string
	// Registerer takes the metrics. Nil: none are registered.
	Registerer prometheus.Registerer
	// Log takes what an operator should see. Nil: it is dropped.
	Log *slog.Logger
	// Now is the clock of payloads and cookies. Nil: the system's.
	Now func() time.Time
	// Ready says why records cannot be stored at the moment. Nil: never.
	Ready func() error
}

// Collector is the http.Handler of the collector's routes.
type Collector struct {
	cfg   Config
	pub   bus.Publisher
	name  string
	log   *slog.Logger
	now   func() time.Time
	ready func() error

	doNotTrack  *regexp.Regexp // nil when disabled
	crossDomain []byte         // nil when disabled
	p3p         []string
	hsts        []string // nil when disabled
	maxAge      []string
	cookieName  string // with the equals sign
	clientName  string

	meter       *meter
	exchanges   sync.Pool
	moment      atomic.Pointer[moment]
	terminating atomic.Bool
	failing     atomic.Bool  // the last publish failed
	logged      atomic.Int64 // when a failure was last logged, Unix seconds
	held        atomic.Int64 // bytes in the buffers of large bodies
}

// New checks the configuration and builds the handler. It starts nothing.
func New(cfg Config, pub bus.Publisher, opts Options) (*Collector, error) {
	var problems []error
	cfg.Validate(func(key, rule string) { problems = append(problems, fmt.Errorf("collector: %s %s", key, rule)) })
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	if pub == nil || opts.Name == "" {
		return nil, errors.New("collector: needs a publisher and a name")
	}
	c := &Collector{
		cfg: cfg, pub: pub, name: opts.Name, log: opts.Log, now: opts.Now, ready: opts.Ready,
		p3p:        []string{fmt.Sprintf(`policyref="%s", CP="%s"`, cfg.P3P.PolicyRef, cfg.P3P.CP)},
		maxAge:     []string{strconv.FormatInt(int64(cfg.CORS.AccessControlMaxAge/time.Second), 10)},
		cookieName: cfg.Cookie.Name + "=",
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.ready == nil {
		c.ready = func() error { return nil }
	}
	if cfg.DoNotTrackCookie.Enabled {
		c.doNotTrack = regexp.MustCompile(wholeValue(cfg.DoNotTrackCookie.Value))
	}
	if cfg.CrossDomain.Enabled {
		c.crossDomain = crossDomainPolicy(cfg.CrossDomain)
	}
	if cfg.HSTS.Enable {
		c.hsts = []string{fmt.Sprintf("max-age=%d; includeSubDomains", int64(cfg.HSTS.MaxAge/time.Second))}
	}
	if cfg.Cookie.ClientCookieName != "" {
		c.clientName = cfg.Cookie.ClientCookieName + "="
	}
	c.exchanges.New = func() any { return newExchange() }
	c.meter = newMeter()
	if err := c.meter.register(opts.Registerer); err != nil {
		return nil, fmt.Errorf("collector: register metrics: %w", err)
	}
	return c, nil
}

// Ready says why records cannot be stored at the moment, as Options.Ready does.
func (c *Collector) Ready() error { return c.ready() }

// Terminate is called when the process begins to stop. Requests are served as
// before; with preTerminationUnhealthy /health answers 503 from now on.
func (c *Collector) Terminate() { c.terminating.Store(true) }

const (
	pixelPath = "/i"
	icePath   = "/ice.png"
	redirects = "/r/"
)

// ServeHTTP answers the collector's routes, and 404 to everything else. Paths are
// compared as they came: case matters, nothing is cleaned.
func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c.hsts != nil {
		w.Header()["Strict-Transport-Security"] = c.hsts
	}
	target := r.RequestURI
	if target == "" {
		target = r.URL.RequestURI()
	}
	path, query, hasQuery := splitTarget(target)
	to := c.destination(path)
	if to.denied {
		plain(w, http.StatusNotFound, "redirects disabled")
		return
	}
	pixel := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case len(target) > int(c.cfg.Networking.MaxRequestLineLength):
		c.meter.refuse(lineTooLong)
		c.refuse(w, r, http.StatusRequestURITooLong)
	case to.event && (pixel || r.Method == http.MethodPost), pixel && (path == pixelPath || path == icePath):
		x := c.exchanges.Get().(*exchange)
		x.w, x.r = w, r
		if plain, ok := w.(*reply); ok {
			x.lines = plain.lines
		}
		x.rawPath, x.path, x.query, x.hasQuery = path, to.path, query, hasQuery
		x.pixel, x.redirect = pixel, to.redirect
		c.collect(x)
		c.release(x)
		x.reset()
		c.exchanges.Put(x)
	case r.Method == http.MethodOptions:
		c.preflight(w, r)
	case r.Method == http.MethodGet:
		c.page(w, path)
	default:
		notFound(w)
	}
}

// destination is what a path stands for.
type destination struct {
	path     string // as it is stored: decoded and mapped
	event    bool   // has two segments
	redirect bool
	denied   bool // would be a redirect, but those are off
}

func (c *Collector) destination(path string) destination {
	vendor, version, event := segments(path)
	if !event {
		return destination{path: path}
	}
	if strings.IndexByte(path, '%') >= 0 || !utf8.ValidString(path) {
		vendor = validText(unescape(vendor, false))
		path = "/" + vendor + "/" + validText(unescape(version, false))
	}
	to, mapped := c.cfg.Paths[path]
	if mapped {
		path = to
	}
	// A mapping to /r/ is the operator's own decision and holds with the default
	// redirect off. An escaped slash must not open what is closed.
	redirect := strings.HasPrefix(path, redirects)
	denied := !c.cfg.EnableDefaultRedirect && (vendor == "r" || redirect && !mapped)
	return destination{path: path, event: true, redirect: redirect, denied: denied}
}

// collect handles one event request from body to answer.
func (c *Collector) collect(x *exchange) {
	x.now = c.now()
	x.moment = c.at(x.now)
	if !x.pixel && !c.readBody(x) {
		return
	}
	x.params = scanQuery(x.query, c.cfg.CookieBounce.Name)
	_, x.anonymous = x.r.Header["Sp-Anonymous"]
	bounce := c.identify(x)
	doNotTrack := c.doNotTracked(x)
	if x.redirect {
		x.location, x.allowed = c.redirectTarget(&x.params, x.nuid)
	}
	switch {
	case bounce:
		c.meter.refuse(cookieBounce)
	case doNotTrack:
		c.meter.refuse(doNotTrackCookie)
	case !c.store(x) && !x.allowed:
		c.unavailable(x.w, x.r, x.pixel)
		return
	}
	c.answer(x, bounce, doNotTrack)
}

// identify finds the network user id and reports whether to bounce for a cookie.
func (c *Collector) identify(x *exchange) (bounce bool) {
	if x.anonymous {
		x.nuid = zeroID
		return false
	}
	if x.params.hasNUID {
		x.nuid, x.clientID = x.params.nuid, true
		return false
	}
	if c.cfg.Cookie.Enabled {
		if x.nuid, x.clientID = cookieValue(x.r.Header["Cookie"], c.cfg.Cookie.Name); x.clientID {
			return false
		}
	}
	if x.params.bounced {
		x.nuid = c.cfg.CookieBounce.FallbackNetworkUserID
		return false
	}
	x.nuid = x.newID()
	return c.cfg.CookieBounce.Enabled && x.pixel && !x.redirect
}

func (c *Collector) doNotTracked(x *exchange) bool {
	if c.doNotTrack == nil {
		return false
	}
	value, ok := cookieValue(x.r.Header["Cookie"], c.cfg.DoNotTrackCookie.Name)
	return ok && c.doNotTrack.MatchString(value)
}

// store publishes the record and reports whether it is durable.
func (c *Collector) store(x *exchange) bool {
	message := c.message(x)
	c.meter.accepted.Add(1)
	start := time.Now()
	// The visitor may leave before the record is stored, as pages that unload do,
	// so waiting does not depend on the request's context.
	err := c.pub.Publish(x.moment.ctx, message)
	c.meter.published(start, err)
	if err == nil {
		if c.failing.Load() && c.failing.CompareAndSwap(true, false) {
			c.log.Info("records are stored again")
		}
		return true
	}
	if x.allowed {
		c.meter.lost.Add(1)
	}
	if now, last := start.Unix(), c.logged.Load(); !c.failing.Swap(true) && now-last >= logPause && c.logged.CompareAndSwap(last, now) {
		c.log.Error("a record was not stored, clients get 503 until it works again", "error", err)
	}
	return false
}

// logPause is the least number of seconds between two lines about a bus that
// fails now and then.
const logPause = 10

// moment holds what is the same for all requests of one second.
type moment struct {
	unix          int64
	cookies       []string // what follows the value, see Cookie.attributes
	clientCookies []string
	ctx           context.Context // bounds the publishing of every request of the second
	cancel        context.CancelFunc
}

// at returns the moment of now. A context of its own for each request would cost
// more than the rest of the request's bookkeeping.
func (c *Collector) at(now time.Time) *moment {
	m := c.moment.Load()
	if m != nil && m.unix == now.Unix() && m.ctx.Err() == nil {
		return m
	}
	m = &moment{unix: now.Unix()}
	if c.cfg.Cookie.Enabled {
		m.cookies = c.cfg.Cookie.attributes(now, c.cfg.Cookie.HTTPOnly)
		if c.clientName != "" {
			m.clientCookies = c.cfg.Cookie.attributes(now, false)
		}
	}
	m.ctx, m.cancel = context.WithTimeout(context.Background(), c.cfg.Networking.ResponseHeaderTimeout+time.Second) //nolint:gosec // requests share it, so only time may end it
	c.moment.Store(m)
	return m
}
