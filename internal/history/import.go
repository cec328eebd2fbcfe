package history

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"furrow/internal/enrich"
	"furrow/internal/event"
	"furrow/internal/snowplow"
	"furrow/internal/store"
)

// ImportSpec says what to import and where to. Name and Size tell one source from
// another: a source that is given again, under the same two, doubles nothing.
type ImportSpec struct {
	Name       string `json:"name"`           // such as a path or an s3:// address
	Size       int64  `json:"size,omitempty"` // bytes of the source as it is stored; 0 when unknown
	NoDatabase bool   `json:"noDatabase,omitempty"`
	NoArchive  bool   `json:"noArchive,omitempty"`
	NoRebuild  bool   `json:"noRebuild,omitempty"` // the recommender does not learn anew at the end
}

// sizeViolation is the schema of the bad row of a line that is too long.
const sizeViolation = "iglu:com.snowplowanalytics.snowplow.badrows/size_violation/jsonschema/1-0-0"

// ImportReport says what an import did. One that went on after an end before its
// time counts what was done before, too; what was stored since its last note is
// then among the doubles.
type ImportReport struct {
	Name        string    `json:"name"`
	ResumedFrom int64     `json:"resumedFrom,omitempty"` // lines that an earlier run had done
	Lines       int64     `json:"lines"`
	Events      int64     `json:"events"`         // lines that are events, forgotten ones left out
	New         int64     `json:"new"`            // events that the database had not
	Doubles     int64     `json:"doubles"`        // events that it had
	Conflicts   int64     `json:"conflicts"`      // events that it had with other content, now bad rows
	Refused     int64     `json:"refused"`        // events that it cannot hold, now bad rows
	Bad         int64     `json:"bad"`            // lines that are no events
	NewBad      int64     `json:"newBad"`         // bad rows that the database had not
	Forgotten   int64     `json:"forgotten"`      // events left out because their person was forgotten
	Archived    int64     `json:"archived"`       // lines that went into the archive; an earlier run's are there already
	First       time.Time `json:"first,omitzero"` // collector times of the events
	Last        time.Time `json:"last,omitzero"`
	Rebuilt     bool      `json:"rebuilt"` // the recommender learned anew
	Seconds     float64   `json:"seconds"`
}

// digest is of all lines up to one.
type digest [sha256.Size]byte

func (d digest) with(id event.RecordID) digest {
	return sha256.Sum256(append(d[:], id[:]...))
}

// importState is how far an import is.
type importState struct {
	Begun    time.Time    `json:"begun"`
	Lines    int64        `json:"lines"` // counted and in the database
	Digest   digest       `json:"digest"`
	Complete bool         `json:"complete"`          // only the recommender is left to be taught
	Witness  string       `json:"witness,omitempty"` // see storing
	Report   ImportReport `json:"report"`
}

// errOtherSource: the lines are not those of the run before.
var errOtherSource = errors.New("it is not what was imported under this name and size before, or is cut short; run the import again to begin anew")

// importing is an import that runs.
type importing struct {
	h       *History
	spec    ImportSpec
	job     *job
	state   importState // as of the last note
	report  ImportReport
	store   *storing  // nil: not into the database
	archive *archiver // nil: not into the archive
	holder  *holder
	text    *lines
	line    int64
	digest  digest
	saved   time.Time
	started time.Time
}

// Import stores enriched events that were recorded elsewhere: lines of 131 cells,
// the text compressed with gzip or not. They go into the database and the archive,
// whichever the process has, and then the recommender learns anew from the archive.
// A line that is no event becomes a bad row; one longer than 10 MiB becomes a bad
// row with its first MiB. Blank lines count for nothing. An import that ended early
// goes on where it was; source then gives the text from its start.
func (h *History) Import(ctx context.Context, spec ImportSpec, source func(ctx context.Context) (io.ReadCloser, error), progress Progress) (ImportReport, error) {
	im := &importing{h: h, spec: spec, saved: time.Now(), started: h.opts.Now()}
	err := im.run(ctx, source, progress)
	im.report.Seconds = im.seconds()
	if err != nil {
		return im.report, fmt.Errorf("history: import %s: %w", spec.Name, err)
	}
	return im.report, nil
}

func (im *importing) seconds() float64 {
	return im.state.Report.Seconds + im.h.opts.Now().Sub(im.started).Seconds()
}

func (im *importing) run(ctx context.Context, source func(ctx context.Context) (io.ReadCloser, error), progress Progress) error {
	h, spec := im.h, im.spec
	intoDatabase, intoArchive := h.opts.Database != nil && !spec.NoDatabase, h.opts.Archive != nil && !spec.NoArchive
	if spec.Name == "" {
		return errors.New("the source needs a name")
	}
	if !intoDatabase && !intoArchive {
		return errors.New("there is neither a database nor an archive to import into")
	}
	// The mark of the archive belongs to the source, whatever else is imported into.
	marks, err := h.begin("imported", ImportSpec{Name: spec.Name, Size: spec.Size})
	if err != nil {
		return err
	}
	defer marks.end()
	if im.job, err = h.begin("import", spec); err != nil {
		return err
	}
	defer im.job.end()
	if err := h.know(ctx); err != nil {
		return err
	}
	if err := im.resume(ctx); err != nil {
		return err
	}
	im.holder = h.hold()
	defer im.holder.release()
	if intoDatabase {
		im.store = &storing{h: h, count: im.inserted, tell: progress, witness: im.state.Witness}
		defer im.store.stop()
	}
	if intoArchive {
		if im.archive, err = h.newArchiver(ctx, spec, marks, im.state.Begun); err != nil {
			return err
		}
		im.archive.tell = progress
		defer im.archive.stop()
	}
	if !im.state.Complete {
		if err := im.read(ctx, source, progress); err != nil {
			return err
		}
	}
	if intoArchive && !spec.NoRebuild && h.opts.Rebuild != nil {
		err := h.opts.Rebuild(ctx, time.Time{}, time.Time{}, func(done int64) { progress.report("teaching the recommender", done, 0) })
		if err != nil {
			return err
		}
		im.report.Rebuilt = true
	}
	return im.job.drop()
}

// resume takes up what an earlier run left.
func (im *importing) resume(ctx context.Context) error {
	resumed, err := im.job.load(&im.state)
	if err != nil {
		return err
	}
	if !resumed {
		im.state = importState{Begun: im.started}
	}
	if im.h.opts.Database != nil && !im.spec.NoDatabase {
		there, err := im.h.has(ctx, im.state.Witness)
		if err != nil {
			return err
		}
		if !there {
			im.state = importState{Begun: im.state.Begun}
		}
	}
	im.report = im.state.Report
	im.report.Name, im.report.ResumedFrom = im.spec.Name, im.state.Lines
	return nil
}

func (im *importing) read(ctx context.Context, source func(ctx context.Context) (io.ReadCloser, error), progress Progress) error {
	from, err := source(ctx)
	if err != nil {
		return err
	}
	defer from.Close()
	if im.text, err = newLines(from); err != nil {
		return err
	}
	defer im.text.close()
	err = im.lines(ctx, progress)
	switch {
	case errors.Is(err, errOtherSource):
		return errors.Join(err, im.job.drop(), im.archive.forget())
	case err != nil:
		if ctx.Err() == nil && im.flush(ctx) == nil {
			err = errors.Join(err, im.save(false)) // so that what could be read counts
		}
		return err
	}
	if im.line < im.state.Lines || im.archive.expects(im.line) {
		return errors.Join(errOtherSource, im.job.drop(), im.archive.forget())
	}
	if err := im.archive.commit(ctx); err != nil {
		return err
	}
	if err := im.flush(ctx); err != nil {
		return err
	}
	return im.save(true)
}

// lines takes line after line.
func (im *importing) lines(ctx context.Context, progress Progress) error {
	for {
		line, long, err := im.text.next()
		if errors.Is(err, io.EOF) {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("after line %d: %w", im.line, err)
		}
		im.line++
		if err := im.take(ctx, line, long); err != nil {
			return err
		}
		if im.line%im.h.linesAtOnce != 0 {
			continue
		}
		progress.report("importing "+im.spec.Name, im.text.counted.n.Load(), im.spec.Size)
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := im.checkpoint(ctx); err != nil {
			return err
		}
	}
}

// checkpoint lets a forgetting in, and notes how far the import came.
func (im *importing) checkpoint(ctx context.Context) error {
	if err := im.holder.checkpoint(func() error { return im.flush(ctx) }); err != nil {
		return err
	}
	if time.Since(im.saved) < im.h.saveEvery || im.line <= im.state.Lines {
		return nil
	}
	if err := im.flush(ctx); err != nil {
		return err
	}
	return im.save(false)
}

func (im *importing) flush(ctx context.Context) error {
	if im.store == nil {
		return nil
	}
	return im.store.flush(ctx)
}

// save notes that all lines so far are counted and in the database.
func (im *importing) save(complete bool) error {
	im.saved = time.Now()
	state := importState{Begun: im.state.Begun, Lines: im.line, Digest: im.digest, Complete: complete, Report: im.report}
	if im.store != nil {
		state.Witness = im.store.witness
	}
	state.Report.Seconds = im.seconds()
	return im.job.save(state)
}

// take stores one line where it is not stored yet.
func (im *importing) take(ctx context.Context, line []byte, long bool) error {
	id := event.NewRecordID(line)
	im.digest = im.digest.with(id)
	if im.line == im.state.Lines && im.digest != im.state.Digest {
		return errOtherSource
	}
	archived, err := im.archive.has(im.line, im.digest)
	if err != nil || len(line) == 0 {
		return err
	}
	counted := im.line <= im.state.Lines
	if counted && archived {
		return nil
	}
	l := &record{line: string(line), id: id, number: im.line}
	if long {
		l.size = im.text.size
	}
	e, bad := im.h.readRecord(l, im.state.Begun)
	if !counted {
		im.report.Lines++
		if err := im.keep(ctx, l, e, bad); err != nil {
			return err
		}
	}
	if archived {
		return nil
	}
	im.report.Archived++
	return im.archive.add(ctx, l, im.digest)
}

func (im *importing) keep(ctx context.Context, l *record, e *event.Event, bad *event.BadRow) error {
	switch {
	case bad != nil:
		im.report.Bad++
		if im.store == nil {
			return nil
		}
		return im.store.record(ctx, nil, nil, []event.BadRow{*bad})
	case e == nil:
		im.report.Forgotten++
		return nil
	}
	im.report.Events++
	if im.report.First.IsZero() || l.at.Before(im.report.First) {
		im.report.First = l.at
	}
	if l.at.After(im.report.Last) {
		im.report.Last = l.at
	}
	if im.store == nil {
		return nil
	}
	return im.store.line(ctx, e, []byte(l.line))
}

// inserted counts what the database made of a batch.
func (im *importing) inserted(done store.Inserted) {
	im.report.New += int64(done.Events)
	im.report.Doubles += int64(done.Doubles)
	im.report.Conflicts += int64(done.Conflicts)
	im.report.Refused += int64(done.Refused)
	im.report.NewBad += int64(done.Bad)
}

// record is a line of an import.
type record struct {
	line   string
	id     event.RecordID
	number int64     // from 1
	size   int64     // of the whole line when it is longer than a line may be; else 0
	at     time.Time // collector time; when the import was begun if it has none
}

// readRecord gives the event of a line, or its bad row, or neither when it is of a
// person who was forgotten. The bad row's id derives from the line, so that another
// import makes the same one; its time is begun when the line has none.
func (h *History) readRecord(l *record, begun time.Time) (*event.Event, *event.BadRow) {
	l.at = begun
	if l.size > 0 {
		return nil, h.unlessForgotten(l.bad(begun, sizeViolation, l.tooLong(begun)))
	}
	e, err := snowplow.ParseStored(l.line)
	if e != nil {
		e.Record = l.id
		if e.Has(event.CollectorTstamp) {
			l.at = e.Time(event.CollectorTstamp)
		}
		if h.forgotten(e) {
			return nil, nil
		}
	}
	var wrong *snowplow.TSVError
	if !errors.As(err, &wrong) {
		return e, nil
	}
	return nil, h.unlessForgotten(l.bad(l.at, snowplow.LoaderParsingError, wrong.Failure()))
}

// unlessForgotten returns the bad row, nil when it may tell of somebody whom a
// tombstone covers.
func (h *History) unlessForgotten(row *event.BadRow) *event.BadRow {
	if enrich.Redact(row.Payload, h.opts.Forgotten).Changed {
		return nil
	}
	return row
}

func (l *record) bad(at time.Time, schema string, failure []byte) *event.BadRow {
	return &event.BadRow{
		ID: event.BadRowID(l.id, event.WholeRecord), Record: l.id, Index: event.WholeRecord, Time: at,
		Schema: schema, Failure: failure, Payload: []byte(l.line),
	}
}

// tooLong is the failure of a line longer than a line may be.
func (l *record) tooLong(at time.Time) []byte {
	f := append([]byte(`{"timestamp":"`), at.UTC().Format("2006-01-02T15:04:05.000Z")...)
	f = strconv.AppendInt(append(f, `","maximumAllowedSizeBytes":`...), maxLineBytes, 10)
	f = strconv.AppendInt(append(f, `,"actualSizeBytes":`...), l.size, 10)
	return append(f, `,"expectation":"an enriched event; only its start is kept"}`...)
}
