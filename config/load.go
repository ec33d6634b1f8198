package config

import (
	"fmt"
	"slices"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
	"github.com/vmnetd/vmnetd/policy"
	"github.com/vmnetd/vmnetd/uplink"
)

// document is one file taken apart.
type document struct {
	file        *file
	uplinks     got[[]rawUplink]
	defaults    rawDefaults
	networks    got[[]rawNetwork]
	rules       got[[]rawRule]
	vms         got[[]rawVM]
	hypervisors rawHypervisors
}

// documentKeys is the whole schema.
var documentKeys = object[document]{what: "the configuration", rows: slices.Concat([]row[document]{
	key("uplinks", func(d *document) *got[[]rawUplink] { return &d.uplinks }, codec[got[[]rawUplink]](section[rawUplink]{listOf[rawUplink]{item: uplinkKeys, what: "a list of uplinks"}})),
	key("defaults", func(d *document) *rawDefaults { return &d.defaults }, codec[rawDefaults](defaultsKeys)),
	key("networks", func(d *document) *got[[]rawNetwork] { return &d.networks }, codec[got[[]rawNetwork]](section[rawNetwork]{listOf[rawNetwork]{item: networkKeys, what: "a list of networks"}})),
	key("rules", func(d *document) *got[[]rawRule] { return &d.rules }, codec[got[[]rawRule]](section[rawRule]{listOf[rawRule]{item: ruleKeys, what: "a list of rules"}})),
	key("vms", func(d *document) *got[[]rawVM] { return &d.vms }, codec[got[[]rawVM]](section[rawVM]{listOf[rawVM]{item: vmKeys, what: "a list of VMs"}})),
	key("hypervisors", func(d *document) *rawHypervisors { return &d.hypervisors }, codec[rawHypervisors](hypervisorsKeys)),
}, later[document]("namespaces"))}

// load makes a configuration of files: the main file first, then the drop-ins
// by name. problems may have mistakes already; the error is all of them.
func load(files []*file, p *problems) (agent.Config, error) {
	b := newBuilder(p)
	var docs []*document
	for _, f := range files {
		root, ok := parse(f, p)
		b.complete = b.complete && ok
		d := &document{file: f}
		if root != nil {
			documentKeys.decode(p, root, d)
		}
		docs = append(docs, d)
	}
	b.defaults(docs)
	b.addUplinks(docs)
	b.addNetworks(docs)
	b.addRules(docs)
	b.checkTrunks()
	b.addVMs(docs)
	b.addHypervisors(docs)
	b.addCovered()
	if err := p.errors(); err != nil {
		return agent.Config{}, err
	}
	b.warnWithheld()
	if len(b.cfg.Policy.Rules) == 0 {
		b.warnings = append(b.warnings, "there is no rule: every attach will be denied")
	}
	b.cfg.Warnings = b.warnings
	return b.cfg, nil
}

// builder puts the documents together.
type builder struct {
	*problems
	cfg      agent.Config
	complete bool // every file could be read to its end
	uplinks  declared
	stack    stack
	networks declared
	trunks   map[string]place // by the network's name
	macs     map[string]place
	rules    map[policy.Pos]ruleNote
	withheld []withheldMode
	warnings []string
}

func newBuilder(p *problems) *builder {
	return &builder{
		problems: p, complete: len(p.list) == 0,
		uplinks: declared{}, stack: newStack(), networks: declared{}, trunks: map[string]place{}, macs: map[string]place{}, rules: map[policy.Pos]ruleNote{},
		cfg: agent.Config{Policy: policy.Set{Labels: map[string]map[string]string{}, Limits: map[string]policy.Limits{}}},
	}
}

func (b *builder) warn(at place, format string, args ...any) {
	pos := at.pos()
	b.warnings = append(b.warnings, fmt.Sprintf("%s:%d: ", pos.File, pos.Line)+fmt.Sprintf(format, args...))
}

// unknown reports a reference to what is not declared, unless a file is there
// that could not be read: it may declare it.
func (b *builder) unknown(at place, what, name string, known declared) {
	if !b.complete {
		return
	}
	const suggested = 100 // beyond that nobody reads them, and looking for near names takes time
	if len(b.list) >= suggested {
		b.add(at, "%s %q is not declared", what, name)
		return
	}
	m := b.add(at, "%s %q is not declared%s", what, name, didYouMean(name, known.names()))
	if len(known) > 0 {
		m.do("%ss are %s", what, some(known.names()))
		return
	}
	m.do("declare it under %ss:", what)
}

// some is a list of names that is no longer than a reader takes in.
func some(names []string) string {
	const enough = 20
	if len(names) <= enough {
		return join(names)
	}
	return fmt.Sprintf("%s and %d more", join(names[:enough]), len(names)-enough)
}

// missing reports a key that an entry must have, unless it is there and wrong,
// or misspelt.
func (b *builder) missing(written place, entry spot, text, next string) {
	if written.file == nil && !entry.unknown {
		b.add(entry.at, "%s", text).next = next
	}
}

// Warnings says what the configuration wants and this host lacks: present tells
// whether an uplink's device is here.
func Warnings(cfg agent.Config, present func(uplink.Spec) bool) []string {
	here, made := map[string]bool{}, map[string]bool{}
	for _, spec := range cfg.Uplinks {
		here[spec.Name] = present(spec)
		made[spec.Name] = spec.Kind != vmnetd.UplinkNIC && spec.Kind != vmnetd.UplinkExternal
	}
	var all []string
	for _, n := range cfg.Policy.Networks {
		if slices.ContainsFunc(n.Uplinks, func(u string) bool { return here[u] }) {
			continue
		}
		text := fmt.Sprintf("not on this host: none of its uplinks %s is here", join(n.Uplinks))
		if i := slices.IndexFunc(n.Uplinks, func(u string) bool { return made[u] }); i >= 0 {
			text = fmt.Sprintf("not on this host yet: its uplink %s is made by  vmnetd uplink apply", n.Uplinks[i])
		}
		all = append(all, fmt.Sprintf("%s:%d: network %s: %s", n.At.File, n.At.Line, n.Name, text))
	}
	return all
}
