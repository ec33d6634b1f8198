package agent

import (
	"context"
	"errors"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/room"
	"github.com/vmnetd/vmnetd/tapdev"
)

// Where devices live. A device is made in the daemon's own namespace, beside its
// uplink. An ipvtap goes on to vmnetd's namespace once its queues are held, since
// the stack of the namespace that it lives in would answer for the guest's
// addresses; an endpoint goes to the namespace that it is for.

// ownRoom is the value of record.Netns for vmnetd's own namespace.
const ownRoom = "own"

// viaNetns begins the Via of what is no VM but a network namespace.
const viaNetns = "netns:"

// endpoint says that the record is for a network namespace.
func (r record) endpoint() bool { return strings.HasPrefix(r.Via, viaNetns) }

// home is where the record's device belongs: "" for the daemon's own namespace.
func (r record) home() string {
	switch {
	case r.endpoint():
		return strings.TrimPrefix(r.Via, viaNetns)
	case r.Mode.Info().Moves:
		return ownRoom
	}
	return ""
}

// leaves says that the device itself goes there; of a veth it is the far end that
// was made there.
func (r record) leaves() bool { return r.home() != "" && (!r.endpoint() || r.Mode.Sends(r.Kind) == "") }

// at calls f with the place that is named so. mayMake: vmnetd's own is made where it
// is missing.
func (a *Agent) at(ctx context.Context, name string, mayMake bool, f func(room.Place) error) error {
	switch name {
	case "":
		return f(a.o.Rooms.Here())
	case ownRoom:
		p, err := a.o.Rooms.Own(ctx, mayMake)
		if err != nil {
			return err
		}
		return f(p)
	}
	p, err := a.o.Rooms.At(ctx, name)
	if err != nil {
		return err
	}
	return errors.Join(f(p), p.Close())
}

// in is at for a place of the record's. Another namespace that came at the path of
// somebody's since it was found is not it, and gets nothing of it: vmnetd.ErrNotFound.
func (a *Agent) in(ctx context.Context, r record, name string, mayMake bool, f func(room.Place) error) error {
	reached := false
	err := a.at(ctx, name, mayMake, func(p room.Place) error {
		reached = true
		if name != "" && r.endpoint() && !strings.HasPrefix(r.Instance, viaNetns+p.ID()+":") {
			return vmnetd.Errorf(vmnetd.ErrNotFound, "%s is another network namespace than a moment ago", r.home()).WithNext("try again")
		}
		return f(p)
	})
	if !reached && name != "" {
		err = r.endOf(err)
	}
	return err
}

// endOf is what an error means of which it was looked for the record's namespace:
// where its path leads to none of others any more, as that of a process whose number
// is another's now, it has gone (vmnetd.ErrNotFound).
func (r record) endOf(err error) error {
	if r.endpoint() && errors.Is(err, vmnetd.ErrInvalid) {
		return vmnetd.Errorf(vmnetd.ErrNotFound, "its network namespace has gone: %w", err)
	}
	return err
}

// replaced says that the record's namespace has gone and the next one is not told
// from it: inode and number are the same where the kernel has counted that. Its
// device is not in there.
func (a *Agent) replaced(ctx context.Context, r record) bool {
	nsid, ok := hypervisor.NetnsNumber(r.Instance)
	if !ok || rtnl.Drawn(nsid) || !r.inForeignHands() {
		return false
	}
	_, err := a.dev(ctx, r)
	return errors.Is(err, vmnetd.ErrNotFound)
}

// where is the name of the place in which the record's device is now.
func (r record) where() string {
	if r.Moved {
		return r.home()
	}
	return ""
}

// dev is the record's device; vmnetd.ErrNotFound when it, or the place that it was
// in, has gone.
func (a *Agent) dev(ctx context.Context, r record) (dev tapdev.Device, err error) {
	if !r.Moved {
		dev, err = a.o.Devices.Find(ctx, r.Ifname)
		if err == nil && (dev.VM != r.VM || dev.ID != r.ID) {
			err = vmnetd.Errorf(vmnetd.ErrNotFound, "the device %s is %s/%s's", dev.Ifname, dev.VM, dev.ID)
		}
		if err != nil {
			return tapdev.Device{}, err
		}
		dev.Queues = r.Queues // a tap's device does not tell
		return dev, nil
	}
	err = a.in(ctx, r, r.home(), false, func(p room.Place) error {
		dev, err = p.FindNIC(ctx, r.VM, r.ID)
		return err
	})
	return dev, err
}

// setUp sets the record's device up or down.
func (a *Agent) setUp(ctx context.Context, r record, dev tapdev.Device, up bool) error {
	if !r.Moved {
		return a.o.Devices.SetUp(ctx, dev, up)
	}
	return a.in(ctx, r, r.home(), false, func(p room.Place) error { return p.SetUp(ctx, dev, up) })
}

// removeLeft deletes a device in a namespace that has lost its path and is kept by
// processes: it would go on on the uplink, with its MAC, and nobody could name it.
func (a *Agent) removeLeft(ctx context.Context, r record, dev tapdev.Device) error {
	nsid, ok := hypervisor.NetnsNumber(r.Instance)
	if !ok || !r.inForeignHands() {
		return nil
	}
	return a.o.Devices.RemoveLeft(ctx, nsid, dev)
}

// remove deletes the record's device with its filter; what has gone is fine, and so
// is a place that has.
func (a *Agent) remove(ctx context.Context, r record, dev tapdev.Device) error {
	err := a.in(ctx, r, r.where(), false, func(p room.Place) error {
		if r.Guarded {
			if err := p.Unguard(ctx, dev.Ifname); err != nil {
				return err
			}
		}
		if r.Moved {
			return p.Remove(ctx, dev)
		}
		return a.o.Devices.Remove(ctx, dev)
	})
	if r.Moved && errors.Is(err, vmnetd.ErrNotFound) {
		return nil
	}
	return err
}
