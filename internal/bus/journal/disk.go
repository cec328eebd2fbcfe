package journal

import (
	"errors"
	"fmt"
	"os"
)

// segmentFile is what the journal does to a segment that it appends to. Tests
// put a failing one in its place.
type segmentFile interface {
	WriteAt(p []byte, off int64) (int, error)
	Sync() error // data and size are durable when it returns nil
	Truncate(size int64) error
	Close() error
}

// disk is the file system under the journal, as far as it can fail on writing.
type disk interface {
	// create makes a new file; an existing one is an error.
	create(path string) (segmentFile, error)
	// syncDir makes creations, renames and deletions in a folder durable.
	syncDir(dir string) error
	// free returns the bytes that an ordinary user may still write.
	free(dir string) (int64, error)
}

// osDisk is the real one.
type osDisk struct{}

type osFile struct{ *os.File }

func (osDisk) create(path string) (segmentFile, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// Sync uses fdatasync where there is one: it leaves out the modification time.
func (f osFile) Sync() error { return dataSync(f.File) }

func (osDisk) syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (osDisk) free(dir string) (int64, error) { return freeBytes(dir) }

// writeFile replaces a small file so that after a crash either the old or the
// new content is there.
func writeFile(path string, content []byte) error {
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = dataSync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", temp, err)
	}
	return os.Rename(temp, path)
}
