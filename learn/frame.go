package learn

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// What is looked at in a frame.
const (
	etherHeader = 14
	etherIPv4   = 0x0800
	etherARP    = 0x0806
	etherIPv6   = 0x86dd

	ipv4Header     = 20 // without options
	ipv6Header     = 40
	udpHeader      = 8
	protoUDP       = 17
	protoICMPv6    = 58
	moreFragments  = 0x2000 // RFC 791 3.1
	fragmentOffset = 0x1fff

	serverPort = 67 // RFC 2131 4.1
	clientPort = 68
)

// hardware is a MAC that can be compared.
type hardware [6]byte

// mac is the MAC as hardware; all zero when it is no Ethernet address.
func mac(a net.HardwareAddr) (h hardware) {
	if len(a) == len(h) {
		copy(h[:], a)
	}
	return h
}

// frame is an Ethernet frame without a VLAN tag.
type frame []byte

// split takes the header off; a frame that is too short has EtherType 0.
func (f frame) split() (source hardware, etherType uint16, payload []byte) {
	if len(f) < etherHeader {
		return hardware{}, 0, nil
	}
	return hardware(f[6:12]), binary.BigEndian.Uint16(f[12:]), f[etherHeader:]
}

// usable says whether a station can have an address as its own.
func usable(ip netip.Addr) bool {
	return ip.IsValid() && !ip.IsUnspecified() && !ip.IsMulticast() && !ip.IsLoopback() && !ip.Is4In6() && ip != broadcast
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// ip4 is four bytes as an address.
func ip4(b []byte) netip.Addr { return netip.AddrFrom4([4]byte(b)) }

// ip6 is sixteen bytes as an address.
func ip6(b []byte) netip.Addr { return netip.AddrFrom16([16]byte(b)) }

// udpPayload is what an IPv4 packet carries to a UDP port; ok is false for a
// fragment and for what is cut short or contradicts itself. Checksums are not
// looked at: what a guest sends has none yet where its NIC is to compute it.
func udpPayload(b []byte) (payload []byte, port uint16, ok bool) {
	if len(b) < ipv4Header || b[0]>>4 != 4 || b[9] != protoUDP {
		return nil, 0, false
	}
	header, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < ipv4Header || total < header+udpHeader || total > len(b) || binary.BigEndian.Uint16(b[6:])&(moreFragments|fragmentOffset) != 0 {
		return nil, 0, false
	}
	datagram := b[header:total]
	length := int(binary.BigEndian.Uint16(datagram[4:]))
	if length < udpHeader || length > len(datagram) {
		return nil, 0, false
	}
	return datagram[udpHeader:length], binary.BigEndian.Uint16(datagram[2:]), true
}
