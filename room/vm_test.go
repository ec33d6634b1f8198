package room

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
	"github.com/vmnetd/vmnetd/tapdev"
)

func TestVMOurNamespaceDoesNotKeepTheMountsOfADaemonThatWasKilled(t *testing.T) {
	testkit.Require(t, "vm")
	outlivesItsDaemon(t)
}

func TestVMAGuestOnAnIPVTapInOurNamespaceIsReachedAndNobodyAnswersForIt(t *testing.T) {
	testkit.Require(t, "vm")
	l := newLab(t)
	out := testkit.NewNetns(t)
	testkit.NewVeth(t, l.ns, "up0", out, "far0")
	p := l.own(t, l.Rooms)
	dev, queue := l.ipvtap(t, "up0")
	if err := l.devices.Move(t.Context(), dev, p.NS()); err != nil {
		t.Fatal(err)
	}
	dev, err := p.FindNIC(t.Context(), "a", "net0")
	if err != nil || dev.Kind != vmnetd.Ipvtap || dev.Mode != vmnetd.L2 || dev.Flag != "bridge" {
		t.Fatalf("%+v, %v", dev, err)
	}
	mac := l.ns.Link(t, "up0").MAC
	guest := []string{"192.0.2.10", "2001:db8::10"}
	var ips []netip.Prefix
	for _, g := range guest {
		ips = append(ips, netip.MustParsePrefix(g+"/24"))
	}
	if dev, err = p.Settle(t.Context(), dev, tapdev.Settings{VM: "a", ID: "net0", Guest: true, IPs: ips}); err != nil {
		t.Fatal(err)
	}
	if err := p.SetUp(t.Context(), dev, true); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"addr", "add", "192.0.2.1/24", "dev", "far0"}, {"addr", "add", "2001:db8::1/64", "dev", "far0", "nodad"},
		{"neigh", "add", guest[0], "lladdr", mac.String(), "dev", "far0"}, {"neigh", "add", guest[1], "lladdr", mac.String(), "dev", "far0"},
	} {
		if said, err := out.Command(t.Context(), "ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, said)
		}
	}
	for _, g := range guest {
		if said, err := out.Command(t.Context(), "ping", "-c", "2", "-i", "0.2", "-W", "1", g).CombinedOutput(); err == nil {
			t.Errorf("somebody answers for %s: %s", g, said)
		}
		if !hears(t, queue, mac, netip.MustParseAddr(g)) {
			t.Errorf("no frame to %s reaches the guest's queue", g)
		}
	}
	l.ns.Set(t, "up0", rtnl.MTU(2000)) // and with it every ipvtap's
	if dev, err = p.Settle(t.Context(), dev, tapdev.Settings{VM: "a", ID: "net0", Guest: true, IPs: ips, MTU: 1500}); err != nil || dev.MTU != 1500 {
		t.Errorf("%+v, %v", dev, err)
	}
	l.taken(t, p, "up0", guest[0])
}

// taken holds that an address is not given to a second device of the uplink.
func (l *lab) taken(t *testing.T, p Place, lower, addr string) {
	t.Helper()
	name := vmnetd.Ifname("b", "net0")
	l.ns.Create(t, rtnl.NewLink{Name: name, Kind: "ipvtap", Lower: l.ns.Link(t, lower).Index, Index: 1<<20 + 2, Data: ipvlanL2})
	l.ns.Set(t, name, rtnl.Alias(vmnetd.Alias("b", "net0")))
	dev, err := l.Here().FindNIC(t.Context(), "b", "net0")
	if err == nil {
		err = l.devices.Move(t.Context(), dev, p.NS())
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Settle(t.Context(), dev, tapdev.Settings{VM: "b", ID: "net0", Ifname: name, Guest: true, IPs: prefixes(addr + "/32")})
	says(t, err, vmnetd.ErrBusy, addr, "b/net0")
}

var ipvlanL2 = []rtnl.Attr{{Type: 1, Value: []byte{0, 0}}} // IFLA_IPVLAN_MODE

// ipvtap is a device of VM a's net0 on the host, with a queue that is open.
func (l *lab) ipvtap(t *testing.T, lower string) (dev tapdev.Device, queue int) {
	t.Helper()
	name := vmnetd.Ifname("a", "net0")
	link := l.ns.Create(t, rtnl.NewLink{Name: name, Kind: "ipvtap", Lower: l.ns.Link(t, lower).Index, Index: 1<<20 + 1, Data: ipvlanL2})
	l.ns.Set(t, name, rtnl.Alias(vmnetd.Alias("a", "net0")))
	queue, err := unix.Open(fmt.Sprintf("/dev/tap%d", link.Index), unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(queue) })
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(queue, unix.TUNSETIFF, ifr); err != nil {
		t.Fatal(err)
	}
	dev, err = l.Here().FindNIC(context.Background(), "a", "net0")
	if err != nil {
		t.Fatal(err)
	}
	return dev, queue
}

// hears waits for a unicast frame to a MAC and an address.
func hears(t *testing.T, queue int, mac net.HardwareAddr, to netip.Addr) bool {
	t.Helper()
	const header = 10 // of virtio-net
	buf := make([]byte, 1<<16)
	for deadline := time.Now().Add(testkit.Patience); time.Now().Before(deadline); {
		n, err := unix.Read(queue, buf)
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			t.Fatal(err)
		}
		if err != nil {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(queue), Events: unix.POLLIN}}, 100)
			continue
		}
		if frame := buf[min(header, n):n]; len(frame) > 14 && bytes.Equal(frame[:6], mac) && bytes.Contains(frame[14:], to.AsSlice()) {
			return true
		}
	}
	return false
}
