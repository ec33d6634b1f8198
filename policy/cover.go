package policy

import (
	"fmt"
	"slices"
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
	for i := range s.Rules {
		if c, ok := s.covered(i); ok {
			all = append(all, c)
		}
	}
	return all
}

func (s *Set) covered(i int) (Cover, bool) {
	r := &s.Rules[i]
	c := Cover{Rule: r.At, RuleText: r.Text}
	if len(r.Networks) > 0 && len(s.existing(r)) == 0 {
		c.Why = fmt.Sprintf("none of its networks is configured: %s", strings.Join(r.Networks, ", "))
		return c, true
	}
	by, ok := s.coverers(i)
	if !ok {
		return Cover{}, false
	}
	c.By, c.ByText = by[0].At, by[0].Text
	var names []string
	for _, b := range by {
		names = append(names, b.name())
	}
	c.Why = "everything it matches is taken before by " + strings.Join(names, " and ")
	return c, true
}

// existing lists the networks of a rule that are configured.
func (s *Set) existing(r *Rule) []string {
	return slices.DeleteFunc(slices.Clone(s.networksOf(r)), func(n string) bool { return s.network(n) == nil })
}

// coverers lists the earlier rules that together take every network of rule i.
func (s *Set) coverers(i int) ([]*Rule, bool) {
	var by []*Rule
	left := s.existing(&s.Rules[i])
	for j := range s.Rules[:i] {
		earlier := &s.Rules[j]
		if !earlier.widerThan(&s.Rules[i]) {
			continue
		}
		if len(earlier.Networks) == 0 {
			return []*Rule{earlier}, true
		}
		rest := slices.DeleteFunc(slices.Clone(left), func(n string) bool { return slices.Contains(earlier.Networks, n) })
		if len(rest) < len(left) {
			by, left = append(by, earlier), rest
		}
		if len(left) == 0 && len(by) > 0 {
			return by, true
		}
	}
	return nil, false
}

// widerThan says whether whatever o's matchers match, r's match too.
func (r *Rule) widerThan(o *Rule) bool {
	return globsWider(r.VM, o.VM) && globsWider(r.NIC, o.NIC) && uuidsWider(r.UUID, o.UUID) && isSubset(r.Label, o.Label)
}

// globsWider: every VM and NIC has a name, without '/', so "*" is everything.
func globsWider(wide, narrow []string) bool {
	if len(wide) == 0 {
		return true
	}
	if len(narrow) == 0 {
		narrow = []string{"*"}
	}
	for _, n := range narrow {
		if !slices.ContainsFunc(wide, func(w string) bool { return globCovers(w, n) }) {
			return false
		}
	}
	return true
}

// uuidsWider: a VM may have no UUID, so a list of them is never everything.
func uuidsWider(wide, narrow []string) bool {
	if len(wide) == 0 {
		return true
	}
	for _, n := range narrow {
		if !slices.ContainsFunc(wide, func(w string) bool { return w != "" && strings.EqualFold(w, n) }) {
			return false
		}
	}
	return len(narrow) > 0
}
