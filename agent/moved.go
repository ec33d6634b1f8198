package agent

import (
	"context"
	"errors"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor"
	"github.com/vmnetd/vmnetd/internal/netns"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/room"
	"github.com/vmnetd/vmnetd/tapdev"
)

// errMoved says that a device's queues are asked for after it went to its place:
// its node is not there any more. Its VM has lost the NIC.
var errMoved = vmnetd.Errorf(vmnetd.ErrBusy, "the device was handed over before")

// handedGone is a Handed that no device has.
const handedGone = -1

// locate is the record's device, wherever it is: one that was on its way when the
// daemon ended is still here, and its record comes back without Moved.
func (a *Agent) locate(ctx context.Context, r record) (record, tapdev.Device, error) {
	dev, err := a.dev(ctx, r)
	if !r.Moved || !errors.Is(err, vmnetd.ErrNotFound) {
		return r, dev, err
	}
	here := r
	here.Moved = false
	if dev, herr := a.dev(ctx, here); !errors.Is(herr, vmnetd.ErrNotFound) {
		return here, dev, herr
	}
	return r, dev, err
}

// moved finds a device that went to its place. Without one the record comes back
// without Moved.
func (a *Agent) moved(ctx context.Context, r record, lower rtnl.Link) (record, tapdev.Device, error) {
	r, dev, err := a.locate(ctx, r)
	switch {
	case err == nil && !r.Moved:
		return r, tapdev.Device{}, nil
	case err == nil && dev.Lower == lower.Index:
		r.take(dev)
		r.Handed = dev.Ifindex // none is moved before its queues are held
		a.store.note(r)
		return r, dev, nil
	case err == nil: // its uplink is another device now
		err = a.remove(ctx, r, dev)
	case errors.Is(err, vmnetd.ErrNotFound):
		err = nil
	}
	if err != nil {
		return r, dev, err
	}
	if r.Moved = false; r.Handed != 0 {
		r.Handed = handedGone
	}
	return r, tapdev.Device{}, nil
}

// anew replaces a device that was moved under a NIC that its VM has no more.
func (a *Agent) anew(ctx context.Context, r record, dev tapdev.Device, vm hypervisor.VM) (record, error) {
	if err := a.remove(ctx, r, dev); err != nil {
		return r, err
	}
	r.Moved, r.Handed = false, 0
	return a.converge(ctx, r, vm)
}

// farEnd is the namespace in which the far end of the record's device is made; nil
// for devices without one.
func (a *Agent) farEnd(ctx context.Context, r record) (ns *netns.NS, err error) {
	if r.home() == "" || r.leaves() {
		return nil, nil
	}
	err = a.in(ctx, r, r.home(), false, func(p room.Place) error {
		ns, err = p.NS().Clone()
		return err
	})
	return ns, err
}
