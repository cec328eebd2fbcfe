package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	firstWait   = 500 * time.Millisecond
	longestWait = 30 * time.Second
)

// errRefused is the collector's no to a request that would be no better later.
var errRefused = errors.New("refused for good")

// Run sends simulated visitors to the collector until ctx ends, and returns nil
// then. While the collector is away or answers 503 they wait and try again with
// the same events.
func (d *Demo) Run(ctx context.Context) error {
	c := &crowd{Demo: d, pace: &pace{cfg: d.cfg}}
	d.log.Info("simulated visitors arrive", slog.Int("visitors", d.cfg.Visitors), slog.Int("products", len(d.products)))
	var workers sync.WaitGroup
	for range d.cfg.Visitors {
		workers.Go(func() { c.visitor(ctx) })
	}
	workers.Wait()
	<-ctx.Done() // with no visitors there is still a shop
	d.client.CloseIdleConnections()
	d.log.Info("simulated visitors left", slog.Int64("events", c.stored.Load()), slog.Int64("refused", c.refused.Load()))
	return nil
}

// crowd is what the visitors of one Run share.
type crowd struct {
	*Demo
	pace            *pace
	next            atomic.Int64 // the next session of the data set
	stored, refused atomic.Int64 // events
	away            atomic.Bool  // the collector did not take the last request

	mu    sync.Mutex
	known []*person // left, and may come again
}

// visitor plays one session of the data set after another.
func (c *crowd) visitor(ctx context.Context) {
	dice := mathrand.New(mathrand.NewPCG(mathrand.Uint64(), mathrand.Uint64())) //nolint:gosec // chance of a cart, no secret
	for ctx.Err() == nil {
		// The data set begins again at its end, with other people.
		s := c.sessions[int(c.next.Add(1)-1)%len(c.sessions)]
		v := newVisit(c.greet(dice), c.shop, dice)
		if dice.Float64() < landingOdds {
			home, _ := v.look("/", "Hazel & Loam")
			if c.send(ctx, v, []event{home}) != nil {
				return
			}
		}
		for _, item := range s {
			if c.send(ctx, v, v.product(c.products[item])) != nil {
				return
			}
		}
		if len(v.cart) > 0 && dice.Float64() < buyOdds {
			if c.send(ctx, v, v.pay()) != nil {
				return
			}
		}
		c.part(v.person)
	}
}

// greet returns someone new, or now and then someone who was here before.
func (c *crowd) greet(dice *mathrand.Rand) *person {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.known); n > 0 && dice.Float64() < returnOdds {
		i := dice.IntN(n)
		p := c.known[i]
		c.known[i] = c.known[n-1]
		c.known = c.known[:n-1]
		return p
	}
	return newPerson(dice)
}

func (c *crowd) part(p *person) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) < 500 {
		c.known = append(c.known, p)
	}
}

// send posts the events of one page in turn with the other visitors. It keeps
// trying while the collector is away; its error means that ctx ended.
func (c *crowd) send(ctx context.Context, v *visit, events []event) error {
	if err := c.pace.wait(ctx, len(events)); err != nil {
		return err
	}
	dtm := strconv.FormatInt(c.now().UnixMilli(), 10)
	for _, e := range events {
		e["dtm"] = dtm
	}
	for attempt := 0; ; attempt++ {
		after, err := c.post(ctx, v, events)
		switch {
		case err == nil:
			c.stored.Add(int64(len(events)))
			if c.away.Swap(false) {
				c.log.Info("collector is back, visitors go on")
			}
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errRefused):
			if c.refused.Add(int64(len(events))) == int64(len(events)) {
				c.log.Warn("collector refuses a visitor's events", slog.Any("error", err))
			}
			return nil
		}
		if !c.away.Swap(true) {
			c.log.Warn("collector is away, visitors wait", slog.Any("error", err))
		}
		pause := max(after, backoff(attempt))
		c.pace.pause(pause)
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// post makes one request. Besides its error it returns how long the collector
// asked to wait.
func (c *crowd) post(ctx context.Context, v *visit, events []event) (time.Duration, error) {
	stm := strconv.FormatInt(c.now().UnixMilli(), 10)
	for _, e := range events {
		e["stm"] = stm
	}
	body, err := json.Marshal(schemaData{vendor + "payload_data/jsonschema/1-0-4", events})
	if err != nil {
		return 0, fmt.Errorf("demo: %w: %w", errRefused, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("demo: %w: %w", errRefused, err)
	}
	h := req.Header
	h.Set("Content-Type", "application/json; charset=UTF-8")
	h.Set("Accept", "*/*")
	h.Set("Accept-Language", v.lang)
	h.Set("Origin", c.shop)
	h.Set("Referer", c.shop+"/")
	h.Set("User-Agent", v.agent)
	h.Set("X-Forwarded-For", v.address)
	for _, cookie := range v.cookies {
		req.AddCookie(cookie)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("demo: post to the collector: %w", err)
	}
	defer resp.Body.Close()
	// Read so that the connection can be used again; an answer is a few bytes.
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	switch {
	case resp.StatusCode/100 == 2:
		if set := resp.Cookies(); len(set) > 0 {
			v.cookies = set
		}
		return 0, nil
	case resp.StatusCode/100 == 5 || resp.StatusCode == http.StatusTooManyRequests:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		after := time.Duration(min(max(seconds, 0), int(longestWait/time.Second))) * time.Second
		return after, fmt.Errorf("demo: collector at %s answers %s", c.endpoint, resp.Status)
	default:
		return 0, fmt.Errorf("demo: collector at %s answers %s: %w", c.endpoint, resp.Status, errRefused)
	}
}

// backoff doubles with every attempt, half of it by chance so that visitors do
// not come back all at once.
func backoff(attempt int) time.Duration {
	d := min(firstWait<<min(attempt, 10), longestWait)
	return d/2 + mathrand.N(d/2+1) //nolint:gosec // spreads load, no secret
}

// pace hands out turns so that all visitors together keep the configured rate.
type pace struct {
	cfg  Config
	mu   sync.Mutex
	free time.Time // when the next turn begins
	sent int
}

// wait returns at the turn of the next n events.
func (p *pace) wait(ctx context.Context, n int) error {
	p.mu.Lock()
	now := time.Now()
	if p.free.Before(now) {
		p.free = now // time that nobody used is not made up for
	}
	turn := p.free
	rate := p.cfg.Rate
	if p.sent < p.cfg.WarmupEvents {
		rate = p.cfg.WarmupRate
	}
	p.sent += n
	p.free = turn.Add(time.Duration(float64(n) / rate * float64(time.Second)))
	p.mu.Unlock()
	return sleep(ctx, turn.Sub(now))
}

// pause lets no turn begin for d.
func (p *pace) pause(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if until := time.Now().Add(d); p.free.Before(until) {
		p.free = until
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
