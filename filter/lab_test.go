package filter

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestMain(m *testing.M) { testkit.LeakCheck(m) }

// lab is a host with one uplink, u0, whose other end is outside.
type lab struct {
	*Host
	ns, out *testkit.Netns
}

func newLab(t testing.TB) *lab {
	t.Helper()
	testkit.Require(t, "netns")
	l := &lab{ns: testkit.NewNetns(t), out: testkit.NewNetns(t)}
	quiet(t, l.ns)
	testkit.NewVeth(t, l.ns, "u0", l.out, "far0")
	l.Host = openHost(t, l.ns)
	return l
}

// quiet keeps the kernel from speaking IPv6 by itself on devices to come.
func quiet(t testing.TB, ns *testkit.Netns) {
	t.Helper()
	err := ns.Do(func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0) })
	if err != nil {
		t.Fatal(err)
	}
}

func openHost(t testing.TB, ns *testkit.Netns) *Host {
	t.Helper()
	h, err := Open(ns.Conn())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// guest is whoever sends by a device that is filtered.
type guest struct {
	ifname string
	hook   string
	mac    net.HardwareAddr
	send   func(frame []byte)
	queue  int // its fd, of those that have one
}

var (
	ownMAC     = testkit.FrameGuestMAC(0)
	ownIP      = netip.MustParseAddr("192.0.2.7")
	ownIP6     = netip.MustParseAddr("2001:db8::7")
	foreignMAC = net.HardwareAddr{0x52, 0x54, 0, 0xbe, 0xef, 1}
	stranger   = netip.MustParseAddr("192.0.2.66")
	stranger6  = netip.MustParseAddr("2001:db8::66")
	peerMAC    = net.HardwareAddr{0x52, 0x54, 0, 0xaa, 0, 9}
	peer       = netip.MustParseAddr("192.0.2.1")
	peer6      = netip.MustParseAddr("2001:db8::1")
)

// kinds are the ways in which a guest's frames reach the host.
var kinds = map[string]func(*testing.T, *lab) guest{"macvtap": macvtap, "tap": tap, "veth": veth}

func queueGuest(t testing.TB, ifname, hook string, fd int) guest {
	write := func(b []byte) (int, error) { return unix.Write(fd, b) }
	return guest{ifname: ifname, hook: hook, mac: ownMAC, queue: fd, send: sendsBy(t, write)}
}

// sendsBy sends frames with an empty virtio-net header before them.
func sendsBy(t testing.TB, write func([]byte) (int, error)) func([]byte) {
	return func(frame []byte) {
		t.Helper()
		if _, err := write(append(make([]byte, 10), frame...)); err != nil {
			t.Fatalf("cannot send a frame: %v", err)
		}
	}
}

func macvtap(t *testing.T, l *lab) guest {
	g := l.ns.NewFrameGuests(t, "u0", 1)[0]
	return queueGuest(t, "mv0", Egress, g.FD)
}

// bridged puts the uplink and a device on a bridge, which floods every group.
func (l *lab) bridged(t testing.TB, port string) {
	t.Helper()
	br := l.ns.Create(t, rtnl.NewLink{Name: "br0", Kind: "bridge", Data: []rtnl.Attr{{Type: nl.IFLA_BR_MCAST_SNOOPING, Value: []byte{0}}}})
	for _, name := range []string{"u0", port} {
		l.ns.Set(t, name, rtnl.Master(br.Index))
		l.ns.SetUp(t, name)
	}
	l.ns.SetUp(t, "br0")
	l.ns.WaitRunning(t, "br0")
}

func openTap(t testing.TB, ns *testkit.Netns, name string) int {
	t.Helper()
	fd := -1
	err := ns.Do(func() error {
		var err error
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
			return err
		}
		ifr, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	})
	if err != nil {
		t.Fatalf("cannot make a tap: %v", err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func tap(t *testing.T, l *lab) guest { return tapGuest(t, l) }

func tapGuest(t testing.TB, l *lab) guest {
	fd := openTap(t, l.ns, "tap0")
	l.bridged(t, "tap0")
	l.ns.WaitRunning(t, "tap0")
	return queueGuest(t, "tap0", Ingress, fd)
}

func veth(t *testing.T, l *lab) guest {
	inside := testkit.NewNetns(t)
	quiet(t, inside)
	testkit.NewVeth(t, l.ns, "ve0", inside, "eth0")
	inside.Set(t, "eth0", rtnl.MAC(ownMAC))
	l.bridged(t, "ve0")
	fd := rawSocket(t, inside, "eth0")
	return guest{ifname: "ve0", hook: Ingress, mac: ownMAC, send: func(frame []byte) {
		t.Helper()
		if _, err := unix.Write(fd, frame); err != nil {
			t.Fatalf("cannot send a frame: %v", err)
		}
	}}
}

// rawSocket sends frames by a device and hears nothing.
func rawSocket(t testing.TB, ns *testkit.Netns, ifname string) int {
	t.Helper()
	index, fd := ns.Link(t, ifname).Index, -1
	err := ns.Do(func() error {
		var err error
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: index})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// strict is a filter with everything pinned.
func (g guest) strict() Spec {
	return Spec{
		Ifname: g.ifname, Hook: g.hook, Spoof: true, MACs: []net.HardwareAddr{g.mac},
		IPs: []netip.Prefix{netip.PrefixFrom(ownIP, 32), netip.PrefixFrom(ownIP6, 128)}, Pin4: true, Pin6: true,
		DHCPServer: true, RA: true,
	}
}

func ctx() context.Context { return context.Background() }

func (l *lab) set(t testing.TB, s Spec) {
	t.Helper()
	if err := l.Set(ctx(), s); err != nil {
		t.Fatal(err)
	}
}

// counted is the packets that each rule has matched.
func (l *lab) counted(t testing.TB, ifname string) map[string]uint64 {
	t.Helper()
	counters, err := l.Counters(ctx(), ifname)
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]uint64{}
	for _, c := range counters {
		list[c.Rule] = c.Packets
	}
	return list
}

// dropped is what the dropping rules have matched since before.
func dropped(before, after []vmnetd.Counter) map[string]uint64 {
	list := map[string]uint64{}
	for i, c := range after {
		if n := c.Packets - before[i].Packets; c.Dropped && n > 0 {
			list[c.Rule] = n
		}
	}
	return list
}

// tells sends frames and says which of them come out at the far end of the
// uplink before a last one, which is honest.
func (l *lab) tells(t testing.TB, g guest, frames ...[]byte) []bool {
	t.Helper()
	ear := l.out.Sniff(t, "far0")
	last := testkit.Frame{Dst: peerMAC, Src: g.mac, Text: "last"}.Bytes()
	for _, f := range append(slices.Clone(frames), last) {
		g.send(f)
	}
	heard := make([]bool, len(frames))
	for deadline := time.Now().Add(testkit.Patience); ; {
		f, ok := ear.Next(t, time.Until(deadline))
		switch {
		case !ok:
			t.Fatal("the last frame, an honest one, was not heard")
		case sniffed(f).is(last):
			return heard
		}
		for i := range frames {
			heard[i] = heard[i] || sniffed(f).is(frames[i])
		}
	}
}

// is compares what was heard with what was sent; the kernel has taken the tag
// out, and a bridge what is behind the end of a packet.
func (s sniffed) is(sent []byte) bool {
	if s.VLAN != 0 || len(s.Bytes) == len(sent)-4 {
		sent = slices.Concat(sent[:12], sent[16:])
	}
	n := min(len(s.Bytes), len(sent))
	return n > 14 && bytes.Equal(s.Bytes[:n], sent[:n])
}

type sniffed testkit.Sniffed
