package recorder

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidwall/gjson"

	"furrow/internal/bus"
	"furrow/internal/enrich"
	"furrow/internal/event"
	"furrow/internal/snowplow"
	"furrow/internal/store"
)

// feed turns messages into results for both groups.
type feed struct {
	enricher Enricher
	memo     *memo // nil: nothing is shared
	now      func() time.Time
	log      *slog.Logger
	metrics  *metrics
}

// fewMessages is up to how many are enriched without other goroutines.
const fewMessages = 4

// enrich returns a result for each message, in order. It fails only when ctx ends.
func (f *feed) enrich(ctx context.Context, who side, b bus.Batch) ([]enrich.Result, error) {
	results := make([]enrich.Result, len(b.Messages))
	workers := min(runtime.GOMAXPROCS(0), len(b.Messages)/fewMessages)
	var next atomic.Int64
	work := func() {
		for ctx.Err() == nil {
			i := int(next.Add(1)) - 1
			if i >= len(results) {
				return
			}
			m := &b.Messages[i]
			if m.Stream == bus.Bad {
				results[i] = f.door(m)
				continue
			}
			result, err := f.share(ctx, who, b.Partition, m)
			if err != nil {
				return // ctx has ended
			}
			results[i] = result
		}
	}
	var wg sync.WaitGroup
	for range workers - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	if f.memo != nil {
		f.memo.passed(who, b.Partition, b.Last)
	}
	return results, ctx.Err()
}

// share enriches a record, or takes the result of the other group.
func (f *feed) share(ctx context.Context, who side, partition string, m *bus.Message) (enrich.Result, error) {
	if f.memo == nil {
		return f.judge(ctx, m.Value)
	}
	e, mine := f.memo.claim(who, place{partition, m.Position}, int64(len(m.Value)))
	if e == nil {
		return f.judge(ctx, m.Value)
	}
	if mine {
		result, err := f.judge(ctx, m.Value)
		f.memo.fill(e, result, resultBytes(m.Value, &result), err == nil)
		return result, err
	}
	select {
	case <-ctx.Done():
		return enrich.Result{}, ctx.Err()
	case <-e.ready:
	}
	if !e.ok {
		return f.judge(ctx, m.Value)
	}
	f.metrics.shared.Inc()
	return e.result, nil
}

// judge enriches one record. Enrichment panics on no input; if a defect makes it,
// the record becomes a bad row rather than end the process again at every start.
func (f *feed) judge(ctx context.Context, record []byte) (result enrich.Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			id := event.NewRecordID(record)
			if f.enricher.Forgets(record, collected(record)) {
				result, err = enrich.Result{RecordID: id, Forgotten: 1}, nil
				return
			}
			now := f.now()
			f.log.Error("enrichment panicked, the record is kept as a bad row", "record", id.String(), "panic", fmt.Sprint(p))
			result, err = enrich.Result{RecordID: id, Record: record, Bad: []event.BadRow{{
				ID: event.BadRowID(id, event.WholeRecord), Record: id, Index: event.WholeRecord, Time: now,
				Schema: store.GenericError, Failure: genericFailure(now, fmt.Sprintf("enrichment panicked: %v", p)),
				Payload: bytes.Clone(record),
			}}}, nil
		}
	}()
	f.metrics.enriched.Inc()
	return f.enricher.Do(ctx, record, f.now())
}

// collected returns the time in a payload that is not understood otherwise, the zero
// time when there is none.
func collected(record []byte) time.Time {
	payload, err := snowplow.DecodePayload(record)
	if err != nil {
		return time.Time{}
	}
	return payload.Time()
}

// door reads a bad row that the collector made, unless it tells of somebody who is
// to be forgotten.
func (f *feed) door(m *bus.Message) enrich.Result {
	if f.enricher.Forgets(m.Value, m.Time) {
		return enrich.Result{RecordID: event.NewRecordID(m.Value), Forgotten: 1}
	}
	return fromDoor(m)
}

// fromDoor reads a bad row that the collector made. Its record is the message: the
// collector had no payload to keep.
func fromDoor(m *bus.Message) enrich.Result {
	id := event.NewRecordID(m.Value)
	row := event.BadRow{
		ID: event.BadRowID(id, event.WholeRecord), Record: id, Index: event.WholeRecord,
		Time: m.Time, Payload: m.Value,
	}
	schema, failure := "", gjson.Result{}
	if gjson.ValidBytes(m.Value) {
		schema = gjson.GetBytes(m.Value, "schema").String()
		failure = gjson.GetBytes(m.Value, "data.failure")
	}
	if schema != "" && failure.IsObject() {
		var compact bytes.Buffer
		if json.Compact(&compact, []byte(failure.Raw)) == nil {
			row.Schema, row.Failure = schema, compact.Bytes()
		}
	}
	if row.Schema == "" {
		row.Schema = store.GenericError
		row.Failure = genericFailure(m.Time, "the bad row of the collector cannot be read")
	}
	return enrich.Result{RecordID: id, Record: m.Value, Bad: []event.BadRow{row}}
}

func genericFailure(at time.Time, reason string) []byte {
	failure, err := json.Marshal(struct {
		Timestamp string   `json:"timestamp"`
		Errors    []string `json:"errors"`
	}{at.UTC().Format("2006-01-02T15:04:05.000Z"), []string{reason}})
	if err != nil {
		return []byte("{}") // strings always marshal
	}
	return failure
}
