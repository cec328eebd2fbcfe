package store

import (
	"crypto/rand"
	"encoding/hex"
	"flag"
	"fmt"
	"log/slog"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"furrow/internal/event"
)

var growth = flag.Int("growth", 100_000, "rows to which BenchmarkGrowth fills a database; 10000000 take some 25 GB and ten minutes")

// BenchmarkGrowth fills a database and reports what an event costs when the table
// has reached each power of ten: processor and wall time of the insert alone, over
// the last tenth of the way. Run it once:
//
//	go test -run '^$' -bench BenchmarkGrowth -benchtime 1x ./internal/store -growth 10000000
func BenchmarkGrowth(b *testing.B) {
	for b.Loop() {
		grow(b, *growth)
	}
}

func grow(b *testing.B, target int) {
	b.Helper()
	s, err := Open(filepath.Join(b.TempDir(), "furrow.db"), Default(), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	pool := samples(0, 20*benchBatch, noon)
	first := 0.0
	stretch := spent{}
	for n, goal := 0, 10_000; n < target; {
		at := n % len(pool)
		rows := renew(pool[at:at+benchBatch], noon.Add(time.Duration(n)*time.Millisecond))
		cpu, wall := processorTime(), time.Now()
		if _, err := s.Insert(b.Context(), rows, nil); err != nil {
			b.Fatal(err)
		}
		n += benchBatch
		if n > goal-goal/10 {
			stretch.add(processorTime()-cpu, time.Since(wall), benchBatch)
		}
		if n < goal {
			continue
		}
		if goal >= 100_000 || target < 100_000 {
			c, w := stretch.perEvent()
			if first == 0 {
				first = c
			}
			b.Logf("%10d rows: %6.1f µs processor, %6.1f µs wall, %4d B an event (%.2fx)",
				n, c, w, s.diskBytes()/int64(n), c/first)
			b.ReportMetric(c, fmt.Sprintf("cpu-µs/event@%.0e", float64(n)))
			b.ReportMetric(c/first, "growth")
		}
		stretch, goal = spent{}, goal*10
	}
}

type spent struct {
	cpu, wall time.Duration
	events    int
}

func (s *spent) add(cpu, wall time.Duration, events int) {
	s.cpu += cpu
	s.wall += wall
	s.events += events
}

func (s *spent) perEvent() (cpu, wall float64) {
	n := float64(max(s.events, 1)) * 1000
	return float64(s.cpu) / n, float64(s.wall) / n
}

// renew makes other events of rows, with ids as trackers draw them, one collected
// each millisecond.
func renew(rows []Row, at time.Time) []Row {
	for i, r := range rows {
		var id [16]byte
		_, _ = rand.Read(id[:]) // never fails
		id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
		h := hex.EncodeToString(id[:])
		r.Event.SetText(event.EventID, h[:8]+"-"+h[8:12]+"-"+h[12:16]+"-"+h[16:20]+"-"+h[20:])
		r.Event.SetTime(event.CollectorTstamp, at.Add(time.Duration(i)*time.Millisecond))
	}
	return rows
}

// processorTime is what the process used of the processor, in the kernel too.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
