package tapdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// Doctor checks what the devices need of the host, and makes none.
func (h *Host) Doctor(ctx context.Context) []vmnetd.Check {
	checks := []vmnetd.Check{checkKernel()}
	for _, k := range kinds {
		checks = append(checks, h.checkKind(ctx, k))
	}
	return append(checks, h.checkNodes(), h.checkVHost())
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

// checkKind says whether the kernel has a kind of device. One that not every host
// needs is only a warning.
func (h *Host) checkKind(ctx context.Context, k kind) vmnetd.Check {
	name := string(k.name)
	switch found, err := k.maker.probe(ctx, h, k); {
	case err == nil:
		return vmnetd.Check{Level: vmnetd.LevelOK, Name: name, Text: found}
	case errors.Is(err, unix.EOPNOTSUPP):
		return vmnetd.Check{Level: k.level, Name: name, Text: missing(k, err).Text, Do: missing(k, err).Next}
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return vmnetd.Check{Level: vmnetd.LevelFail, Name: name, Text: "this process may not make devices: " + err.Error(), Do: "give it CAP_NET_ADMIN, and a device policy that allows " + tunDevice}
	default:
		return vmnetd.Check{Level: vmnetd.LevelWarn, Name: name, Text: fmt.Sprintf("cannot tell: %v", err)}
	}
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
