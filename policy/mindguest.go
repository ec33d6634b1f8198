package policy

import "fmt"

// mindRouted: what such a guest sends is routed as if this host sent it
// (drivers/net/ipvlan/ipvlan_core.c, ipvlan_process_v4_outbound).
func (c *choice) mindRouted() string {
	if !c.d.Mode.Info().Routed {
		return ""
	}
	return fmt.Sprintf("what %s sends goes by this host's routing table and output chain, and the router must reach %s by way of this host",
		c.req.VM, joinPrefixes(c.d.IPs))
}

// mindShared: DHCP servers tell clients apart by the client-id, else by the MAC
// (RFC 2131 4.2); EUI-64 makes one address of one MAC (RFC 4291 appendix A). The
// kernel gives ipvlans different ones (net/ipv6/addrconf.c, dev_id), guests not.
func (c *choice) mindShared() string {
	switch {
	case !c.d.Mode.Info().SharesMAC:
		return ""
	case c.f.Netns != nil:
		return fmt.Sprintf("%s has the MAC of all guests on %s: its DHCP client must send a client-id of its own", c.req.VM, c.place())
	}
	return fmt.Sprintf("%s has the MAC of all guests on %s: its DHCP client must send a client-id of its own, and IPv6 addresses made of the MAC (EUI-64) collide: have it use stable-privacy",
		c.req.VM, c.place())
}

// mindMoved: a device that is not where everybody looks for it.
func (c *choice) mindMoved() string {
	if !c.d.Mode.Info().Moves || c.f.Netns != nil {
		return ""
	}
	return fmt.Sprintf("the %s lives in vmnetd's own network namespace, where ip link does not show it:  vmnetd show %s", c.d.Kind, shellWord(c.nic()))
}

func (c *choice) mindPromiscuous() string {
	info := c.d.Mode.Info()
	if c.f.Unknown || c.up.PromiscAt == 0 || !addsMAC(info) || onBridge(info) {
		return ""
	}
	return fmt.Sprintf("%s; ipvtap (mode l2) adds no MAC", promiscuous(spot{name: c.d.Uplink, up: c.up}))
}

// mindUnguarded: a trusted namespace is given what cannot be filtered.
func (c *choice) mindUnguarded() string {
	if c.hears(c.d.Mode.Info()) || !c.grant.filter.On() && c.grant.bandwidth == (Bandwidth{}) {
		return ""
	}
	return fmt.Sprintf("neither filter nor bandwidth is kept: only %s's own root sees the %s, and it is trusted", c.f.Netns.Path, c.d.Kind)
}
