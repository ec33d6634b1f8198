package tapdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// Doctor checks what the devices need of the host, and makes none.
func (h *Host) Doctor(ctx context.Context) []vmnetd.Check {
	return []vmnetd.Check{checkKernel(), h.checkKind(ctx, kind), h.checkNodes(), h.checkVHost(), checkTun()}
}

func checkKernel() vmnetd.Check {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return vmnetd.Check{Level: vmnetd.LevelWarn, Name: "kernel", Text: err.Error()}
	}
	release := unix.ByteSliceToString(u.Release[:])
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err == nil && (major < 5 || major == 5 && minor < 14) {
		return vmnetd.Check{
			Level: vmnetd.LevelWarn, Name: "kernel", Text: release + " does not say by netlink which device is behind a link",
			Do: "use Linux 5.14 or later, or match no uplink by path",
		}
	}
	return vmnetd.Check{Level: vmnetd.LevelOK, Name: "kernel", Text: release}
}

// checkKind asks for a device without a lower one: a kernel that knows the
// kind, loading its module if need be, finds fault with that (EINVAL), one
// that does not know it says so before (EOPNOTSUPP; net/core/rtnetlink.c,
// rtnl_newlink).
func (h *Host) checkKind(ctx context.Context, kind string) vmnetd.Check {
	err := h.conn.Create(ctx, rtnl.NewLink{Name: vmnetd.IfnamePrefix + "-probe", Kind: kind})
	switch {
	case errors.Is(err, unix.EINVAL):
		return vmnetd.Check{Level: vmnetd.LevelOK, Name: kind, Text: "the kernel has it"}
	case errors.Is(err, unix.EOPNOTSUPP):
		return vmnetd.Check{
			Level: vmnetd.LevelFail, Name: kind, Text: "the kernel does not have it: the module is missing, or loading it is blocked",
			Do: "modprobe " + kind + "; see /etc/modprobe.d for a blacklist",
		}
	case errors.Is(err, unix.EPERM):
		return vmnetd.Check{Level: vmnetd.LevelFail, Name: kind, Text: "this process may not make devices", Do: "give it CAP_NET_ADMIN"}
	}
	return vmnetd.Check{Level: vmnetd.LevelWarn, Name: kind, Text: fmt.Sprintf("cannot tell: %v", err)}
}

// checkNodes makes a device node and opens it, as Open does where /dev/tapN is
// not the right one. It is the null device's.
func (h *Host) checkNodes() vmnetd.Check {
	bad := func(err error, do string) vmnetd.Check {
		return vmnetd.Check{Level: vmnetd.LevelFail, Name: "device nodes", Text: err.Error(), Do: do}
	}
	dir, err := os.MkdirTemp(h.dev, ".vmnetd-")
	if err != nil {
		return bad(err, "make "+h.dev+" writable for vmnetd")
	}
	defer os.Remove(dir)
	path := filepath.Join(dir, "null")
	if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		return bad(fmt.Errorf("cannot make one in %s: %w", h.dev, err), "give vmnetd CAP_MKNOD")
	}
	defer os.Remove(path)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return bad(fmt.Errorf("cannot open one in %s: %w", h.dev, err), "mount "+h.dev+" without nodev")
	}
	_ = unix.Close(fd)
	return vmnetd.Check{Level: vmnetd.LevelOK, Name: "device nodes", Text: "can be made in " + h.dev}
}

func (h *Host) checkVHost() vmnetd.Check {
	if ok, reason := h.VHost(); !ok {
		return vmnetd.Check{Level: vmnetd.LevelWarn, Name: "vhost-net", Text: reason, Do: "modprobe vhost_net"}
	}
	return vmnetd.Check{Level: vmnetd.LevelOK, Name: "vhost-net", Text: h.vhost}
}

// checkTun looks for what plain taps need. Macvtaps do not.
func checkTun() vmnetd.Check {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return vmnetd.Check{
			Level: vmnetd.LevelWarn, Name: "/dev/net/tun", Text: fmt.Sprintf("cannot be opened (macvtap does not need it): %v", err),
			Do: "modprobe tun",
		}
	}
	_ = unix.Close(fd)
	return vmnetd.Check{Level: vmnetd.LevelOK, Name: "/dev/net/tun", Text: "opens"}
}
