package tapdev

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// SetUp sets the device administratively up or down. Up belongs last, after
// the handover: frames of a device that is up and held by nobody enter the
// host's own stack. A MAC that another device on the lower device has is
// vmnetd.ErrBusy, naming the holder.
func (h *Host) SetUp(ctx context.Context, dev Device, up bool) error {
	link, err := h.current(ctx, dev)
	if err != nil {
		return err
	}
	if link.Up == up {
		return nil
	}
	if err := h.conn.SetUp(ctx, link.Index, up); err != nil {
		if errors.Is(err, unix.ENODEV) {
			return gone(dev)
		}
		return h.whyNotUp(ctx, link, err)
	}
	return nil
}

// current is the link of a device as it is now; vmnetd.ErrNotFound when the
// device has gone or its index belongs to another one (indexes and names come
// again). The MAC is not compared: QEMU may change it through the queue's
// SIOCSIFHWADDR without any privilege, and the device is still ours.
func (h *Host) current(ctx context.Context, dev Device) (rtnl.Link, error) {
	link, err := h.conn.LinkByIndex(ctx, dev.Ifindex)
	if errors.Is(err, vmnetd.ErrNotFound) {
		return rtnl.Link{}, gone(dev)
	}
	if err != nil {
		return rtnl.Link{}, err
	}
	now, ours := marked(link)
	if !ours || now.Ifname != dev.Ifname || now.VM != dev.VM || now.ID != dev.ID {
		return rtnl.Link{}, gone(dev)
	}
	return link, nil
}

func gone(dev Device) error {
	return vmnetd.Errorf(vmnetd.ErrNotFound, "the device of %s has gone", dev.fullName())
}
