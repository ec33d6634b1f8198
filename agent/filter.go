package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor"
)

// awaitFilter asks for a NIC's filter once, where its guest may choose its MAC:
// only then is the next change of it told (QMP NIC_RX_FILTER_CHANGED).
func (a *Agent) awaitFilter(ctx context.Context, r record, vm hypervisor.VM) {
	if r.Change && r.Phase == vmnetd.Attached {
		a.followFilter(ctx, r, vm)
	}
}

// followFilters has the devices of a VM's NICs receive what the guest asks for,
// where mac: {change: allow} lets it ask.
func (a *Agent) followFilters(ctx context.Context, name string) {
	for _, k := range a.store.keys(name) {
		r, ok := a.store.get(k)
		if !ok || !r.Change || r.Phase != vmnetd.Attached || r.byFD() {
			continue
		}
		vm, err := a.o.Hypervisor.Find(ctx, r.VM, r.Via)
		if err != nil {
			a.o.Log.Debug("filter", "vm", r.VM, "id", r.ID, "err", err)
			return
		}
		a.followFilter(ctx, r, vm)
	}
}

func (a *Agent) followFilter(ctx context.Context, r record, vm hypervisor.VM) {
	if err := a.adoptFilter(ctx, r, vm); err != nil && !errors.Is(err, errOvertaken) {
		a.o.Log.Warn("the device does not follow what its guest wants to receive", "vm", r.VM, "id", r.ID, "err", err)
		a.event(vmnetd.Event{Event: "filter", VM: r.VM, ID: r.ID, Uplink: r.Uplink, Text: "the guest's filter is not followed: " + err.Error()})
	}
}

// adoptFilter gives the device the guest's MAC and groups.
func (a *Agent) adoptFilter(ctx context.Context, r record, vm hypervisor.VM) error {
	want, err := a.o.Hypervisor.Filter(ctx, vm, r.nic())
	if err != nil {
		return err
	}
	dev, err := a.o.Devices.Find(ctx, r.Ifname)
	if err != nil {
		return err
	}
	if err := a.o.Devices.SetFilter(ctx, dev, want.MAC, want.Multicast, want.AllMulti); err != nil {
		return err
	}
	if was, err := r.mac(); err != nil || bytes.Equal(want.MAC, was) {
		return err
	}
	a.quiet(r)
	if r.GuestMAC = want.MAC.String(); r.GuestMAC == r.MAC {
		r.GuestMAC = ""
	}
	if err := a.store.put(r); err != nil {
		return err
	}
	if r, err = a.guard(ctx, r, dev); err != nil {
		return err
	}
	a.listen(ctx, r)
	a.announceOne(r, "another MAC")
	a.event(vmnetd.Event{Event: "mac-changed", VM: r.VM, ID: r.ID, Uplink: r.Uplink, Text: fmt.Sprintf("the guest took the MAC %s; rule %s allows it", want.MAC, r.Rule)})
	a.changed(r)
	return nil
}
