package filter

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// from4 is a frame of that IPv4 source.
func from4(a string) []byte {
	return own4(ip4(netip.MustParseAddr(a), peer, protoTCP, make([]byte, 20)))
}

func (l *lab) holds(t testing.TB, s Spec, want bool) {
	t.Helper()
	got, err := l.Holds(ctx(), s)
	if err != nil || got != want {
		t.Fatalf("Holds: %v, %v; want %v", got, err, want)
	}
}

// nftGeneration is one more after each transaction.
func nftGeneration(t testing.TB, l *lab) uint32 {
	t.Helper()
	var id uint32
	err := l.nft.run(ctx(), func(s *session) error {
		msgs, err := s.ask(message(unix.NFT_MSG_GETGEN, 0))
		if err == nil {
			id = binary.BigEndian.Uint32(msgs[0].Data[8:12])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestAnAddressThatComesIsHeardAndCountersStay(t *testing.T) {
	l := newLab(t)
	g := macvtap(t, l)
	s := g.strict()
	l.set(t, s)
	if got := l.tells(t, g, from4("192.0.2.8"), from4("192.0.2.7")); !slices.Equal(got, []bool{false, true}) {
		t.Fatalf("before: %v", got)
	}
	for _, ips := range [][]netip.Prefix{
		{prefix("192.0.2.7/32"), prefix("192.0.2.8/32"), prefix("2001:db8::7/128")},
		{prefix("192.0.2.8/32"), prefix("192.0.2.7/32"), prefix("198.51.100.0/24"), prefix("198.51.100.9/32")},
		{prefix("192.0.2.0/24"), prefix("2001:db8::/64")},
		{prefix("192.0.2.0/30"), prefix("192.0.2.4/30"), prefix("192.0.2.8/29")},
	} {
		s.IPs = ips
		l.holds(t, s, false)
		l.set(t, s)
		l.holds(t, s, true)
		if got := l.tells(t, g, from4("192.0.2.8"), from4("192.0.2.7")); !slices.Equal(got, []bool{true, true}) {
			t.Errorf("with %v: %v", ips, got)
		}
		if n := l.counted(t, g.ifname)["IPv4 source"]; n != 1 {
			t.Errorf("with %v: the counter is %d, want 1", ips, n)
		}
	}
	s.IPs = []netip.Prefix{prefix("192.0.2.8/32")}
	l.set(t, s)
	if got := l.tells(t, g, from4("192.0.2.8"), from4("192.0.2.7")); !slices.Equal(got, []bool{true, false}) {
		t.Errorf("after: %v", got)
	}
	if n := l.counted(t, g.ifname)["IPv4 source"]; n != 2 {
		t.Errorf("the counter is %d, want 2", n)
	}
}

func TestASetThatChangesNothingSendsNothing(t *testing.T) {
	l := newLab(t)
	s := macvtap(t, l).strict()
	s.MACs = append(s.MACs, foreignMAC)
	s.IPs = append(s.IPs, prefix("192.0.2.64/26"))
	s.Multicast, s.Broadcast = 100, 100
	l.set(t, s)
	before := nftGeneration(t, l)
	l.set(t, s)
	l.holds(t, s, true)
	if now := nftGeneration(t, l); now != before {
		t.Errorf("generation %d, was %d", now, before)
	}
}

func TestAllOfASpecIsOneTransaction(t *testing.T) {
	l := newLab(t)
	s := macvtap(t, l).strict()
	l.set(t, s)
	before := nftGeneration(t, l)
	s.IPs = []netip.Prefix{prefix("192.0.2.0/25"), prefix("198.51.100.1/32"), prefix("2001:db8:1::/64")}
	s.MACs = append(s.MACs, foreignMAC)
	s.Ethertypes = []uint16{0x0800, 0x0806}
	l.set(t, s)
	if now := nftGeneration(t, l); now != before+1 {
		t.Errorf("it took %d transactions", now-before)
	}
}

func TestASpecThatFiltersNothingRemovesTheChainAndItsSets(t *testing.T) {
	l := newLab(t)
	s := macvtap(t, l).strict()
	s.MACs = append(s.MACs, foreignMAC)
	l.set(t, s)
	none := Spec{Ifname: s.Ifname, Hook: s.Hook}
	l.set(t, none)
	l.holds(t, none, true)
	l.bare(t)
	if _, err := l.Counters(ctx(), s.Ifname); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("counters: %v", err)
	}
}

// bare fails when anything of ours but the table is left.
func (l *lab) bare(t testing.TB) {
	t.Helper()
	names, err := l.Filtered(ctx())
	if err != nil || len(names) != 0 {
		t.Errorf("left: %v, %v", names, err)
	}
}

func TestWhatIsLeftOfADeviceThatHasGoneIsRemoved(t *testing.T) {
	l := newLab(t)
	s := macvtap(t, l).strict()
	s.MACs = append(s.MACs, foreignMAC)
	l.set(t, s)
	l.ns.Delete(t, s.Ifname)
	l.holds(t, s, false)
	if names, err := l.Filtered(ctx()); err != nil || !slices.Equal(names, []string{s.Ifname}) {
		t.Errorf("left: %v, %v", names, err)
	}
	if err := l.Remove(ctx(), s.Ifname, "never0"); err != nil {
		t.Fatal(err)
	}
	l.bare(t)
	if err := l.Remove(ctx(), s.Ifname); err != nil {
		t.Errorf("once more: %v", err)
	}
}

func TestADeviceThatComesBackIsFilteredAgain(t *testing.T) {
	l := newLab(t)
	g := macvtap(t, l)
	s := g.strict()
	s.MACs = append(s.MACs, peerMAC)
	l.set(t, s)
	l.ns.Delete(t, g.ifname)
	g = macvtap(t, l)
	s = g.strict()
	l.set(t, s)
	l.holds(t, s, true)
	expectDropped(t, l, g, tricks()[0])
}

func TestAChainWithoutADeviceIsNotMade(t *testing.T) {
	l := newLab(t)
	err := l.Set(ctx(), Spec{Ifname: "gone0", Hook: Egress, RA: true})
	if !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("it said %v", err)
	}
	l.bare(t)
}

func TestAHookThatTheKernelDoesNotHaveIsSaidSo(t *testing.T) {
	l := newLab(t)
	spec := macvtap(t, l).strict()
	w := wanted(spec)
	w.hook = 7
	err := l.nft.run(ctx(), func(s *session) error { return s.converge(w) })
	if !errors.Is(explain(spec, err), vmnetd.ErrUnsupported) {
		t.Errorf("it said %v", err)
	}
	l.set(t, spec) // the connection is of use after an error
	l.holds(t, spec, true)
}

func TestASpecThatCannotBeIsRefused(t *testing.T) {
	l := newLab(t)
	s := macvtap(t, l).strict()
	for name, change := range map[string]func(*Spec){
		"no name":        func(s *Spec) { s.Ifname = "" },
		"no hook":        func(s *Spec) { s.Hook = "prerouting" },
		"no MAC":         func(s *Spec) { s.MACs = nil },
		"short MAC":      func(s *Spec) { s.MACs = []net.HardwareAddr{{1, 2}} },
		"zero address":   func(s *Spec) { s.IPs = []netip.Prefix{{}} },
		"tags at egress": func(s *Spec) { s.Trunk = []vmnetd.VLANRange{{From: 1, To: 2}} },
		"no such VLAN":   func(s *Spec) { s.Hook, s.Trunk = Ingress, []vmnetd.VLANRange{{From: 1, To: 4095}} },
		"less than none": func(s *Spec) { s.Broadcast = -1 },
	} {
		bad := s
		change(&bad)
		if err := l.Set(ctx(), bad); !errors.Is(err, vmnetd.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	l.bare(t)
}

func TestForeignTablesAreLeftAlone(t *testing.T) {
	l := newLab(t)
	s := macvtap(t, l).strict()
	s.MACs = append(s.MACs, foreignMAC)
	l.ns.Run(t, "nft", `add table netdev mine; add chain netdev mine mv0 { type filter hook egress device "mv0" priority 5; policy accept; }; add rule netdev mine mv0 counter; add set netdev mine mv0/mac { type ether_addr; }; add table ip vmnetd; add chain ip vmnetd mv0`)
	before := l.ns.Run(t, "nft", "list", "table", "netdev", "mine") + l.ns.Run(t, "nft", "list", "table", "ip", "vmnetd")
	l.set(t, s)
	if err := l.Remove(ctx(), "mv0"); err != nil {
		t.Fatal(err)
	}
	l.bare(t)
	if now := l.ns.Run(t, "nft", "list", "table", "netdev", "mine") + l.ns.Run(t, "nft", "list", "table", "ip", "vmnetd"); now != before {
		t.Errorf("now:\n%s\nbefore:\n%s", now, before)
	}
}

func TestTwoHostsWorkSideBySide(t *testing.T) {
	a, b := newLab(t), newLab(t)
	ga, gb := macvtap(t, a), macvtap(t, b)
	a.set(t, ga.strict())
	b.holds(t, gb.strict(), false)
	b.set(t, gb.strict())
	if err := a.Remove(ctx(), ga.ifname); err != nil {
		t.Fatal(err)
	}
	b.holds(t, gb.strict(), true)
	expectDropped(t, b, gb, tricks()[0])
}

func TestLimitsDropWhatIsBeyondThem(t *testing.T) {
	l := newLab(t)
	g := macvtap(t, l)
	s := Spec{Ifname: g.ifname, Hook: g.hook, Broadcast: 1, Multicast: 1}
	l.set(t, s)
	send := func(dst net.HardwareAddr) uint64 {
		for range 100 {
			g.send(testkit.Frame{Dst: dst, Src: g.mac, Text: "limited"}.Bytes())
		}
		counted := l.counted(t, g.ifname)
		return counted["broadcast limit"]<<32 | counted["multicast limit"]
	}
	began := time.Now()
	n := send(testkit.Broadcast) >> 32
	if more := uint64(time.Since(began)/time.Second) + 1; n < 95-more || n > 95 {
		t.Errorf("of 100 broadcasts %d were dropped", n)
	}
	if n := send(allNodesMAC) & 0xffffffff; n < 90 || n > 95 {
		t.Errorf("of 100 multicasts %d were dropped", n)
	}
	if got := l.tells(t, g, from4("192.0.2.9")); !got[0] {
		t.Error("what is for one station is limited too")
	}
}

func TestOnlyListedEthertypesLeave(t *testing.T) {
	l := newLab(t)
	g := macvtap(t, l)
	s := g.strict()
	s.Ethertypes = []uint16{0x0800, testkit.EtherTest}
	l.set(t, s)
	expectDropped(t, l, g, trick{"ARP", "ethertype", honest()["ARP reply"]})
	expectDropped(t, l, g, trick{"IPv6", "ethertype", honest()["IPv6"]})
	if !l.tells(t, g, honest()["IPv4"])[0] {
		t.Error("IPv4 was not heard")
	}
}

func TestATrunkLetsItsVLANsThrough(t *testing.T) {
	l := newLab(t)
	g := tap(t, l)
	s := g.strict()
	s.Trunk = []vmnetd.VLANRange{{From: 10, To: 20}, {From: 15, To: 25}, {From: 4094, To: 4094}}
	l.set(t, s)
	l.holds(t, s, true)
	plain := honest()["IPv4"]
	for vid, want := range map[int]bool{9: false, 10: true, 25: true, 26: false, 4094: true, 0: false} {
		if got := l.tells(t, g, tagged(0x8100, vid, plain)); got[0] != want {
			t.Errorf("VLAN %d: heard %v", vid, got[0])
		}
	}
	for name, k := range map[string]trick{
		"provider": {"provider", "VLAN tag", tagged(0x88a8, 10, plain)},
		"two":      {"two", "VLAN tag", tagged(0x8100, 10, tagged(0x8100, 20, plain))},
		"source":   {"source", "IPv4 source", tagged(0x8100, 10, from4("192.0.2.9"))},
		"RA":       {"RA", "router advertisement", tagged(0x8100, 10, own6(ip6(ownLL(), allNodes, protoICMPv6, icmp6Of(134, make([]byte, 8)))))},
		"ARP":      {"ARP", "ARP sender", tagged(0x8100, 10, arpFrame(peerMAC, ownMAC, 2, ownMAC, stranger, peer))},
		"LLC":      {"LLC", "LLC", tagged(0x8100, 10, ether(peerMAC, ownMAC, 40, make([]byte, 46)))},
	} {
		t.Run(name, func(t *testing.T) { expectDropped(t, l, g, k) })
	}
}

func TestWithoutKnownAddressesMACsArePinnedStill(t *testing.T) {
	l := newLab(t)
	g := macvtap(t, l)
	s := g.strict()
	s.Pin4, s.Pin6, s.IPs = false, false, nil
	l.set(t, s)
	for i, heard := range l.tells(t, g, from4("192.0.2.99"), arpFrame(peerMAC, ownMAC, 2, ownMAC, stranger, peer),
		own6(ip6(stranger6, peer6, protoICMPv6, na(stranger6, ndOption(2, ownMAC))))) {
		if !heard {
			t.Errorf("frame %d was not heard", i)
		}
	}
	for _, k := range tricks() {
		if slices.Contains([]string{"source MAC", "ARP source MAC", ndAddress, "VLAN tag", "LLC", control0X, "DHCP server"}, k.rule) {
			expectDropped(t, l, g, k)
		}
	}
}

func TestSeveralMACsArePinned(t *testing.T) {
	l := newLab(t)
	g := macvtap(t, l)
	s := g.strict()
	s.MACs = append(s.MACs, net.HardwareAddr{0, 0, 0x5e, 0, 1, 7})
	l.set(t, s)
	vrrp := s.MACs[1]
	for i, heard := range l.tells(t, g,
		ether(peerMAC, vrrp, 0x0800, ip4(ownIP, peer, protoTCP, make([]byte, 20))),
		arpFrame(peerMAC, vrrp, 2, vrrp, ownIP, peer),
		ether(allNodesMAC, vrrp, 0x86dd, ip6(ownIP6, peer6, protoICMPv6, na(ownIP6, ndOption(2, vrrp)))),
		ether(allNodesMAC, vrrp, 0x86dd, ip6(linkLocal(vrrp), peer6, protoTCP, make([]byte, 20)))) {
		if !heard {
			t.Errorf("frame %d was not heard", i)
		}
	}
	for _, k := range tricks() {
		if slices.Contains([]string{"source MAC", "ARP source MAC", ndAddress}, k.rule) {
			expectDropped(t, l, g, k)
		}
	}
}

func TestAClaimOfAnyAddressIsHeardWhereAddressesAreLearned(t *testing.T) {
	l := newLab(t)
	g := macvtap(t, l)
	s := g.strict()
	s.Learn = true
	l.set(t, s)
	if !l.tells(t, g, own6(ip6(unspecified6, allNodes, protoICMPv6, ns(stranger6))))[0] {
		t.Error("it was not heard")
	}
	if !l.tells(t, g, arpFrame(broadcasts, ownMAC, 1, ownMAC, zero4, stranger))[0] {
		t.Error("the probe of ARP was not heard")
	}
	expectDropped(t, l, g, trick{"NA", ndTarget, own6(ip6(ownLL(), allNodes, protoICMPv6, na(stranger6)))})
}

func TestACallEndsWithItsContext(t *testing.T) {
	l := newLab(t)
	l.nft.turn <- struct{}{} // somebody's transaction takes its time
	soon, cancel := context.WithTimeout(ctx(), 10*time.Millisecond)
	defer cancel()
	if _, err := l.Filtered(soon); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it said %v", err)
	}
	<-l.nft.turn
	l.bare(t)
}
