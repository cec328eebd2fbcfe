package enrich

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"furrow/internal/tombstone"
)

// BenchmarkForgotten is what forgetting costs where nobody is forgotten: a page view
// and a batch of ten, live (younger than every tombstone) and replayed.
func BenchmarkForgotten(b *testing.B) {
	at := time.UnixMilli(1795378610000)
	set := func(n int, until time.Time) matcher {
		s, err := tombstone.Open(filepath.Join(b.TempDir(), "tombstones"))
		if err != nil {
			b.Fatal(err)
		}
		if n > 0 {
			ids := make([]string, n)
			for i := range ids {
				ids[i] = fmt.Sprint("user ", i)
			}
			if _, err := s.Add(ids, until); err != nil {
				b.Fatal(err)
			}
		}
		return s.Event
	}
	for _, r := range []struct {
		name   string
		record []byte
	}{{"get", pageViewGET()}, {"post-10", pageViewsPOST(10)}} {
		for _, c := range []struct {
			name  string
			match matcher
		}{
			{"nil", nil},
			{"empty", set(0, at)},
			{"10000-live", set(10_000, at.Add(-time.Second))},
			{"10000-replayed", set(10_000, at)},
		} {
			b.Run(r.name+"/"+c.name, func(b *testing.B) {
				e := forgetting(b, c.match)
				b.ReportAllocs()
				for b.Loop() {
					if e.Parse(r.record, testTime).Forgotten > 0 {
						b.Fatal("forgotten")
					}
				}
			})
		}
		b.Run(r.name+"/redact", func(b *testing.B) {
			match := set(10_000, at)
			b.ReportAllocs()
			for b.Loop() {
				if Redact(r.record, match).Changed {
					b.Fatal("forgotten")
				}
			}
		})
	}
}
