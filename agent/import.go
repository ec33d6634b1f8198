package agent

import (
	"cmp"
	"context"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor"
	"github.com/vmnetd/vmnetd/hypervisor/domxml"
)

// Import implements API.
func (a *Agent) Import(ctx context.Context, _ Caller, vm string, o vmnetd.ImportOptions) (vmnetd.Import, error) {
	if err := vmnetd.CheckVMName(vm); err != nil {
		return vmnetd.Import{}, err
	}
	return inTurn(ctx, a, vm, func(ctx context.Context) (vmnetd.Import, error) {
		return a.importVM(ctx, vm, o)
	}, func() (vmnetd.Import, error) {
		return vmnetd.Import{}, vmnetd.Errorf(vmnetd.ErrBusy, "earlier work on VM %s is not finished", vm).WithNext("try again")
	})
}

func (a *Agent) importVM(ctx context.Context, vm string, o vmnetd.ImportOptions) (vmnetd.Import, error) {
	def, err := a.o.Hypervisor.Definition(ctx, vm)
	if err != nil {
		return vmnetd.Import{}, err
	}
	if def.XML == "" {
		return vmnetd.Import{}, vmnetd.Errorf(vmnetd.ErrBusy, "VM %s is transient: libvirt keeps no definition of it", vm).WithNext("virsh define it first")
	}
	if o.Apply && def.Running {
		return vmnetd.Import{}, vmnetd.Errorf(vmnetd.ErrBusy, "VM %s runs: its NICs cannot be exchanged under it", vm).
			WithNext("virsh shutdown " + vm + ", then again")
	}
	xml, changes, err := a.rewrite(ctx, def, o)
	if err != nil {
		return vmnetd.Import{}, err
	}
	done := vmnetd.Import{VM: vm, Changes: []vmnetd.ImportChange{}}
	for _, c := range changes {
		done.Changes = append(done.Changes, a.importChange(c, o.Revert))
	}
	if !o.Apply || xml == def.XML {
		return done, nil
	}
	if err := a.o.Hypervisor.Redefine(ctx, def, xml); err != nil {
		return vmnetd.Import{}, err
	}
	done.Applied = true
	a.event(vmnetd.Event{Event: "imported", VM: vm, Text: "its definition was changed; virsh dumpxml " + vm + " shows it"})
	return done, nil
}

func (a *Agent) rewrite(ctx context.Context, def hypervisor.Definition, o vmnetd.ImportOptions) (string, []domxml.Changed, error) {
	if o.Revert {
		return domxml.Revert(def.XML)
	}
	taken := ids(nicsOf(def))
	return domxml.Import(def.XML, func(i domxml.Interface) (domxml.Element, error) {
		r, err := a.counterpart(ctx, def, i, taken)
		if err != nil {
			return domxml.Element{}, err
		}
		taken = append(taken, r.ID)
		e := r.element()
		e.Queues, e.MTU, e.Addr, e.LinkDown = i.Queues, i.MTU, i.Addr, i.LinkDown
		return e, nil
	})
}

// counterpart is the NIC of ours that an interface of libvirt's becomes.
func (a *Agent) counterpart(ctx context.Context, def hypervisor.Definition, i domxml.Interface, taken []string) (record, error) {
	device := cmp.Or(i.Source.Dev, i.Source.Bridge)
	req := vmnetd.Request{VM: def.Name, MAC: i.MAC, Queues: i.Queues, Uplink: a.uplinkNamed(device)}
	if req.Uplink == "" && i.Source.Dev != "" {
		return record{}, vmnetd.Errorf(vmnetd.ErrNotFound, "its device %s is no uplink of this host's configuration", device)
	}
	modes, err := modesOf(i, req.Uplink)
	if err != nil {
		return record{}, err
	}
	var first error
	for _, req.Mode = range modes {
		d, err := a.decide(ctx, req, vmOf(def), taken...)
		if err == nil {
			return a.fromDecision(d, req, vmOf(def)), nil
		}
		first = cmp.Or(first, err)
	}
	return record{}, first
}

// modesOf is the modes that carry frames as an interface's does, the nearest first:
// a port of a bridge stays one where that bridge is an uplink. libvirt's own default
// for direct is vepa (formatdomain, "Direct attachment to physical interface").
func modesOf(i domxml.Interface, uplink string) ([]vmnetd.Mode, error) {
	switch {
	case i.Type != "direct" && uplink != "":
		return []vmnetd.Mode{vmnetd.Switched, vmnetd.Bridge}, nil
	case i.Type != "direct":
		return []vmnetd.Mode{vmnetd.Bridge}, nil
	}
	mode, err := vmnetd.ParseMode(cmp.Or(i.Source.Mode, string(vmnetd.VEPA)))
	return []vmnetd.Mode{mode}, err
}

// uplinkNamed is the uplink that a device is, by its name.
func (a *Agent) uplinkNamed(device string) string {
	for _, u := range a.Uplinks() {
		if device != "" && cmp.Or(u.Ifname, u.Name) == device {
			return u.Name
		}
	}
	return ""
}

func (a *Agent) importChange(c domxml.Changed, back bool) vmnetd.ImportChange {
	was := describe(c.Was)
	now := vmnetd.Mode(c.Now.Mode).WithKind()
	change := vmnetd.ImportChange{MAC: c.Was.MAC, Addr: c.Was.Addr, ID: c.Now.ID, From: was, To: now, Network: c.Now.Network, Problem: c.Problem}
	switch {
	case c.Problem != "":
		change.To = was
	case back:
		change.From, change.To = now, was
	}
	return change
}

func describe(i domxml.Interface) string {
	kind := strings.TrimSpace(i.Type + " " + i.Source.Mode)
	return kind + " on " + cmp.Or(i.Source.Dev, i.Source.Bridge, i.Source.Network, "nothing")
}
