package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"furrow/internal/event"
)

const (
	// Each partition takes a dozen locks, of which a server has some thousands.
	pgDaysPerBatch = 32
	pgAttempts     = 8       // at one batch whose rows or partitions had to be seen to
	pgTupleBytes   = 2500    // of a usual event
	pgKeepBytes    = 8 << 20 // memory that is kept for the next batch
)

// pgItem is an event on its way.
type pgItem struct {
	id      [16]byte
	at      int     // position among the rows given
	day     pgDay   // of its collector time
	millis  int32   // and since midnight
	hash    int64   // of its content
	fresh   bool    // its id was not known
	verdict verdict // what became of it
}

type verdict uint8

const (
	pending verdict = iota
	stored
	double
	conflict
)

// pgBatch is one call of Insert.
type pgBatch struct {
	rows    []Row
	bad     []event.BadRow // given, and made
	refused int
	items   []pgItem

	// While the ids are being claimed, another goroutine encodes the rows.
	encoded chan struct{} // closed when these are complete
	tuples  tuples
	spans   [][2]int      // of each row's tuple
	unfit   map[int]error // why a row cannot be one
}

var pgBatches = sync.Pool{New: func() any { return new(pgBatch) }}

// Insert stores events and bad rows in one transaction, or, when they are of very
// many days, in a few. It returns when they are durable. On an error nothing was
// stored, or a part, or nobody knows; repeating the call doubles nothing.
func (p *Postgres) Insert(ctx context.Context, rows []Row, bad []event.BadRow) (Inserted, error) {
	if len(rows) == 0 && len(bad) == 0 {
		return Inserted{}, nil
	}
	start := time.Now()
	b, ok := pgBatches.Get().(*pgBatch)
	if !ok {
		b = new(pgBatch)
	}
	defer b.done()
	b.prepare(rows, bad)
	go b.encode()
	done, err := p.insert(ctx, b)
	if err != nil {
		p.metrics.failures.Inc()
		return Inserted{}, fmt.Errorf("store: insert %d events and %d bad rows: %w", len(rows), len(bad), err)
	}
	p.metrics.inserted(done, time.Since(start))
	return done, nil
}

// prepare takes from the events what their ids are claimed with. One without an id
// or a day becomes a bad row.
func (b *pgBatch) prepare(rows []Row, bad []event.BadRow) {
	b.rows = rows
	b.bad = append(b.bad[:0], bad...)
	b.refused = 0
	b.items = slices.Grow(b.items[:0], len(rows))
	b.encoded = make(chan struct{})
	b.unfit = nil
	for i, row := range rows {
		id, day, millis, err := place(row.Event)
		if err != nil {
			b.refuse(i, err)
			continue
		}
		b.items = append(b.items, pgItem{id: id, at: i, day: day, millis: millis, hash: contentHash(row.Event)})
	}
	// Everybody inserts ids in this order, so that nobody waits in a circle.
	slices.SortFunc(b.items, func(x, y pgItem) int {
		if c := bytes.Compare(x.id[:], y.id[:]); c != 0 {
			return c
		}
		return x.at - y.at
	})
}

// place returns the id, the day and the millisecond of the day of an event.
func place(e *event.Event) (id [16]byte, day pgDay, millis int32, err error) {
	at := e.Cell(event.CollectorTstamp)
	id, ok := parseUUID(e.ID())
	switch {
	case !e.Has(event.EventID):
		err = missing(event.EventID)
	case !ok:
		err = fmt.Errorf("event_id %q is no UUID", clip(e.ID()))
	case !at.Set:
		err = missing(event.CollectorTstamp)
	case at.Num < dayFirstMillis || at.Num >= dayEndMillis:
		err = fmt.Errorf("collector_tstamp is %d milliseconds from 1970, beyond the years 1 to 9999", at.Num)
	default:
		day = dayOfMillis(at.Num)
		millis = int32(at.Num - int64(day)*dayMillis) //nolint:gosec // less than a day
	}
	return id, day, millis, err
}

// encode makes the tuples of the rows that have a place.
func (b *pgBatch) encode() {
	defer close(b.encoded)
	b.tuples.buf = slices.Grow(b.tuples.buf[:0], len(b.rows)*pgTupleBytes)
	b.spans = slices.Grow(b.spans[:0], len(b.rows))
	for i, row := range b.rows {
		from := len(b.tuples.buf)
		if err := b.tuples.add(row.Event); err != nil {
			if b.unfit == nil {
				b.unfit = map[int]error{}
			}
			b.unfit[i] = err
		}
		b.spans = append(b.spans, [2]int{from, len(b.tuples.buf)})
	}
}

func (b *pgBatch) refuse(at int, reason error) {
	b.refused++
	b.bad = append(b.bad, *badRow(b.rows[at], fmt.Sprintf("the database refuses the event: %v", reason)))
}

// done lets go of the rows, and of memory that was needed for once.
func (b *pgBatch) done() {
	<-b.encoded
	b.rows = nil
	clear(b.bad)
	if cap(b.tuples.buf) <= pgKeepBytes {
		pgBatches.Put(b)
	}
}

// insert stores the batch. The bad rows go with its last transaction, since the
// ones before may add to them.
func (p *Postgres) insert(ctx context.Context, b *pgBatch) (Inserted, error) {
	var done Inserted
	parts := b.byDays()
	for i, items := range parts {
		attempts := 0
		for {
			n, err := p.attempt(ctx, b, items, i == len(parts)-1)
			if err == nil {
				done.Events += n.Events
				done.Doubles += n.Doubles
				done.Conflicts += n.Conflicts
				done.Bad += n.Bad
				done.BadDoubles += n.BadDoubles
				break
			}
			if attempts++; attempts >= pgAttempts {
				return done, err
			}
			if items, err = p.repair(ctx, b, items, err); err != nil {
				return done, err
			}
		}
	}
	done.Refused = b.refused
	return done, nil
}

// byDays cuts the items into groups of few enough days; nearly always it is one.
// All events of an id are in one group.
func (b *pgBatch) byDays() [][]pgItem {
	days := map[pgDay]bool{}
	var parts [][]pgItem
	from := 0
	for i := range b.items {
		days[b.items[i].day] = true
		if len(days) > pgDaysPerBatch && b.items[i].id != b.items[i-1].id {
			parts = append(parts, b.items[from:i])
			from = i
			clear(days)
			days[b.items[i].day] = true
		}
	}
	return append(parts, b.items[from:])
}

// stageError says which rows an error is about.
type stageError struct {
	bad bool // the bad rows, else the events
	err error
}

func (e *stageError) Error() string { return e.err.Error() }
func (e *stageError) Unwrap() error { return e.err }

// repair sees to what kept a transaction from succeeding and can be helped: a
// missing partition, and rows that the database refuses. It returns the items that
// are left, or the error.
func (p *Postgres) repair(ctx context.Context, b *pgBatch, items []pgItem, err error) ([]pgItem, error) {
	if noPartition(err) || errors.Is(err, errVanished) {
		p.forgetDays()
		return items, nil
	}
	if errors.Is(err, errUnfit) {
		return b.without(items, b.unfit), nil
	}
	var stage *stageError
	if !errors.As(err, &stage) || !refusedByPostgres(err) {
		return items, err
	}
	if stage.bad {
		return items, p.mendBad(ctx, b, err)
	}
	var copied []pgItem
	for i := range items {
		if items[i].fresh {
			copied = append(copied, items[i])
		}
	}
	reasons := map[int]error{}
	err = p.culprits(ctx, len(copied), err, bisection{
		try: func(ctx context.Context, c *pgConn, from, to int) error {
			return copyItems(ctx, c, b, copied[from:to])
		},
		found: func(i int, reason error) { reasons[copied[i].at] = reason },
	})
	if err != nil {
		return items, err
	}
	return b.without(items, reasons), nil
}

// without makes bad rows of the items with a reason, and returns the others.
func (b *pgBatch) without(items []pgItem, reasons map[int]error) []pgItem {
	return slices.DeleteFunc(items, func(it pgItem) bool {
		reason, refused := reasons[it.at]
		if refused {
			b.refuse(it.at, reason)
		}
		return refused
	})
}

// errUnfit says that rows of the transaction could not be encoded.
var errUnfit = errors.New("an event does not fit its table")

// ready waits for the tuples, and fails when an item has none.
func (b *pgBatch) ready(items []pgItem) error {
	<-b.encoded
	if b.unfit == nil {
		return nil
	}
	for i := range items {
		if b.unfit[items[i].at] != nil {
			return errUnfit
		}
	}
	return nil
}

// attempt runs the transaction once.
func (p *Postgres) attempt(ctx context.Context, b *pgBatch, items []pgItem, last bool) (Inserted, error) {
	var done Inserted
	if err := p.ensure(ctx, daysOf(items)); err != nil {
		return done, err
	}
	given := len(b.bad) // conflicts are added, and must not be twice after a failure
	err := p.writing(ctx, func(ctx context.Context, c *pgConn) error {
		defer c.rollback(ctx)
		return p.transaction(ctx, c, b, items, last, &done)
	})
	if err != nil {
		b.bad = b.bad[:given]
	}
	return done, err
}

func daysOf(items []pgItem) []pgDay {
	var days []pgDay
	for i := range items {
		if !slices.Contains(days, items[i].day) {
			days = append(days, items[i].day)
		}
	}
	return days
}

func (p *Postgres) transaction(ctx context.Context, c *pgConn, b *pgBatch, items []pgItem, last bool, done *Inserted) error {
	if err := claimIDs(ctx, c, items); err != nil {
		return err
	}
	if err := settle(ctx, c, items); err != nil {
		return err
	}
	if err := b.ready(items); err != nil {
		return err
	}
	for i := range items {
		switch items[i].verdict {
		case stored:
			done.Events++
		case double:
			done.Doubles++
		default:
			done.Conflicts++
			row := b.rows[items[i].at]
			b.bad = append(b.bad, *badRow(row, fmt.Sprintf("event_id %s is already stored with other content", row.Event.ID())))
		}
	}
	if done.Events > 0 {
		if err := copyItems(ctx, c, b, items); err != nil {
			return &stageError{err: err}
		}
	}
	if last && len(b.bad) > 0 {
		n, err := insertBadRows(ctx, c, b.bad)
		if err != nil {
			return &stageError{bad: true, err: err}
		}
		done.Bad, done.BadDoubles = n, len(b.bad)-n
	}
	return p.finish(ctx, c, items, done.Bad)
}

const insertIDs = `INSERT INTO atomic.event_ids (event_id, day, day_millis, content_hash)
SELECT id, date '1970-01-01' + day, millis, hash
FROM unnest($1::uuid[], $2::int4[], $3::int4[], $4::int8[]) AS given (id, day, millis, hash)
ON CONFLICT (event_id) DO NOTHING RETURNING event_id`

// claimIDs begins the transaction, inserts the ids that are new and marks them. It
// waits for transactions that are inserting the same ids.
func claimIDs(ctx context.Context, c *pgConn, items []pgItem) error {
	ids := make([][16]byte, len(items))
	days, millis, hashes := make([]int32, len(items)), make([]int32, len(items)), make([]int64, len(items))
	for i := range items {
		it := &items[i]
		ids[i], days[i], millis[i], hashes[i] = it.id, int32(it.day), it.millis, it.hash
		it.fresh, it.verdict = false, pending
	}
	var batch pgx.Batch
	batch.Queue("BEGIN")
	if len(items) > 0 {
		batch.Queue(insertIDs, ids, days, millis, hashes)
	}
	results := c.SendBatch(ctx, &batch)
	if _, err := results.Exec(); err != nil {
		return errors.Join(err, results.Close())
	}
	if len(items) == 0 {
		return results.Close()
	}
	rows, err := results.Query()
	if err != nil {
		return errors.Join(err, results.Close())
	}
	defer rows.Close()
	for rows.Next() {
		raw := rows.RawValues()[0]
		i, found := slices.BinarySearchFunc(items, raw, func(it pgItem, id []byte) int { return bytes.Compare(it.id[:], id) })
		if !found {
			rows.Close()
			return errors.Join(fmt.Errorf("the server returned id %x, which is not of the batch", raw), results.Close())
		}
		items[i].fresh = true
		items[i].verdict = stored
	}
	return errors.Join(rows.Err(), results.Close())
}

// errVanished is the answer to an id that was there and is not any more, because
// its event was forgotten or its day ended meanwhile.
var errVanished = errors.New("an event id vanished while it was compared")

// settle decides about the items whose id was there: in the table, or before them
// in the batch.
func settle(ctx context.Context, c *pgConn, items []pgItem) error {
	var known [][16]byte
	for i := range items {
		if items[i].verdict == pending && (i == 0 || items[i-1].id != items[i].id) {
			known = append(known, items[i].id)
		}
	}
	hashes, err := contentOf(ctx, c, known)
	if err != nil {
		return err
	}
	var hash int64
	for i := range items {
		it := &items[i]
		switch {
		case it.verdict == stored:
			hash = it.hash
			continue
		case i == 0 || items[i-1].id != it.id:
			there := false
			if hash, there = hashes[it.id]; !there {
				return errVanished
			}
		}
		if it.verdict = conflict; sameContent(hash, it.hash) {
			it.verdict = double
		}
	}
	return nil
}

func contentOf(ctx context.Context, c *pgConn, ids [][16]byte) (map[[16]byte]int64, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	rows, err := c.Query(ctx, "SELECT event_id, content_hash FROM atomic.event_ids WHERE event_id = ANY ($1)", ids)
	if err != nil {
		return nil, err
	}
	out := make(map[[16]byte]int64, len(ids))
	var id [16]byte
	var hash int64
	_, err = pgx.ForEachRow(rows, []any{&id, &hash}, func() error {
		out[id] = hash
		return nil
	})
	return out, err
}
