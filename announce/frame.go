package announce

import (
	"encoding/binary"
	"net"
	"net/netip"
)

const (
	etherARP  = 0x0806
	etherIPv6 = 0x86dd
	etherRARP = 0x8035

	opRequest        = 1 // RFC 826
	opReverseRequest = 3 // RFC 903

	shortest = 60 // bytes of an Ethernet frame without its checksum (IEEE 802.3 4.4.2)
)

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// frame is one frame of a round.
type frame struct {
	bytes   []byte
	ifindex int
	first   bool   // the one of its guest that every switch learns from
	name    string // of the guest
}

// frames is a round: first what tells the switches of every guest, then what
// tells the neighbours, where addresses are known.
func frames(list []Address) []frame {
	all := make([]frame, 0, len(list))
	for _, a := range list {
		all = append(all, frame{bytes: arp(etherRARP, opReverseRequest, a.MAC, a.MAC, netip.IPv4Unspecified()), ifindex: a.Ifindex, first: true, name: a.Name})
	}
	for _, a := range list {
		for _, ip := range a.IPs {
			all = append(all, frame{bytes: claim(a.MAC, ip.Unmap()), ifindex: a.Ifindex, name: a.Name})
		}
	}
	return all
}

// claim tells the neighbours who has an address.
func claim(mac net.HardwareAddr, ip netip.Addr) []byte {
	if ip.Is4() {
		return arp(etherARP, opRequest, mac, make([]byte, 6), ip)
	}
	return neighbourAdvertisement(mac, ip)
}

// arp is an ARP or RARP frame in which sender and target protocol address are
// the same: a reverse request as QEMU's announce-self sends it (net/announce.c),
// or an ARP announcement (RFC 5227 section 3).
func arp(etherType, op uint16, mac, target net.HardwareAddr, ip netip.Addr) []byte {
	b := append(append(make([]byte, 0, shortest), broadcast...), mac...)
	b = binary.BigEndian.AppendUint16(b, etherType)
	b = append(b, 0, 1, 8, 0, 6, 4) // Ethernet, IPv4
	b = binary.BigEndian.AppendUint16(b, op)
	b = append(append(b, mac...), ip.AsSlice()...)
	b = append(append(b, target...), ip.AsSlice()...)
	return append(b, make([]byte, shortest-len(b))...)
}

// neighbourAdvertisement is an unsolicited one to all nodes with the override
// flag (RFC 4861 sections 4.4 and 7.2.6).
func neighbourAdvertisement(mac net.HardwareAddr, ip netip.Addr) []byte {
	const icmp, payload = 58, 32
	to := netip.MustParseAddr("ff02::1")
	b := append([]byte{0x33, 0x33, 0, 0, 0, 1}, mac...)
	b = binary.BigEndian.AppendUint16(b, etherIPv6)
	b = append(b, 0x60, 0, 0, 0, 0, payload, icmp, 255)
	b = append(append(b, ip.AsSlice()...), to.AsSlice()...)
	body := []byte{136, 0, 0, 0, 0x20, 0, 0, 0}
	body = append(append(body, ip.AsSlice()...), 2, 1)
	body = append(body, mac...)
	pseudo := append(append(ip.AsSlice(), to.AsSlice()...), 0, 0, 0, payload, 0, 0, 0, icmp)
	binary.BigEndian.PutUint16(body[2:], checksum(append(pseudo, body...)))
	return append(b, body...)
}

// checksum is RFC 1071's; b has an even length.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
