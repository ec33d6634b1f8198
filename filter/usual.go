package filter

import "slices"

// usual4 accepts what most frames of a guest with IPv4 are, in as few steps as
// there can be: to one station, from the guest's own MAC and address, untagged,
// and nothing that a server of DHCP says or a router's ICMP or IGMP. Whatever it leaves,
// the rules behind it look at.
func usual4(s Spec, l lists) []rule {
	if !passes(s, 0x0800) || s.Spoof && s.Pin4 && l.ip4.empty() {
		return nil
	}
	when := unicast(s, l, typeIPv4)
	if s.Spoof && s.Pin4 {
		when = append(when, network(12, 4).in(l.ip4)...)
	}
	if s.RA {
		when = append(when, network(9, 1).none([]byte{protoICMP}, []byte{protoIGMP})...)
	}
	if s.DHCPServer {
		when = append(when, all(transport(0, 2).not(be16(67)...), transport(2, 2).not(be16(68)...))...)
	}
	return []rule{accept("unicast IPv4", when)}
}

// usual6 is the same for IPv6, without ICMPv6 and extension headers. That the ports
// can be read says that the packet is as long as it says.
func usual6(s Spec, l lists) []rule {
	if !passes(s, 0x86dd) {
		return nil
	}
	when := unicast(s, l, typeIPv6)
	if s.Spoof && s.Pin6 {
		when = append(when, network(8, 16).in(l.ip6)...)
	}
	when = append(when, network(6, 1).none(slices.Concat(extensions, [][]byte{{protoICMPv6}})...)...)
	ports := transport(0, 2).there()
	if s.DHCPServer {
		ports = all(transport(0, 2).not(be16(547)...), transport(2, 2).not(be16(546)...))
	}
	return []rule{accept("unicast IPv6", when, ports)}
}

// passes says that there is an early way for frames of that type.
func passes(s Spec, ethertype uint16) bool {
	return (s.Spoof || s.DHCPServer || s.RA) && (s.Ethertypes == nil || slices.Contains(s.Ethertypes, ethertype))
}

// unicast holds for untagged frames of that type from one of the guest's MACs to
// one station.
func unicast(s Spec, l lists, ethertype []byte) terms {
	mask := []byte{12: 0xff, 13: 0xff}
	mask[0] = 1 // of the destination: a group
	want := slices.Concat(make([]byte, 12), ethertype)
	if s.Spoof && !l.macs.inSet() {
		copy(mask[6:], ones(6))
		copy(want[6:], l.macs.values[0].first)
	}
	when := link(0, 14).maskedByWord(mask, want)
	if s.Hook == Ingress {
		// Before Linux 6.6 a field that begins before offset 12 does not show a
		// tag that was taken out (nft_payload_need_vlan_adjust).
		when = all(etherType().is(ethertype...), link(0, 12).maskedByWord(mask[:12], want[:12]))
	}
	if s.Spoof && l.macs.inSet() {
		when = append(when, etherSource().in(l.macs)...)
	}
	return when
}
