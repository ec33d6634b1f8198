package policy

// globIndex finds, among the globs of many rules, those that cover one, without
// comparing it with each: a glob that covers another begins with nothing that
// the other does not begin with, so they are looked up by their beginnings.
type globIndex struct {
	byPrefix map[string][]*globUse
	uses     map[*glob]*globUse
}

// globUse is a glob and the rules in which it stands.
type globUse struct {
	glob  *glob
	rules []int
}

func newGlobIndex() globIndex {
	return globIndex{byPrefix: map[string][]*globUse{}, uses: map[*glob]*globUse{}}
}

func (x globIndex) add(rule int, globs []*glob) {
	for _, g := range globs {
		use := x.uses[g]
		if use == nil {
			use = &globUse{glob: g}
			x.uses[g] = use
			x.byPrefix[g.prefix] = append(x.byPrefix[g.prefix], use)
		}
		use.rules = append(use.rules, rule)
	}
}

// covering calls found for each rule with a glob that covers n, for some twice.
func (x globIndex) covering(n *glob, found func(rule int)) {
	for end := range len(n.prefix) + 1 {
		for _, use := range x.byPrefix[n.prefix[:end]] {
			if !use.glob.covers(n) {
				continue
			}
			for _, rule := range use.rules {
				found(rule)
			}
		}
	}
}
