package nexthop

import (
	"context"
	"net"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// MAC is who every next hop is said to be: locally administered (IEEE 802 8.2).
var MAC = net.HardwareAddr{0x02, 0x76, 0x6d, 0x6e, 0x6c, 0x33}

// Answer puts the program on a device of conn's namespace, or finds it there. ARP
// requests and neighbour solicitations of the guest are answered with MAC for
// whatever address they ask for; probes and duplicate address detection are not,
// nor what it asks about itself. vmnetd.ErrUnsupported: this kernel cannot.
func Answer(ctx context.Context, conn *rtnl.Conn, ifindex int) error { return errNotBuilt }

// Answers says whether the program is on the device.
func Answers(ctx context.Context, conn *rtnl.Conn, ifindex int) (bool, error) {
	return false, errNotBuilt
}

var errNotBuilt = vmnetd.Errorf(vmnetd.ErrUnsupported, "nexthop: not built yet")
