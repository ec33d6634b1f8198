package config

import (
	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/policy"
)

// rawGrant is the keys that defaults, networks and rules share.
type rawGrant struct {
	modes     got[[]got[vmnetd.Mode]]
	mtu       got[int]
	queues    got[policy.Queues]
	mac       rawMAC
	link      got[string]
	ips       got[[]got[ipItem]]
	maxIPs    got[int]
	filter    rawFilter
	bandwidth rawBandwidth
	port      rawBridgePort
	ipvlan    rawIPvlan
	macvlan   rawMacvlan
	extra     rawExtra
}

type rawMAC struct {
	allow  got[[]got[string]]
	change got[string]
}

var macKeys = object[rawMAC]{what: "mac", rows: []row[rawMAC]{
	key("allow", func(m *rawMAC) *got[[]got[string]] { return &m.allow }, codec[got[[]got[string]]](listOf[got[string]]{
		item: macGlob, what: "a list of MACs or globs", empty: true,
	})),
	key("change", func(m *rawMAC) *got[string] { return &m.change }, codec[got[string]](macChange)),
}}

// grantRows are the rows of the shared keys; grant finds them in a T.
func grantRows[T any](grant func(*T) *rawGrant) []row[T] {
	return []row[T]{
		key("modes", func(t *T) *got[[]got[vmnetd.Mode]] { return &grant(t).modes }, codec[got[[]got[vmnetd.Mode]]](modeList)),
		key("mtu", func(t *T) *got[int] { return &grant(t).mtu }, codec[got[int]](mtu)),
		key("queues", func(t *T) *got[policy.Queues] { return &grant(t).queues }, codec[got[policy.Queues]](queues)),
		key("mac", func(t *T) *rawMAC { return &grant(t).mac }, codec[rawMAC](macKeys)),
		key("link", func(t *T) *got[string] { return &grant(t).link }, codec[got[string]](linkMode)),
		key("ips", func(t *T) *got[[]got[ipItem]] { return &grant(t).ips }, codec[got[[]got[ipItem]]](ipItems)),
		key("max_ips", func(t *T) *got[int] { return &grant(t).maxIPs }, codec[got[int]](maxIPs)),
		key("filter", func(t *T) *rawFilter { return &grant(t).filter }, codec[rawFilter](filterKeys)),
		key("bandwidth", func(t *T) *rawBandwidth { return &grant(t).bandwidth }, codec[rawBandwidth](bandwidthKeys)),
		key("port", func(t *T) *rawBridgePort { return &grant(t).port }, codec[rawBridgePort](bridgePortKeys)),
		key("ipvlan", func(t *T) *rawIPvlan { return &grant(t).ipvlan }, codec[rawIPvlan](ipvlanKeys)),
		key("macvlan", func(t *T) *rawMacvlan { return &grant(t).macvlan }, codec[rawMacvlan](macvlanKeys)),
	}
}

// grant makes the policy's grant of it.
func (g *rawGrant) grant(p *problems) policy.Grant {
	g.check(p)
	var out policy.Grant
	g.put(&out)
	return out
}

// check reports what is wrong between the keys.
func (g *rawGrant) check(p *problems) {
	twice(p, g.modes.V)
	twice(p, g.mac.allow.V)
	twice(p, g.ips.V)
	twice(p, g.filter.ethertypes.V)
	twice(p, g.extra.macs.V)
	twice(p, g.extra.ips.V)
	g.autoAlone(p)
}

// autoAlone refuses auto beside other modes: it chooses by the uplink, a list by
// its order.
func (g *rawGrant) autoAlone(p *problems) {
	for _, m := range g.modes.V {
		if m.Given && m.V == vmnetd.Auto && len(g.modes.V) > 1 {
			p.add(m.At, "auto stands alone: it chooses by what is known of the uplink, and a list is tried in its order").
				do("write  modes: auto, or the modes without it")
		}
	}
}

// put lays what was written over a grant.
func (g *rawGrant) put(out *policy.Grant) {
	for _, l := range leaves {
		if l.given(g) {
			l.put(g, out)
		}
	}
}

// given lists the keys that were written, by name, with their places.
func (g *rawGrant) given() map[string]place {
	all := map[string]place{}
	for _, l := range leaves {
		if l.given(g) {
			all[l.name] = l.at(g)
		}
	}
	return all
}
