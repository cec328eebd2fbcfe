package evaluate

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Session is one session of a file, its clicks in the order of time.
type Session struct {
	ID     string
	Clicks []Click
}

// Click is one click of a session.
type Click struct {
	Item string
	Time int64 // milliseconds since the epoch
}

const maxLine = 64 << 10

// ReadFile reads a session file, gzip or plain.
func ReadFile(path string) ([]Session, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("session file: %w", err)
	}
	defer f.Close()
	sessions, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("session file %s: %w", path, err)
	}
	return sessions, nil
}

// Read reads sessions, gzip or plain, and returns them by id; whole numbers come
// in their order. Clicks of equal time keep the order of the file.
func Read(r io.Reader) ([]Session, error) {
	buffered := bufio.NewReader(r)
	if magic, _ := buffered.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		r = z
	} else {
		r = buffered
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	byID := map[string]int{}
	var sessions []Session
	var columns [3]int
	for n := 1; lines.Scan(); n++ {
		fields := strings.Split(strings.TrimSuffix(lines.Text(), "\r"), "\t")
		if n == 1 {
			var err error
			if columns, err = header(fields); err != nil {
				return nil, err
			}
			continue
		}
		if len(fields) == 1 && fields[0] == "" {
			continue
		}
		id, click, err := row(fields, columns)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		at, ok := byID[id]
		if !ok {
			at = len(sessions)
			byID[id] = at
			sessions = append(sessions, Session{ID: id})
		}
		sessions[at].Clicks = append(sessions[at].Clicks, click)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	if len(sessions) == 0 {
		return nil, errors.New("it holds no clicks: want a header SessionId, ItemId, Time and a line for each click, separated by tabs")
	}
	for _, s := range sessions {
		slices.SortStableFunc(s.Clicks, func(a, b Click) int { return cmp.Compare(a.Time, b.Time) })
	}
	slices.SortFunc(sessions, func(a, b Session) int {
		return cmp.Or(sessionKey(a.ID).compare(sessionKey(b.ID)), strings.Compare(a.ID, b.ID))
	})
	return sessions, nil
}

func header(fields []string) (columns [3]int, err error) {
	for i, name := range []string{"SessionId", "ItemId", "Time"} {
		columns[i] = slices.Index(fields, name)
		if columns[i] < 0 {
			return columns, fmt.Errorf("line 1: no column %s: want the header SessionId, ItemId, Time, separated by tabs", name)
		}
	}
	return columns, nil
}

func row(fields []string, columns [3]int) (id string, c Click, err error) {
	for _, i := range columns {
		if i >= len(fields) {
			return "", c, fmt.Errorf("%d fields, want %d", len(fields), slices.Max(columns[:])+1)
		}
	}
	id, c.Item = fields[columns[0]], fields[columns[1]]
	if id == "" || c.Item == "" {
		return "", c, errors.New("SessionId and ItemId must not be empty")
	}
	seconds, err := strconv.ParseFloat(fields[columns[2]], 64)
	if err != nil || math.Abs(seconds) > 1e12 || math.IsNaN(seconds) {
		return "", c, fmt.Errorf("time %q is not a number of seconds since the epoch", fields[columns[2]])
	}
	c.Time = int64(math.Round(seconds * 1000))
	return id, c, nil
}
