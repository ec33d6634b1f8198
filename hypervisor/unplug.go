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
	if err := l.unplug(ctx, id); err != nil && !errors.Is(err, ErrClosed) {
		return q.explain(l, err)
	}
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

// unplug is Unplug's steps; ErrClosed: QEMU has gone.
func (e *engine) unplug(ctx context.Context, id string) error {
	e.known.begin(id)
	if err := e.remove(ctx, id); err != nil {
		return err
	}
	e.known.clean[id] = true
	return nil
}

func (e *engine) remove(ctx context.Context, id string) error {
	netdev := ""
	if _, err := e.get(ctx, peripheral+"/"+deviceID(id), "netdev", &netdev); err != nil {
		return err
	}
	if err := e.ejected(ctx, id); err != nil {
		return err
	}
	if err := e.hit(failpoint.DetachNetdev); err != nil {
		return err
	}
	if netdev != "" {
		if err := e.deleteNetdev(ctx, id, netdev); err != nil {
			return err
		}
	}
	if err := e.sweep(ctx, id); err != nil {
		return err
	}
	if netdev != "" {
		return nil // netdev_add had taken the descriptors
	}
	if err := e.sweepFDs(ctx, id, queueFD, 0); err != nil {
		return err
	}
	return e.sweepFDs(ctx, id, vhostFD, 0)
}

// ejected asks the guest and waits, as far as it has to.
func (e *engine) ejected(ctx context.Context, id string) error {
	plugged, err := e.hasDevice(ctx, deviceID(id))
	if err != nil || !plugged {
		return err
	}
	gone, err := e.askToEject(ctx, id)
	if err != nil || gone {
		return err
	}
	if err := e.hit(failpoint.DetachUnplug); err != nil {
		return err
	}
	return e.awaitEject(ctx, id, e.since.Add(e.limits.Eject))
}

// eject is both steps, for undoing a device_add.
func (e *engine) eject(ctx context.Context, id string, until time.Time) error {
	plugged, err := e.hasDevice(ctx, deviceID(id))
	if err != nil || !plugged {
		return err
	}
	gone, err := e.askToEject(ctx, id)
	if err != nil || gone {
		return err
	}
	return e.awaitEject(ctx, id, until)
}

// askToEject: a request that is pending already is an error in QEMU, and fine
// here; what is left to do is the same.
func (e *engine) askToEject(ctx context.Context, id string) (gone bool, err error) {
	err = e.Do(ctx, "device_del", map[string]string{"id": deviceID(id)}, nil)
	var refused *Error
	switch {
	case !asError(err, &refused):
		return false, err
	case refused.Class == deviceNotFound:
		return true, nil
	case strings.Contains(refused.Desc, "in the process of unplug"), // softmmu/qdev-monitor.c, qmp_device_del
		strings.Contains(refused.Desc, "power indicator blinking"): // hw/pci/pcie.c: native hotplug gives the guest 5 s
		return false, nil
	}
	return false, err
}

// awaitEject waits for the guest until then.
func (e *engine) awaitEject(ctx context.Context, id string, until time.Time) error {
	waitCtx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	err := e.awaitDeleted(waitCtx, deviceID(id))
	switch {
	case errors.Is(err, errKept):
		return vmnetd.Errorf(vmnetd.ErrBusy, "the guest of VM %s refused to let go of NIC %s: %w", vmnetd.Printable(e.vm), id, ErrEjecting)
	case err != nil && ctx.Err() == nil && waitCtx.Err() != nil:
		return e.lastLook(ctx, id)
	}
	return err
}

// lastLook: the event may have come to whoever was connected before us.
func (e *engine) lastLook(ctx context.Context, id string) error {
	plugged, err := e.hasDevice(ctx, deviceID(id))
	if err != nil || !plugged {
		return err
	}
	return vmnetd.Errorf(vmnetd.ErrBusy, "VM %s, NIC %s: %w", vmnetd.Printable(e.vm), id, ErrEjecting).
		WithNext("it goes when the guest runs and its OS handles PCI hotplug, or when the VM stops")
}
