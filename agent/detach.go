package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/tapdev"
)

// Detach implements API.
func (a *Agent) Detach(ctx context.Context, _ Caller, vm string, sel Selector) ([]vmnetd.Attachment, error) {
	if err := vmnetd.CheckVMName(vm); err != nil {
		return nil, err
	}
	return inTurn(ctx, a, vm, func(ctx context.Context) ([]vmnetd.Attachment, error) {
		return a.detach(ctx, vm, sel)
	}, func() ([]vmnetd.Attachment, error) { return a.leaving(vm, sel) })
}

// leaving is what can be said of a detach that takes too long.
func (a *Agent) leaving(vm string, sel Selector) ([]vmnetd.Attachment, error) {
	records, err := a.selected(vm, sel)
	if errors.Is(err, vmnetd.ErrNotFound) {
		return nil, nil // it has just ended well
	}
	var list []vmnetd.Attachment
	for _, r := range records {
		list = append(list, a.shown(r))
	}
	return list, err
}

func (a *Agent) detach(ctx context.Context, vm string, sel Selector) ([]vmnetd.Attachment, error) {
	records, err := a.selected(vm, sel)
	if errors.Is(err, vmnetd.ErrNotFound) && !sel.Live || sel.Config && !sel.Live {
		return a.detachNext(ctx, vm, sel, err)
	}
	if err != nil {
		return nil, err
	}
	var done []vmnetd.Attachment
	for _, r := range records {
		r, there := a.store.get(r.key()) // as the one before has left it
		if !there {
			continue
		}
		r, err := a.letGo(ctx, r, sel.Config)
		if err != nil {
			return done, err
		}
		done = append(done, a.justChanged(r))
	}
	return done, nil
}

// selected finds what is to be detached; it never guesses among several.
func (a *Agent) selected(vm string, sel Selector) ([]record, error) {
	all := a.store.of(vm)
	var found []record
	for _, r := range all {
		if sel.takes(r.ID, r.MAC) {
			found = append(found, r)
		}
	}
	switch {
	case len(found) == 0:
		return nil, notThere(vm, sel, all)
	case len(found) > 1 && !sel.All:
		return nil, vmnetd.Errorf(vmnetd.ErrInvalid, "VM %s has %d NICs%s; nothing was detached", vm, len(found), listed(found)).
			WithNext("name one with --id or --mac, or use --all")
	}
	return found, nil
}

// takes says whether a NIC is meant; of several that none is named for, its caller
// takes none.
func (s Selector) takes(id, mac string) bool {
	switch {
	case s.ID != "":
		return s.ID == id
	case s.MAC != "":
		return strings.EqualFold(s.MAC, mac)
	}
	return true
}

func notThere(vm string, sel Selector, all []record) error {
	if len(all) == 0 {
		return vmnetd.Errorf(vmnetd.ErrNotFound, "VM %s has no NIC of ours", vm).WithNext("vmnetd list")
	}
	return vmnetd.Errorf(vmnetd.ErrNotFound, "VM %s has no NIC %s; it has%s", vm, cmp.Or(sel.ID, sel.MAC), strings.TrimPrefix(listed(all), ":")).
		WithNext("name one of these with --id")
}

func listed(records []record) string {
	var names []string
	for _, r := range records {
		names = append(names, fmt.Sprintf("%s (%s, %s)", r.ID, r.Network, r.MAC))
	}
	if len(names) == 0 {
		return ""
	}
	return ": " + strings.Join(names, ", ")
}

// letGo writes down that a NIC is no longer wanted and takes it down. Whatever
// stops it then, a guest that does not let go above all, leaves it detaching,
// with the reason as its problem, and is tried again until it is done.
func (a *Agent) letGo(ctx context.Context, r record, config bool) (record, error) {
	if !r.decided() {
		return a.renounce(ctx, r)
	}
	if !r.Prepared.IsZero() {
		return r, errStarting
	}
	if config { // whatever the guest does
		if _, err := a.undefine(ctx, r); err != nil && !errors.Is(err, vmnetd.ErrNotFound) {
			return r, err
		}
		r.Defined = false
	}
	r.Phase, r.Problem = vmnetd.Detaching, "the guest has not let go yet"
	line, listed := a.wants(r.key())
	if listed {
		a.store.hold(r.key(), a.runOf(ctx, r))
	}
	if err := a.store.put(r); err != nil {
		a.store.release(r.key())
		return r, vmnetd.Errorf(vmnetd.ErrFailed, "cannot write down that %s is to be detached, so it stays as it is: %w", r.FullName(), err)
	}
	r.Reasons = nil // of an attachment that is let go: what its caller should know
	if r.Defined {
		r.Reasons = []string{"the VM's definition has it, so it comes back at the VM's next start: add --config"}
	}
	if listed {
		r.Reasons = []string{"vms: lists it (" + line + "), so it comes back at the VM's next start"}
	}
	a.changed(r)
	err := a.o.FP.Hit(failpoint.DetachStored)
	if err == nil {
		err = a.teardown(ctx, r)
	}
	if err != nil {
		a.stuck(r, err)
		r.Problem = err.Error()
		return r, nil
	}
	r.Problem = ""
	return r, nil
}

// renounce lets go of a listed NIC that could not be had.
func (a *Agent) renounce(ctx context.Context, r record) (record, error) {
	a.store.hold(r.key(), a.runOf(ctx, r))
	err := a.unwish(r)
	if err != nil {
		a.store.release(r.key())
		return r, vmnetd.Errorf(vmnetd.ErrFailed, "cannot write down that %s is not wanted any more: %w", r.FullName(), err)
	}
	r.Phase, r.Problem = vmnetd.Detaching, ""
	return r, nil
}

// runOf is the run of the VM that a record was made for; that of a NIC by fd
// was never asked for.
func (a *Agent) runOf(ctx context.Context, r record) string {
	if r.Instance != "" {
		return r.Instance
	}
	vm, err := a.o.Hypervisor.Find(ctx, r.VM, "")
	if err != nil {
		a.o.Log.Debug("no run of the VM is known", "vm", r.VM, "err", err)
	}
	return vm.Instance
}

// teardown removes what stands of a record, in the reverse order of converge,
// and forgets it last. It is safe to repeat from any point.
func (a *Agent) teardown(ctx context.Context, r record) error {
	r, dev, here, err := a.silence(ctx, r)
	if err != nil {
		return err
	}
	if err := a.o.FP.Hit(failpoint.DetachDown); err != nil {
		return err
	}
	if err := a.unplug(ctx, r, !here && r.Handed != 0); err != nil {
		return err
	}
	if err := a.o.FP.Hit(failpoint.DetachDevice); err != nil {
		return err
	}
	if err := a.unkeep(ctx, r); err != nil {
		return err
	}
	return a.clear(ctx, r, dev, here)
}

// clear removes what stands of a record on the host, and forgets it last.
func (a *Agent) clear(ctx context.Context, r record, dev tapdev.Device, here bool) error {
	if !here {
		dev = r.gone()
	}
	if here || r.Rdev != 0 || r.Guarded {
		if err := a.remove(ctx, r, dev); err != nil {
			return err
		}
	}
	if !here {
		if err := a.removeLeft(ctx, r, dev); err != nil {
			return err
		}
	}
	if err := a.restoreMAC(ctx, r); err != nil {
		return err
	}
	if err := a.releaseVLAN(ctx, r.Uplink, r.vlanDevice(), r.key()); err != nil {
		return err
	}
	return a.forget(r)
}

// silence ends the traffic of the record's device, if it is here.
func (a *Agent) silence(ctx context.Context, r record) (found record, dev tapdev.Device, here bool, err error) {
	r, dev, err = a.locate(ctx, r)
	if err == nil {
		err = a.setUp(ctx, r, dev, false)
	}
	if errors.Is(err, vmnetd.ErrNotFound) {
		return r, dev, false, nil
	}
	return r, dev, true, err
}

// unplug takes the NIC out of the VM, if the VM is still there; dead says that
// the NIC's device has gone.
func (a *Agent) unplug(ctx context.Context, r record, dead bool) error {
	if a.ownerless(ctx, r) {
		return nil // a QEMU that was killed leaves its socket behind: do not wait there for an answer
	}
	via := r.Via
	if r.byFD() {
		via = "" // QEMU names the NIC as we would have: it can be asked where it has a socket that we know
	}
	vm, err := a.o.Hypervisor.Find(ctx, r.VM, via)
	err = r.endOf(err)
	switch {
	case err != nil && r.byFD():
		return a.released(ctx, r)
	case errors.Is(err, vmnetd.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	if dead {
		if err := a.cutOff(ctx, r, vm); err != nil {
			return err
		}
	}
	if err := a.o.Hypervisor.Unplug(ctx, vm, r.nic()); err != nil || !r.byFD() {
		return err
	}
	return a.released(ctx, r)
}

// released fails while a process holds the queues that it was given. The device
// is down and stays until then: a QEMU with several queues aborts when its guest
// resets a NIC whose device has gone (hw/net/virtio-net.c,
// virtio_net_set_queue_pairs).
func (a *Agent) released(ctx context.Context, r record) error {
	pids := a.holders(ctx, r)
	if len(pids) == 0 {
		return nil
	}
	who := fmt.Sprintf("process %d holds", pids[0])
	if pids[0] == unknownPID {
		who = "a process that could not be searched may hold"
	}
	return vmnetd.Errorf(vmnetd.ErrBusy, "%s its queues and cannot be asked to let go", who).
		WithNext("it goes when that process ends")
}

func (a *Agent) restoreMAC(ctx context.Context, r record) error {
	if err := a.o.FP.Hit(failpoint.DetachMAC); err != nil || r.LowerMAC == "" {
		return err
	}
	mac, err := net.ParseMAC(r.LowerMAC)
	if err != nil {
		return err
	}
	err = a.o.Devices.RestoreMAC(ctx, r.Lower, mac)
	if errors.Is(err, vmnetd.ErrNotFound) {
		return nil
	}
	return err
}

func (a *Agent) forget(r record) error {
	if err := a.o.FP.Hit(failpoint.DetachForget); err != nil {
		return err
	}
	if err := a.store.drop(r.key()); err != nil {
		return err
	}
	a.retries.done(r.key())
	a.owners.drop(r.key())
	a.quiet(r)
	a.deafen(r)
	a.linkGuestsChanged(r)
	a.offers.end(r.key())
	if r.Handed != 0 { // otherwise it never was attached
		a.event(vmnetd.Event{Event: "detached", VM: r.VM, ID: r.ID, Uplink: r.Uplink, Text: fmt.Sprintf("%s removed from %s", r.Ifname, r.Uplink)})
	}
	a.changed(r)
	return nil
}
