package netns

import "golang.org/x/sys/unix"

// Clone is the same namespace by a descriptor of its own.
func (n *NS) Clone() (*NS, error) {
	fd, err := unix.FcntlInt(uintptr(n.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &NS{fd: fd, id: n.id}, nil
}
