package tapdev

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// wanted is the addresses that the device is to have. A guest's are alone on it: with
// a length they would give this namespace a route to the guest's neighbours.
func (s Settings) wanted() []netip.Prefix {
	var list []netip.Prefix
	for _, p := range s.IPs {
		if s.Guest {
			p = netip.PrefixFrom(p.Addr(), p.Addr().BitLen())
		}
		if !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	return list
}

// lacks is the first of wanted that is not among there; invalid when all are.
func lacks(there, wanted []netip.Prefix) netip.Prefix {
	for _, w := range wanted {
		if !slices.Contains(there, w) {
			return w
		}
	}
	return netip.Prefix{}
}

// ours says that we gave the device an address, or that nobody else can have.
func (s Settings) ours(p rtnl.Placed) bool { return s.Guest || p.Proto == rtnl.Ours }

// place makes the addresses of ours on the device those of s. What is missing is added
// first: with its last address an IPv4 device loses every route (net/ipv4/
// fib_frontend.c, fib_disable_ip), also those that we have nothing to do with. An
// address that is there with another length has to make way before.
func (h *Host) place(ctx context.Context, link rtnl.Link, s Settings) error {
	wanted := s.wanted()
	there, err := h.conn.PlacedOn(ctx, link.Index)
	if err != nil {
		return err
	}
	var before, after []netip.Prefix
	for _, p := range there {
		switch {
		case !s.ours(p) || slices.Contains(wanted, p.Prefix):
		case slices.ContainsFunc(wanted, func(w netip.Prefix) bool { return w.Addr() == p.Prefix.Addr() }):
			before = append(before, p.Prefix)
		default:
			after = append(after, p.Prefix)
		}
	}
	if err := h.unplace(ctx, link, before); err != nil {
		return err
	}
	for _, w := range wanted {
		if slices.ContainsFunc(there, func(p rtnl.Placed) bool { return p.Prefix == w }) {
			continue
		}
		if err := h.conn.Place(ctx, link.Index, rtnl.Placed{Prefix: w, NoDAD: s.Guest, NoPrefix: s.Guest, Proto: rtnl.Ours}); err != nil {
			return whyNotPlaced(link, s, w, err)
		}
	}
	return h.unplace(ctx, link, after)
}

// unplace takes addresses from the device. The others of a prefix stay when its first
// one goes (net/ipv4/devinet.c, __inet_del_ifa).
func (h *Host) unplace(ctx context.Context, link rtnl.Link, gone []netip.Prefix) error {
	if len(gone) == 0 {
		return nil
	}
	if err := h.setConf("ipv4", link.Name, []setting{{"promote_secondaries", "1"}}); err != nil {
		return err
	}
	for _, p := range gone {
		if err := h.conn.DelAddr(ctx, link.Index, rtnl.Addr{Prefix: p}); err != nil {
			return vmnetd.Errorf(vmnetd.ErrFailed, "cannot take %s from %s: %w", p, link.Name, err)
		}
	}
	return nil
}

func whyNotPlaced(link rtnl.Link, s Settings, p netip.Prefix, err error) error {
	whose := vmnetd.Printable(vmnetd.FullName(s.VM, s.ID))
	switch {
	case errors.Is(err, unix.EADDRINUSE): // drivers/net/ipvlan/ipvlan_main.c, ipvlan_addr4_validator_event
		return vmnetd.Errorf(vmnetd.ErrBusy, "%s of %s is on another device of the same uplink: %w", p.Addr(), whose, err).
			WithNext("vmnetd list  shows who has which address")
	case p.Addr().Is6() && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EOPNOTSUPP) || link.MTU < minIPv6MTU):
		return vmnetd.Errorf(vmnetd.ErrUnsupported, "%s cannot have %s: IPv6 is off there, or its MTU %d is below %d: %w", whose, p.Addr(), link.MTU, minIPv6MTU, err)
	case errors.Is(err, unix.ENODEV):
		return gone(Device{VM: s.VM, ID: s.ID, Ifname: link.Name})
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "cannot give %s the address %s: %w", whose, p, err)
}

// minIPv6MTU is the least MTU of a link with IPv6, in bytes (RFC 8200 5).
const minIPv6MTU = 1280
