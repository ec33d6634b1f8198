package hostlink

import (
	"context"
	"net"
	"net/netip"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// Spec is a link to be.
type Spec struct {
	Network string
	Lower   int              // ifindex of the uplink's device, or of its VLAN
	Kind    vmnetd.Kind      // Macvlan or Ipvlan
	Mode    vmnetd.Mode      // bridge for a macvlan; as the ipvtaps beside it for an ipvlan
	Flag    string           // of an ipvlan
	MAC     net.HardwareAddr // of a macvlan
	IPs     []netip.Prefix   // of the host
	Guests  []netip.Addr     // whose known addresses are reached by it
}

// Link is a link of ours as the kernel has it.
type Link struct {
	Network string
	Ifname  string
	Ifindex int
	Lower   int
	Kind    vmnetd.Kind
	Mode    vmnetd.Mode
	MAC     net.HardwareAddr
	IPs     []netip.Prefix
	Up      bool
}

// Host makes links in one network namespace.
type Host struct{ conn *rtnl.Conn }

// New makes a Host.
func New(conn *rtnl.Conn) *Host { return &Host{conn: conn} }

// Ifname is the device's name for a network: vml and ten characters of a hash.
func Ifname(network string) string { return "" }

// Ensure makes the link, or brings the one that is there to what is asked: device,
// addresses, and how guests are reached by it. Where the uplink's own stack has an
// address in the same prefix, the host's routes stay as they are: Guests get a
// route each, and what is sent from the link's address goes by the link. Nothing
// is left when it fails.
func (h *Host) Ensure(ctx context.Context, spec Spec) (Link, error) { return Link{}, errNotBuilt }

// Remove removes a network's link with all that Ensure made; one that is not there
// is fine.
func (h *Host) Remove(ctx context.Context, network string) error { return errNotBuilt }

// Ours is every link of ours.
func (h *Host) Ours(ctx context.Context) ([]Link, error) { return nil, errNotBuilt }

var errNotBuilt = vmnetd.Errorf(vmnetd.ErrUnsupported, "hostlink: not built yet")
