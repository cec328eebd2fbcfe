package store

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/event"
	"furrow/internal/tombstone"
)

// people are events of three people over two days: Ada, who logs in, Ben, and one
// who shares Ada's network.
func people() []Row {
	rows := samples(0, 6, noon)
	for i, ids := range [][3]string{
		{"", "ada-cookie", "net-1"},
		{"ada@example", "ada-cookie", "net-1"},
		{"ada@example", "ada-phone", ""},
		{"ben@example", "ben-cookie", "net-2"},
		{"", "other", "net-1"},
		{"ada@example", "ada-cookie", "net-1"},
	} {
		e := rows[i].Event
		for j, f := range []event.Field{event.UserID, event.DomainUserID, event.NetworkUserID} {
			e.SetText(f, ids[j])
		}
	}
	rows[5].Event.SetTime(event.CollectorTstamp, noon.AddDate(0, 0, 1))
	return rows
}

func suitePerson(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	db := open(t, Default())
	put(t, db, people())
	for name, c := range map[string]struct {
		identifiers []string
		want        Person
	}{
		"nobody":  {[]string{"nobody", "ada%", "", "ADA@example"}, Person{Linked: []Identity{}}},
		"no name": {nil, Person{Linked: []Identity{}}},
		"user": {[]string{"ada@example"}, Person{
			Events: 3, First: noon.Add(time.Millisecond), Last: noon.AddDate(0, 0, 1),
			Linked: []Identity{{"domain_userid", "ada-cookie", 2}, {"network_userid", "net-1", 2}, {"domain_userid", "ada-phone", 1}},
		}},
		"all of hers": {[]string{"ada-cookie", "ada@example", "ada-phone"}, Person{
			Events: 4, First: noon, Last: noon.AddDate(0, 0, 1), Linked: []Identity{{"network_userid", "net-1", 3}},
		}},
	} {
		got, err := db.Person(t.Context(), c.identifiers)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	crowd := samples(100, 150, noon)
	for i := range crowd {
		crowd[i].Event.SetText(event.UserID, "crowd")
		crowd[i].Event.SetText(event.DomainUserID, fmt.Sprintf("c-%03d", i))
		crowd[i].Event.Clear(event.NetworkUserID)
	}
	put(t, db, crowd)
	if p, err := db.Person(t.Context(), []string{"crowd"}); err != nil || p.Events != 150 || len(p.Linked) != 100 {
		t.Errorf("%d events, %d linked, %v", p.Events, len(p.Linked), err)
	}
}

func suiteForget(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	db := open(t, Default())
	rows := people()
	put(t, db, rows)
	order := Forgetting{Identifiers: []string{"ada@example", "ada-cookie", ""}, Until: noon.Add(12 * time.Hour)}
	for _, want := range []Forgotten{{Events: 3}, {}} { // it may be repeated
		done, err := db.Forget(t.Context(), order)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, done); diff != "" {
			t.Error(diff)
		}
	}
	st := status(t, db)
	if st.Events != 3 || !st.Oldest.Equal(noon.Add(3*time.Millisecond)) || !st.Newest.Equal(noon.AddDate(0, 0, 1)) {
		t.Errorf("%+v", st)
	}
	for i, want := range []bool{false, false, false, true, true, true} {
		id := rows[i].Event.ID()
		_, ok, err := db.Event(t.Context(), id)
		n, kerr := db.Known(t.Context(), []string{id})
		if ok != want || (n == 1) != want || err != nil || kerr != nil {
			t.Errorf("event %d: found %v, known %d, %v %v", i, ok, n, err, kerr)
		}
	}
	// What the person does later is new; and to the millisecond.
	order.Until = noon.AddDate(0, 0, 1).Add(-time.Millisecond)
	if done, err := db.Forget(t.Context(), order); err != nil || done.Events != 0 {
		t.Errorf("%+v, %v", done, err)
	}
	order.Until = noon.AddDate(0, 0, 1)
	if done, err := db.Forget(t.Context(), order); err != nil || done.Events != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	wantInserted(t, Inserted{Events: 4, Doubles: 2}, put(t, db, rows))
}

func suiteForgetRecords(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	db := open(t, Default())
	all, some, none := badRows([]byte("all"), 4, noon), badRows([]byte("some"), 1200, noon), badRows([]byte("none"), 5, noon)
	put(t, db, nil, slices.Concat(all, some, none)...)
	order := Forgetting{Identifiers: []string{"x"}, Until: noon, Record: func(id event.RecordID, record []byte) ([]byte, func(int) bool, bool) {
		if id != event.NewRecordID(record) && string(record) != "rewritten" {
			t.Errorf("record %s with %q", id, record)
		}
		switch string(record) {
		case "all":
			return nil, func(int) bool { return true }, true
		case "some":
			return []byte("rewritten"), func(i int) bool { return i%2 == 1 }, true
		}
		return nil, nil, false
	}}
	for _, want := range []Forgotten{{BadRows: 604, Records: 2}, {}} {
		done, err := db.Forget(t.Context(), order)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, done); diff != "" {
			t.Error(diff)
		}
	}
	if st := status(t, db); st.Bad != 605 {
		t.Errorf("%+v", st)
	}
	for _, b := range allBad(t, db, BadFilter{Records: true}) {
		switch b.Record {
		case some[0].Record:
			if b.Index%2 == 1 || string(b.Payload) != "rewritten" {
				t.Fatalf("row %d has %q", b.Index, b.Payload)
			}
		case none[0].Record:
			if string(b.Payload) != "none" {
				t.Fatalf("row %d has %q", b.Index, b.Payload)
			}
		default:
			t.Fatalf("row %d of %q is left", b.Index, b.Payload)
		}
	}
}

func suiteIdentifiers(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	db := open(t, Default())
	rows := people()
	want := []string{"ada@example", "ben@example", "ada-cookie", "ada-phone", "ben-cookie", "other", "net-1", "net-2"}
	for i, r := range samples(100, 2500, noon.AddDate(0, 0, 2)) {
		r.Event.SetText(event.UserID, fmt.Sprintf("user %d", i))
		r.Event.SetText(event.DomainUserID, "net-1") // one that is elsewhere another kind
		r.Event.Clear(event.NetworkUserID)
		rows = append(rows, r)
		want = append(want, fmt.Sprintf("user %d", i))
	}
	put(t, db, rows)
	var got []string
	err := db.EachIdentifier(t.Context(), func(i string) error {
		got = append(got, i)
		return nil
	})
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, %.2000s", err, diff)
	}
	stop := errors.New("enough")
	if err := db.EachIdentifier(t.Context(), func(string) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
}

func suiteTombstones(t *testing.T, open func(testing.TB, Config) trimmed) {
	t.Helper()
	db := open(t, Default())
	if got, err := db.Buried(t.Context()); len(got) != 0 || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	stone := func(key, hash byte, until time.Time) tombstone.Tombstone {
		return tombstone.Tombstone{Key: tombstone.Hash{key}, Hash: tombstone.Hash{hash, 255}, Until: until}
	}
	exact := time.Date(2026, 11, 22, 12, 0, 0, 123_456_789, time.UTC)
	want := []tombstone.Tombstone{stone(1, 1, exact), stone(1, 2, noon), stone(1, 2, noon.Add(time.Hour)), stone(2, 1, noon)}
	given := []tombstone.Tombstone{want[3], want[0], want[2], stone(1, 2, noon.In(time.FixedZone("", 3600))), want[0]}
	for range 2 {
		if err := db.Bury(t.Context(), given); err != nil {
			t.Fatal(err)
		}
	}
	got, err := db.Buried(t.Context())
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, %s", err, diff)
	}
	if err := db.Bury(t.Context(), nil); err != nil {
		t.Error(err)
	}
}
