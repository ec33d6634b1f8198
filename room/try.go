package room

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// Try says whether Serve would come to serve in this namespace, by opening, asking and
// closing again what it works with; nothing changes. What becomes of a process that
// holds a namespace is tried in that namespace, before: with it the devices would go.
func Try(ctx context.Context, o ServeOptions) (err error) {
	s := &server{o: o}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.enter(); err != nil {
		return err
	}
	watch, err := rtnl.OpenWatch()
	if err != nil {
		return err
	}
	if err := watch.Close(); err != nil {
		return err
	}
	if _, err := s.in.Ours(ctx); err != nil {
		return err
	}
	return listens(o.Listener)
}

// listens makes sure of a listener that an earlier program passes on; 0: none. It
// stays open.
func listens(fd int) error {
	if fd == 0 {
		return nil
	}
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "descriptor %d is no listener: %w", fd, err)
	}
	on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil || on == 0 || domain != unix.AF_UNIX {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "descriptor %d is no unix socket's listener", fd)
	}
	return nil
}
