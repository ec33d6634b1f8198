package tapdev

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// HoldersNamed is Holders for a macvtap or ipvtap that was moved into another
// namespace: it got another number there (drivers/net/macvtap.c,
// macvtap_device_event), and the descriptors that are open keep the old one. The
// device's name is all that they still tell (drivers/net/tap.c, tap_ioctl,
// TUNGETIFF), to who has a copy of them: pidfd_getfd(2), which takes CAP_SYS_PTRACE
// for a process of another user. Where that is refused, complete is false.
func (h *Host) HoldersNamed(ctx context.Context, ifname string) (pids []int, complete bool, err error) {
	majors, err := queueMajors()
	if err != nil {
		return nil, false, err
	}
	return h.search(ctx, func(pid, fd int, rdev uint64) (is, sure bool) {
		if !slices.Contains(majors, unix.Major(rdev)) {
			return false, true
		}
		name, err := queueName(pid, fd)
		return err == nil && name == ifname, err == nil || ended(err)
	})
}

// queueMajors is the major numbers of the kinds with character devices of their own,
// of those that the kernel has.
func queueMajors() (majors []uint32, err error) {
	text, err := os.ReadFile("/proc/devices")
	if err != nil {
		return nil, vmnetd.Errorf(vmnetd.ErrFailed, "cannot tell which devices are taps: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 2 || !slices.ContainsFunc(kinds, func(k kind) bool { return k.class() == f[1] }) {
			continue
		}
		if n, err := strconv.ParseUint(f[0], 10, 32); err == nil {
			majors = append(majors, uint32(n))
		}
	}
	return majors, nil
}

// queueName is the name of the device that a process's descriptor is a queue of, ""
// where that has gone.
func queueName(pid, fd int) (string, error) {
	queue, err := copyOf(pid, fd)
	if err != nil {
		return "", err
	}
	defer unix.Close(queue)
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return "", err
	}
	err = unix.IoctlIfreq(queue, unix.TUNGETIFF, ifr)
	if errors.Is(err, unix.ENOLINK) {
		return "", nil
	}
	return ifr.Name(), err
}

// copyOf is a copy of a process's descriptor; os.ErrNotExist where it was closed
// meanwhile.
func copyOf(pid, fd int) (int, error) {
	proc, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(proc)
	got, err := unix.PidfdGetfd(proc, fd, 0)
	if errors.Is(err, unix.EBADF) {
		return -1, os.ErrNotExist
	}
	return got, err
}
