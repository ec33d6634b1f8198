package filter

import (
	"github.com/google/nftables/expr"
)

// rule is one rule: what matches is counted and dropped, or accepted.
type rule struct {
	name string
	drop bool
	when terms
}

func drop(name string, when ...terms) rule { return rule{name, true, all(when...)} }

func accept(name string, when ...terms) rule { return rule{name, false, all(when...)} }

func verdict(drop bool) *expr.Verdict {
	if drop {
		return &expr.Verdict{Kind: expr.VerdictDrop}
	}
	return &expr.Verdict{Kind: expr.VerdictAccept}
}

// rulesOf are the rules of a Spec in their order. What most frames of an honest
// guest are is accepted by one of the first two; what those leave is looked at
// one concern after the other.
func rulesOf(s Spec, l lists) []rule {
	var rules []rule
	for _, concern := range []func(Spec, lists) []rule{
		usual4, usual6,
		source, control, tags, ethertypes, limits,
		arp, ipv4, ipv6,
	} {
		rules = append(rules, concern(s, l)...)
	}
	return rules
}

// EtherTypes (uapi/linux/if_ether.h).
var (
	typeIPv4   = []byte{0x08, 0x00}
	typeARP    = []byte{0x08, 0x06}
	typeVLAN   = []byte{0x81, 0x00} // 802.1Q
	typeQinQ   = []byte{0x88, 0xa8} // 802.1ad
	typeOldQ1  = []byte{0x91, 0x00} // what switches put on twice tagged frames before 802.1ad
	typeOldQ2  = []byte{0x92, 0x00}
	shortest   = []byte{0x06, 0x00} // below it is the length of a frame of LLC (IEEE 802.3, 3.2.6)
	anyIPv4    = []byte{0, 0, 0, 0}
	anyIPv6    = make([]byte, 16)
	typeIPv6   = []byte{0x86, 0xdd}
	broadcasts = ones(6)
)

// Protocols behind IP.
const (
	protoICMP   = 1
	protoIGMP   = 2
	protoUDP    = 17
	protoPIM    = 103
	protoICMPv6 = 58
)

func etherSource() field { return link(6, 6) }
func etherDest() field   { return link(0, 6) }
func etherType() field   { return link(12, 2) }

// toGroup holds for what is for more than one station.
func toGroup() terms { return link(0, 1).masked([]byte{1}, []byte{1}) }

func is4() terms { return protocol().is(typeIPv4...) }
func is6() terms { return protocol().is(typeIPv6...) }
