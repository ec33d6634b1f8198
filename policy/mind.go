package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// mind collects what works otherwise than an operator may expect. What a mode
// does comes from the table of modes alone.
func (c *choice) mind() []string {
	var mind []string
	for _, say := range []func() string{
		c.mindHost, c.mindCarrier, c.mindNeighbours, c.mindRouted, c.mindShared, c.mindMoved, c.mindPromiscuous, c.mindUnguarded,
		c.mindLink, c.mindChoice, c.mindUndeclared, c.mindHandover, c.mindFilter,
	} {
		if text := say(); text != "" {
			mind = append(mind, text)
		}
	}
	return mind
}

// mindHandover says what it costs before it is paid: libvirt knows nothing of a
// NIC that was put into its domain past it (qemuDomainObjTaint, custom-monitor).
func (c *choice) mindHandover() string {
	if c.req.Handover != "fd" {
		return ""
	}
	return "by fd " + vmnetd.PriceOfFD
}

// mindFilter says what mac: {change: allow} costs a domain of libvirt.
func (c *choice) mindFilter() string {
	if c.d.MACChange != ChangeAllow || !strings.HasPrefix(c.f.VM.Where, "libvirt") {
		return ""
	}
	return vmnetd.PriceOfFilter
}

// mindHost: a macvtap's frames go past the stack of the device below it
// (drivers/net/macvlan.c, macvlan_queue_xmit and macvlan_handle_frame), and an
// ipvtap's likewise (drivers/net/ipvlan/ipvlan_core.c).
func (c *choice) mindHost() string {
	info := c.d.Mode.Info()
	switch {
	case info.HostSees:
		return ""
	case c.f.HostLinks[c.network.Name] && c.opens():
		return fmt.Sprintf("this host and %s reach each other by this host's link to network %s alone", c.req.VM, c.network.Name)
	case c.d.VLAN != 0 && !c.f.Unknown && !slices.ContainsFunc(c.on.Hosts, known):
		return fmt.Sprintf("this host has no address in VLAN %d of %s: it and %s reach each other only through a router%s", c.d.VLAN, c.d.Uplink, c.req.VM, c.toOpen())
	case info.Exclusive:
		return fmt.Sprintf("%s takes %s away from this host%s: while %s has it, the host itself receives nothing there",
			c.d.Mode, c.place(), c.hostHas(), c.req.VM)
	case c.neighbour(info) == "reflected":
		return fmt.Sprintf("%s reaches this host%s and other guests on %s only if the switch sends frames back out of the port they came in by (hairpin, 802.1Qbg)",
			c.req.VM, c.hostHas(), c.place())
	}
	return fmt.Sprintf("this host%s and %s cannot reach each other: %s%s", c.hostOn(), c.req.VM, c.d.Kind, c.toOpen())
}

// opens says whether a link of this host's own reaches the guest: it is a
// neighbour as another guest is.
func (c *choice) opens() bool { return c.neighbour(c.d.Mode.Info()) == "direct" }

func (c *choice) toOpen() string {
	if !c.opens() {
		return ""
	}
	return "; to open it:  vmnetd host-link " + shellWord(c.network.Name)
}

// known: every device that is up has a link-local address, which nobody knows a
// host by.
func known(p netip.Prefix) bool { return !p.Addr().IsLinkLocalUnicast() }

// addresses lists the host's on the uplink, a link-local one only where there is
// no other.
func (c *choice) addresses() string {
	hosts := slices.DeleteFunc(slices.Clone(c.on.Hosts), func(p netip.Prefix) bool { return !known(p) })
	if len(hosts) == 0 {
		hosts = c.on.Hosts
	}
	var texts []string
	for _, p := range hosts {
		texts = append(texts, p.Addr().String())
	}
	return strings.Join(texts, ", ")
}

func (c *choice) hostOn() string {
	if a := c.addresses(); a != "" {
		return fmt.Sprintf(" (%s on %s)", a, c.place())
	}
	return ""
}

func (c *choice) hostHas() string {
	if a := c.addresses(); a != "" {
		return fmt.Sprintf(" (its %s)", a)
	}
	return ""
}

// mindCarrier: macvlan queues frames for a neighbour through the lower device,
// which drops everything without carrier (measured: 20 of 20 frames, then 0).
func (c *choice) mindCarrier() string {
	info := c.d.Mode.Info()
	local := c.neighbour(info) == "direct" && !info.HostSees
	switch {
	case !c.up.Carrier && info.HostSees:
		return fmt.Sprintf("%s has no carrier now: until it has, %s reaches only this host and guests on it", c.d.Uplink, c.req.VM)
	case !c.up.Carrier && local:
		return fmt.Sprintf("%s has no carrier now: until it has, %s reaches nobody, and guests on it lose each other as well", c.d.Uplink, c.req.VM)
	case !c.up.Carrier:
		return fmt.Sprintf("%s has no carrier now: until it has, %s reaches nobody", c.d.Uplink, c.req.VM)
	case local:
		return fmt.Sprintf("while %s has no carrier, guests on it lose each other as well", c.d.Uplink)
	}
	return ""
}

func (c *choice) mindNeighbours() string {
	switch c.neighbour(c.d.Mode.Info()) {
	case "never":
		return fmt.Sprintf("%s and other guests on %s do not reach each other (ipvlan: {flag: %s})", c.req.VM, c.place(), c.d.Flag)
	case "unicast":
	default:
		return ""
	}
	return fmt.Sprintf("%s and other guests on %s do not hear each other, except unicast frames that a switch sends back out of the port they came in by (hairpin)",
		c.req.VM, c.place())
}

func (c *choice) mindLink() string {
	if c.d.Link != LinkFollow {
		return ""
	}
	return fmt.Sprintf("%s's link goes down when %s has had no carrier for 3 s, and up with it", c.req.VM, c.d.Uplink)
}

func (c *choice) mindChoice() string {
	if !c.d.Second || c.req.Uplink != "" {
		return ""
	}
	first := c.firstChoice()
	i := slices.IndexFunc(c.trials, func(t trial) bool { return t.name == first })
	return fmt.Sprintf("%s is not on the network's first choice, %s: %s", c.req.VM, first, c.whyNotFirst(c.trials[i]))
}

func (c *choice) whyNotFirst(t trial) string {
	_, fits := t.fit()
	switch {
	case !t.up.Present:
		return t.absent("it is not on this host now")
	case !fits:
		return t.why()
	}
	return "it has no carrier"
}

func (c *choice) mindUndeclared() string {
	if !c.f.Unknown || slices.Contains(c.set.Uplinks, c.d.Uplink) {
		return ""
	}
	return fmt.Sprintf("no uplink of network %s is declared here: it is only on hosts that declare one of %s", c.network.Name, strings.Join(c.network.Uplinks, ", "))
}
