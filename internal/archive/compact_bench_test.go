package archive

import (
	"fmt"
	"testing"
	"time"

	"furrow/internal/event"
)

// BenchmarkCompact merges an hour of 12 ranges of 20,000 events with their records,
// of which every tenth comes twice.
func BenchmarkCompact(b *testing.B) {
	const ranges = 12
	var before, after, in, rows int64
	for b.Loop() {
		b.StopTimer()
		a := openAt(b, b.TempDir())
		events := benchEvents()
		for i := range ranges {
			entries := make([]Entry, 0, len(events))
			for j, e := range events {
				copied := *e
				if i == 0 || j%10 != 0 { // the others are resends of the first range
					copied.SetText(event.EventID, event.DeriveEventID(event.RecordID{byte(i)}, j))
				}
				copied.SetTime(event.CollectorTstamp, e.Time(event.CollectorTstamp).Add(time.Duration(i)*time.Minute))
				record := fmt.Appendf(nil, "%s%s%d.%d", e.Text(event.Contexts), e.Text(event.Useragent), i, j)
				entries = append(entries, Entry{Record: record, ID: event.NewRecordID(record), Key: []byte(e.Text(event.DomainUserID)), Time: copied.Time(event.CollectorTstamp), Events: []*event.Event{&copied}})
			}
			write(b, a, "0", 1+i*benchRows, entries...)
		}
		before += a.Status().Bytes["events"]
		b.StartTimer()
		c, err := a.Compact(b.Context(), later)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		after += a.Status().Bytes["events"]
		in += c.BytesBefore
		rows += c.Rows
		b.StartTimer()
	}
	sec := b.Elapsed().Seconds()
	b.ReportMetric(float64(rows)/sec, "rows/s")
	b.ReportMetric(float64(in)/sec/1e6, "MB/s")
	b.ReportMetric(float64(before)/float64(b.N*ranges*benchRows), "bytes/event-before")
	b.ReportMetric(float64(after)/float64(rows/2), "bytes/event-after")
	b.ReportAllocs()
}

// BenchmarkBacklog merges 200 hours of 2,000 events each that nobody merged before.
func BenchmarkBacklog(b *testing.B) {
	const hours, each = 200, 2000
	for b.Loop() {
		b.StopTimer()
		a := openAt(b, quickDir(b))
		for h := range hours {
			entries := make([]Entry, each)
			for i := range entries {
				entries[i] = entry(h*each+i, day.Add(time.Duration(h)*time.Hour))
			}
			write(b, a, "0", 1+h*each, entries...)
		}
		b.StartTimer()
		compactAll(b, a)
	}
	b.ReportMetric(float64(b.N*hours)/b.Elapsed().Seconds(), "hours/s")
}
