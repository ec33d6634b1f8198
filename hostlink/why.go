package hostlink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// agrees refuses an ipvlan of another mode or flag than those beside it: the kernel
// would change all of them without a word (drivers/net/ipvlan/ipvlan_main.c,
// ipvlan_link_new). Those in other namespaces cannot be seen from here; whoever
// asks knows what stands on the uplink.
func (h *Host) agrees(ctx context.Context, spec Spec, lower rtnl.Link) error {
	if kinds[spec.Kind].ownMAC {
		return nil
	}
	users, err := h.users(ctx, lower.Index)
	if err != nil {
		return err
	}
	for _, u := range users {
		m, f := ipvlanRead(u)
		if vmnetd.FamilyOf(u.Kind) == vmnetd.FamilyIpvlan && (m != spec.Mode || f != spec.Flag) {
			return vmnetd.Errorf(vmnetd.ErrBusy, "%s has ipvlans in mode %s %s (%s), and would change them to %s %s", lower.Name, m, f, who(u), spec.Mode, spec.Flag).
				WithNext("ask for the mode and flag that they have")
		}
	}
	return nil
}

// users is what stands on a device. Devices that come and go meanwhile may be
// missing.
func (h *Host) users(ctx context.Context, lower int) ([]rtnl.Link, error) {
	links, err := h.conn.Links(ctx)
	if err != nil && !errors.Is(err, rtnl.ErrDumpInterrupted) {
		return nil, err
	}
	var users []rtnl.Link
	for _, l := range links {
		if l.LowerHere && l.Lower == lower {
			users = append(users, l)
		}
	}
	return users, nil
}

// whyNotCreated turns the errno of a create into one sentence.
func (h *Host) whyNotCreated(ctx context.Context, spec Spec, lower rtnl.Link, err error) error {
	what := fmt.Sprintf("cannot make a %s for this host on %s", spec.Kind, lower.Name)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return vmnetd.Errorf(vmnetd.ErrUnsupported, "this kernel has no %s: the module is missing, or loading it is blocked: %w", spec.Kind, err).
			WithNext("modprobe " + string(spec.Kind))
	case errors.Is(err, unix.EBUSY):
		return vmnetd.Errorf(vmnetd.ErrBusy, "%s: %s: %w", what, h.taken(ctx, lower, spec.Kind), err).
			WithNext("use another uplink; a device takes macvtaps, or ipvlans, or a master, never two of these")
	case errors.Is(err, unix.EINVAL):
		return h.whyInvalid(ctx, what, lower, err)
	case errors.Is(err, unix.ENODEV):
		return vmnetd.Errorf(vmnetd.ErrNotFound, "%s: it has gone: %w", what, err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return vmnetd.Errorf(vmnetd.ErrFailed, "%s: it takes CAP_NET_ADMIN: %w", what, err)
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "%s: %w", what, err)
}

// taken says who has the one rx handler of a device (net/core/dev.c,
// netdev_rx_handler_register).
func (h *Host) taken(ctx context.Context, lower rtnl.Link, kind vmnetd.Kind) string {
	if lower.Master != 0 {
		return "it is a port of another device"
	}
	users, _ := h.users(ctx, lower.Index)
	for _, u := range users {
		if f := vmnetd.FamilyOf(u.Kind); f != "" && f != vmnetd.FamilyOf(string(kind)) {
			return who(u) + " stands on it"
		}
	}
	return "something else receives its frames"
}

// whyInvalid: a passthru has its lower device for itself, or it is a device that
// macvlan does not take (drivers/net/macvlan.c, macvlan_port_create).
func (h *Host) whyInvalid(ctx context.Context, what string, lower rtnl.Link, err error) error {
	users, _ := h.users(ctx, lower.Index)
	for _, u := range users {
		if u.Mode == string(vmnetd.Passthru) {
			return vmnetd.Errorf(vmnetd.ErrBusy, "%s: %s has it for itself (passthru): %w", what, who(u), err).
				WithNext("use another uplink, or detach that one")
		}
	}
	return vmnetd.Errorf(vmnetd.ErrUnsupported, "%s: the kernel takes none on a device of this kind: %w", what, err).
		WithNext("use an Ethernet device as the uplink")
}

// whyNotReady names who has the MAC already: at up, or when it is changed, the
// kernel refuses a second holder on one uplink (macvlan_addr_busy).
func (h *Host) whyNotReady(ctx context.Context, dev rtnl.Link, spec Spec, err error) error {
	if !errors.Is(err, unix.EADDRINUSE) && !errors.Is(err, unix.EBUSY) {
		return vmnetd.Errorf(vmnetd.ErrFailed, "cannot set %s up: %w", dev.Name, err)
	}
	holder := "another device on the same uplink"
	if lower, err := h.conn.LinkByIndex(ctx, spec.Lower); err == nil && bytes.Equal(lower.MAC, spec.MAC) {
		holder = "the uplink " + lower.Name + " itself"
	}
	users, _ := h.users(ctx, spec.Lower)
	for _, u := range users {
		if u.Index != dev.Index && bytes.Equal(u.MAC, spec.MAC) {
			holder = who(u)
		}
	}
	return vmnetd.Errorf(vmnetd.ErrBusy, "MAC %s of this host's link to %s is taken by %s: %w", spec.MAC, spec.Network, holder, err).
		WithNext("give that one another MAC")
}

// whyNoAddress: on an uplink with ipvlans an address is one device's alone
// (drivers/net/ipvlan/ipvlan_main.c, ipvlan_addr4_validator_event).
func whyNoAddress(p netip.Prefix, err error) error {
	if errors.Is(err, unix.EADDRINUSE) {
		return vmnetd.Errorf(vmnetd.ErrBusy, "address %s is taken by another device on the same uplink: %w", p.Addr(), err).
			WithNext("give this host another address")
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "cannot give this host the address %s: %w", p, err)
}

func whyNoRoute(what string, err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		return vmnetd.Errorf(vmnetd.ErrUnsupported, "this kernel has no policy routing, without which the link's address cannot be in a prefix that the host is in already: %w", err).
			WithNext("give this host an address in a prefix of its own")
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "cannot set %s: %w", what, err)
}

// who names a device to people: by VM and NIC where it is ours.
func who(l rtnl.Link) string {
	if vm, id, ok := vmnetd.ParseAlias(l.Alias); ok {
		return vmnetd.Printable(vmnetd.FullName(vm, id)) + " (" + l.Name + ")"
	}
	return strings.TrimSpace(l.Kind + " " + l.Name)
}
