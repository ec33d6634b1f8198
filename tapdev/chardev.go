package tapdev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// sysfs is a sysfs that shows the devices of the connection's namespace. The
// one mounted at /sys shows those of whoever mounted it: the host's after
// unshare(1) or nsenter(1), one's own after ip-netns(8) exec.
type sysfs struct{ fd int } // -1 where none could be had

// openSysfs mounts one that only the descriptor reaches (fsopen(2), Linux 5.2).
// It takes CAP_SYS_ADMIN; without, devices are found by /sys/dev/char.
func openSysfs(conn *rtnl.Conn) sysfs {
	s := sysfs{fd: -1}
	_ = conn.Do(func() error {
		fs, err := unix.Fsopen("sysfs", unix.FSOPEN_CLOEXEC)
		if err != nil {
			return err
		}
		defer unix.Close(fs)
		if err := unix.FsconfigCreate(fs); err != nil {
			return err
		}
		fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
		if err == nil {
			s.fd = fd
		}
		return err
	})
	return s
}

// rdev is the device number of a link's character device, 0 where its kind has
// none.
func (h *Host) rdev(l rtnl.Link) (uint64, error) {
	k, _ := kindOf(l)
	if k.class() == "" {
		return 0, nil
	}
	var (
		text string
		err  error
	)
	if h.sysfs.fd >= 0 {
		text, err = h.sysfs.read(fmt.Sprintf("class/%s/tap%d/dev", k.class(), l.Index))
	} else {
		text, err = findCharDev(l)
	}
	if err != nil {
		return 0, vmnetd.Errorf(vmnetd.ErrFailed, "cannot find the character device of %s: %w", l.Name, err)
	}
	return parseRdev(text)
}

func (s sysfs) read(path string) (string, error) {
	fd, err := unix.Openat(s.fd, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	buf := make([]byte, 64)
	n, err := unix.Read(fd, buf)
	return string(buf[:max(n, 0)]), err
}

// findCharDev looks through /sys/dev/char, which shows every character device
// in whatever namespace it was mounted: 246:1 -> …/net/NAME/macvtap/tapINDEX.
// Where two namespaces have a device of that name and index, nothing here says
// which is meant.
func findCharDev(l rtnl.Link) (string, error) {
	const dir = "/sys/dev/char"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	want := fmt.Sprintf("/net/%s/%s/tap%d", l.Name, l.Kind, l.Index)
	var found []string
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && strings.HasSuffix(target, want) {
			found = append(found, e.Name())
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fmt.Errorf("%s has no entry for %s", dir, want)
	}
	return "", errors.New("another network namespace has a device of the same name and index; it takes CAP_SYS_ADMIN to tell them apart")
}

func parseRdev(text string) (uint64, error) {
	major, minor, _ := strings.Cut(strings.TrimSpace(text), ":")
	ma, err1 := strconv.ParseUint(major, 10, 32)
	mi, err2 := strconv.ParseUint(minor, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return 0, vmnetd.Errorf(vmnetd.ErrFailed, "%q is not a device number: %w", text, err)
	}
	return unix.Mkdev(uint32(ma), uint32(mi)), nil
}

// node is a place from which a character device can be opened any number of
// times: an O_PATH descriptor of its node. The node itself need not be there
// any more.
type node struct{ fd int }

// openNode finds or makes a node with that device number. /dev/tapINDEX is
// right most of the time; but indexes belong to a network namespace and /dev
// does not, so it may be another device's, or gone with that. Nothing is
// opened to find out: opening a queue takes a share of the device's frames.
func (h *Host) openNode(index int, rdev uint64) (node, error) {
	name := fmt.Sprintf("tap%d", index)
	if n, err := pathNode(filepath.Join(h.dev, name), rdev); err == nil {
		return n, nil
	}
	// systemd mounts /run and a tmpfs /tmp nodev; /dev takes device nodes.
	dir, err := os.MkdirTemp(h.dev, ".vmnetd-")
	if err != nil {
		return node{}, vmnetd.Errorf(vmnetd.ErrFailed, "cannot make a folder for a device node: %w", err)
	}
	defer os.Remove(dir)
	path := filepath.Join(dir, name)
	if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(rdev)); err != nil {
		return node{}, vmnetd.Errorf(vmnetd.ErrFailed, "cannot make the device node %s: %w", path, err).
			WithNext(needForNodes)
	}
	// A node that stays would one day open the next VM's tap: minors come again.
	defer os.Remove(path)
	n, err := pathNode(path, rdev)
	if err != nil {
		return node{}, vmnetd.Errorf(vmnetd.ErrFailed, "cannot use the device node %s: %w", path, err)
	}
	return n, nil
}

func pathNode(path string, rdev uint64) (node, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return node{}, err
	}
	if err := isDevice(fd, rdev); err != nil {
		_ = unix.Close(fd)
		return node{}, err
	}
	return node{fd: fd}, nil
}

func isDevice(fd int, rdev uint64) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != rdev {
		return errors.New("it is another device")
	}
	return nil
}

// needForNodes is what it takes to make a device node, the same for every kind.
const needForNodes = "it takes CAP_MKNOD, and a device policy that allows char-macvtap and char-ipvtap"

// open opens the device once: one queue. The descriptor is a plain int, and
// non-blocking from the start, as QEMU wants it.
func (n node) open() (int, error) {
	return unix.Open(fmt.Sprintf("/proc/self/fd/%d", n.fd), unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
}

func (n node) close() { _ = unix.Close(n.fd) }
