package snowplow

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/event"
)

// Fields that are unknown here, their order and doubles stay as they came.
func TestEditPayload(t *testing.T) {
	t.Parallel()
	p := event.Payload{
		IPAddress: "1.2.3.4", Timestamp: 5, Encoding: "UTF-8", Collector: "c", Path: event.Some("/i"), Querystring: event.Some("e=pv"),
		Body: event.Some("b"), Hostname: event.Some("h"), NetworkUserID: event.Some("n"), Headers: []string{"A: b", "text/plain"},
	}
	whole := AppendPayload(nil, &p)
	unknown := append(appendString([]byte{typeBool, 0, 1, 1}, 999, "later"), typeStop)
	for name, record := range map[string][]byte{
		"plain":          whole,
		"unknown fields": append(slices.Clone(whole[:len(whole)-1]), unknown...),
		"doubled fields": append(appendString(nil, fieldBody, "first"), whole...),
		"trailing bytes": append(slices.Clone(whole), "tail"...),
	} {
		same, err := EditPayload(record, &p)
		if err != nil || string(same) != string(record) {
			t.Errorf("%s: unchanged, but %q, %v", name, same, err)
		}
		edited := p
		edited.Body, edited.UserAgent, edited.Hostname = event.Some("longer body"), event.Optional{}, event.Optional{}
		edited.Headers = append([]string{":mark"}, p.Headers...)
		got, err := EditPayload(record, &edited)
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodePayload(got)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(edited, back); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		for _, kept := range []string{"later", "tail"} {
			if strings.Contains(string(record), kept) != strings.Contains(string(got), kept) {
				t.Errorf("%s: %q is lost", name, kept)
			}
		}
		if strings.Contains(string(got), "first") {
			t.Errorf("%s: %q holds what was replaced", name, got)
		}
	}
	bare := event.Payload{Timestamp: 1}
	marked := bare
	marked.Headers = []string{":mark"}
	got, err := EditPayload(AppendPayload(nil, &bare), &marked)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := DecodePayload(got); err != nil || !slices.Equal(back.Headers, marked.Headers) {
		t.Errorf("%q, %v", back.Headers, err)
	}
	if _, err := EditPayload([]byte("x"), &p); err == nil {
		t.Error("no payload was edited")
	}
}

func FuzzEditPayload(f *testing.F) {
	p := event.Payload{Timestamp: 5, Body: event.Some("b"), Headers: []string{"a"}}
	f.Add(AppendPayload(nil, &p), "x", "y")
	f.Fuzz(func(t *testing.T, record []byte, body, header string) {
		p, err := DecodePayload(record)
		if err != nil {
			return
		}
		if same, err := EditPayload(record, &p); err != nil || string(same) != string(record) {
			t.Fatalf("%q, %v", same, err)
		}
		if p.Body.Set {
			p.Body.Value = body
		}
		p.Headers = []string{header}
		got, err := EditPayload(record, &p)
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodePayload(got)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p, back); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestReplaceElements(t *testing.T) {
	t.Parallel()
	second := func(i int) bool { return i == 1 }
	for document, want := range map[string]string{
		` {"a" : [1], "data" : [ {"x":"]}\"\\"} , {"y":[{}]} , 3 ] } `: ` {"a" : [1], "data" : [ {"x":"]}\"\\"} , # , 3 ] } `,
		`{"data":[1,2,3],"d\u0061ta":[1,2]}`:                           `{"data":[],"d\u0061ta":[1,#]}`,
		`{"x":{"data":[1,2]},"data":[]}`:                               `{"x":{"data":[1,2]},"data":[]}`,
		`{"data":"[1,2]"}`:                                             `{"data":"[1,2]"}`,
		`[1,2]`:                                                        `[1,2]`,
		`{}`:                                                           `{}`,
	} {
		if got := ReplaceElements(document, "data", "#", second); got != want {
			t.Errorf("%s: %s, want %s", document, got, want)
		}
	}
}

func FuzzReplaceElements(f *testing.F) {
	f.Add(`{"data":[1,{"a":"]"},[2]],"data":[1.5 , 2]}`, uint8(2))
	f.Fuzz(func(t *testing.T, document string, bits uint8) {
		var c Compactor
		compact, err := c.Append(nil, []byte(document))
		if err != nil {
			return
		}
		elements := func(compact string) (all []string) {
			for key, value := range Members(compact) {
				if key == "data" {
					all = slices.Collect(Elements(value))
				}
			}
			return all
		}
		gone := func(i int) bool { return bits&(1<<(i%8)) != 0 }
		want := elements(string(compact))
		for i := range want {
			if gone(i) {
				want[i] = `"gone"`
			}
		}
		replaced := ReplaceElements(document, "data", `"gone"`, gone)
		again, err := c.Append(nil, []byte(replaced))
		if err != nil {
			t.Fatalf("%q: %v", replaced, err)
		}
		if diff := cmp.Diff(want, elements(string(again))); diff != "" {
			t.Errorf("%q to %q: %s", document, replaced, diff)
		}
	})
}

func TestBlankParams(t *testing.T) {
	t.Parallel()
	blank := func(name, value string) bool { return name == "nuid" && value == "a b" }
	for raw, want := range map[string]string{
		"e=pv&nuid=a+b&x=1":              "e=pv&nuid=&x=1",
		"nuid=a%20b;n%75id=a+b#nuid=a+b": "nuid=;n%75id=#nuid=a+b",
		"nuid=a&tnuid=a+b&nuid&&=":       "nuid=a&tnuid=a+b&nuid&&=",
		"":                               "",
	} {
		if got := BlankParams(raw, blank); got != want {
			t.Errorf("%q: %q, want %q", raw, got, want)
		}
	}
}

func TestCandidates(t *testing.T) {
	t.Parallel()
	const id = "Aaaaaaaa-5c99-40e3-81fc-541084dfc784"
	for text, want := range map[string][]Candidate{
		"e=pv&uid=a%40b&duid=d":               {{CandidateUser, "a@b"}, {CandidateDomain, "d"}},
		"guid=x&druid=y":                      nil,
		`{"uid" : "a\u0040b","tnuid":"n"}`:    {{CandidateUser, "a@b"}, {CandidateNetwork, "n"}},
		`{\"duid\":\"d\\u0041\"}`:             {{CandidateDomain, "dA"}},
		`uid:"cut off`:                        {{CandidateUser, "cut off"}},
		"querystring:nuid=n, networkUserId:m": {{CandidateNetwork, "n"}, {CandidateNetwork, "m"}},
		"$" + id + "\v":                       {{CandidateAny, strings.ToLower(id)}},
		"f" + id:                              nil,
		"uid=a\tb":                            {{CandidateUser, "a"}},
	} {
		got := map[Candidate]bool{}
		for c := range Candidates(text, true) {
			got[c] = true
		}
		for _, c := range want {
			if !got[c] {
				t.Errorf("%q: no %v in %v", text, c, got)
			}
		}
		if len(want) == 0 && len(got) > 0 {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// A text made for it must not take long.
func TestCandidatesAreBounded(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"uid=", `"uid":"`, `\"uid\":\"\`, "networkUserId:", id36 + "-", `uid:"` + strings.Repeat(`\`, 50)} {
		text := strings.Repeat(part, 1<<20/len(part))
		size := 0
		for c := range Candidates(text, true) {
			size += len(c.Text)
		}
		if limit := (candidateFactor+2)*len(text) + 1<<17; size > limit {
			t.Errorf("%q: %d bytes, want at most %d", part, size, limit)
		}
	}
}

const id36 = "aaaaaaaa-5c99-40e3-81fc-541084dfc784"

func FuzzCandidates(f *testing.F) {
	f.Add(`x&uid=a`, "bob")
	f.Fuzz(func(t *testing.T, text, id string) {
		for range Candidates(text, true) {
			continue
		}
		if id == "" || len(id) > 100 || ValidText(id) != id {
			return
		}
		// A JSON member is found whatever stands before it.
		raw, err := json.Marshal(map[string]string{"duid": id})
		if err != nil {
			return
		}
		found := false
		for c := range Candidates("{"+string(raw)+text, false) {
			found = found || c == Candidate{CandidateDomain, id}
		}
		if !found {
			t.Errorf("%q is not found in %s", id, raw)
		}
	})
}
