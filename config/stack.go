package config

import (
	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/uplink"
)

// standing is a declared uplink with what it stands on.
type standing struct {
	name     string
	at       place // of the name
	kind     string
	mtu      got[int]
	under    []ref // ports, members, or the lower device of a VLAN
	vlan     *uplink.VLAN
	vlanAt   place // of the VLAN's id
	bondMode string
}

// ref is the name of an uplink or device with where it is written.
type ref struct {
	name string
	at   place
}

// takesPorts says that what the uplink stands on becomes its port.
func (s *standing) takesPorts() bool { return s.kind != vmnetd.UplinkVLAN }

// stack is the uplinks as they stand on each other.
type stack struct {
	all     []*standing
	byName  map[string]*standing
	device  map[string]string       // name of a device → uplink that it is found as
	masters map[string]membership   // by the name of the port
	narrow  map[*standing]*standing // what narrowest has found
}

// membership is whose port a device is.
type membership struct {
	master *standing
	ref    ref
}

func newStack() stack {
	return stack{byName: map[string]*standing{}, device: map[string]string{}, masters: map[string]membership{}, narrow: map[*standing]*standing{}}
}

// stand adds an uplink; device is the name that it is found by, "" for none.
func (b *builder) stand(s *standing, device string) {
	b.stack.all = append(b.stack.all, s)
	b.stack.byName[s.name] = s
	if device != "" {
		b.stack.device[device] = s.name
	}
}

// same gives the names of one device one spelling: an uplink's name goes before
// a device's.
func (b *builder) same(name string) string {
	if b.uplinks.has(name) {
		return name
	}
	if u, ok := b.stack.device[name]; ok {
		return u
	}
	return name
}

// below is the uplink that is meant by a name, nil for a plain device.
func (b *builder) below(r ref) *standing { return b.stack.byName[b.same(r.name)] }

// checkStack follows what uplinks stand on; it is called when all are known.
func (b *builder) checkStack() {
	for _, s := range b.stack.all {
		b.checkUnder(s)
	}
	b.checkLoops()
	for _, s := range b.stack.all {
		b.checkParent(s)
		b.checkMTU(s)
	}
	b.checkVLANs()
}

func (b *builder) checkUnder(s *standing) {
	for _, r := range s.under {
		switch below := b.below(r); {
		case b.same(r.name) == s.name:
			b.addOnce(r.at, "%s cannot stand on itself", s.name).do("name the uplink or device below it")
		case !b.uplinks.has(b.same(r.name)) && s.needsUplinks():
			b.unknown(r.at, "uplink", r.name, b.uplinks)
		case s.takesPorts() && (below == nil || b.mayBePort(below, s, r)):
			b.enslave(s, r)
		}
	}
}

// mayBePort refuses what never can become a port of s.
func (b *builder) mayBePort(below, s *standing, r ref) bool {
	switch {
	case below.kind == vmnetd.UplinkExternal:
		b.addOnce(r.at, "%s is external (%s), and an external uplink is never changed: it cannot become a port of %s", below.name, below.at, s.name).
			do("declare it as what it is, nic, bond or team, so that vmnetd may change it")
		return false
	case below.kind == vmnetd.UplinkBridge && s.kind == vmnetd.UplinkBridge: // net/bridge/br_if.c, br_add_if: ELOOP
		b.addOnce(r.at, "%s is a bridge (%s), and a bridge cannot be a port of a bridge", below.name, below.at).do("give its ports to %s", s.name)
		return false
	}
	return true
}

// needsUplinks: the port of a bond, team or bridge may be any device; a VLAN and
// an anchor stand on what is declared.
func (s *standing) needsUplinks() bool {
	return s.kind == vmnetd.UplinkVLAN || s.kind == vmnetd.UplinkAnchor
}

// enslave notes a port; a device has one master (net/core/dev.c,
// netdev_master_upper_dev_link: EBUSY).
func (b *builder) enslave(s *standing, r ref) {
	name := b.same(r.name)
	first, taken := b.stack.masters[name]
	switch {
	case !taken:
		b.stack.masters[name] = membership{s, r}
	case first.master == s:
		b.addOnce(r.at, "%s is a port of %s twice, first at %s", r.name, s.name, first.ref.at).do("leave one out")
	default:
		b.addOnce(r.at, "%s is a port of %s already, at %s: a device has one master", r.name, first.master.name, first.ref.at).
			do("leave it out here or there")
	}
}

// checkParent refuses a VLAN over a port: its frames are the master's.
func (b *builder) checkParent(s *standing) {
	if s.kind != vmnetd.UplinkVLAN {
		return
	}
	for _, r := range s.under {
		if m, isPort := b.stack.masters[b.same(r.name)]; isPort {
			b.addOnce(r.at, "%s is a port of %s (%s): what it receives goes to its master, not to a VLAN over it", r.name, m.master.name, m.ref.at).
				do("put the VLAN over %s", b.top(m.master).name)
		}
	}
}

// top is the uplink at the upper end of masters.
func (b *builder) top(s *standing) *standing {
	for range b.stack.all { // a loop ends as well
		m, isPort := b.stack.masters[s.name]
		if !isPort {
			break
		}
		s = m.master
	}
	return s
}

// checkVLANs refuses a second VLAN device with one id over one device
// (net/8021q/vlan.c, vlan_check_real_dev: EEXIST).
func (b *builder) checkVLANs() {
	type tag struct {
		over, protocol string
		id             int
	}
	seen := map[tag]*standing{}
	for _, s := range b.stack.all {
		if s.vlan == nil || s.vlan.ID == 0 || len(s.under) == 0 {
			continue
		}
		key := tag{b.same(s.vlan.Over), s.vlan.Protocol, s.vlan.ID}
		if first, there := seen[key]; there {
			b.addOnce(s.vlanAt, "VLAN %d over %s is %s already, at %s", s.vlan.ID, s.vlan.Over, first.name, first.vlanAt).do("remove one of them")
			continue
		}
		seen[key] = s
	}
}

// walk visits an uplink and what it stands on, from the top down, each once.
func (b *builder) walk(s *standing, visit func(*standing)) {
	seen := map[*standing]bool{}
	var down func(*standing)
	down = func(s *standing) {
		if s == nil || seen[s] {
			return
		}
		seen[s] = true
		visit(s)
		for _, r := range s.under {
			down(b.below(r))
		}
	}
	down(s)
}
