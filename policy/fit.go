package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// unfit is one reason why a mode cannot stand on an uplink now.
type unfit struct {
	why     string // about the uplink: "is a port of bridge br0"
	fix     string // what to do, "" when nothing short of another configuration
	request bool   // it is what the request says or lacks, whatever the host looks like
	kernel  bool   // this kernel cannot do it, whatever else changes on the host
}

// spot is where a NIC would stand in a mode.
type spot struct {
	name  string // of the uplink
	label string // of what the NIC stands on: the uplink, or a VLAN device over it
	up    Uplink // the uplink's own device
	on    Uplink // what the NIC would stand on
	vlan  bool   // that is a VLAN device
	mode  vmnetd.Mode
	info  vmnetd.ModeInfo
}

// spot is where a NIC of the network stands on an uplink in a mode: a VLAN is a
// device of its own, but on a bridge a property of its port.
func (c *choice) spot(name string, up Uplink, mode vmnetd.Mode) spot {
	s := spot{name: name, label: name, up: up, on: up, mode: mode, info: mode.Info()}
	if id := c.network.VLAN; id != 0 && !onBridge(s.info) {
		s.on, s.vlan = up.onVLAN(id), true
		s.label = vlanName(name, s.on, id)
	}
	return s
}

// unfits collects every reason, so that an operator does not meet the second
// only after removing the first. What is wrong with the request is one also where
// the host was not looked at.
func (c *choice) unfits(s spot) []unfit {
	if !c.f.Unknown && !s.up.Present {
		return nil
	}
	no := append(c.lacksIPs(s), c.foreign(s)...)
	if c.f.Unknown {
		return no
	}
	for _, reasons := range []func(spot) []unfit{
		c.lacking, c.wrongBridge, c.onPort, rewritesMACs, c.oneStation, c.neighbours, c.otherFlavour, c.fullPort, c.unreflected,
		c.tooSmall, c.otherMAC, c.macTaken, c.held, c.unguarded,
	} {
		no = append(no, reasons(s)...)
	}
	return no
}

// onPort: what the NIC stands on, or what is beneath that, is somebody's port, or
// is a guest's whole.
func (c *choice) onPort(s spot) []unfit {
	if !s.vlan {
		return c.portOf(s.name, s.up)
	}
	return slices.Concat(c.portOf(s.name, s.up), c.taken(s), c.portOf(s.label, s.on))
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
func rewritesMACs(s spot) []unfit {
	u := s.on
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
// family, such as VLANs, take no rx handler and are no conflict; nor is anything
// over a bridge to its ports.
func (c *choice) neighbours(s spot) []unfit {
	if onBridge(s.info) {
		return nil
	}
	name, u, info := s.label, s.on, s.info
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
			fix: release(family) + c.freeVLAN(s),
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

// freeVLAN says what else would help where a device carries the other family: a
// VLAN over it is a lower device of its own.
func (c *choice) freeVLAN(s spot) string {
	if c.network.VLAN != 0 {
		return ""
	}
	return fmt.Sprintf(", or give network %s a vlan: a VLAN of %s carries either", c.network.Name, s.name)
}

// tooSmall: an MTU above the lower device's is EINVAL (macvlan.c,
// macvlan_change_mtu).
func (c *choice) tooSmall(s spot) []unfit {
	if s.on.MTU == 0 || c.grant.mtu <= s.on.MTU {
		return nil
	}
	whose := "the uplink"
	if s.on.MTU != s.up.MTU {
		whose = s.label
	}
	return []unfit{{
		why: fmt.Sprintf("MTU %d (%s) is larger than %s's %d", c.grant.mtu, c.grant.mtuBy, whose, s.on.MTU),
		fix: fmt.Sprintf("raise the uplink's MTU to %d, or lower the one at %s", c.grant.mtu, c.grant.mtuBy.at),
	}}
}

// macTaken: the second macvlan with a MAC cannot go up, nor one with the lower
// device's own (macvlan.c, macvlan_addr_busy: EADDRINUSE, without saying who
// holds it). An exclusive mode gives its MAC to the lower device. A bridge would
// send one guest's frames to whichever of two spoke last.
func (c *choice) macTaken(s spot) []unfit {
	mac, name, u, info := c.mac, s.label, s.on, s.info
	if mac == "" || info.SharesMAC {
		return nil
	}
	if !info.Exclusive && strings.EqualFold(u.MAC, mac) {
		return []unfit{{why: fmt.Sprintf("MAC %s is that of %s itself", mac, device(name, u)), fix: "ask for another one with --mac"}}
	}
	for _, other := range slices.Concat(u.Users, u.Ports) {
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
	if net, is := strings.CutPrefix(u.Owner, HostLinkOwner); is {
		return fmt.Sprintf("this host's link to network %s (%s)", net, u.Ifname)
	}
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
	if net, is := strings.CutPrefix(users[0].Owner, HostLinkOwner); is {
		return fmt.Sprintf("vmnetd host-link %s --remove, or use another uplink", shellWord(net))
	}
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
