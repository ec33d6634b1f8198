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
	var netdev string
	plugged, err := l.get(ctx, peripheral+"/"+deviceID(nic.ID), "netdev", &netdev)
	if err == nil && !plugged {
		return vmnetd.Errorf(vmnetd.ErrNotFound, "VM %s has no NIC %s", vmnetd.Printable(vm.Name), nic.ID)
	}
	if err == nil && netdev != "" {
		err = l.Do(ctx, "netdev_del", map[string]string{"id": netdev}, nil)
	}
	if err != nil && !isClass(err, deviceNotFound) { // cut off before: the NIC remembers the name
		return q.explain(l, err)
	}
	return nil
}
