package journal

import (
	"log/slog"
	"sync"
	"testing"
	"time"
)

// faultyDisk is a real disk on which things can be made to fail.
type faultyDisk struct {
	osDisk
	mu      sync.Mutex
	write   func(name string, p []byte) error // nil error: write
	sync    func(name string) error
	created func(name string) error
	left    func() (int64, error)
	syncs   int
	instant bool // syncs do nothing, so no other goroutine gets to run meanwhile
}

func (d *faultyDisk) set(change func(d *faultyDisk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

func (d *faultyDisk) create(path string) (segmentFile, error) {
	d.mu.Lock()
	check := d.created
	d.mu.Unlock()
	if check != nil {
		if err := check(path); err != nil {
			return nil, err
		}
	}
	f, err := d.osDisk.create(path)
	if err != nil {
		return nil, err
	}
	return &faultyFile{segmentFile: f, disk: d, path: path}, nil
}

func (d *faultyDisk) free(dir string) (int64, error) {
	d.mu.Lock()
	left := d.left
	d.mu.Unlock()
	if left != nil {
		return left()
	}
	return d.osDisk.free(dir)
}

type faultyFile struct {
	segmentFile
	disk *faultyDisk
	path string
}

func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	check := f.disk.write
	f.disk.mu.Unlock()
	if check != nil && off >= segmentHeader {
		if err := check(f.path, p); err != nil {
			n, _ := f.segmentFile.WriteAt(p[:len(p)/2], off) // as a full disk does
			return n, err
		}
	}
	return f.segmentFile.WriteAt(p, off)
}

func (f *faultyFile) Sync() error {
	f.disk.mu.Lock()
	check, instant := f.disk.sync, f.disk.instant
	f.disk.syncs++
	f.disk.mu.Unlock()
	if check != nil {
		if err := check(f.path); err != nil {
			return err
		}
	}
	if instant {
		return nil
	}
	return f.segmentFile.Sync()
}

func mustOpenWith(tb testing.TB, dir string, cfg Config, h hooks, groups ...string) *Journal {
	tb.Helper()
	if h.disk == nil {
		h.disk = osDisk{}
	}
	if h.now == nil {
		h.now = time.Now
	}
	j, err := open(dir, cfg, groups, nil, slog.New(slog.DiscardHandler), h)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = j.Close() })
	return j
}

// eventually polls until ok, for what a background goroutine does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s did not happen", what)
		}
	}
}
