package config

import (
	"maps"
	"slices"

	"github.com/vmnetd/vmnetd"
)

type rawDefaults struct{ rawGrant }

var defaultsKeys = object[rawDefaults]{
	what: "defaults",
	rows: grantRows(func(d *rawDefaults) *rawGrant { return &d.rawGrant }),
}

// defaults merges the files' defaults key by key: each key in one file only,
// because neither file would be the obvious winner.
func (b *builder) defaults(docs []*document) {
	seen := declared{}
	for _, d := range docs {
		given := d.defaults.given()
		for _, name := range slices.Sorted(maps.Keys(given)) {
			if first, there := seen[name]; there {
				b.add(given[name], "defaults.%s is given twice, first at %s", name, first).do("leave it in one file only")
				continue
			}
			seen[name] = given[name]
		}
		b.mergeDefaults(&d.defaults)
	}
	if b.cfg.Policy.Defaults.Modes == nil {
		b.cfg.Policy.Defaults.Modes = []vmnetd.Mode{vmnetd.Bridge}
	}
}

func (b *builder) mergeDefaults(d *rawDefaults) {
	g, into := d.grant(b.problems), &b.cfg.Policy.Defaults
	if d.modes.Given {
		into.Modes, into.ModesAt = g.Modes, g.ModesAt
	}
	if d.mtu.Given {
		into.MTU, into.MTUAt = g.MTU, g.MTUAt
	}
	if d.queues.Given {
		into.Queues, into.QueuesAt = g.Queues, g.QueuesAt
	}
	if d.mac.allow.Given {
		into.MACs, into.MACsAt = g.MACs, g.MACsAt
	}
	if d.link.Given {
		into.Link, into.LinkAt = g.Link, g.LinkAt
	}
	if d.mac.change.Given {
		into.MACChange, into.MACChangeAt = g.MACChange, g.MACChangeAt
	}
}
