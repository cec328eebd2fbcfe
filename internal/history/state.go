package history

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrRunning says that the same operation is running already.
var ErrRunning = errors.New("history: this operation is running already; wait for it, or stop it first")

// job is an operation that remembers how far it came.
type job struct {
	h    *History
	name string // of its file
}

// begin claims the state of an operation: its kind, and everything that makes it
// another operation than its neighbours. end must be called. It fails with
// ErrRunning when the state is in use.
func (h *History) begin(kind string, spec any) (*job, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("history: %s: %w", kind, err)
	}
	sum := sha256.Sum256(text)
	name := kind + "-" + hex.EncodeToString(sum[:8]) + ".json"
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running[name] {
		return nil, ErrRunning
	}
	h.running[name] = true
	return &job{h: h, name: name}, nil
}

// end gives the state free; its file stays.
func (j *job) end() {
	j.h.mu.Lock()
	defer j.h.mu.Unlock()
	delete(j.h.running, j.name)
}

func (j *job) path() string { return filepath.Join(j.h.opts.Dir, j.name) }

// load reads the state that an earlier run left, and says whether there is one. One
// that cannot be read counts as none: the operation then begins anew, which doubles
// nothing.
func (j *job) load(into any) (bool, error) {
	text, err := os.ReadFile(j.path())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("history: read the state of an earlier run: %w", err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		j.h.opts.Log.Warn("state of an earlier run cannot be read, the operation begins anew", "file", j.path(), "error", err)
		return false, nil
	}
	return true, nil
}

// save makes the state durable in place of the one before.
func (j *job) save(state any) error {
	if err := j.write(state); err != nil {
		return fmt.Errorf("history: keep the state of the operation: %w", err)
	}
	return nil
}

func (j *job) write(state any) error {
	text, err := json.Marshal(state)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(j.h.opts.Dir, 0o750); err != nil {
		return err
	}
	temp, err := os.CreateTemp(j.h.opts.Dir, "."+j.name+"-*")
	if err != nil {
		return err
	}
	_, err = temp.Write(text)
	if err == nil {
		err = temp.Sync()
	}
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), j.path())
	}
	if err != nil {
		os.Remove(temp.Name())
		return err
	}
	dir, err := os.Open(j.h.opts.Dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// drop removes the state of an operation that is done.
func (j *job) drop() error {
	if err := os.Remove(j.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("history: remove the state of the finished operation: %w", err)
	}
	return nil
}
