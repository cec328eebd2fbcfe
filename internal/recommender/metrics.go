package recommender

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics is what the room tells about itself.
type metrics struct {
	interactions *prometheus.CounterVec // kind
	ignored      *prometheus.CounterVec // reason
	requests     *prometheus.CounterVec // code
	seconds      prometheus.Histogram   // per recommendation, without waiting
	waited       prometheus.Histogram   // for what was published before
	stale        prometheus.Counter     // answers that did not wait long enough
	listed       *prometheus.CounterVec // source
	freshness    prometheus.Histogram   // from publishing to visible
	snapshot     prometheus.Histogram   // seconds to write one
	pause        prometheus.Histogram   // seconds that updates stood still for one
	snapshotSize prometheus.Gauge
	failures     prometheus.Counter
	rebuilds     *prometheus.CounterVec // result
	rebuilt      prometheus.Counter     // events read from history
}

func newMetrics(reg prometheus.Registerer, r *Recommender) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "furrow_recommender_" + name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: "furrow_recommender_" + name, Help: help, Buckets: buckets})
	}
	fast := prometheus.ExponentialBuckets(10e-6, 2, 14)
	slow := prometheus.ExponentialBuckets(1e-3, 2, 16)
	stale := counter("stale_answers_total", "Answers given before everything published earlier was in.")
	failures := counter("snapshot_failures_total", "Snapshots that could not be written.")
	rebuilt := counter("rebuild_events_total", "Events read from history to learn anew.")
	m := &metrics{
		rebuilds:     counter("rebuilds_total", "Times that everything was learned anew from history.", "result"),
		rebuilt:      rebuilt.WithLabelValues(),
		interactions: counter("interactions_total", "Interactions learned.", "kind"),
		ignored:      counter("ignored_events_total", "Events that were not learned.", "reason"),
		requests:     counter("requests_total", "Requests below /v1/.", "code"),
		listed:       counter("listed_items_total", "Items recommended, by the rung that gave them.", "source"),
		seconds:      histogram("recommend_seconds", "Time to make a list, without waiting.", fast),
		waited:       histogram("wait_seconds", "Time that requests waited for what was published before them.", fast),
		freshness:    histogram("freshness_seconds", "Time from publishing to being in the lists.", slow),
		snapshot:     histogram("snapshot_seconds", "Time to write a snapshot.", slow),
		pause:        histogram("snapshot_pause_seconds", "Time that learning stood still for a snapshot.", slow),
		stale:        stale.WithLabelValues(),
		failures:     failures.WithLabelValues(),
		snapshotSize: prometheus.NewGauge(prometheus.GaugeOpts{Name: "furrow_recommender_snapshot_bytes", Help: "Size of the last snapshot."}),
	}
	gauge := func(name, help string, value func(Status) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "furrow_recommender_" + name, Help: help},
			func() float64 { return value(r.Status()) })
	}
	all := []prometheus.Collector{
		m.interactions, m.ignored, m.requests, m.listed, m.seconds, m.waited, m.freshness, m.snapshot, m.pause, stale, failures, m.snapshotSize,
		m.rebuilds, rebuilt,
		gauge("index_sessions", "Sessions held.", func(s Status) float64 { return float64(s.Sessions) }),
		gauge("index_items", "Items held.", func(s Status) float64 { return float64(s.Items) }),
		gauge("index_bytes", "Memory of the session index.", func(s Status) float64 { return float64(s.IndexBytes) }),
		gauge("rebuild_running_seconds", "How long the rebuild that runs has taken; 0 when none does.", func(s Status) float64 {
			if s.Rebuilding == nil {
				return 0
			}
			return max(0, r.opt.Now().Sub(s.Rebuilding.Since).Seconds())
		}),
		gauge("lag_seconds", "Age of the newest message applied while behind; 0 when level.", func(s Status) float64 { return float64(s.LagMillis) / 1000 }),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
