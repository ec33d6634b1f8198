package datapath

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/filter"
	"github.com/vmnetd/vmnetd/internal/queuefd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
	"github.com/vmnetd/vmnetd/internal/vhostnet"
	"github.com/vmnetd/vmnetd/tapdev"
)

// lab is a host with two guests' devices on one uplink, as vmnetd makes them.
type lab struct {
	Path
	t       testkit.TB
	nth     int
	host    *testkit.Netns // has the uplink
	place   *testkit.Netns // has the devices
	filters *filter.Host
	guests  [2]end
}

// end is one guest's device.
type end struct {
	station
	ifname string
	fds    *queuefd.Set
	queues []queue // on these fds
}

// newLab makes the nth path's devices; they are up and filtered by nothing.
func newLab(t testing, nth int, p Path) *lab {
	l := &lab{Path: p, t: t, nth: nth, host: testkit.NewNetns(t)}
	testkit.NewVeth(t, l.host, "u0", testkit.NewNetns(t), "far0")
	if p.Mode != vmnetd.Switched { // others would open the node of that index, and take frames
		l.host.SkipIndexes(t, "u0")
	}
	l.place = l.host
	if p.Mode.Info().Moves {
		l.place = testkit.NewNetns(t)
	}
	filters, err := filter.Open(l.place.Conn())
	t.must(err)
	t.Cleanup(func() { _ = filters.Close() })
	l.filters = filters
	for i := range l.guests {
		t.must(l.guest(i))
	}
	return l
}

// lower is what the devices stand on.
func (l *lab) lower() rtnl.Link {
	if l.Mode != vmnetd.Switched {
		return l.host.Link(l.t, "u0")
	}
	if _, err := l.host.Conn().LinkByName(context.Background(), "br0"); err != nil {
		br := l.host.Create(l.t, rtnl.NewLink{Name: "br0", Kind: "bridge"})
		l.host.Set(l.t, "u0", rtnl.Master(br.Index))
		l.host.SetUp(l.t, "br0")
		l.host.WaitRunning(l.t, "br0")
	}
	return l.host.Link(l.t, "br0")
}

func (l *lab) guest(i int) error {
	ctx := context.Background()
	lower := l.lower()
	vm := fmt.Sprintf("path%d", i)
	e := &l.guests[i]
	e.mac, e.ip, e.ifname = net.HardwareAddr{0x52, 0x54, 0, 0xda, byte(l.nth), byte(i + 1)}, netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), vmnetd.Ifname(vm, "net0")
	if l.Mode.Info().SharesMAC {
		e.mac = lower.MAC
	}
	makes, there := tapdev.New(l.host.Conn(), nil, nil), tapdev.New(l.place.Conn(), nil, nil)
	defer makes.Close()
	defer there.Close()
	dev, err := makes.Ensure(ctx, tapdev.Spec{
		VM: vm, ID: "net0", Ifname: e.ifname, Lower: lower.Index, Mode: l.Mode, MAC: e.mac, Queues: l.Queues, Port: tapdev.Port{Learning: true},
	})
	if err != nil {
		return err
	}
	if e.fds, err = makes.Open(ctx, dev); err != nil {
		return err
	}
	l.t.Cleanup(func() { _ = e.fds.Close() })
	if l.place != l.host {
		if dev, err = l.move(makes, there, dev, e.ip); err != nil {
			return err
		}
	}
	if err := there.SetNICUp(ctx, dev, true); err != nil {
		return err
	}
	l.place.WaitRunning(l.t, e.ifname)
	if err := takeSegments(e.fds.Queues); err != nil {
		return err
	}
	e.queues, err = l.drive(e.fds)
	return err
}

// drive has the guest send and receive by its queues, or by vhost-net.
func (l *lab) drive(fds *queuefd.Set) (queues []queue, err error) {
	if !l.VHost {
		for _, fd := range fds.Queues {
			queues = append(queues, tapQueue(fd))
		}
		return queues, nil
	}
	if len(fds.VHost) == 0 {
		return nil, fmt.Errorf("no vhost-net: %s", fds.VHostReason)
	}
	for i, fd := range fds.Queues {
		p, err := vhostnet.New(fds.VHost[i], fd)
		if err != nil {
			return nil, err
		}
		l.t.Cleanup(func() { _ = p.Close() })
		queues = append(queues, p)
	}
	return queues, nil
}

func (l *lab) move(from, to *tapdev.Host, dev tapdev.Device, ip netip.Addr) (tapdev.Device, error) {
	if err := from.Move(context.Background(), dev, l.place.NS()); err != nil {
		return dev, err
	}
	return to.Settle(context.Background(), dev, tapdev.Settings{
		VM: dev.VM, ID: dev.ID, Ifname: dev.Ifname, Guest: true, IPs: []netip.Prefix{netip.PrefixFrom(ip, 32)},
	})
}

// takeSegments says that the guest takes segments as they are, as a Linux guest's
// driver does, and has it send without waiting for the device, as QEMU does (net/tap.c,
// net/tap-linux.c).
func takeSegments(queues []int) error {
	for _, q := range queues {
		if err := unix.IoctlSetInt(q, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6); err != nil {
			return fmt.Errorf("TUNSETOFFLOAD: %w", err)
		}
		if err := unix.IoctlSetPointerInt(q, unix.TUNSETSNDBUF, math.MaxInt32); err != nil {
			return fmt.Errorf("TUNSETSNDBUF: %w", err)
		}
	}
	return nil
}

// filtered puts the usual filter on both devices, or takes it away.
func (l *lab) filtered(on bool) error {
	for _, e := range l.guests {
		if !on {
			if err := l.filters.Remove(context.Background(), e.ifname); err != nil {
				return err
			}
			continue
		}
		err := l.filters.Set(context.Background(), filter.Spec{
			Ifname: e.ifname, Hook: l.Mode.Info().GuestSends, Spoof: true, DHCPServer: true, RA: true,
			MACs: []net.HardwareAddr{e.mac}, IPs: []netip.Prefix{netip.PrefixFrom(e.ip, 32)}, Pin4: true, Pin6: true,
		})
		if err != nil {
			return err
		}
	}
	return nil
}
