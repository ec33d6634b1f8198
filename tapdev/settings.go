package tapdev

import (
	"context"
	"net"
	"net/netip"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/netns"
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
	IPs    []netip.Prefix   `json:"ips,omitempty"`  // all that it is to have; others of ours are removed
	Routes []Route          `json:"routes,omitempty"`

	// Guest: the addresses are those of a guest that holds the device's queues, not
	// the namespace's own: no DAD, no autoconfiguration, all multicasts. Without, the
	// namespace's stack uses the device, and what it configures itself stays.
	Guest bool `json:"guest,omitempty"`

	// VM, ID and Ifname find the device where it has no mark yet, and give it one:
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

// FindNIC is the device of an attachment in this namespace, whatever its name: by
// its mark, or by the name that it was made with where it is not marked yet.
// vmnetd.ErrNotFound when there is none.
func (h *Host) FindNIC(ctx context.Context, vm, id string) (Device, error) {
	return Device{}, errNotBuilt
}

// Move puts a device into another namespace. It keeps name and mark; index and
// node change, queues that are open go on working (net/core/dev.c,
// dev_change_net_namespace), and it is down afterwards. vmnetd.ErrBusy: the name
// is taken there.
func (h *Host) Move(ctx context.Context, dev Device, to *netns.NS) error { return errNotBuilt }

// Settle gives a device of this namespace its name, MAC, addresses and routes, and
// reads them back. It is idempotent.
func (h *Host) Settle(ctx context.Context, dev Device, s Settings) (Device, error) {
	return Device{}, errNotBuilt
}

var errNotBuilt = vmnetd.Errorf(vmnetd.ErrUnsupported, "tapdev: not built yet")
