package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor"
)

// incomingPatience is how often a VM that waits for its migration is asked
// whether it runs, where it does not tell by itself.
const incomingPatience = 50 * time.Millisecond

// halts says whether the links of a VM's NICs wait for its CPUs. Until they run
// the guest says nothing, and of one that waits for its migration the MAC is at
// home on another host.
func halts(vm hypervisor.VM) bool { return vm.Halted || vm.Incoming }

// followCPUs takes a NIC's link down with the VM's CPUs, and up again with them:
// the first thing that is done about a VM that runs again.
func (a *Agent) followCPUs(ctx context.Context, r record, vm hypervisor.VM) (record, error) {
	if r.Phase != vmnetd.Attached || r.Halted == halts(vm) {
		return r, nil
	}
	dev, err := a.dev(ctx, r)
	if err == nil && r.Halted { // a device that was down has lost link-local addresses
		r, dev, err = a.settle(ctx, r, dev)
	}
	if err == nil {
		err = a.setUp(ctx, r, dev, r.Halted)
	}
	if err != nil {
		return r, err
	}
	r.Halted = !r.Halted
	a.store.note(r) // what is announced is read from there
	if !r.Halted {
		a.announceOne(r, "runs")
	}
	if err := a.store.put(r); err != nil {
		a.o.Log.Error("state file", "vm", r.VM, "id", r.ID, "err", err)
	}
	a.event(cpuEvent(r))
	a.changed(r)
	return r, nil
}

func cpuEvent(r record) vmnetd.Event {
	e := vmnetd.Event{Event: "link-up", VM: r.VM, ID: r.ID, Uplink: r.Uplink, Text: fmt.Sprintf("the VM runs, %s is up", r.Ifname)}
	if r.Halted {
		e.Event, e.Text = "link-down", fmt.Sprintf("the VM's CPUs do not run, %s is down until they do", r.Ifname)
	}
	return e
}

// awaitCPUs has a record looked at again soon, where nobody tells when its VM
// runs.
func (a *Agent) awaitCPUs(r record, vm hypervisor.VM) (waits bool) {
	if !vm.Incoming || vm.Halted {
		return false
	}
	a.retries.in(incomingPatience, r.key(), func() { a.lookAgain(r.VM) })
	return true
}
