package filter

// Types of ICMPv6 (RFC 4861, RFC 2710, RFC 3810, RFC 4286).
const (
	listenerQuery         = 130 // a multicast router's, as IGMP's
	listenerReport        = 131
	listenerDone          = 132
	routerSolicitation    = 133
	routerAdvertisement   = 134
	neighbourSolicitation = 135
	neighbourAdvert       = 136
	redirect              = 137
	listenerReport2       = 143
	multicastRouter6      = 151
)

// Options of ND (RFC 4861, 4.6; RFC 3971, 5.3), each of 8 bytes: type and length.
var (
	optionSource = []byte{1, 1}
	optionTarget = []byte{2, 1}
	optionNonce  = []byte{14, 1}
)

const (
	ndTarget  = "ND target"
	ndAddress = "ND link-layer address"
)

// nd holds for a message of ND without extension headers, of that length in
// bytes.
func nd(kind byte, length int) terms {
	return all(is6(), network(4, 3).is(byte(length>>8), byte(length), protoICMPv6), network(40, 1).is(kind))
}

// ndOf holds for a message of ND of any length, without extension headers.
func ndOf(kind byte) terms {
	return all(is6(), network(6, 1).is(protoICMPv6), network(40, 1).is(kind))
}

// targetOf is the address that a solicitation or an advertisement is about.
func targetOf() field { return network(48, 16) }

// unspecified is what a guest may say before it has an address: which one it is
// going to use (RFC 4862, 5.4, RFC 7527), that it looks for routers, and which
// groups it is in. Its claim is pinned: an answer to one of another's address
// would have that one give up its own.
func unspecified(s Spec, l lists) []rule {
	from := source6().is(anyIPv6...)
	const probe = "duplicate address detection"
	var rules []rule
	if s.Pin6 && !s.Learn {
		rules = append(rules, drop(ndTarget, ndOf(neighbourSolicitation), from, targetOf().outside(l.ip6)))
	}
	return append(rules,
		accept(probe, nd(neighbourSolicitation, 24), from),
		accept(probe, nd(neighbourSolicitation, 32), from, network(64, 2).is(optionNonce...)),
		drop(ndAddress, ndOf(neighbourSolicitation), from),
		accept("router solicitation", nd(routerSolicitation, 8), from),
		accept("multicast listener", icmp6(listenerReport2), from),
		accept("multicast listener", icmp6(listenerReport), from),
		accept("multicast listener", icmp6(listenerDone), from))
}

// neighbours accepts messages of ND in the shapes that name no link-layer
// address or the guest's own, and drops all others.
func neighbours(s Spec, l lists) []rule {
	var rules []rule
	if s.Pin6 {
		rules = append(rules, drop(ndTarget, ndOf(neighbourAdvert), targetOf().outside(l.ip6)))
	}
	return append(rules,
		accept("neighbour solicitation", nd(neighbourSolicitation, 24)),
		accept("neighbour solicitation", nd(neighbourSolicitation, 32), network(64, 2).is(optionSource...), network(66, 6).in(l.macs)),
		accept("neighbour advertisement", nd(neighbourAdvert, 24)),
		accept("neighbour advertisement", nd(neighbourAdvert, 32), network(64, 2).is(optionTarget...), network(66, 6).in(l.macs)),
		accept("router solicitation", nd(routerSolicitation, 8)),
		accept("router solicitation", nd(routerSolicitation, 16), network(48, 2).is(optionSource...), network(50, 6).in(l.macs)),
		drop(ndAddress, icmp6(neighbourSolicitation)),
		drop(ndAddress, icmp6(neighbourAdvert)),
		drop(ndAddress, icmp6(routerSolicitation)))
}
