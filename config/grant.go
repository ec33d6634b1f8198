package config

import (
	"slices"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/policy"
)

// rawGrant is the keys that defaults, networks and rules share.
type rawGrant struct {
	modes  got[[]got[vmnetd.Mode]]
	mtu    got[int]
	queues got[policy.Queues]
	mac    rawMAC
	link   got[string]
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
	return slices.Concat([]row[T]{
		key("modes", func(t *T) *got[[]got[vmnetd.Mode]] { return &grant(t).modes }, codec[got[[]got[vmnetd.Mode]]](listOf[got[vmnetd.Mode]]{
			item: mode, what: "a list of modes",
		})),
		key("mtu", func(t *T) *got[int] { return &grant(t).mtu }, codec[got[int]](mtu)),
		key("queues", func(t *T) *got[policy.Queues] { return &grant(t).queues }, codec[got[policy.Queues]](queues)),
		key("mac", func(t *T) *rawMAC { return &grant(t).mac }, codec[rawMAC](macKeys)),
		key("link", func(t *T) *got[string] { return &grant(t).link }, codec[got[string]](linkMode)),
	}, later[T]("filter", "bandwidth", "ips", "max_ips", "extra"))
}

// grant makes the policy's grant of it.
func (g *rawGrant) grant(p *problems) policy.Grant {
	twice(p, g.modes.V)
	twice(p, g.mac.allow.V)
	var out policy.Grant
	if modes := values(g.modes.V); len(modes) > 0 {
		out.Modes, out.ModesAt = modes, g.modes.Key.pos()
	}
	if g.mtu.Given {
		out.MTU, out.MTUAt = g.mtu.V, g.mtu.Key.pos()
	}
	if g.queues.Given {
		out.Queues, out.QueuesAt = g.queues.V, g.queues.Key.pos()
	}
	if g.mac.allow.Given {
		out.MACs, out.MACsAt = values(g.mac.allow.V), g.mac.allow.Key.pos()
	}
	if g.link.Given {
		out.Link, out.LinkAt = g.link.V, g.link.Key.pos()
	}
	if g.mac.change.Given {
		out.MACChange, out.MACChangeAt = g.mac.change.V, g.mac.change.Key.pos()
	}
	return out
}

// given lists the keys that were written, by name, with their places.
func (g *rawGrant) given() map[string]place {
	all := map[string]place{}
	note := func(name string, given bool, at place) {
		if given {
			all[name] = at
		}
	}
	note("modes", g.modes.Given, g.modes.Key)
	note("mtu", g.mtu.Given, g.mtu.Key)
	note("queues", g.queues.Given, g.queues.Key)
	note("mac.allow", g.mac.allow.Given, g.mac.allow.Key)
	note("mac.change", g.mac.change.Given, g.mac.change.Key)
	note("link", g.link.Given, g.link.Key)
	return all
}
