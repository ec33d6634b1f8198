package uplink

import (
	"maps"
	"slices"

	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// play is what a step does to a World, with what the kernel does by itself.
func (w World) play(s Step) {
	switch s.Verb {
	case verbMake:
		w[s.Device] = s.device()
	case verbDelete:
		delete(w, s.Device)
	case verbUp, verbDown:
		w.set(s.Device, func(d *Device) { d.setUp(s.Verb == verbUp) })
	case verbEnslave:
		w.enslave(s)
	case verbRelease:
		w.release(s)
	case verbMAC:
		w.set(s.Device, func(d *Device) { d.MAC = s.MAC })
	case verbMTU:
		w.resize(s.Device, s.MTU)
	case verbOptions, verbPort, verbTeam, verbRestart:
		w.set(s.Device, func(d *Device) { d.configure(s) })
	case verbActivate:
		w.set(s.Master, func(d *Device) { d.Active = s.Device })
	case verbAwait:
	default:
		w.set(s.Device, func(d *Device) { d.address(s) })
	}
}

// device is what a step that makes one makes.
func (s Step) device() Device {
	d := Device{
		Name: s.Device, Kind: s.Kind, MAC: s.MAC, MTU: s.MTU, Mode: s.Mode,
		Options: s.Options, Team: s.Team, VLAN: s.VLAN,
	}
	if s.VLAN != nil {
		d.Lower = s.VLAN.Over
	}
	return d
}

// setUp: a device that is set down loses its routes (fib_disable_ip) and its
// IPv6 addresses (addrconf_ifdown, unless keep_addr_on_down is set).
func (d *Device) setUp(up bool) {
	d.Up = up
	if up {
		return
	}
	d.Routes = nil
	d.Addrs = slices.DeleteFunc(slices.Clone(d.Addrs), func(a rtnl.Addr) bool { return a.Prefix.Addr().Is6() })
}

// enslave: bond_enslave and team_port_add give the port their MTU and set it
// up.
func (w World) enslave(s Step) {
	mtu := w[s.Master].MTU
	w.set(s.Device, func(d *Device) {
		d.Master, d.PortOptions = s.Master, nil
		if s.Kind != kindBridge {
			d.Up = true
		}
		if s.Kind == kindBond {
			d.PortOptions = map[string]string{"prio": "0", "queue_id": "0"}
		}
	})
	if s.Kind != kindBridge && mtu != 0 {
		w.resize(s.Device, mtu)
	}
	w.set(s.Master, func(d *Device) {
		if d.Team != nil && s.Team != nil {
			config := *d.Team
			config.Ports = slices.DeleteFunc(slices.Clone(config.Ports), portNamed(s.Device))
			config.Ports = append(config.Ports, s.Team.Ports...)
			d.Team = &config
		}
	})
}

// release: a bond and a team set the port down and give it back the MAC and MTU
// that it came with, which is not known here but for a NIC's own MAC
// (__bond_release_one, team_port_del); a bridge does not. A
// bond without ports gets a random MAC, and then that of its next port.
func (w World) release(s Step) {
	w.set(s.Device, func(d *Device) {
		d.Master, d.PortOptions = "", nil
		if s.Kind == kindBridge {
			return
		}
		d.setUp(false)
		d.MAC, d.MTU = d.PermMAC, 0
	})
	w.set(s.Master, func(d *Device) {
		if d.Active == s.Device {
			d.Active = ""
		}
		if d.Kind == kindBond && len(w.ports(s.Master)) == 0 {
			d.MAC = ""
		}
		d.Options = part(d.Options, func(o string) bool { return !late(o) || d.Options[o] != s.Device })
		if d.Team != nil {
			config := *d.Team
			config.Ports = slices.Clone(config.Ports)
			config.Ports = slices.DeleteFunc(config.Ports, portNamed(s.Device))
			d.Team = &config
		}
	})
}

// resize gives the MTU to the ports of a bond or team as well, and lowers that
// of VLANs (vlan_device_event).
func (w World) resize(name string, mtu int) {
	w.set(name, func(d *Device) { d.MTU = mtu })
	for _, other := range w.names() {
		d := w[other]
		switch {
		case d.Master == name && w[name].Kind != kindBridge:
			w.resize(other, mtu)
		case d.Kind == kindVLAN && d.Lower == name && d.MTU > mtu:
			w.resize(other, mtu)
		}
	}
}

func (d *Device) configure(s Step) {
	if s.Team != nil {
		d.Team = s.Team
	}
	if s.Mode != "" {
		d.Mode = s.Mode
	}
	if s.Verb == verbPort {
		d.PortOptions = with(d.PortOptions, s.Options)
		return
	}
	d.Options = with(d.Options, s.Options)
}

// with is options with some of them changed.
func with(options, more map[string]string) map[string]string {
	out := maps.Clone(options)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, more)
	return out
}

func (d *Device) address(s Step) {
	switch s.Verb {
	case verbAddrAdd:
		d.Addrs = append(slices.Clone(d.Addrs), *s.Addr)
	case verbAddrDel:
		d.Addrs = slices.DeleteFunc(slices.Clone(d.Addrs), func(a rtnl.Addr) bool { return a == *s.Addr })
		// fib_sync_down_addr: routes that prefer the address go with it.
		d.Routes = slices.DeleteFunc(slices.Clone(d.Routes), func(r rtnl.Route) bool { return r.From == s.Addr.Prefix.Addr() })
	case verbRouteAdd:
		d.Routes = append(slices.Clone(d.Routes), *s.Route)
	case verbRouteDel:
		d.Routes = slices.DeleteFunc(slices.Clone(d.Routes), func(r rtnl.Route) bool { return r == *s.Route })
	}
}
