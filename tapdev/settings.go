package tapdev

import (
	"net"
	"net/netip"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// Port is how a device stands on a bridge (net/bridge, bridge(8) link).
type Port struct {
	PVID      int                // 1 to 4094: what is untagged on it, where the bridge tells VLANs apart; 0: as the bridge has it
	Trunk     []vmnetd.VLANRange // VLANs that are tagged on it
	Hairpin   bool
	Isolated  bool
	Learning  bool
	BPDUGuard bool
}

// Settings is what a device has in a namespace other than the host's.
type Settings struct {
	Name   string           `json:"name,omitempty"` // "": as it is
	MAC    net.HardwareAddr `json:"mac,omitempty"`  // nil: as it is
	MTU    int              `json:"mtu,omitempty"`  // 0: as it is
	IPs    []netip.Prefix   `json:"ips,omitempty"`  // all that it is to have; others of ours are removed
	Routes []Route          `json:"routes,omitempty"`

	// Guest: the addresses are those of a guest that holds the device's queues, not
	// the namespace's own: no DAD, no autoconfiguration, all multicasts. Without, the
	// namespace's stack uses the device, and what it configures itself stays.
	Guest bool `json:"guest,omitempty"`

	// VM and ID say whose the device is. VM, ID and Ifname find the device where it has no mark yet, and give it one:
	// the far end of a veth is made without.
	VM     string `json:"vm"`
	ID     string `json:"id"`
	Ifname string `json:"ifname"` // the name that it came with
}

// Route is a route by a device.
type Route struct {
	To  netip.Prefix `json:"to"`
	Via netip.Addr   `json:"via,omitzero"` // invalid: on the link
}

func (s Settings) check() error {
	if err := vmnetd.CheckVMName(s.VM); err != nil {
		return err
	}
	if err := vmnetd.CheckID(s.ID); err != nil {
		return err
	}
	if s.Guest && (s.Name != "" || len(s.Routes) > 0) {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "%s is a guest's: it has neither a name of its own nor routes", vmnetd.FullName(s.VM, s.ID))
	}
	for _, p := range s.IPs {
		if !p.IsValid() || p.Addr().Zone() != "" || p.Addr().Is4In6() {
			return vmnetd.Errorf(vmnetd.ErrInvalid, "%s is no address with a prefix length, such as 192.0.2.10/24", p)
		}
	}
	for _, r := range s.Routes {
		if err := r.check(); err != nil {
			return err
		}
	}
	return checkName(s.Name)
}

func (r Route) check() error {
	switch {
	case !r.To.IsValid():
		return vmnetd.Errorf(vmnetd.ErrInvalid, "a route without a prefix")
	case r.To != r.To.Masked():
		return vmnetd.Errorf(vmnetd.ErrInvalid, "route %s: the prefix has bits beyond its length", r.To).WithNext("write " + r.To.Masked().String())
	case r.Via.IsValid() && r.Via.Is4() != r.To.Addr().Is4():
		return vmnetd.Errorf(vmnetd.ErrInvalid, "route %s via %s: IPv4 and IPv6 are mixed", r.To, r.Via)
	}
	return nil
}

// checkName takes names that the kernel takes (net/core/dev.c, dev_valid_name) and
// that mean one device: "%d" is expanded, and conf/all and conf/default are not a
// device's settings. "" is fine.
func checkName(name string) error {
	odd := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("/:%", r) }
	switch {
	case len(name) > vmnetd.MaxIfname:
		return vmnetd.Errorf(vmnetd.ErrInvalid, "device name %q is longer than %d characters", name, vmnetd.MaxIfname)
	case name == "." || name == ".." || name == "all" || name == "default" || strings.HasPrefix(name, "-") || strings.ContainsFunc(name, odd):
		return vmnetd.Errorf(vmnetd.ErrInvalid, "%q is no name for a device", name).WithNext("use a name such as eth0")
	}
	return nil
}
