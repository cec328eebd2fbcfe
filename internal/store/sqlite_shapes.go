package store

import (
	"errors"

	"furrow/internal/event"
)

const (
	shapeAfter = 64   // events with the same columns before they get a statement
	shapesMost = 48   // statements that are kept
	shapesSeen = 1024 // combinations that are counted
)

// shape is which columns an event fills, a bit for each, and whether past ids are to
// be looked at. Events of one kind and one site have the same; to bind the nulls of
// the others costs more than to bind the values.
type shape struct {
	columns [(event.NumFields + 63) / 64]uint64
	past    bool
}

func (s *shape) fill(column int) { s.columns[column/64] |= 1 << (column % 64) }

func (s *shape) fills(column int) bool { return s.columns[column/64]>>(column%64)&1 == 1 }

// of returns the fields that are filled, in column order.
func (s *shape) of() []event.Field {
	var fields []event.Field
	for i, f := range columns {
		if s.fills(i) {
			fields = append(fields, f)
		}
	}
	return fields
}

// shapes are the statements for the commonest shapes of events.
type shapes struct {
	prepared map[shape]*statement
	seen     map[shape]int
}

// statement returns the statement for a shape, nil when it is not common enough. A
// stranger may send any combination of columns, so what is counted and what is kept
// is bounded: when it is full, it begins anew.
func (s *shapes) statement(w *writer, want shape) (*statement, error) {
	if st := s.prepared[want]; st != nil {
		return st, nil
	}
	if s.seen[want]++; s.seen[want] < shapeAfter {
		if len(s.seen) > shapesSeen {
			clear(s.seen)
		}
		return nil, nil //nolint:nilnil // none is an answer
	}
	if len(s.prepared) >= shapesMost {
		if err := s.close(); err != nil {
			return nil, err
		}
	}
	delete(s.seen, want)
	query := insertEvent(want.of())
	if want.past {
		query = insertNewEvent(want.of())
	}
	st, err := w.prepare(query)
	if err != nil {
		return nil, err
	}
	s.prepared[want] = st
	return st, nil
}

func (s *shapes) close() error {
	var errs []error
	for _, st := range s.prepared {
		errs = append(errs, st.closer.Close())
	}
	clear(s.prepared)
	return errors.Join(errs...)
}
