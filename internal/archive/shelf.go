package archive

import (
	"fmt"
	"path/filepath"
)

// finished is a complete local file and the name it is to get.
type finished struct {
	local  string
	name   string
	rows   int64
	bytes  int64
	set    dataset
	hour   hour
	placed bool
}

// shelf holds the files of one dataset in one range: one open writer an hour, up
// to a limit. Beyond it the least recently used file is finished, and its hour
// goes on in a further part.
type shelf[T any] struct {
	set    dataset
	folder string // local, of the range
	base   string // rangeName
	fill   filler[T]
	limit  int
	budget *budget
	open   map[hour]*writer[T]
	parts  map[hour]int
	clock  int64
	rows   int64
	done   []finished
	touch  func(hour) // told of every hour that gets a file
}

func newShelf[T any](set dataset, folder, base string, fill filler[T], limit int, shared *budget, touch func(hour)) *shelf[T] {
	return &shelf[T]{
		set: set, folder: folder, base: base, fill: fill, limit: limit, budget: shared,
		open: make(map[hour]*writer[T]), parts: make(map[hour]int), touch: touch,
	}
}

func (s *shelf[T]) add(h hour, row T, size int) error {
	w := s.open[h]
	if w == nil {
		var err error
		if w, err = s.start(h); err != nil {
			return err
		}
	}
	s.clock++
	w.used = s.clock
	s.rows++
	return w.add(row, size)
}

func (s *shelf[T]) start(h hour) (*writer[T], error) {
	if len(s.open) >= s.limit {
		oldest, at := hour(0), int64(0)
		for h, w := range s.open {
			if at == 0 || w.used < at {
				oldest, at = h, w.used
			}
		}
		if err := s.finish(oldest); err != nil {
			return nil, err
		}
	}
	w, err := newWriter(s.local(h), s.base, s.set, s.fill, s.budget)
	if err != nil {
		return nil, err
	}
	s.open[h] = w
	s.touch(h)
	return w, nil
}

func (s *shelf[T]) local(h hour) string {
	return filepath.Join(s.folder, fmt.Sprintf("%s-%d-%d", s.set, h, s.parts[h]))
}

func (s *shelf[T]) finish(h hour) error {
	w := s.open[h]
	delete(s.open, h)
	rows := w.rows
	bytes, err := w.finish()
	if err != nil {
		return err
	}
	s.done = append(s.done, finished{
		local: s.local(h), rows: rows, bytes: bytes, set: s.set, hour: h,
		name: fmt.Sprintf("%s%s-%d%s", h.folder(s.set), s.base, s.parts[h], fileSuffix),
	})
	s.parts[h]++
	return nil
}

func (s *shelf[T]) finishAll() error {
	for h := range s.open {
		if err := s.finish(h); err != nil {
			return err
		}
	}
	return nil
}

func (s *shelf[T]) discard() {
	for h, w := range s.open {
		w.discard()
		delete(s.open, h)
	}
}
