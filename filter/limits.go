package filter

import "github.com/google/nftables/expr"

// limits drops broadcasts and multicasts beyond so many a second. A tenth of a
// second's worth, and five, may come at once.
func limits(s Spec, _ lists) []rule {
	var rules []rule
	if s.Broadcast > 0 {
		rules = append(rules, drop("broadcast limit", etherDest().is(broadcasts...), over(s.Broadcast)))
	}
	if s.Multicast > 0 {
		rules = append(rules, drop("multicast limit", toGroup(), etherDest().not(broadcasts...), over(s.Multicast)))
	}
	return rules
}

func over(rate int) terms {
	return terms{&expr.Limit{Type: expr.LimitTypePkts, Rate: uint64(rate), Unit: expr.LimitTimeSecond, Burst: uint32(rate/10 + 5), Over: true}}
}
