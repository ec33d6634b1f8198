package agent

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hostlink"
	"github.com/vmnetd/vmnetd/hypervisor"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/policy"
	"github.com/vmnetd/vmnetd/uplink"
)

// granted is what a caller's request is granted; a refusal is told.
func (a *Agent) granted(ctx context.Context, req vmnetd.Request, vm hypervisor.VM, taken ...string) (policy.Decision, error) {
	d, err := a.decide(ctx, req, vm, taken...)
	if err != nil {
		a.refused(req, err)
	}
	return d, err
}

// refused tells of a decision against a request.
func (a *Agent) refused(req vmnetd.Request, err error) {
	e := vmnetd.Event{Event: "refused", VM: req.VM, ID: req.ID, Uplink: req.Uplink, Text: err.Error()}
	if errors.Is(err, vmnetd.ErrDenied) {
		e.Event = "denied"
	}
	a.event(e)
}

// decide asks policy with the facts of this moment; taken are ids of NICs that
// only the VM's definition has.
func (a *Agent) decide(ctx context.Context, req vmnetd.Request, vm hypervisor.VM, taken ...string) (policy.Decision, error) {
	facts := a.facts(ctx, req, vm)
	facts.Taken = append(facts.Taken, taken...)
	cfg := a.config()
	return cfg.Policy.Decide(req, facts)
}

// Explain implements API.
func (a *Agent) Explain(ctx context.Context, who Caller, req vmnetd.Request, all bool) ([]policy.Explanation, error) {
	if err := a.check(who, req); err != nil {
		return nil, err
	}
	vm, found := a.lookUp(ctx, req)
	cfg := a.config()
	facts := a.facts(ctx, req, vm)
	facts.VM.Where = found
	if all {
		return cfg.Policy.ExplainAll(req, func(string) policy.Facts { return facts }), nil
	}
	return []policy.Explanation{cfg.Policy.Explain(req, facts)}, nil
}

// lookUp is a VM for explain, and how it was found.
func (a *Agent) lookUp(ctx context.Context, req vmnetd.Request) (vm hypervisor.VM, found string) {
	vm, err := a.o.Hypervisor.Ask(ctx, req.VM, req.Via)
	if err != nil {
		def, err := a.o.Hypervisor.Definition(ctx, req.VM)
		if err != nil {
			return hypervisor.VM{Name: req.VM}, "not found running"
		}
		return vmOf(def), "libvirt, shut off"
	}
	way, _, _ := strings.Cut(vm.Via, ":")
	if !vm.Running {
		return vm, way + ", paused"
	}
	return vm, way + ", running"
}

// vmOf is a VM as it will be at its next start.
func vmOf(def hypervisor.Definition) hypervisor.VM {
	return hypervisor.VM{Name: def.Name, UUID: def.UUID, Via: viaLibvirt, VCPUs: def.VCPUs, Persistent: def.XML != "", Labels: def.Labels}
}

func (a *Agent) facts(ctx context.Context, req vmnetd.Request, vm hypervisor.VM) policy.Facts {
	vhost, why := a.o.Devices.VHost()
	f := policy.Facts{
		Uplinks:     map[string]policy.Uplink{},
		VM:          policy.VM{Name: req.VM, UUID: vm.UUID, NIC: req.ID, VCPUs: vm.VCPUs, Running: vm.Running},
		VHost:       vhost,
		VHostReason: why,
		NameSeed:    a.o.Machine + "/" + req.VM,
	}
	f.MACSeed = cmp.Or(vm.UUID, f.NameSeed)
	if vm.Netns != "" {
		f.Netns = &policy.Netns{Path: vm.Netns, Trusted: vm.Trusted}
	}
	f.Held, f.HostLinks = a.store.heldIPs(), map[string]bool{}
	for _, l := range a.links.all() {
		f.HostLinks[l.Network] = true
		for _, p := range l.IPs {
			f.Held[p.Addr()] = append(f.Held[p.Addr()], policy.Holder{Owner: policy.HostLinkOwner + l.Network, Network: l.Network, Uplink: l.Uplink, VLAN: l.VLAN})
		}
	}
	f.Lacking = a.o.Devices.Lacking(ctx)
	if a.config().Trusted {
		f.VM.Labels = vm.Labels
	}
	for _, r := range a.store.of(req.VM) {
		if r.ID == req.ID {
			f.Own = r.Ifname
		} else {
			f.Taken = append(f.Taken, r.ID)
		}
	}
	for _, spec := range a.specs() {
		state, err := a.o.Uplinks.State(ctx, spec)
		if err != nil {
			a.o.Log.Error("uplink", "uplink", spec.Name, "err", err)
			continue
		}
		switch {
		case state.Present:
			f.Uplinks[spec.Name] = a.uplinkFacts(spec.Name, state)
		case a.neverApplied(spec):
			f.Uplinks[spec.Name] = policy.Uplink{NotApplied: true}
		}
	}
	return f
}

func (a *Agent) uplinkFacts(name string, s uplink.State) policy.Uplink {
	u := policy.Uplink{
		Present: true, Ifname: s.Link.Name, Carrier: s.Link.Carrier, Up: s.Link.Up, MTU: s.Link.MTU,
		MAC: s.Link.MAC.String(), Kind: s.Link.Kind, BondMode: s.BondMode, Path: a.o.Provisioner.Path(s.Link.Index).Text,
		Master: s.Master.Name, MasterBy: s.Master.Kind, Hosts: s.Hosts, VLANs: map[int]policy.Uplink{},
	}
	u.MaxMACs, u.NoHairpin, u.Wireless = s.Spec.MaxMACs, s.Spec.NoHairpin, s.Wireless
	u.PromiscAt, u.Filtering = a.filledAt(name), s.Filtering
	u.Ports = a.ports(name)
	onIt := map[int][]record{} // by VLAN: intents whose device is on its way, has not been cleaned up after, or lives elsewhere
	for _, r := range a.store.unseen() {
		if r.Uplink == name && r.Mode.Info().Family != vmnetd.FamilyBridge { // a port leaves the bridge's own rx handler alone
			onIt[r.vlanDevice()] = append(onIt[r.vlanDevice()], r)
		}
	}
	for _, v := range s.VLANs {
		u.VLANs[v.ID] = policy.Uplink{
			Ifname: v.Link.Name, MTU: v.Link.MTU, MAC: v.Link.MAC.String(), Kind: v.Link.Kind,
			Master: v.Master.Name, MasterBy: v.Master.Kind, Users: users(v.Users, onIt[v.ID]), Hosts: v.Hosts,
		}
		delete(onIt, v.ID)
	}
	u.Users = users(s.Users, onIt[0])
	delete(onIt, 0)
	for id, coming := range onIt { // its device is not there yet either
		u.VLANs[id] = policy.Uplink{MTU: u.MTU, MAC: u.MAC, Users: users(nil, coming)}
	}
	return u
}

// ports is the NICs on an uplink that is a bridge.
func (a *Agent) ports(uplink string) []policy.User {
	var list []policy.User
	a.store.each(uplink, func(r *record) {
		if r.Mode.Info().Family == vmnetd.FamilyBridge {
			list = append(list, policy.User{Ifname: r.Ifname, Kind: string(r.Kind), Family: vmnetd.FamilyBridge, Mode: r.Mode, MAC: r.MAC, Owner: r.FullName()})
		}
	})
	slices.SortFunc(list, func(a, b policy.User) int { return strings.Compare(a.Owner, b.Owner) })
	return list
}

// users is what stands on a device, and what is about to.
func users(there []rtnl.Link, coming []record) []policy.User {
	list := make([]policy.User, 0, len(there)+len(coming))
	yet := make(map[string]bool, len(coming))
	for _, r := range coming {
		yet[r.Ifname] = true
	}
	for _, l := range there {
		delete(yet, l.Name)
		if family := vmnetd.FamilyOf(l.Kind); family != "" {
			list = append(list, user(l, family))
		}
	}
	for _, r := range coming {
		if yet[r.Ifname] {
			list = append(list, policy.User{Ifname: r.Ifname, Kind: string(r.Kind), Family: r.Mode.Info().Family, Mode: r.Mode, Flag: r.Terms.Flag, MAC: r.MAC, Owner: r.FullName()})
		}
	}
	return list
}

func user(l rtnl.Link, family vmnetd.Family) policy.User {
	u := policy.User{Ifname: l.Name, Kind: l.Kind, Family: family, Mode: vmnetd.Mode(l.Mode), Flag: l.Flag, MAC: l.MAC.String()}
	if vm, id, ok := vmnetd.ParseAlias(l.Alias); ok {
		u.Owner = vmnetd.FullName(vm, id)
	} else if network, ok := hostlink.ParseAlias(l.Alias); ok {
		u.Owner = policy.HostLinkOwner + network
	}
	return u
}

// specOf is an uplink as declared now.
func (a *Agent) specOf(name string) (uplink.Spec, bool) {
	for _, spec := range a.specs() {
		if spec.Name == name {
			return spec, true
		}
	}
	return uplink.Spec{}, false
}
