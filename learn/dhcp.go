package learn

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// What of DHCP matters here (RFC 2131 2, RFC 2132).
const (
	bootRequest = 1
	bootReply   = 2
	dhcpHeader  = 236
	dhcpCookie  = 0x63825363

	optPad, optEnd = 0, 255
	optRequested   = 50
	optLease       = 51
	optOverload    = 52
	optKind        = 53
	optServer      = 54
	optClient      = 61

	dhcpDiscover = 1
	dhcpOffer    = 2
	dhcpRequest  = 3
	dhcpDecline  = 4
	dhcpAck      = 5
	dhcpNak      = 6
	dhcpRelease  = 7
	dhcpInform   = 8
)

// forever is a lease time in seconds (RFC 2131 3.3).
const forever = 0xffffffff

// dhcpMessage is a DHCP message over Ethernet. Addresses that it lacks are
// invalid or unspecified.
type dhcpMessage struct {
	op, kind          byte
	xid               uint32
	client            hardware // chaddr
	ciaddr, yiaddr    netip.Addr
	giaddr            netip.Addr
	requested, server netip.Addr // options 50 and 54
	lease             uint32     // option 51, seconds
	hasLease          bool
	clientID          string // option 61
}

// parseDHCP reads the payload of a UDP datagram; ok is false for what is no DHCP
// message or is malformed.
func parseDHCP(b []byte) (d dhcpMessage, ok bool) {
	if len(b) < dhcpHeader+4 || b[1] != 1 || b[2] != 6 || binary.BigEndian.Uint32(b[dhcpHeader:]) != dhcpCookie {
		return dhcpMessage{}, false
	}
	d = dhcpMessage{
		op: b[0], xid: binary.BigEndian.Uint32(b[4:]), client: hardware(b[28:34]),
		ciaddr: ip4(b[12:16]), yiaddr: ip4(b[16:20]), giaddr: ip4(b[24:28]),
	}
	overload := byte(0)
	ok = d.options(b[dhcpHeader+4:], &overload)
	file, sname := b[108:dhcpHeader], b[44:108]
	if overload&1 != 0 {
		ok = ok && d.options(file, nil)
	}
	if overload&2 != 0 {
		ok = ok && d.options(sname, nil)
	}
	return d, ok && d.kind != 0 && (d.op == bootRequest || d.op == bootReply)
}

// options reads one field of options; false when one is cut short or has a length
// that it cannot have. The end option may be missing: some senders forget it.
func (d *dhcpMessage) options(b []byte, overload *byte) bool {
	for len(b) > 0 && b[0] != optEnd {
		if b[0] == optPad {
			b = b[1:]
			continue
		}
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return false
		}
		code, value := b[0], b[2:2+int(b[1])]
		if code == optOverload && overload != nil && len(value) == 1 {
			*overload = value[0]
		}
		if !d.option(code, value) {
			return false
		}
		b = b[2+len(value):]
	}
	return true
}

func (d *dhcpMessage) option(code byte, v []byte) bool {
	switch code {
	case optRequested, optLease, optServer:
		return d.long(code, v)
	case optKind:
		if len(v) != 1 {
			return false
		}
		d.kind = v[0]
	case optClient:
		d.clientID = string(v)
	}
	return true
}

// long is an option of four bytes.
func (d *dhcpMessage) long(code byte, v []byte) bool {
	if len(v) != 4 {
		return false
	}
	switch code {
	case optRequested:
		d.requested = ip4(v)
	case optServer:
		d.server = ip4(v)
	default:
		d.lease, d.hasLease = binary.BigEndian.Uint32(v), true
	}
	return true
}

// wants is the address that a request is for.
func (d *dhcpMessage) wants() netip.Addr {
	if usable(d.requested) {
		return d.requested
	}
	return d.ciaddr
}

// until is the end of the lease that an answer gives; zero when it has none.
func (d *dhcpMessage) until(now time.Time) time.Time {
	if !d.hasLease || d.lease == forever {
		return time.Time{}
	}
	return now.Add(time.Duration(d.lease) * time.Second)
}

// clientMessage reads an IPv4 packet from a DHCP client to servers. What a relay
// passes on is not its own.
func clientMessage(packet []byte) (dhcpMessage, bool) {
	b, port, ok := udpPayload(packet)
	if !ok || port != serverPort {
		return dhcpMessage{}, false
	}
	d, ok := parseDHCP(b)
	return d, ok && d.op == bootRequest && d.giaddr.IsUnspecified()
}

// serverAnswer reads an IPv4 packet from a DHCP server to a client.
func serverAnswer(packet []byte) (dhcpMessage, bool) {
	b, port, ok := udpPayload(packet)
	if !ok || port != clientPort {
		return dhcpMessage{}, false
	}
	d, ok := parseDHCP(b)
	return d, ok && d.op == bootReply
}
