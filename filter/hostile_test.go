package filter

import (
	"bytes"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

// trick is a frame that may not leave, and the rule that says so.
type trick struct {
	name  string
	rule  string
	frame []byte
}

const control0X = "BPDU and other link-local control (01:80:c2:00:00:0X)"

var (
	allNodes     = netip.MustParseAddr("ff02::1")
	allRouters   = netip.MustParseAddr("ff02::2")
	unspecified6 = netip.IPv6Unspecified()
	zero4        = netip.IPv4Unspecified()
	bcast4       = netip.MustParseAddr("255.255.255.255")
	allNodesMAC  = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
)

func ownLL() netip.Addr { return linkLocal(ownMAC) }

func own4(payload []byte) []byte { return ether(peerMAC, ownMAC, 0x0800, payload) }
func own6(payload []byte) []byte { return ether(allNodesMAC, ownMAC, 0x86dd, payload) }
func ns(target netip.Addr, options ...[]byte) []byte {
	return icmp6Of(135, append([][]byte{target.AsSlice()}, options...)...)
}
func na(target netip.Addr, options ...[]byte) []byte {
	return icmp6Of(136, append([][]byte{target.AsSlice()}, options...)...)
}

// behind puts an extension header of 8*(1+units) bytes before a payload: its own
// kind is the next of what is before it.
func behind(next byte, units int, payload []byte) []byte {
	return slices.Concat([]byte{next, byte(units), 1, byte(4 + 8*units)}, make([]byte, 4+8*units), payload)
}

// fragmented is a fragment header: offset in bytes, and whether more come.
func fragmented(next byte, offset int, more bool, payload []byte) []byte {
	flags := offset
	if more {
		flags |= 1
	}
	return slices.Concat([]byte{next, 0}, be16(flags), []byte{0, 0, 0, 7}, payload)
}

const (
	nextHop, nextRouting, nextFragment, nextAuth, nextDest = 0, 43, 44, 51, 60
)

func tricks() []trick {
	ra := icmp6Of(134, make([]byte, 8), ndOption(1, ownMAC))
	snap := append([]byte{0xaa, 0xaa, 3, 0, 0, 0, 8, 0}, ip4(stranger, peer, protoTCP, make([]byte, 20))...)
	bpdu := slices.Concat(net.HardwareAddr{1, 0x80, 0xc2, 0, 0, 0}, ownMAC, be16(38), []byte{0x42, 0x42, 3}, make([]byte, 35))
	group := func(last byte) net.HardwareAddr { return net.HardwareAddr{1, 0x80, 0xc2, 0, 0, last} }
	plain := own4(ip4(ownIP, peer, protoTCP, make([]byte, 20)))
	ieee := arpFrame(peerMAC, ownMAC, 2, ownMAC, stranger, peer)
	ieee[15] = 6 // ARPHRD_IEEE802: Linux takes it for Ethernet (net/ipv4/arp.c)
	longer := arpFrame(peerMAC, ownMAC, 2, ownMAC, stranger, peer)
	longer[19] = 16
	return []trick{
		{"another MAC", "source MAC", ether(peerMAC, foreignMAC, 0x0800, ip4(ownIP, peer, protoTCP, make([]byte, 20)))},
		{"another MAC, unknown type", "source MAC", ether(peerMAC, foreignMAC, 0x88b6, make([]byte, 46))},
		{"RARP of another MAC", "source MAC", ether(broadcasts, foreignMAC, 0x8035, make([]byte, 46))},

		{"ARP request for another's address", "ARP sender", arpFrame(broadcasts, ownMAC, 1, ownMAC, stranger, peer)},
		{"ARP reply for another's address", "ARP sender", arpFrame(peerMAC, ownMAC, 2, ownMAC, stranger, peer)},
		{"gratuitous ARP", "ARP sender", arpFrame(broadcasts, ownMAC, 1, ownMAC, stranger, stranger)},
		{"ARP that names another MAC", "ARP source MAC", arpFrame(peerMAC, ownMAC, 2, foreignMAC, ownIP, peer)},
		{"probe that names another MAC", "ARP source MAC", arpFrame(broadcasts, ownMAC, 1, foreignMAC, zero4, peer)},
		{"ARP probe for another's address", "ARP probe", arpFrame(broadcasts, ownMAC, 1, ownMAC, zero4, stranger)},
		{"IGMP query", "IGMP query", ether(net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}, ownMAC, 0x0800, ip4(ownIP, netip.MustParseAddr("224.0.0.1"), protoIGMP, append([]byte{0x11, 100}, make([]byte, 10)...)))},
		{"IGMP query of no source", "IGMP query", ether(net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}, ownMAC, 0x0800, ip4(zero4, netip.MustParseAddr("224.0.0.1"), protoIGMP, append([]byte{0x11, 100}, make([]byte, 10)...)))},
		{"IGMP query to one station", "IGMP query", own4(ip4(ownIP, peer, protoIGMP, append([]byte{0x11, 100}, make([]byte, 10)...)))},
		{"MLD query", "MLD query", own6(ip6(ownLL(), allNodes, nextHop, behind(protoICMPv6, 0, icmp6Of(130, make([]byte, 20)))))},
		{"MLD query without a header before it", "MLD query", own6(ip6(ownLL(), allNodes, protoICMPv6, icmp6Of(130, make([]byte, 20))))},
		{"hello of PIM", "PIM", ether(net.HardwareAddr{1, 0, 0x5e, 0, 0, 13}, ownMAC, 0x0800, ip4(ownIP, netip.MustParseAddr("224.0.0.13"), protoPIM, append([]byte{0x20}, make([]byte, 11)...)))},
		{"hello of PIM by IPv6", "PIM", own6(ip6(ownLL(), netip.MustParseAddr("ff02::d"), protoPIM, append([]byte{0x20}, make([]byte, 11)...)))},
		{"hello of PIM behind a header", "PIM", own6(ip6(ownLL(), netip.MustParseAddr("ff02::d"), nextDest, behind(protoPIM, 0, append([]byte{0x20}, make([]byte, 11)...))))},
		{"multicast router advertisement", "multicast router advertisement", ether(net.HardwareAddr{1, 0, 0x5e, 0, 0, 106}, ownMAC, 0x0800, ip4(ownIP, netip.MustParseAddr("224.0.0.106"), protoIGMP, append([]byte{0x30, 20}, make([]byte, 6)...)))},
		{"multicast router advertisement of no source", "multicast router advertisement", ether(net.HardwareAddr{1, 0, 0x5e, 0, 0, 106}, ownMAC, 0x0800, ip4(zero4, netip.MustParseAddr("224.0.0.106"), protoIGMP, append([]byte{0x30, 20}, make([]byte, 6)...)))},
		{"multicast router advertisement to one station", "multicast router advertisement", own4(ip4(ownIP, peer, protoIGMP, append([]byte{0x30, 20}, make([]byte, 6)...)))},
		{"multicast router advertisement by ICMPv6", "multicast router advertisement", own6(ip6(ownLL(), netip.MustParseAddr("ff02::6a"), nextHop, behind(protoICMPv6, 0, icmp6Of(151))))},
		{"multicast router advertisement by ICMPv6 to one station", "multicast router advertisement", ether(peerMAC, ownMAC, 0x86dd, ip6(ownLL(), peer6, protoICMPv6, icmp6Of(151)))},
		{"ARP of IEEE 802 networks", "ARP header", ieee},
		{"ARP of other sizes", "ARP header", longer},

		{"another IPv4 source", "IPv4 source", own4(ip4(stranger, peer, protoTCP, make([]byte, 20)))},
		{"another IPv4 source, later fragment", "IPv4 source", own4(ip4At(stranger, peer, protoUDP, 100, make([]byte, 24)))},
		{"no IPv4 source", "IPv4 source", own4(ip4(zero4, peer, protoUDP, udp(1000, 53, nil)))},
		{"IPv4 of no sound header", "IPv4 header", own4(append([]byte{0x41}, ip4(ownIP, peer, protoTCP, make([]byte, 20))[1:]...))},
		{"another IPv6 source", "IPv6 source", own6(ip6(stranger6, peer6, protoTCP, make([]byte, 20)))},
		{"another link-local source", "IPv6 source", own6(ip6(linkLocal(foreignMAC), peer6, protoTCP, make([]byte, 20)))},
		{"no IPv6 source", "IPv6 source", own6(ip6(unspecified6, peer6, protoUDP, udp(1000, 53, nil)))},
		{"IPv6 of no sound header", "IPv6 header", own6(append([]byte{0x50}, ip6(ownIP6, peer6, protoTCP, make([]byte, 20))[1:]...))},
		{"IPv6 shorter than it says", "IPv6 header", own6(ip6(ownIP6, peer6, protoTCP, make([]byte, 200))[:60])},

		{"NA of another's address", ndTarget, own6(ip6(ownLL(), allNodes, protoICMPv6, na(stranger6, ndOption(2, ownMAC))))},
		{"NA of another's address, bare", ndTarget, own6(ip6(ownLL(), allNodes, protoICMPv6, na(stranger6)))},
		{"NA with another MAC", ndAddress, own6(ip6(ownLL(), allNodes, protoICMPv6, na(ownIP6, ndOption(2, foreignMAC))))},
		{"NA with two MACs", ndAddress, own6(ip6(ownLL(), allNodes, protoICMPv6, na(ownIP6, ndOption(2, ownMAC), ndOption(2, foreignMAC))))},
		{"NA with another MAC behind another option", ndAddress, own6(ip6(ownLL(), allNodes, protoICMPv6, na(ownIP6, ndOption(14, make([]byte, 6)), ndOption(2, foreignMAC))))},
		{"NA behind a header", ndAddress, own6(ip6(ownLL(), allNodes, nextDest, behind(protoICMPv6, 0, na(ownIP6, ndOption(2, foreignMAC)))))},
		{"NA in a fragment", ndAddress, own6(ip6(ownLL(), allNodes, nextFragment, fragmented(protoICMPv6, 0, false, na(stranger6, ndOption(2, foreignMAC)))))},
		{"NS with another MAC", ndAddress, own6(ip6(ownIP6, peer6, protoICMPv6, ns(peer6, ndOption(1, foreignMAC))))},
		{"NS with an option of two units", ndAddress, own6(ip6(ownIP6, peer6, protoICMPv6, ns(peer6, ndOption(1, append(slices.Clone(foreignMAC), make([]byte, 8)...)))))},
		{"NS of no source with a MAC", ndAddress, own6(ip6(unspecified6, allNodes, protoICMPv6, ns(ownIP6, ndOption(1, foreignMAC))))},
		{"claim of another's address", ndTarget, own6(ip6(unspecified6, allNodes, protoICMPv6, ns(stranger6)))},
		{"claim of another's address, with a nonce", ndTarget, own6(ip6(unspecified6, allNodes, protoICMPv6, ns(stranger6, ndOption(14, []byte{1, 2, 3, 4, 5, 6}))))},
		{"RS with another MAC", ndAddress, own6(ip6(ownLL(), allRouters, protoICMPv6, icmp6Of(133, ndOption(1, foreignMAC))))},

		{"RA", "router advertisement", own6(ip6(ownLL(), allNodes, protoICMPv6, ra))},
		{"RA behind a hop-by-hop header", "router advertisement", own6(ip6(ownLL(), allNodes, nextHop, behind(protoICMPv6, 0, ra)))},
		{"RA behind three headers", "router advertisement", own6(ip6(ownLL(), allNodes, nextHop, behind(nextDest, 0, behind(nextDest, 1, behind(protoICMPv6, 0, ra)))))},
		{"RA in an atomic fragment", "router advertisement", own6(ip6(ownLL(), allNodes, nextFragment, fragmented(protoICMPv6, 0, false, ra)))},
		{"RA in a first fragment", "router advertisement", own6(ip6(ownLL(), allNodes, nextFragment, fragmented(protoICMPv6, 0, true, ra[:8])))},
		{"RA whose header is in the second fragment", "IPv6 header", own6(ip6(ownLL(), allNodes, nextFragment, fragmented(nextDest, 0, true, behind(protoICMPv6, 3, nil)[:8])))},
		{"first fragment that ends with its headers", "IPv6 header", own6(ip6(ownLL(), allNodes, nextFragment, fragmented(nextDest, 0, true, behind(protoICMPv6, 1, nil))))},
		{"second fragment of headers", "IPv6 header", own6(ip6(ownLL(), allNodes, nextFragment, fragmented(nextDest, 8, false, ra)))},
		{"RA behind a first fragment that has an echo behind its end", "IPv6 header", own6(slices.Concat(ip6(ownLL(), allNodes, nextFragment, fragmented(nextDest, 0, true, behind(protoICMPv6, 0, nil))), icmp6Of(128)))},
		{"the same fragment header behind another header", "IPv6 header", own6(slices.Concat(ip6(ownLL(), allNodes, nextDest, behind(nextFragment, 0, fragmented(nextHop, 0, true, behind(protoICMPv6, 0, nil)))), icmp6Of(128)))},
		{"redirect", "redirect", own6(ip6(ownLL(), peer6, protoICMPv6, icmp6Of(137, make([]byte, 32))))},
		{"redirect of IPv4", "redirect", own4(ip4(ownIP, peer, protoICMP, append([]byte{5, 1, 0, 0}, make([]byte, 32)...)))},
		{"router advertisement of IPv4", "router advertisement", own4(ip4(ownIP, peer, protoICMP, append([]byte{9, 0, 0, 0}, make([]byte, 12)...)))},

		{"offer of DHCP", "DHCP server", own4(ip4(ownIP, bcast4, protoUDP, udp(67, 68, make([]byte, 240))))},
		{"offer of DHCP from another port", "DHCP server", own4(ip4(ownIP, bcast4, protoUDP, udp(1067, 68, make([]byte, 240))))},
		{"offer of DHCP in a first fragment", "DHCP server", own4(ip4At(ownIP, bcast4, protoUDP, 0x2000, udp(67, 68, make([]byte, 16))))},
		{"advertise of DHCPv6", "DHCPv6 server", own6(ip6(ownLL(), peer6, protoUDP, udp(547, 546, make([]byte, 40))))},
		{"advertise of DHCPv6 behind a header", "DHCPv6 server", own6(ip6(ownLL(), peer6, nextDest, behind(protoUDP, 0, udp(547, 546, make([]byte, 40)))))},
		{"advertise of DHCPv6 whose ports are in the second fragment", "IPv6 header", own6(ip6(ownLL(), peer6, nextFragment, fragmented(nextDest, 0, true, behind(protoUDP, 0, nil))))},
		{"advertise of DHCPv6 behind a first fragment that has ports behind its end", "IPv6 header", ether(peerMAC, ownMAC, 0x86dd, slices.Concat(ip6(ownLL(), peer6, nextFragment, fragmented(nextDest, 0, true, behind(protoUDP, 0, nil))), udp(5000, 53, nil)))},

		{"BPDU", control0X, bpdu},
		{"LACPDU", control0X, ether(group(2), ownMAC, 0x8809, append([]byte{1, 1}, make([]byte, 108)...))},
		{"LACPDU to one station", control0X, ether(peerMAC, ownMAC, 0x8809, append([]byte{1, 1}, make([]byte, 108)...))},
		{"PAUSE", control0X, ether(group(1), ownMAC, 0x8808, make([]byte, 46))},
		{"PAUSE to one station", control0X, ether(peerMAC, ownMAC, 0x8808, make([]byte, 46))},
		{"LLDP", control0X, ether(group(14), ownMAC, 0x88cc, make([]byte, 46))},
		{"MVRP", control0X, ether(group(0x21), ownMAC, 0x88f5, make([]byte, 46))},
		{"IPv4 to the bridges' group", control0X, ether(group(0), ownMAC, 0x0800, ip4(ownIP, peer, protoTCP, make([]byte, 20)))},
		{"IPv4 in LLC", "LLC", ether(peerMAC, ownMAC, uint16(len(snap)), snap)},
		{"PVST", "LLC", ether(net.HardwareAddr{1, 0, 0x0c, 0xcc, 0xcc, 0xcd}, ownMAC, 50, append([]byte{0xaa, 0xaa, 3, 0, 0, 0x0c, 1, 0x0b}, make([]byte, 42)...))},

		{"tag", "VLAN tag", tagged(0x8100, 10, plain)},
		{"tag of priority", "VLAN tag", tagged(0x8100, 7<<13, plain)},
		{"tag of a provider", "VLAN tag", tagged(0x88a8, 10, plain)},
		{"two tags", "VLAN tag", tagged(0x88a8, 10, tagged(0x8100, 20, plain))},
		{"two tags of customers", "VLAN tag", tagged(0x8100, 10, tagged(0x8100, 20, plain))},
		{"tag of old switches", "VLAN tag", tagged(0x9100, 10, plain)},
		{"RA behind a tag", "VLAN tag", tagged(0x8100, 10, own6(ip6(ownLL(), allNodes, protoICMPv6, ra)))},
	}
}

// honest are frames that a guest may send.
func honest() map[string][]byte {
	discover := append([]byte{1, 1, 6, 0}, make([]byte, 300)...)
	return map[string][]byte{
		"IPv4":                     own4(ip4(ownIP, peer, protoTCP, make([]byte, 20))),
		"UDP":                      own4(ip4(ownIP, peer, protoUDP, udp(5000, 53, make([]byte, 20)))),
		"ping":                     own4(ip4(ownIP, peer, protoICMP, make([]byte, 20))),
		"later fragment":           own4(ip4At(ownIP, peer, protoUDP, 100, make([]byte, 24))),
		"multicast of IPv4":        ether(net.HardwareAddr{1, 0, 0x5e, 0, 0, 0xfb}, ownMAC, 0x0800, ip4(ownIP, netip.MustParseAddr("224.0.0.251"), protoUDP, udp(5353, 5353, nil))),
		"broadcast of IPv4":        ether(broadcasts, ownMAC, 0x0800, ip4(ownIP, bcast4, protoUDP, udp(5000, 137, nil))),
		"DHCP DISCOVER":            ether(broadcasts, ownMAC, 0x0800, ip4(zero4, bcast4, protoUDP, udp(68, 67, discover))),
		"DHCP renewal":             own4(ip4(ownIP, peer, protoUDP, udp(68, 67, discover))),
		"PIM to one station":       own4(ip4(ownIP, peer, protoPIM, append([]byte{0x21}, make([]byte, 11)...))),
		"IGMP of no source":        ether(net.HardwareAddr{1, 0, 0x5e, 0, 0, 22}, ownMAC, 0x0800, ip4(zero4, netip.MustParseAddr("224.0.0.22"), protoIGMP, make([]byte, 16))),
		"ARP request":              arpFrame(broadcasts, ownMAC, 1, ownMAC, ownIP, peer),
		"ARP reply":                arpFrame(peerMAC, ownMAC, 2, ownMAC, ownIP, peer),
		"ARP probe":                arpFrame(broadcasts, ownMAC, 1, ownMAC, zero4, ownIP),
		"RARP":                     ether(broadcasts, ownMAC, 0x8035, make([]byte, 46)),
		"unknown type":             ether(peerMAC, ownMAC, 0x88b6, make([]byte, 46)),
		"IPv6":                     ether(peerMAC, ownMAC, 0x86dd, ip6(ownIP6, peer6, protoTCP, make([]byte, 20))),
		"IPv6 of link-local":       ether(peerMAC, ownMAC, 0x86dd, ip6(ownLL(), peer6, protoUDP, udp(5000, 53, nil))),
		"IPv6 with options":        own6(ip6(ownIP6, peer6, nextDest, behind(protoTCP, 0, make([]byte, 20)))),
		"first fragment of IPv6":   own6(ip6(ownIP6, peer6, nextFragment, fragmented(protoUDP, 0, true, udp(5000, 53, make([]byte, 16))))),
		"later fragment of IPv6":   own6(ip6(ownIP6, peer6, nextFragment, fragmented(protoUDP, 64, false, make([]byte, 16)))),
		"fragment of a large ping": own6(ip6(ownIP6, peer6, nextFragment, fragmented(protoICMPv6, 0, true, icmp6Of(128, make([]byte, 20))))),
		"echo":                     own6(ip6(ownIP6, peer6, protoICMPv6, icmp6Of(128, make([]byte, 20)))),
		"DHCPv6 SOLICIT":           own6(ip6(ownLL(), netip.MustParseAddr("ff02::1:2"), protoUDP, udp(546, 547, make([]byte, 40)))),
		"DAD":                      own6(ip6(unspecified6, allNodes, protoICMPv6, ns(ownIP6))),
		"DAD of link-local":        own6(ip6(unspecified6, allNodes, protoICMPv6, ns(ownLL()))),
		"DAD with a nonce":         own6(ip6(unspecified6, allNodes, protoICMPv6, ns(ownIP6, ndOption(14, []byte{1, 2, 3, 4, 5, 6})))),
		"NS":                       own6(ip6(ownIP6, peer6, protoICMPv6, ns(peer6, ndOption(1, ownMAC)))),
		"NS without a MAC":         own6(ip6(ownIP6, peer6, protoICMPv6, ns(peer6))),
		"NA":                       own6(ip6(ownIP6, peer6, protoICMPv6, na(ownIP6, ndOption(2, ownMAC)))),
		"NA without a MAC":         own6(ip6(ownIP6, peer6, protoICMPv6, na(ownIP6))),
		"NA of link-local":         own6(ip6(ownLL(), peer6, protoICMPv6, na(ownLL(), ndOption(2, ownMAC)))),
		"RS":                       own6(ip6(ownLL(), allRouters, protoICMPv6, icmp6Of(133, ndOption(1, ownMAC)))),
		"RS of no source":          own6(ip6(unspecified6, allRouters, protoICMPv6, icmp6Of(133))),
		"MLD":                      own6(ip6(ownLL(), netip.MustParseAddr("ff02::16"), nextHop, behind(protoICMPv6, 0, icmp6Of(143, make([]byte, 24))))),
		"MLD of no source":         own6(ip6(unspecified6, netip.MustParseAddr("ff02::16"), nextHop, behind(protoICMPv6, 0, icmp6Of(143, make([]byte, 24))))),
	}
}

func TestNothingHostileLeavesAGuestAndTheRightRuleCountsIt(t *testing.T) {
	for kind, attach := range kinds {
		t.Run(kind, func(t *testing.T) {
			l := newLab(t)
			g := attach(t, l)
			l.set(t, g.strict())
			for _, trick := range tricks() {
				expectDropped(t, l, g, trick)
			}
		})
	}
}

func expectDropped(t *testing.T, l *lab, g guest, k trick) {
	t.Helper()
	before, _ := l.Counters(ctx(), g.ifname)
	if l.tells(t, g, k.frame)[0] {
		t.Errorf("%s: it was heard outside", k.name)
	}
	after, _ := l.Counters(ctx(), g.ifname)
	if got := dropped(before, after); !maps.Equal(got, map[string]uint64{k.rule: 1}) {
		t.Errorf("%s: counted %v, want %s", k.name, got, k.rule)
	}
}

func TestHonestFramesAllArrive(t *testing.T) {
	for kind, attach := range kinds {
		t.Run(kind, func(t *testing.T) {
			l := newLab(t)
			g := attach(t, l)
			l.set(t, g.strict())
			before, _ := l.Counters(ctx(), g.ifname)
			frames := honest()
			names := slices.Sorted(maps.Keys(frames))
			var list [][]byte
			for _, name := range names {
				list = append(list, frames[name])
			}
			for i, heard := range l.tells(t, g, list...) {
				if !heard {
					t.Errorf("%s was not heard", names[i])
				}
			}
			after, _ := l.Counters(ctx(), g.ifname)
			if got := dropped(before, after); len(got) != 0 {
				t.Errorf("counted as dropped: %v", got)
			}
		})
	}
}

// Every trick is one that works: without a filter, it comes out.
func TestWithoutAFilterEveryTrickLeaves(t *testing.T) {
	l := newLab(t)
	g := macvtap(t, l)
	var list [][]byte
	all := tricks()
	for _, k := range all {
		list = append(list, k.frame)
	}
	for i, heard := range l.tells(t, g, list...) {
		if !heard {
			t.Errorf("%s does not come out even without a filter: it proves nothing", all[i].name)
		}
	}
}

func TestATruncatedHeaderPassesNoRule(t *testing.T) {
	l := newLab(t)
	g := macvtap(t, l)
	l.set(t, g.strict())
	ear := l.out.Sniff(t, "far0", 0x0806, 0x0800, 0x86dd)
	last := arpFrame(peerMAC, g.mac, 2, g.mac, ownIP, peer)
	for _, whole := range [][]byte{
		arpFrame(peerMAC, ownMAC, 2, ownMAC, ownIP, peer)[:42],
		own4(ip4(ownIP, peer, protoTCP, make([]byte, 20))),
		own6(ip6(ownIP6, peer6, protoICMPv6, na(ownIP6, ndOption(2, ownMAC)))),
	} {
		for n := 14; n < len(whole); n++ {
			g.send(whole[:n])
		}
	}
	g.send(last)
	for {
		f, ok := ear.Next(t, testkit.Patience)
		switch {
		case !ok:
			t.Fatal("the last frame, an honest one, was not heard")
		case sniffed(f).is(last) && len(f.Bytes) == len(last):
			return
		case bytes.Equal(f.Bytes[6:12], g.mac):
			t.Errorf("a part of a header was heard: %x", f.Bytes)
		}
	}
}
