package filter

import (
	"context"
	"net"
	"net/netip"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// Table is the name of our table of the netdev family.
const Table = "vmnetd"

// Hooks of the netdev family (uapi/linux/netfilter.h).
const (
	Ingress = "ingress"
	Egress  = "egress"
)

// Spec is what one device's guest may do.
type Spec struct {
	Ifname string `json:"ifname"`
	Hook   string `json:"hook"` // the one that sees what the guest sends: Ingress or Egress

	// Spoof: frames with another source than these are dropped: the MAC always; the
	// sender of ARP, the source of IPv4, of IPv6 and what ND says where addresses
	// are known. So are BPDUs, LACPDUs and whatever else is for switches alone (IEEE
	// 802.1Q table 8-1), and VLAN tags beyond Trunk.
	Spoof bool               `json:"spoof,omitempty"`
	MACs  []net.HardwareAddr `json:"macs,omitempty"`
	IPs   []netip.Prefix     `json:"ips,omitempty"`
	Pin4  bool               `json:"pin4,omitempty"` // IPv4 sources are IPs alone; without, the addresses are not known
	Pin6  bool               `json:"pin6,omitempty"` // IPv6 sources are IPs and the link-local addresses of MACs alone
	Trunk []vmnetd.VLANRange `json:"trunk,omitempty"`

	DHCPServer bool     `json:"dhcp_server,omitempty"` // answers of DHCP and DHCPv6 servers are dropped
	RA         bool     `json:"ra,omitempty"`          // router advertisements and redirects are dropped
	Ethertypes []uint16 `json:"ethertypes,omitempty"`  // only these may be sent; nil: all
	Broadcast  int      `json:"broadcast,omitempty"`   // packets/s; 0: no limit
	Multicast  int      `json:"multicast,omitempty"`   // packets/s; 0: no limit

	In  Rate `json:"in,omitzero"`  // to the guest
	Out Rate `json:"out,omitzero"` // from the guest
}

// Rate is a rate with the burst that may exceed it.
type Rate struct {
	Bits  uint64 `json:"bits"`  // bit/s; 0: no limit
	Burst uint32 `json:"burst"` // bytes; 0: chosen by the rate
}

// Filtered says that anything is kept from being sent.
func (s Spec) Filtered() bool {
	return s.Spoof || s.DHCPServer || s.RA || s.Ethertypes != nil || s.Broadcast != 0 || s.Multicast != 0
}

// Host filters devices of one network namespace: the one its connection is bound
// to.
type Host struct {
	conn *rtnl.Conn
}

// Open makes a Host. Close it when it is no longer needed; filters stay.
func Open(conn *rtnl.Conn) (*Host, error) { return &Host{conn: conn}, nil }

// Close lets go of what Open opened.
func (h *Host) Close() error { return nil }

// Set gives a device its filter and bandwidth: what it had of ours before is
// replaced in one transaction, and what did not change keeps its counters. A Spec
// that filters nothing removes the chain. vmnetd.ErrUnsupported: this kernel has
// no such hook.
func (h *Host) Set(ctx context.Context, spec Spec) error { return errNotBuilt }

// Holds says whether the device has its filter as Set left it.
func (h *Host) Holds(ctx context.Context, spec Spec) (bool, error) { return false, errNotBuilt }

// Remove takes a device's filter away, also of one that has gone. Its bandwidth
// goes with the device.
func (h *Host) Remove(ctx context.Context, ifnames ...string) error { return errNotBuilt }

// Filtered lists the devices that a chain of ours is for, also those that have
// gone.
func (h *Host) Filtered(ctx context.Context) ([]string, error) { return nil, errNotBuilt }

// Counters is what a device's rules have matched since they were made, in their
// order. vmnetd.ErrNotFound: it has no filter.
func (h *Host) Counters(ctx context.Context, ifname string) ([]vmnetd.Counter, error) {
	return nil, errNotBuilt
}

// Watch calls lost when somebody else removed or changed anything of our table,
// until ctx ends; lost must not block.
func (h *Host) Watch(ctx context.Context, lost func()) error { <-ctx.Done(); return nil }

// Doctor checks that the kernel has the hooks, and names files of the host that
// flush all tables.
func (h *Host) Doctor(ctx context.Context) []vmnetd.Check { return nil }

var errNotBuilt = vmnetd.Errorf(vmnetd.ErrUnsupported, "filter: not built yet")
