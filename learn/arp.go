package learn

import (
	"bytes"
	"encoding/binary"
	"net/netip"
)

// Operations of ARP (RFC 826).
const (
	opRequest = 1
	opReply   = 2
)

// arpPacket is an ARP packet for IPv4 over Ethernet.
type arpPacket struct {
	op               uint16
	sender           hardware
	senderIP, target netip.Addr
}

// arpOverEthernet is hardware type 1, protocol 0x0800 and the lengths 6 and 4.
var arpOverEthernet = []byte{0, 1, 8, 0, 6, 4}

// arpLength is in bytes, without padding.
const arpLength = 28

// parseARP reads what follows the Ethernet header.
func parseARP(b []byte) (p arpPacket, ok bool) {
	if len(b) < arpLength || !bytes.Equal(b[:6], arpOverEthernet) {
		return arpPacket{}, false
	}
	p = arpPacket{op: binary.BigEndian.Uint16(b[6:]), sender: hardware(b[8:14]), senderIP: ip4(b[14:18]), target: ip4(b[24:28])}
	return p, p.op == opRequest || p.op == opReply
}
