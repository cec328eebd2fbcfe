package event

import (
	"regexp"
	"testing"
	"time"
)

func TestDerivedIDs(t *testing.T) {
	t.Parallel()
	v4 := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	a, b := NewRecordID([]byte("a")), NewRecordID([]byte("b"))
	ids := []string{
		DeriveEventID(a, 0), DeriveEventID(a, 1), DeriveEventID(b, 0),
		BadRowID(a, 0), BadRowID(a, WholeRecord), BadRowID(b, WholeRecord),
	}
	seen := map[string]bool{}
	for _, id := range ids {
		if !v4.MatchString(id) {
			t.Errorf("%q is not shaped like a v4 UUID", id)
		}
		if seen[id] {
			t.Errorf("%q was derived twice", id)
		}
		seen[id] = true
	}
	if DeriveEventID(a, 0) != DeriveEventID(NewRecordID([]byte("a")), 0) {
		t.Error("the same record gave two event ids")
	}
}

func TestFieldTable(t *testing.T) {
	t.Parallel()
	// Positions of fields from the first, middle and last part of the TSV, from
	// the analytics SDKs: one shifted line would move all after it.
	want := map[Field]string{
		0: "app_id", 5: "event", 6: "event_id", 52: "contexts", 58: "unstruct_event",
		77: "useragent", 122: "derived_contexts", 130: "true_tstamp",
	}
	for f, name := range want {
		if f.Name() != name {
			t.Errorf("cell %d is %q, want %q", f, f.Name(), name)
		}
	}
	if TrueTstamp != 130 || Contexts != 52 || EventType != 5 {
		t.Error("constants and table disagree")
	}
}

func TestCells(t *testing.T) {
	t.Parallel()
	var e Event
	if e.Has(AppID) || !e.Time(CollectorTstamp).IsZero() {
		t.Error("a new event must be all null")
	}
	e.SetText(AppID, "shop")
	e.SetInt(PpXoffsetMin, 0)
	now := time.Date(2026, 11, 22, 9, 0, 0, 123456789, time.UTC)
	e.SetTime(CollectorTstamp, now)
	e.SetFloat(GeoLatitude, -12.5)
	if e.Text(AppID) != "shop" || !e.Has(PpXoffsetMin) || !e.Time(CollectorTstamp).Equal(now.Truncate(time.Millisecond)) || e.Float(GeoLatitude) != -12.5 {
		t.Errorf("cells do not return what was set: %+v", e.cells[:8])
	}
	e.SetText(AppID, "")
	if e.Has(AppID) {
		t.Error("an empty text must be null")
	}
}
