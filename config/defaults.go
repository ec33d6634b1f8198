package config

import (
	"maps"
	"slices"

	"github.com/vmnetd/vmnetd"
)

type rawDefaults struct{ rawGrant }

var defaultsKeys = object[rawDefaults]{
	what: "defaults",
	rows: slices.Concat(grantRows(func(d *rawDefaults) *rawGrant { return &d.rawGrant }), noExtra[rawDefaults]("defaults")),
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
		d.defaults.check(b.problems)
		d.defaults.put(&b.cfg.Policy.Defaults)
		b.oneForAll("defaults", &d.defaults.rawGrant)
	}
	if b.cfg.Policy.Defaults.Modes == nil {
		b.cfg.Policy.Defaults.Modes = []vmnetd.Mode{vmnetd.Bridge}
	}
}
