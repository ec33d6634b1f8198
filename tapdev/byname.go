package tapdev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// Who opens a queue by name opens /dev/tapIFINDEX, as libvirt does
// (util/virnetdevmacvlan.c, virNetDevMacVLanTapOpen) without looking whose it is.
// Indexes belong to a network namespace and /dev does not. So the node is made
// where it is missing, and where another device has it, ours gets another index.

// A kind without such a node is opened otherwise, if there is none: libvirt takes
// every device for a macvtap whose index has one (virnetdevmacvlan.c,
// virNetDevMacVLanIsMacvtap), and would give its VM the queues of a device in
// another namespace. So a tap has from the start an index that no namespace reaches
// by counting.

// errForeignNode: the node's name is another device's.
var errForeignNode = errors.New("another device has that name in /dev")

// indexTries is how many indexes a device is made with before its maker gives up.
const indexTries = 5

// nodeTries is for nodes that others make and remove at the same moment.
const nodeTries = 5

// nodePath is what somebody opens by name.
func (h *Host) nodePath(index int) string {
	return filepath.Join(h.dev, fmt.Sprintf("tap%d", index))
}

// claimNode has /dev/tapIFINDEX be the device's: its number, root's alone.
// errForeignNode when it is another living device's.
func (h *Host) claimNode(dev Device) error {
	path := h.nodePath(dev.Ifindex)
	for range nodeTries {
		st, err := lstat(path)
		if err == nil && st.is(dev.Rdev) && st.rootsAlone() {
			return nil
		}
		if err == nil {
			err = clearNode(path, st, dev.Rdev)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		err = unix.Mknod(path, unix.S_IFCHR|0o600, int(dev.Rdev))
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return vmnetd.Errorf(vmnetd.ErrFailed, "cannot make the device node %s: %w", path, err).
				WithNext(needForNodes)
		}
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "the device node %s is made and removed by somebody else all the time", path).WithNext("try again")
}

// claimNoNode has no node be at /dev/tapIFINDEX, for a device of a kind that has none.
// errForeignNode when a living device's is. A device that is up was opened before.
func (h *Host) claimNoNode(dev Device) error {
	if dev.Up {
		return nil
	}
	path := h.nodePath(dev.Ifindex)
	st, err := lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return vmnetd.Errorf(vmnetd.ErrFailed, "cannot look at the device node %s: %w", path, err)
	}
	return clearNode(path, st, 0)
}

// firstIndex is the index that a new device is tried with; 0 for the next one.
func (h *Host) firstIndex(ctx context.Context, s Spec) (int, error) {
	if !s.ByName || s.must().class() != "" {
		return 0, nil
	}
	return h.freeIndex(ctx)
}

// clearNode makes way for a device's node: what is there is of a device that has
// gone, or open to others.
func clearNode(path string, st nodeStat, rdev uint64) error {
	if !st.is(rdev) && st.alive() {
		return fmt.Errorf("%s: %w", path, errForeignNode)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return vmnetd.Errorf(vmnetd.ErrFailed, "cannot replace the device node %s: %w", path, err)
	}
	return nil
}

// dropNode removes /dev/tapIFINDEX while it is still that device's. The kernel
// removes only the nodes that it made itself (drivers/base/devtmpfs.c,
// dev_mynode); one of ours that stayed would open the next VM's tap, since minors
// come again.
func (h *Host) dropNode(index int, rdev uint64) error {
	path := h.nodePath(index)
	if !isNode(path, rdev) {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return vmnetd.Errorf(vmnetd.ErrFailed, "cannot remove the device node %s: %w", path, err).
			WithNext("remove it by hand: it may come to open another VM's device")
	}
	return nil
}

// dropDeadNode is dropNode for a device that has gone without us: by now its
// number may be another device's, and its index too: then the node is that one's.
func (h *Host) dropDeadNode(dev Device) error {
	path := h.nodePath(dev.Ifindex)
	if st, err := lstat(path); err == nil && st.charDev() {
		if now, _ := st.sysName(); now == filepath.Base(path) {
			return nil
		}
	}
	return h.dropNode(dev.Ifindex, dev.Rdev)
}

// freeIndex is an index that is free here and whose node is free too. It is a high
// one, which no namespace reaches by counting.
func (h *Host) freeIndex(ctx context.Context) (int, error) {
	for range indexTries {
		index := h.index()
		if _, err := os.Lstat(h.nodePath(index)); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if _, err := h.conn.LinkByIndex(ctx, index); errors.Is(err, vmnetd.ErrNotFound) {
			return index, nil
		}
	}
	return 0, vmnetd.Errorf(vmnetd.ErrFailed, "no free device number was found in %d tries", indexTries).WithNext("try again")
}

func randomIndex() int { return 1<<24 + rand.IntN(1<<30) }

// replace makes a device of ours anew whose node is another device's, unless
// somebody would notice.
func (h *Host) replace(ctx context.Context, spec Spec, lower rtnl.Link, dev Device) (Device, error) {
	busy := func(format string, args ...any) error {
		return vmnetd.Errorf(vmnetd.ErrBusy, "%s is another network namespace's device, and %s cannot be replaced: %s",
			h.nodePath(dev.Ifindex), dev.fullName(), fmt.Sprintf(format, args...)).
			WithNext("stop the VM or detach the NIC, and attach it again")
	}
	if dev.Up {
		return Device{}, busy("it is up")
	}
	pids, complete, err := h.Holders(ctx, dev)
	switch {
	case err != nil:
		return Device{}, err
	case len(pids) > 0:
		return Device{}, busy("process %d holds it", pids[0])
	case !complete:
		return Device{}, busy("not every process could be searched for who holds it")
	}
	if err := h.Remove(ctx, dev); err != nil {
		return Device{}, err
	}
	return h.create(ctx, spec, lower)
}

// nodeStat is what a path in /dev is.
type nodeStat unix.Stat_t

func lstat(path string) (nodeStat, error) {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	return nodeStat(st), err
}

func isNode(path string, rdev uint64) bool {
	st, err := lstat(path)
	return err == nil && rdev != 0 && st.is(rdev)
}

func (st nodeStat) is(rdev uint64) bool { return st.charDev() && st.Rdev == rdev }

func (st nodeStat) charDev() bool { return st.Mode&unix.S_IFMT == unix.S_IFCHR }

func (st nodeStat) rootsAlone() bool { return st.Uid == 0 && st.Mode&0o777 == 0o600 }

// alive says that the path is not the node of a device that has gone.
func (st nodeStat) alive() bool {
	if !st.charDev() {
		return true
	}
	_, err := st.sysName()
	return !errors.Is(err, fs.ErrNotExist)
}

// sysName is what the kernel calls the device that has the node's number now, in
// whatever namespace.
func (st nodeStat) sysName() (string, error) {
	to, err := os.Readlink(fmt.Sprintf("/sys/dev/char/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)))
	return filepath.Base(to), err
}
