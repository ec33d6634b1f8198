package agent

import (
	"cmp"
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/policy"
)

// Attach implements API.
func (a *Agent) Attach(ctx context.Context, who Caller, req vmnetd.Request) (vmnetd.Attachment, error) {
	if err := a.check(who, req); err != nil {
		return vmnetd.Attachment{}, err
	}
	return inTurn(ctx, a, req.VM, func(ctx context.Context) (vmnetd.Attachment, error) {
		return a.attach(ctx, req)
	}, func() (vmnetd.Attachment, error) { return a.underWay(req) })
}

// check refuses what no lookup is needed to refuse.
func (a *Agent) check(who Caller, req vmnetd.Request) error {
	if err := vmnetd.CheckVMName(req.VM); err != nil {
		return err
	}
	if req.ID != "" {
		if err := vmnetd.CheckID(req.ID); err != nil {
			return err
		}
	}
	if req.Via != "" && req.Via != viaLibvirt && req.Via != "qmp" && !strings.HasPrefix(req.Via, "qmp:/") && !strings.HasPrefix(req.Via, viaNetns+"/") {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "--via %q is none of libvirt, qmp, qmp:/path/of/SOCKET and netns:/path/of/NAMESPACE", req.Via)
	}
	if req.Handover == handoverFD && req.Config {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "a NIC that is handed over by fd cannot be kept in a definition").WithNext("leave --config or --handover fd out")
	}
	return a.o.Hypervisor.Allowed(who.UID, req.Via)
}

// inTurn runs job in the VM's turn and waits as long as ctx allows; after that
// the job goes on and late says how things stand.
func inTurn[T any](ctx context.Context, a *Agent, vm string, job func(context.Context) (T, error), late func() (T, error)) (T, error) {
	type outcome struct {
		v   T
		err error
	}
	done := make(chan outcome, 1)
	if !a.turns.do(vm, func(ctx context.Context) {
		v, err := job(ctx)
		done <- outcome{v, err}
	}) {
		var none T
		return none, vmnetd.Errorf(vmnetd.ErrFailed, "vmnetd is stopping").WithNext("try again when it has started")
	}
	select {
	case out := <-done:
		return out.v, out.err
	case <-ctx.Done():
		return late()
	}
}

// underWay is what can be said of an attachment whose call took too long; before
// anything was decided, that its turn has not come.
func (a *Agent) underWay(req vmnetd.Request) (vmnetd.Attachment, error) {
	if r, ok := a.asked(req); ok {
		return a.shown(r), nil
	}
	return vmnetd.Attachment{}, vmnetd.Errorf(vmnetd.ErrBusy, "earlier work on VM %s is not finished; what you asked for waits in line and goes on", req.VM).
		WithNext("vmnetd watch, and see what holds it up: vmnetd status")
}

func (a *Agent) attach(ctx context.Context, req vmnetd.Request) (vmnetd.Attachment, error) {
	vm, err := a.o.Hypervisor.Find(ctx, req.VM, req.Via)
	if errors.Is(err, vmnetd.ErrNotFound) && !req.Live && !strings.HasPrefix(req.Via, viaNetns) {
		return a.attachNext(ctx, req, err)
	}
	if err != nil {
		return vmnetd.Attachment{}, err
	}
	if err := suits(req, vm); err != nil {
		return vmnetd.Attachment{}, err
	}
	if err := a.o.FP.Hit(failpoint.AttachLookup); err != nil {
		return vmnetd.Attachment{}, err
	}
	a.forgetEarlierRun(ctx, vm)
	a.forgetEnded(ctx, req.VM)
	r, there, err := a.already(req)
	if err != nil {
		return vmnetd.Attachment{}, err
	}
	if there {
		return a.settled(ctx, r, vm, req)
	}
	if req.Config && !req.Live {
		return a.attachDefined(ctx, req, vm)
	}
	return a.attachNew(ctx, req, vm)
}

// attachNew makes an attachment, or nothing.
func (a *Agent) attachNew(ctx context.Context, req vmnetd.Request, vm hypervisor.VM) (vmnetd.Attachment, error) {
	kept, err := a.toKeepBeside(ctx, req, vm)
	if err != nil {
		return vmnetd.Attachment{}, err
	}
	r, err := a.intend(ctx, func() (record, error) {
		d, err := a.granted(ctx, req, vm, ids(kept)...)
		if err != nil {
			return record{}, err
		}
		r := a.fromDecision(d, req, vm)
		r.Defined, err = among(kept, d)
		return r, err
	})
	if err != nil {
		return vmnetd.Attachment{}, err
	}
	defined := r.Defined
	r, err = a.converge(ctx, r, vm)
	if err == nil {
		err = a.o.FP.Hit(failpoint.AttachReply)
	}
	if err != nil {
		r.Undefine = req.Config && !defined
		return vmnetd.Attachment{}, a.void(ctx, r, err)
	}
	return a.justChanged(r), nil
}

// justChanged is a record as it is answered to the call that changed it: the
// mirror of links may not have heard yet that its device is up.
func (a *Agent) justChanged(r record) vmnetd.Attachment {
	att := a.shown(r)
	att.Changed, att.Ifindex = true, r.Ifindex
	if lower, ok := a.o.Links.ByIndex(r.Lower); ok && att.Phase == vmnetd.Attached {
		att.Link = linkState(!r.Halted, lower.Carrier)
	}
	return att
}

// forgetEarlierRun removes what an earlier run of the VM has left, where its end
// was not looked at yet.
func (a *Agent) forgetEarlierRun(ctx context.Context, vm hypervisor.VM) {
	for _, r := range a.store.of(vm.Name) {
		if r.earlierRun(vm) || a.replaced(ctx, r) {
			a.vmGone(ctx, r)
		}
	}
}

// asked finds the record that a request asks for: the one of its id, or without
// an id the one that the same request made.
func (a *Agent) asked(req vmnetd.Request) (record, bool) {
	if req.ID != "" {
		return a.store.get(key{req.VM, req.ID})
	}
	for _, r := range a.store.of(req.VM) {
		if reflect.DeepEqual(unscoped(r.Request), unscoped(req)) && r.Phase != vmnetd.Detaching {
			return r, true
		}
	}
	return record{}, false
}

// already finds the attachment that a request asks for, where it has one.
func (a *Agent) already(req vmnetd.Request) (record, bool, error) {
	r, ok := a.asked(req)
	if !ok || !r.decided() {
		return record{}, false, nil
	}
	if req.ID == "" {
		return r, true, nil
	}
	if r.Phase == vmnetd.Detaching {
		return r, false, vmnetd.Errorf(vmnetd.ErrBusy, "%s is being detached: %s", r.FullName(), r.Problem).
			WithNext("wait for it (vmnetd watch), or take another --id")
	}
	if other := unlike(req, r); other != "" {
		return r, false, thereOtherwise(r, other)
	}
	return r, true, nil
}

// unscoped is what a request asks for, whatever its name and however long.
func unscoped(req vmnetd.Request) vmnetd.Request {
	req.ID, req.Live, req.Config = "", false, false
	return req
}

// suits refuses what cannot be done to a VM that runs as this one does.
func suits(req vmnetd.Request, vm hypervisor.VM) error {
	switch {
	case req.Handover == handoverFD && vm.Via != viaLibvirt:
		return vmnetd.Errorf(vmnetd.ErrInvalid, "--handover is about VMs that libvirt runs; queues reach VM %s by fd in any case", req.VM).WithNext("leave it out")
	case req.Incoming && !vm.Incoming:
		return vmnetd.Errorf(vmnetd.ErrBusy, "VM %s does not wait for a migration", req.VM).WithNext("leave --incoming out, or start its QEMU with -incoming")
	case req.Config && vm.Via == viaLibvirt && !vm.Persistent:
		return vmnetd.Errorf(vmnetd.ErrBusy, "VM %s is transient: libvirt keeps no definition of it", req.VM).WithNext("attach it with --live alone, or virsh define it first")
	}
	return nil
}

// settled answers a request for what is there already, repairing it first.
func (a *Agent) settled(ctx context.Context, r record, vm hypervisor.VM, req vmnetd.Request) (vmnetd.Attachment, error) {
	if err := a.elsewhere(ctx, r, vm, req); err != nil {
		return vmnetd.Attachment{}, err
	}
	if req.Config && !r.Defined {
		r.Request.Config = true
		r.Request.Bus, r.Request.Addr = cmp.Or(req.Bus, r.Request.Bus), cmp.Or(req.Addr, r.Request.Addr)
		var err error
		if r, err = a.keep(ctx, r, vm); err != nil {
			return vmnetd.Attachment{}, err
		}
		a.changed(r)
		return a.justChanged(r), nil
	}
	if r.Phase != vmnetd.Attached || !a.sound(ctx, r) {
		var err error
		if r, err = a.repair(ctx, r, vm); err != nil {
			return vmnetd.Attachment{}, err
		}
	}
	return a.shown(r), nil
}

// intend writes down what is decided; on an error nothing is.
func (a *Agent) intend(ctx context.Context, decide func() (record, error)) (record, error) {
	r, err := a.writeDecided(func() (record, error) {
		r, err := decide()
		if err == nil {
			err = a.o.FP.Hit(failpoint.AttachDecided)
		}
		return r, err
	})
	if err != nil {
		return record{}, err
	}
	a.store.release(r.key())
	if err := a.o.FP.Hit(failpoint.AttachStored); err != nil {
		return record{}, a.void(ctx, r, err)
	}
	a.changed(r)
	return r, nil
}

// writeDecided decides and stores the intent as one step: it counts in the next
// decision, whichever VM that is about. decide asks nobody outside this host's kernel.
func (a *Agent) writeDecided(decide func() (record, error)) (record, error) {
	a.deciding.Lock()
	defer a.deciding.Unlock()
	r, err := decide()
	if err == nil {
		err = a.nameTaken(r)
	}
	if err == nil {
		err = a.write(r)
	}
	if err != nil {
		return record{}, err
	}
	return r, nil
}

// nameTaken refuses a device's name that another attachment has: libvirt's
// definitions may name devices as they like.
func (a *Agent) nameTaken(r record) error {
	if other, ok := a.store.byIfname(r.Ifname); ok && other.key() != r.key() {
		return vmnetd.Errorf(vmnetd.ErrBusy, "the device %s of %s is %s's", r.Ifname, r.FullName(), other.FullName()).
			WithNext("write another <target dev=…>, beginning with " + vmnetd.IfnamePrefix + ", in the definition of the VM that libvirt runs")
	}
	return nil
}

// write stores an intent; when that fails the file is made not to have it.
func (a *Agent) write(r record) error {
	err := a.store.put(r)
	if err == nil {
		return nil
	}
	if again := a.store.drop(r.key()); again != nil {
		a.o.Log.Error("state file", "vm", r.VM, "id", r.ID, "err", again)
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "cannot write down what is wanted, so nothing was done: %w", err)
}

func (a *Agent) fromDecision(d policy.Decision, req vmnetd.Request, vm hypervisor.VM) record {
	r := record{
		Attachment: vmnetd.Attachment{
			ID: d.ID, VM: req.VM, Network: d.Network, Uplink: d.Uplink, Kind: d.Mode.KindIn(vm.Netns != ""), Mode: d.Mode,
			Ifname: vmnetd.Ifname(req.VM, d.ID), MAC: d.MAC, MTU: d.MTU, VLAN: d.VLAN, Queues: d.Queues,
			VHostReason: "not handed over yet", Name: d.Name, Via: vm.Via, Link: "down", Phase: vmnetd.Pending,
			Rule: where(d.RuleAt), Reasons: slices.Concat([]string{}, d.Reasons),
		},
		Request: req, UUID: vm.UUID, Instance: vm.Instance, Bus: req.Bus, Addr: req.Addr, Follow: d.Link == policy.LinkFollow, Change: d.MACChange == policy.ChangeAllow, Terms: termsOf(d),
	}
	r.showIPs()
	if req.Handover == handoverFD {
		r.Reasons = append(r.Reasons, "handed over by fd: "+vmnetd.PriceOfFD)
	}
	if d.Second {
		r.Note = "on " + d.Uplink + ", not on the network's first choice of uplink"
	}
	return r
}

// void takes back what the call that made the intent has done, and gives the
// error that it ends with.
func (a *Agent) void(ctx context.Context, r record, cause error) error {
	if errors.Is(cause, errOvertaken) { // the hook has seen to the rest
		return errors.Join(cause, a.unkeep(ctx, r))
	}
	r.Phase = vmnetd.Detaching
	r.Problem = "undoing an attach that failed: " + cause.Error()
	a.store.note(r)
	err := a.teardown(ctx, r)
	if errors.Is(err, errOvertaken) {
		return cause
	}
	if err != nil {
		a.o.Log.Error("undo of a failed attach, to be tried again", "vm", r.VM, "id", r.ID, "err", err)
		if err := a.store.put(r); err != nil { // a start in between must not complete it
			a.o.Log.Error("state file", "vm", r.VM, "id", r.ID, "err", err)
		}
		a.stuck(r, err)
	}
	a.event(vmnetd.Event{Event: "failed", VM: r.VM, ID: r.ID, Uplink: r.Uplink, Text: cause.Error()})
	return cause
}
