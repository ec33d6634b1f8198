package config

import (
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd/bonding"
)

type rawBond struct {
	spot
	mode    got[string]
	options map[string]string
	ports   got[[]rawBondPort]
}

type rawBondPort struct {
	port
	options map[string]string
}

// bondKeys are the kernel's options by the kernel's names, straight under bond.
var bondKeys = object[rawBond]{what: "bond", rows: slices.Concat([]row[rawBond]{
	key("mode", func(r *rawBond) *got[string] { return &r.mode }, codec[got[string]](bondValue)),
	key("ports", func(r *rawBond) *got[[]rawBondPort] { return &r.ports }, codec[got[[]rawBondPort]](listOf[rawBondPort]{
		item: bondPortKeys, what: "a list of ports",
	})),
}, bondOptions())}

// notOptions are options of the kernel's that are none of a configuration.
var notOptions = []row[rawBond]{
	{name: "active_slave", never: "active_slave changes with every failover: primary says which port is preferred, and  vmnetd uplink drain  keeps one off"},
	{name: "num_unsol_na", never: "num_unsol_na is the kernel's other name for num_grat_arp: write that"},
}

func bondOptions() []row[rawBond] {
	rows := slices.Clone(notOptions)
	for _, o := range bonding.Options() {
		isNone := func(r row[rawBond]) bool { return r.name == o.Name }
		if o.Name != "mode" && !slices.ContainsFunc(notOptions, isNone) {
			rows = append(rows, optionRow(o.Name, takesSeveral(o.Name), func(r *rawBond) *map[string]string { return &r.options }))
		}
	}
	return rows
}

// takesSeveral says which options are lists, that the kernel takes as text with
// commas (Documentation/networking/bonding.rst).
func takesSeveral(option string) bool { return option == "arp_ip_target" || option == "ns_ip6_target" }

var bondPortKeys = named[rawBondPort]{
	object: object[rawBondPort]{what: "a port of a bond", rows: slices.Concat([]row[rawBondPort]{
		key("name", func(p *rawBondPort) *got[string] { return &p.name }, codec[got[string]](portName)),
	}, bondPortOptions())},
	alone: portName,
	name:  func(p *rawBondPort) *got[string] { return &p.name },
}

func bondPortOptions() []row[rawBondPort] {
	var rows []row[rawBondPort]
	for _, o := range bonding.PortOptions() {
		rows = append(rows, optionRow(o.Name, false, func(p *rawBondPort) *map[string]string { return &p.options }))
	}
	return rows
}

// optionRow is the key of an option whose value is handed on as text.
func optionRow[T any](name string, several bool, options func(*T) *map[string]string) row[T] {
	return row[T]{
		name: name,
		read: func(p *problems, n *node, into *T) {
			value, ok := optionText(p, n, several)
			if !ok {
				return
			}
			all := options(into)
			if *all == nil {
				*all = map[string]string{}
			}
			(*all)[name] = value
		},
		under: bondValue.paths,
	}
}

func optionText(p *problems, n *node, several bool) (string, bool) {
	if !several {
		var v got[string]
		bondValue.decode(p, n, &v)
		return v.V, v.Given
	}
	var v got[[]got[string]]
	listOf[got[string]]{item: bondValue, what: "one address or a list of them", orOne: true}.decode(p, n, &v)
	texts := values(v.V)
	return strings.Join(texts, ","), len(texts) > 0 && len(texts) == len(v.V)
}

func (b *builder) bond(r *rawBond, on *standing) *bonding.Config {
	before := len(b.list)
	if !r.unusable && !r.mode.Given {
		b.missing(r.mode.At, r.spot, "this bond has no mode", "add  mode: "+strings.Join(bonding.Modes(), ", "))
	}
	c := &bonding.Config{Mode: r.mode.V, Options: r.options}
	for i := range r.ports.V {
		p := &r.ports.V[i]
		b.port(&p.port, on)
		c.Ports = append(c.Ports, bonding.Port{Name: p.name.V, Options: p.options})
	}
	on.bondMode = c.Mode
	if !r.mistakes && len(b.list) == before {
		addFound(b, r.spot, c.Check())
		b.warnUnwatched(r, on.name)
	}
	return c
}

// warnUnwatched warns of a bond that the kernel makes without complaint, and
// that sends into a dead link for ever. In the modes without ARP monitoring the
// kernel sets miimon itself (drivers/net/bonding/bond_options.c,
// bond_option_mode_set).
func (b *builder) warnUnwatched(r *rawBond, name string) {
	watched := func(option string) bool { return r.options[option] != "" && r.options[option] != "0" }
	if slices.Contains([]string{bonding.LACP, bonding.BalanceTLB, bonding.BalanceALB}, r.mode.V) || watched("miimon") || watched("arp_interval") {
		return
	}
	b.warn(r.at, "bond %s watches no links, so it never notices that one has failed: add  miimon: 100", name)
}

// found is a mistake that bonding or teaming has found in a mapping.
type found = struct {
	Key  string // where, from the mapping on: "ports[1].prio"
	Text string
	Next string
}

// addFound reports what was found at the place of its key.
func addFound[P ~found](b *builder, in spot, all []P) {
	for _, p := range all {
		f := found(p)
		b.add(in.node.find(f.Key), "%s", f.Text).next = f.Next
	}
}
