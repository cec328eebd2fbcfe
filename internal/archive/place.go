package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"
)

// place is where finished files come to rest. Names are slash-separated and
// relative to the archive. Each call is all or nothing and durable when it
// returns nil. After an error it may have happened all the same, and may be
// called again: an answer can be lost on the way.
type place interface {
	// create stores a small object unless the name is taken, which it tells by
	// false. Of several callers one is told true. Called again after an error it
	// may find the name taken by what it stored itself.
	create(ctx context.Context, name string, content []byte) (bool, error)
	// put moves a finished, fsynced local file to a name, over what is there. The
	// local file is there until it is stored, so that the call can be repeated.
	put(ctx context.Context, local, name string) error
	// open reads an object; fs.ErrNotExist when there is none. ctx lasts until the
	// object is closed. An object that is replaced meanwhile is read as it was, or
	// reading fails.
	open(ctx context.Context, name string) (object, error)
	// list calls fn for every object under a prefix that ends in a slash, in no
	// order. fn may call the place.
	list(ctx context.Context, prefix string, fn func(name string, size int64) error) error
	// remove deletes an object, or all objects under a prefix that ends in a slash,
	// of which an error can leave some. What is not there is no error.
	remove(ctx context.Context, name string) error
}

// object is an open stored file.
type object interface {
	io.ReaderAt
	io.Closer
	size() int64
}

// disk is a place on the local file system.
type disk struct {
	root string
	tmp  string // on the same file system, so that a link or rename is atomic
}

type diskObject struct {
	*os.File
	bytes int64
}

func (o diskObject) size() int64 { return o.bytes }

func (d disk) path(name string) string { return filepath.Join(d.root, filepath.FromSlash(name)) }

// create links a complete, synced file to the name: a crash leaves the whole
// object or none. File systems without links fall back to O_EXCL, where a crash
// can leave a torn object; readers of small objects treat that as absent.
func (d disk) create(_ context.Context, name string, content []byte) (bool, error) {
	final := d.path(name)
	if err := makeFolder(filepath.Dir(final)); err != nil {
		return false, err
	}
	local, err := writeTemp(d.tmp, content)
	if err != nil {
		return false, err
	}
	defer os.Remove(local)
	err = os.Link(local, final)
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EPERM) {
		err = writeExclusive(final, content)
	}
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, syncFolder(filepath.Dir(final))
}

func (d disk) put(_ context.Context, local, name string) error {
	final := d.path(name)
	if err := makeFolder(filepath.Dir(final)); err != nil {
		return err
	}
	if err := os.Rename(local, final); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(final))
}

func (d disk) open(_ context.Context, name string) (object, error) {
	f, err := os.Open(d.path(name))
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return diskObject{f, info.Size()}, nil
}

func (d disk) list(ctx context.Context, prefix string, fn func(string, int64) error) error {
	err := filepath.WalkDir(d.path(prefix), func(p string, entry fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // deleted while we looked
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(d.root, p)
		if err != nil {
			return err
		}
		return fn(filepath.ToSlash(name), info.Size())
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (d disk) remove(_ context.Context, name string) error {
	if name != "" && name[len(name)-1] == '/' {
		if err := os.RemoveAll(d.path(name)); err != nil {
			return err
		}
		// The date folder goes with its last hour; it fails while others are left.
		_ = os.Remove(d.path(path.Dir(path.Clean(name))))
		return nil
	}
	if err := os.Remove(d.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// writeTemp stores content in a new synced file of a folder.
func writeTemp(folder string, content []byte) (string, error) {
	f, err := os.CreateTemp(folder, "object-*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

func writeExclusive(name string, content []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// makeFolder creates a folder and its parents, each durable in its own parent.
func makeFolder(folder string) error {
	if _, err := os.Stat(folder); err == nil {
		return nil
	}
	parent := filepath.Dir(folder)
	if parent == folder {
		return fmt.Errorf("archive: no folder %q", folder)
	}
	if err := makeFolder(parent); err != nil {
		return err
	}
	if err := os.Mkdir(folder, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncFolder(parent)
}

func syncFolder(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
