package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/policy"
)

var trunk = listOf[got[vmnetd.VLANRange]]{orOne: true, what: "a VLAN, a range of them, or a list", item: scalar[vmnetd.VLANRange]{
	shapes: []shape{number, text}, want: "a VLAN such as 300 or a range such as 100-200", read: readVLANs,
}}

func readVLANs(s string) (vmnetd.VLANRange, error) {
	low, high, isRange := strings.Cut(s, "-")
	if !isRange {
		high = low
	}
	from, err := strconv.Atoi(low)
	to, err2 := strconv.Atoi(high)
	if err != nil || err2 != nil || from < 1 || to > maxVLAN || from > to {
		return vmnetd.VLANRange{}, invalid("VLANs %q are neither a number from 1 to %d nor a range of two of them", s, maxVLAN)
	}
	return vmnetd.VLANRange{From: from, To: to}, nil
}

func rangeText(r vmnetd.VLANRange) string {
	if r.From == r.To {
		return strconv.Itoa(r.From)
	}
	return fmt.Sprintf("%d-%d", r.From, r.To)
}

// trunk reports VLANs that a network's trunk holds twice, or tagged as well as
// untagged.
func (b *builder) trunk(n *rawNetwork) {
	var before []vmnetd.VLANRange
	for _, r := range n.trunk.V {
		if !r.Given {
			continue
		}
		if n.vlan.Given && r.V.From <= n.vlan.V && n.vlan.V <= r.V.To {
			b.add(r.At, "VLAN %d is the network's own (%s), which its NICs send untagged, and stands in its trunk too", n.vlan.V, n.vlan.At).
				do("leave it out of one of them")
		}
		for _, o := range before {
			if o.From <= r.V.To && r.V.From <= o.To {
				b.add(r.At, "VLANs %s are in this trunk twice: %s holds some of them", rangeText(r.V), rangeText(o))
				break
			}
		}
		before = append(before, r.V)
	}
}

// checkTrunks refuses a trunk that no NIC can have: only ports of a bridge have
// one.
func (b *builder) checkTrunks() {
	takes := func(modes []vmnetd.Mode) bool {
		return slices.ContainsFunc(modes, func(m vmnetd.Mode) bool { return m == vmnetd.Auto || m.Info().Family == vmnetd.FamilyBridge })
	}
	for _, n := range b.cfg.Policy.Networks {
		modes := n.Grant.Modes
		if modes == nil {
			modes = b.cfg.Policy.Defaults.Modes
		}
		about := func(r policy.Rule) bool {
			return takes(r.Grant.Modes) && (len(r.Networks) == 0 || slices.Contains(r.Networks, n.Name))
		}
		if len(n.Trunk) > 0 && !takes(modes) && !slices.ContainsFunc(b.cfg.Policy.Rules, about) {
			b.add(b.trunks[n.Name], "a trunk is of ports of a bridge, and network %s has neither mode switched nor auto", n.Name).
				do("add switched to its modes, or leave trunk out")
		}
	}
}
