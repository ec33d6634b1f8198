package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/bonding"
	"github.com/vmnetd/vmnetd/policy"
)

type rawNetwork struct {
	spot
	name    got[string]
	uplinks got[[]got[string]]
	vlan    got[int]
	trunk   got[[]got[vmnetd.VLANRange]]
	rawGrant
}

var networkKeys = object[rawNetwork]{what: "a network", rows: slices.Concat([]row[rawNetwork]{
	key("name", func(n *rawNetwork) *got[string] { return &n.name }, codec[got[string]](networkName)),
	key("uplinks", func(n *rawNetwork) *got[[]got[string]] { return &n.uplinks }, codec[got[[]got[string]]](listOf[got[string]]{
		item: reference, what: "a list of uplinks",
	})),
	key("vlan", func(n *rawNetwork) *got[int] { return &n.vlan }, codec[got[int]](vlanID)),
	key("trunk", func(n *rawNetwork) *got[[]got[vmnetd.VLANRange]] { return &n.trunk }, codec[got[[]got[vmnetd.VLANRange]]](trunk)),
}, grantRows(func(n *rawNetwork) *rawGrant { return &n.rawGrant }), noExtra[rawNetwork]("a network"))}

func (b *builder) addNetworks(docs []*document) {
	for _, d := range docs {
		for i := range d.networks.V {
			b.network(&d.networks.V[i])
		}
	}
}

func (b *builder) network(n *rawNetwork) {
	if n.unusable {
		return
	}
	if !n.name.Given {
		b.missing(n.name.At, n.spot, "this network has no name", "add  name: NAME")
		b.networks.reserve(n.name.Written, n.at)
	}
	if !n.uplinks.Given {
		b.missing(n.uplinks.At, n.spot, "this network has no uplinks", "add  uplinks: [NAME]")
	}
	twice(b.problems, n.uplinks.V)
	grant := n.grant(b.problems)
	b.trunk(n)
	if n.name.Given && b.networks.add(b.problems, "network", n.name.V, n.name.At) {
		b.networkUplinks(n)
		b.networkStack(n)
		made := policy.Network{Name: n.name.V, Uplinks: values(n.uplinks.V), VLAN: n.vlan.V, Grant: grant, At: n.at.pos()}
		if n.trunk.Given {
			made.Trunk, made.TrunkAt = values(n.trunk.V), n.trunk.Key.pos()
			b.trunks[made.Name] = n.trunk.Key
		}
		b.cfg.Policy.Networks = append(b.cfg.Policy.Networks, made)
		b.oneForAll("network "+n.name.V, &n.rawGrant)
		b.withheld = append(b.withheld, passthruIn(n)...)
	}
}

// networkUplinks follows a network's references. Networks may be shared by
// hosts that differ, so one uplink that this host declares is enough; the rest
// is worth a warning.
func (b *builder) networkUplinks(n *rawNetwork) {
	var absent []got[string]
	for _, u := range n.uplinks.V {
		if u.Given && !b.uplinks.has(u.V) {
			absent = append(absent, u)
		}
	}
	if len(absent) < len(n.uplinks.V) {
		for _, u := range absent {
			b.warn(u.At, "network %s: uplink %s is not declared on this host%s", n.name.V, u.V, didYouMean(u.V, b.uplinks.names()))
		}
		return
	}
	for _, u := range absent {
		b.unknown(u.At, "uplink", u.V, b.uplinks)
	}
}

// networkStack refuses uplinks that are ports, whose frames are their master's,
// and warns of bonds that no guest can stand on.
func (b *builder) networkStack(n *rawNetwork) {
	for _, u := range n.uplinks.V {
		if !u.Given {
			continue
		}
		if m, isPort := b.stack.masters[u.V]; isPort {
			b.add(u.At, "uplink %s is a port of %s (%s): what it receives goes to its master, not to guests on it", u.V, m.master.name, m.ref.at).
				do("make %s the network's uplink", b.top(m.master).name)
		}
		b.walk(b.stack.byName[u.V], func(s *standing) {
			if s.bondMode != bonding.BalanceTLB && s.bondMode != bonding.BalanceALB {
				return
			}
			b.warn(u.At, "network %s: bond %s (%s) is in mode %s, which rewrites the source MACs of guests: none can be attached by %s",
				n.name.V, s.name, s.at.pos(), s.bondMode, u.V)
		})
	}
}

// withheldMode is a mode listed where it does not count.
type withheldMode struct {
	at      place
	network string
}

func passthruIn(n *rawNetwork) []withheldMode {
	for _, m := range n.modes.V {
		if m.Given && m.V == vmnetd.Passthru {
			return []withheldMode{{at: m.At, network: n.name.V}}
		}
	}
	return nil
}

// warnWithheld warns of a network that lists passthru while no rule for it
// does: passthru gives a VM the whole uplink, so only a rule can allow it.
func (b *builder) warnWithheld() {
	for _, w := range b.withheld {
		allows := func(r policy.Rule) bool {
			return slices.Contains(r.Grant.Modes, vmnetd.Passthru) && (len(r.Networks) == 0 || slices.Contains(r.Networks, w.network))
		}
		if !slices.ContainsFunc(b.cfg.Policy.Rules, allows) {
			b.warn(w.at, "network %s lists passthru, but no rule for it does: passthru counts only in a rule's modes", w.network)
		}
	}
	d := b.cfg.Policy.Defaults
	if slices.Contains(d.Modes, vmnetd.Passthru) {
		b.warnings = append(b.warnings, fmt.Sprintf("%s:%d: defaults lists passthru, which has no effect: passthru counts only in a rule's modes", d.ModesAt.File, d.ModesAt.Line))
	}
}

func join(names []string) string { return strings.Join(names, ", ") }
