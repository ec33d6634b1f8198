package policy

import (
	"fmt"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// unfit is one reason why a mode cannot stand on an uplink now.
type unfit struct {
	why string // about the uplink: "is a port of bridge br0"
	fix string // what to do, "" when nothing short of another configuration
}

// unfits collects every reason, so that an operator does not meet the second
// only after removing the first.
func (c *choice) unfits(t trial, mode vmnetd.Mode) []unfit {
	if c.f.Unknown || !t.up.Present {
		return nil
	}
	name, u, info := t.name, t.on, mode.Info()
	var no []unfit
	if c.network.VLAN != 0 {
		name = vlanName(t, c.network.VLAN)
		no = append(no, c.portOf(t.name, t.up)...)
		no = append(no, c.taken(t)...)
	}
	no = append(no, c.portOf(name, u)...)
	no = append(no, rewritesMACs(u)...)
	no = append(no, c.neighbours(name, u, info)...)
	no = append(no, c.tooSmall(name, t)...)
	return append(no, c.macTaken(name, u, info)...)
}

// portOf: a port's rx handler belongs to its master (net/core/dev.c,
// netdev_rx_handler_register: one per device, then EBUSY).
func (c *choice) portOf(name string, u Uplink) []unfit {
	if u.Master == "" {
		return nil
	}
	by := u.MasterBy
	if by == "" {
		by = "device"
	}
	return []unfit{{
		why: fmt.Sprintf("%s is a port of %s %s, which takes all it receives", device(name, u), by, u.Master),
		fix: fmt.Sprintf("make %s the network's uplink instead of %s", u.Master, name),
	}}
}

// rewritesMACs: these bond modes put the bond's own MAC into what guests send
// (drivers/net/bonding/bond_alb.c).
func rewritesMACs(u Uplink) []unfit {
	if u.BondMode != "balance-tlb" && u.BondMode != "balance-alb" {
		return nil
	}
	return []unfit{{
		why: fmt.Sprintf("bond mode %s rewrites the source MACs of guests", u.BondMode),
		fix: "give the bond another mode: active-backup, 802.3ad or balance-xor",
	}}
}

// neighbours: one lower device takes one family (its rx handler), and macvlan
// refuses to put anything beside a passthru, or a passthru beside anything
// (drivers/net/macvlan.c, macvlan_common_newlink: EINVAL). Devices without a
// family, such as VLANs, take no rx handler and are no conflict.
func (c *choice) neighbours(name string, u Uplink, info vmnetd.ModeInfo) []unfit {
	var family, alone, beside []User
	for _, other := range u.Users {
		switch {
		case other.Family == "" || c.own(other):
		case other.Family != info.Family:
			family = append(family, other)
		case other.Mode.Info().Exclusive:
			alone = append(alone, other)
		case info.Exclusive:
			beside = append(beside, other)
		}
	}
	if info.Exclusive {
		beside = append(beside, c.onVLANs(u)...)
	}
	var no []unfit
	if len(family) > 0 {
		no = append(no, unfit{
			why: fmt.Sprintf("%s carries %s, and one device carries %s or %s, not both", device(name, u), holders(family), family[0].Family, info.Family),
			fix: release(family),
		})
	}
	if len(alone) > 0 {
		no = append(no, unfit{
			why: fmt.Sprintf("%s belongs to %s alone (%s)", device(name, u), holders(alone), alone[0].Mode),
			fix: release(alone),
		})
	}
	if len(beside) > 0 {
		no = append(no, unfit{
			why: fmt.Sprintf("%s has %s on it, and %s takes a device whole", device(name, u), holders(beside), info.Mode),
			fix: release(beside),
		})
	}
	return no
}

// tooSmall: an MTU above the lower device's is EINVAL (macvlan.c,
// macvlan_change_mtu).
func (c *choice) tooSmall(name string, t trial) []unfit {
	if t.on.MTU == 0 || c.grant.mtu <= t.on.MTU {
		return nil
	}
	whose := "the uplink"
	if t.on.MTU != t.up.MTU {
		whose = name
	}
	return []unfit{{
		why: fmt.Sprintf("MTU %d (%s) is larger than %s's %d", c.grant.mtu, c.grant.mtuBy, whose, t.on.MTU),
		fix: fmt.Sprintf("raise the uplink's MTU to %d, or lower the one at %s", c.grant.mtu, c.grant.mtuBy.at),
	}}
}

// macTaken: the second macvlan with a MAC cannot go up, nor one with the lower
// device's own (macvlan.c, macvlan_addr_busy: EADDRINUSE, without saying who
// holds it). An exclusive mode gives its MAC to the lower device.
func (c *choice) macTaken(name string, u Uplink, info vmnetd.ModeInfo) []unfit {
	mac := c.d.MAC
	if mac == "" {
		return nil
	}
	if !info.Exclusive && strings.EqualFold(u.MAC, mac) {
		return []unfit{{why: fmt.Sprintf("MAC %s is that of %s itself", mac, device(name, u)), fix: "ask for another one with --mac"}}
	}
	for _, other := range u.Users {
		if other.Family == "" || c.own(other) || !strings.EqualFold(other.MAC, mac) {
			continue
		}
		return []unfit{{why: fmt.Sprintf("MAC %s is in use by %s", mac, holders([]User{other})), fix: "ask for another one with --mac"}}
	}
	return nil
}

// own says whether a device is that of the NIC asked for.
func (c *choice) own(u User) bool { return c.f.Own != "" && u.Ifname == c.f.Own }

// device names the uplink's device, and the uplink where it has another name.
func device(name string, u Uplink) string {
	if u.Ifname == "" || u.Ifname == name {
		return name
	}
	return fmt.Sprintf("%s (%s)", name, u.Ifname)
}

const holdersNamed = 3 // what a reader takes in; the count says the rest

func holders(users []User) string {
	var names []string
	for _, u := range users[:min(len(users), holdersNamed)] {
		names = append(names, u.holder())
	}
	if more := len(users) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	if last := len(names) - 1; last > 0 {
		return strings.Join(names[:last], ", ") + " and " + names[last]
	}
	return names[0]
}

func (u User) holder() string {
	if u.Owner != "" {
		return fmt.Sprintf("%s (%s)", u.Owner, u.Ifname)
	}
	if u.Kind == "" {
		return u.Ifname + " (not of vmnetd)"
	}
	return fmt.Sprintf("%s (%s, not of vmnetd)", u.Ifname, u.Kind)
}

// release says how the first holder is got rid of.
func release(users []User) string {
	vm, id, ok := vmnetd.SplitFullName(users[0].Owner)
	if !ok {
		return fmt.Sprintf("remove %s, or use another uplink", users[0].Ifname)
	}
	return fmt.Sprintf("vmnetd detach %s --id %s, or use another uplink", shellWord(vm), shellWord(id))
}

func joinWhy(no []unfit) string {
	var parts []string
	for _, n := range no {
		parts = append(parts, n.why)
	}
	return strings.Join(parts, ", and ")
}
