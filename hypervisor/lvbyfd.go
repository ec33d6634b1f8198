package hypervisor

import (
	"context"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/vmnetd/vmnetd"
)

// A NIC that was handed over by fd is not in the domain's XML: it is plugged and
// unplugged through QEMU's monitor, by the id of its device.

func (l *Libvirt) newFDWay() *fdWay {
	return &fdWay{
		flight: &fdFlight{}, limits: l.limits, hit: l.hit,
		call: func(ctx context.Context, limit time.Duration, f func(*libvirt.Libvirt) error) error {
			_, err := l.call(ctx, limit, f)
			return err
		},
		domain: l.runOf,
	}
}

// runOf is the domain of a run of a VM, by the mirror.
func (l *Libvirt) runOf(vm VM) (libvirt.Domain, error) {
	uuid, _ := uuidOf(vm)
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.domains[uuid]
	switch {
	case d == nil || !d.active():
		return libvirt.Domain{}, shutOff(vm.Name)
	case d.instance() != vm.Instance:
		return libvirt.Domain{}, vmnetd.Errorf(vmnetd.ErrNotFound, "%w: VM %s", ErrOtherRun, vmnetd.Printable(vm.Name)).WithNext("try again")
	}
	return d.ref(), nil
}

// Filter asks what the guest wants a NIC to receive.
func (l *Libvirt) Filter(ctx context.Context, vm VM, nic NIC) (RxFilter, error) {
	if nic.ByFD {
		return l.fd.filter(ctx, vm, nic, deviceID(nic.ID))
	}
	d, err := l.enter(ctx, vm)
	if err != nil {
		return RxFilter{}, err
	}
	i, ok := d.byTarget(nic.Ifname)
	if !ok {
		return RxFilter{}, vmnetd.Errorf(vmnetd.ErrNotFound, "VM %s has no NIC %s", vmnetd.Printable(vm.Name), nic.ID)
	}
	return l.fd.filter(ctx, vm, nic, i.Alias)
}
