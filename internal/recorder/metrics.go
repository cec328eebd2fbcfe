package recorder

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	enriched  prometheus.Counter
	shared    prometheus.Counter
	freshness prometheus.Histogram
	records   *prometheus.CounterVec
	events    *prometheus.CounterVec
	bad       *prometheus.CounterVec
	forgotten *prometheus.CounterVec
	retries   *prometheus.CounterVec
	paused    *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "furrow_recorder_" + name, Help: help}, []string{"group"})
	}
	m := &metrics{
		enriched: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "furrow_recorder_enriched_records_total", Help: "Records enriched.",
		}),
		shared: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "furrow_recorder_shared_records_total", Help: "Records whose enrichment served the second group too.",
		}),
		freshness: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "furrow_recorder_freshness_seconds", Help: "From publishing to being in the database, for the oldest record of a transaction.",
			Buckets: []float64{.05, .1, .2, .5, 1, 2, 5, 10, 30, 60, 300, 3600},
		}),
		records: counter("records_total", "Records acknowledged."),
		events:  counter("events_total", "Events in the acknowledged records."),
		bad:     counter("bad_rows_total", "Bad rows in the acknowledged records."),
		forgotten: counter("forgotten_events_total",
			"Events and bad rows in the acknowledged records that were left out because somebody is to be forgotten."),
		retries: counter("retries_total", "Attempts that failed and were repeated."),
		paused: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "furrow_recorder_paused", Help: "1 while the disk reserve forbids writing.",
		}, []string{"group"}),
	}
	if reg != nil {
		reg.MustRegister(m.enriched, m.shared, m.freshness, m.records, m.events, m.bad, m.forgotten, m.retries, m.paused)
	}
	return m
}

func (m *metrics) group(g *group, reg prometheus.Registerer) groupMetrics {
	if reg != nil {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "furrow_recorder_lag_seconds", Help: "Age of the oldest record that was taken from the bus and is not acknowledged.",
			ConstLabels: prometheus.Labels{"group": g.name},
		}, func() float64 { return g.report().Lag.Seconds() }))
	}
	return groupMetrics{
		records: m.records.WithLabelValues(g.name), events: m.events.WithLabelValues(g.name),
		bad: m.bad.WithLabelValues(g.name), forgotten: m.forgotten.WithLabelValues(g.name), retries: m.retries.WithLabelValues(g.name),
		paused: m.paused.WithLabelValues(g.name),
	}
}
