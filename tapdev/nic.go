package tapdev

import (
	"context"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// What is here works in whatever namespace a device of ours is, where it may have
// any name: it goes by the mark alone.

// FindNIC is the device of an attachment in this namespace, whatever its name: by
// its mark, or by the name that it was made with where it is not marked yet.
// vmnetd.ErrNotFound when there is none.
func (h *Host) FindNIC(ctx context.Context, vm, id string) (Device, error) {
	link, err := h.findNIC(ctx, vm, id, vmnetd.Ifname(vm, id))
	if err != nil {
		return Device{}, err
	}
	return h.withIPs(ctx, link, Device{VM: vm, ID: id})
}

// findNIC is the link with the mark, or the one of that name without any. Most have
// kept their name, and to ask for one link takes the same among one and among
// thousands.
func (h *Host) findNIC(ctx context.Context, vm, id, ifname string) (rtnl.Link, error) {
	if l, err := h.conn.LinkByName(ctx, ifname); err == nil && l.Alias == vmnetd.Alias(vm, id) {
		return l, nil
	}
	return h.listNIC(ctx, vm, id, ifname)
}

func (h *Host) listNIC(ctx context.Context, vm, id, ifname string) (rtnl.Link, error) {
	links, err := h.conn.Links(ctx)
	var unmarked *rtnl.Link
	for i, l := range links {
		if l.Alias == vmnetd.Alias(vm, id) {
			return l, nil
		}
		if l.Name == ifname && l.Alias == "" {
			unmarked = &links[i]
		}
	}
	switch {
	case err != nil: // it proves nothing that none was seen
		return rtnl.Link{}, vmnetd.Errorf(vmnetd.ErrFailed, "cannot list the devices: %w", err).WithNext("try again")
	case unmarked != nil:
		return *unmarked, nil
	}
	return rtnl.Link{}, vmnetd.Errorf(vmnetd.ErrNotFound, "%s has no device in this namespace", vmnetd.Printable(vmnetd.FullName(vm, id)))
}

// withIPs is a link as a device of whom, with the addresses that the kernel has not
// given it by itself.
func (h *Host) withIPs(ctx context.Context, link rtnl.Link, whom Device) (Device, error) {
	link.Alias = vmnetd.Alias(whom.VM, whom.ID)
	dev, _ := marked(link)
	placed, err := h.conn.PlacedOn(ctx, link.Index)
	if err != nil {
		return Device{}, vmnetd.Errorf(vmnetd.ErrFailed, "cannot list the addresses of %s: %w", link.Name, err).WithNext("try again")
	}
	dev.IPs = []netip.Prefix{}
	for _, p := range placed {
		if !p.Kernels() {
			dev.IPs = append(dev.IPs, p.Prefix)
		}
	}
	return dev, nil
}

// NICs is every device with our mark in this namespace, whatever its name and kind.
// IPs and Rdev are not filled in.
func (h *Host) NICs(ctx context.Context) ([]Device, error) {
	links, err := h.conn.Links(ctx)
	if err != nil {
		return nil, vmnetd.Errorf(vmnetd.ErrFailed, "cannot list the devices: %w", err).WithNext("try again")
	}
	devs := []Device{}
	for _, l := range links {
		if d, ours := marked(l); ours && !d.halfMade() {
			devs = append(devs, d)
		}
	}
	return devs, nil
}

// currentNIC is the link of a device as it is now, whatever its name:
// vmnetd.ErrNotFound when the device has gone or its index belongs to another one.
func (h *Host) currentNIC(ctx context.Context, dev Device) (rtnl.Link, error) {
	link, err := h.conn.LinkByIndex(ctx, dev.Ifindex)
	if errors.Is(err, vmnetd.ErrNotFound) {
		return rtnl.Link{}, gone(dev)
	}
	if err != nil {
		return rtnl.Link{}, err
	}
	if now, ours := marked(link); !ours || now.VM != dev.VM || now.ID != dev.ID {
		return rtnl.Link{}, gone(dev)
	}
	return link, nil
}

// SetNICUp is SetUp for a device in another namespace than its lower device's. One
// that is set down loses its routes and IPv6 addresses, but for those of a guest that
// are not link-local (net/ipv6/addrconf.c, addrconf_ifdown): Settle it again.
func (h *Host) SetNICUp(ctx context.Context, dev Device, up bool) error {
	link, err := h.currentNIC(ctx, dev)
	if err != nil || link.Up == up {
		return err
	}
	err = h.conn.SetUp(ctx, link.Index, up)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENODEV):
		return gone(dev)
	case errors.Is(err, unix.EADDRINUSE):
		return vmnetd.Errorf(vmnetd.ErrBusy, "MAC %s of %s is taken by another device on the same uplink: %w", link.MAC, dev.fullName(), err).
			WithNext("give one of them another MAC")
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "cannot set %s up: %w", dev.fullName(), err)
}

// RemoveNICs is Remove for devices in another namespace than the daemon's: no node in
// /dev is theirs that the kernel does not remove itself.
func (h *Host) RemoveNICs(ctx context.Context, devs ...Device) error {
	var errs []error
	for _, d := range devs {
		link, err := h.currentNIC(ctx, d)
		switch {
		case errors.Is(err, vmnetd.ErrNotFound):
		case err != nil:
			errs = append(errs, err)
		default:
			errs = append(errs, h.deleteNIC(ctx, link, d))
		}
	}
	return errors.Join(errs...)
}

// RemoveLeft is RemoveNICs for a device in a namespace that only its number in this
// one names any more, since its path has gone and processes keep it, or whose root has
// changed the mark: then it is told by its kind and its lower device.
func (h *Host) RemoveLeft(ctx context.Context, nsid int, dev Device) error {
	link, err := h.conn.LinkIn(ctx, nsid, dev.Ifindex)
	if errors.Is(err, vmnetd.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	now, ours := marked(link)
	switch {
	case ours && now.VM == dev.VM && now.ID == dev.ID:
	case ours && !now.halfMade(), link.Kind != string(dev.Kind), link.Lower != dev.Lower, dev.Lower == 0:
		return nil
	}
	err = h.conn.DeleteIn(ctx, nsid, link.Index)
	if err == nil || errors.Is(err, vmnetd.ErrNotFound) {
		return nil
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "cannot delete %s in a namespace that has lost its path: %w", dev.fullName(), err)
}

func (h *Host) deleteNIC(ctx context.Context, link rtnl.Link, dev Device) error {
	err := h.conn.Delete(ctx, link.Index)
	if err == nil || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "cannot delete %s: %w", dev.fullName(), err)
}
