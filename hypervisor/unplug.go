package hypervisor

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/proc"
)

// Unplug asks the guest to let go of a NIC and removes its backend once it has.
// ErrEjecting: it has not yet; call again. A NIC that was never plugged, or
// only half, is cleaned up; a VM that has gone has nothing to clean up.
func (q *QMP) Unplug(ctx context.Context, vm VM, nic NIC) error {
	id := nic.ID
	if err := vmnetd.CheckID(id); err != nil {
		return err
	}
	l, err := q.enter(ctx, vm)
	switch {
	case errors.Is(err, ErrOtherRun):
		return nil // that run of the VM has ended, and its NICs with it
	case err != nil && (nobodyThere(err) || errors.Is(err, ErrClosed)):
		return q.stillRuns(vm, err)
	case err != nil:
		return err
	}
	defer l.close()
	l.known.begin(id)
	if err := q.unplug(ctx, l, id); err != nil && !errors.Is(err, ErrClosed) {
		return q.explain(l, err)
	}
	l.known.clean[id] = true
	return nil
}

// stillRuns: somebody may have deleted the socket of a QEMU that lives on.
func (q *QMP) stillRuns(vm VM, cause error) error {
	if vm.PID == 0 {
		return nil
	}
	start, err := proc.StartTime(vm.PID)
	lives := err == nil && strings.HasPrefix(vm.Instance, itoa(vm.PID)+":"+utoa(start)+":")
	if !lives {
		return nil
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "QEMU of VM %s (process %d) runs, but its socket does not answer: %w", vmnetd.Printable(vm.Name), vm.PID, cause).
		WithNext("unplug the NIC by other means, or stop the VM")
}

func (q *QMP) unplug(ctx context.Context, l *link, id string) error {
	netdev := ""
	if _, err := l.get(ctx, peripheral+"/"+deviceID(id), "netdev", &netdev); err != nil {
		return err
	}
	if err := q.ejected(ctx, l, id); err != nil {
		return err
	}
	if err := q.hit(failpoint.DetachNetdev); err != nil {
		return err
	}
	if netdev != "" {
		if err := l.deleteNetdev(ctx, id, netdev); err != nil {
			return err
		}
	}
	if err := l.sweep(ctx, id); err != nil {
		return err
	}
	if netdev != "" {
		return nil // netdev_add had taken the descriptors
	}
	if err := l.sweepFDs(ctx, id, queueFD, 0); err != nil {
		return err
	}
	return l.sweepFDs(ctx, id, vhostFD, 0)
}

func (q *QMP) ejected(ctx context.Context, l *link, id string) error {
	plugged, err := l.hasDevice(ctx, deviceID(id))
	if err != nil || !plugged {
		return err
	}
	gone, err := l.askToEject(ctx, id)
	if err != nil || gone {
		return err
	}
	if err := q.hit(failpoint.DetachUnplug); err != nil {
		return err
	}
	return l.awaitEject(ctx, id, l.since.Add(q.limits.Eject))
}

// eject is both steps, for undoing a device_add.
func (l *link) eject(ctx context.Context, id string, until time.Time) error {
	plugged, err := l.hasDevice(ctx, deviceID(id))
	if err != nil || !plugged {
		return err
	}
	gone, err := l.askToEject(ctx, id)
	if err != nil || gone {
		return err
	}
	return l.awaitEject(ctx, id, until)
}

// askToEject: a request that is pending already is an error in QEMU, and fine
// here; what is left to do is the same.
func (l *link) askToEject(ctx context.Context, id string) (gone bool, err error) {
	err = l.Do(ctx, "device_del", map[string]string{"id": deviceID(id)}, nil)
	var refused *Error
	switch {
	case !asError(err, &refused):
		return false, err
	case refused.Class == deviceNotFound:
		return true, nil
	case strings.Contains(refused.Desc, "in the process of unplug"): // softmmu/qdev-monitor.c, qmp_device_del
		return false, nil
	}
	return false, err
}

// awaitEject waits for the DEVICE_DELETED that carries the device's id; another
// one, for the virtio device inside of it, comes before.
func (l *link) awaitEject(ctx context.Context, id string, until time.Time) error {
	waitCtx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	for {
		ev, err := l.events.next(waitCtx)
		switch {
		case err != nil && ctx.Err() == nil && waitCtx.Err() != nil:
			return l.lastLook(ctx, id)
		case err != nil:
			return err
		case ev.Data["device"] != deviceID(id):
		case ev.Event == "DEVICE_DELETED":
			return nil
		case ev.Event == "DEVICE_UNPLUG_GUEST_ERROR":
			return vmnetd.Errorf(vmnetd.ErrBusy, "the guest of VM %s refused to let go of NIC %s: %w", vmnetd.Printable(l.vm), id, ErrEjecting)
		}
	}
}

// lastLook: the event may have come to whoever was connected before us.
func (l *link) lastLook(ctx context.Context, id string) error {
	plugged, err := l.hasDevice(ctx, deviceID(id))
	if err != nil || !plugged {
		return err
	}
	return vmnetd.Errorf(vmnetd.ErrBusy, "VM %s, NIC %s: %w", vmnetd.Printable(l.vm), id, ErrEjecting).
		WithNext("it goes when the guest runs and its OS handles PCI hotplug, or when the VM stops")
}
