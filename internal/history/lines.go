package history

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
)

// Bounds of a line, and of what is kept of one that is longer.
const (
	maxLineBytes = 10 << 20
	keptOfLong   = 1 << 20
)

// lines reads the lines of a text, compressed with gzip or not, whatever its name.
type lines struct {
	counted *counting
	from    *bufio.Reader
	packed  *gzip.Reader // nil when the text is plain
	limit   int
	kept    int
	buffer  []byte
	size    int64 // of the last line
}

// counting counts what is read through it; another goroutine may look.
type counting struct {
	io.Reader
	n atomic.Int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// newLines finds out whether source is compressed. Several gzip members, one after
// the other, are one text.
func newLines(source io.Reader) (*lines, error) {
	l := &lines{counted: &counting{Reader: source}, limit: maxLineBytes, kept: keptOfLong}
	l.from = bufio.NewReaderSize(l.counted, 1<<18)
	magic, err := l.from.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		if l.packed, err = gzip.NewReader(l.from); err != nil {
			return nil, fmt.Errorf("it begins like gzip: %w", err)
		}
		l.from = bufio.NewReaderSize(l.packed, 1<<18)
	}
	const mark = "\xef\xbb\xbf" // with which some editors begin a text
	if start, _ := l.from.Peek(len(mark)); string(start) == mark {
		_, _ = l.from.Discard(len(mark)) // it was just there
	}
	return l, nil
}

// next returns the next line without its end, and whether it was longer than a line
// may be, and is cut. The memory is the caller's until the next call. The end of
// the text is io.EOF.
func (l *lines) next() (line []byte, long bool, err error) {
	l.buffer, l.size = l.buffer[:0], 0
	for {
		part, err := l.from.ReadSlice('\n')
		l.size += int64(len(part))
		switch {
		case !long && len(l.buffer)+len(part) <= l.limit+2: // with its end
			l.buffer = append(l.buffer, part...)
		case !long:
			long = true
			l.buffer = append(l.buffer, part...)[:l.kept]
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && l.size > 0, err == nil:
			if long {
				return l.buffer, true, nil
			}
			line = bytes.TrimSuffix(l.buffer, []byte{'\n'})
			line = bytes.TrimSuffix(line, []byte{'\r'})
			if len(line) > l.limit {
				return line[:l.kept], true, nil
			}
			return line, false, nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return nil, false, errors.New("the compressed text is cut short")
		default:
			return nil, false, err
		}
	}
}

func (l *lines) close() {
	if l.packed != nil {
		_ = l.packed.Close() // it only reads
	}
}
