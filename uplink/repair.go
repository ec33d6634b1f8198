package uplink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/teaming"
)

// Repair puts right alone what is missing and costs no guest anything: devices
// that a reboot has removed, a dead teamd of ours, a port that is not in, an
// uplink that is down, a MAC that was changed, an active port that is drained
// or not the one that is pinned. Any other difference is drift, and stays.
func (m *Manager) Repair(ctx context.Context) error {
	return m.exclusive(ctx, func(ctx context.Context) error {
		if err := m.settle(ctx); err != nil {
			m.log.Error("an earlier apply of uplinks", "err", err)
		}
		a, o, ever := m.kept()
		if !ever || m.Waiting() != nil {
			return nil // what waits may be taken back: it is not what is to be
		}
		return m.repair(ctx, a, o)
	})
}

func (m *Manager) repair(ctx context.Context, a applied, o overrides) error {
	d := m.declared(ctx, a.Specs)
	is, err := m.kernel.look(ctx)
	if err != nil {
		return err
	}
	full, _ := want(d, is)
	m.remember(is, full, d)
	held := heldDevices(d, o, time.Now())
	taken, errs := m.takeOver(ctx, is, steered(full, d, o), held)
	if taken {
		if is, err = m.kernel.look(ctx); err != nil {
			return errors.Join(append(errs, err)...)
		}
		full, _ = want(d, is)
	}
	seen := m.sighted()
	fresh := seen.arrived(is, full, held)
	steps := diff(is, repairable(is, steered(full, d, o), held, fresh))
	if len(steps) > 0 {
		for _, s := range steps {
			m.repaired(s)
		}
		errs = append(errs, m.doAll(ctx, steps))
		if is, err = m.kernel.look(ctx); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	if errors.Join(errs...) == nil {
		errs = append(errs, m.sight(seen, is, fresh))
	}
	errs = append(errs, m.doAll(ctx, m.unheld(activations(is, d, o), o)))
	return errors.Join(errs...)
}

// repaired tells of a step, once each: not of the small ones that belong to it.
func (m *Manager) repaired(s Step) {
	var text string
	switch s.Verb {
	case verbMake:
		text = s.Device + " was not there and is made again"
	case verbEnslave:
		text = s.Device + " was not a port of " + s.Master + " and is put in again"
	case verbMAC:
		text = fmt.Sprintf("the MAC of %s had changed and is %s again", s.Device, s.MAC)
	default:
		return
	}
	m.tell(vmnetd.Event{Time: time.Now(), Event: "repaired", Uplink: s.Device, Text: text})
}

func (m *Manager) unheld(steps []Step, o overrides) []Step {
	now := time.Now()
	return slices.DeleteFunc(steps, func(s Step) bool { return o.held(s.Master, now) })
}

// heldDevices is the devices of uplinks that are not to be converged now.
func heldDevices(d Declared, o overrides, now time.Time) map[string]bool {
	held := map[string]bool{}
	for name := range o.Held {
		if o.held(name, now) {
			held[d.device(name)] = true
		}
	}
	return held
}

// repairable is the part of a wanted World that may be brought about alone:
// what is not there is made, a port that is nobody's is put in, a device that
// is down is set up, a MAC is put right, and a NIC that has only just come gets
// its MTU. Everything else stays as it is.
func repairable(is, want World, held, fresh map[string]bool) World {
	target := is.clone()
	for _, name := range want.order() {
		w := want[name]
		switch {
		case w.Absent, w.Foreign, !want.ours(name), held[name], held[w.Master]:
		case is.there(name):
			target.set(name, func(d *Device) { d.mend(w) })
			if fresh[name] && w.MTU != 0 {
				target.set(name, func(d *Device) { d.MTU = w.MTU })
			}
		case w.Kind != kindNIC && (w.Lower == "" || target.there(w.Lower)):
			w.Addrs, w.Routes = nil, nil // the host's own tool gives them
			target[name] = w
		}
	}
	target.join(is, want, held)
	return target
}

// ours says that a device is a declared uplink or a port of one.
func (w World) ours(name string) bool {
	return w[name].Uplink != "" || w[w[name].Master].Uplink != ""
}

// mend sets a device up, or down where it is drained, and gives it its MAC.
func (d *Device) mend(want Device) {
	d.Uplink, d.Up = want.Uplink, want.Up
	if d.Kind == want.Kind && want.Kind != kindNIC && want.MAC != "" {
		d.MAC = want.MAC
	}
}

// join puts ports in that are nobody's and that nothing stands on.
func (w World) join(is, want World, held map[string]bool) {
	for _, name := range want.names() {
		port := want[name]
		master := port.Master
		if held[master] || !w.joins(is, want, name) {
			continue
		}
		w.set(name, func(d *Device) { d.Master, d.PortOptions, d.Up = master, port.PortOptions, port.Up })
		if is.there(master) && governed(w, name) {
			w.set(name, func(d *Device) { d.MTU = is[master].MTU })
		}
		if is.there(master) && w[master].Team != nil && want[master].Team != nil {
			w.set(master, func(d *Device) { d.Team = withPort(d.Team, teamPort(want[master].Team, name)) })
		}
	}
}

// joins says that a port may be put in: one that somebody has, or whose master
// is of another kind, is drift, and stays.
func (w World) joins(is, want World, name string) bool {
	port := want[name]
	master := port.Master
	if master == "" || !w.there(name) || !w.there(master) || port.Foreign || want[master].Foreign {
		return false
	}
	return is[name].Master == "" && len(is[name].Users) == 0 && w[master].Kind == want[master].Kind
}

// withPort is a team's configuration with one port more.
func withPort(c *teaming.Config, p teaming.Port) *teaming.Config {
	out := *c
	out.Ports = append(slices.DeleteFunc(slices.Clone(c.Ports), portNamed(p.Name)), p)
	return &out
}
