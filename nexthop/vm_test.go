package nexthop

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// l3 is IFLA_IPVLAN_MODE with IPVLAN_MODE_L3 (uapi/linux/if_link.h).
var l3 = []rtnl.Attr{{Type: 1, Value: binary.NativeEndian.AppendUint16(nil, 1)}}

// A guest in mode l3 that knows nothing but its gateway's address: it asks, is
// answered, and talks to a peer outside that routes its addresses to this host.
func TestVMAGuestInModeL3FindsItsNextHop(t *testing.T) {
	testkit.Require(t, "vm")
	host, out := testkit.NewNetns(t), testkit.NewNetns(t)
	wire(t, host, out)
	room := mute(t)
	a := l3Guest(t, host, room, "g0", "198.51.100.9", "2001:db8:9::9")
	b := l3Guest(t, host, room, "g1", "198.51.100.10", "2001:db8:9::a")

	a.send(a.arp(testkit.Broadcast, 1, "198.51.100.9", "198.51.100.1"))
	if a.hear(time.Second, isARP) != nil {
		t.Fatal("something else answers: there is nothing to show")
	}
	a.answer()
	a.answer()
	for name, c := range map[string]struct {
		ask                   []byte
		answers               func([]byte) bool
		own, outside, another string
	}{
		"IPv4": {a.arp(testkit.Broadcast, 1, "198.51.100.9", "198.51.100.1"), isARP, "198.51.100.9", "192.0.2.77", "198.51.100.10"},
		"IPv6": {a.solicit(group, "2001:db8:9::9", "2001:db8:9::1", a.slla()...), isND, "2001:db8:9::9", "2001:db8::77", "2001:db8:9::a"},
	} {
		a.send(c.ask)
		got := a.hear(testkit.Patience, c.answers)
		if got == nil || !bytes.Equal(got[:12], append(bytes.Clone(a.mac), MAC...)) {
			t.Errorf("%s: answered %x", name, got)
			continue
		}
		hop := net.HardwareAddr(got[6:12])
		if back := a.ping(hop, c.own, c.outside); back == nil || !bytes.Equal(back[:6], a.mac) {
			t.Errorf("%s: from the peer outside came %x", name, back)
		}
		// The neighbour gets it as it is, and takes in only what is for its MAC.
		a.send(a.echo(hop, c.own, c.another))
		if got := b.hear(testkit.Patience, isEcho(c.own, c.another)); got == nil || !bytes.Equal(got[:6], b.mac) {
			t.Errorf("%s: the neighbour got %x", name, got)
		}
	}
}

// wire is an uplink, u0, and a peer outside that routes the guests' addresses to it.
func wire(t *testing.T, host, out *testkit.Netns) {
	t.Helper()
	testkit.NewVeth(t, host, "u0", out, "far0")
	for _, a := range []string{"192.0.2.5/24", "2001:db8::5/64"} {
		run(t, host, "ip", "addr", "add", a, "dev", "u0", "nodad")
	}
	for _, a := range []string{"192.0.2.77/24", "2001:db8::77/64"} {
		run(t, out, "ip", "addr", "add", a, "dev", "far0", "nodad")
	}
	run(t, out, "ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.5")
	run(t, out, "ip", "route", "add", "2001:db8:9::/64", "via", "2001:db8::5")
}

func l3Guest(t *testing.T, host, room *testkit.Netns, name, ip4, ip6 string) *guest {
	t.Helper()
	host.Create(t, rtnl.NewLink{Name: name, Kind: "ipvtap", Lower: host.Link(t, "u0").Index, Data: l3})
	host.Set(t, name, rtnl.NetNS(room.NS()))
	err := room.Do(func() error { return disableIPv6(name, "0") }) // an address needs it, though nothing is to be said
	if err != nil {
		t.Fatal(err)
	}
	room.Set(t, name, rtnl.AddrGenNone())
	for _, a := range []string{ip4, ip6} {
		addr := netip.MustParseAddr(a)
		if err := room.Conn().AddAddr(t.Context(), room.Link(t, name).Index, rtnl.Addr{Prefix: netip.PrefixFrom(addr, addr.BitLen())}); err != nil {
			t.Fatal(err)
		}
	}
	return open(t, room, name)
}

// ping sends an echo request until the answer comes, which is nil when none does.
func (g *guest) ping(hop net.HardwareAddr, own, to string) []byte {
	g.t.Helper()
	for range 20 { // the first ones go while others look for their neighbours
		g.send(g.echo(hop, own, to))
		if back := g.hear(time.Second, isEcho(to, own)); back != nil {
			return back
		}
	}
	return nil
}

// echo is an ICMP or ICMPv6 echo request.
func (g *guest) echo(hop net.HardwareAddr, from, to string) []byte {
	src, dst := netip.MustParseAddr(from), netip.MustParseAddr(to)
	msg := []byte{8, 0, 0, 0, 0, 7, 0, 1, 'h', 'o', 'p', 's'}
	if src.Is4() {
		binary.BigEndian.PutUint16(msg[2:], sum(msg))
		header := append([]byte{0x45, 0, 0, byte(20 + len(msg)), 0, 0, 0, 0, 64, unix.IPPROTO_ICMP, 0, 0}, append(src.AsSlice(), dst.AsSlice()...)...)
		binary.BigEndian.PutUint16(header[10:], sum(header))
		return ethernet(hop, g.mac, 0x0800, header, msg)
	}
	msg[0] = 128
	binary.BigEndian.PutUint16(msg[2:], icmpSum(src.AsSlice(), dst.AsSlice(), msg))
	return ethernet(hop, g.mac, 0x86dd, ipv6(src.AsSlice(), dst.AsSlice(), 58, len(msg)), msg)
}

// isEcho says yes to an echo request or reply between two addresses.
func isEcho(from, to string) func([]byte) bool {
	src, dst := netip.MustParseAddr(from), netip.MustParseAddr(to)
	at, kinds := 26, []byte{0, 8}
	if src.Is6() {
		at, kinds = 22, []byte{128, 129}
	}
	addrs := append(src.AsSlice(), dst.AsSlice()...)
	return func(b []byte) bool {
		end := at + len(addrs)
		return len(b) > end && bytes.Equal(b[at:end], addrs) && bytes.IndexByte(kinds, b[end]) >= 0
	}
}
