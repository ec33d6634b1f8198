package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor"
	"github.com/vmnetd/vmnetd/tapdev"
)

// lookAgain has a VM's attachments looked at, once, however often it is called
// before that happens.
func (a *Agent) lookAgain(vm string) {
	a.turns.again(vm, func(ctx context.Context) { a.reconcile(ctx, vm) })
}

// lookLater has a record looked at again after a while.
func (a *Agent) lookLater(k key) {
	a.retries.later(k, func() { a.lookAgain(k.vm) })
}

// stuck notes why a record does not get on, and has it looked at again.
func (a *Agent) stuck(r record, why error) {
	if errors.Is(why, errOvertaken) || errors.Is(why, errStarting) { // the hook has seen to it
		return
	}
	if r.Problem != why.Error() {
		r.Problem = why.Error()
		a.store.note(r)
		a.changed(r)
	}
	if r.Halted && r.Phase == vmnetd.Attached { // its guest may run any moment, and waits for its link
		a.retries.in(a.o.Backoff, r.key(), func() { a.lookAgain(r.VM) })
		return
	}
	a.lookLater(r.key())
}

// reconcileAll looks at every VM that has or wants an attachment, and waits
// until that is done.
func (a *Agent) reconcileAll(ctx context.Context) {
	vms := a.concerned()
	done := make(chan struct{}, len(vms))
	for vm := range vms {
		if !a.turns.do(vm, func(ctx context.Context) { a.reconcile(ctx, vm); done <- struct{}{} }) {
			return
		}
	}
	for range vms {
		select {
		case <-done:
		case <-ctx.Done():
			return
		}
	}
}

// concerned is every VM that has or wants an attachment.
func (a *Agent) concerned() map[string]bool {
	vms := map[string]bool{}
	for _, r := range a.store.of("") {
		vms[r.VM] = true
	}
	for _, w := range a.wanted() {
		vms[w.Name] = true
	}
	return vms
}

// reconcile finds out what is left to do for a VM and does it.
func (a *Agent) reconcile(ctx context.Context, name string) {
	for _, k := range a.store.keys(name) {
		r, there := a.store.get(k) // as the one before has left it
		if !there {
			continue
		}
		if r.decided() {
			a.look(ctx, r)
		} else if _, listed := a.wants(r.key()); !listed {
			_ = a.unwish(r)
		}
	}
	a.wish(ctx, name)
}

// look brings one record on its way.
func (a *Agent) look(ctx context.Context, r record) {
	if r.Phase == vmnetd.Detaching {
		a.finishDetach(ctx, r)
		return
	}
	if r.byFD() {
		a.lookAtOwner(ctx, r)
		return
	}
	vm, err := a.find(ctx, r)
	switch {
	case errors.Is(err, vmnetd.ErrNotFound):
		a.vmGone(ctx, r)
	case err != nil:
		a.stuck(r, err) // the NIC itself may be well
	case r.earlierRun(vm), a.replaced(ctx, r):
		a.vmGone(ctx, r)
	default:
		a.lookIn(ctx, r, vm)
	}
}

// lookIn brings a record of a VM that runs on its way.
func (a *Agent) lookIn(ctx context.Context, r record, vm hypervisor.VM) {
	out, err := a.takenOut(ctx, r, vm)
	if err == nil {
		r, err = a.followCPUs(ctx, r, vm)
	}
	waits := a.awaitCPUs(r, vm)
	switch {
	case !r.Prepared.IsZero():
		a.startSeen(ctx, r, vm)
	case errors.Is(err, errOvertaken):
	case out:
		a.ended(ctx, r, "it was taken out of the VM, not by vmnetd")
	case err != nil || r.Phase != vmnetd.Attached || !a.sound(ctx, r):
		a.holdGuard(ctx, r)
		_, _ = a.repair(ctx, a.lost(ctx, r), vm) // noted in the record
	default:
		if a.well(ctx, r) && !waits {
			a.retries.done(r.key())
		}
	}
}

// well keeps up what a sound NIC has beside its device; its problem is then what is
// left of that, or nothing.
func (a *Agent) well(ctx context.Context, r record) bool {
	r, err := a.keepWatch(ctx, r)
	if err != nil {
		a.stuck(r, err)
		return false
	}
	if problem := cmp.Or(a.shut(ctx, r), a.narrow(r)); r.Problem != problem {
		r.Problem = problem
		a.store.note(r)
		a.changed(r)
	}
	return true
}

// shut says that the bridge has closed the NIC's port.
func (a *Agent) shut(ctx context.Context, r record) string {
	bridge, ok := a.o.Links.ByIndex(r.Lower)
	if !ok || !bridge.Up || r.Mode.Info().Family != vmnetd.FamilyBridge {
		return ""
	}
	if dev, err := a.dev(ctx, r); err != nil || !dev.Shut {
		return ""
	}
	return fmt.Sprintf("bridge %s has shut its port, as bpdu_guard does when a guest sends BPDUs: to open it again,  ip link set %s down  and vmnetd sets it up", bridge.Name, r.Ifname)
}

// narrow says that the uplink carries less than the guest was given. The guest
// goes on sending what it was told: its largest frames are lost.
func (a *Agent) narrow(r record) string {
	lower, ok := a.o.Links.ByIndex(r.Lower)
	if ok && r.Mode.Info().SharesMAC && lower.MAC.String() != r.MAC {
		return fmt.Sprintf("uplink %s has the MAC %s now, which its guests share, and this one was given %s: detach it and attach it again", r.Uplink, lower.MAC, r.MAC)
	}
	if !ok || lower.MTU >= r.MTU {
		return ""
	}
	return fmt.Sprintf("uplink %s has MTU %d now, the guest was given %d: ip link set %s mtu %d", r.Uplink, lower.MTU, r.MTU, lower.Name, r.MTU)
}

// sound says whether an attached record's device is what it was handed over as.
func (a *Agent) sound(ctx context.Context, r record) bool {
	lower, ok := a.o.Links.ByIndex(r.Lower)
	if !ok || r.inForeignHands() {
		return ok
	}
	dev, err := a.dev(ctx, r)
	return err == nil && r.is(dev, lower) && r.isDelivered(dev)
}

// isDelivered says that a device that needs its guest's addresses has them.
func (r record) isDelivered(dev tapdev.Device) bool {
	return !r.Moved || !slices.ContainsFunc(r.delivered(), func(p netip.Prefix) bool { return !slices.Contains(dev.IPs, p) })
}

// inForeignHands says that the device is in a namespace of others: what their root
// does with it is theirs.
func (r record) inForeignHands() bool { return r.Moved && r.endpoint() }

// lost tells that an attached record's device has gone, before it is repaired:
// until then the guest has no network, and "attached" would be untrue.
func (a *Agent) lost(ctx context.Context, r record) record {
	if r.Phase != vmnetd.Attached || r.inForeignHands() {
		return r
	}
	dev, err := a.dev(ctx, r)
	if errors.Is(err, vmnetd.ErrNotFound) && a.renamed(ctx, r) {
		return r
	}
	if err == nil && dev.Ifindex == r.Handed || err != nil && !errors.Is(err, vmnetd.ErrNotFound) {
		return r
	}
	r.Phase, r.Problem = vmnetd.Broken, fmt.Sprintf("its device %s was deleted; the NIC is plugged again on a new one", r.Ifname)
	a.store.note(r)
	a.event(vmnetd.Event{Event: string(r.Phase), VM: r.VM, ID: r.ID, Uplink: r.Uplink, Text: r.Problem})
	a.changed(r)
	return r
}

// renamed gives a device its name back under which its filter is found
// (net/netfilter/nf_tables_api.c: since Linux 6.16 a chain is bound by name).
func (a *Agent) renamed(ctx context.Context, r record) bool {
	link, there := a.o.Links.ByIndex(r.Ifindex)
	if r.Moved || !there || link.Alias != vmnetd.Alias(r.VM, r.ID) || link.Name == r.Ifname {
		return false
	}
	if err := a.o.Devices.Rename(ctx, r.gone(), r.Ifname); err != nil {
		a.o.Log.Error("renamed device", "vm", r.VM, "id", r.ID, "err", err)
		return false
	}
	a.event(vmnetd.Event{Event: "renamed", VM: r.VM, ID: r.ID, Uplink: r.Uplink, Text: fmt.Sprintf("somebody renamed its device to %s; it is %s again", link.Name, r.Ifname)})
	return true
}

func (a *Agent) finishDetach(ctx context.Context, r record) {
	if err := a.teardown(ctx, r); err != nil {
		a.stuck(r, err)
	}
}

// vmGone removes what a VM that has ended leaves, unless a process still holds
// the queues: then only its socket has gone. What libvirt says of its own VMs is
// enough.
func (a *Agent) vmGone(ctx context.Context, r record) {
	if r.Via == viaLibvirt {
		if err := a.heldOn(ctx, r); err != nil { // another libvirtd, or one that lost its state
			a.stuck(r, err)
			return
		}
		a.ended(ctx, r, "the VM has ended")
		return
	}
	if who := a.survivor(ctx, r); who != "" {
		a.stuck(r, vmnetd.Errorf(vmnetd.ErrBusy, "the VM's socket has gone, but %s its queues", who))
		return
	}
	r.Phase, r.Problem = vmnetd.Detaching, "the VM has ended"
	a.store.note(r)
	a.finishDetach(ctx, r)
}

// survivor tells of the process that goes on without its socket, "" if there is
// none. Where it is known which process got the queues, nobody has to be
// searched for.
func (a *Agent) survivor(ctx context.Context, r record) string {
	if r.Owner != nil && !a.alive(*r.Owner) {
		return ""
	}
	var pids []int
	if r.Owner != nil {
		pids = []int{r.Owner.PID}
	} else {
		pids = a.holders(ctx, r)
	}
	switch {
	case len(pids) == 0:
		return ""
	case pids[0] == unknownPID:
		return "a process that could not be searched may hold"
	}
	return fmt.Sprintf("process %d holds", pids[0])
}

// unknownPID stands for whoever a search that was not complete has not seen.
const unknownPID = 0

// holders is the processes that hold the record's queues; where none was found
// and the search was not complete, unknownPID.
func (a *Agent) holders(ctx context.Context, r record) []int {
	if r.endpoint() {
		return nil
	}
	if r.Moved {
		return surely(a.o.Devices.HoldersNamed(ctx, r.Ifname))
	}
	dev, err := a.dev(ctx, r)
	if err != nil {
		return nil
	}
	return surely(a.o.Devices.Holders(ctx, dev))
}

// surely is what a search has found; unknownPID where that is nobody and it was not
// complete.
func surely(pids []int, complete bool, err error) []int {
	if len(pids) == 0 && (err != nil || !complete) {
		return []int{unknownPID}
	}
	return pids
}

// wants says where vms: lists a NIC.
func (a *Agent) wants(k key) (at string, ok bool) {
	for _, w := range a.wanted() {
		listed := slices.ContainsFunc(w.NICs, func(req vmnetd.Request) bool { return req.ID == k.id })
		if w.Name == k.vm && listed {
			return where(w.At), true
		}
	}
	return "", false
}

// wish makes the NICs that vms: lists for a VM that runs.
func (a *Agent) wish(ctx context.Context, name string) {
	for _, w := range a.wanted() {
		if w.Name != name {
			continue
		}
		vm, err := a.o.Hypervisor.Find(ctx, name, "")
		for _, req := range w.NICs {
			a.wishOne(ctx, req, vm, err)
		}
	}
}

func (a *Agent) wishOne(ctx context.Context, req vmnetd.Request, vm hypervisor.VM, findErr error) {
	k := key{req.VM, req.ID}
	r, there := a.store.get(k)
	if there && r.decided() || findErr == nil && a.store.isHeld(k, vm.Instance) {
		return
	}
	if errors.Is(findErr, vmnetd.ErrNotFound) {
		a.store.release(k) // libvirt counts runs anew when it is restarted while no VM runs
		if there {         // the VM has ended before its NIC could be made
			_ = a.unwish(r)
		}
		return
	}
	if findErr != nil {
		a.wishPending(req, vm, findErr)
		return
	}
	was := r.Problem
	r, err := a.intend(ctx, func() (record, error) {
		d, err := a.decide(ctx, req, vm)
		if err != nil && was != err.Error() {
			a.refused(req, err) // once, not at each look
		}
		if err != nil {
			return record{}, err
		}
		r := a.fromDecision(d, req, vm)
		r.Defined = a.isKept(k)
		return r, nil
	})
	if err != nil {
		a.wishPending(req, vm, err)
		return
	}
	_, _ = a.repair(ctx, r, vm) // noted in the record
}

// wishPending shows a NIC that vms: lists and that cannot be had now. What is
// denied stays so until the configuration changes, or the VM.
func (a *Agent) wishPending(req vmnetd.Request, vm hypervisor.VM, why error) {
	r := record{
		Attachment: vmnetd.Attachment{
			VM: req.VM, ID: req.ID, Network: req.Network, Via: vm.Via, Phase: vmnetd.Pending, Link: "down",
			Problem: why.Error(), IPs: []string{}, Reasons: []string{},
		},
		Request: req, Instance: vm.Instance,
	}
	if old, ok := a.store.get(r.key()); !ok || old.Problem != r.Problem {
		if err := a.store.put(r); err != nil {
			a.o.Log.Error("state file", "vm", r.VM, "id", r.ID, "err", err)
		}
		a.changed(r)
	}
	if !errors.Is(why, vmnetd.ErrDenied) {
		a.lookLater(r.key())
	}
}

// unwish forgets a listed NIC that never was.
func (a *Agent) unwish(r record) error {
	if err := a.store.drop(r.key()); err != nil {
		a.o.Log.Error("state file", "vm", r.VM, "id", r.ID, "err", err)
		a.lookLater(r.key())
		return err
	}
	a.retries.done(r.key())
	a.changed(r)
	return nil
}

// sweep looks, once at the start, at every device of ours in the kernel that no
// record names: one that a process holds is adopted, the others are removed.
func (a *Agent) sweep(ctx context.Context) error {
	devices, err := a.o.Devices.Ours(ctx)
	if err != nil {
		return err
	}
	doomed := devices[:0:0]
	for _, dev := range devices {
		if r, ok := a.store.get(key{dev.VM, dev.ID}); ok && dev.VM != "" && r.Ifname == dev.Ifname {
			continue
		}
		pids, complete, err := a.o.Devices.Holders(ctx, dev)
		if err == nil && complete && len(pids) == 0 {
			doomed = append(doomed, dev)
			continue
		}
		if err := a.adopt(ctx, dev, "", pids); err != nil {
			a.o.Log.Error("a device of ours that no record names stays", "ifname", dev.Ifname, "err", err)
		}
	}
	if len(doomed) == 0 {
		return nil
	}
	a.o.Log.Info("removing devices that no attachment names", "count", len(doomed))
	if err := a.o.Devices.Remove(ctx, doomed...); err != nil {
		a.o.Log.Error("cannot remove them all, the next start tries again", "err", err)
	}
	return nil
}
