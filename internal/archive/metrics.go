package archive

import (
	"fmt"
	"time"

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
	conflicts  *prometheus.CounterVec
	hours      prometheus.Counter
	merged     *prometheus.CounterVec
	dropped    *prometheus.CounterVec
	merging    prometheus.Histogram
}

// compacted counts a merged hour.
func (m *metrics) compacted(c Compacted, took time.Duration) {
	m.hours.Add(float64(c.Hours))
	m.merged.WithLabelValues("before").Add(float64(c.FilesBefore))
	m.merged.WithLabelValues("after").Add(float64(c.FilesAfter))
	m.dropped.WithLabelValues(eventSet.String()).Add(float64(c.Doubles))
	m.dropped.WithLabelValues(rawSet.String()).Add(float64(c.RawDoubles))
	m.dropped.WithLabelValues(badSet.String()).Add(float64(c.BadDoubles))
	m.conflicts.WithLabelValues("hours").Add(float64(c.Conflicts))
	m.merging.Observe(took.Seconds())
}

// newRequests counts the requests to S3, each attempt of its own.
func newRequests() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "furrow", Subsystem: "archive", Name: "s3_requests_total",
		Help: "Requests to S3 by operation and result: ok, missing (no such object), refused, failed (no answer, or one that asks to come again).",
	}, []string{"operation", "result"})
}

// newMetrics makes the metrics and registers them, with others of the place; reg
// may be nil.
func newMetrics(reg prometheus.Registerer, others ...prometheus.Collector) (*metrics, error) {
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
		conflicts:  prometheus.NewCounterVec(counter("conflicts_total", "Events dropped whose id another event with other content has: found within a range, then kept as a bad row, or when hours were merged."), []string{"found"}),
		hours:      prometheus.NewCounter(counter("compacted_hours_total", "Hours whose files were merged.")),
		merged:     prometheus.NewCounterVec(counter("compacted_files_total", "Files of merged hours, before and after."), []string{"when"}),
		dropped:    prometheus.NewCounterVec(counter("compaction_doubles_dropped_total", "Rows dropped when hours were merged because their id was there."), byDataset),
		merging:    prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "furrow", Subsystem: "archive", Name: "compaction_seconds", Help: "Time to merge an hour.", Buckets: prometheus.ExponentialBuckets(0.01, 4, 9)}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range append(others, m.rows, m.written, m.ranges, m.doubles, m.unfit, m.commits, m.bytes, m.files, m.lastCommit, m.pruned) {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("archive: register metrics: %w", err)
		}
	}
	return m, nil
}
