package config

import (
	"net/netip"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/policy"
)

// leaf is one of the shared keys that has a value of its own: mappings merge leaf
// by leaf.
type leaf struct {
	name  string // as it is written: mac.allow
	given func(*rawGrant) bool
	at    func(*rawGrant) place
	put   func(*rawGrant, *policy.Grant)
}

// leafOf makes the leaf of a field.
func leafOf[V any](name string, field func(*rawGrant) *got[V], put func(g *policy.Grant, v V, at policy.Pos)) leaf {
	return leaf{
		name:  name,
		given: func(g *rawGrant) bool { return field(g).Given },
		at:    func(g *rawGrant) place { return field(g).Key },
		put:   func(g *rawGrant, out *policy.Grant) { put(out, field(g).V, field(g).Key.pos()) },
	}
}

// leaves are all of them.
var leaves = []leaf{
	leafOf("modes", func(g *rawGrant) *got[[]got[vmnetd.Mode]] { return &g.modes }, putModes),
	leafOf("mtu", func(g *rawGrant) *got[int] { return &g.mtu }, func(g *policy.Grant, v int, at policy.Pos) { g.MTU, g.MTUAt = v, at }),
	leafOf("queues", func(g *rawGrant) *got[policy.Queues] { return &g.queues }, func(g *policy.Grant, v policy.Queues, at policy.Pos) { g.Queues, g.QueuesAt = v, at }),
	leafOf("mac.allow", func(g *rawGrant) *got[[]got[string]] { return &g.mac.allow }, func(g *policy.Grant, v []got[string], at policy.Pos) { g.MACs, g.MACsAt = values(v), at }),
	leafOf("mac.change", func(g *rawGrant) *got[string] { return &g.mac.change }, func(g *policy.Grant, v string, at policy.Pos) { g.MACChange, g.MACChangeAt = v, at }),
	leafOf("link", func(g *rawGrant) *got[string] { return &g.link }, func(g *policy.Grant, v string, at policy.Pos) { g.Link, g.LinkAt = v, at }),
	leafOf("ips", func(g *rawGrant) *got[[]got[ipItem]] { return &g.ips }, putIPs),
	leafOf("max_ips", func(g *rawGrant) *got[int] { return &g.maxIPs }, func(g *policy.Grant, v int, at policy.Pos) { g.MaxIPs, g.MaxIPsAt = v, at }),
	leafOf("filter.spoof", func(g *rawGrant) *got[bool] { return &g.filter.spoof }, func(g *policy.Grant, v bool, at policy.Pos) { g.Filter.Spoof, g.Filter.SpoofAt = &v, at }),
	leafOf("filter.dhcp_server", func(g *rawGrant) *got[bool] { return &g.filter.dhcpServer }, func(g *policy.Grant, v bool, at policy.Pos) { g.Filter.DHCPServer, g.Filter.DHCPServerAt = &v, at }),
	leafOf("filter.ra", func(g *rawGrant) *got[bool] { return &g.filter.ra }, func(g *policy.Grant, v bool, at policy.Pos) { g.Filter.RA, g.Filter.RAAt = &v, at }),
	leafOf("filter.ethertypes", func(g *rawGrant) *got[[]got[uint16]] { return &g.filter.ethertypes }, putEthertypes),
	leafOf("filter.broadcast", func(g *rawGrant) *got[int] { return &g.filter.broadcast }, func(g *policy.Grant, v int, at policy.Pos) { g.Filter.Broadcast, g.Filter.BroadcastAt = v, at }),
	leafOf("filter.multicast", func(g *rawGrant) *got[int] { return &g.filter.multicast }, func(g *policy.Grant, v int, at policy.Pos) { g.Filter.Multicast, g.Filter.MulticastAt = v, at }),
	leafOf("bandwidth.in", func(g *rawGrant) *got[uint64] { return &g.bandwidth.in }, func(g *policy.Grant, v uint64, at policy.Pos) { g.Bandwidth.In.Bits, g.InAt = v, at }),
	leafOf("bandwidth.burst_in", func(g *rawGrant) *got[uint32] { return &g.bandwidth.burstIn }, putBurstIn),
	leafOf("bandwidth.out", func(g *rawGrant) *got[uint64] { return &g.bandwidth.out }, func(g *policy.Grant, v uint64, at policy.Pos) { g.Bandwidth.Out.Bits, g.OutAt = v, at }),
	leafOf("bandwidth.burst_out", func(g *rawGrant) *got[uint32] { return &g.bandwidth.burstOut }, putBurstOut),
	leafOf("port.hairpin", func(g *rawGrant) *got[bool] { return &g.port.hairpin }, func(g *policy.Grant, v bool, at policy.Pos) { g.Port.Hairpin, g.Port.HairpinAt = &v, at }),
	leafOf("port.isolated", func(g *rawGrant) *got[bool] { return &g.port.isolated }, func(g *policy.Grant, v bool, at policy.Pos) { g.Port.Isolated, g.Port.IsolatedAt = &v, at }),
	leafOf("port.learning", func(g *rawGrant) *got[bool] { return &g.port.learning }, func(g *policy.Grant, v bool, at policy.Pos) { g.Port.Learning, g.Port.LearningAt = &v, at }),
	leafOf("port.bpdu_guard", func(g *rawGrant) *got[bool] { return &g.port.bpduGuard }, func(g *policy.Grant, v bool, at policy.Pos) { g.Port.BPDUGuard, g.Port.BPDUGuardAt = &v, at }),
	leafOf("macvlan.bcqueuelen", func(g *rawGrant) *got[int] { return &g.macvlan.bcqueuelen }, func(g *policy.Grant, v int, at policy.Pos) { g.BCQueue, g.BCQueueAt = v, at }),
	leafOf("ipvlan.flag", func(g *rawGrant) *got[string] { return &g.ipvlan.flag }, func(g *policy.Grant, v string, at policy.Pos) { g.Flag, g.FlagAt = v, at }),
	leafOf("extra.macs", func(g *rawGrant) *got[[]got[string]] { return &g.extra.macs }, func(g *policy.Grant, v []got[string], at policy.Pos) { g.Extra.MACs, g.ExtraAt = values(v), at }),
	leafOf("extra.ips", func(g *rawGrant) *got[[]got[netip.Prefix]] { return &g.extra.ips }, func(g *policy.Grant, v []got[netip.Prefix], at policy.Pos) { g.Extra.IPs, g.ExtraAt = values(v), at }),
}

// putModes leaves alone a list in which everything was wrong, and reported.
func putModes(g *policy.Grant, v []got[vmnetd.Mode], at policy.Pos) {
	if modes := values(v); len(modes) > 0 {
		g.Modes, g.ModesAt = modes, at
	}
}
