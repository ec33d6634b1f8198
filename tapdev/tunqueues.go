package tapdev

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/queuefd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// tunQueues are opened by /dev/net/tun and the device's name.
type tunQueues struct{}

func (tunQueues) count(l rtnl.Link) int {
	t, _ := l.Tun()
	if !t.MultiQueue {
		return 1
	}
	return t.Queues
}

func (tunQueues) open(h *Host, set *queuefd.Set, l rtnl.Link, n int) error {
	if n < 1 || n > MaxQueues {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "%d queues of %s asked for; a tap has 1 to %d", n, nameOf(l), MaxQueues)
	}
	t, _ := l.Tun()
	for i := range n {
		fd, err := h.openTun()
		if err != nil {
			return whyNoTun(l, i, err)
		}
		set.Queues = append(set.Queues, fd)
		if err := setQueue(fd, l.Name, t.MultiQueue); err != nil {
			return whyNoTun(l, i, err)
		}
		if err := checkTap(fd, l); err != nil {
			return vmnetd.Errorf(vmnetd.ErrFailed, "cannot use queue %d of %s: %w", i, nameOf(l), err).WithNext("try again")
		}
	}
	return nil
}

// checkTap makes sure that the queue is not one of a device that TUNSETIFF has just
// made, in the place of one that has gone: that one does not persist.
func checkTap(fd int, l rtnl.Link) error {
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, ifr); err != nil {
		return fmt.Errorf("TUNGETIFF: %w", err)
	}
	if ifr.Uint16()&unix.IFF_PERSIST == 0 {
		return fmt.Errorf("%s has gone", l.Name)
	}
	return checkQueue(fd, l)
}

func whyNoTun(l rtnl.Link, queue int, err error) error {
	switch {
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.E2BIG): // drivers/net/tun.c, tun_attach
		return vmnetd.Errorf(vmnetd.ErrBusy, "cannot open queue %d of %s: all queues that it can have are open: %w", queue, nameOf(l), err).
			WithNext("end the process that holds them")
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return vmnetd.Errorf(vmnetd.ErrFailed, "cannot open queue %d of %s: %w", queue, nameOf(l), err).
			WithNext("it takes CAP_NET_ADMIN, and a device policy that allows " + tunDevice)
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "cannot open queue %d of %s: %w", queue, nameOf(l), err)
}

// tunNumber is the device number of /dev/net/tun (uapi/linux/miscdevice.h,
// MISC_MAJOR and TUN_MINOR).
var tunNumber = unix.Mkdev(10, 200)

// mine goes by the name in fdinfo(5), and by the network namespace of the device
// behind the descriptor: names belong to one. Where a process does not let its
// descriptor be looked at, it counts as one of this namespace.
func (tunQueues) mine(h *Host, l rtnl.Link) (uint64, func(pid, fd int) bool, error) {
	inode := uint64(0)
	err := h.conn.Do(func() error {
		var st unix.Stat_t
		err := unix.Stat("/proc/thread-self/ns/net", &st)
		inode = st.Ino
		return err
	})
	if err != nil {
		return 0, nil, vmnetd.Errorf(vmnetd.ErrFailed, "cannot tell which network namespace this is: %w", err)
	}
	return tunNumber, func(pid, fd int) bool {
		return tunName(pid, fd) == l.Name && !elsewhere(pid, fd, inode)
	}, nil
}

// tunName is the name of the device that a process's descriptor of /dev/net/tun is
// a queue of (drivers/net/tun.c, tun_chr_show_fdinfo), "" for none.
func tunName(pid, fd int) string {
	info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, fd))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(info)) {
		if name, ok := strings.CutPrefix(line, "iff:"); ok {
			return strings.TrimSpace(name)
		}
	}
	return ""
}

// tunGetDevNetNS is TUNGETDEVNETNS, _IO('T', 227), uapi/linux/if_tun.h.
const tunGetDevNetNS = 0x54e3

// elsewhere says that the device behind a process's descriptor is surely in
// another network namespace than the one with that inode.
func elsewhere(pid, fd int, inode uint64) bool {
	queue, err := copyOf(pid, fd)
	if err != nil {
		return false
	}
	defer unix.Close(queue)
	ns, err := unix.IoctlRetInt(queue, tunGetDevNetNS)
	if err != nil {
		return false
	}
	defer unix.Close(ns)
	var st unix.Stat_t
	err = unix.Fstat(ns, &st)
	return err == nil && st.Ino != inode
}
