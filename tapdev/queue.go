package tapdev

import (
	"bytes"
	"fmt"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// setQueue gives a queue the flags that QEMU expects, the same on all queues
// of a device, as libvirt does (util/virnetdevmacvlan.c,
// virNetDevMacVLanTapSetup). The size of the virtio-net header and the
// offloads are QEMU's to set: it does so when the guest's driver says what it
// can (net/tap.c).
func setQueue(fd int, ifname string, multi bool) error {
	return setFlags(fd, ifname, queueFlags(multi))
}

func queueFlags(multi bool) uint16 {
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if multi {
		flags |= unix.IFF_MULTI_QUEUE
	}
	return flags
}

func setFlags(fd int, ifname string, flags uint16) error {
	ifr, err := unix.NewIfreq(ifname)
	if err != nil {
		return err
	}
	ifr.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return fmt.Errorf("TUNSETIFF: %w", err)
	}
	return nil
}

// checkQueue asks the queue itself whose it is.
func checkQueue(fd int, l rtnl.Link) error {
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, ifr); err != nil {
		return fmt.Errorf("TUNGETIFF: %w", err)
	}
	if ifr.Name() != l.Name {
		return fmt.Errorf("the queue is one of %s", ifr.Name())
	}
	mac, err := queueMAC(fd)
	if err != nil {
		return fmt.Errorf("SIOCGIFHWADDR: %w", err)
	}
	if !bytes.Equal(mac, l.MAC) {
		return fmt.Errorf("the queue is one of a device with MAC %s", mac)
	}
	return nil
}

// ifreqHardware is struct ifreq (linux/if.h) with its hardware address; the
// unix package gives no access to that.
type ifreqHardware struct {
	name   [unix.IFNAMSIZ]byte
	family uint16
	data   [22]byte
}

func queueMAC(fd int) (net.HardwareAddr, error) {
	var req ifreqHardware
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCGIFHWADDR, uintptr(unsafe.Pointer(&req)))
	if errno != 0 {
		return nil, errno
	}
	return bytes.Clone(req.data[:6]), nil
}
