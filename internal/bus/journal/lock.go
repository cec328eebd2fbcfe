package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lockName is the file in the data folder that its owner holds locked. It stays
// when the owner is gone; only the lock counts.
const lockName = "furrow.lock"

// Lock is a data folder that belongs to this process.
type Lock struct{ file *os.File }

// InUse is the error of LockDir when the folder belongs to another process.
type InUse struct {
	Dir  string
	PID  string // unknown when it cannot be read
	Note string // what the owner left with Note
}

// Error says who has the folder.
func (e *InUse) Error() string {
	return fmt.Sprintf("data folder %s is in use by another furrow (pid %s); stop it or choose another --data-dir", e.Dir, e.PID)
}

// LockDir takes a data folder for this process, and makes it if need be. The
// kernel releases the lock when the process ends, however it ends.
func LockDir(dir string) (*Lock, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("data folder %s: %w", dir, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data folder %s: %w", dir, err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("data folder %s cannot be locked: %w", dir, err)
		}
		pid, note := owner(f)
		return nil, &InUse{Dir: dir, PID: pid, Note: note}
	}
	if err = f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("data folder %s: %w", dir, err)
	}
	return &Lock{file: f}, nil
}

// owner reads the process id that the holder of the lock left, and its note.
func owner(f *os.File) (pid, note string) {
	b, _ := io.ReadAll(io.LimitReader(f, 1024))
	first, rest, _ := strings.Cut(string(b), "\n")
	if _, err := strconv.Atoi(first); err != nil {
		return "unknown", ""
	}
	return first, strings.TrimSpace(rest)
}

// Note leaves a line for whoever finds the folder in use, such as where its owner
// can be reached.
func (l *Lock) Note(line string) error {
	_, err := l.file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"+line+"\n"), 0)
	return err
}

// Close gives the folder free.
func (l *Lock) Close() error { return l.file.Close() }
