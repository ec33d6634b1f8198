package tapdev

import (
	"net"
	"net/netip"
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

	Kind vmnetd.Kind // of Mode: its Kind for a VM, its Endpoint for a namespace; "": its Kind
	Flag string      // l2, l3: flag of the lower device (bridge, private, vepa); "": bridge
	Port Port        // switched: how it stands on the bridge Lower
	Peer *netns.NS   // veth: where the far end is made, with the name Ifname and no mark

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
	Lower   int
	Mode    vmnetd.Mode
	MAC     net.HardwareAddr
	MTU     int
	Queues  int
	Up      bool
	Kind    vmnetd.Kind
	Flag    string         // of an ipvlan's or ipvtap's lower device
	IPs     []netip.Prefix // addresses on it, where they were asked for (FindNIC, Settle)
	Rdev    uint64         // device number of its character device, linux/kdev_t.h; 0 where it was not asked for
}

func (s Spec) check() error {
	invalid := func(format string, args ...any) error {
		return vmnetd.Errorf(vmnetd.ErrInvalid, format, args...)
	}
	switch {
	case s.Queues < 1 || s.Queues > MaxQueues:
		return invalid("%d queues asked for; a %s has 1 to %d", s.Queues, kind, MaxQueues)
	case s.Mode.Info().Kind != vmnetd.Macvtap:
		return invalid("mode %q is no mode of a %s", s.Mode, kind)
	case s.MTU < 0:
		return invalid("MTU %d is below 0", s.MTU)
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
	if l.Kind != kind || !strings.HasPrefix(l.Name, vmnetd.IfnamePrefix) {
		return Device{}, false
	}
	vm, id, marked := vmnetd.ParseAlias(l.Alias)
	if !marked && (l.Alias != "" || l.Group != Group) {
		return Device{}, false
	}
	return Device{
		VM: vm, ID: id, Ifname: l.Name, Ifindex: l.Index, Lower: l.Lower, Mode: vmnetd.Mode(l.Mode),
		MAC: l.MAC, MTU: l.MTU, Queues: l.Queues, Up: l.Up,
	}, true
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
