package uplink

import (
	"slices"

	"github.com/vmnetd/vmnetd/bonding"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// rewriting is the mode of the first bond, from a link down, that puts MACs of its
// own into what it sends (drivers/net/bonding/bond_alb.c, bond_do_alb_xmit); ""
// where there is none.
func (f *Finder) rewriting(l rtnl.Link, depth int) string {
	if l.BondMode == bonding.BalanceTLB || l.BondMode == bonding.BalanceALB {
		return l.BondMode
	}
	if depth == 0 {
		return ""
	}
	for _, below := range f.below(l) {
		if mode := f.rewriting(below, depth-1); mode != "" {
			return mode
		}
	}
	return ""
}

// below is what a link stands on: its lower device, or its ports but for those of
// guests.
func (f *Finder) below(l rtnl.Link) []rtnl.Link {
	if lower, ok := f.links.ByIndex(l.Lower); ok && l.LowerHere {
		return []rtnl.Link{lower}
	}
	if l.Kind != kindBond && l.Kind != kindTeam && l.Kind != kindBridge {
		return nil
	}
	return slices.DeleteFunc(f.links.Ports(l.Index), guestPort)
}
