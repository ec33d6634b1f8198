package tapdev

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/netns"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// Move puts a device into another namespace. It keeps name and mark; index and
// node change, queues that are open go on working (net/core/dev.c,
// dev_change_net_namespace), and it is down afterwards. A node that we made in /dev
// goes, where Rdev is given. vmnetd.ErrBusy: the name is taken there;
// vmnetd.ErrNotFound: the device is not in this namespace.
func (h *Host) Move(ctx context.Context, dev Device, to *netns.NS) error {
	link, err := h.currentNIC(ctx, dev)
	if err != nil {
		return err
	}
	// Before the move: its number may be another device's a moment later.
	if err := h.dropNode(link.Index, dev.Rdev); err != nil {
		return err
	}
	err = h.conn.Set(ctx, rtnl.Change{Index: link.Index, Attrs: []rtnl.Attr{rtnl.NetNS(to)}})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENODEV):
		return gone(dev)
	case errors.Is(err, unix.EEXIST):
		return vmnetd.Errorf(vmnetd.ErrBusy, "cannot move %s into another namespace: the name %s is taken there: %w", dev.fullName(), link.Name, err).
			WithNext("rename or delete the device of that name there")
	case errors.Is(err, unix.EINVAL): // netns_local; the kernel has no other cause that remains
		return vmnetd.Errorf(vmnetd.ErrUnsupported, "the kernel moves no device such as %s (%s) into another namespace: %w", dev.fullName(), kindName(link.Kind), err)
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "cannot move %s into another namespace: %w", dev.fullName(), err)
}
