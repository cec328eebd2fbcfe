package archive

import (
	"io"
	"testing"
	"time"

	"furrow/internal/archive/s3test"
	"furrow/internal/event"
)

// BenchmarkPut places a file of 64 MB.
func BenchmarkPut(b *testing.B) {
	data := noise(64 << 20)
	for name, where := range places {
		b.Run(name, func(b *testing.B) {
			a := openAt(b, where(b), func(c *Config) { c.S3.PartBytes = Default().S3.PartBytes })
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				local, err := writeTemp(a.tmp, data)
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if err := a.place.put(b.Context(), local, "raw/date=2026-11-22/hour=09/x.parquet"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFetch reads a file of 64 MB from its start to its end, after put.
func BenchmarkFetch(b *testing.B) {
	data := noise(64 << 20)
	for name, where := range places {
		b.Run(name, func(b *testing.B) {
			a := openAt(b, where(b))
			plant(b, a, "x.parquet", string(data))
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				obj, err := a.place.open(b.Context(), "x.parquet")
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, io.NewSectionReader(obj, 0, obj.size())); err != nil {
					b.Fatal(err)
				}
				obj.Close()
			}
		})
	}
}

// BenchmarkS3Requests counts what S3 bills: requests for a range that is committed,
// with rows in each dataset and in one hour, and for a look at all its records,
// which are 64 MB.
func BenchmarkS3Requests(b *testing.B) {
	f := s3test.NewFaults(b, sharedServer(b).Endpoint)
	a, _ := reach(b, s3Place(b), f.Endpoint, func(c *Config) { c.S3.PartBytes = Default().S3.PartBytes })
	var entries []Entry
	for i := range 64 {
		e := entry(i, day)
		e.Record = noise(1 << 20)
		e.Record[0], e.Record[1] = byte(i), byte(i>>8)
		e.ID = event.NewRecordID(e.Record)
		e.Bad = []event.BadRow{{ID: event.BadRowID(e.ID, 1), Record: e.ID, Index: 1, Time: day, Payload: []byte("x")}}
		entries = append(entries, e)
	}
	write(b, a, "0", 1, entries[0])
	requests := func(what string) {
		n := 0
		for _, each := range f.Requests() {
			n += each
		}
		b.ReportMetric(float64(n), what)
	}
	f.Requests()
	for next := 2; b.Loop(); next += len(entries) {
		write(b, a, "0", next, entries[:8]...)
		requests("requests/range")
		if err := a.Prune(b.Context(), day); err != nil {
			b.Fatal(err)
		}
		if err := a.place.remove(b.Context(), "raw/"); err != nil {
			b.Fatal(err)
		}
		f.Requests()
		write(b, a, "1", next, entries...)
		requests("requests/64MB-range")
		if err := a.ReadRaw(b.Context(), time.Time{}, time.Time{}, func(RawRow) error { return nil }); err != nil {
			b.Fatal(err)
		}
		requests("requests/64MB-ReadRaw")
	}
}
