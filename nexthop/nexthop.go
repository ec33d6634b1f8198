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
// nor what it asks about itself. Other filters of the device stay, and see what is
// not answered. vmnetd.ErrUnsupported: this kernel cannot; vmnetd.ErrNotFound:
// there is no such device; vmnetd.ErrBusy: the place is taken.
func Answer(ctx context.Context, conn *rtnl.Conn, ifindex int) error {
	t, err := openTC(ctx, conn, ifindex)
	if err != nil {
		return err
	}
	defer t.Close()
	there, err := t.answers()
	if there || err != nil {
		return err
	}
	p, err := loaded()
	if err != nil {
		return err
	}
	defer p.Close()
	if err := t.clsact(); err != nil {
		return err
	}
	if err := t.attach(p.FD()); err != nil {
		return err
	}
	if there, err = t.answers(); err == nil && !there {
		err = vmnetd.Errorf(vmnetd.ErrFailed, "the kernel took the filter of %s and does not show it", t.link.Name)
	}
	return err
}

// Answers says whether the program is on the device, in the version of this build.
func Answers(ctx context.Context, conn *rtnl.Conn, ifindex int) (bool, error) {
	t, err := openTC(ctx, conn, ifindex)
	if err != nil {
		return false, err
	}
	defer t.Close()
	return t.answers()
}
