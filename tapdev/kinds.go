package tapdev

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// kind is one row of the table of kinds: what tapdev has to know of a kind of
// device.
type kind struct {
	name   vmnetd.Kind
	link   string // IFLA_INFO_KIND
	module string // of the kernel, that has it
	maker  maker
	queues queues // nil: it has none
	lower  lower  // what Spec.Lower is to it
	level  string // of doctor's check where the kernel lacks it

	hostMAC   func(guest net.HardwareAddr) net.HardwareAddr // its MAC for a guest's; nil: the guest's
	sharesMAC bool                                          // it has its lower device's MAC; another is ignored (drivers/net/ipvlan/ipvlan_main.c, ipvlan_link_new)
	far       bool                                          // its other end is in another namespace
	allMulti  bool                                          // it receives all multicasts unless somebody says which

	// is says that a link of that kind in the kernel's words is one; nil: all are.
	is func(l rtnl.Link) bool
	// differs is the properties of this kind that cannot be changed under a guest.
	differs func(s Spec, l rtnl.Link) error
}

// maker makes a device, down, with our group and everything that the kernel takes
// at that moment; index 0 is the next one. Nothing is there when it fails.
type maker interface {
	make(ctx context.Context, h *Host, s Spec, index int) error
	// probe asks the kernel whether it has the kind, makes nothing, and says how it
	// found out. EOPNOTSUPP: it has not; other errors: that cannot be told.
	probe(ctx context.Context, h *Host, k kind) (found string, err error)
}

// lower is what a device stands on.
type lower struct {
	// of is the ifindex of what the link stands on, 0 where that is nothing; of a
	// device that was moved it is one of the namespace that it came from.
	of func(l rtnl.Link) int
	// port: it is a bridge, and the device is a port of it.
	port bool
}

// mayBecome says that a link stands on that device, or can still be put there: a
// port that was taken out of its bridge.
func (w lower) mayBecome(index int, l rtnl.Link) bool {
	if w.port {
		return l.Master == index || l.Master == 0
	}
	return l.Lower == index && l.LowerHere
}

var (
	onLink   = lower{of: func(l rtnl.Link) int { return l.Lower }}
	onBridge = lower{of: func(l rtnl.Link) int { return l.Master }, port: true}
)

// kinds is the table.
var kinds = []kind{
	{
		name: vmnetd.Macvtap, link: "macvtap", module: "macvtap", maker: message{macvtap}, queues: charQueues{"macvtap"},
		lower: onLink, level: vmnetd.LevelFail, allMulti: true, differs: otherMode,
	},
	{
		name: vmnetd.Ipvtap, link: "ipvtap", module: "ipvtap", maker: message{ipvtap}, queues: charQueues{"ipvtap"},
		lower: onLink, level: vmnetd.LevelWarn, allMulti: true, sharesMAC: true, differs: otherModeOrFlag,
	},
	{
		name: vmnetd.Tap, link: "tun", module: "tun", maker: tunMaker{}, queues: tunQueues{},
		lower: onBridge, level: vmnetd.LevelWarn, hostMAC: portMAC, is: isTap, differs: otherTap,
	},
	{
		name: vmnetd.Macvlan, link: "macvlan", module: "macvlan", maker: message{macvlan},
		lower: onLink, level: vmnetd.LevelWarn, differs: otherMode,
	},
	{
		name: vmnetd.Ipvlan, link: "ipvlan", module: "ipvlan", maker: message{ipvlan},
		lower: onLink, level: vmnetd.LevelWarn, sharesMAC: true, differs: otherModeOrFlag,
	},
	{
		name: vmnetd.Veth, link: "veth", module: "veth", maker: message{veth},
		lower: onBridge, level: vmnetd.LevelWarn, hostMAC: portMAC, far: true,
	},
}

// kindNamed is a kind's row; ok is false for an unknown one.
func kindNamed(name vmnetd.Kind) (k kind, ok bool) {
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
	if i < 0 {
		return kind{}, false
	}
	return kinds[i], true
}

// kindOf is the row of a link; ok is false for a link of no kind of ours.
func kindOf(l rtnl.Link) (k kind, ok bool) {
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.link == l.Kind && (k.is == nil || k.is(l)) })
	if i < 0 {
		return kind{}, false
	}
	return kinds[i], true
}

// class is where sysfs has the kind's character devices, and char-CLASS what
// /proc/devices calls them; "" where it has none.
func (k kind) class() string {
	c, _ := k.queues.(charQueues)
	return c.class
}

// macFor is the MAC of the device for a guest's.
func (k kind) macFor(guest net.HardwareAddr) net.HardwareAddr {
	if k.hostMAC == nil {
		return guest
	}
	return k.hostMAC(guest)
}

// HostMAC is the MAC that the host's device of a kind has for a guest's: the same,
// or another one where the device is the host's end of a cable.
func HostMAC(name vmnetd.Kind, guest net.HardwareAddr) net.HardwareAddr {
	k, _ := kindNamed(name)
	return k.macFor(guest)
}

// portMAC is the MAC of a port of a bridge for that of who is behind it. It is
// another one, because a bridge takes frames to a port's own MAC for its own; and a
// high one, as libvirt's are (util/virnetdevtap.c, virNetDevTapCreateInBridgePort),
// because a bridge takes the lowest MAC among its ports' (br_stp_recalculate_bridge_id).
func portMAC(guest net.HardwareAddr) net.HardwareAddr {
	if len(guest) == 0 {
		return guest
	}
	mac := bytes.Clone(guest)
	mac[0] = 0xfe
	if bytes.Equal(mac, guest) {
		mac[0] = 0xfa
	}
	return mac
}

// kind is what the Spec asks for; ok is false when its mode has no such kind.
func (s Spec) kind() (k kind, ok bool) {
	info := s.Mode.Info()
	name := s.Kind
	if name == "" {
		name = info.Kind
	}
	if name != info.Kind && name != info.Endpoint {
		return kind{}, false
	}
	return kindNamed(name)
}

// must is kind for a Spec that was checked.
func (s Spec) must() kind {
	k, _ := s.kind()
	return k
}

// modeOf is the mode of a link: its own, or that of a port of a bridge.
func (k kind) modeOf(l rtnl.Link) vmnetd.Mode {
	if k.lower.port {
		return vmnetd.Switched
	}
	return vmnetd.Mode(l.Mode)
}

func otherMode(s Spec, l rtnl.Link) error {
	if l.Mode != string(s.Mode) {
		return fmt.Errorf("mode %s, not %s", l.Mode, s.Mode)
	}
	return otherQueues(s, l)
}

func otherModeOrFlag(s Spec, l rtnl.Link) error {
	if l.Flag != s.flag() {
		return fmt.Errorf("flag %s, not %s", l.Flag, s.flag())
	}
	return otherMode(s, l)
}

func otherQueues(s Spec, l rtnl.Link) error {
	if s.Queues != 0 && l.Queues != s.Queues {
		return fmt.Errorf("%d queues, not %d", l.Queues, s.Queues)
	}
	return nil
}

// flags are those of an ipvlan's lower device, by the names of ip-link(8); the first
// is that of one which was told none.
var flags = []string{"bridge", "private", "vepa"}

func (s Spec) flag() string { return cmp.Or(s.Flag, flags[0]) }
