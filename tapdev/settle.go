package tapdev

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// Settle gives a device of this namespace its mark, name, MAC, MTU, addresses and routes,
// and reads them back. It is idempotent. With Guest all addresses on the device are
// ours; without, those that we gave it are (rtnl.Ours), and what else is there stays.
// Routes need the device up, so it is up afterwards where there are any.
//
// vmnetd.ErrBusy: the name is taken here, the device is up and has another one,
// another device on the uplink has the MAC or an address, or a route to the same
// place is somebody else's. vmnetd.ErrNotFound: the device has gone.
func (h *Host) Settle(ctx context.Context, dev Device, s Settings) (Device, error) {
	if err := s.check(); err != nil {
		return Device{}, err
	}
	link, err := h.nicOf(ctx, dev, s)
	if err != nil {
		return Device{}, err
	}
	if err := h.identify(ctx, link, s); err != nil {
		return Device{}, err
	}
	if link, err = h.conn.LinkByIndex(ctx, link.Index); err != nil {
		return Device{}, err
	}
	for _, step := range h.settling(link, s) {
		if err := step(ctx); err != nil {
			return Device{}, err
		}
	}
	return h.settled(ctx, link.Index, s)
}

// settling is the steps after the device has its mark and its name, in order.
func (h *Host) settling(link rtnl.Link, s Settings) []func(context.Context) error {
	stack := func(context.Context) error { return h.enableIPv6(link, s) }
	if s.Guest {
		stack = func(ctx context.Context) error { return h.quieten(ctx, link) }
	}
	return []func(context.Context) error{
		stack,
		func(ctx context.Context) error { return h.place(ctx, link, s) },
		func(ctx context.Context) error { return h.route(ctx, link, s) },
	}
}

// nicOf is the link that is meant: by the index where that is still its, else by the
// mark, or by the name that it came with.
func (h *Host) nicOf(ctx context.Context, dev Device, s Settings) (rtnl.Link, error) {
	link, err := h.currentNIC(ctx, Device{VM: s.VM, ID: s.ID, Ifname: s.Ifname, Ifindex: dev.Ifindex})
	if err == nil || !errors.Is(err, vmnetd.ErrNotFound) {
		return link, err
	}
	return h.findNIC(ctx, s.VM, s.ID, s.Ifname)
}

// identify gives a device its mark, group, MTU, name and MAC, each where it lacks it.
func (h *Host) identify(ctx context.Context, link rtnl.Link, s Settings) error {
	ch := rtnl.Change{Index: link.Index}
	if link.Alias == "" {
		ch.Attrs = append(ch.Attrs, rtnl.Alias(vmnetd.Alias(s.VM, s.ID)))
	}
	if link.Group != Group {
		ch.Attrs = append(ch.Attrs, rtnl.Group(Group))
	}
	if ch.Attrs != nil {
		if err := h.conn.Set(ctx, ch); err != nil {
			return vmnetd.Errorf(vmnetd.ErrFailed, "cannot mark %s as ours: %w", link.Name, err)
		}
	}
	if s.MTU != 0 && link.MTU != s.MTU {
		if err := h.conn.Set(ctx, rtnl.Change{Index: link.Index, Attrs: []rtnl.Attr{rtnl.MTU(s.MTU)}}); err != nil {
			return vmnetd.Errorf(vmnetd.ErrFailed, "cannot give %s the MTU %d: %w", vmnetd.Printable(vmnetd.FullName(s.VM, s.ID)), s.MTU, err)
		}
	}
	if err := h.rename(ctx, link, s); err != nil {
		return err
	}
	if s.MAC == nil || bytes.Equal(link.MAC, s.MAC) {
		return nil
	}
	if err := h.conn.Set(ctx, rtnl.Change{Index: link.Index, Attrs: []rtnl.Attr{rtnl.MAC(s.MAC)}}); err != nil {
		return whyNoNICMAC(s, err)
	}
	return nil
}

func (h *Host) rename(ctx context.Context, link rtnl.Link, s Settings) error {
	if s.Name == "" || link.Name == s.Name {
		return nil
	}
	err := h.conn.Set(ctx, rtnl.Change{Index: link.Index, Attrs: []rtnl.Attr{rtnl.Name(s.Name)}})
	whose := vmnetd.Printable(vmnetd.FullName(s.VM, s.ID))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EEXIST):
		return vmnetd.Errorf(vmnetd.ErrBusy, "the name %s for %s is taken in this namespace: %w", s.Name, whose, err).
			WithNext("ask for another name, or delete the device that has it")
	case errors.Is(err, unix.EBUSY): // before Linux 6.2 a device that is up keeps its name
		return vmnetd.Errorf(vmnetd.ErrBusy, "%s is up as %s and cannot be renamed to %s: %w", whose, link.Name, s.Name, err).
			WithNext("ip link set " + link.Name + " down, in that namespace")
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "cannot rename %s of %s to %s: %w", link.Name, whose, s.Name, err)
}

func whyNoNICMAC(s Settings, err error) error {
	class := vmnetd.ErrFailed
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EADDRINUSE) {
		class = vmnetd.ErrBusy
	}
	return vmnetd.Errorf(class, "cannot give %s the MAC %s: %w", vmnetd.Printable(vmnetd.FullName(s.VM, s.ID)), s.MAC, err).WithNext("use another MAC")
}

// settled reads the device back and says what is not as it was asked for: some kinds
// ignore what they do not take (an ipvlan its MAC).
func (h *Host) settled(ctx context.Context, index int, s Settings) (Device, error) {
	link, err := h.conn.LinkByIndex(ctx, index)
	if err != nil {
		return Device{}, err
	}
	dev, err := h.withIPs(ctx, link, Device{VM: s.VM, ID: s.ID})
	if err != nil {
		return Device{}, err
	}
	otherwise := func(format string, args ...any) (Device, error) {
		return Device{}, vmnetd.Errorf(vmnetd.ErrFailed, "the kernel settled "+dev.fullName()+" otherwise than asked: "+format, args...)
	}
	switch how := s.differs(link); {
	case link.Alias != vmnetd.Alias(s.VM, s.ID):
		return otherwise("it has the mark %q", vmnetd.Printable(link.Alias))
	case how != "":
		return otherwise("%s", how)
	case s.Guest && !link.AllMulti:
		return otherwise("allmulticast is off")
	}
	if missing := lacks(dev.IPs, s.wanted()); missing.IsValid() {
		return otherwise("%s is not on it", missing)
	}
	return dev, nil
}

// differs is what of name, MAC and MTU the link has in another way, "" for nothing.
func (s Settings) differs(link rtnl.Link) string {
	switch {
	case s.Name != "" && link.Name != s.Name:
		return "it is named " + link.Name
	case s.MAC != nil && !bytes.Equal(link.MAC, s.MAC):
		return fmt.Sprintf("MAC %s, not %s", link.MAC, s.MAC)
	case s.MTU != 0 && link.MTU != s.MTU:
		return fmt.Sprintf("MTU %d, not %d", link.MTU, s.MTU)
	}
	return ""
}
