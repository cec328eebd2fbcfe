package store

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"furrow/internal/event"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 123_000_000, time.UTC)

// sample returns a page view as a site sends it: some 48 cells filled, two
// contexts, a little over two kilobytes.
func sample(n int, at time.Time) Row {
	record := fmt.Appendf(nil, "record %d", n)
	e := &event.Event{Record: event.NewRecordID(record), Content: uint64(n)*0x9e3779b97f4a7c15 + 1}
	session := n / 8
	text := map[event.Field]string{
		event.AppID: "shop", event.Platform: "web", event.EventType: "page_view",
		event.NameTracker: "sp", event.VTracker: "js-4.6.2", event.VCollector: "furrow-0.1.0", event.VEtl: "furrow-0.1.0",
		event.UserIPAddress: fmt.Sprintf("203.0.113.%d", session%256), event.DomainUserID: uuid("user", session/3),
		event.NetworkUserID: uuid("network", session/3), event.DomainSessionID: uuid("session", session),
		event.GeoCountry: "DE", event.GeoCity: "Berlin", event.GeoRegionName: "Land Berlin", event.GeoTimezone: "Europe/Berlin",
		event.PageURL:       fmt.Sprintf("https://shop.example/products/%d?utm_source=news&utm_medium=email", n%997),
		event.PageTitle:     fmt.Sprintf("Product %d, in stock and ready to ship", n%997),
		event.PageReferrer:  fmt.Sprintf("https://shop.example/categories/%d", n%31),
		event.PageURLScheme: "https", event.PageURLHost: "shop.example", event.PageURLPath: fmt.Sprintf("/products/%d", n%997),
		event.PageURLQuery: "utm_source=news&utm_medium=email", event.RefrURLScheme: "https", event.RefrURLHost: "shop.example",
		event.RefrURLPath: fmt.Sprintf("/categories/%d", n%31), event.RefrMedium: "internal",
		event.MktSource: "news", event.MktMedium: "email",
		event.Useragent: fmt.Sprintf("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%d.0.0.0 Safari/537.36", 100+session%40),
		event.BrLang:    "de-DE", event.BrColordepth: "24", event.OSTimezone: "Europe/Berlin", event.DocCharset: "UTF-8",
		event.EventVendor: "com.snowplowanalytics.snowplow", event.EventName: "page_view", event.EventFormat: "jsonschema", event.EventVersion: "1-0-0",
		event.Contexts:        `{"schema":"iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0","data":[{"schema":"iglu:com.snowplowanalytics.snowplow/web_page/jsonschema/1-0-0","data":{"id":"` + uuid("page", n) + `"}},{"schema":"iglu:com.acme/product/jsonschema/1-0-0","data":{"sku":"SKU-` + fmt.Sprint(n%997) + `","price":19.9,"currency":"EUR","category":"garden/tools","tags":["new","sale","outdoor"]}}]}`,
		event.DerivedContexts: `{"schema":"iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1","data":[{"schema":"iglu:com.snowplowanalytics.snowplow/ua_parser_context/jsonschema/1-0-0","data":{"useragentFamily":"Chrome","useragentMajor":"120","osFamily":"Linux","deviceFamily":"Other"}}]}`,
	}
	for f, v := range text {
		e.SetText(f, v)
	}
	e.SetText(event.EventID, uuid("event", n))
	for f, v := range map[event.Field]int64{
		event.DomainSessionIdx: 3, event.BrCookies: 1, event.BrViewwidth: 1680, event.BrViewheight: 939,
		event.DvceScreenwidth: 1680, event.DvceScreenheight: 1050, event.DocWidth: 1665, event.DocHeight: 4200 + int64(n%50),
		event.PageURLPort: 443,
	} {
		e.SetInt(f, v)
	}
	e.SetFloat(event.GeoLatitude, 52.5)
	e.SetFloat(event.GeoLongitude, 13.4)
	e.SetTime(event.CollectorTstamp, at)
	e.SetTime(event.EtlTstamp, at.Add(40*time.Millisecond))
	e.SetTime(event.DvceCreatedTstamp, at.Add(-3*time.Second))
	e.SetTime(event.DvceSentTstamp, at.Add(-2*time.Second))
	e.SetTime(event.DerivedTstamp, at.Add(-time.Second))
	return Row{Event: e, Record: record}
}

func samples(from, n int, at time.Time) []Row {
	rows := make([]Row, n)
	for i := range rows {
		rows[i] = sample(from+i, at.Add(time.Duration(from+i)*time.Millisecond))
	}
	return rows
}

func uuid(kind string, n int) string {
	var buf [8]byte
	binary.BigEndian.PutUint64(buf[:], uint64(n))
	return event.DeriveEventID(event.NewRecordID(append([]byte(kind), buf[:]...)), 0)
}

func open(tb testing.TB, cfg Config) *SQLite {
	tb.Helper()
	return openAt(tb, filepath.Join(tb.TempDir(), "furrow.db"), cfg)
}

func openAt(tb testing.TB, path string, cfg Config) *SQLite {
	tb.Helper()
	s, err := Open(path, cfg, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return s
}

func insert(tb testing.TB, s *SQLite, rows []Row, bad ...event.BadRow) Inserted {
	tb.Helper()
	done, err := s.Insert(tb.Context(), rows, bad)
	if err != nil {
		tb.Fatal(err)
	}
	return done
}

func column(tb testing.TB, s *SQLite, id, name string) any {
	tb.Helper()
	row, ok, err := s.Event(tb.Context(), id)
	if err != nil || !ok {
		tb.Fatalf("event %s: found %v, %v", id, ok, err)
	}
	for _, c := range row {
		if c.Name == name {
			return c.Value
		}
	}
	tb.Fatalf("no column %s", name)
	return nil
}

func badReasons(tb testing.TB, s *SQLite) string {
	tb.Helper()
	bad, err := s.Bad(tb.Context(), 100)
	if err != nil {
		tb.Fatal(err)
	}
	var b strings.Builder
	for _, r := range bad {
		b.Write(r.Failure)
	}
	return b.String()
}
