package room

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// lockPace is how often is looked whether the lock is free. It is held while a
// process starts.
const lockPace = 20 * time.Millisecond

// lock takes a file's lock (flock(2)), which goes with the process however it ends.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, vmnetd.Errorf(vmnetd.ErrFailed, "cannot open %s: %w", path, err)
	}
	unlock = func() { _ = unix.Close(fd) }
	for {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return unlock, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			unlock()
			return nil, vmnetd.Errorf(vmnetd.ErrFailed, "cannot lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			unlock()
			return nil, vmnetd.Errorf(vmnetd.ErrBusy, "another process is making vmnetd's own network namespace: %w", ctx.Err()).WithNext("try again")
		case <-time.After(lockPace):
		}
	}
}
