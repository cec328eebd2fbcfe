package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"

	"github.com/parquet-go/parquet-go"
)

// idColumns name what must be unique in each dataset.
var idColumns = [numDatasets]string{rawSet: "record_id", eventSet: "event_id", badSet: "id"}

const (
	contentHash = "content_hash"
	standing    = math.MaxUint32 // as ref: the row stays whatever comes
	refBytes    = 32             // of an idRef
)

// idRef is the id of one row.
type idRef struct {
	key     idKey
	content uint64 // 0: unknown
	ref     uint32 // number of the row among the inputs
	gone    bool
}

func (r *idRef) stands() bool { return r.ref == standing }

func compareRefs(x, y idRef) int {
	if c := cmp.Or(cmp.Compare(x.key.hi, y.key.hi), cmp.Compare(x.key.lo, y.key.lo)); c != 0 {
		return c
	}
	// What stands comes first, then the order of the rows.
	return cmp.Compare(x.ref+1, y.ref+1)
}

// sieve finds the rows of a dataset of an hour whose id is there already. It goes
// over the ids in as many passes as its memory asks for, a range of keys each.
type sieve struct {
	archive   *Archive
	set       dataset
	hour      hour
	stay      []liveFile // merged files that stay as they are: their rows come first
	inputs    []liveFile
	lists     []idList   // of other hours
	ahead     *backlog   // what is known of these lists
	ids       *idsWriter // nil: nobody wants the list
	drop      bitmap
	doubles   int64
	conflicts int64

	refs   []idRef
	lo, hi uint64 // keys of the pass, inclusive
	buf    []byte // for lists
}

// idList is the list of ids of another hour.
type idList struct {
	hour hour
	name string
}

func (s *sieve) run(ctx context.Context) error {
	rows, err := s.countRows(ctx)
	if err != nil {
		return err
	}
	if rows >= standing {
		return fmt.Errorf("archive: %s has %d rows, of which this version can merge %d", s.hour.folder(s.set), rows, int64(standing)-1)
	}
	perPass := max(1<<16, s.archive.cfg.MemoryBytes/4/refBytes)
	if n := s.archive.gens.idsAtOnce; n > 0 {
		perPass = n
	}
	passes := uint64(rows/perPass + 1) //nolint:gosec // of a number of rows
	step := math.MaxUint64/passes + 1  // 0 when there is one pass
	s.refs = make([]idRef, 0, min(rows, perPass+perPass/8))
	for i := range passes {
		s.lo, s.hi = i*step, (i+1)*step-1
		if i == passes-1 {
			s.hi = math.MaxUint64
		}
		if err := s.pass(ctx); err != nil {
			return err
		}
	}
	return nil
}

// countRows fills in the numbers of rows.
func (s *sieve) countRows(ctx context.Context) (int64, error) {
	rows := int64(0)
	for _, files := range [][]liveFile{s.stay, s.inputs} {
		for i := range files {
			f := &files[i]
			if f.rows < 0 {
				in, err := s.archive.openFile(ctx, f.name)
				if err != nil {
					return 0, err
				}
				f.rows = in.NumRows()
				in.close()
			}
			rows += f.rows
		}
	}
	return rows, nil
}

// pass judges the rows whose keys are in its range.
func (s *sieve) pass(ctx context.Context) error {
	s.refs = s.refs[:0]
	for _, f := range s.stay {
		if _, err := s.gather(ctx, f, standing); err != nil {
			return err
		}
	}
	next := int64(0)
	for _, f := range s.inputs {
		n, err := s.gather(ctx, f, next)
		if err != nil {
			return err
		}
		next += n
	}
	s.settle()
	for _, l := range s.lists {
		if err := s.compare(ctx, l); err != nil {
			return err
		}
	}
	if s.ids != nil {
		for i := range s.refs {
			if !s.refs[i].gone {
				s.ids.add(s.refs[i].key.prefix())
			}
		}
	}
	return nil
}

// gather takes the ids of a file that are in the pass. It returns the number of
// rows.
func (s *sieve) gather(ctx context.Context, f liveFile, first int64) (int64, error) {
	rows := int64(0)
	err := s.archive.eachID(ctx, f, func(i int64, key idKey, content uint64) error {
		rows = i + 1
		if key.hi < s.lo || key.hi > s.hi {
			return nil
		}
		if len(s.refs) == cap(s.refs) {
			s.settle() // many of one id come in one pass: most of them are gone now
		}
		ref := uint32(standing)
		if first != standing {
			ref = uint32(first + i) //nolint:gosec // run checked the number of rows
		}
		s.refs = append(s.refs, idRef{key: key, content: content, ref: ref})
		return nil
	})
	return rows, err
}

// settle sorts the ids and keeps the first row of each.
func (s *sieve) settle() {
	slices.SortFunc(s.refs, compareRefs)
	kept := s.refs[:0]
	for _, r := range s.refs {
		if n := len(kept); n > 0 && kept[n-1].key == r.key {
			if !r.stands() {
				s.lose(&r, kept[n-1].content)
			}
			continue
		}
		kept = append(kept, r)
	}
	s.refs = kept
}

// lose drops a row whose id another row has.
func (s *sieve) lose(r *idRef, content uint64) {
	r.gone = true
	s.drop.set(int64(r.ref))
	if content != 0 && r.content != 0 && content != r.content {
		s.conflicts++
	} else {
		s.doubles++
	}
}

// compare drops the rows whose ids another hour has: its list tells which may be
// there, its files which are.
func (s *sieve) compare(ctx context.Context, l idList) error {
	candidate, known := s.ahead.mayShare(s.hour, l.name)
	if !known {
		var err error
		if candidate, err = s.inList(ctx, l); err != nil {
			return err
		}
	}
	if !candidate {
		return nil
	}
	for range readAttempts {
		before, err := s.archive.files(ctx, l.hour, s.set)
		if err != nil {
			return err
		}
		if err = s.inFiles(ctx, before); !errors.Is(err, errGone) {
			return err
		}
		after, err := s.archive.readDecisions(ctx, l.hour)
		if err != nil || after.committed == before.state.committed {
			return err // gone for good: what retention deletes is nobody's double
		}
	}
	return fmt.Errorf("archive: the files of %s are replaced faster than they can be read", l.hour.time())
}

// inList reports whether the list has the prefix of any id of the pass. Of a list
// that is damaged or gone anything may be there.
func (s *sieve) inList(ctx context.Context, l idList) (bool, error) {
	if s.buf == nil {
		s.buf = make([]byte, idsBuffer)
	}
	at, found := 0, false
	err := s.archive.eachListed(ctx, l.name, s.buf, func(prefix uint64) bool {
		for at < len(s.refs) && (s.refs[at].key.prefix() < prefix || s.refs[at].stands() || s.refs[at].gone) {
			at++
		}
		found = at < len(s.refs) && s.refs[at].key.prefix() == prefix
		return at < len(s.refs) && !found
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, nil
	case errors.Is(err, errBadIDs):
		s.archive.log.Warn("list of ids is damaged: the events are read instead", "name", l.name)
		return true, nil
	case err != nil:
		return false, err
	}
	return found, nil
}

// eachListed calls fn with the prefixes of a list until it answers false.
func (a *Archive) eachListed(ctx context.Context, name string, buf []byte, fn func(prefix uint64) bool) error {
	obj, err := a.place.open(ctx, name)
	if err == nil {
		defer obj.Close()
		err = readIDs(io.NewSectionReader(obj, 0, obj.size()), buf, fn)
	}
	if err != nil {
		return fmt.Errorf("archive: %s: %w", name, err)
	}
	return nil
}

// inFiles drops the rows whose ids are in the merged files of another hour. It
// reads the other files when one is gone.
func (s *sieve) inFiles(ctx context.Context, all *hourFiles) error {
	var gone error
	for _, f := range all.live[s.set] {
		if f.stands != "" {
			continue // will be merged itself, and then compared with us
		}
		err := s.archive.eachID(ctx, f, func(_ int64, key idKey, content uint64) error {
			if key.hi < s.lo || key.hi > s.hi {
				return nil
			}
			i, ok := slices.BinarySearchFunc(s.refs, key, func(r idRef, k idKey) int {
				return cmp.Or(cmp.Compare(r.key.hi, k.hi), cmp.Compare(r.key.lo, k.lo))
			})
			if ok && !s.refs[i].stands() && !s.refs[i].gone {
				s.lose(&s.refs[i], content)
			}
			return nil
		})
		if errors.Is(err, errGone) {
			gone = err
		} else if err != nil {
			return err
		}
	}
	return gone
}

// eachID calls fn with the key of every row of a file, and its content's hash.
func (a *Archive) eachID(ctx context.Context, f liveFile, fn func(row int64, key idKey, content uint64) error) error {
	in, err := a.openFile(ctx, f.name)
	if err != nil {
		return err
	}
	defer in.close()
	names := []string{idColumns[f.set]}
	if f.set == eventSet {
		names = append(names, contentHash)
	}
	columns := in.columnsOf(names...)
	if columns[0] < 0 {
		return fmt.Errorf("archive: read %s: it has no column %s", f.name, names[0])
	}
	var keys [copyRows]idKey
	var contents [copyRows]uint64
	row := int64(0)
	return in.scan(ctx, columns, func(c *cursor, n int) error {
		err := c.cells(0, n, func(i int, v *parquet.Value) { keys[i] = keyOf(v.ByteArray()) })
		if err == nil && len(columns) > 1 {
			err = c.cells(1, n, func(i int, v *parquet.Value) { contents[i] = hashOf(v) })
		}
		if err != nil {
			return err
		}
		for i := range n {
			if err := fn(row, keys[i], contents[i]); err != nil {
				return err
			}
			row++
		}
		return nil
	})
}
