package snowplow

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCompactor(t *testing.T) {
	t.Parallel()
	var c Compactor
	for in, want := range map[string]string{
		` { "b" : [ 1.00 , -0.50e+7,{} ] , "a":null }`:      `{"b":[1.00,-0.50e+7,{}],"a":null}`,
		`"\u00e9\/\"\\\b\f\n\r\t\u0001\u007f"`:              `"é/\"\\\b\f\n\r\t\u0001\u007f"`,
		`"\ud83c\udf31 \ud83c \udf31"`:                      "\"🌱 \ufffd \ufffd\"",
		"\"a\xffb\"":                                        "\"a\ufffdb\"",
		`{"a":1,"b":2,"a":3}`:                               `{"a":3,"b":2}`,
		`{"a":{"x":1,"\u0078":2},"a":{"y":1,"y":2}}`:        `{"a":{"y":2}}`,
		`[[],[[]],"",0,true,false]`:                         `[[],[[]],"",0,true,false]`,
		strings.Repeat("[", 200) + strings.Repeat("]", 200): strings.Repeat("[", 200) + strings.Repeat("]", 200),
	} {
		got, err := c.Append(nil, []byte(in))
		if err != nil || string(got) != want {
			t.Errorf("%s: %s %v, want %s", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", " ", "{", "[1,]", `{"a":1,}`, `{"a"}`, `{a:1}`, "01", "1.", "-", "1e", ".5", "tru", "nul", `"`, `"\x"`, `"\u12"`, "\"\t\"", "1 2", "{}x",
		strings.Repeat("[", 100_000),
	} {
		if got, err := c.Append([]byte("kept"), []byte(in)); err == nil || string(got) != "kept" {
			t.Errorf("%.20s: %s, want an error", in, got)
		}
	}
}

func TestCompactorManyMembers(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("{")
	for i := range 100_000 {
		b.WriteString(`"` + strconv.Itoa(i%50_000) + `":` + strconv.Itoa(i) + ",")
	}
	b.WriteString(`"last":0}`)
	var c Compactor
	got, err := c.Append(nil, []byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for key, value := range Members(string(got)) {
		if key == "7" && value != "50007" {
			t.Errorf("7 is %s", value)
		}
		n++
	}
	if n != 50_001 {
		t.Errorf("%d members", n)
	}
}

func TestAppendTextMembers(t *testing.T) {
	t.Parallel()
	params, rest, ok := AppendTextMembers(nil, `{"e":"pv","page":"a\"b\\","x":"\\"},{}]`)
	if !ok || rest != ",{}]" || len(params) != 3 || params[1].Value != `a"b\` || params[2].Value != `\` {
		t.Errorf("%v %q %v", params, rest, ok)
	}
	for _, in := range []string{"", "[]", `{"a":1}`, `{"a":"b","c":null}`} {
		if _, _, ok := AppendTextMembers(nil, in); ok {
			t.Errorf("%s was taken", in)
		}
	}
}

// The compact form must be what the standard library reads from the original, and
// the readers of the compact form must find every member of it.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,{"b":"\u00e9\\\""}],"a":2}`, `["\ud800",1e5,""]`, "\"\xff\x7f\"", `{"":{}}`, `{"a\\":"\\","b":"\"\\\""}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		var c Compactor
		out, err := c.Append(nil, src)
		if err != nil {
			if json.Valid(src) && !bytes.Contains(src, []byte("[[[[")) && bytes.Count(src, []byte("{")) < maxJSONDepth {
				t.Errorf("%q: %v", src, err)
			}
			return
		}
		if !json.Valid(src) {
			t.Fatalf("%q became %q", src, out)
		}
		if again, err := c.Append(nil, out); err != nil || !bytes.Equal(again, out) {
			t.Fatalf("%q is not stable: %q %v", out, again, err)
		}
		if !utf8.Valid(out) || bytes.ContainsAny(out, "\t\n\r\x00\x7f") {
			t.Fatalf("%q is no cell", out)
		}
		walk(t, string(out))
	})
}

func walk(t *testing.T, value string) {
	t.Helper()
	var object map[string]json.RawMessage
	var array []json.RawMessage
	var text string
	switch value[0] {
	case '{':
		if err := json.Unmarshal([]byte(value), &object); err != nil {
			t.Fatal(err)
		}
		got := map[string]json.RawMessage{}
		for key, v := range Members(value) {
			name, ok := Text(`"` + key + `"`)
			if !ok {
				t.Fatalf("key %q", key)
			}
			got[name] = json.RawMessage(v)
			walk(t, v)
		}
		if len(object) > 0 && !reflect.DeepEqual(got, object) {
			t.Fatalf("members of %q: %q", value, got)
		}
	case '[':
		if err := json.Unmarshal([]byte(value), &array); err != nil {
			t.Fatal(err)
		}
		i := 0
		for v := range Elements(value) {
			if i >= len(array) || string(array[i]) != v {
				t.Fatalf("element %d of %q: %q", i, value, v)
			}
			walk(t, v)
			i++
		}
		if i != len(array) {
			t.Fatalf("%d elements of %q", i, value)
		}
	case '"':
		if err := json.Unmarshal([]byte(value), &text); err != nil {
			t.Fatal(err)
		}
		if got, ok := Text(value); !ok || got != text {
			t.Fatalf("text of %q: %q", value, got)
		}
		if again := string(AppendJSONText(nil, text)); again != value {
			t.Fatalf("%q written again is %q", value, again)
		}
	}
	if ValueEnd(value+",") != len(value) {
		t.Fatalf("end of %q: %d", value, ValueEnd(value+","))
	}
}
