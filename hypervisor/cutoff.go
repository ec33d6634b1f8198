package hypervisor

import (
	"context"

	"github.com/vmnetd/vmnetd"
)

// CutOff takes the backend away from a NIC whose device has gone; the guest
// sees its link go down, which a tap without a device does not tell by itself.
// It has to come before anything else is done with such a NIC: QEMU aborts when
// the guest's driver, at its unplug or at a reboot, has it detach queues of a
// tap that has gone (TUNSETQUEUE is EINVAL then; hw/net/virtio-net.c,
// assertion in virtio_net_set_queue_pairs), and leaves queues alone whose
// netdev was deleted (peer_deleted). vmnetd.ErrNotFound: there is no such NIC.
func (q *QMP) CutOff(ctx context.Context, vm VM, nic NIC) error {
	l, err := q.enter(ctx, vm)
	if err != nil {
		return notHere(vm.Socket, err)
	}
	defer l.close()
	if err := l.cutOff(ctx, nic.ID); err != nil {
		return q.explain(l, err)
	}
	return nil
}

func (e *engine) cutOff(ctx context.Context, id string) error {
	var netdev string
	plugged, err := e.get(ctx, peripheral+"/"+deviceID(id), "netdev", &netdev)
	if err == nil && !plugged {
		return e.noNIC(id)
	}
	if err == nil && netdev != "" {
		err = e.Do(ctx, "netdev_del", map[string]string{"id": netdev}, nil)
	}
	if isClass(err, deviceNotFound) { // cut off before: the NIC remembers the name
		return nil
	}
	return err
}

func (e *engine) noNIC(id string) error {
	return vmnetd.Errorf(vmnetd.ErrNotFound, "VM %s has no NIC %s", vmnetd.Printable(e.vm), id)
}
