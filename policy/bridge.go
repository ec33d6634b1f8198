package policy

import (
	"fmt"

	"github.com/vmnetd/vmnetd"
)

// kindBridge is a bridge's kind of link (IFLA_INFO_KIND).
const kindBridge = "bridge"

// onBridge says whether NICs of a mode are ports of the uplink, not devices over
// it: then the VLAN is the port's, and the rx handler stays free.
func onBridge(info vmnetd.ModeInfo) bool { return info.Family == vmnetd.FamilyBridge }

// wrongBridge: a port needs a bridge, VLANs one that tells them apart, and only a
// port has a trunk.
func (c *choice) wrongBridge(s spot) []unfit {
	n := c.network
	switch {
	case !onBridge(s.info) && len(n.Trunk) > 0:
		return []unfit{{
			why: fmt.Sprintf("network %s has a trunk (%s), and only a port of a bridge has one", n.Name, n.TrunkAt),
			fix: "use mode switched",
		}}
	case !onBridge(s.info):
		return nil
	case s.up.Kind != kindBridge:
		return []unfit{{
			why: fmt.Sprintf("%s is no bridge, and a guest in mode %s is a port of one", device(s.name, s.up), s.mode),
			fix: "give the network a bridge as its uplink, or another mode",
		}}
	case (n.VLAN != 0 || len(n.Trunk) > 0) && !s.up.Filtering:
		return []unfit{{
			why: fmt.Sprintf("%s does not tell VLANs apart, and network %s has VLANs", device(s.name, s.up), n.Name),
			fix: fmt.Sprintf("set vlan_filtering: true in the bridge %s, or for a bridge of others  ip link set %s type bridge vlan_filtering 1", s.name, s.up.Ifname),
		}}
	}
	return nil
}
