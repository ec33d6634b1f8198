package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor"
	"github.com/vmnetd/vmnetd/hypervisor/domxml"
	"github.com/vmnetd/vmnetd/policy"
)

// What is kept of a VM's NICs beyond this run: in its definition where libvirt
// has one, otherwise in a file of ours.

// liveOnly says that a NIC is gone at the VM's next start.
func (a *Agent) liveOnly(r record) string {
	if !r.Persistent || r.Defined || r.Request.Handover == handoverFD {
		return ""
	}
	if _, listed := a.wants(r.key()); listed {
		return ""
	}
	return "live only: gone at the next start, add --config"
}

// keep writes a NIC down for the VM's next start, where that was asked for.
func (a *Agent) keep(ctx context.Context, r record, vm hypervisor.VM) (record, error) {
	if !r.Request.Config || r.Defined {
		return r, nil
	}
	r, err := a.placed(ctx, r, vm) // the same at the next start
	if err != nil {
		return r, err
	}
	if _, err := a.define(ctx, r); err != nil {
		return r, err
	}
	r.Defined = true
	if err := a.store.put(r); err != nil {
		return r, fmt.Errorf("cannot write down that %s is kept: %w", r.FullName(), err)
	}
	return r, nil
}

func (a *Agent) define(ctx context.Context, r record) (changed bool, err error) {
	if r.byName() {
		if err := hypervisor.CheckNamedPlace(r.Request.Bus, r.Request.Addr); err != nil {
			return false, err
		}
	}
	if r.Via == viaLibvirt {
		return a.o.Hypervisor.Define(ctx, r.VM, r.element())
	}
	if at, listed := a.listed(r.VM); listed {
		return false, vmnetd.Errorf(vmnetd.ErrBusy, "the NICs of VM %s are listed in %s, which vmnetd never writes", r.VM, at).
			WithNext(fmt.Sprintf("add there under nics:  - {id: %s, network: %s}", r.ID, r.Network))
	}
	defer a.loadKept()
	return a.o.Config.Keep(keptRequest(r))
}

// keptRequest is what asks for the same NIC again.
func keptRequest(r record) vmnetd.Request {
	return vmnetd.Request{VM: r.VM, ID: r.ID, Network: r.Network, Uplink: r.Request.Uplink, Mode: r.Mode, MAC: r.MAC, Queues: r.Request.Queues, IPs: r.Request.IPs, Bus: r.Request.Bus, Addr: r.Request.Addr}
}

// element is the interface that gives the VM this NIC at its next start.
func (r record) element() domxml.Element {
	return domxml.Element{
		NIC:    domxml.NIC{MAC: r.MAC, ID: r.ID, Network: r.Network, Mode: string(r.Mode), IPs: r.givenIPs()},
		Target: r.Ifname, Queues: r.Queues, MTU: r.MTU, Addr: r.Addr,
	}
}

// unkeep takes a NIC out of what is kept, where that was asked for.
func (a *Agent) unkeep(ctx context.Context, r record) error {
	if !r.Undefine {
		return nil
	}
	_, err := a.undefine(ctx, r)
	if errors.Is(err, vmnetd.ErrNotFound) { // the definition has gone with it
		return nil
	}
	return err
}

func (a *Agent) undefine(ctx context.Context, r record) (changed bool, err error) {
	if r.Via == viaLibvirt {
		return a.o.Hypervisor.Undefine(ctx, r.VM, r.nic())
	}
	if at, ok := a.wants(r.key()); ok && !a.isKept(r.key()) {
		return false, vmnetd.Errorf(vmnetd.ErrBusy, "%s is listed in %s, which vmnetd never writes", r.FullName(), at).
			WithNext("take it out there and run  vmnetd reload")
	}
	defer a.loadKept()
	return a.o.Config.Unkeep(r.VM, r.ID)
}

// listed says where vms: of the operator's files has a VM.
func (a *Agent) listed(vm string) (at string, ok bool) {
	for _, w := range a.config().VMs {
		if w.Name == vm {
			return where(w.At), true
		}
	}
	return "", false
}

// wanted is the VMs with NICs that they must have: listed by the operator, or
// kept.
func (a *Agent) wanted() []WantedVM {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Concat(a.cfg.VMs, a.kept)
}

// loadKept reads what is kept; what cannot be read is told, and the rest counts.
func (a *Agent) loadKept() {
	kept, err := a.o.Config.Kept()
	if err != nil {
		a.o.Log.Error("what is kept of VMs", "err", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.kept, a.keptErr = kept, err
}

func (a *Agent) isKept(k key) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(a.kept, func(w WantedVM) bool {
		return w.Name == k.vm && slices.ContainsFunc(w.NICs, func(req vmnetd.Request) bool { return req.ID == k.id })
	})
}

// keptNIC is a NIC of a VM's next start.
type keptNIC struct {
	domxml.NIC
	ifname string
}

// keptNICs is what is kept of a VM.
func (a *Agent) keptNICs(ctx context.Context, vm hypervisor.VM) ([]keptNIC, error) {
	if vm.Via == viaLibvirt {
		def, err := a.o.Hypervisor.Definition(ctx, vm.Name)
		if err != nil {
			return nil, err
		}
		return nicsOf(def), nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []keptNIC
	for _, w := range a.kept {
		for _, req := range w.NICs {
			if w.Name == vm.Name {
				list = append(list, keptNIC{domxml.NIC{MAC: req.MAC, ID: req.ID, Network: req.Network, Mode: string(req.Mode), IPs: strings.Join(req.IPs, ",")}, vmnetd.Ifname(vm.Name, req.ID)})
			}
		}
	}
	return list, nil
}

// suits says that a NIC is what was decided, as far as it says itself.
func (n keptNIC) suits(d policy.Decision) bool {
	return (n.Network == "" || n.Network == d.Network) && (n.Mode == "" || n.Mode == string(d.Mode))
}

func nicsOf(def hypervisor.Definition) []keptNIC {
	var list []keptNIC
	for _, i := range def.Ours() {
		list = append(list, keptNIC{def.NICOf(i), i.Target})
	}
	return list
}

// toKeepBeside is what is kept of a VM where a request is to be kept as well: it
// must not take the place of another NIC.
func (a *Agent) toKeepBeside(ctx context.Context, req vmnetd.Request, vm hypervisor.VM) ([]keptNIC, error) {
	if !req.Config {
		return nil, nil
	}
	return a.keptNICs(ctx, vm)
}

// among says whether a NIC is kept already.
func among(kept []keptNIC, d policy.Decision) (bool, error) {
	for _, n := range kept {
		if n.ID != d.ID {
			continue
		}
		if !n.suits(d) {
			return true, vmnetd.Errorf(vmnetd.ErrBusy, "%s is kept for the next start with other properties: network %s, mode %s", n.ID, n.Network, n.Mode).
				WithNext("take another --id, or detach that one with --config first")
		}
		return true, nil
	}
	return false, nil
}

func ids(nics []keptNIC) []string {
	list := make([]string, len(nics))
	for i, n := range nics {
		list[i] = n.ID
	}
	return list
}

// attachNext gives a VM that does not run a NIC for its next start; cause is what
// is said of one that nothing is kept of.
func (a *Agent) attachNext(ctx context.Context, req vmnetd.Request, cause error) (vmnetd.Attachment, error) {
	def, err := a.o.Hypervisor.Definition(ctx, req.VM)
	switch {
	case err == nil && !def.Running:
		return a.attachDefined(ctx, req, vmOf(def))
	case errors.Is(err, vmnetd.ErrNotFound) && req.Config && req.Via != viaLibvirt:
		return a.attachDefined(ctx, req, hypervisor.VM{Name: req.VM, Via: "qmp"})
	}
	return vmnetd.Attachment{}, cause
}

// attachDefined writes a NIC down for a VM's next start and touches nothing else.
func (a *Agent) attachDefined(ctx context.Context, req vmnetd.Request, vm hypervisor.VM) (vmnetd.Attachment, error) {
	kept, err := a.keptNICs(ctx, vm)
	if err != nil {
		return vmnetd.Attachment{}, err
	}
	d, err := a.granted(ctx, req, vm, ids(kept)...)
	if err != nil {
		return vmnetd.Attachment{}, err
	}
	if same := sameKept(kept, req, d); same != "" {
		req.ID = same
		if d, err = a.granted(ctx, req, vm); err != nil {
			return vmnetd.Attachment{}, err
		}
	}
	r := a.fromDecision(d, req, vm)
	changed, err := a.define(ctx, r)
	if err != nil {
		return vmnetd.Attachment{}, err
	}
	att := r.Attachment
	att.Problem, att.VHostReason, att.Changed = vmnetd.NextStart, "", changed
	return att, nil
}

// sameKept is the id of the NIC that the same request without an id has made
// before, "" when none has.
func sameKept(kept []keptNIC, req vmnetd.Request, d policy.Decision) string {
	for _, n := range kept {
		if req.ID == "" && n.suits(d) && (req.MAC == "" || strings.EqualFold(req.MAC, n.MAC)) {
			return n.ID
		}
	}
	return ""
}

// detachNext takes NICs out of what is kept of a VM; records are those of them
// that are attached, which stay so, and cause is what is said when nothing is
// kept.
func (a *Agent) detachNext(ctx context.Context, vm string, sel Selector, cause error) ([]vmnetd.Attachment, error) {
	found := hypervisor.VM{Name: vm, Via: "qmp"}
	def, err := a.o.Hypervisor.Definition(ctx, vm)
	switch {
	case err == nil && def.Running && !sel.Config:
		return nil, cause
	case err == nil:
		found = vmOf(def)
	case !errors.Is(err, vmnetd.ErrNotFound):
		return nil, err
	}
	kept, err := a.keptNICs(ctx, found)
	if err != nil {
		return nil, err
	}
	kept = slices.DeleteFunc(kept, func(n keptNIC) bool { return !sel.takes(n.ID, n.MAC) })
	switch {
	case len(kept) == 0 && cause != nil:
		return nil, cause
	case len(kept) == 0:
		return nil, vmnetd.Errorf(vmnetd.ErrNotFound, "no such NIC is kept for the next start of VM %s", vm).WithNext("vmnetd list " + vm)
	case len(kept) > 1 && !sel.All:
		return nil, vmnetd.Errorf(vmnetd.ErrInvalid, "%d NICs are kept of VM %s: %s; nothing was detached", len(kept), vm, strings.Join(ids(kept), ", ")).
			WithNext("name one with --id or --mac, or use --all")
	}
	return a.unkeepAll(ctx, found, kept)
}

func (a *Agent) unkeepAll(ctx context.Context, vm hypervisor.VM, kept []keptNIC) ([]vmnetd.Attachment, error) {
	var done []vmnetd.Attachment
	for _, n := range kept {
		mode := vmnetd.Mode(n.Mode)
		r := record{Attachment: vmnetd.Attachment{
			VM: vm.Name, ID: n.ID, Network: n.Network, Mode: mode, Kind: mode.Info().Kind, MAC: n.MAC, Ifname: n.ifname, Via: vm.Via,
			Phase: vmnetd.Detaching, Link: "down", IPs: []string{}, Reasons: []string{"its next start goes without it; what is attached now stays"},
		}}
		changed, err := a.undefine(ctx, r)
		if err != nil {
			return done, err
		}
		if now, ok := a.store.get(r.key()); ok && now.Defined {
			now.Defined = false
			if err := a.store.put(now); err != nil {
				return done, err
			}
			a.changed(now)
		}
		r.Changed = changed
		done = append(done, r.Attachment)
	}
	return done, nil
}
