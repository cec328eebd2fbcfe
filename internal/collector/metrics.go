package collector

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"furrow/internal/bus"
)

// reason says why a request was not stored.
type reason int

const (
	busFull reason = iota
	busClosed
	busTimeout
	busFailed
	bodyTooLarge
	bodyTimeout
	bodyBroken
	memoryFull
	lineTooLong
	doNotTrackCookie
	cookieBounce
	reasons
)

func (r reason) String() string {
	return [reasons]string{
		"bus_full", "bus_closed", "bus_timeout", "bus_error",
		"body_too_large", "body_timeout", "body_broken", "memory_full", "request_line_too_long",
		"do_not_track", "cookie_bounce",
	}[r]
}

// Counts are the event requests since the start. Accepted minus Durable are on
// their way or were refused by the bus.
type Counts struct {
	Accepted uint64            // handed to the bus
	Durable  uint64            // stored
	Refused  map[string]uint64 // not stored, by reason; those that are zero are left out
	Lost     uint64            // of the refused, visitors on a redirect, who cannot come again
}

// Counts returns the counts at this moment.
func (c *Collector) Counts() Counts {
	m := c.meter
	// Durable is read first, so that it never exceeds Accepted.
	counts := Counts{Durable: m.durable.Load(), Accepted: m.accepted.Load(), Lost: m.lost.Load(), Refused: map[string]uint64{}}
	for why := range reasons {
		if n := m.refused[why].Load(); n > 0 {
			counts.Refused[why.String()] = n
		}
	}
	return counts
}

// meter counts what the collector does.
type meter struct {
	accepted, durable, lost atomic.Uint64
	refused                 [reasons]atomic.Uint64
	publish                 prometheus.Histogram
}

func newMeter() *meter {
	return &meter{publish: prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "furrow_collector_publish_seconds", Help: "Time until the bus had stored, or refused, a record.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	})}
}

func (m *meter) register(to prometheus.Registerer) error {
	if to == nil {
		return nil
	}
	all := []prometheus.Collector{
		m.publish,
		counter("furrow_collector_accepted_requests_total", "Event requests handed to the bus.", nil, &m.accepted),
		counter("furrow_collector_durable_requests_total", "Event requests whose record is stored.", nil, &m.durable),
		counter("furrow_collector_lost_requests_total", "Redirected visitors whose event was not stored.", nil, &m.lost),
	}
	for why := range reasons {
		all = append(all, counter("furrow_collector_refused_requests_total", "Event requests that were not stored, by reason.",
			prometheus.Labels{"reason": why.String()}, &m.refused[why]))
	}
	for _, one := range all {
		if err := to.Register(one); err != nil {
			return err
		}
	}
	return nil
}

func counter(name, help string, labels prometheus.Labels, value *atomic.Uint64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels},
		func() float64 { return float64(value.Load()) })
}

func (m *meter) refuse(why reason) { m.refused[why].Add(1) }

func (m *meter) published(start time.Time, err error) {
	m.publish.Observe(time.Since(start).Seconds())
	switch {
	case err == nil:
		m.durable.Add(1)
	case errors.Is(err, bus.ErrFull):
		m.refuse(busFull)
	case errors.Is(err, bus.ErrClosed):
		m.refuse(busClosed)
	case errors.Is(err, context.DeadlineExceeded):
		m.refuse(busTimeout)
	default:
		m.refuse(busFailed)
	}
}
