package store

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	events    prometheus.Counter
	doubles   prometheus.Counter
	conflicts prometheus.Counter
	refused   prometheus.Counter
	bad       prometheus.Counter
	failures  prometheus.Counter
	deleted   *prometheus.CounterVec
	latency   prometheus.Histogram
	size      prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "furrow_store_" + name, Help: help})
	}
	m := &metrics{
		events:    counter("events_total", "Events stored."),
		doubles:   counter("doubles_total", "Events dropped because their id was stored with the same content."),
		conflicts: counter("conflicts_total", "Events kept as bad rows because their id was stored with other content."),
		refused:   counter("refused_total", "Events kept as bad rows because the database cannot hold them."),
		bad:       counter("bad_rows_total", "Bad rows stored."),
		failures:  counter("insert_failures_total", "Transactions that failed and were undone."),
		deleted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "furrow_store_deleted_rows_total", Help: "Rows deleted by retention.",
		}, []string{"table"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "furrow_store_insert_seconds", Help: "Time of one durable transaction.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
		size: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "furrow_store_size_bytes", Help: "Size of the database on disk at the last look, its log included.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.events, m.doubles, m.conflicts, m.refused, m.bad, m.failures, m.deleted, m.latency, m.size)
	}
	return m
}

func (m *metrics) inserted(done Inserted, took time.Duration) {
	m.events.Add(float64(done.Events))
	m.doubles.Add(float64(done.Doubles))
	m.conflicts.Add(float64(done.Conflicts))
	m.refused.Add(float64(done.Refused))
	m.bad.Add(float64(done.Bad))
	m.latency.Observe(took.Seconds())
}
