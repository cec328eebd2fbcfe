package collector

import (
	"bytes"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/event"
	"furrow/internal/snowplow"
)

func fixedClock() time.Time { return time.UnixMilli(1_700_000_000_123) }

func TestRecord(t *testing.T) {
	t.Parallel()
	pub := &recording{}
	c := build(t, pub, func(_ *Config, o *Options) { o.Now = fixedClock })
	send := func() {
		r := httptest.NewRequest("POST", tp2+"?a=%zz&duid=d1", strings.NewReader(`{"x":"\x00`+"\xff"+`"}`))
		r.RemoteAddr, r.Host = "[2001:db8::1%eth0]:4711", "Collector.Example.com:8080"
		maps.Copy(r.Header, map[string][]string{
			"X-Zulu": {"2", "1"}, "User-Agent": {"caf\xe9"}, "Referer": {"https://a.example/p#f"}, "Accept": {"*/*"},
			"Cookie": {`b="1";sp=n1; bad=a,b`}, "Content-Type": {"Application/JSON; charset=UTF-8"}, "Content-Length": {"10"},
		})
		c.ServeHTTP(httptest.NewRecorder(), r)
	}
	send()
	got := pub.only(t)
	want := event.Payload{
		IPAddress: "2001:db8::1", Timestamp: 1_700_000_000_123, Encoding: "UTF-8", Collector: "furrow-0.1.0-test",
		UserAgent: event.Some("caf\ufffd"), RefererURI: event.Some("https://a.example/p#f"),
		Path: event.Some(tp2), Querystring: event.Some("a=%zz&duid=d1"), Body: event.Some(`{"x":"\x00` + "\ufffd" + `"}`),
		Headers: []string{
			"Accept: */*", "Cookie: b=1; sp=n1", "Host: Collector.Example.com:8080", "Referer: https://a.example/p#f",
			"User-Agent: caf\ufffd", "X-Zulu: 2", "X-Zulu: 1", "application/json",
		},
		ContentType: event.Some("application/json"), Hostname: event.Some("collector.example.com"), NetworkUserID: event.Some("n1"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	first := pub.all()[0]
	if string(first.Key) != "d1" {
		t.Errorf("key %q", first.Key)
	}
	if n := cap(first.Value) - len(first.Value); n != 0 {
		t.Errorf("the record ends %d bytes before its memory, where the key is", n)
	}
	if size := recordSize(&got); size < len(first.Value) || size > len(first.Value)+128 {
		t.Errorf("a record of %d bytes was estimated at %d", len(first.Value), size)
	}
	// The same request in the same millisecond is the same record, whatever order
	// the header map has.
	for range 20 {
		send()
	}
	for _, m := range pub.all() {
		if !bytes.Equal(m.Value, first.Value) || !bytes.Equal(m.Key, first.Key) {
			t.Fatal("one request became two different records")
		}
	}
}

// TestRecordsAreNotReused sends many requests and finds the first record
// unchanged: the bus may keep it.
func TestRecordsAreNotReused(t *testing.T) {
	t.Parallel()
	pub := &recording{}
	c := build(t, pub, nil)
	send := func(query, body string) {
		r := httptest.NewRequest("POST", tp2+"?"+query, strings.NewReader(body))
		r.Header.Set("X-Query", query)
		c.ServeHTTP(httptest.NewRecorder(), r)
	}
	send("duid=first", "the first body")
	m := pub.all()[0]
	value, key := bytes.Clone(m.Value), bytes.Clone(m.Key)
	for range 50 {
		send("duid=later", strings.Repeat("later", 20))
	}
	if !bytes.Equal(m.Value, value) || !bytes.Equal(m.Key, key) {
		t.Error("a published record changed")
	}
}

func TestRecordKey(t *testing.T) {
	t.Parallel()
	const uuid = "11111111-2222-4333-8444-555555555555"
	batch := `{"data":[{"e":"pv","duid":"body-user"},{"duid":"second"}]}`
	for _, tt := range []struct {
		name, method, target, body string
		headers                    map[string]string
		random                     bool
		want                       string // empty: a random UUID
	}{
		{"duid of the query", "GET", "/i?e=pv&nuid=" + uuid + "&duid=a%2Db", "", nil, false, "a-b"},
		{"query before body", "POST", tp2 + "?duid=q", batch, nil, false, "q"},
		{"first of the body", "POST", tp2, batch, nil, false, "body-user"},
		{"white space in the body", "POST", tp2, "{\"duid\" :\n \"u\"}", nil, false, "u"},
		{"not a text in the body", "POST", tp2, `{"duid":null,"x":"\"duid\"","duid":"","duid":"u"}`, nil, false, "u"},
		{"cut off", "POST", tp2 + "?nuid=" + uuid, `{"duid":"u`, nil, false, uuid},
		{"beyond the search", "POST", tp2 + "?nuid=" + uuid, strings.Repeat(" ", keySearch) + batch, nil, false, uuid},
		{"cookie", "GET", "/i", "", map[string]string{"Cookie": "sp=" + uuid}, false, uuid},
		{"zero nuid", "GET", "/i?nuid=" + zeroID, "", nil, false, "192.0.2.1"},
		{"bounced", "GET", "/i?n3pc=true", "", nil, false, "192.0.2.1"},
		{"address", "GET", "/i", "", map[string]string{"X-Forwarded-For": "203.0.113.9"}, false, "203.0.113.9"},
		{"unknown address", "GET", "/i", "", map[string]string{"X-Forwarded-For": "unknown"}, false, ""},
		{"anonymous", "GET", "/i?nuid=" + uuid, "", map[string]string{"Sp-Anonymous": "*", "Cookie": "sp=" + uuid}, false, ""},
		{"random", "GET", "/i?duid=d", "", nil, true, ""},
	} {
		pub := &recording{}
		c := build(t, pub, func(cfg *Config, _ *Options) {
			if tt.random {
				cfg.Key = KeyRandom
			}
		})
		r := httptest.NewRequest(tt.method, tt.target, strings.NewReader(tt.body))
		for name, value := range tt.headers {
			r.Header.Set(name, value)
		}
		c.ServeHTTP(httptest.NewRecorder(), r)
		got := string(pub.all()[0].Key)
		if tt.want != "" && got != tt.want || tt.want == "" && (len(got) != 36 || got[14] != '4') {
			t.Errorf("%s: key %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestAnonymousKeepsNoAddress(t *testing.T) {
	t.Parallel()
	pub := &recording{}
	c := build(t, pub, nil)
	r := httptest.NewRequest("GET", "/i?e=pv", nil)
	r.Header = map[string][]string{
		"Sp-Anonymous": {"*"}, "Cookie": {"sp=1"}, "X-Forwarded-For": {"203.0.113.9:80"}, "X-Real-Ip": {"x"},
		"Forwarded": {"for=_hidden"}, "True-Client-Ip": {"203.0.113.9"}, "Cf-Connecting-Ipv6": {"2001:db8::9"},
		"X-Vercel-Forwarded-For": {"a"}, "X-Custom": {"ok", "client=203.0.113.9; x"}, "X-Odd": {"[2001:db8::9]:443"},
		"User-Agent": {"Browser 1.2.3.4"}, "Sec-Ch-Ua-Full-Version": {`"156.0.0.0"`}, "Authorization": {"Basic dTpw"},
	}
	r.Host = "203.0.113.1"
	c.ServeHTTP(httptest.NewRecorder(), r)
	p := pub.only(t)
	want := []string{
		"Authorization: Basic dTpw", "Host: 203.0.113.1", `Sec-Ch-Ua-Full-Version: "156.0.0.0"`, "Sp-Anonymous: *",
		"User-Agent: Browser 1.2.3.4", "X-Custom: ok",
	}
	if diff := cmp.Diff(want, p.Headers); diff != "" {
		t.Error(diff)
	}
	if p.IPAddress != "unknown" || p.NetworkUserID.Value != zeroID {
		t.Errorf("address %q, network user %q", p.IPAddress, p.NetworkUserID.Value)
	}
}

func TestClientAddress(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		peer    string
		headers map[string][]string
		want    string
	}{
		{"192.0.2.1:1234", nil, "192.0.2.1"},
		{"[2001:db8::1]:1234", nil, "2001:db8::1"},
		{"[::ffff:192.0.2.1]:1", nil, "192.0.2.1"},
		{"@", nil, "unknown"},
		{"192.0.2.1:1", map[string][]string{"X-Forwarded-For": {" 203.0.113.9 ,10.0.0.1"}}, "203.0.113.9"},
		{"192.0.2.1:1", map[string][]string{"X-Forwarded-For": {"junk", "203.0.113.9"}}, "203.0.113.9"},
		{"192.0.2.1:1", map[string][]string{"X-Forwarded-For": {"203.0.113.9, 1.2.3.4:5"}}, "192.0.2.1"},
		{"192.0.2.1:1", map[string][]string{"X-Forwarded-For": {"203.0.113.9,"}}, "192.0.2.1"},
		{"192.0.2.1:1", map[string][]string{"X-Forwarded-For": {"fe80::1%eth0"}, "X-Real-Ip": {"2001:DB8::0001"}}, "2001:db8::1"},
		{"192.0.2.1:1", map[string][]string{"X-Forwarded-For": {"001.2.3.4"}, "X-Real-Ip": {"nothing"}}, "192.0.2.1"},
	} {
		r := httptest.NewRequest("GET", "/i", nil)
		r.RemoteAddr, r.Header = tt.peer, tt.headers
		if got := clientAddress(r); got != tt.want {
			t.Errorf("peer %s, headers %v: %q, want %q", tt.peer, tt.headers, got, tt.want)
		}
	}
}

func TestContentType(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		line string
		body string // of one byte or more; what it becomes
		want contentType
		text string
	}{
		{"application/json; charset=UTF-8", "\xc3\xa9", contentType{value: "application/json"}, "é"},
		{"application/json; charset=latin1", "\xe9", contentType{value: "application/json"}, "\ufffd"},
		{"application/json; charset", "{}", contentType{value: "application/json"}, "{}"},
		{"application/json; v=2; charset=utf-8", "{}", contentType{value: "application/json; v=2"}, "{}"},
		{"text/plain;charset=UTF-8", "\xff\xfe", contentType{value: "text/plain; charset=utf-8"}, "\ufffd\ufffd"},
		{"TEXT/Plain; Charset=ISO-8859-1", "\xe9\x80", contentType{value: "text/plain; charset=iso-8859-1", charset: charsetLatin1}, "é\u0080"},
		{"text/plain; charset=windows-1252", "\x80\x81", contentType{value: "text/plain; charset=windows-1252", charset: charsetWindows1252}, "€\ufffd"},
		{"text/plain; charset=us-ascii", "a\xe9", contentType{value: "text/plain; charset=us-ascii", charset: charsetASCII}, "a\ufffd"},
		{"text/plain; charset=utf-16", "\xff\xfea\x00=\xd8\x00\xde!", contentType{value: "text/plain; charset=utf-16", charset: charsetUTF16}, "a😀\ufffd"},
		{"text/plain; charset=utf-16be", "\x00a\xd8\x3d", contentType{value: "text/plain; charset=utf-16be", charset: charsetUTF16BE}, "a\ufffd"},
		{"text/plain; charset=klingon", "a\xe9", contentType{value: "text/plain; charset=klingon"}, "a\ufffd"},
		{"garbage", "x", contentType{value: typeBytes, malformed: true}, "x"},
		{"a/b/c", "x", contentType{value: typeBytes, malformed: true}, "x"},
		{"", "x", contentType{value: typeBytes, malformed: true}, "x"},
	} {
		got := readContentType([]string{tt.line}, false)
		if got != tt.want {
			t.Errorf("%q: %+v, want %+v", tt.line, got, tt.want)
		}
		if text := string(appendDecoded(nil, []byte(tt.body), got.charset)); text != tt.text {
			t.Errorf("%q: body %q, want %q", tt.line, text, tt.text)
		}
	}
	if got := readContentType(nil, true); got.value != "none/none" {
		t.Errorf("without a body: %+v", got)
	}
}

func TestScanQuery(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		query string
		want  params
	}{
		{"", params{}},
		{"nuid=a&nuid=b", params{nuid: "a", hasNUID: true}},
		{"nuid&duid&u", params{hasNUID: true, hasU: true}},
		{"%6Euid=%zz%4", params{nuid: "%zz%4", hasNUID: true}},
		{"n%75id=a+b%2Bc", params{nuid: "a b+c", hasNUID: true}},
		{"duid=&duid=x&duid=y", params{duid: "x"}},
		{"u=a&u=b=c", params{target: "b=c", hasU: true}},
		{"n3pc", params{bounced: true}},
		{"xnuid=1&nuidx=2&N3PC=1", params{}},
		{"nuid=%ff", params{nuid: "\ufffd", hasNUID: true}},
	} {
		if got := scanQuery(tt.query, "n3pc"); got != tt.want {
			t.Errorf("%q: %+v, want %+v", tt.query, got, tt.want)
		}
	}
}

func TestSplitTarget(t *testing.T) {
	t.Parallel()
	for target, want := range map[string][2]string{
		"/i?a=b?c#d":             {"/i", "a=b?c"},
		"/i#x?y":                 {"/i", ""},
		"http://h:1/a/b?c":       {"/a/b", "c"},
		"http://h?c=http://x/y":  {"/", "c=http://x/y"},
		"//a/b":                  {"//a/b", ""},
		"*":                      {"*", ""},
		"/i?u=http://h/x":        {"/i", "u=http://h/x"},
		"https://h/a/b#?nothing": {"/a/b", ""},
	} {
		path, query, _ := splitTarget(target)
		if got := [2]string{path, query}; got != want {
			t.Errorf("%q: %q, want %q", target, got, want)
		}
	}
}

func TestFreshIDsAreVersion4AndDiffer(t *testing.T) {
	t.Parallel()
	x := newExchange()
	seen := map[string]bool{}
	for range 1000 {
		id := strings.Clone(x.newID())
		if len(id) != 36 || id[14] != '4' || !strings.ContainsRune("89ab", rune(id[19])) || seen[id] {
			t.Fatalf("id %q", id)
		}
		seen[id] = true
	}
}

func TestRecordRoundTrip(t *testing.T) {
	t.Parallel()
	pub := &recording{}
	c := build(t, pub, nil)
	c.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/i", nil))
	value := pub.all()[0].Value
	p, err := snowplow.DecodePayload(value)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(snowplow.AppendPayload(nil, &p), value) {
		t.Error("the record is not what its payload encodes to")
	}
}
