package snowplow

import (
	"bytes"
	"encoding/base64"
	"errors"
	"testing"

	"furrow/internal/event"

	"github.com/google/go-cmp/cmp"
)

// golden is a record whose bytes were checked against Snowplow's own codec.
const golden = "CwBkAAAABzEuMi4zLjQKAMgAAAGLz+VoAAsA0gAAAAVVVEYtOAsA3AAAABFzc2MtMi4xMC4wLXN0ZG91dAsBQAAAAAIvaQsBSgAAAARlPXB2DwFeCwAAAAEAAAAJSG9zdDogYS5iCwGQAAAAA2EuYgsBmgAAACQwMDAwMDAwMC0wMDAwLTAwMDAtMDAwMC0wMDAwMDAwMDAwMDALemkAAABBaWdsdTpjb20uc25vd3Bsb3dhbmFseXRpY3Muc25vd3Bsb3cvQ29sbGVjdG9yUGF5bG9hZC90aHJpZnQvMS0wLTAA"

func goldenPayload() event.Payload {
	return event.Payload{
		IPAddress: "1.2.3.4", Timestamp: 1700000000000, Encoding: "UTF-8", Collector: "ssc-2.10.0-stdout",
		Path: event.Some("/i"), Querystring: event.Some("e=pv"), Headers: []string{"Host: a.b"},
		Hostname: event.Some("a.b"), NetworkUserID: event.Some("00000000-0000-0000-0000-000000000000"),
	}
}

func TestGoldenPayload(t *testing.T) {
	t.Parallel()
	p := goldenPayload()
	want, err := base64.StdEncoding.DecodeString(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got := AppendPayload(nil, &p); !bytes.Equal(got, want) {
		t.Errorf("encoded\n%s, want\n%s", base64.StdEncoding.EncodeToString(got), base64.StdEncoding.EncodeToString(want))
	}
	back, err := DecodePayload(want)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, back); diff != "" {
		t.Error(diff)
	}
}

func TestPayloadRoundTrip(t *testing.T) {
	t.Parallel()
	full := goldenPayload()
	full.Body, full.ContentType = event.Some(""), event.Some("application/json")
	full.UserAgent, full.RefererURI = event.Some("ü\x00"), event.Some("http://a/")
	full.Headers = []string{}
	for _, p := range []event.Payload{full, {Timestamp: -1}} {
		back, err := DecodePayload(AppendPayload(nil, &p))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p, back); diff != "" {
			t.Error(diff)
		}
	}
}

func FuzzDecodePayload(f *testing.F) {
	p := goldenPayload()
	f.Add(AppendPayload(nil, &p))
	f.Add([]byte{typeMap, 0, 1, typeStruct, typeSet, 0, 0, 0, 1, 0, 0})
	f.Fuzz(func(t *testing.T, record []byte) {
		got, err := DecodePayload(record)
		if err != nil {
			if !errors.Is(err, ErrPayload) {
				t.Errorf("error %v does not wrap ErrPayload", err)
			}
			return
		}
		again, err := DecodePayload(AppendPayload(nil, &got))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, again); diff != "" {
			t.Error(diff)
		}
	})
}

func BenchmarkAppendPayload(b *testing.B) {
	p := goldenPayload()
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendPayload(buf[:0], &p)
	}
}

func BenchmarkDecodePayload(b *testing.B) {
	p := goldenPayload()
	record := AppendPayload(nil, &p)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodePayload(record); err != nil {
			b.Fatal(err)
		}
	}
}
