package learn

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
)

var (
	guestMAC = net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}
	otherMAC = net.HardwareAddr{0x52, 0x54, 0, 9, 9, 9}
	everyone = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	noIP     = netip.IPv4Unspecified()
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func ethernet(dst, src net.HardwareAddr, etherType uint16, payload []byte) []byte {
	b := append(append([]byte{}, dst...), src...)
	b = append(binary.BigEndian.AppendUint16(b, etherType), payload...)
	return append(b, make([]byte, max(0, 60-len(b)))...)
}

// arp is an ARP packet; of op 1 it is a request.
func arp(op uint16, src net.HardwareAddr, sender, target netip.Addr) []byte {
	b := binary.BigEndian.AppendUint16(append([]byte{}, arpOverEthernet...), op)
	b = append(append(b, src...), sender.AsSlice()...)
	b = append(append(b, make([]byte, 6)...), target.AsSlice()...)
	return ethernet(everyone, src, etherARP, b)
}

// nd is a solicitation or an advertisement with the option of its kind, unless
// link is nil.
func nd(kind byte, src net.HardwareAddr, from, to, target netip.Addr, link net.HardwareAddr) []byte {
	m := append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice()...)
	if link != nil {
		m = append(append(m, kind-solicitation+sourceLink, 1), link...)
	}
	return ethernet(everyone, src, etherIPv6, ipv6(255, from, to, m))
}

func ipv6(hops byte, from, to netip.Addr, m []byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0x60, 0, 0, 0}, uint16(len(m)))
	b = append(append(append(b, protoICMPv6, hops), from.AsSlice()...), to.AsSlice()...)
	b = append(b, m...)
	binary.BigEndian.PutUint16(b[42:], checksum(from, to, m))
	return b
}

// checksum is that of ICMPv6 (RFC 4443 2.3), its field being zero.
func checksum(from, to netip.Addr, m []byte) uint16 {
	b := slices.Concat(from.AsSlice(), to.AsSlice(), []byte{0, 0, byte(len(m) >> 8), byte(len(m)), 0, 0, 0, protoICMPv6}, m)
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// dad is a solicitation without a sender.
func dad(src net.HardwareAddr, target netip.Addr) []byte {
	return nd(solicitation, src, netip.IPv6Unspecified(), solicitedNode(target), target, nil)
}

// client is one of a guest's DHCP clients.
type client struct {
	mac net.HardwareAddr
	xid uint32
	id  string
}

// option is one of DHCP.
func option(code byte, value ...byte) []byte { return append([]byte{code, byte(len(value))}, value...) }

func optionIP(code byte, a netip.Addr) []byte { return option(code, a.AsSlice()...) }

// message is the payload of a DHCP message.
func (c client) message(op, kind byte, ciaddr, yiaddr netip.Addr, options ...[]byte) []byte {
	b := make([]byte, dhcpHeader)
	b[0], b[1], b[2] = op, 1, 6
	binary.BigEndian.PutUint32(b[4:], c.xid)
	copy(b[12:], ciaddr.AsSlice())
	copy(b[16:], yiaddr.AsSlice())
	copy(b[28:], c.mac)
	b = binary.BigEndian.AppendUint32(b, dhcpCookie)
	b = append(b, option(optKind, kind)...)
	if c.id != "" {
		b = append(b, option(optClient, []byte(c.id)...)...)
	}
	return append(append(b, slices.Concat(options...)...), optEnd)
}

// sends is a frame with a message to servers.
func (c client) sends(kind byte, ciaddr netip.Addr, options ...[]byte) []byte {
	return ethernet(everyone, c.mac, etherIPv4, udp4(noIP, clientPort, broadcast, serverPort, c.message(bootRequest, kind, ciaddr, noIP, options...)))
}

// gets is a frame with a message of a server.
func (c client) gets(kind byte, yiaddr netip.Addr, options ...[]byte) []byte {
	return ethernet(everyone, otherMAC, etherIPv4, udp4(ip("192.0.2.1"), serverPort, broadcast, clientPort, c.message(bootReply, kind, noIP, yiaddr, options...)))
}

func leaseTime(seconds uint32) []byte {
	return option(optLease, binary.BigEndian.AppendUint32(nil, seconds)...)
}

func udp4(from netip.Addr, sport uint16, to netip.Addr, dport uint16, payload []byte) []byte {
	u := binary.BigEndian.AppendUint16(nil, sport)
	u = binary.BigEndian.AppendUint16(u, dport)
	u = binary.BigEndian.AppendUint16(u, uint16(udpHeader+len(payload)))
	u = append(append(u, 0, 0), payload...) // no checksum
	b := binary.BigEndian.AppendUint16([]byte{0x45, 0}, uint16(ipv4Header+len(u)))
	b = append(b, 0, 0, 0, 0, 64, protoUDP, 0, 0)
	b = append(append(b, from.AsSlice()...), to.AsSlice()...)
	sum := uint32(0)
	for i := 0; i < ipv4Header; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum))
	return append(b, u...)
}
