package uplink

import (
	"slices"

	"github.com/vmnetd/vmnetd/teaming"
)

// diff is the steps from one World to another, in the order they must be taken
// in; none where nothing differs. With an earlier World as want it is the
// rollback.
//
// Devices are settled from the bottom up, what is to go is removed from the top
// down, and every step is played on a copy of is, so that what the kernel does
// by itself (a port's MTU, addresses that go when a device is set down) is
// neither done again nor forgotten.
func diff(is, want World) []Step {
	p := planner{is: is.clone(), want: want, late: map[string][]join{}}
	for _, name := range want.order() {
		p.settle(name)
	}
	p.retire()
	for _, name := range want.order() {
		p.finish(name)
	}
	return p.steps
}

// planner plays steps on what is there.
type planner struct {
	is, want World
	steps    []Step
	late     map[string][]join // ports that are moved only after the anchor named has another member
}

type join struct{ port, master string }

func (p *planner) do(s Step) {
	p.steps = append(p.steps, s)
	p.is.play(s)
}

// settle brings one device and its ports to what is wanted; everything under
// it has been settled.
func (p *planner) settle(name string) {
	want := p.want[name]
	if want.Absent || want.Foreign {
		return
	}
	if p.is.there(name) && rebuilt(p.is[name], want) {
		p.remove(name)
	}
	if !p.is.there(name) {
		if want.Kind == kindNIC {
			return // it is not ours to make
		}
		p.make(want)
	}
	p.options(want)
	p.size(want)
	p.ports(want)
	p.portOptions(want)
	p.up(want)
	p.handOver(want)
	p.addresses(want)
}

func (p *planner) make(want Device) {
	s := Step{Verb: verbMake, Device: want.Name, Kind: want.Kind, MAC: want.MAC, MTU: want.MTU, Mode: want.Mode, VLAN: want.VLAN}
	if want.Kind == kindVLAN {
		v := *want.vlan()
		v.Over = want.Lower
		s.VLAN = &v
	}
	if early := part(want.Options, func(o string) bool { return !late(o) }); len(early) > 0 {
		s.Options = early
	}
	if want.Team != nil {
		config := *want.Team
		config.Ports = nil // they are added one by one, as each is free
		s.Team = &config
	}
	if needsFreePorts(want.Team) {
		for _, port := range p.want.ports(want.Name) {
			if p.is[port].Master != "" {
				p.release(port)
			}
		}
	}
	p.do(s)
}

// options changes a device in place, with what that needs: ports out, or the
// device down.
func (p *planner) options(want Device) {
	is := p.is[want.Name]
	if want.Kind == kindTeam {
		p.team(is, want)
		return
	}
	s := Step{Verb: verbOptions, Device: want.Name, Kind: want.Kind}
	s.Options = part(changed(is.Options, want.Options), func(o string) bool { return !late(o) })
	if is.Mode != want.Mode {
		s.Mode = want.Mode
	}
	if len(s.Options) == 0 && s.Mode == "" {
		return
	}
	needs := needsOf(is, want)
	if needs == needsNoPorts {
		for _, port := range p.is.ports(want.Name) {
			p.release(port)
		}
	}
	if needs != needsLive && p.is[want.Name].Up {
		p.do(Step{Verb: verbDown, Device: want.Name})
	}
	p.do(s)
}

func (p *planner) team(is, want Device) {
	switch needs := teamNeeds(is.Team, want.Team); needs {
	case needsLive:
		p.do(Step{Verb: verbTeam, Device: want.Name, Kind: kindTeam, Team: want.Team})
	case needsNoPorts, needsRestart:
		for _, port := range p.is.ports(want.Name) {
			if needs == needsNoPorts {
				p.release(port)
			}
		}
		p.do(Step{Verb: verbRestart, Device: want.Name, Kind: kindTeam, Team: want.Team})
	}
}

// size gives a device its MTU and MAC. A bond or team gives both to its ports
// (bond_change_mtu, team_change_mtu), so ports are left alone.
func (p *planner) size(want Device) {
	if governed(p.is, want.Name) || governed(p.want, want.Name) {
		return
	}
	is := p.is[want.Name]
	if want.MTU != 0 && is.MTU != want.MTU {
		p.do(Step{Verb: verbMTU, Device: want.Name, MTU: want.MTU})
	}
	if want.MAC != "" && is.MAC != want.MAC {
		p.do(Step{Verb: verbMAC, Device: want.Name, Kind: want.Kind, MAC: want.MAC})
	}
}

// governed says that a device's MAC and MTU are its master's business.
func governed(w World, name string) bool {
	master := w[name].Master
	if !w.there(master) {
		return false
	}
	kind := w[master].Kind
	return kind == kindBond || kind == kindTeam
}

// ports puts a device's ports in, the new ones first: it goes on carrying while
// they are exchanged. What it has too many leaves in handOver.
func (p *planner) ports(want Device) {
	for _, port := range p.want.ports(want.Name) {
		if p.is[port].Master == want.Name || !p.is.there(port) {
			continue
		}
		if anchor := p.waitsFor(port, want); anchor != "" {
			p.late[anchor] = append(p.late[anchor], join{port, want.Name})
			continue
		}
		p.join(port, want.Name)
	}
}

// waitsFor is the anchor that must have another member before the port may
// leave its old master: the one port that carries now, where old and new master
// stand under the same anchor and another port carries meanwhile.
func (p *planner) waitsFor(port string, to Device) string {
	from, anchor := p.is[port].Master, to.Master
	if needsFreePorts(to.Team) || from == "" || anchor == "" || p.is[from].Master != anchor || p.want[from].Master == anchor {
		return ""
	}
	carrying := p.carrying(from, to.Name)
	if carrying != port {
		return ""
	}
	return anchor
}

// carrying is the port of from that leaves last, on its way to to: the active
// one; "" where it has but one, or no other has carrier.
func (p *planner) carrying(from, to string) string {
	last, others := p.is[from].Active, 0
	for _, port := range p.want.ports(to) {
		was := p.is[port]
		if !was.Carrier || was.Master != from && was.Master != "" && was.Master != to {
			continue
		}
		if last == "" {
			last = port
		}
		if port != last {
			others++
		}
	}
	if others == 0 {
		return ""
	}
	return last
}

func (p *planner) join(port, master string) {
	if p.is[port].Master != "" {
		p.release(port)
	}
	kind := p.is[master].Kind
	if p.is[port].Up && kind != kindBridge {
		// bond_enslave and team_port_add refuse a device that is up.
		p.do(Step{Verb: verbDown, Device: port})
	}
	s := Step{Verb: verbEnslave, Device: port, Master: master, Kind: kind}
	if kind == kindTeam {
		s.Team = &teaming.Config{Ports: []teaming.Port{teamPort(p.want[master].Team, port)}}
	}
	p.do(s)
}

func (p *planner) release(port string) {
	master := p.is[port].Master
	p.do(Step{Verb: verbRelease, Device: port, Master: master, Kind: p.is[master].Kind})
}

func (p *planner) portOptions(want Device) {
	for _, port := range p.want.ports(want.Name) {
		if want.Kind == kindTeam || p.is[port].Master != want.Name {
			continue
		}
		options := changed(p.is[port].PortOptions, p.want[port].PortOptions)
		if len(options) > 0 {
			p.do(Step{Verb: verbPort, Device: port, Master: want.Name, Kind: want.Kind, Options: options})
		}
	}
	late := part(changed(p.is[want.Name].Options, want.Options), func(o string) bool {
		return late(o) && (want.Options[o] == "" || p.is[want.Options[o]].Master == want.Name)
	})
	if len(late) > 0 {
		p.do(Step{Verb: verbOptions, Device: want.Name, Kind: want.Kind, Options: late})
	}
}

func (p *planner) up(want Device) {
	if is := p.is[want.Name]; want.Up && !is.Up && (want.Master == "" || is.Master == want.Master) {
		p.do(Step{Verb: verbUp, Device: want.Name})
	}
}

// handOver lets the ports go that are wanted no more, and moves those that had
// to wait for it.
func (p *planner) handOver(want Device) {
	if want.Kind == kindNIC || want.Kind == kindVLAN {
		return
	}
	var leave []string
	for _, port := range p.is.ports(want.Name) {
		if p.want[port].Master != want.Name {
			leave = append(leave, port)
		}
	}
	if len(leave) > 0 {
		p.await(want.Name)
	}
	for _, port := range leave {
		p.release(port)
	}
	for _, j := range p.late[want.Name] {
		p.join(j.port, j.master)
		p.portOptions(p.want[j.master])
	}
}

// await waits until a port that was just put in can carry, where the ones that
// leave carry now.
func (p *planner) await(master string) {
	carries := slices.ContainsFunc(p.is.ports(master), func(port string) bool {
		return p.want[port].Master != master && p.is[port].Carrier
	})
	for _, port := range p.is.ports(master) {
		if carries && p.want[port].Master == master && p.fresh(port, master) && p.carriesBelow(port) {
			p.do(Step{Verb: verbAwait, Device: port, Master: master, Kind: p.is[master].Kind})
			return
		}
	}
}

// fresh says that the port was put in by a step of this plan.
func (p *planner) fresh(port, master string) bool {
	return slices.ContainsFunc(p.steps, func(s Step) bool {
		return s.Verb == verbEnslave && s.Device == port && s.Master == master
	})
}

// carriesBelow says that a device at the bottom of it has carrier.
func (p *planner) carriesBelow(name string) bool {
	ports := p.is.ports(name)
	if len(ports) == 0 {
		return p.is[name].Carrier
	}
	return slices.ContainsFunc(ports, p.carriesBelow)
}

// retire removes what is to go, from the top down.
func (p *planner) retire() {
	order := p.is.order()
	slices.Reverse(order)
	for _, name := range order {
		if d, known := p.want[name]; known && d.Absent && p.is.there(name) {
			p.remove(name)
		}
	}
	for _, name := range p.want.order() {
		if is := p.is[name]; p.is.there(name) && is.Master != "" && p.want[name].Master == "" && p.want.there(name) && !p.is[is.Master].Foreign {
			p.release(name)
		}
	}
}

// remove deletes a device: first what stands on it and is declared, then its
// ports are let go.
func (p *planner) remove(name string) {
	for _, over := range p.is.names() {
		if d := p.is[over]; d.Lower == name && d.Kind == kindVLAN && p.is.there(over) {
			p.remove(over)
		}
	}
	if p.is[name].Master != "" {
		p.release(name)
	}
	if p.is[name].Kind != kindVLAN {
		for _, port := range p.is.ports(name) {
			p.release(port)
		}
	}
	p.do(Step{Verb: verbDelete, Device: name, Kind: p.is[name].Kind})
}

// finish gives devices that are nobody's port (any more) their MAC, MTU, state
// and addresses.
func (p *planner) finish(name string) {
	want := p.want[name]
	if want.Absent || want.Foreign || !p.is.there(name) {
		return
	}
	p.size(want)
	p.up(want)
	if !want.Up && p.is[name].Up {
		p.do(Step{Verb: verbDown, Device: name})
	}
	p.addresses(want)
	p.surplus(want)
}

// addresses gives a device what it lacks, taken away first where another one
// has it.
func (p *planner) addresses(want Device) {
	if p.is[want.Name].Master != want.Master {
		return // it is on its way
	}
	for _, a := range want.Addrs {
		if a.Dynamic || slices.Contains(p.is[want.Name].Addrs, a) {
			continue
		}
		for _, other := range p.is.names() {
			if slices.Contains(p.is[other].Addrs, a) && !slices.Contains(p.want[other].Addrs, a) {
				p.do(Step{Verb: verbAddrDel, Device: other, Addr: &a})
			}
		}
		p.do(Step{Verb: verbAddrAdd, Device: want.Name, Addr: &a})
	}
	for _, r := range want.Routes {
		if r.Dynamic || slices.Contains(p.is[want.Name].Routes, r) || !p.is[want.Name].Up {
			continue
		}
		p.do(Step{Verb: verbRouteAdd, Device: want.Name, Route: &r})
	}
}

// surplus takes away what a device is not to have.
func (p *planner) surplus(want Device) {
	for _, r := range p.is[want.Name].Routes {
		if !r.Dynamic && !slices.Contains(want.Routes, r) {
			p.do(Step{Verb: verbRouteDel, Device: want.Name, Route: &r})
		}
	}
	for _, a := range p.is[want.Name].Addrs {
		if !a.Dynamic && !slices.Contains(want.Addrs, a) {
			p.do(Step{Verb: verbAddrDel, Device: want.Name, Addr: &a})
		}
	}
}
