package learn

import (
	"encoding/binary"
	"net/netip"
)

// Messages and options of ND (RFC 4861 4).
const (
	solicitation  = 135
	advertisement = 136
	ndLength      = 24 // bytes, without options
	sourceLink    = 1
	targetLink    = 2
)

// ndPacket is a neighbour solicitation or advertisement.
type ndPacket struct {
	kind                byte // solicitation or advertisement
	source, to, target  netip.Addr
	link                hardware // of the option that the message may have
	hasLink, contradict bool     // it has one; it has two that differ
}

// parseND reads what follows the Ethernet header, as strictly as receivers must
// (RFC 4861 7.1.1, 7.1.2) but for the checksum. Extension headers are not
// followed: the address would be heard by another message.
func parseND(b []byte) (p ndPacket, ok bool) {
	if len(b) < ipv6Header+ndLength || b[0]>>4 != 6 || b[6] != protoICMPv6 || b[7] != 255 {
		return ndPacket{}, false
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	if length < ndLength || length > len(b)-ipv6Header {
		return ndPacket{}, false
	}
	m := b[ipv6Header : ipv6Header+length]
	if m[0] != solicitation && m[0] != advertisement || m[1] != 0 {
		return ndPacket{}, false
	}
	p = ndPacket{kind: m[0], source: ip6(b[8:24]), to: ip6(b[24:40]), target: ip6(m[8:24])}
	return p, p.options(m[ndLength:]) && p.valid(m[4])
}

// options reads the link-layer addresses; false when they are malformed.
func (p *ndPacket) options(b []byte) bool {
	for len(b) > 0 {
		if len(b) < 8 || b[1] == 0 || int(b[1])*8 > len(b) {
			return false
		}
		if b[0] == sourceLink && p.kind == solicitation || b[0] == targetLink && p.kind == advertisement {
			link := hardware(b[2:8])
			p.contradict = p.contradict || p.hasLink && link != p.link
			p.link, p.hasLink = link, true
		}
		b = b[int(b[1])*8:]
	}
	return !p.contradict
}

// solicited is the S flag of an advertisement.
const solicited = 0x40

func (p *ndPacket) valid(flags byte) bool {
	switch {
	case p.target.IsMulticast():
		return false
	case p.kind == advertisement:
		return !p.source.IsUnspecified() && (flags&solicited == 0 || !p.to.IsMulticast())
	case p.source.IsUnspecified():
		return !p.hasLink && p.to == solicitedNode(p.target)
	}
	return true
}

// solicitedNode is the group of an address (RFC 4291 2.7.1).
func solicitedNode(ip netip.Addr) netip.Addr {
	b := ip.As16()
	return netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}
