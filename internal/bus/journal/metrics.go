package journal

import (
	"errors"
	"fmt"
	"time"

	"furrow/internal/bus"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the journal's figures; the gauges are read from Status when they
// are asked for.
type metrics struct {
	journal  *Journal
	records  prometheus.Counter
	bytes    prometheus.Counter
	syncs    prometheus.Histogram
	publish  prometheus.Histogram
	failures prometheus.Counter
	damaged  prometheus.Counter
	full     prometheus.Counter
	failed   prometheus.Counter

	size, segments, head            *prometheus.Desc
	lagRecords, lagBytes, lagSecond *prometheus.Desc
	ready                           *prometheus.Desc
	registry                        prometheus.Registerer
}

func newMetrics(j *Journal) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "furrow_journal_" + name, Help: help})
	}
	seconds := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "furrow_journal_" + name, Help: help, Buckets: prometheus.ExponentialBuckets(0.0001, 2, 15),
		})
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("furrow_journal_"+name, help, labels, nil)
	}
	refused := func(why string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{
			Name: "furrow_journal_refused_total", Help: "Calls of Publish that failed, by reason.",
			ConstLabels: prometheus.Labels{"reason": why},
		})
	}
	return &metrics{
		journal:    j,
		records:    counter("records_total", "Records made durable."),
		bytes:      counter("bytes_total", "Bytes made durable, headers included."),
		syncs:      seconds("sync_seconds", "Time to write and sync one commit."),
		publish:    seconds("publish_seconds", "Longest time that a message of one commit waited until it was durable."),
		failures:   counter("write_failures_total", "Failed writes or syncs; each closes a segment."),
		damaged:    counter("damaged_ranges_total", "Ranges of a segment found unreadable and set aside."),
		full:       refused("full"),
		failed:     refused("failed"),
		size:       desc("size_bytes", "Bytes in all segments."),
		segments:   desc("segments_count", "Segment files."),
		head:       desc("head_position", "Last durable sequence number."),
		lagRecords: desc("lag_records", "Records that a group has not acknowledged.", "group"),
		lagBytes:   desc("lag_bytes", "Bytes that a group has not acknowledged.", "group"),
		lagSecond:  desc("lag_seconds", "Age of the oldest record that a group has not acknowledged.", "group"),
		ready:      desc("ready_bool", "1 while publishing works."),
	}
}

func (m *metrics) static() []prometheus.Collector {
	return []prometheus.Collector{m.records, m.bytes, m.syncs, m.publish, m.failures, m.damaged, m.full, m.failed}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.static() {
		c.Describe(ch)
	}
	for _, d := range []*prometheus.Desc{m.size, m.segments, m.head, m.lagRecords, m.lagBytes, m.lagSecond, m.ready} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.static() {
		c.Collect(ch)
	}
	st := m.journal.Status()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(m.size, float64(st.Bytes))
	gauge(m.segments, float64(st.Segments))
	gauge(m.head, float64(m.journal.head.Load()))
	ready := 0.0
	if st.Unready == "" {
		ready = 1
	}
	gauge(m.ready, ready)
	for _, g := range st.Groups {
		gauge(m.lagRecords, float64(g.LagRecords), g.Name)
		gauge(m.lagBytes, float64(g.LagBytes), g.Name)
		gauge(m.lagSecond, g.LagSeconds, g.Name)
	}
}

func (m *metrics) register(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	if err := reg.Register(m); err != nil {
		return fmt.Errorf("journal: metrics: %w", err)
	}
	m.registry = reg
	return nil
}

func (m *metrics) unregister() {
	if m.registry != nil {
		m.registry.Unregister(m)
	}
}

func (m *metrics) stored(records uint64, bytes int, waited time.Duration) {
	m.records.Add(float64(records))
	m.bytes.Add(float64(bytes))
	m.publish.Observe(waited.Seconds())
}

func (m *metrics) sync(took time.Duration) { m.syncs.Observe(took.Seconds()) }

func (m *metrics) refuse(err error) {
	switch {
	case errors.Is(err, bus.ErrFull):
		m.full.Inc()
	case !errors.Is(err, bus.ErrClosed):
		m.failed.Inc()
	}
}
