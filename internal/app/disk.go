package app

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"furrow/internal/config"
	"furrow/internal/recorder"

	"golang.org/x/sys/unix"
)

// disk watches the data folder's budget and the file system's reserve. Below the
// reserve, or above the budget, the recorder pauses while the journal goes on to
// its own limit; both go on by themselves when there is room.
type disk struct {
	dir string
	cfg config.Disk

	mu   sync.Mutex
	used int64 // bytes in the data folder
	free int64 // bytes that the file system would still give us
}

// The pace of measuring: free space is one system call, the folder a walk.
const (
	freeEvery = time.Second
	usedEvery = 15 * time.Second
)

func newDisk(dir string, cfg config.Disk) *disk {
	d := &disk{dir: dir, cfg: cfg}
	d.measureFree()
	d.measureUsed()
	return d
}

func (d *disk) run(ctx context.Context) error {
	free, used := time.NewTicker(freeEvery), time.NewTicker(usedEvery)
	defer free.Stop()
	defer used.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-free.C:
			d.measureFree()
		case <-used.C:
			d.measureUsed()
		}
	}
}

func (d *disk) measureFree() {
	var st unix.Statfs_t
	if unix.Statfs(d.dir, &st) != nil {
		return // the next second tries again; the journal has a guard of its own
	}
	d.mu.Lock()
	d.free = int64(st.Bavail) * st.Bsize //nolint:gosec // no file system has 2^63 bytes
	d.mu.Unlock()
}

func (d *disk) measureUsed() {
	used := folderBytes(d.dir)
	d.mu.Lock()
	d.used = used
	d.mu.Unlock()
}

// folderBytes adds up the files of a folder; files that vanish meanwhile count 0.
func folderBytes(dir string) int64 {
	var sum int64
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil //nolint:nilerr // a file that was just deleted takes no room
		}
		if info, err := entry.Info(); err == nil {
			sum += info.Size()
		}
		return nil
	})
	return sum
}

// paused says whether the recorder must wait, and why.
func (d *disk) paused() (string, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.free < d.cfg.ReserveBytes {
		return fmt.Sprintf("%d MB free on disk, under the reserve of %d MB (disk.reserveBytes): free some space", d.free>>20, d.cfg.ReserveBytes>>20), true
	}
	if d.cfg.BudgetBytes > 0 && d.used > d.cfg.BudgetBytes {
		return fmt.Sprintf("data folder holds %d MB, over its budget of %d MB (disk.budgetBytes): raise it or set a retention", d.used>>20, d.cfg.BudgetBytes>>20), true
	}
	return "", false
}

// paused says whether a group of the recorder must wait, and why. A database on a
// server takes no room here.
func (a *App) paused(group string) (string, bool) {
	if group == recorder.GroupStore && a.cfg.Store.URL != "" {
		return "", false
	}
	return a.disk.paused()
}

// room returns the bytes in use and those that may still be used.
func (d *disk) room() (used, left int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	left = d.free - d.cfg.ReserveBytes
	if d.cfg.BudgetBytes > 0 {
		left = min(left, d.cfg.BudgetBytes-d.used)
	}
	return d.used, max(left, 0)
}
