package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// alternatives lists every network, uplink and mode that was not taken.
func (c *choice) alternatives() []Rejected {
	not := c.otherNetworks()
	if c.rule == nil || c.network == nil || c.rule.Deny != "" {
		return not
	}
	not = append(not, c.otherUplinks()...)
	if errors.Is(c.err, vmnetd.ErrNotFound) { // another mode would not help
		return not
	}
	return append(not, c.otherModes()...)
}

func (c *choice) otherNetworks() []Rejected {
	var not []Rejected
	for _, v := range c.verdicts {
		if v.network == c.network {
			continue
		}
		not = append(not, Rejected{"network " + v.network.Name, c.whyNotNetwork(v)})
	}
	return not
}

func (c *choice) whyNotNetwork(v verdict) string {
	switch {
	case v.rule == nil:
		return "no rule gives it to " + c.nic()
	case v.rule.Deny != "":
		return fmt.Sprintf("denied by %s: %s", v.rule.At, v.rule.Deny)
	case !c.f.Unknown && !c.declaresAny(v.network):
		return fmt.Sprintf("not on this host; %s gives it", v.rule.At)
	}
	return fmt.Sprintf("not asked for; %s gives it: --network %s", v.rule.At, v.network.Name)
}

// declaresAny says whether this host is meant to have one of the network's
// uplinks; the facts may know only those of the network asked for.
func (c *choice) declaresAny(n *Network) bool {
	return slices.ContainsFunc(n.Uplinks, func(u string) bool { return slices.Contains(c.set.Uplinks, u) })
}

func (c *choice) otherUplinks() []Rejected {
	var not []Rejected
	for i, t := range c.trials {
		if t.name != c.d.Uplink {
			not = append(not, Rejected{"uplink " + t.name, c.whyNotUplink(i, t)})
		}
	}
	return not
}

func (c *choice) whyNotUplink(i int, t trial) string {
	_, fits := t.fit()
	switch {
	case !t.up.Present:
		return t.absent("not on this host")
	case !fits:
		return t.why()
	case c.req.Uplink != "":
		return "not asked for; ask with --uplink " + t.name
	case !t.up.Carrier && c.up.Carrier:
		return fmt.Sprintf("has no carrier, and %s has; ask with --uplink %s", c.d.Uplink, t.name)
	}
	return fmt.Sprintf("%sstands %s; ask with --uplink %s", c.unless("fits, "), ordinal(i+1), t.name)
}

func (c *choice) otherModes() []Rejected {
	var not []Rejected
	for _, m := range c.modesInOrder() {
		if m == c.d.Mode {
			continue
		}
		if why := c.whyNotMode(m); why != "" {
			not = append(not, Rejected{"mode " + string(m), why})
		}
	}
	return not
}

// modesInOrder is every mode: those allowed in the order in which they are
// preferred, then the others.
func (c *choice) modesInOrder() []vmnetd.Mode {
	all := slices.Clone(c.grant.modesOn(c.up))
	for _, name := range vmnetd.ModeNames() {
		if m := vmnetd.Mode(name); !slices.Contains(all, m) {
			all = append(all, m)
		}
	}
	return all
}

// whyNotMode is empty where the uplinks' reasons say it already.
func (c *choice) whyNotMode(m vmnetd.Mode) string {
	place := slices.Index(c.grant.modesOn(c.up), m)
	switch {
	case slices.Contains(c.grant.withheld, m):
		return fmt.Sprintf("only where the rule itself lists it, and %s does not", c.rule.At)
	case place < 0:
		return sourceWithAt(c.grant.modesBy) + " does not allow it"
	case (errors.Is(c.err, vmnetd.ErrBusy) || errors.Is(c.err, vmnetd.ErrInvalid)) && (c.req.Mode == "" || c.req.Mode == m):
		return ""
	case c.err != nil:
		return "allowed; ask with --mode " + string(m)
	}
	s := c.spot(c.d.Uplink, c.up, m)
	if no := c.unfits(s); len(no) > 0 {
		return joinWhy(no)
	}
	if why := c.better(s); why != "" {
		return why + "; ask with --mode " + string(m)
	}
	if c.req.Mode != "" {
		return "allowed, not asked for; ask with --mode " + string(m)
	}
	return fmt.Sprintf("allowed, stands %s; ask with --mode %s", ordinal(place+1), m)
}

// reasons says why this rule, this network, this uplink and this mode.
func (c *choice) reasons() []string {
	return []string{
		fmt.Sprintf("%s is the first that matches %s and network %s", c.rule.name(), c.nic(), c.network.Name),
		c.whyNetwork(),
		"uplink " + c.d.Uplink + ": " + c.whyUplink(),
		"mode " + string(c.d.Mode) + ": " + c.whyMode(" ("+c.grant.modesBy.String()+")"),
	}
}

func (c *choice) whyNetwork() string {
	if c.req.Network != "" {
		return fmt.Sprintf("network %s (%s): asked for", c.network.Name, c.network.At)
	}
	return fmt.Sprintf("network %s (%s): none was asked for, and it is the first that the rules give", c.network.Name, c.network.At)
}

func (c *choice) whyUplink() string {
	switch {
	case c.f.Unknown:
		return "the host was not looked at; taken to be there"
	case c.req.Uplink != "":
		return "asked for, and fits"
	case len(c.network.Uplinks) == 1:
		return "the network's only one, and fits"
	case c.d.Uplink == c.network.Uplinks[0]:
		return "first of " + strings.Join(c.network.Uplinks, ", ") + "; fits"
	case c.up.Carrier:
		return "first of " + strings.Join(c.network.Uplinks, ", ") + " that is here, has carrier and fits"
	}
	return "first of " + strings.Join(c.network.Uplinks, ", ") + " that is here and fits; none that fits has carrier"
}

// whyMode says why it is this mode; by is who allows it.
func (c *choice) whyMode(by string) string {
	modes := strings.Join(words(c.grant.modes), ", ")
	switch {
	case c.grant.modesBy.what == noModes:
		return noModes + ", so it is " + modes
	case c.req.Mode != "":
		return fmt.Sprintf("asked for; one of %s%s", modes, by)
	case c.byAuto():
		return c.whyAuto(by)
	case c.d.Mode == c.grant.modes[0]:
		return "first of " + modes + by + c.unless("; fits")
	}
	return "first of " + modes + by + " that fits"
}

// unless leaves away what cannot be known without looking at the host.
func (c *choice) unless(claim string) string {
	if c.f.Unknown {
		return ""
	}
	return claim
}

var ordinals = [...]string{"", "first", "second", "third", "fourth", "fifth"}

func ordinal(n int) string {
	if n < len(ordinals) {
		return ordinals[n]
	}
	return fmt.Sprintf("%dth", n)
}
