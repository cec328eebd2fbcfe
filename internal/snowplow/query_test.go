package snowplow

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func errorIs(err, want error) bool { return errors.Is(err, want) }

func TestAppendQuery(t *testing.T) {
	t.Parallel()
	set := func(name, value string) Param { return Param{Name: name, Value: value, Set: true} }
	for _, c := range []struct {
		raw    string
		want   []Param
		strict bool
	}{
		{"", nil, true},
		{"e=pv&p=web;aid=x", []Param{set("e", "pv"), set("p", "web"), set("aid", "x")}, true},
		{"a&b=&=c&&;d", []Param{{Name: "a"}, set("b", ""), {Name: "d"}}, true},
		{"a=1&b=2&a=3", []Param{set("a", "3"), set("b", "2")}, true},
		{"a=1&a", []Param{{Name: "a"}}, true},
		{"?e=pv", []Param{set("?e", "pv")}, true},
		{"a=x+y%2Bz%20q", []Param{set("a", "x y+z q")}, true},
		{"a=b=c", []Param{set("a", "b=c")}, true},
		{"a=1#b=2", []Param{set("a", "1")}, true},
		{"a=%FF%FEabc%C3%A9", []Param{set("a", "\ufffd\ufffdabcé")}, true},
		{"a=é&b=[x]", []Param{set("a", "é"), set("b", "[x]")}, true},
		{"%61=1", []Param{set("a", "1")}, true},
		{`a={"x": 1|2}&e=pv`, []Param{set("a", `{"x": 1|2}`), set("e", "pv")}, false},
		{"a=100%&b=%zz%2&c=%41", []Param{set("a", "100%"), set("b", "%zz%2"), set("c", "A")}, false},
		{"a=\xff", []Param{set("a", "\ufffd")}, true},
	} {
		t.Run(c.raw, func(t *testing.T) {
			t.Parallel()
			got, strict := AppendQuery(nil, c.raw)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if strict != c.strict {
				t.Errorf("strict %v, want %v", strict, c.strict)
			}
		})
	}
}

// Many names must not cost their square.
func TestAppendQueryManyNames(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for range 2 {
		for i := range 50_000 {
			b.WriteString(strconv.Itoa(i) + "=" + strconv.Itoa(b.Len()) + "&")
		}
	}
	got, _ := AppendQuery(nil, b.String())
	if len(got) != 50_000 || got[7].Name != "7" || len(got[7].Value) < 6 {
		t.Errorf("%d parameters, the eighth is %v", len(got), got[7])
	}
}

func FuzzQuery(f *testing.F) {
	for _, s := range []string{"e=pv&p=web", "a=%FF+%", "a;b=;=c&a=1#x", "%C3%A9=1&\xc3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		params, strict := AppendQuery(nil, raw)
		seen := map[string]bool{}
		for _, p := range params {
			if p.Name == "" || seen[p.Name] || !p.Set && p.Value != "" || !utf8.ValidString(p.Name+p.Value) {
				t.Errorf("%q gave %v", raw, params)
			}
			seen[p.Name] = true
		}
		if values, err := url.ParseQuery(raw); err == nil && strict && utf8.ValidString(raw) && !strings.ContainsAny(raw, "#%") {
			for name, all := range values {
				if name != "" && !seen[name] {
					t.Errorf("%q lost %q=%q", raw, name, all)
				}
			}
		}
	})
}
