package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor"
	"github.com/vmnetd/vmnetd/hypervisor/domxml"
)

// DomainHook implements API. It enters before whatever waits in the VM's line,
// and asks libvirt nothing: libvirtd answers nothing about a VM while the VM's
// hook runs.
func (a *Agent) DomainHook(ctx context.Context, who Caller, vm, op, sub, xml string) error {
	if who.UID != 0 { // whoever may say what a domain's XML is, may have any NIC
		return vmnetd.Errorf(vmnetd.ErrDenied, "only root speaks for libvirt's hook").WithNext("vmnetd attach " + vm)
	}
	if err := vmnetd.CheckVMName(vm); err != nil {
		return err
	}
	switch op + "/" + sub {
	case "prepare/begin":
		dom, err := domxml.Parse(xml)
		if err != nil {
			return err
		}
		if dom.Name != vm {
			return vmnetd.Errorf(vmnetd.ErrInvalid, "the hook was called for VM %s with the XML of %s", vmnetd.Printable(vm), vmnetd.Printable(dom.Name))
		}
		return a.inHook(vm, func() (bool, error) { return true, a.prepare(context.WithoutCancel(ctx), dom) })
	case "stopped/end", "release/end":
		return a.inHook(vm, func() (bool, error) { return a.stopped(context.WithoutCancel(ctx), vm) })
	}
	return nil
}

// inHook runs a hook's job, which says whether it changed the VM's records.
func (a *Agent) inHook(vm string, job func() (changed bool, err error)) (err error) {
	if !a.turns.hook(vm, func() (changed bool) { changed, err = job(); return changed }) {
		return vmnetd.Errorf(vmnetd.ErrFailed, "vmnetd is stopping").WithNext("try again when it has started")
	}
	return err
}

// prepare makes the devices that a domain about to start names, or none.
func (a *Agent) prepare(ctx context.Context, dom domxml.Domain) error {
	if _, err := a.stopped(ctx, dom.Name); err != nil { // what an end that nobody saw has left
		return err
	}
	made, err := a.prepareAll(ctx, dom)
	if err != nil {
		for _, r := range made {
			a.discard(ctx, r)
		}
		return err
	}
	for _, r := range made {
		a.retries.in(startPatience, r.key(), func() { a.lookAgain(r.VM) })
		a.changed(r)
	}
	return nil
}

// prepareAll makes the devices. They are only said to be prepared when all are
// there: of a start whose hook was not answered nothing is waited for.
func (a *Agent) prepareAll(ctx context.Context, dom domxml.Domain) (made []record, err error) {
	for _, i := range dom.Ours() {
		r, err := a.prepareOne(ctx, dom, i)
		if err != nil {
			return made, err
		}
		made = append(made, r)
	}
	for i := range made {
		made[i].Prepared = time.Now()
		if err := a.store.put(made[i]); err != nil {
			return made, err
		}
	}
	return made, nil
}

// startPatience is how long after the hook libvirtd may take to start a VM, or to
// say that it could not.
const startPatience = time.Minute

// prepareOne makes one device; nothing of it is left when it fails.
func (a *Agent) prepareOne(ctx context.Context, dom domxml.Domain, i domxml.Interface) (record, error) {
	if i.Managed {
		return record{}, vmnetd.Errorf(vmnetd.ErrInvalid, "libvirt would make the device %s of VM %s by itself, without policy and filter", vmnetd.Printable(i.Target), vmnetd.Printable(dom.Name)).
			WithNext(fmt.Sprintf("write  <target dev='%s' managed='no'/>  (virsh edit %s)", vmnetd.Printable(i.Target), vmnetd.Printable(dom.Name)))
	}
	nic := dom.NICOf(i)
	req := vmnetd.Request{VM: dom.Name, ID: nic.ID, Network: nic.Network, Mode: vmnetd.Mode(nic.Mode), MAC: i.MAC, IPs: splitIPs(nic.IPs), Queues: i.Queues}
	vm := hypervisor.VM{Name: dom.Name, UUID: dom.UUID, Via: viaLibvirt, VCPUs: dom.VCPUs, Labels: dom.Labels}
	r, err := a.writeDecided(func() (record, error) {
		d, err := a.granted(ctx, req, vm)
		if err != nil {
			return record{}, err
		}
		r := a.fromDecision(d, req, vm)
		r.Ifname, r.Halted, r.Defined = i.Target, true, true
		if i.MTU > d.MTU && d.MTU != 0 {
			return record{}, vmnetd.Errorf(vmnetd.ErrDenied, "%s asks for MTU %d, and network %s gives it %d", r.FullName(), i.MTU, r.Network, d.MTU).
				WithNext("write at most that in <mtu size=…>, or leave it out")
		}
		if i.MTU != 0 {
			r.MTU = i.MTU
		}
		return r, a.usedBy(r)
	})
	if err != nil {
		return record{}, err
	}
	if r, _, err = a.device(ctx, r); err != nil {
		a.discard(ctx, r)
		return record{}, err
	}
	return r, nil
}

// usedBy refuses a NIC that another VM of that name has.
func (a *Agent) usedBy(r record) error {
	if same, ok := a.store.get(r.key()); ok && same.decided() && same.Via != viaLibvirt {
		return vmnetd.Errorf(vmnetd.ErrBusy, "%s is there already, by %s: two VMs have one name", r.FullName(), same.Via).
			WithNext("rename one of them, or vmnetd detach " + r.VM + " --id " + r.ID)
	}
	return nil
}

// stopped removes what stands of a VM that does not run: libvirt says so, so
// nobody has to be asked.
func (a *Agent) stopped(ctx context.Context, vm string) (changed bool, err error) {
	for _, r := range a.store.of(vm) {
		if r.Via != viaLibvirt || !r.decided() {
			continue
		}
		if err := a.heldOn(ctx, r); err != nil {
			return changed, err
		}
		a.discard(ctx, r)
		changed = true
	}
	return changed, nil
}

// heldOn says that a VM that is said to have ended has not.
func (a *Agent) heldOn(ctx context.Context, r record) error {
	pids := a.holders(ctx, r)
	if len(pids) == 0 || pids[0] == unknownPID {
		return nil
	}
	return vmnetd.Errorf(vmnetd.ErrBusy, "process %d holds the queues of %s: VM %s has not ended", pids[0], r.FullName(), vmnetd.Printable(r.VM))
}

// discard removes a record's device and the record.
func (a *Agent) discard(ctx context.Context, r record) {
	r, dev, here, err := a.silence(ctx, r)
	if err == nil {
		err = a.clear(ctx, r, dev, here)
	}
	if err == nil {
		return
	}
	a.o.Log.Error("cannot remove what a VM has left, to be tried again", "vm", r.VM, "id", r.ID, "err", err)
	r.Phase, r.Problem = vmnetd.Detaching, err.Error()
	if err := a.store.put(r); err != nil {
		a.o.Log.Error("state file", "vm", r.VM, "id", r.ID, "err", err)
	}
	a.lookLater(r.key())
}

// find looks up the VM of a record. One that the hook has prepared for may be on
// its way: until libvirtd can have given up, that it does not run says nothing.
func (a *Agent) find(ctx context.Context, r record) (hypervisor.VM, error) {
	vm, err := a.o.Hypervisor.Find(ctx, r.VM, r.Via)
	if err == nil || r.Prepared.IsZero() || errors.Is(err, errOvertaken) {
		return vm, r.endOf(err)
	}
	if left := time.Until(r.Prepared.Add(startPatience)); left > 0 && left <= startPatience { // more: the clock was set back
		a.retries.in(left, r.key(), func() { a.lookAgain(r.VM) })
		return vm, errStarting
	}
	return a.o.Hypervisor.Ask(ctx, r.VM, r.Via)
}

var errStarting = vmnetd.Errorf(vmnetd.ErrBusy, "the VM is being started").WithNext("try again when it runs")

// startSeen sees a NIC that the hook has prepared in the VM that runs now: libvirtd
// opened its device by name before QEMU was started.
func (a *Agent) startSeen(ctx context.Context, r record, vm hypervisor.VM) {
	if !slices.Contains(vm.Ifnames, r.Ifname) {
		return
	}
	r.Handed, r.Instance = r.Ifindex, vm.Instance
	defined, err := a.isDefined(ctx, r, vm)
	if errors.Is(err, errOvertaken) {
		return
	}
	if r.Defined = defined || err != nil; err != nil {
		a.o.Log.Warn("whether a NIC is there at the next start is not known", "vm", r.VM, "id", r.ID, "err", err)
	}
	_, _ = a.repair(ctx, r, vm) // noted in the record
}

// isDefined says whether the VM's definition has a NIC. A VM that was restored, or
// moved here, may have brought one along that was attached live.
func (a *Agent) isDefined(ctx context.Context, r record, vm hypervisor.VM) (bool, error) {
	if !vm.Persistent {
		return true, nil
	}
	def, err := a.o.Hypervisor.Definition(ctx, vm.Name)
	return slices.ContainsFunc(def.Ours(), func(i domxml.Interface) bool { return i.Target == r.Ifname }), err
}

// takenOut says that somebody else has detached a NIC, by virsh for one.
func (a *Agent) takenOut(ctx context.Context, r record, vm hypervisor.VM) (bool, error) {
	if !r.byName() || r.Phase != vmnetd.Attached || vm.Ifnames == nil || slices.Contains(vm.Ifnames, r.Ifname) {
		return false, nil
	}
	_, plugged, err := a.o.Hypervisor.Plugged(ctx, vm, r.nic())
	if errors.Is(err, errOvertaken) {
		return false, err
	}
	return err == nil && !plugged, nil // what is not known now is told again
}
