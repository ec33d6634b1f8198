package e2e

import (
	bin "encoding/binary"
	"net"
	"net/netip"
	"slices"
)

// Frames that no stack would send, and those it would.

var (
	allStations = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	allNodesMAC = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
	allNodes    = netip.MustParseAddr("ff02::1")
	everybody4  = netip.MustParseAddr("255.255.255.255")
	somebodyMAC = net.HardwareAddr{0x52, 0x54, 0, 0xaa, 0, 9}
	strangerMAC = net.HardwareAddr{0x52, 0x54, 0, 0xbe, 0xef, 1}
	stranger4   = netip.MustParseAddr("10.99.0.66")
	stranger6   = netip.MustParseAddr("fd99::66")
	somebody4   = netip.MustParseAddr("10.99.0.1")
	somebody6   = netip.MustParseAddr("fd99::1")
	protocols   = map[string]byte{"TCP": 6, "UDP": 17, "ICMPv6": 58}
)

func be16(v int) []byte { return bin.BigEndian.AppendUint16(nil, uint16(v)) }

func etherFrame(dst, src net.HardwareAddr, kind int, payload []byte) []byte {
	return slices.Concat(dst, src, be16(kind), payload)
}

func arpFrame(src net.HardwareAddr, op int, sender net.HardwareAddr, ip, target netip.Addr) []byte {
	body := slices.Concat([]byte{0, 1, 8, 0, 6, 4}, be16(op), sender, ip.AsSlice(), make([]byte, 6), target.AsSlice())
	return etherFrame(allStations, src, 0x0806, append(body, make([]byte, 18)...))
}

func udp4(dst, src net.HardwareAddr, from, to netip.Addr, sport, dport int, payload []byte) []byte {
	h := slices.Concat([]byte{0x45, 0}, be16(28+len(payload)), []byte{0, 1, 0, 0, 64, protocols["UDP"], 0, 0}, from.AsSlice(), to.AsSlice())
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(bin.BigEndian.Uint16(h[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	bin.BigEndian.PutUint16(h[10:], ^uint16(sum))
	return etherFrame(dst, src, 0x0800, slices.Concat(h, be16(sport), be16(dport), be16(8+len(payload)), []byte{0, 0}, payload))
}

func ip6Frame(src net.HardwareAddr, from, to netip.Addr, next string, payload []byte) []byte {
	h := slices.Concat([]byte{0x60, 0, 0, 0}, be16(len(payload)), []byte{protocols[next], 255}, from.AsSlice(), to.AsSlice())
	return etherFrame(allNodesMAC, src, 0x86dd, append(h, payload...))
}

// icmp6 is a message of ICMPv6 whose checksum is wrong: nobody acts on it.
func icmp6(kind byte, body ...[]byte) []byte {
	return append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, slices.Concat(body...)...)
}

func linkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]})
}

// trick is a frame that a guest may not send.
type trick struct {
	name  string
	frame []byte
}

// tricks are those of a guest with that MAC and addresses; the first is all that
// is known to be wrong where no address is.
func tricks(mac net.HardwareAddr, ip4, ip6 netip.Addr) []trick {
	own := linkLocal(mac)
	target := func(a netip.Addr, mac net.HardwareAddr) [][]byte { return [][]byte{a.AsSlice(), {2, 1}, mac} }
	return []trick{
		{"another MAC", udp4(somebodyMAC, strangerMAC, ip4, somebody4, 5000, 5000, []byte("another MAC"))},
		{"ARP of another's address", arpFrame(mac, 2, mac, stranger4, somebody4)},
		{"ARP that names another MAC", arpFrame(mac, 2, strangerMAC, ip4, somebody4)},
		{"another IPv4 source", udp4(somebodyMAC, mac, stranger4, somebody4, 5000, 5000, []byte("another IPv4"))},
		{"another IPv6 source", ip6Frame(mac, stranger6, somebody6, "UDP", slices.Concat(be16(5000), be16(5000), be16(8), be16(0)))},
		{"NA of another's address", ip6Frame(mac, own, allNodes, "ICMPv6", icmp6(136, target(stranger6, mac)...))},
		{"NA that names another MAC", ip6Frame(mac, ip6, allNodes, "ICMPv6", icmp6(136, target(ip6, strangerMAC)...))},
		{"RA", ip6Frame(mac, own, allNodes, "ICMPv6", icmp6(134, make([]byte, 8)))},
		{"answer of a DHCP server", udp4(allStations, mac, ip4, everybody4, 67, 68, make([]byte, 240))},
		{"answer of a DHCPv6 server", ip6Frame(mac, own, allNodes, "UDP", slices.Concat(be16(547), be16(546), be16(48), be16(0), make([]byte, 40)))},
		{"BPDU", slices.Concat(net.HardwareAddr{1, 0x80, 0xc2, 0, 0, 0}, mac, be16(38), []byte{0x42, 0x42, 3}, make([]byte, 35))},
		{"VLAN tag", slices.Concat(somebodyMAC, mac, be16(0x8100), be16(10), udp4(somebodyMAC, mac, ip4, somebody4, 5000, 5000, nil)[12:])},
	}
}
