package hypervisor

import (
	"context"
)

// SetLink has the guest see the link of a NIC up or down (QMP set_link, by the
// device's id). vmnetd.ErrNotFound: there is no such NIC.
func (q *QMP) SetLink(ctx context.Context, vm VM, nic NIC, up bool) error {
	l, err := q.enter(ctx, vm)
	if err != nil {
		return notHere(vm.Socket, err)
	}
	defer l.close()
	if err := l.setLink(ctx, nic.ID, up); err != nil {
		return q.explain(l, err)
	}
	return nil
}

func (e *engine) setLink(ctx context.Context, id string, up bool) error {
	err := e.Do(ctx, "set_link", map[string]any{"name": deviceID(id), "up": up}, nil)
	if isClass(err, deviceNotFound) {
		return e.noNIC(id)
	}
	return err
}
