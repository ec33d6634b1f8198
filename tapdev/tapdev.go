package tapdev

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/netns"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// MaxQueues is how many queues one device has (MAX_TAP_QUEUES,
// include/linux/if_tap.h).
const MaxQueues = 256

// Spec is a tap device to be.
type Spec struct {
	VM     string
	ID     string
	Ifname string // vmnetd.Ifname(VM, ID)
	Lower  int    // ifindex of the lower device
	Mode   vmnetd.Mode
	MAC    net.HardwareAddr
	MTU    int // bytes; 0: the lower device's
	Queues int // queue pairs, 1 to MaxQueues; 0 for endpoints

	Kind    vmnetd.Kind // of Mode: its Kind for a VM, its Endpoint for a namespace; "": its Kind
	Flag    string      // l2, l3: flag of the lower device (bridge, private, vepa); "": bridge
	BCQueue int         // macvtap, macvlan: how many broadcasts may wait on the lower device; 0: as it is
	Port    Port        // switched: how it stands on the bridge Lower
	Peer    *netns.NS   // veth: where the far end is made, with the name Ifname and no mark

	// ByName: somebody else opens the queues at /dev/tapIFINDEX, as libvirt does,
	// so that node must be this device's.
	ByName bool

	// Filtered: what the device receives is told by SetFilter. Ensure leaves MAC and
	// multicasts of a device that is there as they are; a new one receives MAC and
	// all multicasts until SetFilter is called.
	Filtered bool
}

// Device is a tap device of ours as the kernel has it. One without VM and ID
// is half made: whoever made it ended before it was marked.
type Device struct {
	VM      string
	ID      string
	Ifname  string
	Ifindex int
	Lower   int // ifindex of what it stands on, also in another namespace; of the bridge whose port it is
	Mode    vmnetd.Mode
	MAC     net.HardwareAddr // HostMAC of the guest's
	MTU     int
	Queues  int // of a tap that may have several: those that are open, where Ensure did not say
	Up      bool
	Shut    bool // its bridge has disabled it as a port
	Kind    vmnetd.Kind
	Flag    string         // of an ipvlan's or ipvtap's lower device
	IPs     []netip.Prefix // addresses on it, where they were asked for (FindNIC, Settle)
	Rdev    uint64         // device number of its character device, linux/kdev_t.h; 0 where it was not asked for
}

// claim has what somebody opens by the device's name be the device's.
func (s Spec) claim(h *Host, dev Device) error {
	switch {
	case !s.ByName:
		return nil
	case s.must().class() == "":
		return h.claimNoNode(dev)
	}
	return h.claimNode(dev)
}

func (s Spec) check() error {
	k, ok := s.kind()
	switch {
	case !ok && s.Kind == "":
		return vmnetd.Errorf(vmnetd.ErrInvalid, "there is no mode %q", s.Mode)
	case !ok:
		return vmnetd.Errorf(vmnetd.ErrInvalid, "mode %q is no mode of a %s", s.Mode, s.Kind)
	}
	if err := s.checkFor(k); err != nil {
		return err
	}
	if err := s.Port.check(); err != nil {
		return err
	}
	if _, err := vmnetd.ParseMAC(s.MAC.String()); err != nil {
		return err
	}
	if err := vmnetd.CheckVMName(s.VM); err != nil {
		return err
	}
	if err := vmnetd.CheckID(s.ID); err != nil {
		return err
	}
	return checkIfname(s.Ifname)
}

// checkFor looks at what only a kind can judge.
func (s Spec) checkFor(k kind) error {
	invalid := func(format string, args ...any) error {
		return vmnetd.Errorf(vmnetd.ErrInvalid, format, args...)
	}
	switch {
	case k.queues == nil && s.Queues != 0:
		return invalid("%d queues asked for; a %s has none", s.Queues, k.name)
	case k.queues != nil && (s.Queues < 1 || s.Queues > MaxQueues):
		return invalid("%d queues asked for; a %s has 1 to %d", s.Queues, k.name, MaxQueues)
	case s.MTU < 0:
		return invalid("MTU %d is below 0", s.MTU)
	case k.sharesMAC && !slices.Contains(flags, s.flag()):
		return invalid("flag %q is none of %s", s.Flag, strings.Join(flags, ", "))
	case k.far && s.Peer == nil:
		return invalid("a %s needs a namespace for its far end", k.name)
	}
	return nil
}

// checkIfname takes names with our prefix that nothing interprets: the kernel
// expands "%d" (net/core/dev.c, dev_alloc_name) and allows escape sequences.
func checkIfname(name string) error {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_.-", r)
	}
	switch {
	case len(name) > vmnetd.MaxIfname:
		return vmnetd.Errorf(vmnetd.ErrInvalid, "device name %q is longer than %d characters", name, vmnetd.MaxIfname)
	case !strings.HasPrefix(name, vmnetd.IfnamePrefix):
		return vmnetd.Errorf(vmnetd.ErrInvalid, "device name %q does not begin with %s", name, vmnetd.IfnamePrefix)
	case strings.ContainsFunc(name, odd):
		return vmnetd.Errorf(vmnetd.ErrInvalid, "device name %q has other characters than letters, digits, '_', '.' and '-'", name)
	}
	return nil
}

// device reads a link as a device of ours. ok is false for a foreign one.
func device(l rtnl.Link) (d Device, ok bool) {
	if !strings.HasPrefix(l.Name, vmnetd.IfnamePrefix) {
		return Device{}, false
	}
	return marked(l)
}

// marked is device for one that may have another name by now, as it may in the
// namespace of an endpoint.
func marked(l rtnl.Link) (d Device, ok bool) {
	k, known := kindOf(l)
	vm, id, mark := vmnetd.ParseAlias(l.Alias)
	if !known || !mark && (l.Alias != "" || l.Group != Group) {
		return Device{}, false
	}
	d = Device{
		VM: vm, ID: id, Ifname: l.Name, Ifindex: l.Index, Lower: k.lower.of(l), Mode: k.modeOf(l),
		MAC: l.MAC, MTU: l.MTU, Up: l.Up, Shut: l.IsShut(), Kind: k.name, Flag: l.Flag,
	}
	if k.queues != nil {
		d.Queues = k.queues.count(l)
	}
	return d, true
}

// halfMade says that the device never got its mark.
func (d Device) halfMade() bool { return d.VM == "" }

// fullName names the device to people: by its VM and NIC where it has them.
func (d Device) fullName() string {
	if d.halfMade() {
		return d.Ifname
	}
	return vmnetd.Printable(vmnetd.FullName(d.VM, d.ID)) + " (" + d.Ifname + ")"
}
