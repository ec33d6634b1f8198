package hypervisor

import (
	"context"

	"github.com/vmnetd/vmnetd"
)

// SetLink has the guest see the link of a NIC up or down (QMP set_link, by the
// device's id). vmnetd.ErrNotFound: there is no such NIC.
func (q *QMP) SetLink(ctx context.Context, vm VM, nic NIC, up bool) error {
	l, err := q.enter(ctx, vm)
	if err != nil {
		return notHere(vm.Socket, err)
	}
	defer l.close()
	err = l.Do(ctx, "set_link", map[string]any{"name": deviceID(nic.ID), "up": up}, nil)
	if isClass(err, deviceNotFound) {
		return vmnetd.Errorf(vmnetd.ErrNotFound, "VM %s has no NIC %s", vmnetd.Printable(vm.Name), nic.ID)
	}
	if err != nil {
		return q.explain(l, err)
	}
	return nil
}
