package tapdev

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/undo"
)

// undoTime bounds what is taken back after the caller's context has ended.
const undoTime = 10 * time.Second

// Ensure makes the device, or takes the one of that VM and id that is there,
// and reads back every attribute. A new device is down; one that was there is
// left up if it is up, and gets its MAC and MTU again where they were changed:
// QEMU can change the MAC through a queue's SIOCSIFHWADDR without privilege,
// and a lower device that lost MTU pulls the ones on it down and leaves them
// there (macvlan_device_event). Other properties cannot be changed under a
// guest: vmnetd.ErrBusy, and so is a foreign device of that name. How a port stands
// on its bridge can be. With ByName, /dev/tapIFINDEX is the device's too, or nobody's
// where its kind has no such node. When it fails, what it made is gone again, and in passthru the lower device has its own MAC
// back.
func (h *Host) Ensure(ctx context.Context, spec Spec) (Device, error) {
	if err := spec.check(); err != nil {
		return Device{}, err
	}
	lower, err := h.conn.LinkByIndex(ctx, spec.Lower)
	if err != nil {
		return Device{}, err
	}
	if err := h.fits(ctx, spec, lower); err != nil {
		return Device{}, err
	}
	there, err := h.conn.LinkByName(ctx, spec.Ifname)
	switch {
	case errors.Is(err, vmnetd.ErrNotFound):
		return h.create(ctx, spec, lower)
	case err != nil:
		return Device{}, err
	}
	return h.adopt(ctx, spec, lower, there)
}

// create makes the device; one that is opened by name with another index where
// the node of the first is another device's.
func (h *Host) create(ctx context.Context, spec Spec, lower rtnl.Link) (Device, error) {
	index, err := h.firstIndex(ctx, spec)
	if err != nil {
		return Device{}, err
	}
	dev, err := h.createAt(ctx, spec, lower, index)
	for try := 1; try < indexTries && errors.Is(err, errForeignNode); try++ {
		index, ierr := h.freeIndex(ctx)
		if ierr != nil {
			return Device{}, ierr
		}
		dev, err = h.createAt(ctx, spec, lower, index)
	}
	if errors.Is(err, errForeignNode) {
		return Device{}, vmnetd.Errorf(vmnetd.ErrFailed, "cannot make a device node for %s: %w", vmnetd.FullName(spec.VM, spec.ID), err).WithNext("try again")
	}
	return dev, err
}

// createAt makes the device with that index, 0 for the next one, and takes it
// back when anything fails.
func (h *Host) createAt(ctx context.Context, spec Spec, lower rtnl.Link, index int) (dev Device, err error) {
	spec.Filtered = false // nobody has told the filter of this one
	if spec.must().lower.port {
		spec.MTU = cmp.Or(spec.MTU, lower.MTU) // those of other kinds get it by themselves
	}
	var back undo.Stack
	defer func() { err = errors.Join(err, back.Run()) }()
	if spec.Mode.Info().Exclusive {
		back.Add(func() error { return h.takeBackMAC(ctx, lower) })
	}
	if err := spec.must().maker.make(ctx, h, spec, index); err != nil {
		return Device{}, h.whyNotCreated(ctx, spec, lower, err)
	}
	back.Add(func() error { return h.takeBack(ctx, spec.Ifname) })
	if err := h.fail.Hit(failpoint.TapCreated); err != nil {
		return Device{}, err
	}
	if dev, err = h.mark(ctx, spec, lower); err != nil {
		return Device{}, err
	}
	back.Forget()
	return dev, nil
}

// mark says whose a new device is, and finishes it.
func (h *Host) mark(ctx context.Context, spec Spec, lower rtnl.Link) (Device, error) {
	link, err := h.conn.LinkByName(ctx, spec.Ifname)
	if err != nil {
		return Device{}, err
	}
	mark := rtnl.Change{Index: link.Index, Attrs: []rtnl.Attr{rtnl.Alias(vmnetd.Alias(spec.VM, spec.ID))}}
	if err := h.conn.Set(ctx, mark); err != nil {
		return Device{}, vmnetd.Errorf(vmnetd.ErrFailed, "cannot mark %s as ours: %w", link.Name, err)
	}
	if err := h.fail.Hit(failpoint.TapMarked); err != nil {
		return Device{}, err
	}
	dev, err := h.finish(ctx, spec, lower, link.Index)
	if err == nil {
		err = spec.claim(h, dev)
	}
	return dev, err
}

// adopt takes the device that has the name: ours with the same properties as
// it is, a half-made one by making it anew.
func (h *Host) adopt(ctx context.Context, spec Spec, lower, there rtnl.Link) (Device, error) {
	dev, ours := device(there)
	switch {
	case !ours || there.Name != spec.Ifname:
		return Device{}, vmnetd.Errorf(vmnetd.ErrBusy, "the name %s is taken by a device that is not ours (%s %s)", spec.Ifname, kindName(there.Kind), there.Name).
			WithNext("see  ip -d link show " + spec.Ifname)
	case dev.halfMade():
		if err := h.discard(ctx, dev); err != nil {
			return Device{}, err
		}
		return h.create(ctx, spec, lower)
	}
	if err := differs(spec, there); err != nil {
		return Device{}, vmnetd.Errorf(vmnetd.ErrBusy, "%s is there with other properties: %w", dev.fullName(), err).
			WithNext("detach it first, or ask for what it has")
	}
	dev, err := h.finish(ctx, spec, lower, there.Index)
	if err != nil {
		return Device{}, errors.Join(err, h.takeBackMAC(ctx, lower))
	}
	err = spec.claim(h, dev)
	if errors.Is(err, errForeignNode) {
		return h.replace(ctx, spec, lower, dev)
	}
	return dev, err
}

// discard removes a half-made device, which nobody was given yet.
func (h *Host) discard(ctx context.Context, dev Device) error {
	pids, _, err := h.Holders(ctx, dev)
	if err != nil {
		return err
	}
	if len(pids) > 0 {
		return vmnetd.Errorf(vmnetd.ErrBusy, "%s has no mark of ours and process %d holds it", dev.Ifname, pids[0]).
			WithNext("end that process, or delete the device")
	}
	return h.Remove(ctx, dev)
}

// finish strips a marked device of what the host's stack would do on it and
// reads everything back. On a finished device it changes nothing.
func (h *Host) finish(ctx context.Context, spec Spec, lower rtnl.Link, index int) (Device, error) {
	link, err := h.conn.LinkByIndex(ctx, index)
	if err != nil {
		return Device{}, err
	}
	k := spec.must()
	if err := h.harden(ctx, link, k.allMulti && !spec.Filtered); err != nil {
		return Device{}, vmnetd.Errorf(vmnetd.ErrFailed, "cannot prepare %s: %w", link.Name, err)
	}
	if err := errors.Join(h.address(ctx, spec, link), h.queueBroadcasts(ctx, spec, link)); err != nil {
		return Device{}, err
	}
	if k.lower.port {
		if err := errors.Join(h.join(ctx, spec.Port, link, lower), h.keepMTU(ctx, lower)); err != nil {
			return Device{}, vmnetd.Errorf(vmnetd.ErrFailed, "cannot put %s on its bridge: %w", link.Name, err)
		}
	}
	return h.readBack(ctx, spec, lower, index)
}

// readBack is the device as it has come to be, once all of it is as it has to be.
func (h *Host) readBack(ctx context.Context, spec Spec, lower rtnl.Link, index int) (Device, error) {
	link, err := h.conn.LinkByIndex(ctx, index)
	if err != nil {
		return Device{}, err
	}
	err = verify(spec, link)
	if err == nil && spec.must().lower.port {
		err = h.verifyPort(ctx, spec.Port, link, lower)
	}
	if err != nil {
		return Device{}, vmnetd.Errorf(vmnetd.ErrFailed, "the kernel made %s otherwise than asked: %w", link.Name, err)
	}
	dev, _ := device(link)
	dev.Queues = spec.Queues
	dev.Rdev, err = h.rdev(link)
	return dev, err
}

// address gives the device its MAC and MTU where it has others.
func (h *Host) address(ctx context.Context, spec Spec, link rtnl.Link) error {
	if spec.MTU != 0 && link.MTU != spec.MTU {
		if err := h.conn.Set(ctx, rtnl.Change{Index: link.Index, Attrs: []rtnl.Attr{rtnl.MTU(spec.MTU)}}); err != nil {
			return vmnetd.Errorf(vmnetd.ErrFailed, "cannot give %s the MTU %d: %w", link.Name, spec.MTU, err)
		}
	}
	if spec.Filtered {
		return nil
	}
	// In passthru this is the lower device's MAC too.
	return h.setMAC(ctx, link, spec.must().macFor(spec.MAC))
}

// harden keeps the host's stack off the device. It would answer on it as soon
// as it is up, with a link-local address made from the guest's MAC. Multicast
// is taken whole, because the filter of a macvtap hears of the host's groups
// and not of the guest's: a guest's static IPv6 address gets no packet without,
// unless somebody tells the filter (SetFilter).
// all says that multicast is taken whole.
func (h *Host) harden(ctx context.Context, link rtnl.Link, all bool) error {
	ch := rtnl.Change{Index: link.Index}
	if all && !link.AllMulti {
		ch.Flags, ch.Mask = unix.IFF_ALLMULTI, unix.IFF_ALLMULTI
	}
	if link.Group != Group {
		ch.Attrs = append(ch.Attrs, rtnl.Group(Group))
	}
	if link.Inet6 && !link.AddrGenNone {
		ch.Attrs = append(ch.Attrs, rtnl.AddrGenNone())
	}
	if ch.Mask != 0 || ch.Attrs != nil {
		if err := h.conn.Set(ctx, ch); err != nil {
			return err
		}
	}
	if !link.IPv6 {
		return nil
	}
	return h.disableIPv6(link.Name)
}

// takeBack deletes what create made, by name: nobody else made a device of
// that name since, and the index may not be known yet.
func (h *Host) takeBack(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	err := h.conn.DeleteName(ctx, name)
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// takeBackMAC gives the lower device the MAC again that it had before.
func (h *Host) takeBackMAC(ctx context.Context, before rtnl.Link) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	now, err := h.conn.LinkByIndex(ctx, before.Index)
	if err != nil || bytes.Equal(now.MAC, before.MAC) {
		return nil // gone, or never changed
	}
	return h.RestoreMAC(ctx, before.Index, before.MAC)
}
