package tapdev

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/queuefd"
)

// VHost says whether the host has vhost-net, and if not why. QEMU 7.2 ends by
// an assertion when it is told to use one that does not work, so it is opened
// and not only looked for.
func (h *Host) VHost() (ok bool, reason string) {
	fd, reason := h.vhostFD()
	if reason != "" {
		return false, reason
	}
	_ = unix.Close(fd)
	return true, ""
}

func (h *Host) openVHost(set *queuefd.Set, queues int) error {
	for i := range queues {
		fd, reason := h.vhostFD()
		if reason == "" {
			set.VHost = append(set.VHost, fd)
			continue
		}
		if i == 0 {
			set.VHostReason = reason
			return nil
		}
		return vmnetd.Errorf(vmnetd.ErrFailed, "vhost-net works for %d of %d queues only: %s", i, queues, reason)
	}
	return nil
}

func (h *Host) vhostFD() (fd int, reason string) {
	fd, err := unix.Open(h.vhost, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		return fd, ""
	case errors.Is(err, fs.ErrNotExist):
		return -1, fmt.Sprintf("this host has no %s", h.vhost)
	}
	return -1, fmt.Sprintf("%s cannot be opened: %v", h.vhost, err)
}
