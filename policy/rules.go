package policy

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// String is FILE:LINE, as operators and editors read it.
func (p Pos) String() string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

// name is the rule as messages name it: its text and where it stands.
func (r *Rule) name() string {
	if r.Text == "" {
		return "rule " + r.At.String()
	}
	return fmt.Sprintf("rule %s (%s)", r.Text, r.At)
}

// subject is whom rules are matched against.
type subject struct {
	vm, uuid, nic string
	labels        map[string]string
}

// matches says whether all matchers of the rule but its networks hold.
func (r *Rule) matches(who subject) bool {
	return matchesAny(r.VM, who.vm) && matchesAny(r.NIC, who.nic) &&
		(len(r.UUID) == 0 || slices.ContainsFunc(r.UUID, func(u string) bool { return u != "" && strings.EqualFold(u, who.uuid) })) &&
		isSubset(r.Label, who.labels)
}

// matchesAny holds for every name when there are no globs.
func matchesAny(globs []string, name string) bool {
	return len(globs) == 0 || slices.ContainsFunc(globs, func(g string) bool {
		ok, err := path.Match(g, name)
		return ok && err == nil
	})
}

func isSubset(want, have map[string]string) bool {
	for k, v := range want {
		if got, ok := have[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// verdict is what the rules say of one network for one VM's NIC.
type verdict struct {
	network *Network
	rule    *Rule // the first that matches, nil: none
}

func (v verdict) open() bool { return v.rule != nil && v.rule.Deny == "" }

// verdicts says for every network which rule decides: in the order of the
// rules, then of the networks in a rule; those that no rule matches come last.
func (s *Set) verdicts(who subject) []verdict {
	var all []verdict
	seen := map[string]bool{}
	add := func(n *Network, r *Rule) {
		if n != nil && !seen[n.Name] {
			seen[n.Name] = true
			all = append(all, verdict{n, r})
		}
	}
	for i := range s.Rules {
		r := &s.Rules[i]
		if len(all) == len(s.Networks) || !r.matches(who) {
			continue
		}
		for _, name := range s.networksOf(r) {
			add(s.network(name), r)
		}
	}
	for i := range s.Networks {
		add(&s.Networks[i], nil)
	}
	return all
}

// networksOf lists the networks that a rule is about.
func (s *Set) networksOf(r *Rule) []string {
	if len(r.Networks) > 0 {
		return r.Networks
	}
	return s.networkNames()
}

func (s *Set) network(name string) *Network {
	i := slices.IndexFunc(s.Networks, func(n Network) bool { return n.Name == name })
	if i < 0 {
		return nil
	}
	return &s.Networks[i]
}

func (s *Set) networkNames() []string {
	var names []string
	for _, n := range s.Networks {
		names = append(names, n.Name)
	}
	return names
}

// chooseNetwork finds the network and the rule that decides.
func (c *choice) chooseNetwork() error {
	if c.req.Network == "" {
		return c.defaultNetwork()
	}
	n := c.set.network(c.req.Network)
	if n == nil {
		return vmnetd.Errorf(vmnetd.ErrNotFound, "there is no network %q", c.req.Network).WithNext(c.networksThereAre())
	}
	c.network = n
	v := c.verdicts[slices.IndexFunc(c.verdicts, func(v verdict) bool { return v.network == n })]
	c.rule = v.rule
	switch {
	case v.rule == nil:
		return vmnetd.Errorf(vmnetd.ErrDenied, "no rule gives %s network %s%s", c.nic(), n.Name, c.otherwiseGiven()).WithNext(c.nextOpen())
	case v.rule.Deny != "":
		return c.deniedBy(v.rule)
	}
	return nil
}

func (c *choice) defaultNetwork() error {
	for _, v := range c.verdicts {
		if v.open() {
			c.network, c.rule = v.network, v.rule
			return nil
		}
	}
	for i := range c.set.Rules {
		if r := &c.set.Rules[i]; r.Deny != "" && r.matches(c.who) {
			c.rule = r
			return c.deniedBy(r)
		}
	}
	if len(c.set.Networks) == 0 {
		return vmnetd.Errorf(vmnetd.ErrNotFound, "no network is configured").WithNext("add one to networks: and a rule that gives it to " + c.req.VM)
	}
	return vmnetd.Errorf(vmnetd.ErrDenied, "no rule matches %s, and what no rule matches is denied", c.nic()).WithNext(c.nextOpen())
}

func (c *choice) deniedBy(r *Rule) error {
	return vmnetd.Errorf(vmnetd.ErrDenied, "%s denies %s: %s", r.name(), c.nic(), r.Deny).WithNext(c.nextOpen())
}

func (c *choice) networksThereAre() string {
	names := c.set.networkNames()
	if len(names) == 0 {
		return "no network is configured: add one to networks:"
	}
	return "networks are " + strings.Join(names, ", ")
}

// otherwiseGiven names the rule that gives the VM something else.
func (c *choice) otherwiseGiven() string {
	for _, v := range c.verdicts {
		if v.open() {
			return fmt.Sprintf("; %s gives it %s", v.rule.name(), v.network.Name)
		}
	}
	return ""
}

// nextOpen says how to ask for a network that is open to the VM.
func (c *choice) nextOpen() string {
	for _, v := range c.verdicts {
		if v.open() && v.network != c.network {
			return fmt.Sprintf("vmnetd attach %s --network %s", shellWord(c.req.VM), shellWord(v.network.Name))
		}
	}
	if c.rule != nil {
		return fmt.Sprintf("a rule that gives it a network must stand before %s", c.rule.At)
	}
	return "add a rule that matches it to rules:"
}
