package policy

import (
	"fmt"
	"strings"
)

// Cover is a rule that can never match, and the earlier rule that takes
// everything it could match.
type Cover struct {
	Rule, By         Pos // By is the zero Pos where no rule is to blame
	RuleText, ByText string
	Why              string // one sentence
}

// Covered finds rules that can never match: every network they are about is
// taken by an earlier rule whose vm, uuid, nic and label match at least as
// much. Where several earlier rules share the networks, By is the first of them
// and Why names all. Only what is certain is reported: a rule that several
// earlier ones cover only jointly in vm, uuid, nic or label is not, nor one
// whose globs would have to be compared by more than their text.
func (s *Set) Covered() []Cover {
	var all []Cover
	c := newCoverage(s)
	for i := range s.Rules {
		if cover, ok := c.cover(i); ok {
			all = append(all, cover)
		}
		c.add(i)
	}
	return all
}

func (c *coverage) cover(i int) (Cover, bool) {
	r := &c.set.Rules[i]
	cover := Cover{Rule: r.At, RuleText: r.Text}
	if len(r.Networks) > 0 && len(c.rules[i].networks) == 0 {
		cover.Why = fmt.Sprintf("none of its networks is configured: %s", strings.Join(r.Networks, ", "))
		return cover, true
	}
	by, ok := c.coverers(i)
	if !ok {
		return Cover{}, false
	}
	cover.By, cover.ByText = by[0].At, by[0].Text
	var names []string
	for _, b := range by {
		names = append(names, b.name())
	}
	cover.Why = "everything it matches is taken before by " + strings.Join(names, " and ")
	return cover, true
}

// coverers lists the earlier rules that together take every network of rule i.
func (c *coverage) coverers(i int) ([]*Rule, bool) {
	var by []*Rule
	left := c.ask(i)
	c.markCandidates(i)
	for j := range i {
		if c.candidate[j] != i || !c.rules[j].widerThan(&c.rules[i]) {
			continue
		}
		earlier := &c.set.Rules[j]
		if len(earlier.Networks) == 0 {
			return []*Rule{earlier}, true
		}
		taken := c.take(i, j)
		if taken > 0 {
			by, left = append(by, earlier), left-taken
		}
		if left == 0 && len(by) > 0 {
			return by, true
		}
	}
	return nil, false
}
