package archive

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/parquet-go/parquet-go"

	"furrow/internal/event"
)

// Forget takes people out of all hours up to order.Until. Files that hold nothing
// of theirs stay as they are. Ranges that are still open are not seen: the caller
// commits them first. progress, which may be nil, is told how many hours are done.
// When it returns nil no file of the archive holds what went, not even one that
// counted no more; after an error or a crash the call is to be repeated. A process
// that merges files meanwhile loses its work.
func (a *Archive) Forget(ctx context.Context, order Forgetting, progress func(done, total int)) (Forgotten, error) {
	var sum Forgotten
	if progress == nil {
		progress = func(int, int) {}
	}
	if err := a.prepareForget(ctx); err != nil {
		return sum, err
	}
	hours, err := a.between(ctx, time.Time{}, order.Until)
	if err != nil {
		return sum, err
	}
	progress(0, len(hours))
	for i, h := range hours {
		for {
			err := a.forgetInTurn(ctx, h, order, &sum)
			if err == nil {
				break
			}
			if !errors.Is(err, errBusy) && !errors.Is(err, errLost) {
				return sum, err
			}
			if err := a.prepareForget(ctx); err != nil {
				return sum, err
			}
		}
		progress(i+1, len(hours))
	}
	return sum, nil
}

// prepareForget ends what others do, and looks for hours that they wrote.
func (a *Archive) prepareForget(ctx context.Context) error {
	release, err := a.gens.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := a.recover(ctx, true); err != nil {
		return err
	}
	return a.takeStock(ctx)
}

func (a *Archive) forgetInTurn(ctx context.Context, h hour, order Forgetting, sum *Forgotten) error {
	release, err := a.gens.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	before, err := a.files(ctx, h, rawSet, eventSet, badSet)
	if err != nil {
		return err
	}
	f := forgetting{archive: a, order: order}
	for d := range numDatasets {
		for _, file := range before.live[d] {
			if err := f.look(ctx, file); err != nil {
				return err
			}
		}
	}
	if len(f.found) == 0 {
		if len(before.dead) > 0 || before.state.open > 0 {
			_, err = a.sweep(ctx, h, true)
		}
		return err
	}
	inputs := make([]liveFile, len(f.found))
	for i := range f.found {
		inputs[i] = f.found[i].liveFile
	}
	err = a.generate(ctx, before, "forget", inputs, func(g *generation) error { return f.build(ctx, g) })
	if err != nil {
		return err
	}
	sum.Files += int64(len(inputs))
	sum.Events += f.sum.Events
	sum.BadRows += f.sum.BadRows
	sum.Records += f.sum.Records
	a.log.Info("people taken out of an archive hour", "hour", h.time(), "files", len(inputs))
	_, err = a.sweep(ctx, h, true)
	return err
}

// forgetting is the work in one hour.
type forgetting struct {
	archive *Archive
	order   Forgetting
	found   []foundFile
	sum     Forgotten
}

// foundFile is a file with rows that go or change.
type foundFile struct {
	liveFile
	rows bitmap
}

// look finds the rows of a file that go or change.
func (f *forgetting) look(ctx context.Context, file liveFile) error {
	var rows bitmap
	var err error
	switch file.set {
	case eventSet:
		rows, err = f.events(ctx, file)
	case rawSet:
		row := int64(0)
		err = readFile(ctx, f.archive, file.name, func(c *rawColumns) error {
			id, err := parseRecordID(c.ID, file.name)
			if err != nil {
				return err
			}
			if _, _, changed := f.order.Record(id, c.Record); changed {
				rows.set(row)
			}
			row++
			return nil
		})
	default:
		row := int64(0)
		var last event.RecordID
		changed := false
		err = f.archive.eachBad(ctx, file.name, func(b event.BadRow) error {
			if row == 0 || b.Record != last {
				last = b.Record
				_, _, changed = f.order.Record(b.Record, b.Payload)
			}
			if changed {
				rows.set(row)
			}
			row++
			return nil
		})
	}
	if err == nil && len(rows) > 0 {
		f.found = append(f.found, foundFile{file, rows})
	}
	return err
}

// events marks the events that go.
func (f *forgetting) events(ctx context.Context, file liveFile) (bitmap, error) {
	in, err := f.archive.openFile(ctx, file.name)
	if err != nil {
		return nil, err
	}
	defer in.close()
	fields := []event.Field{event.UserID, event.DomainUserID, event.NetworkUserID, event.CollectorTstamp}
	names := make([]string, len(fields))
	for i, field := range fields {
		names[i] = field.Name()
	}
	var who [3][copyRows]string
	var rows bitmap
	row := int64(0)
	err = in.scan(ctx, in.columnsOf(names...), func(c *cursor, n int) error {
		for i := range who {
			cells := &who[i]
			if err := c.cells(i, n, func(j int, v *parquet.Value) {
				if b := v.ByteArray(); j > 0 && cells[j-1] == string(b) {
					cells[j] = cells[j-1]
				} else {
					cells[j] = string(b)
				}
			}); err != nil {
				return err
			}
		}
		return c.cells(len(who), n, func(j int, v *parquet.Value) {
			if f.order.Event(who[0][j], who[1][j], who[2][j], time.UnixMicro(v.Int64()).UTC()) {
				rows.set(row)
				f.sum.Events++
			}
			row++
		})
	})
	return rows, err
}

// build writes the files anew, without what goes.
func (f *forgetting) build(ctx context.Context, g *generation) error {
	for _, file := range f.found {
		var err error
		switch file.set {
		case eventSet:
			err = f.rewriteEvents(ctx, g, file)
		case rawSet:
			err = f.rewriteRaw(ctx, g, file)
		default:
			err = f.rewriteBad(ctx, g, file)
		}
		if err != nil {
			return err
		}
	}
	return f.listAgain(ctx, g)
}

// listAgain writes the list of ids of what is merged, without what went.
func (f *forgetting) listAgain(ctx context.Context, g *generation) error {
	s := &sieve{archive: f.archive, set: eventSet, hour: g.hour}
	for _, file := range g.verdict().Files {
		if file.Set == eventSet.String() && file.For == "" {
			s.stay = append(s.stay, liveFile{name: g.hour.folder(eventSet) + file.Name, set: eventSet, rows: file.Rows, size: file.Bytes})
		}
	}
	if len(s.stay) == 0 {
		return nil
	}
	return f.archive.listIDs(ctx, g, s)
}

// outletFor returns where the rewritten rows of a file go.
func outletFor[T any](ctx context.Context, g *generation, file foundFile, fill filler[T]) outlet[T] {
	o := outlet[T]{ctx: ctx, g: g, set: file.set, imported: file.imported(), stands: file.stands, fill: fill, whole: true}
	if file.stands == "" {
		o.onPlaced = func(out genFile) { g.instead[file.set.String()+file.base()] = out }
	}
	return o
}

func (f *forgetting) rewriteEvents(ctx context.Context, g *generation, file foundFile) error {
	o := outletFor[struct{}](ctx, g, file, nil)
	defer o.discard()
	if err := copyFile(ctx, &o, file.name, file.rows, 0); err != nil {
		return err
	}
	return o.end()
}

func (f *forgetting) rewriteRaw(ctx context.Context, g *generation, file foundFile) error {
	o := outletFor(ctx, g, file, fillRaw)
	defer o.discard()
	row := int64(-1)
	err := readFile(ctx, f.archive, file.name, func(c *rawColumns) error {
		row++
		id, err := parseRecordID(c.ID, file.name)
		if err != nil {
			return err
		}
		t := time.UnixMicro(c.Time).UTC()
		if file.rows.has(row) {
			kept, _, _ := f.order.Record(id, c.Record)
			f.sum.Records++
			if kept == nil {
				return nil
			}
			c.Record = kept
			// The key may be an identifier of somebody who goes.
			if key := string(c.Key); f.order.Event(key, key, key, t) {
				c.Key = nil
			}
		}
		w, err := o.writer()
		if err != nil {
			return err
		}
		return w.add(rawRow{id: id, ms: t.UnixMilli(), key: c.Key, record: c.Record}, len(c.Record)+len(c.Key))
	})
	if err != nil {
		return err
	}
	return o.end()
}

func (f *forgetting) rewriteBad(ctx context.Context, g *generation, file foundFile) error {
	o := &badOutlet{outlet: outletFor(ctx, g, file, fillBad)}
	defer o.discard()
	row := int64(-1)
	var last event.RecordID
	var kept []byte
	var goes func(int) bool
	err := f.archive.eachBad(ctx, file.name, func(b event.BadRow) error {
		row++
		if !file.rows.has(row) {
			return o.add(b)
		}
		if goes == nil || b.Record != last {
			last = b.Record
			kept, goes, _ = f.order.Record(b.Record, b.Payload)
			f.sum.Records++
			if goes == nil {
				goes = func(int) bool { return kept == nil }
			}
		}
		if kept == nil || goes(b.Index) {
			f.sum.BadRows++
			return nil
		}
		b.Payload = kept
		return o.add(b)
	})
	if err != nil {
		return err
	}
	return o.end()
}

func parseRecordID(s, name string) (id event.RecordID, err error) {
	if len(s) != hex.EncodedLen(len(id)) {
		return id, fmt.Errorf("archive: %s: %q is no record id", name, s)
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return id, fmt.Errorf("archive: %s: %q is no record id", name, s)
	}
	return id, nil
}
