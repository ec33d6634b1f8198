package agent

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor"
	"github.com/vmnetd/vmnetd/hypervisor/domxml"
	"github.com/vmnetd/vmnetd/policy"
	"github.com/vmnetd/vmnetd/tapdev"
)

// adopt makes a record for a device of ours that is in use and that the state
// file does not know, from what the kernel says of it. place is where it lives.
func (a *Agent) adopt(ctx context.Context, dev tapdev.Device, place string, pids []int) error {
	if dev.VM == "" {
		return fmt.Errorf("it has no mark of ours")
	}
	r := record{
		Attachment: vmnetd.Attachment{
			ID: dev.ID, VM: dev.VM, Kind: cmp.Or(dev.Kind, dev.Mode.Info().Kind), Mode: dev.Mode, Ifname: dev.Ifname, MAC: dev.MAC.String(),
			IPs: []string{}, Queues: dev.Queues, VHostReason: "not known: adopted", Via: viaFD, Link: "down", Phase: vmnetd.Pending,
			Reasons: []string{"adopted: the state file did not name it, but a process holds its queues"},
		},
		Handed: dev.Ifindex, Guarded: true, Moved: place != "",
	}
	r.take(dev)
	r.Request = vmnetd.Request{VM: r.VM, ID: r.ID, Mode: r.Mode, MAC: guestMAC(r.Kind, dev.MAC), Queues: r.Queues}
	vm, err := a.o.Hypervisor.Find(ctx, r.VM, "")
	if err == nil {
		r = a.adoptPlace(ctx, r, vm)
	}
	r.MAC = cmp.Or(r.Request.MAC, r.MAC)
	r.Uplink, r.Network = a.placeOf(ctx, dev, r.MAC, vm)
	r.Request.Uplink, r.Request.Network, r.Request.IPs = r.Uplink, r.Network, splitIPs(askedFor(vm, r.MAC).IPs)
	r = a.adoptTerms(ctx, r, dev, vm)
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

// guestMAC is a guest's MAC by that of its device, "" where the device is the host's
// end of a cable and has another one.
func guestMAC(kind vmnetd.Kind, mac net.HardwareAddr) string {
	if !bytes.Equal(tapdev.HostMAC(kind, mac), mac) {
		return ""
	}
	return mac.String()
}

// adoptTerms gives the NIC what policy would give it now, with the addresses that its
// device has. What policy says nothing about is kept from sending what is not its own.
func (a *Agent) adoptTerms(ctx context.Context, r record, dev tapdev.Device, vm hypervisor.VM) record {
	for _, p := range dev.IPs {
		if ip := p.Addr().String(); !slices.Contains(r.Request.IPs, ip) {
			r.Request.IPs = append(r.Request.IPs, ip)
		}
	}
	d, err := a.decide(ctx, r.Request, vm)
	if err != nil {
		r.Terms.Filter = policy.Filtered{Spoof: true, DHCPServer: true, RA: true}
		for _, p := range dev.IPs {
			r.Heard = append(r.Heard, heard{IP: p.Addr(), How: "its device", At: time.Now()})
		}
	} else {
		r.Change, r.Terms = d.MACChange == policy.ChangeAllow, termsOf(d)
	}
	r = adoptMAC(r, dev, d.MAC)
	r.Request.MAC, r.Terms.Flag = r.MAC, dev.Flag
	r.showIPs()
	return r
}

// adoptMAC is for a NIC whose MAC nobody tells: the one that policy would give it, if
// its device was made for that. Otherwise a filter would take the guest's own for a lie.
func adoptMAC(r record, dev tapdev.Device, given string) record {
	if r.Request.MAC != "" {
		return r
	}
	if mac, err := vmnetd.ParseMAC(given); err == nil && bytes.Equal(tapdev.HostMAC(r.Kind, mac), dev.MAC) {
		r.MAC = given
		return r
	}
	r.Terms, r.Guarded = terms{}, false // its filter stays as it is
	r.Note = "its guest's MAC is not known since the state file was lost, so what it may send stays as it was: detach it and attach it again"
	return r
}

// adoptPlace says where in its VM the NIC is, by which MAC, and whether it is there at
// the next start.
func (a *Agent) adoptPlace(ctx context.Context, r record, vm hypervisor.VM) record {
	r.UUID = vm.UUID
	place, ok, err := a.o.Hypervisor.Plugged(ctx, vm, r.nic())
	if err != nil || !ok {
		return r
	}
	if mac, err := vmnetd.ParseMAC(place.MAC); err == nil && !r.Mode.Info().SharesMAC {
		r.Request.MAC = mac.String()
	}
	r.Via, r.Instance, r.Bus, r.Addr = vm.Via, vm.Instance, place.Bus, place.Addr
	if r.Via == viaLibvirt {
		r.Defined, _ = a.isDefined(ctx, r, vm) // what is not known is said to be live only
	}
	return r
}

// placeOf names the uplink that a device stands on, and that one of its networks
// which the VM's metadata names for a NIC with that MAC, or else the first.
func (a *Agent) placeOf(ctx context.Context, dev tapdev.Device, mac string, vm hypervisor.VM) (uplink, network string) {
	cfg := a.config()
	for _, spec := range a.specs() {
		state, err := a.o.Uplinks.State(ctx, spec)
		if err != nil || state.Link.Index != dev.Lower {
			continue
		}
		for _, n := range cfg.Policy.Networks {
			if !slices.Contains(n.Uplinks, spec.Name) {
				continue
			}
			if network == "" || askedFor(vm, mac).Network == n.Name {
				network = n.Name
			}
		}
		return spec.Name, network
	}
	return "", ""
}

// askedFor is what the VM's metadata asks for the NIC with that MAC.
func askedFor(vm hypervisor.VM, mac string) domxml.NIC {
	i := slices.IndexFunc(vm.NICs, func(n domxml.NIC) bool { return n.MAC == mac })
	if i < 0 {
		return domxml.NIC{}
	}
	return vm.NICs[i]
}
