package config

import (
	"maps"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd/policy"
)

type rawRule struct {
	spot
	vm       got[[]got[string]]
	uuid     got[[]got[string]]
	nic      got[[]got[string]]
	label    got[map[string]got[string]]
	networks got[[]got[string]]
	deny     got[string]
	rawGrant
}

var ruleKeys = object[rawRule]{what: "a rule", rows: slices.Concat([]row[rawRule]{
	key("vm", func(r *rawRule) *got[[]got[string]] { return &r.vm }, codec[got[[]got[string]]](oneOrMore(vmGlob, "a VM's name, a glob, or a list of them"))),
	key("uuid", func(r *rawRule) *got[[]got[string]] { return &r.uuid }, codec[got[[]got[string]]](oneOrMore(uuid, "a UUID or a list of them"))),
	key("nic", func(r *rawRule) *got[[]got[string]] { return &r.nic }, codec[got[[]got[string]]](oneOrMore(nicGlob, "a NIC's id, a glob, or a list of them"))),
	key("label", func(r *rawRule) *got[map[string]got[string]] { return &r.label }, codec[got[map[string]got[string]]](textMap{what: "a mapping of labels"})),
	key("networks", func(r *rawRule) *got[[]got[string]] { return &r.networks }, codec[got[[]got[string]]](listOf[got[string]]{
		item: reference, what: "a list of networks",
	})),
	key("deny", func(r *rawRule) *got[string] { return &r.deny }, codec[got[string]](denyReason)),
}, grantRows(func(r *rawRule) *rawGrant { return &r.rawGrant }), []row[rawRule]{
	key("extra", func(r *rawRule) *rawExtra { return &r.extra }, codec[rawExtra](extraKeys)),
}, later[rawRule]("owner", "vlan"), []row[rawRule]{
	{name: "uplinks", never: "a rule has no uplinks: they are the network's"},
	{name: "trunk", never: "a rule has no trunk: it is the network's"},
})}

func oneOrMore(item codec[got[string]], what string) listOf[got[string]] {
	return listOf[got[string]]{item: item, what: what, orOne: true}
}

// addRules adds the drop-ins' rules in the order of their names, then the main
// file's: the first match wins, so a drop-in can make exceptions.
func (b *builder) addRules(docs []*document) {
	main := slices.IndexFunc(docs, func(d *document) bool { return d.file.order == 0 })
	if main >= 0 {
		docs = append(slices.Delete(slices.Clone(docs), main, main+1), docs[main])
	}
	for _, d := range docs {
		for i := range d.rules.V {
			b.rule(&d.rules.V[i])
		}
	}
}

func (b *builder) rule(r *rawRule) {
	if r.unusable {
		return
	}
	before := len(b.list)
	for _, l := range [][]got[string]{r.vm.V, r.uuid.V, r.nic.V, r.networks.V} {
		twice(b.problems, l)
	}
	for _, n := range r.networks.V {
		if n.Given && !b.networks.has(n.V) {
			b.unknown(n.At, "network", n.V, b.networks)
		}
	}
	if r.deny.Given {
		b.denies(r)
	}
	rule := policy.Rule{
		VM: values(r.vm.V), UUID: values(r.uuid.V), NIC: values(r.nic.V), Label: plainLabels(r.label.V),
		Networks: values(r.networks.V), Deny: r.deny.V, Grant: r.grant(b.problems), Text: r.text(), At: r.at.pos(),
	}
	b.cfg.Policy.Rules = append(b.cfg.Policy.Rules, rule)
	b.rules[rule.At] = ruleNote{at: r.at, sound: !r.mistakes && len(b.list) == before}
}

// denies refuses keys that a rule which denies cannot give.
func (b *builder) denies(r *rawRule) {
	given := r.given()
	for _, name := range slices.Sorted(maps.Keys(given)) {
		b.add(given[name], "a rule that denies gives nothing, so %s has no effect", name).do("leave it out, or leave deny out")
	}
}

func plainLabels(labels map[string]got[string]) map[string]string {
	if len(labels) == 0 {
		return nil
	}
	out := map[string]string{}
	for k, v := range labels {
		out[k] = v.V
	}
	return out
}

// text is what the rule matches, as it was written, in one line.
func (r *rawRule) text() string {
	var parts []string
	add := func(name string, l got[[]got[string]]) {
		var items []string
		for _, i := range l.V {
			if i.Given {
				items = append(items, i.Written)
			}
		}
		switch len(items) {
		case 0:
		case 1:
			parts = append(parts, name+": "+items[0])
		default:
			parts = append(parts, name+": ["+join(items)+"]")
		}
	}
	add("vm", r.vm)
	add("uuid", r.uuid)
	add("nic", r.nic)
	if len(r.label.V) > 0 {
		var labels []string
		for _, k := range slices.Sorted(maps.Keys(r.label.V)) {
			labels = append(labels, k+": "+r.label.V[k].Written)
		}
		parts = append(parts, "label: {"+join(labels)+"}")
	}
	if len(parts) == 0 {
		return "any VM"
	}
	return strings.Join(parts, ", ")
}

// ruleNote is what is known of a rule besides what the policy needs.
type ruleNote struct {
	at    place
	sound bool // nothing in it was reported
}

// addCovered reports the rules that can never match. Rules with mistakes are
// left out of it: half a rule covers, and is covered, by accident.
func (b *builder) addCovered() {
	if !b.complete {
		return
	}
	set := b.cfg.Policy
	set.Rules = slices.DeleteFunc(slices.Clone(set.Rules), func(r policy.Rule) bool { return !b.rules[r.At].sound || !b.allHere(r.Networks) })
	for _, c := range set.Covered() {
		m := b.add(b.rules[c.Rule].at, "this rule (%s) can never match: %s", c.RuleText, c.Why)
		if by, ok := b.rules[c.By]; ok {
			m.do("put it before %s (%s), or remove it", by.at, c.ByText)
		}
	}
}

// allHere says whether each of the networks is there and right.
func (b *builder) allHere(networks []string) bool {
	return !slices.ContainsFunc(networks, func(name string) bool {
		return !slices.ContainsFunc(b.cfg.Policy.Networks, func(n policy.Network) bool { return n.Name == name })
	})
}
