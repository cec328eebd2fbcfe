package inspector

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	clients  prometheus.Gauge
	dropped  prometheus.Counter
	skipped  prometheus.Counter
	refused  *prometheus.CounterVec
	cut      prometheus.Counter
	ringSize *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		clients: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "furrow_inspector_live_clients",
			Help: "Live streams that are open now.",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "furrow_inspector_live_clients_dropped_total",
			Help: "Live streams that were dropped because they stopped reading.",
		}),
		skipped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "furrow_inspector_live_skipped_entries_total",
			Help: "Entries that a live stream was told it missed.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "furrow_inspector_requests_refused_total",
			Help: "Requests refused before they reached a route, by reason.",
		}, []string{"reason"}),
		cut: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "furrow_inspector_entries_cut_total",
			Help: "Events and bad rows shown without their long cells because they were too large to keep whole.",
		}),
		ringSize: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "furrow_inspector_ring_bytes",
			Help: "Memory held by the newest events and bad rows.",
		}, []string{"ring"}),
	}
	for _, r := range []string{refusedHost, refusedOrigin, refusedMethod, refusedHeader} {
		m.refused.WithLabelValues(r)
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.clients, m.dropped, m.skipped, m.refused, m.cut, m.ringSize} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
