package policy

// putRest is put for the keys that stand in g.by.
func (g *grant) putRest(over Grant, from func(Pos) source) {
	if over.IPs.Given {
		g.ips, g.by["ips"] = over.IPs, from(over.IPsAt)
	}
	lay(g, "max_ips", &g.maxIPs, over.MaxIPs, from(over.MaxIPsAt))
	lay(g, "ipvlan.flag", &g.flag, over.Flag, from(over.FlagAt))
	lay(g, "macvlan.bcqueuelen", &g.bcQueue, over.BCQueue, from(over.BCQueueAt))
	g.putFilter(over.Filter, from)
	lay(g, "bandwidth.in", &g.bandwidth.In.Bits, over.Bandwidth.In.Bits, from(over.InAt))
	lay(g, "bandwidth.burst_in", &g.bandwidth.In.Burst, over.Bandwidth.In.Burst, from(over.InAt))
	lay(g, "bandwidth.out", &g.bandwidth.Out.Bits, over.Bandwidth.Out.Bits, from(over.OutAt))
	lay(g, "bandwidth.burst_out", &g.bandwidth.Out.Burst, over.Bandwidth.Out.Burst, from(over.OutAt))
	layGiven(g, "port.hairpin", &g.port.Hairpin, over.Port.Hairpin, from(over.Port.HairpinAt))
	layGiven(g, "port.isolated", &g.port.Isolated, over.Port.Isolated, from(over.Port.IsolatedAt))
	layGiven(g, "port.learning", &g.port.Learning, over.Port.Learning, from(over.Port.LearningAt))
	layGiven(g, "port.bpdu_guard", &g.port.BPDUGuard, over.Port.BPDUGuard, from(over.Port.BPDUGuardAt))
	if over.Extra.MACs != nil || over.Extra.IPs != nil {
		g.by["extra"] = from(over.ExtraAt)
	}
}

func (g *grant) putFilter(over Filter, from func(Pos) source) {
	layGiven(g, "filter.spoof", &g.filter.Spoof, over.Spoof, from(over.SpoofAt))
	layGiven(g, "filter.dhcp_server", &g.filter.DHCPServer, over.DHCPServer, from(over.DHCPServerAt))
	layGiven(g, "filter.ra", &g.filter.RA, over.RA, from(over.RAAt))
	if over.Ethertypes != nil {
		g.filter.Ethertypes, g.by["filter.ethertypes"] = over.Ethertypes, from(over.EthertypesAt)
	}
	lay(g, "filter.broadcast", &g.filter.Broadcast, over.Broadcast, from(over.BroadcastAt))
	lay(g, "filter.multicast", &g.filter.Multicast, over.Multicast, from(over.MulticastAt))
}

// lay puts the value of a key of a layer over what is there; a zero value is not
// given.
func lay[T comparable](g *grant, key string, into *T, over T, by source) {
	var none T
	if over != none {
		*into, g.by[key] = over, by
	}
}

// layGiven is lay for a key whose zero value means something.
func layGiven[T any](g *grant, key string, into, over *T, by source) {
	if over != nil {
		*into, g.by[key] = *over, by
	}
}
