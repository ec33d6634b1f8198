package uplink

import (
	"context"
	"net"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/bonding"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// guestKinds stand on a device as users of it and are no devices of a World:
// attachments, and what others made for containers and machines.
var guestKinds = map[string]bool{"macvlan": true, "macvtap": true, "ipvlan": true, "ipvtap": true}

// look reads the named devices and everything that is under or over them, teamd's
// configurations too; no names: every device.
func (k *kernel) look(ctx context.Context, names ...string) (World, error) {
	w, err := k.lookAtLinks(ctx, names...)
	if err == nil {
		k.configs(ctx, w)
	}
	return w, err
}

// lookAtLinks asks the kernel alone. It fails when devices come and go too fast to
// see all of them at once: what was not seen would be taken for absent.
func (k *kernel) lookAtLinks(ctx context.Context, names ...string) (World, error) {
	links, err := k.conn.Links(ctx)
	if err != nil {
		return nil, vmnetd.Errorf(vmnetd.ErrFailed, "cannot look at the network devices: %w", err).WithNext("try again")
	}
	v := view{byIndex: map[int]rtnl.Link{}}
	for _, l := range links {
		v.byIndex[l.Index] = l
	}
	w := World{}
	for _, l := range links {
		if !guestKinds[l.Kind] && !guestPort(l) && l.Name != "lo" {
			w[l.Name] = v.device(l)
		}
	}
	for _, l := range links {
		if on, ok := v.usedBy(l); ok {
			w.set(on.Name, func(d *Device) {
				d.Users = append(d.Users, User{Name: l.Name, Kind: userKind(l), Alias: l.Alias})
			})
		}
	}
	if len(names) > 0 {
		w = w.around(names...)
	}
	return w, k.addresses(ctx, w)
}

// guestPort says that a link is an attachment's and a port of a bridge: whoever
// declares the bridge's ports does not mean it.
func guestPort(l rtnl.Link) bool {
	return l.PortKind == kindBridge && strings.HasPrefix(l.Alias, guestMark)
}

// guestMark begins the alias of an attachment's device.
const guestMark = "vmnetd:"

// userKind is a link's kind as people call it.
func userKind(l rtnl.Link) string {
	if l.Kind == "tun" {
		return "tap"
	}
	return l.Kind
}

// usedBy is the link that a guest's device stands on, or whose port it is.
func (v view) usedBy(l rtnl.Link) (on rtnl.Link, ok bool) {
	switch {
	case guestPort(l):
		on, ok = v.byIndex[l.Master]
	case guestKinds[l.Kind] && l.LowerHere:
		on, ok = v.byIndex[l.Lower]
	}
	return on, ok
}

// view is the links of one look.
type view struct{ byIndex map[int]rtnl.Link }

func (v view) name(index int) string { return v.byIndex[index].Name }

// device is a link as a Device, without what netlink does not say of it.
func (v view) device(l rtnl.Link) Device {
	d := Device{
		Name: l.Name, Index: l.Index, MAC: text(l.MAC), PermMAC: text(l.PermMAC), MTU: l.MTU,
		Up: l.Up, Carrier: l.Carrier, Master: v.name(l.Master), Path: idPath(l),
	}
	if l.LowerHere {
		d.Lower = v.name(l.Lower)
	}
	switch l.Kind {
	case kindBond:
		d.Kind, d.Options = l.Kind, bonding.Read(l, v.name)
		d.Mode = d.Options["mode"]
		delete(d.Options, "mode")
		delete(d.Options, "active_slave") // state, and the kernel's to choose
		d.Active = v.name(bonding.Active(l))
	case kindBridge:
		d.Kind, d.Options = l.Kind, readParameters(bridgeTable, l.Data)
	case kindVLAN:
		d.Kind, d.VLAN = l.Kind, &VLAN{Over: d.Lower, ID: l.VLAN, Protocol: l.VLANProto}
	case kindTeam:
		d.Kind = l.Kind
	}
	switch l.PortKind {
	case kindBond:
		d.PortOptions = v.bondPort(l)
	case kindBridge:
		d.PortOptions = readParameters(bridgePortTable, l.PortData)
	}
	return d
}

// bondPort is the options that a port has in the mode of its bond: the kernel
// names the others, too, and refuses to be told them.
func (v view) bondPort(l rtnl.Link) map[string]string {
	options, mode := bonding.ReadPort(l), v.byIndex[l.Master].BondMode
	for _, o := range bonding.PortOptions() {
		if !slices.Contains(o.Modes, mode) {
			delete(options, o.Name)
		}
	}
	return options
}

func text(mac net.HardwareAddr) string {
	if len(mac) == 0 {
		return ""
	}
	return mac.String()
}
