package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"furrow/internal/bus"
	"furrow/internal/event"
	"furrow/internal/snowplow"
	"furrow/internal/store"
)

func broken(n int, more ...string) visit {
	return page(append([]string{"e", "se", "se_ca", brokenCategory, "se_ac", "buy", "eid", eid(n)}, more...)...)
}

func TestBadRowsAreGroupedByCause(t *testing.T) {
	t.Parallel()
	w := newForgetWorld(t)
	for i := range 5 {
		w.send(post(morning.Add(time.Duration(i)*time.Minute), "", broken(i), page("eid", eid(100+i))))
	}
	w.send(post(morning, "", page("eid", eid(50), "tna", longText(1))))
	all, err := w.history.BadList(t.Context(), BadSelect{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if all.Rows != 6 || len(all.Causes) != 2 || all.Causes[0].Rows != 5 || all.Causes[1].Rows != 1 {
		t.Fatalf("%+v", all)
	}
	first := all.Causes[0]
	if !first.First.Equal(morning) || !first.Last.Equal(morning.Add(4*time.Minute)) || w.badRows()[first.Example].Schema != first.Schema {
		t.Errorf("%+v", first)
	}
	for name, test := range map[string]struct {
		spec BadSelect
		rows int64
	}{
		"schema":       {BadSelect{Schema: "Schema_Violations"}, 5},
		"other schema": {BadSelect{Schema: "adapter"}, 0},
		"cause":        {BadSelect{Cause: strings.ToUpper(all.Causes[1].Cause)}, 1},
		"from":         {BadSelect{From: morning.Add(3 * time.Minute)}, 2},
		"to":           {BadSelect{To: morning.Add(time.Minute)}, 2},
		"id":           {BadSelect{IDs: []string{first.Example}}, 1},
	} {
		got, err := w.history.BadList(t.Context(), test.spec, nil)
		if err != nil || got.Rows != test.rows {
			t.Errorf("%s: %d rows, %v; want %d", name, got.Rows, err, test.rows)
		}
	}
}

func TestCausesAreBounded(t *testing.T) {
	t.Parallel()
	causes := map[causeKey]*BadCause{}
	for i := range maxCauses + 500 {
		row := event.BadRow{ID: fmt.Sprint(i), Time: morning}
		count(causes, causeKey{cause: fmt.Sprint("cause ", i)}, &row)
	}
	if len(causes) != maxCauses+1 || causes[causeKey{cause: otherCauses}].Rows != 500 {
		t.Errorf("%d causes", len(causes))
	}
}

func TestBadRowIsShown(t *testing.T) {
	t.Parallel()
	w := newForgetWorld(t)
	record := post(morning, "", page("eid", eid(1)), broken(2))
	w.send(record)
	var id string
	for id = range w.badRows() {
	}
	got, err := w.history.BadShow(t.Context(), BadShowSpec{ID: id}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.Index != 1 || string(got.Record) != string(record) || got.Payload == nil || *got.Payload.Path != "/com.snowplowanalytics.snowplow/tp2" ||
		!strings.Contains(*got.Payload.Body, eid(2)) || got.Payload.Querystring != nil || got.Now.Outcome != Fails || got.Now.Cause != got.Cause {
		t.Errorf("%+v", got)
	}
	if _, err := json.Marshal(got); err != nil {
		t.Error(err)
	}
	w.enricher.lifted.Store(true)
	if got, err = w.history.BadShow(t.Context(), BadShowSpec{ID: id}, nil); err != nil || got.Now.Outcome != Passes ||
		!cmp.Equal(got.Now.Events, []string{eid(2)}) {
		t.Errorf("%+v, %v", got.Now, err)
	}
	w.send(record)
	if got, err = w.history.BadShow(t.Context(), BadShowSpec{ID: id}, nil); err != nil || got.Now.Outcome != Settled {
		t.Errorf("%+v, %v", got.Now, err)
	}
	if _, err := w.history.BadShow(t.Context(), BadShowSpec{ID: eid(9)}, nil); !errors.Is(err, ErrNoBadRow) {
		t.Errorf("unknown id: %v", err)
	}
	if _, err := w.history.BadShow(t.Context(), BadShowSpec{}, nil); !errors.Is(err, ErrNoBadRow) {
		t.Errorf("no id: %v", err)
	}
}

func retryBad(t *testing.T, w *world, spec BadRetrySpec) BadRetryReport {
	t.Helper()
	report, err := w.history.BadRetry(t.Context(), spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	if report.Rows != report.Pass+report.Settled+report.Fail+report.Forgotten+report.Stuck {
		t.Errorf("the sum is wrong: %+v", report)
	}
	return report
}

func TestRetryStoresWhatPassesAndKeepsWhatFails(t *testing.T) {
	t.Parallel()
	w := newForgetWorld(t)
	both := post(morning, "", page("eid", eid(1)), broken(2), broken(3, "tna", longText(1)), broken(4))
	w.send(both, post(morning, "", broken(5)), post(morning, "", page("eid", eid(6), "tna", longText(2))))
	before := w.badRows()
	if len(before) != 5 {
		t.Fatalf("%d bad rows", len(before))
	}
	w.enricher.lifted.Store(true)
	preview := retryBad(t, w, BadRetrySpec{Preview: true})
	if preview.Pass != 3 || preview.Fail != 2 || preview.Records != 2 || len(w.badRows()) != 5 || len(w.raw()) != 3 {
		t.Fatalf("preview: %+v", preview)
	}
	done := retryBad(t, w, BadRetrySpec{})
	if done.Pass != 3 || done.Fail != 2 || done.Records != 2 || done.Deleted != 3 {
		t.Fatalf("retry: %+v", done)
	}
	raw := w.raw()
	if len(raw) != 5 {
		t.Fatalf("%d records on the bus, want two more than 3", len(raw))
	}
	for _, record := range raw[3:] {
		if string(record) != string(both) && string(record) != string(post(morning, "", broken(5))) {
			t.Error("a record was not published as it was stored")
		}
	}
	if n := w.known(eid(1), eid(2), eid(4), eid(5)); n != 4 {
		t.Errorf("%d of 4 events are stored", n)
	}
	w.consume() // the consumers find nothing new
	after := w.badRows()
	if len(after) != 2 {
		t.Errorf("%d bad rows are left, want 2", len(after))
	}
	for id, row := range after {
		if diff := cmp.Diff(before[id], row); diff != "" {
			t.Errorf("a row that fails again was changed: %s", diff)
		}
	}
	if again := retryBad(t, w, BadRetrySpec{}); again.Rows != 2 || again.Fail != 2 || again.Records != 0 || len(w.raw()) != 5 {
		t.Errorf("again: %+v", again)
	}
}

func TestRetryOfAWholeRecord(t *testing.T) {
	t.Parallel()
	w := newForgetWorld(t)
	record := post(morning, "", page("eid", eid(1)), page("eid", eid(2), "tna", longText(1)), page("eid", eid(3)))
	id := event.NewRecordID(record)
	whole := event.BadRow{
		ID: event.BadRowID(id, event.WholeRecord), Record: id, Index: event.WholeRecord, Time: morning,
		Schema: store.GenericError, Failure: []byte(`{"errors":["enrichment panicked: a defect"]}`), Payload: record,
	}
	if _, err := w.db.Insert(t.Context(), nil, []event.BadRow{whole}); err != nil {
		t.Fatal(err)
	}
	got := retryBad(t, w, BadRetrySpec{})
	rows := w.badRows()
	if got.Pass != 1 || got.Records != 1 || w.known(eid(1), eid(3)) != 2 || len(rows) != 1 || rows[event.BadRowID(id, 1)].Index != 1 {
		t.Errorf("%+v, left: %v", got, rows)
	}
}

func TestRowsWhoseEventIsStoredAreSettled(t *testing.T) {
	t.Parallel()
	w := newForgetWorld(t)
	w.send(post(morning, "", broken(1)), post(morning, "", broken(2)))
	w.enricher.lifted.Store(true)
	w.send(post(morning.Add(time.Minute), "", broken(1)), // the tracker's own resend
		post(morning.Add(time.Minute), "", broken(2, "se_la", "other content")))
	for _, preview := range []bool{true, false} {
		got := retryBad(t, w, BadRetrySpec{Preview: preview})
		if got.Settled != 1 || got.Fail != 1 || got.Records != 0 || len(w.raw()) != 4 {
			t.Errorf("preview %v: %+v", preview, got)
		}
	}
	if rows := w.badRows(); len(rows) != 1 {
		t.Errorf("%d rows are left, want the one with other content", len(rows))
	}
}

func TestRowsThatTheDatabaseRefusedFailAgain(t *testing.T) {
	t.Parallel()
	w := newForgetWorld(t)
	w.send(post(morning, "", page("eid", eid(1), "page", "one")), post(morning.Add(time.Second), "", page("eid", eid(1), "page", "two")))
	for _, preview := range []bool{true, false} {
		got := retryBad(t, w, BadRetrySpec{Preview: preview})
		if got.Rows != 1 || got.Fail != 1 || got.Records != 0 || len(w.raw()) != 2 || len(got.Causes[0].Now) != 0 {
			t.Errorf("preview %v: %+v", preview, got)
		}
	}
}

func TestWhatTheCollectorRefusedIsStuck(t *testing.T) {
	t.Parallel()
	w := newForgetWorld(t)
	door := []byte(`{"schema":"iglu:com.snowplowanalytics.snowplow.badrows/size_violation/jsonschema/1-0-0","data":{"failure":{"timestamp":"2026-11-22T09:00:00Z","maximumAllowedSizeBytes":1},"payload":"x","processor":{}}}`)
	id := event.NewRecordID(door)
	row := event.BadRow{
		ID: event.BadRowID(id, -1), Record: id, Index: -1, Time: morning, Failure: []byte(`{"maximumAllowedSizeBytes":1}`), Payload: door,
		Schema: "iglu:com.snowplowanalytics.snowplow.badrows/size_violation/jsonschema/1-0-0",
	}
	thrift := []byte("no thrift")
	id = event.NewRecordID(thrift)
	other := event.BadRow{
		ID: event.BadRowID(id, -1), Record: id, Index: -1, Time: morning, Failure: []byte(`{}`), Payload: thrift,
		Schema: snowplow.PayloadFormatViolation,
	}
	line := []byte("a line\tof an import")
	id = event.NewRecordID(line)
	imported := event.BadRow{
		ID: event.BadRowID(id, 0), Record: id, Time: morning, Failure: []byte(`{}`), Payload: line, Schema: snowplow.LoaderParsingError,
	}
	if _, err := w.db.Insert(t.Context(), nil, []event.BadRow{row, other, imported}); err != nil {
		t.Fatal(err)
	}
	got := retryBad(t, w, BadRetrySpec{})
	if got.Stuck != 2 || got.Fail != 1 || len(w.badRows()) != 3 {
		t.Errorf("%+v", got)
	}
	notes := map[string]string{row.Schema: stuckDoor, imported.Schema: stuckLine}
	for _, c := range got.Causes {
		if c.Note != notes[c.Schema] {
			t.Errorf("%+v", c)
		}
	}
}

func TestRetrySelects(t *testing.T) {
	t.Parallel()
	w := newForgetWorld(t)
	var ids []string
	for i := range 700 { // more than are read at a time
		w.publish(post(morning.Add(time.Duration(i)*time.Second), "", broken(i), page("eid", eid(1000+i), "tna", longText(i))))
	}
	w.consume()
	w.enricher.lifted.Store(true)
	list, err := w.history.BadList(t.Context(), BadSelect{}, nil)
	if err != nil || len(list.Causes) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	for id := range w.badRows() {
		ids = append(ids, id)
	}
	one := retryBad(t, w, BadRetrySpec{BadSelect: BadSelect{To: morning.Add(2 * time.Second)}})
	if one.Rows != 4 || one.Pass != 2 || one.Records != 2 {
		t.Errorf("by time: %+v", one)
	}
	var lookup string
	for _, c := range list.Causes {
		if strings.Contains(c.Schema, "schema_violations") {
			lookup = c.Cause
		}
	}
	most := retryBad(t, w, BadRetrySpec{BadSelect: BadSelect{Cause: lookup}})
	if most.Rows != 698 || most.Pass != 698 || most.Records != 698 || len(w.badRows()) != 700 {
		t.Errorf("by cause: %+v, %d rows left", most, len(w.badRows()))
	}
	last := retryBad(t, w, BadRetrySpec{BadSelect: BadSelect{IDs: ids}})
	if last.Rows != 700 || last.Fail != 700 {
		t.Errorf("by id: %+v", last)
	}
}

// A retry must not bring somebody back onto the bus whom a forgetting has not taken
// out of the bad rows yet.
func TestRetryLeavesForgottenPeopleOut(t *testing.T) {
	t.Parallel()
	w := newForgetWorld(t)
	w.send(post(morning, "", broken(1, "uid", "ann"), broken(2, "uid", "bob")), post(morning, "", broken(3, "uid", "ann")))
	if _, err := w.set.Add([]string{"ann"}, noonish); err != nil {
		t.Fatal(err)
	}
	w.enricher.lifted.Store(true)
	got := retryBad(t, w, BadRetrySpec{})
	raw := w.raw()
	if got.Pass != 1 || got.Forgotten != 2 || len(raw) != 3 || w.known(eid(1), eid(2), eid(3)) != 1 {
		t.Fatalf("%+v, %d records", got, len(raw))
	}
	if strings.Contains(string(raw[2]), "ann") || !strings.Contains(string(raw[2]), "bob") {
		t.Errorf("published: %q", raw[2])
	}
	w.consume()
	w.reconcile()
	if len(w.badRows()) != 0 || w.known(eid(2)) != 1 {
		t.Errorf("%d bad rows are left", len(w.badRows()))
	}
}

// The key of what is published is nobody's who was forgotten.
func TestRetryKeysByWhoStays(t *testing.T) {
	t.Parallel()
	w := newForgetWorld(t)
	ann, bob := networkID(1), networkID(2)
	w.send(post(morning, ann, broken(1), broken(2, "tnuid", bob)))
	if _, err := w.set.Add([]string{ann}, noonish); err != nil {
		t.Fatal(err)
	}
	w.enricher.lifted.Store(true)
	published := &keys{Publisher: w.bus}
	w.change = func(o *Options) { o.Bus = published }
	w.remake()
	if got := retryBad(t, w, BadRetrySpec{}); got.Pass != 1 || len(published.seen) != 1 {
		t.Fatalf("%+v, keys %q", got, published.seen)
	}
	if published.seen[0] == ann {
		t.Errorf("the key is %s", ann)
	}
}

// keys is a bus that remembers the keys of what it gets.
type keys struct {
	bus.Publisher
	seen []string
}

func (k *keys) Publish(ctx context.Context, msgs ...bus.Message) error {
	for _, m := range msgs {
		k.seen = append(k.seen, string(m.Key))
	}
	return k.Publisher.Publish(ctx, msgs...)
}

// full is a bus that has no room for some time.
type full struct {
	bus.Publisher
	left atomic.Int64
}

func (f *full) Publish(ctx context.Context, msgs ...bus.Message) error {
	if f.left.Add(-1) >= 0 {
		return fmt.Errorf("test: %w", bus.ErrFull)
	}
	return f.Publisher.Publish(ctx, msgs...)
}

func TestRetryWaitsForAFullBus(t *testing.T) {
	t.Parallel()
	w := newForgetWorld(t)
	w.send(post(morning, "", broken(1)))
	w.enricher.lifted.Store(true)
	f := &full{Publisher: w.bus}
	f.left.Store(2)
	w.change = func(o *Options) { o.Bus = f }
	w.remake()
	if got := retryBad(t, w, BadRetrySpec{}); got.Pass != 1 || got.Records != 1 || len(w.badRows()) != 0 {
		t.Errorf("%+v", got)
	}
	w.consume()
	w.enricher.lifted.Store(false)
	w.send(post(morning, "", broken(2)))
	w.enricher.lifted.Store(true)
	f.left.Store(1 << 40)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := w.history.BadRetry(ctx, BadRetrySpec{}, nil); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, bus.ErrFull) {
		t.Errorf("%v", err)
	}
	if len(w.badRows()) != 1 {
		t.Error("a bad row went before its record was published")
	}
}

// frail is a database that fails at the nth call that writes.
type frail struct {
	store.Database
	left atomic.Int64
}

var errCrash = errors.New("crash")

func (f *frail) Insert(ctx context.Context, rows []store.Row, bad []event.BadRow) (store.Inserted, error) {
	if f.left.Add(-1) < 0 {
		return store.Inserted{}, errCrash
	}
	return f.Database.Insert(ctx, rows, bad)
}

func (f *frail) DeleteBad(ctx context.Context, ids []string) (int, error) {
	if f.left.Add(-1) < 0 {
		return 0, errCrash
	}
	return f.Database.DeleteBad(ctx, ids)
}

func TestRetryThatCrashesIsRepeated(t *testing.T) {
	t.Parallel()
	for calls := range 8 {
		w := newForgetWorld(t)
		w.send(post(morning, "", page("eid", eid(1)), broken(2), broken(3)), post(morning, "", broken(4)))
		w.enricher.lifted.Store(true)
		f := &frail{Database: w.db}
		f.left.Store(int64(calls))
		w.change = func(o *Options) { o.Database = f }
		w.remake()
		_, err := w.history.BadRetry(t.Context(), BadRetrySpec{}, nil)
		if err != nil && !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
		w.consume()
		f.left.Store(1 << 40)
		retryBad(t, w, BadRetrySpec{})
		w.consume()
		status, statusErr := w.db.Status(t.Context())
		if statusErr != nil || status.Events != 4 || status.Bad != 0 {
			t.Errorf("crash at call %d: %+v", calls, status)
		}
		if err == nil && calls == 0 {
			t.Error("nothing crashed")
		}
	}
}

func TestAForgettingWaitsForWhoHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &History{}
		a, b := h.hold(), h.hold()
		flushed := false
		if err := a.checkpoint(func() error { t.Error("nobody waits"); return nil }); err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { done <- h.landed(t.Context()) }()
		synctest.Wait()
		if err := a.checkpoint(func() error { flushed = true; return nil }); err != nil || !flushed {
			t.Fatal("a did not flush")
		}
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("did not wait for b")
		default:
		}
		if err := b.checkpoint(func() error { return errCrash }); !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
		b.release()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := h.landed(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		a.release()
	})
}
