package enrich

import (
	"fmt"
	"strings"
	"testing"

	"furrow/internal/event"
	"furrow/internal/snowplow"
)

const (
	benchAgent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
	benchPage  = "https%3A%2F%2Fwww.shop.example%2Fcategory%2Fshoes%3Fpage%3D2"
	// contexts with one web_page entity, as every page view of the JavaScript
	// tracker has it.
	benchContexts = "eyJzY2hlbWEiOiJpZ2x1OmNvbS5zbm93cGxvd2FuYWx5dGljcy5zbm93cGxvdy9jb250ZXh0cy9qc29uc2NoZW1hLzEtMC0wIiwiZGF0YSI6W3sic2NoZW1hIjoiaWdsdTpjb20uc25vd3Bsb3dhbmFseXRpY3Muc25vd3Bsb3cvd2ViX3BhZ2UvanNvbnNjaGVtYS8xLTAtMCIsImRhdGEiOnsiaWQiOiI5OGYzODdiNS1kZGMwLTRhOWMtYjA1YS0yMzZjMTExNjJmOTgifX1dfQ"
)

func benchRecord(p *event.Payload) []byte {
	p.IPAddress, p.Timestamp, p.Encoding, p.Collector = "203.0.113.9", 1795378610000, "UTF-8", "furrow-0.2.0"
	p.UserAgent = event.Some(benchAgent)
	p.RefererURI = event.Some("https://www.shop.example/")
	p.Hostname = event.Some("sp.shop.example")
	p.NetworkUserID = event.Some("75a13583-5c99-40e3-81fc-541084dfc784")
	p.Headers = []string{"Host: sp.shop.example", "User-Agent: " + benchAgent, "Accept: */*", "Referer: https://www.shop.example/", "Accept-Language: en-US", "X-Forwarded-For: 203.0.113.9"}
	return snowplow.AppendPayload(nil, p)
}

func pageViewGET() []byte {
	return benchRecord(&event.Payload{
		Path: event.Some("/i"),
		Querystring: event.Some("stm=1795378609854&e=pv&url=" + benchPage + "&page=Shoes%20on%20sale&refr=https%3A%2F%2Fwww.shop.example%2F" +
			"&eid=13c7ae3d-3d0d-4c08-991b-6badf55fb0e3&tv=js-4.10.1&tna=sp&aid=shop&p=web&cookie=1&cs=UTF-8&lang=en-US&res=1280x720&cd=24" +
			"&tz=Europe%2FPrague&dtm=1795378609849&vp=1280x720&ds=2608x3205&vid=1&sid=262add9c-4768-4782-acec-9881ab3843b7" +
			"&duid=bd682192-909d-421b-a2c1-ca372337292f&cx=" + benchContexts),
	})
}

func pageViewsPOST(n int) []byte {
	events := make([]string, n)
	for i := range events {
		events[i] = fmt.Sprintf(`{"e":"pv","url":"https://www.shop.example/p/%d","page":"Shoes on sale","refr":"https://www.shop.example/",`+
			`"eid":"13c7ae3d-3d0d-4c08-991b-6badf55f%04d","tv":"js-4.10.1","tna":"sp","aid":"shop","p":"web","cookie":"1","cs":"UTF-8",`+
			`"lang":"en-US","res":"1280x720","cd":"24","tz":"Europe/Prague","dtm":"1795378609849","vp":"1280x720","ds":"2608x3205","vid":"1",`+
			`"sid":"262add9c-4768-4782-acec-9881ab3843b7","duid":"bd682192-909d-421b-a2c1-ca372337292f","stm":"1795378609854","cx":"`+benchContexts+`"}`, i, i)
	}
	body := `{"schema":"iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4","data":[` + strings.Join(events, ",") + `]}`
	return benchRecord(&event.Payload{
		Path: event.Some("/com.snowplowanalytics.snowplow/tp2"), Body: event.Some(body),
		ContentType: event.Some("application/json; charset=UTF-8"),
	})
}

func BenchmarkParse(b *testing.B) {
	for _, c := range []struct {
		name   string
		events int
		record []byte
	}{
		{"pageview-get", 1, pageViewGET()},
		{"post-1-event", 1, pageViewsPOST(1)},
		{"post-10-events", 10, pageViewsPOST(10)},
		{"post-100-events", 100, pageViewsPOST(100)},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := newEnricher(b)
			if got := r.Parse(c.record, testTime); len(got.Events) != c.events {
				b.Fatalf("%d events, want %d; bad: %s", len(got.Events), c.events, got.Bad[0].Failure)
			}
			b.ReportAllocs()
			b.SetBytes(int64(len(c.record)))
			for b.Loop() {
				r.Parse(c.record, testTime)
			}
			b.ReportMetric(float64(b.N*c.events)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
