package store

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/event"
)

// execute runs a statement as the owner of the database would.
func execute(tb testing.TB, p *Postgres, statement string) {
	tb.Helper()
	err := p.writing(tb.Context(), func(ctx context.Context, c *pgConn) error {
		_, err := c.Exec(ctx, statement)
		return err
	})
	if err != nil {
		tb.Fatalf("%s: %v", statement, err)
	}
}

func query[T any](tb testing.TB, p *Postgres, statement string) T {
	tb.Helper()
	var v T
	err := p.writing(tb.Context(), func(ctx context.Context, c *pgConn) error {
		return c.QueryRow(ctx, statement).Scan(&v)
	})
	if err != nil {
		tb.Fatalf("%s: %v", statement, err)
	}
	return v
}

// TestPostgresHoldsHostileValues gives each value in a batch of good rows: it is
// stored, mended, or kept as a bad row, and never stops the others.
func TestPostgresHoldsHostileValues(t *testing.T) {
	t.Parallel()
	const refused = "\x00refused"
	deep := strings.Repeat("[", 9000) + strings.Repeat("]", 9000)
	document := func(s string) string { return `{"a":` + s + `}` }
	cases := []struct {
		field event.Field
		value string
		want  any
	}{
		{event.PageTitle, "a\x00b", "a\uFFFDb"},
		{event.PageTitle, "a\xff\xfeb", "a\uFFFDb"},
		{event.PageTitle, "\xed\xa0\x80", "\uFFFD"},
		{event.PageTitle, `\x00 \. \N \u0000`, `\x00 \. \N \u0000`},
		{event.PageTitle, strings.Repeat("ü", 2000), strings.Repeat("ü", 2000)},
		{event.PageTitle, strings.Repeat("ü", 2001), refused},
		{event.GeoCountry, "DEU", refused},
		{event.UserID, strings.Repeat("\U0001F6D2", 255), strings.Repeat("\U0001F6D2", 255)},
		{event.EventName, strings.Repeat("n", 1000), strings.Repeat("n", 1000)},
		{event.EventID, "not a uuid", refused},
		{event.EventID, "", refused},
		{event.TrTotal, "1E+1000", math.MaxFloat64},
		{event.TrTotal, "-9E+131071", -math.MaxFloat64},
		{event.TrTotal, "1E+131072", refused},
		{event.TrTotal, "1E-16383", 0.0},
		{event.TrTotal, "1E-16384", refused},
		{event.TrTotal, "1E+999999999999999999999", refused},
		{event.TrTotal, "-0.00012345678901234567890", -0.0001234567890123456789},
		{event.TrTotal, "00012300.4500", 12300.45},
		{event.TrTotal, "12three", refused},
		{event.TrTotal, "1.2.3", refused},
		{event.TrTotal, "NaN", refused},
		{event.SeValue, "1E+400", math.MaxFloat64},
		{event.Contexts, document(`"\u0000"`), document(` "\ufffd"`)},
		{event.Contexts, document(`"\\u0000"`), document(` "\\u0000"`)},
		{event.Contexts, document(`"\\\u0000x"`), document(` "\\` + "\uFFFD" + `x"`)},
		{event.Contexts, document(`"\ud800"`), document(` "` + "\uFFFD" + `"`)},
		{event.Contexts, document(`"\udc00\ud800\u0041"`), document(` "` + "\uFFFD\uFFFD" + `A"`)},
		{event.Contexts, document(`"\ud83d\uded2"`), document(` "🛒"`)},
		{event.Contexts, document(`"\ud83d\ud83d\uded2"`), document(` "` + "\uFFFD" + `🛒"`)},
		{event.Contexts, document("\"a\x00\xff\""), document(` "a` + "\uFFFD\uFFFD" + `"`)},
		{event.Contexts, document(`1e400000`), refused},
		{event.Contexts, document(`1e-400000`), refused},
		{event.Contexts, document(`"\u00`), refused},
		{event.Contexts, `{"a":`, refused},
		{event.Contexts, deep, refused},
	}
	p := openPostgres(t, Default())
	rows := samples(0, 2*len(cases), noon)
	want := Inserted{Events: len(rows)}
	for i, c := range cases {
		e := rows[2*i].Event
		e.SetText(c.field, c.value)
		if c.want == refused {
			want.Events--
			want.Refused++
			want.Bad++
		}
	}
	// deep is within the server's limit or not: both are fine.
	got := put(t, p, rows)
	if got.Events == want.Events+1 {
		want.Events, want.Refused, want.Bad = want.Events+1, want.Refused-1, want.Bad-1
		cases = cases[:len(cases)-1]
	}
	wantInserted(t, want, got)
	kept := reasons(t, p)
	for i, c := range cases {
		e := rows[2*i].Event
		if c.want == refused {
			if n, err := p.Known(t.Context(), []string{e.ID()}); n != 0 || err != nil {
				t.Errorf("%s %.60q: known %d, %v", c.field.Name(), c.value, n, err)
			}
			continue
		}
		value := cell(t, p, e.ID(), c.field.Name())
		if f, ok := value.(float64); ok && c.value == "1E-16383" {
			value = math.Abs(f)
		}
		if s, ok := c.want.(string); ok && c.field == event.Contexts {
			if diff := cmp.Diff(decoded(t, s), decoded(t, value.(string))); diff != "" {
				t.Errorf("%.60q: %s", c.value, diff)
			}
			continue
		}
		if diff := cmp.Diff(c.want, value); diff != "" {
			t.Errorf("%s %.60q: %.300s", c.field.Name(), c.value, diff)
		}
	}
	for _, want := range []string{"page_title has 2001 characters of at most 2000", "event_id is missing", "tr_total"} {
		if !strings.Contains(kept, want) {
			t.Errorf("no bad row says %q", want)
		}
	}
	if n := query[string](t, p, "SELECT tr_total::text FROM atomic.events WHERE tr_total BETWEEN -1 AND -0.0001"); n != "-0.00012345678901234567890" {
		t.Errorf("the digits became %s", n)
	}
	for range 2 { // a replay changes nothing
		again := put(t, p, rows)
		if again.Events != 0 || again.Bad != 0 || again.Refused != want.Refused || again.Doubles != want.Events {
			t.Errorf("again: %+v", again)
		}
	}
}

func decoded(tb testing.TB, s string) any {
	tb.Helper()
	var v any
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		tb.Fatalf("%q: %v", s, err)
	}
	return v
}

func TestPostgresHoldsHostileTimes(t *testing.T) {
	t.Parallel()
	p := openPostgres(t, Default())
	date := func(y int) time.Time { return time.Date(y, 2, 28, 23, 59, 59, 999_000_000, time.UTC) }
	times := []struct {
		at   time.Time
		fits bool // as a collector time
		want string
	}{
		{date(1), true, "0001-02-28 23:59:59.999"},
		{date(9999), true, "9999-02-28 23:59:59.999"},
		{date(1969), true, "1969-02-28 23:59:59.999"},
		{date(0), false, "0000-02-28 23:59:59.999"},
		{date(10000), false, "10000-02-28 23:59:59.999"},
		{date(294000), false, "294000-02-28 23:59:59.999"},
		{date(295000), false, ""},
		{time.UnixMilli(math.MaxInt64), false, ""},
		{time.UnixMilli(math.MinInt64), false, ""},
	}
	rows := samples(0, 2*len(times), noon)
	var want Inserted
	for i, c := range times {
		rows[i].Event.SetTime(event.CollectorTstamp, c.at)
		rows[len(times)+i].Event.SetTime(event.DvceCreatedTstamp, c.at)
		for _, ok := range []bool{c.fits, c.want != ""} {
			if ok {
				want.Events++
			} else {
				want.Refused++
				want.Bad++
			}
		}
	}
	wantInserted(t, want, put(t, p, rows))
	for i, c := range times {
		if c.fits {
			if got := cell(t, p, rows[i].Event.ID(), "collector_tstamp"); got != c.want {
				t.Errorf("collector_tstamp %v, want %s", got, c.want)
			}
		}
		if c.want != "" {
			if got := cell(t, p, rows[len(times)+i].Event.ID(), "dvce_created_tstamp"); got != c.want {
				t.Errorf("dvce_created_tstamp %v, want %s", got, c.want)
			}
		}
	}
	if st := status(t, p); st.Oldest.Year() != 1 || st.Newest.Year() != 9999 || st.Bad != int64(want.Bad) {
		t.Errorf("%+v", st)
	}
}

// TestPostgresFindsTheRowThatItRefuses has constraints of the owner's, about which
// only the server knows.
func TestPostgresFindsTheRowThatItRefuses(t *testing.T) {
	t.Parallel()
	p := openPostgres(t, Default())
	put(t, p, samples(-1, 1, noon))
	execute(t, p, "ALTER TABLE atomic.events ADD CONSTRAINT choosy CHECK (app_id <> 'poison')")
	execute(t, p, `CREATE FUNCTION choosy() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN IF NEW.platform = 'poison' THEN RAISE EXCEPTION 'too much of it'; END IF; RETURN NEW; END $$`)
	execute(t, p, "CREATE TRIGGER choosy BEFORE INSERT ON atomic.events FOR EACH ROW EXECUTE FUNCTION choosy()")
	rows := samples(0, 500, noon)
	want := Inserted{Events: 500}
	for i := range rows {
		switch i % 100 {
		case 7:
			rows[i].Event.SetText(event.AppID, "poison")
		case 99:
			rows[i].Event.SetText(event.Platform, "poison")
		default:
			continue
		}
		want.Events--
		want.Refused++
		want.Bad++
	}
	wantInserted(t, want, put(t, p, rows))
	r := reasons(t, p)
	if !strings.Contains(r, "choosy") || !strings.Contains(r, "too much of it") {
		t.Errorf("reasons %s", r)
	}
	if n := query[int64](t, p, "SELECT count(*) FROM atomic.events"); n != int64(want.Events)+1 {
		t.Errorf("%d rows", n)
	}
	if n := query[int64](t, p, "SELECT count(*) FROM atomic.event_ids"); n != int64(want.Events)+1 {
		t.Errorf("%d ids", n)
	}
}

func TestPostgresKeepsHostileBadRows(t *testing.T) {
	t.Parallel()
	p := openPostgres(t, Default())
	bad := badRows([]byte("a\x00\xffb"), 8, noon)
	for i, failure := range []string{
		`{"exact":  1.10, "x":"\u0000"}`, "no json", "", "\x00\xff", strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9000),
		`{"b":"\ud800"}`, `"text"`, `{"a":1e999999}`,
	} {
		bad[i].Failure = []byte(failure)
	}
	bad[0].Time = time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)
	bad[1].Time = time.Time{}
	bad[2].Schema, bad[3].ID = "s\x00\xff", "id\x00"
	wantInserted(t, Inserted{Events: 1, Bad: 8}, put(t, p, samples(0, 1, noon), bad...))
	wantInserted(t, Inserted{Doubles: 1, BadDoubles: 8}, put(t, p, samples(0, 1, noon), bad...))
	got := map[int]event.BadRow{}
	for _, b := range allBad(t, p, BadFilter{Records: true}) {
		if string(b.Payload) != "a\x00\xffb" || !json.Valid(b.Failure) {
			t.Errorf("row %d: %q, %q", b.Index, b.Payload, b.Failure)
		}
		got[b.Index] = b
	}
	for i, want := range map[int]string{0: string(bad[0].Failure), 1: `"no json"`, 6: `"text"`} {
		if string(got[i].Failure) != want {
			t.Errorf("%d: %s, want %s", i, got[i].Failure, want)
		}
	}
	if n, err := p.DeleteBad(t.Context(), []string{bad[3].ID}); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

func TestManyDaysInOneBatch(t *testing.T) {
	t.Parallel()
	p := openPostgres(t, Default())
	const days = pgDaysPerBatch + 5
	var rows []Row
	for i := range 2 * days {
		rows = append(rows, sample(i, noon.AddDate(0, 0, -i%days)))
	}
	bad := badRows([]byte("x"), 2, noon)
	wantInserted(t, Inserted{Events: 2 * days, Bad: 2}, put(t, p, rows, bad...))
	wantInserted(t, Inserted{Doubles: 2 * days, BadDoubles: 2}, put(t, p, rows, bad...))
	if n := query[int64](t, p, "SELECT count(DISTINCT tableoid) FROM atomic.events"); n != days {
		t.Errorf("%d partitions", n)
	}
	if st := status(t, p); st.Events != 2*days || !st.Oldest.Equal(noon.AddDate(0, 0, 1-days)) {
		t.Errorf("%+v", st)
	}
	order := Forgetting{Identifiers: []string{rows[0].Event.Text(event.DomainUserID)}, Until: noon}
	person, err := p.Person(t.Context(), order.Identifiers)
	if err != nil || person.Events == 0 {
		t.Errorf("%+v, %v", person, err)
	}
	if done, err := p.Forget(t.Context(), order); err != nil || done.Events != person.Events {
		t.Errorf("%+v, %v", done, err)
	}
	if n := query[int64](t, p, "SELECT sum(n_dead_tup)::int8 FROM pg_stat_user_tables WHERE relname LIKE 'events_2%'"); n != 0 {
		t.Logf("%d dead rows by the statistics", n) // which come late
	}
}

func FuzzMendDocument(f *testing.F) {
	for _, s := range []string{`{}`, `"\u0000"`, `"\ud800\u"`, `"\\\ud800\udc00"`, "\x00", `"\ud800\ud800\udc00"`, `\`, `\u`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		mended := mendDocument(s)
		if mendDocument(mended) != mended {
			t.Errorf("%q becomes %q and then %q", s, mended, mendDocument(mended))
		}
		if !json.Valid([]byte(s)) || !utf8.ValidString(s) {
			return
		}
		var a, b any
		if err := json.Unmarshal([]byte(mended), &b); err != nil {
			t.Fatalf("%q becomes %q: %v", s, mended, err)
		}
		if err := json.Unmarshal([]byte(s), &a); err == nil {
			// Go reads lone surrogates as U+FFFD too; NUL remains for it.
			if want := strings.ReplaceAll(fmt.Sprint(a), "\x00", "\uFFFD"); want != fmt.Sprint(b) {
				t.Errorf("%q becomes %q", s, mended)
			}
		}
	})
}

func FuzzNumeric(f *testing.F) {
	for _, s := range []string{"0", "-0.00", "3.10", "1E-7", "-9E+999", "1e5", ".5", "5.", "", "+1", "0.000E+3", "12345678.9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var enc tuples
		if err := enc.numeric(s); err != nil {
			return
		}
		if len(enc.buf) < 8 || len(enc.buf)%2 != 0 || len(enc.buf) > 80_000 {
			t.Errorf("%q takes %d bytes", s, len(enc.buf))
		}
		want, ok := new(big.Rat).SetString(s)
		if !ok || len(s) > 40 {
			return
		}
		got, unit := new(big.Rat), big.NewRat(1, 10000)
		for group := len(enc.buf) - 2; group >= 8; group -= 2 {
			got.Mul(got, unit).Add(got, big.NewRat(int64(binary.BigEndian.Uint16(enc.buf[group:])), 1))
		}
		if weight := int16(binary.BigEndian.Uint16(enc.buf[2:])); weight < 0 {
			unit.SetInt(new(big.Int).Exp(big.NewInt(10000), big.NewInt(-int64(weight)), nil)).Inv(unit)
			got.Mul(got, unit)
		} else {
			got.Mul(got, unit.SetInt(new(big.Int).Exp(big.NewInt(10000), big.NewInt(int64(weight)), nil)))
		}
		if binary.BigEndian.Uint16(enc.buf[4:]) != 0 {
			got.Neg(got)
		}
		if got.Cmp(want) != 0 {
			t.Errorf("%q is encoded as %s", s, got.FloatString(20))
		}
	})
}

func TestColumnsOfPostgresAreThoseOfAtomicEvents(t *testing.T) {
	t.Parallel()
	p := openPostgres(t, Default())
	put(t, p, samples(0, 1, noon))
	columnsOf := func(table string) []string {
		return strings.Split(query[string](t, p, `SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ',' ORDER BY a.attnum)
FROM pg_attribute a WHERE a.attrelid = 'atomic.`+table+`'::regclass AND a.attnum > 0`), ",")
	}
	var names []string
	types := columnsOf("events")
	for i, c := range types {
		name, _, _ := strings.Cut(c, " ")
		if names = append(names, name); i < len(columns) && name != columns[i].Name() {
			t.Errorf("column %d is %s, want %s", i+1, name, columns[i].Name())
		}
	}
	if len(names) != 133 {
		t.Fatalf("%d columns, want 128, three documents, the hash and the time of loading", len(names))
	}
	for n, want := range map[int]string{
		1: "app_id character varying(255)", 4: "collector_tstamp timestamp without time zone", 7: "event_id character(36)",
		57: "se_value double precision", 60: "tr_total numeric", 101: "dvce_ismobile boolean", 129: "contexts jsonb", 132: "content_hash bigint",
	} {
		if types[n-1] != want {
			t.Errorf("column %d is %s, want %s", n, types[n-1], want)
		}
	}
	want := []string{"id text", "time timestamp without time zone", "schema text", "failure json", "record bytea", "event_index integer"}
	if diff := cmp.Diff(want, columnsOf("bad_rows")); diff != "" {
		t.Error(diff)
	}
}
