package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// trial is one uplink of the network, tried in every mode in question.
type trial struct {
	name  string
	up    Uplink // the uplink's own device
	modes []modeTrial
}

type modeTrial struct {
	spot
	no   []unfit
	soft string // why auto rather takes another one that fits
}

// fit is the first mode that fits and that nothing speaks against, otherwise the
// first that fits.
func (t trial) fit() (modeTrial, bool) {
	fits := func(m modeTrial) bool { return len(m.no) == 0 }
	i := slices.IndexFunc(t.modes, func(m modeTrial) bool { return fits(m) && m.soft == "" })
	if i < 0 {
		i = slices.IndexFunc(t.modes, fits)
	}
	if i < 0 {
		return modeTrial{}, false
	}
	return t.modes[i], true
}

// why says why nothing fits: once where it is the same for every mode.
func (t trial) why() string {
	var parts []string
	for _, m := range t.modes {
		parts = append(parts, joinWhy(m.no))
	}
	if len(slices.Compact(slices.Clone(parts))) == 1 {
		return parts[0]
	}
	for i := range parts {
		parts[i] = fmt.Sprintf("%s: %s", t.modes[i].mode, parts[i])
	}
	return strings.Join(parts, "; ")
}

// planCommand shows what an apply would make.
const planCommand = "vmnetd uplink plan"

// absent says why an uplink is not here.
func (t trial) absent(otherwise string) string {
	if t.up.NotApplied {
		return "not applied yet: " + planCommand
	}
	return otherwise
}

// choosePlace takes the first uplink, and on it the first mode, that fits.
func (c *choice) choosePlace() error {
	c.tryAll()
	if !slices.ContainsFunc(c.trials, func(t trial) bool { return t.up.Present }) {
		return c.noneHere()
	}
	candidates := c.candidates()
	if len(candidates) == 0 {
		return c.askedNotHere()
	}
	for _, t := range candidates {
		if m, ok := t.fit(); ok {
			c.take(m)
			return nil
		}
	}
	return c.nothingFits(candidates)
}

// noneHere is a network of which this host has no uplink, or none yet.
func (c *choice) noneHere() error {
	i := slices.IndexFunc(c.trials, func(t trial) bool { return t.up.NotApplied })
	if i >= 0 {
		return vmnetd.Errorf(vmnetd.ErrNotFound, "network %s is not on this host yet: its uplink %s was never applied", c.network.Name, c.trials[i].name).
			WithNext(planCommand)
	}
	return vmnetd.Errorf(vmnetd.ErrNotFound, "network %s is not on this host: it has none of the network's uplinks (%s)",
		c.network.Name, listOr(c.network.Uplinks, "none given")).WithNext("vmnetd status shows the uplinks that are here")
}

// askedNotHere is an uplink that was asked for, when others are here.
func (c *choice) askedNotHere() error {
	if c.f.Uplinks[c.req.Uplink].NotApplied {
		return vmnetd.Errorf(vmnetd.ErrNotFound, "uplink %s of network %s is not on this host yet: it was never applied", c.req.Uplink, c.network.Name).
			WithNext("leave --uplink away, or  " + planCommand)
	}
	return vmnetd.Errorf(vmnetd.ErrNotFound, "uplink %s of network %s is not on this host", c.req.Uplink, c.network.Name).
		WithNext("leave --uplink away, or see vmnetd status for the uplinks that are here")
}

func (c *choice) tryAll() {
	for _, name := range c.network.Uplinks {
		t := trial{name: name, up: c.state(name)}
		for _, m := range c.modesOn(t.up) {
			on := c.spot(name, t.up, m)
			t.modes = append(t.modes, modeTrial{on, c.unfits(on), c.better(on)})
		}
		c.trials = append(c.trials, t)
	}
}

// state is the uplink as it is now. Where the host was not looked at, those
// that the configuration declares are taken to be there; all, where it declares
// none of the network's (a file that many hosts share).
func (c *choice) state(name string) Uplink {
	if !c.f.Unknown {
		return c.set.limited(name, c.f.Uplinks[name])
	}
	here := slices.Contains(c.set.Uplinks, name) || !c.declaresAny(c.network)
	return Uplink{Present: here, Carrier: here, Up: here}
}

// candidates are the uplinks in question in the order they are preferred: those
// with carrier, then those without.
func (c *choice) candidates() []trial {
	var with, without []trial
	for _, t := range c.trials {
		switch {
		case !t.up.Present || c.req.Uplink != "" && c.req.Uplink != t.name:
		case t.up.Carrier:
			with = append(with, t)
		default:
			without = append(without, t)
		}
	}
	return append(with, without...)
}

func (c *choice) take(m modeTrial) {
	c.up, c.on = m.up, m.on
	c.d.Uplink, c.d.Ifname, c.d.Mode, c.d.Link = m.name, m.up.Ifname, m.mode, c.grant.link
	c.d.Kind = c.kind(m.mode)
	c.d.MACChange = c.grant.change
	c.d.MTU = c.grant.mtu
	if c.d.MTU == 0 {
		c.d.MTU = m.on.MTU
	}
	c.d.Second = m.name != c.firstChoice()
	c.takeMAC(m)
	c.takeGuard(m)
	if m.info.Family == vmnetd.FamilyMacvlan {
		c.d.BCQueue = c.grant.bcQueue
	}
	if onBridge(m.info) {
		c.d.Port, c.d.Trunk = c.grant.port, c.network.Trunk
	}
}

// takeMAC: where guests share the uplink's, nobody can change it, nor does the
// stack of a namespace tell of it when it does.
func (c *choice) takeMAC(m modeTrial) {
	if m.info.SharesMAC {
		c.d.Flag = c.grant.flag
		c.d.MAC, c.d.MACFrom = m.on.MAC, fmt.Sprintf("the uplink's: all guests of an %s have it", c.d.Kind)
	}
	if m.info.SharesMAC || c.f.Netns != nil {
		c.d.MACChange = ChangeDeny
	}
}

// takeGuard is what is kept of the guest's frames, as far as anything of the
// host's can.
func (c *choice) takeGuard(m modeTrial) {
	c.d.Learn, c.d.MaxIPs = c.learns(m.info), c.grant.maxIPs
	if c.d.Learn {
		c.d.Within = c.grant.ips.Within
	}
	if c.hears(m.info) {
		c.d.Filter, c.d.Extra, c.d.Bandwidth = c.grant.filter, c.grant.extra, c.grant.bandwidth.limits()
	}
}

// firstChoice is the first uplink of the network that this host is meant to
// have: networks are shared by hosts that declare different uplinks.
func (c *choice) firstChoice() string {
	for _, u := range c.network.Uplinks {
		if slices.Contains(c.set.Uplinks, u) {
			return u
		}
	}
	return c.network.Uplinks[0]
}

func (c *choice) nothingFits(candidates []trial) error {
	// The mode was asked for by name, with what it cannot have.
	if c.req.Mode != "" && eachHas(candidates, func(no unfit) bool { return no.request }) {
		return c.contradiction(candidates)
	}
	class := vmnetd.ErrBusy
	if eachHas(candidates, func(no unfit) bool { return no.kernel }) {
		class = vmnetd.ErrUnsupported
	}
	var parts []string
	for _, t := range candidates {
		parts = append(parts, fmt.Sprintf("uplink %s: %s", t.name, t.why()))
	}
	return vmnetd.Errorf(class, "network %s is open to %s, but nothing fits now: %s",
		c.network.Name, c.nic(), strings.Join(parts, "; ")).WithNext(c.firstFix(candidates))
}

// eachHas says that every mode on every uplink has such a reason against it.
func eachHas(candidates []trial, such func(unfit) bool) bool {
	for _, t := range candidates {
		for _, m := range t.modes {
			if !slices.ContainsFunc(m.no, such) {
				return false
			}
		}
	}
	return true
}

// firstFix is what to do about the first reason about which something can be done.
func (c *choice) firstFix(candidates []trial) string {
	for _, t := range candidates {
		for _, m := range t.modes {
			for _, no := range m.no {
				if no.fix != "" {
					return no.fix
				}
			}
		}
	}
	return "vmnetd explain " + shellWord(c.req.VM) + " --all"
}

// contradiction is a request that no host could fulfil.
func (c *choice) contradiction(candidates []trial) error {
	no := candidates[0].modes[0].no
	i := slices.IndexFunc(no, func(n unfit) bool { return n.request })
	return vmnetd.Errorf(vmnetd.ErrInvalid, "%s", no[i].why).WithNext(no[i].fix)
}
