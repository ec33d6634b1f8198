package uplink

import (
	"maps"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/teaming"
)

// Kinds of device, by the kernel's names (IFLA_INFO_KIND); a plain NIC has
// none, and so has whatever else is no kind of ours to make.
const (
	kindNIC    = ""
	kindBond   = "bond"
	kindTeam   = "team"
	kindVLAN   = "vlan"
	kindBridge = "bridge"
)

// Device is one network device, as it is or as it is to be. A checkpoint is
// made of them, so everything that a rollback must bring back is here.
type Device struct {
	Name    string   `json:"name"`
	Kind    string   `json:"kind,omitempty"`     // bond, team, vlan, bridge; "" for a NIC
	Absent  bool     `json:"absent,omitempty"`   // it is not there, or is to be removed
	Foreign bool     `json:"foreign,omitempty"`  // somebody else's: used, never changed
	Uplink  string   `json:"uplink,omitempty"`   // kind of the declared uplink that is made of it, only as it is to be
	Index   int      `json:"index,omitempty"`    // ifindex; 0 where it is to be made
	MAC     string   `json:"mac,omitempty"`      // aa:bb:cc:dd:ee:ff; "" is whatever the kernel gives it
	PermMAC string   `json:"perm_mac,omitempty"` // the NIC's own, "" where it has none
	Path    string   `json:"path,omitempty"`     // a NIC's ID_PATH, "" where it has none, only as it is
	MTU     int      `json:"mtu,omitempty"`      // bytes; 0 is whatever the kernel gives it
	Up      bool     `json:"up,omitempty"`
	Carrier bool     `json:"carrier,omitempty"` // only as it is
	Master  string   `json:"master,omitempty"`  // name of the device whose port it is
	Lower   string   `json:"lower,omitempty"`   // name of the device it stands on: of a VLAN and of what is no kind of ours
	Ports   []string `json:"ports,omitempty"`   // in the order declared, only as it is to be

	Mode        string            `json:"mode,omitempty"`         // of a bond
	Options     map[string]string `json:"options,omitempty"`      // of a bond or bridge, by the kernel's names
	PortOptions map[string]string `json:"port_options,omitempty"` // of a port of a bond or bridge
	Active      string            `json:"active,omitempty"`       // active port of a bond, only as it is
	Team        *teaming.Config   `json:"team,omitempty"`
	Controller  string            `json:"controller,omitempty"` // of a team, only as it is: running, gone, silent
	VLAN        *VLAN             `json:"vlan,omitempty"`       // Over is a device

	Addrs  []rtnl.Addr  `json:"addrs,omitempty"`  // of the host, link-local ones left out
	Routes []rtnl.Route `json:"routes,omitempty"` // of the host, the kernel's own left out

	Users []User `json:"users,omitempty"` // what stands on it and is no device of a World, only as it is
}

// User is a device that stands on another one and is not ours to make here: an
// attachment's, or somebody else's.
type User struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`            // macvtap, ipvlan, …
	Alias string `json:"alias,omitempty"` // vmnetd:VM/ID
}

// World is devices by name.
type World map[string]Device

// ports is the names of a device's ports, in the order declared, the others by
// name.
func (w World) ports(master string) []string {
	var ports []string
	for _, name := range append(slices.Clone(w[master].Ports), w.names()...) {
		if d := w[name]; w.there(name) && d.Master == master && master != "" && !slices.Contains(ports, name) {
			ports = append(ports, name)
		}
	}
	return ports
}

// there says that the device is there, or is to be.
func (w World) there(name string) bool {
	d, ok := w[name]
	return ok && !d.Absent
}

// names is every name, in order.
func (w World) names() []string { return slices.Sorted(maps.Keys(w)) }

// clone is a copy that can be changed device by device.
func (w World) clone() World { return maps.Clone(w) }

// set changes one device.
func (w World) set(name string, change func(*Device)) {
	d := w[name]
	d.Name = name
	change(&d)
	w[name] = d
}

// order is the names in the order in which devices are made: what is under a
// device comes before it. A loop ends somewhere; refuse names it.
func (w World) order() []string {
	var out []string
	seen := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		if _, ok := w[name]; !ok || seen[name] {
			return
		}
		seen[name] = true
		d := w[name]
		visit(d.Lower)
		for _, port := range w.ports(name) {
			visit(port)
		}
		out = append(out, name)
	}
	for _, name := range w.names() {
		visit(name)
	}
	return out
}

// over is the names of devices that are over a device: masters and VLANs, at
// any distance, the nearest first.
func (w World) over(name string) []string {
	var out []string
	for i := -1; i < len(out); i++ {
		at := name
		if i >= 0 {
			at = out[i]
		}
		for _, other := range w.names() {
			d := w[other]
			if d.Absent || slices.Contains(out, other) || other == name {
				continue
			}
			if d.Lower == at || w[at].Master == other {
				out = append(out, other)
			}
		}
	}
	return out
}

// guests is how many attachments stand on a device, or over it.
func (w World) guests(name string) int {
	n := 0
	for _, at := range append(w.over(name), name) {
		for _, u := range w[at].Users {
			if u.guest() {
				n++
			}
		}
	}
	return n
}

// guest says that it is an attachment's device.
func (u User) guest() bool { return strings.HasPrefix(u.Alias, guestMark) }

// around is the devices named and everything that is under or over them: what
// steps on them can touch.
func (w World) around(names ...string) World {
	out := World{}
	var visit func(name string)
	visit = func(name string) {
		d, ok := w[name]
		if _, seen := out[name]; seen || !ok {
			return
		}
		out[name] = d
		visit(d.Lower)
		visit(d.Master)
		for _, other := range w.names() {
			if w[other].Lower == name || w[other].Master == name {
				visit(other)
			}
		}
	}
	for _, name := range names {
		visit(name)
	}
	return out
}
