package archive

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"furrow/internal/event"
)

const benchRows = 20_000

// benchEvents makes distinct events with about 48 filled cells, of a size and
// variety like a shop's: 400 pages, 5,000 users, 300 browsers.
func benchEvents() []*event.Event {
	rnd := rand.New(rand.NewPCG(1, 2))
	hex := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = "0123456789abcdef"[rnd.IntN(16)]
		}
		return string(b)
	}
	uuid := func() string {
		return hex(8) + "-" + hex(4) + "-4" + hex(3) + "-a" + hex(3) + "-" + hex(12)
	}
	agents, users := make([]string, 300), make([]string, 5000)
	for i := range agents {
		agents[i] = fmt.Sprintf("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%d.0.%d.%d Safari/537.36", 90+i%40, i*13, i)
	}
	for i := range users {
		users[i] = uuid()
	}
	at := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	events := make([]*event.Event, benchRows)
	for i := range events {
		at = at.Add(time.Duration(rnd.IntN(100)) * time.Millisecond)
		user, page, agent := rnd.IntN(len(users)), rnd.IntN(400), rnd.IntN(len(agents))
		e := &event.Event{}
		for f, s := range map[event.Field]string{
			event.AppID: "shop", event.Platform: "web", event.EventType: "page_view", event.EventID: uuid(),
			event.NameTracker: "sp", event.VTracker: "js-4.8.0", event.VCollector: "furrow-1.0.0", event.VEtl: "furrow-1.0.0",
			event.UserIPAddress: fmt.Sprintf("198.51.%d.%d", user%100, user%250), event.DomainUserID: users[user],
			event.NetworkUserID: users[(user+7)%len(users)], event.PageURL: fmt.Sprintf("https://shop.example/products/item-%d?ref=%d", page, i%50),
			event.PageTitle: fmt.Sprintf("Item number %d, the best of its kind", page), event.PageReferrer: "https://www.google.com/",
			event.PageURLScheme: "https", event.PageURLHost: "shop.example", event.PageURLPath: fmt.Sprintf("/products/item-%d", page),
			event.PageURLQuery: fmt.Sprintf("ref=%d", i%50), event.RefrURLScheme: "https", event.RefrURLHost: "www.google.com",
			event.RefrURLPath: "/", event.RefrMedium: "search", event.RefrSource: "Google",
			event.Contexts:        fmt.Sprintf(`{"schema":"iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0","data":[{"schema":"iglu:com.snowplowanalytics.snowplow/web_page/jsonschema/1-0-0","data":{"id":"%s"}},{"schema":"iglu:org.w3/PerformanceTiming/jsonschema/1-0-0","data":{"navigationStart":%d,"domInteractive":%d}}]}`, uuid(), at.UnixMilli()-900, at.UnixMilli()-200),
			event.DerivedContexts: fmt.Sprintf(`{"schema":"iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1","data":[{"schema":"iglu:com.snowplowanalytics.snowplow/ua_parser_context/jsonschema/1-0-0","data":{"useragentFamily":"Chrome","useragentMajor":"%d","useragentVersion":"Chrome %d","osFamily":"Windows","deviceFamily":"Other"}}]}`, 90+agent%40, agent),
			event.Useragent:       agents[agent], event.BrLang: "de-DE", event.BrColordepth: "24", event.OSTimezone: "Europe/Vienna",
			event.DocCharset: "UTF-8", event.DomainSessionID: users[(user*3)%len(users)], event.EventVendor: "com.snowplowanalytics.snowplow",
			event.EventName: "page_view", event.EventFormat: "jsonschema", event.EventVersion: "1-0-0", event.EventFingerprint: hex(32),
		} {
			e.SetText(f, s)
		}
		for f, n := range map[event.Field]int64{
			event.DomainSessionIdx: int64(user % 20), event.PageURLPort: 443, event.RefrURLPort: 443, event.BrCookies: 1,
			event.BrViewwidth: 1200 + int64(agent), event.BrViewheight: 900, event.DvceScreenwidth: 1920, event.DvceScreenheight: 1080,
			event.DocWidth: 1200, event.DocHeight: 3000 + int64(page),
		} {
			e.SetInt(f, n)
		}
		for f, d := range map[event.Field]time.Duration{event.CollectorTstamp: 0, event.EtlTstamp: time.Second, event.DvceCreatedTstamp: -300 * time.Millisecond, event.DvceSentTstamp: -290 * time.Millisecond, event.DerivedTstamp: -10 * time.Millisecond} {
			e.SetTime(f, at.Add(d))
		}
		events[i] = e
	}
	return events
}

// BenchmarkEvents writes the events dataset as a range does, without the other
// datasets and the file system's sync.
func BenchmarkEvents(b *testing.B) {
	events := benchEvents()
	dir := quickDir(b) // else half of the time is the disk's
	b.ReportAllocs()
	size := int64(0)
	for i := 0; b.Loop(); i++ {
		var fill eventFiller
		local := filepath.Join(dir, fmt.Sprint(i))
		w, err := newWriter(local, "bench", eventSet, fill.fill, &budget{limit: 96 << 20})
		if err != nil {
			b.Fatal(err)
		}
		for _, e := range events {
			if err := w.add(eventRow{event: e}, 1500); err != nil {
				b.Fatal(err)
			}
		}
		if size, err = w.finish(); err != nil {
			b.Fatal(err)
		}
		os.Remove(local)
	}
	report(b, size)
}

// BenchmarkRange archives the same events with their records, ids checked, files
// synced and placed.
func BenchmarkRange(b *testing.B) {
	events := benchEvents()
	a := openAt(b, b.TempDir())
	rnd := rand.New(rand.NewPCG(3, 4))
	entries := make([]Entry, len(events))
	for i, e := range events {
		// As varied as a payload is: the event's JSON and its headers.
		record := fmt.Appendf(nil, "%s%s%s%s%d", e.Text(event.Contexts), e.Text(event.Useragent), e.Text(event.PageURL), e.Text(event.DomainUserID), rnd.Uint64())
		entries[i] = Entry{Record: record, ID: event.NewRecordID(record), Key: []byte(e.Text(event.DomainUserID)), Time: e.Time(event.CollectorTstamp), Events: []*event.Event{e}}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		write(b, a, "0", 1+i*benchRows, entries...)
	}
	b.ReportMetric(float64(b.N*benchRows)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkBareParquet writes the same rows, ready made, through the library's
// row interface: its fastest that takes rows and needs no struct of 131 fields.
func BenchmarkBareParquet(b *testing.B) {
	rows := bareRows()
	for name, options := range map[string][]parquet.WriterOption{
		"as-ours": {parquet.Compression(codec), parquet.DataPageStatistics(false)},
		"default": {parquet.Compression(&parquet.Zstd)},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			size := int64(0)
			for b.Loop() {
				var n counter
				w := parquet.NewWriter(&n, append([]parquet.WriterOption{schemas[eventSet].parquet}, options...)...)
				if _, err := w.WriteRows(rows); err != nil {
					b.Fatal(err)
				}
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
				size = int64(n)
			}
			report(b, size)
		})
	}
}

func bareRows() []parquet.Row {
	var fill eventFiller
	events := benchEvents()
	rows := make([]parquet.Row, len(events))
	for i, e := range events {
		one := batch{columns: make([]*[batchRows]parquet.Value, len(schemas[eventSet].columns))}
		fill.fill(&one, eventRow{event: e})
		one.rows = 1
		for column := range one.columns {
			v := one.of(column)[0]
			rows[i] = append(rows[i], v.Level(0, v.DefinitionLevel(), column))
		}
	}
	return rows
}

func report(b *testing.B, size int64) {
	b.Helper()
	b.ReportMetric(float64(b.N*benchRows)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(size)/benchRows, "bytes/row")
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

var _ io.Writer = (*counter)(nil)

// BenchmarkSmallFile is a file of ten events: what an hour costs that gets few.
func BenchmarkSmallFile(b *testing.B) {
	events := benchEvents()[:10]
	dir := b.TempDir()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		var fill eventFiller
		local := filepath.Join(dir, fmt.Sprint(i))
		w, err := newWriter(local, "bench", eventSet, fill.fill, &budget{limit: 96 << 20})
		if err != nil {
			b.Fatal(err)
		}
		for _, e := range events {
			if err := w.add(eventRow{event: e}, 1500); err != nil {
				b.Fatal(err)
			}
		}
		if _, err = w.finish(); err != nil {
			b.Fatal(err)
		}
		os.Remove(local)
	}
}
