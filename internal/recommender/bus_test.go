package recommender

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"furrow/internal/bus"
	"furrow/internal/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// double is a bus of one partition in memory.
type double struct {
	mu    sync.Mutex
	log   []bus.Message
	grown chan struct{}
	acked bus.Position
	fail  int // so many calls of Next fail first
}

const partition = "0"

func newDouble() *double { return &double{grown: make(chan struct{})} }

func position(n int) bus.Position { return bus.Position(fmt.Sprintf("%012d", n)) }

func (d *double) publish(values ...[]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, v := range values {
		d.log = append(d.log, bus.Message{Stream: bus.Raw, Value: v, Time: time.Now(), Position: position(len(d.log) + 1)})
	}
	close(d.grown)
	d.grown = make(chan struct{})
}

func (d *double) head() bus.Positions {
	d.mu.Lock()
	defer d.mu.Unlock()
	return bus.Positions{partition: position(len(d.log))}
}

func (d *double) ackedTo() bus.Position {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.acked
}

func (d *double) Subscribe(_ context.Context, _ string, _ []bus.Stream, from bus.Start) (bus.Subscription, error) {
	s := &doubleSub{d: d}
	if from.Kind == bus.StartPositions {
		_, _ = fmt.Sscanf(string(from.Positions[partition]), "%d", &s.at)
	}
	return s, nil
}

type doubleSub struct {
	d  *double
	at int
}

func (s *doubleSub) Next(ctx context.Context) (bus.Batch, error) {
	for {
		s.d.mu.Lock()
		grown := s.d.grown
		if s.d.fail > 0 {
			s.d.fail--
			s.d.mu.Unlock()
			return bus.Batch{}, fmt.Errorf("the bus is away")
		}
		if n := len(s.d.log); s.at < n {
			to := min(n, s.at+500)
			b := bus.Batch{Partition: partition, Messages: slices.Clone(s.d.log[s.at:to]), First: position(s.at + 1), Last: position(to)}
			s.at = to
			s.d.mu.Unlock()
			return b, nil
		}
		s.d.mu.Unlock()
		select {
		case <-grown:
		case <-ctx.Done():
			return bus.Batch{}, ctx.Err()
		}
	}
}

func (s *doubleSub) Ack(_ context.Context, b bus.Batch) error {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	s.d.acked = max(s.d.acked, b.Last)
	return nil
}

func (s *doubleSub) Close() error { return nil }

// doc is an event of a test, the record that the double carries.
type doc struct {
	Type    string // page_view when empty
	ID      string
	Path    string
	Session string
	Domain  string
	User    string
	Network string
	Sku     string
	Agent   string
	Unstruct, Contexts,
	Category, Action, Label string
	At int64 // milliseconds
}

var ids struct {
	sync.Mutex
	n int
}

func (e doc) record() []byte {
	if e.ID == "" {
		ids.Lock()
		ids.n++
		e.ID = fmt.Sprintf("00000000-0000-4000-8000-%012d", ids.n)
		ids.Unlock()
	}
	b, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	return b
}

// parseDoc is the tests' Options.Parse.
func parseDoc(record []byte, _ time.Time) []*event.Event {
	var d doc
	if json.Unmarshal(record, &d) != nil {
		return nil
	}
	e := &event.Event{}
	if d.Type == "" {
		d.Type = "page_view"
	}
	e.SetText(event.EventType, d.Type)
	for f, v := range map[event.Field]string{
		event.EventID: d.ID, event.PageURLPath: d.Path, event.DomainSessionID: d.Session, event.DomainUserID: d.Domain,
		event.UserID: d.User, event.NetworkUserID: d.Network, event.TiSku: d.Sku, event.Useragent: d.Agent,
		event.UnstructEvent: d.Unstruct, event.Contexts: d.Contexts,
		event.SeCategory: d.Category, event.SeAction: d.Action, event.SeLabel: d.Label,
	} {
		e.SetText(f, v)
	}
	if d.At != 0 {
		e.SetTime(event.CollectorTstamp, time.UnixMilli(d.At))
	}
	return []*event.Event{e}
}

// action returns a Snowplow ecommerce event about products.
func action(kind string, products ...string) (unstruct, contexts string) {
	const vendor = "iglu:com.snowplowanalytics.snowplow"
	unstruct = `{"schema":"` + vendor + `/unstruct_event/jsonschema/1-0-0","data":{"schema":"` + vendor +
		`.ecommerce/snowplow_ecommerce_action/jsonschema/1-0-2","data":{"type":"` + kind + `"}}}`
	var list []string
	for _, p := range products {
		list = append(list, `{"schema":"`+vendor+`.ecommerce/product/jsonschema/1-0-0","data":{"id":"`+p+`","category":"c","price":1,"currency":"EUR"}}`)
	}
	return unstruct, `{"schema":"` + vendor + `/contexts/jsonschema/1-0-1","data":[` + strings.Join(list, ",") + `]}`
}

// live is a running recommender.
type live struct {
	*Recommender
	bus  *double
	dir  string
	stop func()
}

func start(tb testing.TB, d *double, dir string, change func(*Config)) *live {
	tb.Helper()
	cfg := Default()
	cfg.Serve.Wait = 5 * time.Second // tests wait for their own writes, however slow the machine
	if change != nil {
		change(&cfg)
	}
	r, err := New(cfg, Options{Bus: d, Dir: dir, Parse: parseDoc, Head: d.head})
	if err != nil {
		tb.Fatal(err)
	}
	return &live{Recommender: r, bus: d, dir: dir, stop: goRun(tb, r)}
}

// goRun runs a recommender until stop or the end of the test.
func goRun(tb testing.TB, r *Recommender) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				tb.Errorf("Run: %v", err)
			}
		})
	}
	tb.Cleanup(stop)
	return stop
}

// until polls a condition that another goroutine brings about.
func until(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-ticker.C:
		case <-deadline:
			tb.Fatalf("not in 10 s: %s", what)
		}
	}
}
