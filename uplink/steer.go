package uplink

import (
	"maps"
	"slices"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/teaming"
)

// lastPrio is a priority that no port is declared with: teamd's activebackup
// runner takes such a port when there is no other (teamd.conf(5),
// ports.PORT.prio is any signed number).
const lastPrio = -1 << 30

// steered is a wanted World in which pinned members, drained ports and what was
// tried by hand in a team are respected. want is left as it is.
func steered(want World, d Declared, o overrides) World {
	w := want.clone()
	for _, spec := range d.Specs {
		w.drain(spec.Name, d.devicesOf(o.Drained[spec.Name]), d.devicesOf(spec.Under()))
		if member := o.Pinned[spec.Name]; member != "" && spec.Anchor != nil && w.there(spec.Name) {
			w.option(spec.Name, "primary", d.device(member))
		}
		w.try(spec.Name, o.Temporary[spec.Name])
	}
	return w
}

func (d Declared) devicesOf(names []string) []string {
	devices := make([]string, 0, len(names))
	for _, name := range names {
		devices = append(devices, d.device(name))
	}
	return devices
}

// spec is the declared uplink of that name.
func (d Declared) spec(name string) (Spec, bool) {
	i := slices.IndexFunc(d.Specs, func(s Spec) bool { return s.Name == name })
	if i < 0 {
		return Spec{}, false
	}
	return d.Specs[i], true
}

// option sets an option of a device, on a map of its own.
func (w World) option(name, option, value string) {
	w.set(name, func(d *Device) {
		options := maps.Clone(d.Options)
		if options == nil {
			options = map[string]string{}
		}
		options[option] = value
		d.Options = options
	})
}

// drain keeps ports of a device off its active path. Where one port is active
// another is preferred; where all send at once a port sends no more when it is
// down.
func (w World) drain(name string, drained, ports []string) {
	d, ok := w[name]
	if !ok || len(drained) == 0 {
		return
	}
	switch {
	case d.Team != nil && d.Team.Runner.Name == "activebackup":
		w.set(name, func(d *Device) { d.Team = lastOf(d.Team, drained) })
	case d.Kind == kindBond && d.Mode == "active-backup":
		if other := firstBut(ports, drained); slices.Contains(drained, d.Options["primary"]) && other != "" {
			w.option(name, "primary", other)
		}
	default:
		for _, port := range drained {
			if w.there(port) {
				w.set(port, func(d *Device) { d.Up = false })
			}
		}
	}
}

// lastOf is a team's configuration in which ports are taken when there is no
// other.
func lastOf(c *teaming.Config, drained []string) *teaming.Config {
	out := *c
	out.Ports = slices.Clone(c.Ports)
	for i, p := range out.Ports {
		if slices.Contains(drained, p.Name) {
			prio, sticky := lastPrio, false
			out.Ports[i].Prio, out.Ports[i].Sticky = &prio, &sticky
		}
	}
	return &out
}

func firstBut(names, but []string) string {
	for _, name := range names {
		if !slices.Contains(but, name) {
			return name
		}
	}
	return ""
}

// try respects ports that were put into a team or taken out of it by hand.
func (w World) try(name string, t temporary) {
	d, ok := w[name]
	if !ok || d.Team == nil {
		return
	}
	team := *d.Team
	team.Ports = slices.DeleteFunc(slices.Clone(team.Ports), func(p teaming.Port) bool { return slices.Contains(t.Removed, p.Name) })
	for _, port := range t.Added {
		team.Ports = append(team.Ports, teaming.Port{Name: port})
		w.set(port, func(d *Device) { d.Master = name })
	}
	for _, port := range t.Removed {
		if w[port].Master == name {
			w.set(port, func(d *Device) { d.Master = "" })
		}
	}
	w.set(name, func(d *Device) { d.Team = &team })
}

// activations is the steps that put active-backup devices on the port that they
// should be on: an anchor on its pinned member or the first that carries, any
// other only away from a drained port. Links that come back are the kernel's
// and teamd's own business.
func activations(is World, d Declared, o overrides) []Step {
	var steps []Step
	for _, spec := range d.Specs {
		dev := is[spec.Name]
		if !is.there(spec.Name) || !oneActive(dev) {
			continue
		}
		best := bestPort(is, spec, d, o)
		drained := d.devicesOf(o.Drained[spec.Name])
		if best != "" && best != dev.Active && (spec.Anchor != nil || slices.Contains(drained, dev.Active)) {
			steps = append(steps, Step{Verb: verbActivate, Device: best, Master: spec.Name, Kind: dev.Kind})
		}
	}
	return steps
}

// oneActive says that a device sends on one port at a time.
func oneActive(d Device) bool {
	return d.Kind == kindBond && d.Mode == "active-backup" || d.Team != nil && d.Team.Runner.Name == "activebackup"
}

// bestPort is the device that an active-backup uplink should be on, "" where
// none of its ports carries.
func bestPort(is World, spec Spec, d Declared, o overrides) string {
	carries := func(port string) bool { return is[port].Master == spec.Name && is[port].Up && is[port].Carrier }
	if pinned := o.Pinned[spec.Name]; pinned != "" && carries(d.device(pinned)) {
		return d.device(pinned)
	}
	drained := d.devicesOf(o.Drained[spec.Name])
	last := ""
	for _, port := range d.devicesOf(spec.Under()) {
		switch {
		case !carries(port):
		case !slices.Contains(drained, port):
			return port
		case last == "":
			last = port
		}
	}
	return last
}

// sends says that an uplink of that kind has ports of which some can rest.
func sends(spec Spec) bool {
	return spec.Kind == vmnetd.UplinkBond || spec.Kind == vmnetd.UplinkTeam || spec.Kind == vmnetd.UplinkAnchor
}

// reprioritised is a team's configuration with the priorities and stickiness of
// another one.
func reprioritised(c, prio *teaming.Config) *teaming.Config {
	if c == nil || prio == nil {
		return c
	}
	out := *c
	out.Ports = slices.Clone(c.Ports)
	for i, p := range out.Ports {
		from := teamPort(prio, p.Name)
		out.Ports[i].Prio, out.Ports[i].Sticky = from.Prio, from.Sticky
	}
	return &out
}
