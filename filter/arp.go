package filter

// arp pins the sender of ARP (RFC 826), whatever it asks or says. Its sizes are
// pinned too: others move the sender to where no rule looks. An address of zero
// is a probe (RFC 5227, 2.1.1): whoever uses the address that it is for gives it
// up or defends it, so it is pinned as well, where no address is to be learned.
func arp(s Spec, l lists) []rule {
	if !s.Spoof {
		return nil
	}
	is := protocol().is(typeARP...)
	const sender = "ARP sender"
	rules := []rule{
		drop("ARP header", is, network(0, 6).not(0, 1, 0x08, 0x00, 6, 4)),
		drop("ARP source MAC", is, network(8, 6).outside(l.macs)),
	}
	if s.Pin4 && !s.Learn {
		rules = append(rules, probes(is, l)...)
	}
	switch {
	case s.Pin4 && l.ip4.empty():
		rules = append(rules, drop(sender, is, network(14, 4).not(anyIPv4...)))
	case s.Pin4:
		rules = append(rules, drop(sender, is, network(14, 4).not(anyIPv4...), network(14, 4).outside(l.ip4)))
	}
	return append(rules,
		accept("ARP", is, network(24, 4).there()),
		drop("ARP header", is))
}

// probes drops those for another's address; without known ones every address is.
func probes(is terms, l lists) []rule {
	from := network(14, 4).is(anyIPv4...)
	if l.ip4.empty() {
		return []rule{drop("ARP probe", is, from)}
	}
	return []rule{drop("ARP probe", is, from, network(24, 4).outside(l.ip4))}
}
