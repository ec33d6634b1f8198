package agent

import (
	"context"
	"errors"
	"net"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/room"
	"github.com/vmnetd/vmnetd/tapdev"
)

// finish brings a device whose queues are held, or that needs none, to where it
// works: in its place, with its addresses, filtered, up, and written down.
func (a *Agent) finish(ctx context.Context, r record, dev tapdev.Device) (record, error) {
	a.takeClaims(ctx, r)
	r, dev, err := a.settle(ctx, r, dev)
	if err != nil {
		return r, err
	}
	if r, err = a.guard(ctx, r, dev); err != nil {
		return r, err
	}
	r.Unforced = false
	return a.linkUp(ctx, r, dev)
}

// settle moves the device to where it belongs and gives it there what it is to
// have. A device that has no place but this one needs nothing.
func (a *Agent) settle(ctx context.Context, r record, dev tapdev.Device) (record, tapdev.Device, error) {
	if r.home() == "" {
		return r, dev, nil
	}
	err := a.in(ctx, r, r.home(), true, func(p room.Place) error {
		if r.leaves() && !r.Moved {
			r.Moved = true // a start after a crash looks there, too
			if err := a.store.put(r); err != nil {
				return err
			}
			if err := a.o.Devices.Move(ctx, dev, p.NS()); err != nil {
				return err
			}
			r.Rdev = 0 // the node went with the namespace
			if err := a.o.FP.Hit(failpoint.ConvergeMoved); err != nil {
				return err
			}
		}
		there, err := a.furnish(ctx, r, p)
		if err != nil || !r.leaves() {
			return err
		}
		dev = there
		r.Ifindex, r.Handed = dev.Ifindex, dev.Ifindex
		return nil
	})
	return r, dev, err
}

// furnish gives the device in its place addresses, routes and name.
func (a *Agent) furnish(ctx context.Context, r record, p room.Place) (tapdev.Device, error) {
	dev, err := p.FindNIC(ctx, r.VM, r.ID)
	if errors.Is(err, vmnetd.ErrNotFound) { // the far end of a veth has no mark yet
		dev, err = tapdev.Device{VM: r.VM, ID: r.ID, Ifname: r.Ifname}, nil
	}
	if err != nil {
		return dev, err
	}
	s, err := a.settings(r)
	if err == nil {
		dev, err = p.Settle(ctx, dev, s)
	}
	if err == nil && r.Mode.Info().Routed && !r.endpoint() {
		err = p.Answer(ctx, dev)
	}
	if err == nil && r.endpoint() && !r.leaves() { // the far end; the device itself goes up last
		err = p.SetUp(ctx, dev, true)
	}
	return dev, err
}

// settings is what the device is to have in its place. An ipvtap has its uplink's MTU
// whenever that changes (drivers/net/ipvlan/ipvlan_main.c, ipvlan_adjust_mtu).
func (a *Agent) settings(r record) (s tapdev.Settings, err error) {
	s = tapdev.Settings{VM: r.VM, ID: r.ID, Ifname: r.Ifname, Guest: !r.endpoint(), IPs: r.delivered()}
	if r.endpoint() {
		s.Name, s.Routes = r.Name, r.Terms.Routes
		s.MAC, err = r.ownMAC()
	} else if lower, ok := a.o.Links.ByIndex(r.Lower); ok {
		s.MTU = min(r.MTU, lower.MTU)
	}
	return s, err
}

// ownMAC is the MAC to give in the place; nil where the kind has its uplink's.
func (r record) ownMAC() (net.HardwareAddr, error) {
	if r.Mode.Info().SharesMAC {
		return nil, nil
	}
	return r.mac()
}

// guard puts filter and bandwidth on the device; it goes up with them, or not at
// all.
func (a *Agent) guard(ctx context.Context, r record, dev tapdev.Device) (record, error) {
	if r.Mode.Sends(r.Kind) == "" { // a namespace's own: policy gives those without a filter alone
		return r, nil
	}
	spec, err := r.guard(dev.Ifname)
	if err != nil {
		return r, err
	}
	on := spec.Filtered() || spec.In.Bits != 0 || spec.Out.Bits != 0
	if !on && !r.Guarded {
		return r, nil
	}
	r.Guarded = true // whatever comes of it is to be removed
	a.store.note(r)
	if err := a.in(ctx, r, r.where(), false, func(p room.Place) error { return p.Guard(ctx, spec) }); err != nil {
		return r, err
	}
	r.Guarded = on
	return r, a.o.FP.Hit(failpoint.ConvergeGuarded)
}
