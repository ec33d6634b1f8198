package agent

import (
	"context"
	"errors"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor"
	"github.com/vmnetd/vmnetd/room"
	"github.com/vmnetd/vmnetd/tapdev"
)

// sweepRoom is sweep for vmnetd's own namespace.
func (a *Agent) sweepRoom(ctx context.Context) error {
	err := a.at(ctx, ownRoom, false, func(p room.Place) error {
		devices, err := p.Ours(ctx)
		if err != nil {
			return err
		}
		for _, dev := range devices {
			if _, ok := a.store.get(key{dev.VM, dev.ID}); ok && dev.VM != "" {
				continue
			}
			if err := a.sweepOne(ctx, p, dev); err != nil {
				a.o.Log.Error("a device of ours that no record names stays", "ifname", dev.Ifname, "err", err)
			}
		}
		return nil
	})
	if errors.Is(err, vmnetd.ErrNotFound) {
		return nil
	}
	return err
}

// sweepOne adopts a device there, or removes it where surely nobody has it.
func (a *Agent) sweepOne(ctx context.Context, p room.Place, dev tapdev.Device) error {
	pids := surely(a.o.Devices.HoldersNamed(ctx, dev.Ifname))
	if len(pids) > 0 || a.mayHave(ctx, dev) {
		if len(pids) > 0 && pids[0] == unknownPID {
			pids = nil
		}
		dev, err := p.FindNIC(ctx, dev.VM, dev.ID) // with its addresses
		if err != nil {
			return err
		}
		return a.adopt(ctx, dev, ownRoom, pids)
	}
	a.o.Log.Info("removing a device that no attachment names", "ifname", dev.Ifname)
	return errors.Join(p.Unguard(ctx, dev.Ifname), p.Remove(ctx, dev))
}

// mayHave says that a device's VM has a NIC plugged that is its, or cannot be asked.
func (a *Agent) mayHave(ctx context.Context, dev tapdev.Device) bool {
	vm, err := a.o.Hypervisor.Find(ctx, dev.VM, "")
	if err != nil {
		return !errors.Is(err, vmnetd.ErrNotFound)
	}
	_, plugged, err := a.o.Hypervisor.Plugged(ctx, vm, hypervisor.NIC{ID: dev.ID, Ifname: dev.Ifname, Mode: string(dev.Mode), MAC: dev.MAC, MTU: dev.MTU, Queues: dev.Queues})
	return plugged || err != nil
}
