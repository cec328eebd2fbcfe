package journal

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func dataSync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) { // a signal only; any other error is final
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

func freeBytes(dir string) (int64, error) {
	var s unix.Statfs_t
	for {
		err := unix.Statfs(dir, &s)
		if err == nil {
			return int64(s.Bavail) * s.Bsize, nil //nolint:gosec // no disk has 2^63 bytes
		}
		if !errors.Is(err, unix.EINTR) {
			return 0, os.NewSyscallError("statfs", err)
		}
	}
}
