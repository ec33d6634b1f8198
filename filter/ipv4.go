package filter

// ipv4 drops what servers of DHCP send, what routers say of themselves (ICMP 5
// and 9, RFC 792 and RFC 1256; for multicast IGMP and PIM), and other sources than
// the guest's. Without a source a guest may ask for an address, and say which
// groups it is in. What has no sound header, no rule can read.
func ipv4(s Spec, l lists) []rule {
	if !s.Spoof && !s.DHCPServer && !s.RA {
		return nil
	}
	var rules []rule
	if s.DHCPServer {
		rules = append(rules,
			drop("DHCP server", is4(), upper().is(protoUDP), transport(0, 2).is(be16(67)...)),
			drop("DHCP server", is4(), upper().is(protoUDP), transport(2, 2).is(be16(68)...)))
	}
	if s.RA {
		rules = append(rules,
			drop("redirect", is4(), upper().is(protoICMP), transport(0, 1).is(5)),
			drop("router advertisement", is4(), upper().is(protoICMP), transport(0, 1).is(9)),
			drop("IGMP query", is4(), upper().is(protoIGMP), transport(0, 1).is(membershipQuery)),
			drop(multicastRouter, is4(), upper().is(protoIGMP), transport(0, 1).is(multicastRouter4)),
			drop("PIM", is4(), upper().is(protoPIM), toGroup()))
	}
	if s.Spoof && s.Pin4 {
		rules = append(rules, pinned4(l)...)
	}
	return append(rules, accept("IPv4", is4(), upper().there()), drop("IPv4 header", is4()))
}

// What a multicast router sends by IGMP (RFC 3376, 4.1; RFC 4286, 3.2), and the hello
// of PIM (RFC 7761, 4.3.1): switches that snoop send all groups to whoever does
// (RFC 4541, 2.1.1; net/bridge/br_multicast.c).
const (
	membershipQuery  = 0x11
	multicastRouter4 = 0x30
	multicastRouter  = "multicast router advertisement"
)

func pinned4(l lists) []rule {
	sender := network(12, 4)
	rules := []rule{
		accept("DHCP client", is4(), sender.is(anyIPv4...), upper().is(protoUDP), transport(0, 4).is(0, 68, 0, 67)),
		accept("IGMP", is4(), sender.is(anyIPv4...), upper().is(protoIGMP)),
	}
	if l.ip4.empty() {
		return append(rules, drop("IPv4 source", is4()))
	}
	return append(rules, drop("IPv4 source", is4(), sender.outside(l.ip4)))
}
