package archive

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the archive's counters on the injected registry.
type metrics struct {
	rows       *prometheus.CounterVec
	written    *prometheus.CounterVec
	ranges     *prometheus.CounterVec
	doubles    prometheus.Counter
	unfit      prometheus.Counter
	commits    prometheus.Histogram
	bytes      *prometheus.GaugeVec
	files      *prometheus.GaugeVec
	lastCommit prometheus.Gauge
	pruned     prometheus.Counter
}

// newMetrics makes the metrics and registers them; reg may be nil.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "furrow", Subsystem: "archive", Name: name, Help: help}
	}
	gauge := func(name, help string) prometheus.GaugeOpts {
		return prometheus.GaugeOpts{Namespace: "furrow", Subsystem: "archive", Name: name, Help: help}
	}
	byDataset := []string{"dataset"}
	m := &metrics{
		rows:       prometheus.NewCounterVec(counter("rows_total", "Rows in committed files."), byDataset),
		written:    prometheus.NewCounterVec(counter("written_bytes_total", "Bytes of committed files."), byDataset),
		ranges:     prometheus.NewCounterVec(counter("ranges_total", "Ranges by how they ended: committed, resumed (an earlier owner's, finished), aborted."), []string{"result"}),
		doubles:    prometheus.NewCounter(counter("doubles_dropped_total", "Events dropped because their id was already in the range.")),
		unfit:      prometheus.NewCounter(counter("values_unfit_total", "Values that do not fit their column: numbers written as null, broken UTF-8 replaced. The raw dataset holds them.")),
		commits:    prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "furrow", Subsystem: "archive", Name: "commit_seconds", Help: "Time to commit a range.", Buckets: prometheus.ExponentialBuckets(0.002, 2.5, 10)}),
		bytes:      prometheus.NewGaugeVec(gauge("bytes", "Bytes at rest."), byDataset),
		files:      prometheus.NewGaugeVec(gauge("files", "Files at rest."), byDataset),
		lastCommit: prometheus.NewGauge(gauge("last_commit_timestamp_seconds", "When a range was last committed.")),
		pruned:     prometheus.NewCounter(counter("pruned_hours_total", "Hours deleted by retention.")),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.rows, m.written, m.ranges, m.doubles, m.unfit, m.commits, m.bytes, m.files, m.lastCommit, m.pruned} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("archive: register metrics: %w", err)
		}
	}
	return m, nil
}
