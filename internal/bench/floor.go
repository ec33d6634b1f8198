package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
	"github.com/vmnetd/vmnetd/tapdev"
)

// floor is an attach and a detach that decide nothing, check nothing and
// remember nothing: the kernel's and QEMU's share of what the daemon does. It
// runs on one thread with blocking calls.
type floor struct {
	host   *testkit.Netns
	lower  int
	mtu    int
	socket string
	mac    net.HardwareAddr
}

func newFloor(s *scope, h *host, socket string) *floor {
	u0 := h.Link(s, "u0")
	return &floor{host: h.Netns, lower: u0.Index, mtu: u0.MTU, socket: socket, mac: net.HardwareAddr{0x52, 0x54, 0, 0xf1, 0, 1}}
}

// What the floor makes is named and marked as the daemon's.
const floorNIC = "vmn-net0"

var ifname = vmnetd.Ifname("floor", "net0")

func (f *floor) attach(_ context.Context, queues int) (took time.Duration, err error) {
	err = f.host.Do(func() error {
		nl, err := openNetlink()
		if err != nil {
			return err
		}
		defer nl.close()
		began := time.Now()
		err = f.plug(nl, queues)
		took = time.Since(began)
		return err
	})
	return took, err
}

func (f *floor) plug(nl *netlinkSock, queues int) error {
	m := macvtap{name: ifname, lower: f.lower, mac: f.mac, mtu: f.mtu, queues: queues}
	if err := nl.create(m, tapdev.Group); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	index, err := indexOf(m.name)
	if err != nil {
		return err
	}
	if err := errors.Join(nl.alias(index, vmnetd.Alias("floor", "net0")), nl.harden(index), disableIPv6(m.name)); err != nil {
		return err
	}
	fds, err := openQueues(index, m)
	defer closeAll(fds)
	if err != nil {
		return err
	}
	vhost, err := openVHost(m.queues)
	defer closeAll(vhost)
	if err != nil {
		return err
	}
	if err := f.handOver(fds, vhost, m); err != nil {
		return err
	}
	return nl.up(index, true)
}

func (f *floor) handOver(fds, vhost []int, m macvtap) error {
	q, err := dialQMP(f.socket)
	if err != nil {
		return err
	}
	defer q.close()
	netdev := map[string]any{"type": "tap", "id": floorNIC + ".n"}
	if netdev["fds"], err = q.give("q", fds); err != nil {
		return err
	}
	if len(vhost) > 0 {
		netdev["vhostforce"] = true
		if netdev["vhostfds"], err = q.give("v", vhost); err != nil {
			return err
		}
	}
	if err := q.run("netdev_add", netdev); err != nil {
		return err
	}
	device := map[string]any{
		"driver": "virtio-net-pci", "id": floorNIC, "netdev": floorNIC + ".n", "mac": m.mac.String(),
		"bus": "rp0", "addr": "0x0", "host_mtu": strconv.Itoa(m.mtu),
	}
	if len(fds) > 1 {
		device["mq"], device["vectors"] = true, strconv.Itoa(2*len(fds)+2)
	}
	return q.run("device_add", device)
}

func (f *floor) detach(_ context.Context, _ int) (took time.Duration, err error) {
	err = f.host.Do(func() error {
		nl, err := openNetlink()
		if err != nil {
			return err
		}
		defer nl.close()
		began := time.Now()
		err = f.unplug(nl)
		took = time.Since(began)
		return err
	})
	return took, err
}

func (f *floor) unplug(nl *netlinkSock) error {
	index, err := indexOf(ifname)
	if err != nil {
		return err
	}
	if err := nl.up(index, false); err != nil {
		return err
	}
	q, err := dialQMP(f.socket)
	if err != nil {
		return err
	}
	err = q.unplug(floorNIC)
	if err == nil {
		err = q.run("netdev_del", map[string]string{"id": floorNIC + ".n"})
	}
	q.close()
	if err != nil {
		return err
	}
	return nl.remove(index)
}

// indexOf asks in the calling thread's namespace.
func indexOf(name string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
		return 0, fmt.Errorf("SIOCGIFINDEX %s: %w", name, err)
	}
	return int(ifr.Uint32()), nil
}

func disableIPv6(name string) error {
	fd, err := unix.Open("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil // a kernel without IPv6
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte("1"))
	return err
}

// openQueues trusts /dev/tapINDEX: newHost saw to it that the number is no
// other namespace's.
func openQueues(index int, m macvtap) (fds []int, err error) {
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if m.queues > 1 {
		flags |= unix.IFF_MULTI_QUEUE
	}
	for range m.queues {
		fd, err := unix.Open("/dev/tap"+strconv.Itoa(index), unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return fds, err
		}
		fds = append(fds, fd)
		ifr, err := unix.NewIfreq(m.name)
		if err != nil {
			return fds, err
		}
		ifr.SetUint16(flags)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
			return fds, fmt.Errorf("TUNSETIFF: %w", err)
		}
	}
	return fds, nil
}

// openVHost opens vhost-net once for each queue, or not at all on a host
// without it.
func openVHost(queues int) (fds []int, err error) {
	for range queues {
		fd, err := unix.Open("/dev/vhost-net", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			return nil, nil
		}
		if err != nil {
			return fds, err
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
