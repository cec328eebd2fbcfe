package evaluate

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"furrow/internal/recommender/knn"
)

// lists writes recommendation lists as JSON lines. A nil *lists writes nothing.
type lists struct {
	file *os.File
	zip  *gzip.Writer
	buf  *bufio.Writer
	line []byte
}

func createLists(path string) (*lists, error) {
	if path == "" {
		return nil, nil //nolint:nilnil // a nil *lists is of use
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("lists file: %w", err)
	}
	l := &lists{file: f}
	w := io.Writer(f)
	if strings.HasSuffix(path, ".gz") {
		l.zip = gzip.NewWriter(f)
		w = l.zip
	}
	l.buf = bufio.NewWriterSize(w, 1<<16)
	return l, nil
}

func (l *lists) write(session string, position int, index *knn.Index, items []knn.Scored) error {
	if l == nil {
		return nil
	}
	b := append(l.line[:0], `{"session":`...)
	b = appendID(b, session)
	b = append(b, `,"position":`...)
	b = strconv.AppendInt(b, int64(position), 10)
	b = append(b, `,"items":[`...)
	for i, it := range items {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '[')
		b = appendID(b, index.ID(it.Item))
		b = append(b, ',')
		b = strconv.AppendFloat(b, it.Score, 'g', -1, 64)
		b = append(b, ']')
	}
	l.line = append(b, "]}\n"...)
	if _, err := l.buf.Write(l.line); err != nil {
		return fmt.Errorf("lists file: %w", err)
	}
	return nil
}

func (l *lists) close() error {
	if l == nil {
		return nil
	}
	err := l.buf.Flush()
	if l.zip != nil && err == nil {
		err = l.zip.Close()
	}
	if closed := l.file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("lists file: %w", err)
	}
	return nil
}

// appendID writes an id as a number when it is one that JSON keeps as it is.
func appendID(b []byte, id string) []byte {
	if n, err := strconv.ParseInt(id, 10, 54); err == nil && strconv.FormatInt(n, 10) == id {
		return append(b, id...)
	}
	text, err := json.Marshal(id)
	if err != nil {
		text = []byte(`""`) // a string always marshals
	}
	return append(b, text...)
}
