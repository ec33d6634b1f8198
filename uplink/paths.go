package uplink

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/bonding"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// Path is how frames of a device reach the outside: down through VLANs, anchors,
// bonds, teams and bridges to the devices that carry. It asks nobody: links are
// the mirror's, the active port of a team is what teaming has heard of.
func (m *Manager) Path(ifindex int) Path {
	p := Path{}
	walk := walker{links: m.o.Links, teams: m.o.Teams, path: &p}
	p.Text = walk.down(ifindex, deepest, true)
	return p
}

// deepest is how many devices the kernel lets stand on each other (MAX_NEST_DEV,
// include/linux/netdevice.h).
const deepest = 8

// walker goes from a device down to what carries its frames.
type walker struct {
	links Links
	teams sender
	path  *Path
}

// sender says whether a team may send on a port (teaming.Teams).
type sender interface {
	Sends(team, port int) bool
	Known(team int) bool
}

// down adds what carries and is the way there in words. The uplink itself is
// not named, a bond or team further down is: "team0 > eno1".
func (w walker) down(ifindex, depth int, top bool) string {
	l, ok := w.links.ByIndex(ifindex)
	if !ok || !l.Up || !l.Carrier || depth == 0 {
		return ""
	}
	if l.Kind == kindVLAN && l.LowerHere {
		return w.down(l.Lower, depth-1, top)
	}
	senders, bundle := w.senders(l)
	if !bundle {
		w.path.Egress = append(w.path.Egress, l.Index)
		return l.Name
	}
	var under []string
	for _, port := range senders {
		if text := w.down(port, depth-1, false); text != "" {
			under = append(under, text)
		}
	}
	text := strings.Join(under, ", ")
	if top || text == "" {
		return text
	}
	return l.Name + " > " + text
}

// senders is the ports on which a device sends now; bundle is false for a
// device without ports.
func (w walker) senders(l rtnl.Link) (ports []int, bundle bool) {
	switch l.Kind {
	case kindBond:
		if active := bonding.Active(l); active != 0 {
			return []int{active}, true
		}
		return w.sending(l, sendsNow), true
	case kindTeam:
		w.path.Unsure = w.path.Unsure || !w.teams.Known(l.Index)
		return w.sending(l, func(port rtnl.Link) bool { return sendsNow(port) && w.teams.Sends(l.Index, port.Index) }), true
	case kindBridge:
		ports = w.sending(l, sendsNow)
		return ports, len(ports) > 0
	}
	return nil, false
}

// sending is the ports of a device that send.
func (w walker) sending(l rtnl.Link, sends func(port rtnl.Link) bool) []int {
	ports := []int{}
	for _, port := range w.links.Ports(l.Index) {
		if sends(port) {
			ports = append(ports, port.Index)
		}
	}
	return ports
}

// sendsNow says that a port has carrier and, of a bond, is not a backup: in
// 802.3ad those are the ones outside the active aggregator (bond_3ad.c). A
// bridge's are those that no attachment has made.
func sendsNow(port rtnl.Link) bool {
	switch {
	case !port.Up || !port.Carrier:
		return false
	case port.PortKind == kindBond:
		return !bondBackup(port)
	case port.PortKind == kindBridge:
		return port.Kind != "tun" && !guestPort(port)
	}
	return true
}

// bondBackup reads IFLA_BOND_SLAVE_STATE: 0 active, 1 backup (uapi/linux/if_bonding.h).
func bondBackup(port rtnl.Link) bool {
	backup := false
	rtnl.Each(port.PortData, func(attr int, v []byte) {
		if attr == unix.IFLA_BOND_SLAVE_STATE && len(v) == 1 {
			backup = v[0] == 1
		}
	})
	return backup
}
