package filter

// source drops frames from another station than the guest's.
func source(s Spec, l lists) []rule {
	if !s.Spoof {
		return nil
	}
	return []rule{drop("source MAC", etherSource().outside(l.macs))}
}

// control drops what is for switches alone: the groups that no bridge forwards
// (IEEE 802.1Q table 8-1: BPDU, PAUSE, LACP, 802.1X, LLDP), those by which
// stations register VLANs and groups (table 10-1), and PAUSE and the slow
// protocols also when they are for one station. Frames of LLC are dropped
// altogether: Cisco's control protocols are some, and SNAP carries IPv4 past every
// rule for IPv4 (RFC 1042).
func control(s Spec, _ lists) []rule {
	if !s.Spoof {
		return nil
	}
	const name = "BPDU and other link-local control (01:80:c2:00:00:0X)"
	return []rule{
		drop(name, etherDest().masked([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xd0}, []byte{0x01, 0x80, 0xc2, 0, 0, 0})),
		drop(name, etherType().masked([]byte{0xff, 0xfe}, []byte{0x88, 0x08})), // 0x8808 MAC control, 0x8809 slow protocols
		drop("LLC", etherType().below(shortest...)),
	}
}

// tags drops tagged frames, but for those of the trunk's VLANs, which have one
// tag. At ingress the kernel has taken the first tag out; what it calls the
// protocol is what follows.
func tags(s Spec, l lists) []rule {
	if !s.Spoof {
		return nil
	}
	const name = "VLAN tag"
	if l.vlans.empty() {
		return []rule{
			drop(name, etherType().is(typeVLAN...)),
			drop(name, etherType().is(typeQinQ...)),
			drop(name, etherType().is(typeOldQ1...)),
			drop(name, etherType().is(typeOldQ2...)),
		}
	}
	id := link(14, 2)
	foreign := terms{id.load, id.and([]byte{0x0f, 0xff}), l.vlans.lookup(true)}
	return []rule{
		drop(name, etherType().is(typeVLAN...), foreign),
		drop(name, etherType().is(typeQinQ...)),
		drop(name, protocol().is(typeVLAN...)),
		drop(name, protocol().is(typeQinQ...)),
		drop(name, protocol().is(typeOldQ1...)),
		drop(name, protocol().is(typeOldQ2...)),
		drop("LLC", protocol().below(shortest...)),
	}
}

// ethertypes drops what is not listed, also behind a tag.
func ethertypes(s Spec, _ lists) []rule {
	if s.Ethertypes == nil {
		return nil
	}
	var listed [][]byte
	for _, t := range s.Ethertypes {
		listed = append(listed, be16(int(t)))
	}
	return []rule{drop("ethertype", protocol().none(listed...))}
}
