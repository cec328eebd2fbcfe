package store

import (
	"context"
	"io"
	"slices"
	"sync"
)

// copyItems copies the tuples of the items that are new, in the order of their
// bytes, which is that of the rows given.
func copyItems(ctx context.Context, c *pgConn, b *pgBatch, items []pgItem) error {
	spans := make([][2]int, 0, len(items))
	for i := range items {
		if items[i].fresh {
			spans = append(spans, b.spans[items[i].at])
		}
	}
	slices.SortFunc(spans, func(x, y [2]int) int { return x[0] - y[0] })
	r := &copyReader{buf: b.tuples.buf, spans: spans, piece: []byte(copyHeader)}
	defer r.stop()
	_, err := c.PgConn().CopyFrom(ctx, r, copyEvents)
	return err
}

// copyReader gives the header, the tuples of the spans and the trailer.
type copyReader struct {
	mu    sync.Mutex
	buf   []byte
	spans [][2]int
	piece []byte // what is being read
	ended bool
}

// stop ends the reading. CopyFrom returns at once when the connection breaks, with
// a goroutine left behind that may still read, while the memory is used again.
func (r *copyReader) stop() {
	r.mu.Lock()
	r.buf, r.spans, r.piece, r.ended = nil, nil, nil, true
	r.mu.Unlock()
}

func (r *copyReader) Read(into []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for n < len(into) {
		if len(r.piece) == 0 && !r.next() {
			break
		}
		k := copy(into[n:], r.piece)
		r.piece = r.piece[k:]
		n += k
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (r *copyReader) next() bool {
	if len(r.spans) == 0 {
		if r.ended {
			return false
		}
		r.ended, r.piece = true, []byte(copyTrailer)
		return true
	}
	span := r.spans[0]
	r.spans = r.spans[1:]
	for len(r.spans) > 0 && r.spans[0][0] == span[1] { // what lies together goes together
		span[1] = r.spans[0][1]
		r.spans = r.spans[1:]
	}
	r.piece = r.buf[span[0]:span[1]]
	return true
}
