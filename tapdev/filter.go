package tapdev

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// SetFilter has a device receive what its guest asks for: frames to mac, to the
// groups, and to all groups where all is said. The host's own memberships, such as
// 224.0.0.1, stay. What is no group is passed over: a guest can ask for anything.
// A MAC that another device on the lower device has is vmnetd.ErrBusy, naming the
// holder; the groups are set all the same. vmnetd.ErrNotFound: the device has gone.
//
// From then on Ensure is to be told so by Spec.Filtered.
func (h *Host) SetFilter(ctx context.Context, dev Device, mac net.HardwareAddr, groups []net.HardwareAddr, all bool) error {
	if _, err := vmnetd.ParseMAC(mac.String()); err != nil {
		return err
	}
	link, err := h.current(ctx, dev)
	if err != nil {
		return err
	}
	k, _ := kindOf(link)
	if !k.allMulti { // a port of a bridge gets what the bridge sends it
		return h.setMAC(ctx, link, k.macFor(mac))
	}
	return errors.Join(h.setGroups(ctx, link, groups, all), h.setMAC(ctx, link, mac))
}

func (h *Host) setMAC(ctx context.Context, link rtnl.Link, mac net.HardwareAddr) error {
	if bytes.Equal(link.MAC, mac) {
		return nil
	}
	if k, _ := kindOf(link); k.sharesMAC {
		return vmnetd.Errorf(vmnetd.ErrBusy, "%s has the MAC %s of the device that it stands on, and cannot have %s", nameOf(link), link.MAC, mac).
			WithNext("give the guest that MAC, or use another mode")
	}
	if err := h.conn.Set(ctx, rtnl.Change{Index: link.Index, Attrs: []rtnl.Attr{rtnl.MAC(mac)}}); err != nil {
		return h.whyNoMAC(ctx, link, mac, err)
	}
	return nil
}

// setGroups joins before it leaves, and takes all before it leaves any: what the
// guest had and goes on wanting is never missed.
func (h *Host) setGroups(ctx context.Context, link rtnl.Link, groups []net.HardwareAddr, all bool) error {
	failed := func(err error) error {
		if errors.Is(err, unix.ENODEV) {
			return vmnetd.Errorf(vmnetd.ErrNotFound, "the device of %s has gone: %w", nameOf(link), err)
		}
		return vmnetd.Errorf(vmnetd.ErrFailed, "cannot change which groups %s receives: %w", nameOf(link), err)
	}
	if all && !link.AllMulti {
		if err := h.setAllMulti(ctx, link, true); err != nil {
			return failed(err)
		}
	}
	if err := h.changeGroups(link, groups); err != nil {
		return failed(err)
	}
	if !all && link.AllMulti {
		if err := h.setAllMulti(ctx, link, false); err != nil {
			return failed(err)
		}
	}
	return nil
}

func (h *Host) setAllMulti(ctx context.Context, link rtnl.Link, on bool) error {
	ch := rtnl.Change{Index: link.Index, Mask: unix.IFF_ALLMULTI}
	if on {
		ch.Flags = unix.IFF_ALLMULTI
	}
	return h.conn.Set(ctx, ch)
}

// group is a multicast MAC.
type group [6]byte

// changeGroups makes the groups that were joined by ioctl exactly these.
func (h *Host) changeGroups(link rtnl.Link, groups []net.HardwareAddr) error {
	wanted := map[group]bool{}
	for _, g := range groups {
		if len(g) == 6 && g[0]&1 == 1 {
			wanted[group(g)] = true
		}
	}
	return h.conn.Do(func() error {
		joined, err := joinedGroups(link.Index)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0) // any will do; the service may make no AF_INET ones
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return errors.Join(
			changeMissing(fd, unix.SIOCADDMULTI, link.Name, wanted, joined),
			changeMissing(fd, unix.SIOCDELMULTI, link.Name, joined, wanted))
	})
}

// changeMissing joins or leaves those of groups that are not in others.
func changeMissing(fd int, request uintptr, ifname string, groups, others map[group]bool) error {
	for g := range groups {
		if others[g] {
			continue
		}
		if err := changeGroup(fd, request, ifname, g); err != nil {
			return fmt.Errorf("group %s: %w", net.HardwareAddr(g[:]), err)
		}
	}
	return nil
}

// changeGroup is one SIOCADDMULTI or SIOCDELMULTI (netdevice(7)). A group is in
// the list once however often it is added so (net/core/dev_addr_lists.c,
// dev_mc_add_global), beside what the host's protocols ask for.
func changeGroup(fd int, request uintptr, ifname string, g group) error {
	req := ifreqHardware{family: unix.AF_UNSPEC}
	copy(req.name[:unix.IFNAMSIZ-1], ifname)
	copy(req.data[:], g[:])
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(&req)))
	if errno != 0 && (errno != unix.ENOENT || request != unix.SIOCDELMULTI) {
		return errno
	}
	return nil
}

// joinedGroups is the groups that were joined by ioctl. RTM_GETMULTICAST has the
// IP addresses of groups, and none of these. /proc/net is the namespace of the
// process, /proc/thread-self/net that of the thread.
func joinedGroups(index int) (map[group]bool, error) {
	f, err := os.Open("/proc/thread-self/net/dev_mcast")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	joined := map[group]bool{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if g, ok := joinedGroup(lines.Text(), index); ok {
			joined[g] = true
		}
	}
	return joined, lines.Err()
}

// joinedGroup reads "INDEX NAME REFERENCES GLOBAL ADDRESS" (dev_mc_seq_show); GLOBAL
// is not 0 for those that were joined by ioctl.
func joinedGroup(line string, index int) (g group, ok bool) {
	f := strings.Fields(line)
	if len(f) != 5 || f[0] != strconv.Itoa(index) || f[3] == "0" {
		return g, false
	}
	b, err := hex.DecodeString(f[4])
	if err != nil || len(b) != len(g) {
		return g, false
	}
	return group(b), true
}
