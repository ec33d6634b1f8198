package uplink

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/bonding"
	"github.com/vmnetd/vmnetd/teaming"
)

// Declared is what a wanted World is made from.
type Declared struct {
	Specs   []Spec
	Devices map[string]string // device names of nic and external uplinks, by the uplink's name; see resolve
	MACs    map[string]string // recorded at an uplink's first apply, by its name
	Made    map[string]string // kinds of the devices that an earlier apply made, by name
}

// device is the name of an uplink's device; what is no uplink is a device.
func (d Declared) device(name string) string {
	if device, ok := d.Devices[name]; ok {
		return device
	}
	return name
}

// wanter makes a World from what is declared.
type wanter struct {
	Declared
	is, want World
	checks   []vmnetd.Check
}

// want is the World that is declared: what is there and not declared stays as
// it is, what an earlier apply made and is declared no more goes. The checks
// are what cannot be had on this host.
func want(d Declared, is World) (World, []vmnetd.Check) {
	m := wanter{Declared: d, is: is, want: is.clone()}
	specs := sortSpecs(d)
	declared := map[string]bool{}
	for _, s := range specs {
		declared[d.device(s.Name)] = true
		m.shape(s)
	}
	for name, kind := range d.Made {
		if !declared[name] && is.there(name) && is[name].Kind == kind {
			m.want[name] = Device{Name: name, Kind: kind, Absent: true}
		}
	}
	m.free()
	for _, s := range specs {
		m.identify(s)
	}
	for i := range specs {
		m.resize(specs[len(specs)-1-i])
	}
	moveAddresses(is, m.want)
	return m.want, m.checks
}

// free lets the ports go of what is removed. A device that leaves its bond or
// team has its own MAC and MTU again: what it has now was its master's.
func (m *wanter) free() {
	for name, dev := range m.want {
		if dev.Master != "" && !m.want.there(dev.Master) {
			dev.Master, dev.PortOptions = "", nil
		}
		if dev.Master != m.is[name].Master && governed(m.is, name) && !dev.Absent {
			dev.MAC, dev.MTU = dev.PermMAC, 0
		}
		m.want[name] = dev
	}
}

func (m *wanter) fail(s Spec, next, format string, args ...any) {
	m.checks = append(m.checks, vmnetd.Check{Level: vmnetd.LevelFail, Name: s.Name, Text: fmt.Sprintf(format, args...), Do: next})
}

// shape gives an uplink's device its kind, options and ports.
func (m *wanter) shape(s Spec) {
	name := m.device(s.Name)
	dev, there := m.want[name]
	dev.Name, dev.Absent, dev.Foreign = name, false, s.Kind == vmnetd.UplinkExternal
	dev.Uplink = s.Kind
	switch s.Kind {
	case vmnetd.UplinkExternal, vmnetd.UplinkNIC:
		if !there {
			m.fail(s, "", "this host has no device with the %s of %s", declared(s), s.Name)
			return
		}
		dev.Up = dev.Up || s.Kind == vmnetd.UplinkNIC
	default:
		dev.Up = true
		if there && dev.Kind != kindOf(s) {
			dev = Device{Name: name, Uplink: s.Kind, Up: true, Master: dev.Master, MAC: dev.MAC, Addrs: dev.Addrs, Routes: dev.Routes}
		}
		dev.Kind = kindOf(s)
		m.configure(s, &dev)
	}
	m.want[name] = dev
	m.enslave(s, name)
}

func kindOf(s Spec) string {
	if s.Kind == vmnetd.UplinkAnchor {
		return kindBond
	}
	return s.Kind // the others' names are the kernel's
}

func (m *wanter) configure(s Spec, dev *Device) {
	switch s.Kind {
	case vmnetd.UplinkBond:
		m.bond(s, dev)
	case vmnetd.UplinkAnchor:
		dev.Mode, dev.Options = anchorMode, with(dev.Options, m.anchorOptions(s))
	case vmnetd.UplinkTeam:
		dev.Team = m.team(s.Team)
	case vmnetd.UplinkVLAN:
		v := *s.VLAN
		v.Over = m.device(v.Over)
		if v.Protocol == "" {
			v.Protocol = "802.1Q"
		}
		if dev.Lower != v.Over {
			dev.MTU = 0 // what it had was of another lower device
		}
		dev.VLAN, dev.Lower = &v, v.Over
	case vmnetd.UplinkBridge:
		dev.Options = with(dev.Options, bridgeOptions(s.Bridge))
	}
}

func (m *wanter) bond(s Spec, dev *Device) {
	c, err := s.Bond.Canonical() // the kernel's own words, to be compared with what it says
	if err != nil {
		m.fail(s, vmnetd.NextOf(err), "%s: %v", s.Name, err)
		return
	}
	if dev.Mode != c.Mode {
		dev.Options = nil // what another mode had means nothing in this one
	}
	dev.Mode, dev.Options = c.Mode, with(dev.Options, m.deviceOptions(c.Options))
}

// deviceOptions has device names in the options that name a port.
func (m *wanter) deviceOptions(options map[string]string) map[string]string {
	out := maps.Clone(options)
	for o, port := range out {
		if late(o) {
			out[o] = m.device(port)
		}
	}
	return out
}

func (m *wanter) team(c *teaming.Config) *teaming.Config {
	config := *c
	config.Ports = slices.Clone(c.Ports)
	for i := range config.Ports {
		config.Ports[i].Name = m.device(config.Ports[i].Name)
	}
	return &config
}

// enslave makes what the uplink is declared over its ports, and lets go those
// that it has and that are declared no more.
func (m *wanter) enslave(s Spec, master string) {
	if s.Kind == vmnetd.UplinkExternal || s.Kind == vmnetd.UplinkNIC || s.Kind == vmnetd.UplinkVLAN {
		return
	}
	for _, port := range m.want.ports(master) {
		m.want.set(port, func(d *Device) { d.Master, d.PortOptions = "", nil })
	}
	m.want.set(master, func(d *Device) { d.Ports = m.devicesOf(s.Under()) })
	for _, under := range s.Under() {
		port := m.device(under)
		if _, ok := m.want[port]; !ok {
			m.fail(s, "", "%s has no port %s: this host has no such device", s.Name, vmnetd.Printable(under))
			continue
		}
		options := map[string]string(nil)
		if m.is[port].Master == master && m.is[master].Mode == m.want[master].Mode { // another mode has others
			options = m.is[port].PortOptions
		}
		if s.Bond != nil {
			c, _ := s.Bond.Canonical()
			options = with(options, portOf(c, under).Options)
		}
		m.want.set(port, func(d *Device) { d.Master, d.PortOptions, d.Up = master, options, true })
	}
}

func portOf(c bonding.Config, name string) bonding.Port {
	for _, p := range c.Ports {
		if p.Name == name {
			return p
		}
	}
	return bonding.Port{Name: name}
}

// Anchors are bonds. With 50 ms between looks at the carrier the path changes
// within 50 ms and a look costs next to nothing; none keeps the MAC of anchor
// and guests' path the same on every member.
const (
	anchorMode   = bonding.ActiveBackup
	anchorMiimon = "50"
)

func (m *wanter) anchorOptions(s Spec) map[string]string {
	return map[string]string{
		"miimon": anchorMiimon, "fail_over_mac": "none",
		"primary": m.device(s.Anchor.Over[0]), "primary_reselect": "always",
	}
}

// bridgeOptions are by the names of sysfs (/sys/class/net/BRIDGE/bridge).
func bridgeOptions(b *Bridge) map[string]string {
	onOff := map[bool]string{true: "1", false: "0"}
	out := map[string]string{"vlan_filtering": onOff[b.VLANFiltering], "stp_state": onOff[b.STP]}
	if b.AgeingTime != 0 {
		out["ageing_time"] = strconv.Itoa(b.AgeingTime * 100) // clock_t, in hundredths of a second
	}
	return out
}

// identify gives an uplink its MAC and MTU. One that is made has its first port's
// MTU where none is declared: ports are not made smaller by being joined.
func (m *wanter) identify(s Spec) {
	if s.Kind == vmnetd.UplinkExternal {
		return
	}
	name := m.device(s.Name)
	dev := m.want[name]
	if s.MTU != 0 {
		dev.MTU = s.MTU
	}
	if s.Kind == vmnetd.UplinkNIC {
		m.want[name] = dev
		return
	}
	for _, under := range s.Under() {
		if dev.MTU == 0 && s.Kind != vmnetd.UplinkVLAN { // a VLAN's is the lower device's
			dev.MTU = m.want[m.device(under)].MTU
		}
	}
	dev.MAC = m.mac(s, name)
	m.want[name] = dev
}

// mac is the MAC that was recorded for an uplink, otherwise its own, otherwise
// that of its first port; a bond's follows its ports unless it is set.
func (m *wanter) mac(s Spec, name string) string {
	switch recorded := m.MACs[s.Name]; {
	case s.Team != nil && s.Team.HWAddr != "":
		return s.Team.HWAddr
	case recorded != "":
		return recorded
	case m.is.there(name):
		return m.is[name].MAC
	case s.Kind == vmnetd.UplinkVLAN:
		return "" // the lower device's, and it follows that
	}
	for _, under := range s.Under() {
		if own := m.want[m.device(under)].own(); own != "" {
			return own
		}
	}
	return ""
}

// own is a device's own MAC: the one that it has of the factory, or what it has
// now.
func (d Device) own() string {
	if d.PermMAC != "" {
		return d.PermMAC
	}
	return d.MAC
}

// resize gives every device the MTU that is declared for it, and its ports what
// the bond or team over them has; specs come from the top down.
func (m *wanter) resize(s Spec) {
	name := m.device(s.Name)
	dev := m.want[name]
	if s.MTU != 0 && s.Kind != vmnetd.UplinkExternal {
		dev.MTU = s.MTU
	}
	if over := m.want[dev.Master]; governed(m.want, name) && over.MTU != 0 {
		if s.MTU != 0 && s.MTU != over.MTU {
			m.fail(s, "", "%s is to have an MTU of %d, but its master %s gives all its ports %d", s.Name, s.MTU, dev.Master, over.MTU)
		}
		dev.MTU = over.MTU
	}
	m.want[name] = dev
	m.resizePorts(dev)
	m.resizeVLAN(s, dev)
}

// resizePorts: a bond or team gives its ports its MTU, a bridge needs as much.
func (m *wanter) resizePorts(dev Device) {
	for _, port := range m.want.ports(dev.Name) {
		m.want.set(port, func(d *Device) {
			if dev.Kind == kindBridge && d.MTU >= dev.MTU || dev.MTU == 0 || d.Foreign {
				return
			}
			d.MTU = dev.MTU
		})
	}
}

func (m *wanter) resizeVLAN(s Spec, dev Device) {
	lower := m.want[dev.Lower]
	switch tooLarge := dev.Kind == kindVLAN && dev.MTU > lower.MTU && lower.MTU != 0; {
	case tooLarge && s.MTU == 0: // it was that of a larger lower device
		m.want.set(dev.Name, func(d *Device) { d.MTU = lower.MTU })
	case tooLarge:
		m.fail(s, "", "%s is to have an MTU of %d, but %s under it has %d", s.Name, dev.MTU, dev.Lower, lower.MTU)
	}
}

// sortSpecs has every uplink after what it stands on.
func sortSpecs(d Declared) []Spec {
	byName := map[string]Spec{}
	for _, s := range d.Specs {
		byName[s.Name] = s
	}
	var out []Spec
	seen := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		s, ok := byName[name]
		if !ok || seen[name] {
			return
		}
		seen[name] = true
		for _, under := range s.Under() {
			visit(under)
		}
		out = append(out, s)
	}
	for _, s := range d.Specs {
		visit(s.Name)
	}
	return out
}
