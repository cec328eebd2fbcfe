package inspector

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"furrow/internal/event"
)

func TestRingHoldsItsBounds(t *testing.T) {
	t.Parallel()
	cfg := Default()
	cfg.Events, cfg.BadRows, cfg.MaxBytes = 300, 40, minBytes
	in, err := New(cfg, Options{Status: func() Status { return Status{} }, Now: func() time.Time { return t0 }})
	if err != nil {
		t.Fatal(err)
	}
	sizes := rand.New(rand.NewPCG(1, 2))
	n := 0
	for range 12 {
		var events []*event.Event
		var bad []event.BadRow
		for range sizes.IntN(900) {
			n++
			e := newEvent(n)
			e.SetText(event.Contexts, `"`+strings.Repeat("x", sizes.IntN(9000))+`"`)
			events = append(events, e)
		}
		huge := newEvent(n + 1)
		n++
		huge.SetText(event.Contexts, `"`+strings.Repeat("x", 3<<20)+`"`)
		events = append(events, huge)
		for range sizes.IntN(90) {
			row := newBad(n)
			row.Payload = make([]byte, sizes.IntN(1<<17))
			row.Failure = fmt.Appendf(nil, `{"messages":[%q]}`, strings.Repeat("x", sizes.IntN(100_000)))
			bad = append(bad, row)
		}
		in.Recorded(events, bad)
		if in.events.bytes > cfg.MaxBytes || in.events.count > cfg.Events {
			t.Fatalf("%d events hold %d bytes", in.events.count, in.events.bytes)
		}
		if in.bad.bytes > cfg.MaxBytes/4 || in.bad.count > cfg.BadRows {
			t.Fatalf("%d bad rows hold %d bytes", in.bad.count, in.bad.bytes)
		}
		newest := in.events.latest(1)[0]
		if newest.id != huge.ID() || !newest.cut {
			t.Fatalf("the newest is %s (cut %v), want %s", newest.id, newest.cut, huge.ID())
		}
		_, last, missed := in.events.since(0)
		if last != uint64(n) || missed != uint64(n-in.events.count) {
			t.Fatalf("numbered %d, %d gone of %d", last, missed, n)
		}
	}
}

// TestPackingKeepsEveryCell checks that nothing of an event gets lost or changed
// on its way through the ring.
func TestPackingKeepsEveryCell(t *testing.T) {
	t.Parallel()
	e := newEvent(1)
	for _, f := range event.Fields() {
		switch f.Kind() {
		case event.Text:
			e.SetText(f, "täxt of "+f.Name())
		case event.JSON:
			e.SetText(f, `{"a":["`+f.Name()+`"]}`)
		case event.Decimal:
			e.SetText(f, "1E-7")
		case event.Int:
			e.SetInt(f, -int64(f))
		case event.Bool:
			e.SetInt(f, 1)
		case event.Time:
			e.SetTime(f, t0.Add(-time.Duration(f)*time.Hour*1e4))
		case event.Float:
			e.SetFloat(f, -0.5)
		}
	}
	packed, _ := newEntry(e, t0, nil)
	i := 0
	packed.each(func(f event.Field, text string, num int64) {
		if want := event.Field(i); f != want {
			t.Fatalf("cell %d is %s", i, f.Name())
		}
		if c := e.Cell(f); text != c.Text || num != c.Num {
			t.Errorf("%s: %q %d, want %q %d", f.Name(), text, num, c.Text, c.Num)
		}
		i++
	})
	if i != event.NumFields {
		t.Errorf("%d cells, want all", i)
	}
	var all map[string]any
	if err := json.Unmarshal(packed.fieldsJSON(), &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != event.NumFields || all["se_value"] != 1e-7 || all["br_cookies"] != true || all["geo_latitude"] != -0.5 {
		t.Errorf("%d fields: %v", len(all), all)
	}
}

func FuzzFirstMessage(f *testing.F) {
	f.Add(`{"messages":[{"enrichment":{"identifier":"x"},"message":{"field":"f","value":null,"expectation":"e"}}]}`)
	f.Add(`{"errors":["boom"]}`)
	f.Add(`{"message":{"error":"x"}}`)
	f.Add(`{"messages":[`)
	f.Fuzz(func(t *testing.T, failure string) {
		s := (&badEntry{failure: failure}).summary()
		if len(s.Message) > summaryMessage+len("…") {
			t.Errorf("message of %d bytes", len(s.Message))
		}
	})
}

func FuzzShop(f *testing.F) {
	f.Add(shopEvent, shopContexts)
	f.Add(`{"data":{"schema":"iglu:a/b/c"}}`, `{"data":{}}`)
	f.Fuzz(func(t *testing.T, unstruct, contexts string) {
		e := newEvent(1)
		e.SetText(event.UnstructEvent, unstruct)
		e.SetText(event.Contexts, contexts)
		packed, _ := newEntry(e, t0, nil)
		if s := packed.summary(); len(s.Item) > summaryText+len("…") {
			t.Errorf("item of %d bytes", len(s.Item))
		}
		if !json.Valid(packed.fieldsJSON()) {
			t.Error("the fields are not JSON")
		}
	})
}

func TestFirstMessage(t *testing.T) {
	t.Parallel()
	for failure, want := range map[string]string{
		`{"messages":[{"enrichment":null,"message":{"field":"tr_tt","value":"abc","expectation":"not a number"}}]}`: "tr_tt “abc”: not a number",
		`{"messages":[{"enrichment":{"schemaKey":"k","identifier":"ip-lookups"},"message":{"error":"no file"}}]}`:   "ip-lookups: no file",
		`{"message":{"payloadField":"body","value":null,"expectation":"missing"}}`:                                  "body: missing",
		`{"errors":["boom","bang"]}`: "boom",
		`{"messages":[{"schemaKey":"iglu:a/b/jsonschema/1-0-0","error":{"error":"ValidationError","dataReports":[{"message":"$.id: is missing","path":"$.id","keyword":"required","targets":[]}]}}]}`: "iglu:a/b/jsonschema/1-0-0: $.id: is missing",
		`{"messages":[{"schemaKey":"iglu:a/b/jsonschema/1-0-0","error":{"error":"ResolutionError","lookupHistory":[{"repository":"Iglu Central","errors":[{"error":"NotFound"}],"attempts":1}]}}]}`:   "iglu:a/b/jsonschema/1-0-0: ResolutionError, NotFound in Iglu Central",
		`{"timestamp":"x","maximumAllowedSizeBytes":1,"actualSizeBytes":2,"expectation":"oversized"}`:                                                                                                 "oversized",
		`{"messages":[{"json":"{","error":"unexpected end"}]}`: "unexpected end",
	} {
		if got := firstMessage(failure); got != want {
			t.Errorf("%s\n got %q\nwant %q", failure, got, want)
		}
	}
}

// BenchmarkRecorded is what the recorder pays for each event.
func BenchmarkRecorded(b *testing.B) {
	for _, watchers := range []int{0, 4} {
		b.Run(fmt.Sprintf("watchers=%d", watchers), func(b *testing.B) {
			in, err := New(Default(), Options{Status: func() Status { return Status{} }})
			if err != nil {
				b.Fatal(err)
			}
			for range watchers {
				b.Cleanup(in.events.watch(make(chan struct{}, 1)))
			}
			batch := make([]*event.Event, 500)
			for i := range batch {
				batch[i] = newEvent(i)
				batch[i].SetText(event.Contexts, shopContexts)
				batch[i].SetText(event.Useragent, strings.Repeat("Mozilla ", 14))
			}
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				in.Recorded(batch, nil)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch)), "ns/event")
		})
	}
}
