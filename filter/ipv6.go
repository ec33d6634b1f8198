package filter

import (
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// ipv6 drops what servers of DHCPv6 and routers send, other sources than the
// guest's, and what ND says of others. Extension headers hide nothing: what is
// behind them is looked at, a first fragment has none behind its fragment header,
// and ND has none at all (RFC 6980).
func ipv6(s Spec, l lists) []rule {
	if !s.Spoof && !s.DHCPServer && !s.RA {
		return nil
	}
	rules := firstFragments()
	if s.DHCPServer {
		rules = append(rules,
			drop("DHCPv6 server", is6(), upper().is(protoUDP), transport(0, 2).is(be16(547)...)),
			drop("DHCPv6 server", is6(), upper().is(protoUDP), transport(2, 2).is(be16(546)...)))
	}
	if s.RA {
		rules = append(rules,
			drop("router advertisement", icmp6(routerAdvertisement)),
			drop("redirect", icmp6(redirect)),
			drop("MLD query", icmp6(listenerQuery)),
			drop(multicastRouter, icmp6(multicastRouter6)),
			drop("PIM", is6(), upper().is(protoPIM), toGroup()))
	}
	if s.Spoof {
		rules = append(rules, unspecified(s, l)...)
	}
	if s.Spoof && s.Pin6 {
		rules = append(rules, drop("IPv6 source", is6(), source6().outside(l.ip6)))
	}
	if s.Spoof {
		rules = append(rules, neighbours(s, l)...)
	}
	return append(rules,
		accept("IPv6", is6(), transport(0, 1).there()),
		accept("IPv6", is6(), upper().there(), laterFragment()),
		drop("IPv6 header", is6()))
}

// source6 is where an IPv6 packet says it comes from.
func source6() field { return network(8, 16) }

// icmp6 holds for that type of ICMPv6, behind whatever extension headers; in IPv4
// it means nothing.
func icmp6(kind byte) terms {
	return all(upper().is(protoICMPv6), transport(0, 1).is(kind))
}

// extensions are the headers that may come before what a packet carries
// (net/ipv6/exthdrs_core.c, ipv6_ext_hdr).
var extensions = [][]byte{{unix.IPPROTO_HOPOPTS}, {unix.IPPROTO_ROUTING}, {unix.IPPROTO_FRAGMENT}, {unix.IPPROTO_AH}, {unix.IPPROTO_DSTOPTS}}

// firstFragments drops what begins with an extension header behind the fragment
// header. The kernel reads to the end of the frame, and whoever it is for to the
// end of the packet (net/netfilter/nft_payload.c; net/ipv6/ip6_input.c): what seems
// to be behind that header may be padding, and the truth in the next fragment.
func firstFragments() []rule {
	var rules []rule
	for _, next := range extensions {
		first := fragment(0, 4).masked([]byte{0xff, 0, 0xff, 0xf8}, []byte{next[0], 0, 0, 0})
		rules = append(rules, drop("IPv6 header", is6(), first))
	}
	return rules
}

// laterFragment holds for every fragment but the first: 13 bits of the offset
// (RFC 8200, 4.5).
func laterFragment() terms {
	offset := fragment(2, 2)
	return terms{offset.load, offset.and([]byte{0xff, 0xf8}), &expr.Cmp{Op: expr.CmpOpNeq, Register: unix.NFT_REG_1, Data: []byte{0, 0}}}
}
