package hypervisor

import (
	"context"
)

// CutOff has the guest see the link of a NIC whose device has gone go down.
func (l *Libvirt) CutOff(ctx context.Context, vm VM, nic NIC) error {
	if nic.ByFD {
		return l.fd.cutOff(ctx, vm, nic)
	}
	d, err := l.enter(ctx, vm)
	if err != nil {
		return err
	}
	return l.setLink(ctx, d, nic, false)
}
