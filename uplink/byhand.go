package uplink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vmnetd/vmnetd"
)

// Move puts an anchor on one of its members until it is moved again, over
// restarts and reboots; "" lets it choose by itself again.
func (m *Manager) Move(ctx context.Context, anchor, to string) error {
	return m.byHand(ctx, anchor, func(o overrides) {
		if to == "" {
			delete(o.Pinned, anchor)
			return
		}
		o.Pinned[anchor] = to
	}, func(is World, d Declared, spec Spec, _ overrides) error { return canMove(is, d, spec, to) })
}

func canMove(is World, d Declared, spec Spec, to string) error {
	switch {
	case spec.Anchor == nil:
		return vmnetd.Errorf(vmnetd.ErrInvalid, "%s is no anchor: only an anchor is moved", spec.Name).WithNext("vmnetd uplink drain PORT  takes a port off an uplink's path")
	case to == "":
		return nil
	case !slices.Contains(spec.Under(), to):
		return vmnetd.Errorf(vmnetd.ErrNotFound, "%s is no member of %s", vmnetd.Printable(to), spec.Name).WithNext("its members are " + strings.Join(spec.Under(), ", "))
	}
	device := d.device(to)
	switch {
	case is[device].Master != spec.Name:
		return vmnetd.Errorf(vmnetd.ErrBusy, "%s is not in %s now", to, spec.Name).WithNext("vmnetd uplink show " + to)
	case !is[device].Up || !is[device].Carrier:
		return vmnetd.Errorf(vmnetd.ErrBusy, "%s has no carrier: guests on %s would lose their network", to, spec.Name).WithNext("vmnetd uplink show " + to)
	}
	return nil
}

// SetDrain moves the active path off a port and keeps it off, or ends that. The
// port is used again only while no other one carries.
func (m *Manager) SetDrain(ctx context.Context, uplink, port string, on bool) error {
	return m.byHand(ctx, uplink, func(o overrides) { o.drain(uplink, port, on) }, func(is World, d Declared, spec Spec, o overrides) error {
		if !on {
			return isPort(spec, port)
		}
		return canDrain(is, d, spec, port, o)
	})
}

func isPort(spec Spec, port string) error {
	if !slices.Contains(spec.Under(), port) {
		return vmnetd.Errorf(vmnetd.ErrNotFound, "%s is no port of %s", vmnetd.Printable(port), spec.Name).WithNext("its ports are " + strings.Join(spec.Under(), ", "))
	}
	return nil
}

func canDrain(is World, d Declared, spec Spec, port string, o overrides) error {
	if !sends(spec) {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "%s has no port to fall back to: it is a %s", spec.Name, spec.Kind).WithNext("drain a port of a bond, a team or an anchor")
	}
	if err := isPort(spec, port); err != nil {
		return err
	}
	for _, other := range spec.Under() {
		device := is[d.device(other)]
		if other != port && !slices.Contains(o.Drained[spec.Name], other) && device.Master == spec.Name && device.Up && device.Carrier {
			return nil
		}
	}
	return vmnetd.Errorf(vmnetd.ErrBusy, "%s is the last port of %s that carries: draining it would cut %s off", port, spec.Name, spec.Name).
		WithNext("vmnetd uplink show " + spec.Name)
}

// byHand stores what was said of an uplink and brings it about. It is stored
// first: killed in between, the next repair does it. What fails is not kept.
func (m *Manager) byHand(ctx context.Context, name string, say func(overrides), allowed func(World, Declared, Spec, overrides) error) error {
	return m.exclusive(ctx, func(ctx context.Context) error {
		a, before, _ := m.kept()
		d := m.declared(ctx, a.Specs)
		spec, ok := d.spec(name)
		if !ok || !made(spec) {
			return unknown(name)
		}
		is, err := m.kernel.look(ctx)
		if err != nil {
			return err
		}
		if err := allowed(is, d, spec, before); err != nil {
			return err
		}
		if err := m.change(say); err != nil {
			return err
		}
		_, now, _ := m.kept()
		if err := m.steer(ctx, is, d, spec, before, now); err != nil {
			return errors.Join(err, m.change(func(o overrides) { o.restore(before, name) }))
		}
		return nil
	})
}

// restore is what was said of one uplink before.
func (o overrides) restore(before overrides, name string) {
	before = before.clone()
	for _, port := range o.Drained[name] {
		o.drain(name, port, false)
	}
	for _, port := range before.Drained[name] {
		o.drain(name, port, true)
	}
	delete(o.Pinned, name)
	if member, ok := before.Pinned[name]; ok {
		o.Pinned[name] = member
	}
}

// steer takes the steps that a change of overrides makes of one uplink: the
// difference between what both say it should be, so that drift stays.
func (m *Manager) steer(ctx context.Context, is World, d Declared, spec Spec, before, now overrides) error {
	full, _ := want(d, is)
	from, to := steered(full, d, before), steered(full, d, now)
	target := is.clone()
	device := d.device(spec.Name)
	target.set(device, func(t *Device) {
		t.Uplink, t.Options, t.Team = spec.Kind, with(t.Options, changed(from[device].Options, to[device].Options)), reprioritised(t.Team, to[device].Team)
	})
	for _, port := range d.devicesOf(spec.Under()) {
		if from[port].Up != to[port].Up && is[port].Master == device {
			target.set(port, func(t *Device) { t.Up = to[port].Up })
		}
	}
	// First away from the port, then what keeps it away: a team that is told
	// that its active port is the last choice would look for itself.
	if err := m.do(ctx, activations(is, Declared{Specs: []Spec{spec}, Devices: d.Devices}, now)); err != nil {
		return err
	}
	return m.do(ctx, diff(is, target))
}

// SetHold stops converging an uplink until a moment; the zero time ends it.
func (m *Manager) SetHold(_ context.Context, uplink string, until time.Time) error {
	a, _, _ := m.kept()
	if !specNamed(a.Specs, uplink) {
		return unknown(uplink)
	}
	if !until.IsZero() && !until.After(time.Now()) {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "%s is held until a moment that has passed", uplink).WithNext(fmt.Sprintf("vmnetd uplink hold %s --for 1h", uplink))
	}
	err := m.change(func(o overrides) {
		delete(o.Held, uplink)
		if !until.IsZero() {
			o.Held[uplink] = until
		}
	})
	m.wake(m.again)
	return err
}
