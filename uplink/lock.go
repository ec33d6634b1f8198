package uplink

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// lockWait is how long a caller waits for somebody else's apply or rollback.
const lockWait = 15 * time.Second

// acquire takes the lock under which uplinks are changed (flock(2) on
// LibDir/uplinks/lock): the daemon and a guard have it in turn. A process that
// is killed gives it back.
//
// flock cannot be interrupted: one that is waited for no longer is given back
// as soon as it is got.
func (s store) acquire(ctx context.Context) (unlock func(), err error) {
	fd, err := unix.Open(s.lock(), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, vmnetd.Errorf(vmnetd.ErrFailed, "cannot open %s: %w", s.lock(), err)
	}
	unlock = func() { _ = unix.Close(fd) }
	err = flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return unlock, nil
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		unlock()
		return nil, err
	}
	got := make(chan error)
	go func() {
		err := flock(fd, unix.LOCK_EX)
		select {
		case got <- err:
		case <-ctx.Done():
			unlock()
		}
	}()
	select {
	case err := <-got:
		if err != nil {
			unlock()
			return nil, err
		}
		return unlock, nil
	case <-ctx.Done():
		return nil, vmnetd.Errorf(vmnetd.ErrBusy, "the uplinks are being changed by another call").WithNext("wait a moment; vmnetd uplink list  shows what is")
	}
}

func flock(fd, how int) error {
	for {
		err := unix.Flock(fd, how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
