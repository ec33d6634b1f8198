package agent

import (
	"context"
	"fmt"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/tapdev"
)

// adopt makes a record for a device of ours that is in use and that the state
// file does not know, from what the kernel says of it.
func (a *Agent) adopt(ctx context.Context, dev tapdev.Device, pids []int) error {
	if dev.VM == "" {
		return fmt.Errorf("it has no mark of ours")
	}
	r := record{
		Attachment: vmnetd.Attachment{
			ID: dev.ID, VM: dev.VM, Kind: dev.Mode.Info().Kind, Mode: dev.Mode, Ifname: dev.Ifname, MAC: dev.MAC.String(),
			IPs: []string{}, Queues: dev.Queues, VHostReason: "not known: adopted", Via: viaFD, Link: "down", Phase: vmnetd.Pending,
			Reasons: []string{"adopted: the state file did not name it, but a process holds its queues"},
		},
		Handed: dev.Ifindex,
	}
	r.take(dev)
	r.Uplink, r.Network = a.placeOf(ctx, dev)
	r.Request = vmnetd.Request{VM: r.VM, ID: r.ID, Network: r.Network, Uplink: r.Uplink, Mode: r.Mode, MAC: r.MAC, Queues: r.Queues}
	vm, err := a.o.Hypervisor.Find(ctx, r.VM, "")
	if err == nil {
		r.UUID = vm.UUID
		if place, ok, err := a.o.Hypervisor.Plugged(ctx, vm, r.nic()); err == nil && ok {
			r.Via, r.Instance, r.Bus, r.Addr = vm.Via, vm.Instance, place.Bus, place.Addr
		}
	}
	if r.byFD() && len(pids) > 0 {
		if owner, err := a.ownerOf(pids[0]); err == nil { // it may have ended since
			r.Owner = &owner
		}
	}
	if r.Uplink == "" && dev.Up { // there is nothing to converge to
		r.Phase = vmnetd.Attached
	}
	a.o.Log.Info("adopted", "vm", r.VM, "id", r.ID, "ifname", r.Ifname, "via", r.Via)
	return a.store.put(r)
}

// placeOf names the uplink that a device stands on and the first network that
// has it.
func (a *Agent) placeOf(ctx context.Context, dev tapdev.Device) (uplink, network string) {
	cfg := a.config()
	for _, spec := range a.specs() {
		state, err := a.o.Uplinks.State(ctx, spec)
		if err != nil || state.Link.Index != dev.Lower {
			continue
		}
		for _, n := range cfg.Policy.Networks {
			for _, up := range n.Uplinks {
				if up == spec.Name {
					return spec.Name, n.Name
				}
			}
		}
		return spec.Name, ""
	}
	return "", ""
}
