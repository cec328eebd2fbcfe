package snowplow

import (
	"encoding/base64"
	"strings"
	"testing"

	"furrow/internal/event"
)

// null marks values that make the field null, bad those that fail the event.
const (
	null = "null cell"
	bad  = "failure"
)

func TestSet(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ param, value, want string }{
		{"e", "pv", "page_view"},
		{"e", "ev", "struct"},
		{"e", "page_view", bad},
		{"e", "", bad},
		{"p", "headset", "headset"},
		{"p", "Web", bad},
		{"tv", "a\tb\x00\x7fc\u0085", "a    bc\u0085"},
		{"tv", "\x01\x02", null},
		{"tv", "a\xffb", "a\ufffdb"},
		{"eid", "F732D278-120E-4AB6-845B-C1F11CD85DC7", "f732d278-120e-4ab6-845b-c1f11cd85dc7"},
		{"eid", "f732d278-120e-4ab6-845b-c1f11cd85dc", bad},
		{"eid", "f732d278-120e-4ab6-845bxc1f11cd85dc7", bad},
		{"vid", "+5", "5"},
		{"vid", "007", "7"},
		{"vid", "-2147483648", "-2147483648"},
		{"vid", "2147483648", bad},
		{"vid", "1_000", bad},
		{"vid", "٤٥", bad},
		{"vid", "nULl", null},
		{"vid", " 5", bad},
		{"cookie", "1", "1"},
		{"cookie", "01", bad},
		{"dtm", "1398762054001", "2014-04-29 09:00:54.001"},
		{"dtm", "-62167219200000", "0000-01-01 00:00:00.000"},
		{"dtm", "-62167219200001", bad},
		{"dtm", "253402300799999", "9999-12-31 23:59:59.999"},
		{"dtm", "253402300800000", bad},
		{"res", "1440x900", "1440"},
		{"res", "+1x2", bad},
		{"res", "1x2x3", bad},
		{"res", "1440", bad},
		{"res", "2147483648x1", bad},
		{"ip", "1.2.3.4, 5.6.7.8", "1.2.3.4"},
		{"ip", ",", null},
		{"mac", "anything", null},
	} {
		t.Run(c.param+"="+c.value, func(t *testing.T) {
			t.Parallel()
			i, ok := LookupParam(c.param)
			if !ok {
				t.Fatalf("no parameter %q", c.param)
			}
			var e event.Event
			spec := ParamSpec(i)
			err := spec.Set(&e, c.value)
			got := string(AppendCell(nil, &e, spec.Field))
			switch {
			case err != nil:
				got = bad
			case got == "":
				got = null
			}
			if got != c.want {
				t.Errorf("%q (%v), want %q", got, err, c.want)
			}
		})
	}
}

func TestFormatDecimal(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"3.10": "3.10", "23.": "23", ".5": "0.5", "+5": "5", "-.5e1": "-5", "007": "7", "-0": "0", "0.00": "0.00",
		"1E7": "10000000", "1.2E9": "1200000000", "4.321768E3": "4321.768", "7.51E-9": "7.51E-9", "-12e-9": "-1.2E-8",
		"0.000001": "0.000001", "0.0000001": "1E-7", "0E-10": "0E-10", "0e900000": "0", "00.0012": "0.0012",
		"1E1000":         "1" + strings.Repeat("0", 1000),
		"99999999999999": "99999999999999",
	} {
		got, ok := FormatDecimal(in)
		if !ok || got != want {
			t.Errorf("%s: %q %v, want %q", in, got, ok, want)
		}
		if again, ok := FormatDecimal(got); !ok || again != got {
			t.Errorf("%s: %q is not stable: %q", in, got, again)
		}
	}
	for _, in := range []string{"", ".", "+", "e5", "1e", "1e+", "NaN", "Infinity", "0x1p3", "1_0", " 5", "5 ", "--5", "1E1001", "1E99999999999", "1E-2147483648", "٤"} {
		if got, ok := FormatDecimal(in); ok {
			t.Errorf("%s: %q, want a refusal", in, got)
		}
	}
}

func TestNormalizeUUID(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"75A13583-5c99-40e3-81fc-541084dfc784":  "75a13583-5c99-40e3-81fc-541084dfc784",
		"1-2-3-4-5":                             "00000001-0002-0003-0004-000000000005",
		"00000000-0000-0000-0000-000000000000":  "00000000-0000-0000-0000-000000000000",
		"1-2-3-4":                               "",
		"1-2-3-4-":                              "",
		"1-2-3-4-+5":                            "",
		"not-a-uuid":                            "",
		"":                                      "",
		"75a13583-5c99-40e3-81fc-541084dfc7840": "",
	} {
		if got, ok := NormalizeUUID(in); got != want || ok != (want != "") {
			t.Errorf("%q: %q %v, want %q", in, got, ok, want)
		}
	}
}

func TestAppendBase64(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"YWI_Pj8-Pj8=": "ab?>?>>?", "YWI/Pj8+": "ab?>?>", "YQ": "a", "Y Q\n": "a", "YQ==YQ": "a", "Y": "", "": "", "é": "", "YWJj": "abc", "YWI": "ab",
	} {
		if got := string(AppendBase64(nil, in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.RawURLEncoding} {
		if got := string(AppendBase64(nil, enc.EncodeToString(all))); got != string(all) {
			t.Errorf("%q", got)
		}
	}
}

func TestParseSchemaKey(t *testing.T) {
	t.Parallel()
	for uri, want := range map[string]error{
		"iglu:com.acme/viewed-product_1/jsonschema/1-0-0": nil,
		"iglu:com.acme/a/jsonschema/12-3-45":              nil,
		"iglu:com.acme/a/jsonschema/0-0-4":                ErrSchemaVer,
		"iglu:com.acme/a/jsonschema/1-00-4":               ErrSchemaVer,
		"iglu:com.acme/a/jsonschema/1--4":                 ErrSchemaVer,
		"iglu:com.acme/a/jsonschema/1-0-99999999999":      ErrSchemaVer,
		"iglu:com.acme/a/jsonschema/1-0":                  ErrIgluURI,
		"iglu:com.acme/a.b/jsonschema/1-0-0":              ErrIgluURI,
		"iglu:com.acme//jsonschema/1-0-0":                 ErrIgluURI,
		"iglu:com.acme/a/jsonschema/1-0-0/x":              ErrIgluURI,
		"IGLU:com.acme/a/jsonschema/1-0-0":                ErrIgluURI,
		"":                                                ErrIgluURI,
	} {
		key, err := ParseSchemaKey(uri)
		if !errorIs(err, want) {
			t.Errorf("%s: %v, want %v", uri, err, want)
		}
		if err == nil && key.URI() != uri {
			t.Errorf("%s came back as %s", uri, key.URI())
		}
	}
}
