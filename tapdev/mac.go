package tapdev

import (
	"context"
	"errors"
	"net"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// RestoreMAC gives a lower device a MAC again that a passthru took from it:
// whatever MAC a passthru device is given, its lower device takes too
// (drivers/net/macvlan.c, macvlan_set_mac_address). When the passthru device
// goes, the kernel gives back the MAC that the lower device had when its first
// macvtap came (macvlan_port_destroy, Linux 4.13); what that was is on nobody's
// disk but ours. vmnetd.ErrNotFound when the device has gone.
func (h *Host) RestoreMAC(ctx context.Context, ifindex int, mac net.HardwareAddr) error {
	err := h.conn.Set(ctx, rtnl.Change{Index: ifindex, Attrs: []rtnl.Attr{rtnl.MAC(mac)}})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENODEV):
		return vmnetd.Errorf(vmnetd.ErrNotFound, "the device with index %d has gone: %w", ifindex, err)
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "cannot give the device with index %d its MAC %s back: %w", ifindex, mac, err)
}
