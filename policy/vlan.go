package policy

import (
	"fmt"
	"maps"
	"slices"
)

// onVLAN is what a NIC of a network stands on: the uplink, or a VLAN device
// over it, which is a lower device of its own. Its carrier is the uplink's, and
// what a bond does to frames it does to tagged ones as well. A device that is
// not there yet is made with the uplink's MAC and MTU (net/8021q/vlan_netlink.c,
// vlan_newlink; vlan_dev.c, vlan_dev_init).
func (u Uplink) onVLAN(id int) Uplink {
	v, there := u.VLANs[id]
	if !there {
		v = Uplink{MTU: u.MTU, MAC: u.MAC}
	}
	v.Present, v.Carrier, v.Up, v.Path, v.BondMode = u.Present, u.Carrier, u.Up, u.Path, u.BondMode
	v.VLANs = nil
	return v
}

// vlanName names the VLAN device of a network, also one that is not there yet.
func vlanName(uplink string, on Uplink, id int) string {
	if on.Ifname != "" {
		return on.Ifname
	}
	return fmt.Sprintf("VLAN %d of %s", id, uplink)
}

// place names what the NIC stands on.
func (c *choice) place() string {
	if c.d.VLAN == 0 || onBridge(c.d.Mode.Info()) {
		return c.d.Uplink
	}
	return fmt.Sprintf("VLAN %d of %s", c.d.VLAN, c.d.Uplink)
}

// taken: the kernel would make a VLAN device over an uplink that a guest has to
// itself, and take the VLAN's frames away from that guest (net/core/dev.c,
// __netif_receive_skb_core: vlan_do_receive comes before the rx handler).
func (c *choice) taken(s spot) []unfit {
	var alone []User
	for _, other := range s.up.Users {
		if other.Family != "" && !c.own(other) && other.Mode.Info().Exclusive {
			alone = append(alone, other)
		}
	}
	if len(alone) == 0 {
		return nil
	}
	return []unfit{{
		why: fmt.Sprintf("%s belongs to %s alone (%s)", device(s.name, s.up), holders(alone), alone[0].Mode),
		fix: release(alone),
	}}
}

// onVLANs is who stands on the VLANs of an uplink: whoever takes the uplink
// whole would get, or lose, their frames.
func (c *choice) onVLANs(u Uplink) []User {
	var all []User
	for _, id := range slices.Sorted(maps.Keys(u.VLANs)) {
		for _, other := range u.VLANs[id].Users {
			if other.Family != "" && !c.own(other) {
				all = append(all, other)
			}
		}
	}
	return all
}
