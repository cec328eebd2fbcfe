package inspector

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"furrow/internal/event"
)

// Options is what the app gives the inspector. Only Status is required; a route
// whose function is absent answers 404.
type Options struct {
	UI           fs.FS // index.html, main.js, style.css
	Status       func() Status
	Health       func() []Check
	Coverage     func() Coverage
	SendTest     func(context.Context) (eventID string, err error) // sends an event through the collector, like any visitor
	Recommend    http.Handler                                      // answers GET /v1/recommend; lets the page try it from its own origin
	Operations   http.Handler                                      // answers POST /api/history/…, what commands have a running Furrow do
	Gatherer     prometheus.Gatherer
	Registerer   prometheus.Registerer
	Log          *slog.Logger
	Now          func() time.Time
	AllowedHosts []string // besides Config.AllowedHosts, for example the host that the listener is bound to
}

// Inspector holds the newest events and bad rows and serves the admin listener.
type Inspector struct {
	cfg     Config
	opt     Options
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics
	hosts   map[string]bool
	boot    string // tells cursors of this process from those of an earlier one

	events  *ring[entry]
	bad     *ring[badEntry]
	scratch sync.Pool // *[]byte
	clients chan struct{}
	closed  chan struct{}
	close   sync.Once
	handler http.Handler
}

// New returns an inspector that sees what Recorded is given.
func New(cfg Config, opt Options) (*Inspector, error) {
	var problems []error
	cfg.Validate(func(key, rule string) { problems = append(problems, fmt.Errorf("inspector.%s %s", key, rule)) })
	if opt.Status == nil {
		problems = append(problems, errors.New("inspector: Options.Status is required"))
	}
	if opt.UI != nil {
		for _, p := range pages {
			if _, err := fs.Stat(opt.UI, p.file); err != nil {
				problems = append(problems, fmt.Errorf("inspector: the pages are not built, run go run ./web/build: %w", err))
			}
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	m, err := newMetrics(opt.Registerer)
	if err != nil {
		return nil, fmt.Errorf("inspector: register metrics: %w", err)
	}
	in := &Inspector{
		cfg: cfg, opt: opt, log: opt.Log, now: opt.Now, metrics: m,
		hosts:   map[string]bool{},
		boot:    fmt.Sprintf("%x", opt.Now().UnixNano()),
		events:  newRing[entry](cfg.Events, cfg.MaxBytes),
		bad:     newRing[badEntry](cfg.BadRows, cfg.MaxBytes/4),
		clients: make(chan struct{}, cfg.Clients),
		closed:  make(chan struct{}),
	}
	in.scratch.New = func() any { b := make([]byte, 0, 4096); return &b }
	for _, h := range append(append([]string{}, cfg.AllowedHosts...), opt.AllowedHosts...) {
		in.hosts[bareHost(h)] = true
	}
	in.handler = in.guard(in.routes())
	return in, nil
}

// Handler serves the admin listener.
func (in *Inspector) Handler() http.Handler { return in.handler }

// Run waits for the context to end and then ends every live stream, so that the
// server's shutdown need not wait for them. A stopped inspector refuses new
// streams and serves everything else.
func (in *Inspector) Run(ctx context.Context) error {
	<-ctx.Done()
	in.close.Do(func() { close(in.closed) })
	return nil
}

// Clear empties the view, for when somebody in it is to be forgotten.
func (in *Inspector) Clear() {
	in.events.clear()
	in.bad.clear()
	in.metrics.ringSize.WithLabelValues("events").Set(0)
	in.metrics.ringSize.WithLabelValues("bad").Set(0)
}

// Recorded is the recorder's tap: call it with what has just been stored. It
// copies what it keeps, never waits for a watcher and is safe for concurrent use.
func (in *Inspector) Recorded(events []*event.Event, bad []event.BadRow) {
	if len(events) > 0 {
		in.tapEvents(events)
	}
	if len(bad) > 0 {
		in.tapBad(bad)
	}
}

func (in *Inspector) tapEvents(events []*event.Event) {
	now := in.now()
	skipped := max(0, len(events)-in.cfg.Events)
	scratch := in.scratch.Get().(*[]byte) // the pool holds nothing else
	entries := make([]*entry, 0, len(events)-skipped)
	for _, ev := range events[skipped:] {
		var e *entry
		e, *scratch = newEntry(ev, now, *scratch)
		if e.cut {
			in.metrics.cut.Inc()
		}
		entries = append(entries, e)
	}
	if cap(*scratch) <= entryLimit { // a giant must not live in the pool
		in.scratch.Put(scratch)
	}
	held := in.events.add(uint64(skipped), entries, (*entry).size)
	in.metrics.ringSize.WithLabelValues("events").Set(float64(held))
}

func (in *Inspector) tapBad(bad []event.BadRow) {
	skipped := max(0, len(bad)-in.cfg.BadRows)
	entries := make([]*badEntry, 0, len(bad)-skipped)
	for i := range bad[skipped:] {
		e := newBadEntry(&bad[skipped+i])
		if e.cut {
			in.metrics.cut.Inc()
		}
		entries = append(entries, e)
	}
	held := in.bad.add(uint64(skipped), entries, (*badEntry).size)
	in.metrics.ringSize.WithLabelValues("bad").Set(float64(held))
}

func (in *Inspector) routes() http.Handler {
	mux := http.NewServeMux()
	for _, p := range pages {
		mux.HandleFunc("GET "+p.path, in.page(p))
	}
	mux.HandleFunc("GET /status", in.status)
	mux.HandleFunc("GET /healthz", in.health(func(c Check) bool { return c.Healthy }))
	mux.HandleFunc("GET /readyz", in.health(func(c Check) bool { return c.Ready }))
	mux.HandleFunc("GET /api/live", in.live)
	mux.HandleFunc("GET /api/events", in.listEvents)
	mux.HandleFunc("GET /api/events/{id}", in.oneEvent)
	mux.HandleFunc("GET /api/bad", in.listBad)
	mux.HandleFunc("GET /api/bad/{id}", in.oneBad)
	if in.opt.Coverage != nil {
		mux.HandleFunc("GET /api/coverage", in.coverage)
	}
	if in.opt.Recommend != nil {
		mux.HandleFunc("GET /api/recommend", in.recommend)
	}
	if in.opt.Operations != nil {
		mux.Handle("POST /api/history/{operation}", in.opt.Operations)
	}
	if in.opt.SendTest != nil {
		mux.HandleFunc("POST /api/test-event", in.testEvent)
	}
	if in.opt.Gatherer != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(in.opt.Gatherer, promhttp.HandlerOpts{ErrorLog: slogPrinter{in.log}}))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, http.StatusNotFound, "there is nothing at "+r.URL.Path)
	})
	return mux
}

// slogPrinter lets promhttp report what it could not gather.
type slogPrinter struct{ log *slog.Logger }

// Println implements promhttp.Logger.
func (p slogPrinter) Println(v ...any) {
	p.log.Warn("metrics could not be gathered", "error", fmt.Sprint(v...))
}
