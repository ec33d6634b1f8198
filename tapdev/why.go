package tapdev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// whyNotCreated turns the errno of a create into one sentence. The kernel has
// one errno for many causes, so the lower device is looked at.
func (h *Host) whyNotCreated(ctx context.Context, spec Spec, lower rtnl.Link, err error) error {
	what := fmt.Sprintf("cannot make %s on %s", spec.what(), lower.Name)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return missing(spec.must(), err)
	case errors.Is(err, unix.EEXIST) && spec.must().far && h.unknown(ctx, spec.Ifname):
		return vmnetd.Errorf(vmnetd.ErrBusy, "%s: the namespace of its far end has a device named %s: %w", what, spec.Ifname, err).
			WithNext("see  ip -d link show " + spec.Ifname + "  in there")
	case errors.Is(err, unix.EEXIST):
		return vmnetd.Errorf(vmnetd.ErrBusy, "%s: a device named %s appeared at this moment: %w", what, spec.Ifname, err).WithNext("try again")
	case errors.Is(err, unix.EBUSY):
		return vmnetd.Errorf(vmnetd.ErrBusy, "%s: %s: %w", what, h.handlerTaken(ctx, spec, lower), err).
			WithNext("use another uplink; a device takes macvtaps, or ipvlans, or a master, never two of these")
	case errors.Is(err, unix.EINVAL):
		return h.whyInvalid(ctx, what, spec, lower, err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return vmnetd.Errorf(vmnetd.ErrFailed, "%s: it takes CAP_NET_ADMIN: %w", what, err)
	case errors.Is(err, unix.ENODEV):
		return vmnetd.Errorf(vmnetd.ErrNotFound, "%s: it has gone: %w", what, err)
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "%s: %w", what, err)
}

func missing(k kind, err error) *vmnetd.Error {
	return vmnetd.Errorf(vmnetd.ErrUnsupported, "this kernel has no %s: the module is missing, or loading it is blocked: %w", k.name, err).
		WithNext("modprobe " + k.module + "; see /etc/modprobe.d for a blacklist")
}

// unknown says that there is no device of that name here.
func (h *Host) unknown(ctx context.Context, name string) bool {
	_, err := h.conn.LinkByName(ctx, name)
	return errors.Is(err, vmnetd.ErrNotFound)
}

// whyInvalid: EINVAL is passthru beside others or others beside passthru, or a
// lower device that macvlan does not take (drivers/net/macvlan.c,
// macvlan_port_create: loopback, and what is itself a port or no Ethernet; ipvlan
// says the same of the latter).
func (h *Host) whyInvalid(ctx context.Context, what string, spec Spec, lower rtnl.Link, err error) error {
	for _, u := range h.users(ctx, lower.Index) {
		if vmnetd.FamilyOf(u.Kind) != vmnetd.FamilyMacvlan {
			continue
		}
		if u.Mode == string(vmnetd.Passthru) {
			return vmnetd.Errorf(vmnetd.ErrBusy, "%s: %s has it for itself (passthru): %w", what, holder(u), err).
				WithNext("use another uplink, or detach that one")
		}
		if spec.Mode == vmnetd.Passthru {
			return vmnetd.Errorf(vmnetd.ErrBusy, "%s: passthru needs it alone, and %s stands on it: %w", what, holder(u), err).
				WithNext("use another uplink or mode, or detach that one")
		}
	}
	return vmnetd.Errorf(vmnetd.ErrUnsupported, "%s: the kernel takes no %s on a device of this kind (%s): %w", what, spec.must().name, kindName(lower.Kind), err).
		WithNext("use an Ethernet device as the uplink")
}

// handlerTaken says who has the one rx handler of a device (net/core/dev.c,
// netdev_rx_handler_register).
func (h *Host) handlerTaken(ctx context.Context, spec Spec, lower rtnl.Link) string {
	if lower.Master != 0 {
		name := fmt.Sprintf("the device with index %d", lower.Master)
		if m, err := h.conn.LinkByIndex(ctx, lower.Master); err == nil {
			name = strings.TrimSpace(m.Kind + " " + m.Name)
		}
		return "it is a port of " + name
	}
	for _, u := range h.users(ctx, lower.Index) {
		if f := vmnetd.FamilyOf(u.Kind); f != "" && f != spec.Mode.Info().Family {
			return fmt.Sprintf("%s stands on it (%s)", holder(u), u.Kind)
		}
	}
	return "something else receives its frames"
}

// whyNotUp names who has the MAC already: at up, and not before, the kernel
// refuses a second holder on one lower device (macvlan_addr_busy), and does
// not say who the first is.
func (h *Host) whyNotUp(ctx context.Context, link rtnl.Link, err error) error {
	if !errors.Is(err, unix.EADDRINUSE) {
		return vmnetd.Errorf(vmnetd.ErrFailed, "cannot set %s up: %w", link.Name, err)
	}
	who := h.whoHas(ctx, link, link.MAC)
	return vmnetd.Errorf(vmnetd.ErrBusy, "MAC %s of %s is taken by %s: %w", link.MAC, nameOf(link), who, err).
		WithNext("give one of them another MAC")
}

// whoHas names the device beside or under a link that has a MAC already.
func (h *Host) whoHas(ctx context.Context, link rtnl.Link, mac net.HardwareAddr) string {
	if lower, err := h.conn.LinkByIndex(ctx, link.Lower); err == nil && bytes.Equal(lower.MAC, mac) {
		return "the uplink " + lower.Name + " itself"
	}
	who := "another device on the same uplink"
	for _, u := range h.users(ctx, link.Lower) {
		if u.Index != link.Index && bytes.Equal(u.MAC, mac) {
			who = holder(u)
			if u.Up {
				break
			}
		}
	}
	return who
}

func (h *Host) whyNoMAC(ctx context.Context, link rtnl.Link, mac net.HardwareAddr, err error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return vmnetd.Errorf(vmnetd.ErrBusy, "the device under %s cannot change its MAC to %s while it is up: %w", link.Name, mac, err).
			WithNext("give the VM the uplink's own MAC, or use another mode")
	case errors.Is(err, unix.EADDRINUSE):
		return vmnetd.Errorf(vmnetd.ErrBusy, "%s cannot have the MAC %s, which is taken by %s: %w", nameOf(link), mac, h.whoHas(ctx, link, mac), err).
			WithNext("use another MAC")
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "cannot give %s the MAC %s: %w", link.Name, mac, err)
}

// holder names a device to people: by VM and NIC when it is ours.
func holder(l rtnl.Link) string {
	if _, ours := device(l); ours {
		return nameOf(l)
	}
	return kindName(l.Kind) + " " + l.Name
}

func nameOf(l rtnl.Link) string {
	if d, ours := device(l); ours {
		return d.fullName()
	}
	return l.Name
}
