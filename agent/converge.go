package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/queuefd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/tapdev"
)

// errWaiting marks a converge that an event will take up again: trying again
// before it would find the same.
var errWaiting = errors.New("waiting")

// converge brings a record with a decision to the phase attached: the device
// made and down, the queues handed over, the link up, all written down. It is
// safe to repeat from any point. The record it returns tells how far it came.
func (a *Agent) converge(ctx context.Context, r record, vm hypervisor.VM) (record, error) {
	r, dev, err := a.device(ctx, r)
	if err != nil {
		return r, err
	}
	r, err = a.handover(ctx, r, dev, vm)
	if errors.Is(err, errMoved) { // its queues can be opened no more
		return a.anew(ctx, r, dev, vm)
	}
	if err != nil {
		return r, err
	}
	if r, err = a.finish(ctx, r, dev); err != nil {
		return r, err
	}
	if r, err = a.keep(ctx, r, vm); err != nil {
		return r, err
	}
	a.awaitCPUs(r, vm)
	a.awaitFilter(ctx, r, vm)
	a.listen(ctx, r)
	return r, nil
}

// device makes the record's device or finds it; it stays down until its queues
// are held by the VM, because the host's own stack would see the VM's frames
// before (net/core/dev.c delivers to the device when no queue takes them).
func (a *Agent) device(ctx context.Context, r record) (record, tapdev.Device, error) {
	lower, err := a.uplink(ctx, r)
	if err != nil {
		return r, tapdev.Device{}, err
	}
	if r, err = a.saveMAC(r, lower); err != nil {
		return r, tapdev.Device{}, err
	}
	lower, err = a.onVLAN(ctx, lower, r.vlanDevice())
	if err != nil {
		return r, tapdev.Device{}, err
	}
	spec, err := r.spec(lower)
	if err != nil {
		return r, tapdev.Device{}, err
	}
	if r.Moved {
		there, dev, err := a.moved(ctx, r, lower)
		if err != nil || there.Moved {
			return there, dev, err
		}
		r = there
	}
	dev, err := a.ensure(ctx, r, spec)
	if err != nil {
		return r, tapdev.Device{}, err
	}
	r.take(dev)
	a.store.note(r)
	return r, dev, a.o.FP.Hit(failpoint.ConvergeDevice)
}

// ensure makes the device, or verifies the one that is there.
func (a *Agent) ensure(ctx context.Context, r record, spec tapdev.Spec) (dev tapdev.Device, err error) {
	if spec.Peer, err = a.farEnd(ctx, r); err != nil {
		return dev, err
	}
	if spec.Peer != nil {
		defer spec.Peer.Close()
	}
	if r.Rdev != 0 { // before a new device gets the number of the one that has gone
		if err := a.dropDead(ctx, r); err != nil {
			return dev, err
		}
	}
	return a.o.Devices.Ensure(ctx, spec)
}

// dropDead removes what a device that others deleted has left in /dev.
func (a *Agent) dropDead(ctx context.Context, r record) error {
	_, err := a.dev(ctx, r)
	if errors.Is(err, vmnetd.ErrNotFound) {
		return a.o.Devices.Remove(ctx, r.gone())
	}
	return nil // Ensure says what else is wrong
}

// uplink finds the record's uplink on this host.
func (a *Agent) uplink(ctx context.Context, r record) (rtnl.Link, error) {
	spec, ok := a.specOf(r.Uplink)
	if !ok {
		return rtnl.Link{}, vmnetd.Errorf(vmnetd.ErrBusy, "uplink %s is not in the configuration any more: %w", r.Uplink, errWaiting).
			WithNext("declare it again and run vmnetd reload, or vmnetd detach " + r.VM + " --id " + r.ID)
	}
	link, err := a.o.Uplinks.Link(ctx, spec)
	if errors.Is(err, vmnetd.ErrNotFound) {
		return link, vmnetd.Errorf(vmnetd.ErrBusy, "uplink %s is not there: %w for it to come back", r.Uplink, errWaiting)
	}
	return link, err
}

// saveMAC writes the uplink's own MAC down before a mode that takes the uplink
// for itself changes it (drivers/net/macvlan.c: in passthru the lower device
// takes the MAC of the upper one).
func (a *Agent) saveMAC(r record, lower rtnl.Link) (record, error) {
	if !r.Mode.Info().Exclusive || r.LowerMAC != "" && r.Lower == lower.Index {
		return r, nil
	}
	own := lower.MAC
	if r.Handed != 0 && r.Lower == lower.Index && own.String() == r.MAC {
		own = lower.PermMAC // adopted: the uplink has taken the guest's MAC already
	}
	r.Lower, r.LowerMAC = lower.Index, own.String()
	if err := a.store.put(r); err != nil {
		return r, err
	}
	return r, a.o.FP.Hit(failpoint.ConvergeMAC)
}

// handover gives the VM the device's queues. A NIC that is plugged with the
// queues of an earlier device is unplugged first: QEMU cannot swap a NIC's
// backend, and a tap fd whose device has gone never works again.
func (a *Agent) handover(ctx context.Context, r record, dev tapdev.Device, vm hypervisor.VM) (record, error) {
	if r.Handed != 0 && r.Handed != dev.Ifindex {
		var err error
		if r, err = a.placed(ctx, r, vm); err != nil {
			return r, err
		}
		if err := a.unplugOld(ctx, r, vm); err != nil {
			return r, err
		}
	}
	place, err := a.plug(ctx, &r, dev, vm)
	if err == nil && place.Already && r.Handed != dev.Ifindex {
		place, err = a.replug(ctx, &r, dev, vm, place)
	}
	if err != nil {
		return r, err
	}
	switch {
	case r.byName():
		r.VHost, r.VHostReason = a.vhostByName(place)
	case r.endpoint():
		r.VHostReason = ""
	}
	return a.handed(r, dev, vm, place), nil
}

// handed notes who has the queues, and where the NIC is.
func (a *Agent) handed(r record, dev tapdev.Device, vm hypervisor.VM, place hypervisor.Place) record {
	r.Halted, r.Persistent = halts(vm), vm.Persistent
	r.Handed, r.Instance, r.Via = dev.Ifindex, vm.Instance, vm.Via
	r.Bus, r.Addr = cmp.Or(place.Bus, r.Bus), cmp.Or(place.Addr, r.Addr)
	r.Owner = nil
	if owner, err := a.ownerOf(vm.PID); err == nil && vm.PID != 0 {
		r.Owner = &owner
	}
	return r
}

// placed is a record that knows where its NIC is: libvirt chooses a place and has
// to be asked.
func (a *Agent) placed(ctx context.Context, r record, vm hypervisor.VM) (record, error) {
	if r.Addr != "" {
		return r, nil
	}
	place, ok, err := a.o.Hypervisor.Plugged(ctx, vm, r.nic())
	if err == nil && ok {
		r.Bus, r.Addr = place.Bus, place.Addr
	}
	return r, err
}

// vhostByName: libvirtd opens vhost-net by itself, where the host has it.
func (a *Agent) vhostByName(place hypervisor.Place) (ok bool, reason string) {
	ok, reason = a.o.Devices.VHost()
	if ok && place.NoVHost != "" {
		return false, place.NoVHost
	}
	return ok, reason
}

func (a *Agent) plug(ctx context.Context, r *record, dev tapdev.Device, vm hypervisor.VM) (hypervisor.Place, error) {
	nic := r.nic()
	nic.Open = func(ctx context.Context) (*queuefd.Set, error) {
		if r.Moved {
			return nil, errMoved
		}
		set, err := a.o.Devices.Open(ctx, dev)
		if err == nil {
			r.VHost, r.VHostReason = len(set.VHost) > 0, set.VHostReason
		}
		return set, err
	}
	return a.o.Hypervisor.Plug(ctx, vm, nic)
}

// replug looks at a NIC that was plugged by a call of which nothing is known:
// it may hold this device's queues, or those of one that has gone.
func (a *Agent) replug(ctx context.Context, r *record, dev tapdev.Device, vm hypervisor.VM, place hypervisor.Place) (hypervisor.Place, error) {
	pids, complete, err := a.o.Devices.Holders(ctx, dev)
	if err != nil {
		return place, err
	}
	if len(pids) > 0 || !complete {
		return place, nil
	}
	r.Bus, r.Addr = place.Bus, place.Addr
	if err := a.unplugOld(ctx, *r, vm); err != nil {
		return place, err
	}
	return a.plug(ctx, r, dev, vm)
}

func (a *Agent) unplugOld(ctx context.Context, r record, vm hypervisor.VM) error {
	if err := a.cutOff(ctx, r, vm); err != nil {
		return err
	}
	err := a.o.Hypervisor.Unplug(ctx, vm, r.nic())
	if errors.Is(err, hypervisor.ErrEjecting) {
		return vmnetd.Errorf(vmnetd.ErrBusy, "the guest has not let go of the NIC whose device has gone: %w", err)
	}
	return err
}

// linkUp lets traffic flow, last of all, and writes down that it does. While the
// VM's CPUs do not run its link stays down.
func (a *Agent) linkUp(ctx context.Context, r record, dev tapdev.Device) (record, error) {
	if err := a.o.FP.Hit(failpoint.ConvergeUp); err != nil {
		return r, err
	}
	told := a.promiscuity(ctx, r)
	if err := a.setUp(ctx, r, dev, !r.Halted); err != nil {
		return r, err
	}
	r = a.lookForPromisc(ctx, r, told)
	if err := a.o.FP.Hit(failpoint.ConvergeStored); err != nil {
		return r, err
	}
	was := r.Phase
	r.Phase, r.Problem, r.Prepared = vmnetd.Attached, a.narrow(r), time.Time{}
	if err := a.store.put(r); err != nil {
		return r, fmt.Errorf("cannot write down that %s is attached: %w", r.FullName(), err)
	}
	a.retries.done(r.key())
	a.linkGuestsChanged(r)
	if was != vmnetd.Attached {
		a.announceOne(r, "attached")
		a.event(vmnetd.Event{Event: "attached", VM: r.VM, ID: r.ID, Uplink: r.Uplink, Text: fmt.Sprintf("%s on %s as %s, MAC %s", r.Device(), cmp.Or(r.Uplink, "an uplink that is not declared"), r.Ifname, r.MAC)})
	}
	a.changed(r)
	return r, nil
}

// repair converges a record that stands already; a failure keeps the intent and
// says what is wrong.
func (a *Agent) repair(ctx context.Context, r record, vm hypervisor.VM) (record, error) {
	if r.byFD() {
		a.lookAtOwner(ctx, r)
		return a.fresh(r), nil
	}
	next, err := a.converge(ctx, r, vm)
	if err == nil {
		return next, nil
	}
	return next, a.troubled(ctx, next, vm, err)
}

// fresh is the record as the store has it now.
func (a *Agent) fresh(r record) record {
	if now, ok := a.store.get(r.key()); ok {
		return now
	}
	return r
}

// troubled notes what is wrong with a record and when to look again.
func (a *Agent) troubled(ctx context.Context, r record, vm hypervisor.VM, err error) error {
	if errors.Is(err, errOvertaken) {
		return err
	}
	was := r.Problem
	if r.Phase == vmnetd.Attached || r.Handed != 0 {
		r.Phase = vmnetd.Broken
	}
	r.Problem = err.Error()
	if werr := a.store.put(r); werr != nil {
		a.o.Log.Error("state file", "vm", r.VM, "id", r.ID, "err", werr)
	}
	if was != r.Problem {
		a.deviceGone(ctx, r, vm)
		a.event(vmnetd.Event{Event: string(r.Phase), VM: r.VM, ID: r.ID, Uplink: r.Uplink, Text: r.Problem})
		a.changed(r)
	}
	if !errors.Is(err, errWaiting) {
		a.lookLater(r.key())
	}
	return err
}

// deviceGone takes the NIC's backend away while its device is gone.
func (a *Agent) deviceGone(ctx context.Context, r record, vm hypervisor.VM) {
	if r.Phase != vmnetd.Broken || vm.Via == "" {
		return
	}
	if _, err := a.dev(ctx, r); !errors.Is(err, vmnetd.ErrNotFound) {
		return
	}
	if err := a.cutOff(ctx, r, vm); err != nil {
		a.o.Log.Warn("cannot take the guest's link down", "vm", r.VM, "id", r.ID, "err", err)
	}
}

// cutOff is for a NIC that may never have been plugged, too.
func (a *Agent) cutOff(ctx context.Context, r record, vm hypervisor.VM) error {
	err := a.o.Hypervisor.CutOff(ctx, vm, r.nic())
	if errors.Is(err, vmnetd.ErrNotFound) {
		return nil
	}
	return err
}
