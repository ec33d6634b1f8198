package policy

import (
	"slices"
	"strings"
)

// coverage is what finding covered rules needs to know of all rules, taken
// apart once: a site has thousands, and each is compared with those before it.
type coverage struct {
	set     *Set
	rules   []matchers
	byVM    globIndex // the rules added so far
	globs   map[string]*glob
	words   map[string]int // UUIDs and labels, numbered
	network map[string]int // name → place in set.Networks

	// candidate[j] and asked[n] hold i while rule i is looked at: that rule j
	// may cover it, and that its network n is not taken yet.
	candidate, asked []int
}

// matchers is a rule as coverage compares it.
type matchers struct {
	vm, nic     []*glob
	uuid, label []int
	networks    []int // those that are configured
}

const nobody = -1

func newCoverage(s *Set) *coverage {
	c := &coverage{
		set: s, byVM: newGlobIndex(), globs: map[string]*glob{}, words: map[string]int{}, network: map[string]int{},
		candidate: slices.Repeat([]int{nobody}, len(s.Rules)), asked: slices.Repeat([]int{nobody}, len(s.Networks)),
	}
	var all []int
	for i, n := range s.Networks {
		c.network[n.Name] = i
		all = append(all, i)
	}
	for i := range s.Rules {
		r := &s.Rules[i]
		m := matchers{vm: c.parse(r.VM), nic: c.parse(r.NIC), uuid: c.uuids(r.UUID), label: c.labels(r.Label), networks: all}
		if len(r.Networks) > 0 {
			m.networks = c.configured(r.Networks)
		}
		c.rules = append(c.rules, m)
	}
	return c
}

// parse takes globs apart; the same text gives the same glob. None stand for
// all: every VM and NIC has a name, without '/', so "*" is everything.
func (c *coverage) parse(patterns []string) []*glob {
	if len(patterns) == 0 {
		patterns = []string{"*"}
	}
	var all []*glob
	for _, p := range patterns {
		g := c.globs[p]
		if g == nil {
			g = newGlob(p)
			c.globs[p] = g
		}
		all = append(all, g)
	}
	return all
}

func (c *coverage) uuids(written []string) []int {
	var all []int
	for _, u := range written {
		all = append(all, c.word(strings.ToLower(u)))
	}
	return all
}

func (c *coverage) labels(labels map[string]string) []int {
	var all []int
	for k, v := range labels {
		all = append(all, c.word(k+"\x00"+v))
	}
	return all
}

func (c *coverage) word(text string) int {
	n, ok := c.words[text]
	if !ok {
		n = len(c.words)
		c.words[text] = n
	}
	return n
}

func (c *coverage) configured(networks []string) []int {
	var all []int
	for _, name := range networks {
		if n, ok := c.network[name]; ok {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// add makes rule i one of those that may cover later ones.
func (c *coverage) add(i int) { c.byVM.add(i, c.rules[i].vm) }

// markCandidates marks the rules whose VMs may be all of rule i's: those that
// have at least its first.
func (c *coverage) markCandidates(i int) {
	c.byVM.covering(c.rules[i].vm[0], func(j int) { c.candidate[j] = i })
}

// ask marks the networks of rule i, and counts them.
func (c *coverage) ask(i int) int {
	for _, n := range c.rules[i].networks {
		c.asked[n] = i
	}
	return len(c.rules[i].networks)
}

// take counts the networks that rule i asks for and rule j takes, and marks
// them as taken.
func (c *coverage) take(i, j int) int {
	taken := 0
	for _, n := range c.rules[j].networks {
		if c.asked[n] == i {
			c.asked[n] = nobody
			taken++
		}
	}
	return taken
}

// widerThan says whether whatever o's matchers match, m's match too. A VM may
// have no UUID, so a list of them is never everything.
func (m *matchers) widerThan(o *matchers) bool {
	return within(m.label, o.label) &&
		(len(m.uuid) == 0 || len(o.uuid) > 0 && within(o.uuid, m.uuid)) &&
		globsWider(m.nic, o.nic) && globsWider(m.vm, o.vm)
}

// within says that all of the few words are among the many.
func within(few, many []int) bool {
	for _, word := range few {
		if !slices.Contains(many, word) {
			return false
		}
	}
	return true
}

func globsWider(wide, narrow []*glob) bool {
	for _, n := range narrow {
		if !slices.ContainsFunc(wide, func(w *glob) bool { return w.covers(n) }) {
			return false
		}
	}
	return true
}
