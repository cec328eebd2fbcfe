package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// smallDisk mounts a file system of so many megabytes for a test.
func smallDisk(t *testing.T, megabytes int) string {
	t.Helper()
	dir := t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes))
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		t.Skip("SKIPPED: a disk that is really full needs the right to mount one (run as root)")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// ballast fills a disk until so many bytes are free, and returns what frees them.
func ballast(t *testing.T, dir string, free int64) (drop func()) {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	left := int64(st.Bavail)*st.Bsize - free
	f, err := os.CreateTemp(dir, "ballast-*")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zeros := make([]byte, 1<<16)
	for left > 0 {
		n, err := f.Write(zeros[:min(left, int64(len(zeros)))])
		if errors.Is(err, syscall.ENOSPC) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		left -= int64(n)
	}
	return func() {
		if err := os.Remove(f.Name()); err != nil {
			t.Fatal(err)
		}
	}
}

func write(t *testing.T, text string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "furrow.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestReserve takes the disk below its reserve: the recorder pauses and says so, the
// collector and the recommender go on; when there is room it goes on by itself.
func TestReserve(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 200)
	config := write(t, `disk: {reserveBytes: 52428800}
bus: {journal: {segmentBytes: 1048576, maxBytes: 41943040, minFreeBytes: 8388608}}
archive: {rollBytes: 1048576, rollAge: 1s}
recommender: {snapshot: {bytes: 1048576, interval: 1s}}
`)
	p := start(t, filepath.Join(disk, "data"), "serve", "--config", config)
	l := &load{sent: map[string]bool{}, answered: map[string]bool{}, pace: 50 * time.Millisecond}
	burst := func() {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		<-l.run(ctx, p, 0)
	}
	burst()
	eventually(t, 20*time.Second, func() error { return settled(p) })
	drop := ballast(t, disk, 30<<20)
	for _, group := range []string{"recorder-store", "recorder-archive"} {
		eventually(t, 10*time.Second, func() error {
			// A group notices when it has something to write.
			if status, err := p.send(http.DefaultClient, tp2(map[string]string{"e": "pv", "p": "web", "tv": "e2e", "eid": l.id()})); err != nil || status != http.StatusOK {
				return fmt.Errorf("answered %d, %w", status, err)
			}
			return troubled(p, group)
		})
	}
	before := len(l.answered)
	burst()
	if len(l.answered) == before {
		t.Error("no event was answered 200 while the recorder paused")
	}
	if err := recommends(p); err != nil {
		t.Error(err)
	}
	drop()
	eventually(t, 30*time.Second, func() error { return settled(p) })
	p.stop(t)
	l.compareBoth(t, p.dir)
}

// TestDiskFull fills the disk to the last byte under load: the collector answers
// 503, nothing dies, and when there is room everything goes on without a restart.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 120)
	config := write(t, `disk: {reserveBytes: 0}
bus: {journal: {segmentBytes: 1048576, maxBytes: 83886080, minFreeBytes: 0}}
archive: {rollBytes: 1048576, rollAge: 1s}
recorder: {retryMax: 500ms}
recommender: {snapshot: {bytes: 1048576, interval: 1s}}
`)
	p := start(t, filepath.Join(disk, "data"), "serve", "--config", config)
	l := &load{sent: map[string]bool{}, answered: map[string]bool{}, pace: 20 * time.Millisecond}
	ctx, cancel := context.WithCancel(t.Context())
	done := l.run(ctx, p, 0)
	for range 3 {
		refused := l.refused.Load()
		drop := ballast(t, disk, 0)
		eventually(t, 20*time.Second, func() error {
			if l.refused.Load() == refused {
				return errors.New("every request is still answered 200")
			}
			return nil
		})
		if err := recommends(p); err != nil {
			t.Error(err)
		}
		drop()
		eventually(t, 20*time.Second, func() error {
			status, err := p.send(http.DefaultClient, tp2(map[string]string{"e": "pv", "p": "web", "tv": "e2e", "eid": l.id()}))
			if err != nil || status != http.StatusOK {
				return fmt.Errorf("answered %d, %w", status, err)
			}
			return nil
		})
	}
	cancel()
	<-done
	eventually(t, 30*time.Second, func() error { return settled(p) })
	p.stop(t)
	t.Logf("%d events answered 200, %d requests refused", len(l.answered), l.refused.Load())
	l.compareBoth(t, p.dir)
}

// TestOverBudget lets the data folder outgrow its budget: the recorder pauses, and
// goes on by itself when something was deleted.
func TestOverBudget(t *testing.T) {
	t.Parallel()
	config := write(t, "disk: {budgetBytes: 60000000}\nbus: {journal: {segmentBytes: 1048576, maxBytes: 41943040}}\n"+
		"archive: {rollBytes: 1048576, rollAge: 1s}\nrecommender: {snapshot: {bytes: 1048576, interval: 1s}}\n")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 70_000_000), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, dir, "serve", "--config", config)
	l := &load{sent: map[string]bool{}, answered: map[string]bool{}, pace: 50 * time.Millisecond}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	<-l.run(ctx, p, 0)
	for _, group := range []string{"recorder-store", "recorder-archive"} {
		eventually(t, 10*time.Second, func() error { return troubled(p, group) })
	}
	if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
		t.Fatal(err)
	}
	eventually(t, 40*time.Second, func() error { return settled(p) })
	p.stop(t)
	l.compareBoth(t, dir)
}

// compareBoth holds database and archive of a stopped furrow against what was sent.
func (l *load) compareBoth(t *testing.T, dir string) {
	t.Helper()
	l.compare(t, "database", storedIDs(t, database(t, dir)))
	l.compare(t, "archive", archivedIDs(t, dir))
}
