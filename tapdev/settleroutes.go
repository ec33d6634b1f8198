package tapdev

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// kernel is the route as the kernel gets it. Scope link is what ip-route(8) gives
// routes without a gateway; IPv6 has none.
func (r Route) kernel() rtnl.Route {
	k := rtnl.Route{To: r.To, Via: r.Via, Table: unix.RT_TABLE_MAIN, Proto: rtnl.Ours}
	if !r.Via.IsValid() && r.To.Addr().Is4() {
		k.Scope = unix.RT_SCOPE_LINK
	}
	return k
}

func (r Route) is(k rtnl.Route) bool {
	return k.Proto == rtnl.Ours && k.To == r.To && k.Via == r.Via && k.Table == unix.RT_TABLE_MAIN
}

func (r Route) String() string {
	if r.Via.IsValid() {
		return r.To.String() + " via " + r.Via.String()
	}
	return r.To.String()
}

// route makes the routes of ours out of the device exactly those of s: those that
// gateways need before those that need gateways.
func (h *Host) route(ctx context.Context, link rtnl.Link, s Settings) error {
	if s.Guest {
		return nil
	}
	there, err := h.conn.RoutesOf(ctx, link.Index)
	if err != nil {
		return err
	}
	for _, k := range there {
		wanted := slices.ContainsFunc(s.Routes, func(r Route) bool { return r.is(k) })
		if wanted || k.Proto != rtnl.Ours {
			continue
		}
		if err := h.conn.DelRoute(ctx, link.Index, k); err != nil {
			return vmnetd.Errorf(vmnetd.ErrFailed, "cannot take the route %s from %s: %w", k.To, link.Name, err)
		}
	}
	if len(s.Routes) > 0 && !link.Up {
		if err := h.SetNICUp(ctx, Device{VM: s.VM, ID: s.ID, Ifname: link.Name, Ifindex: link.Index}, true); err != nil {
			return err
		}
	}
	return h.addRoutes(ctx, link, s, there)
}

func (h *Host) addRoutes(ctx context.Context, link rtnl.Link, s Settings, there []rtnl.Route) error {
	for _, direct := range []bool{true, false} {
		for _, r := range s.Routes {
			if r.Via.IsValid() == direct || slices.ContainsFunc(there, r.is) {
				continue
			}
			if err := h.conn.AddNewRoute(ctx, link.Index, r.kernel()); err != nil {
				return whyNotRouted(link, r, err)
			}
		}
	}
	return nil
}

func whyNotRouted(link rtnl.Link, r Route, err error) error {
	switch {
	case errors.Is(err, unix.EEXIST):
		return vmnetd.Errorf(vmnetd.ErrBusy, "cannot route %s by %s: the namespace has a route to the same place: %w", r, link.Name, err).
			WithNext("ip route show, in that namespace; leave the route out, or delete that one")
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EINVAL) && r.Via.IsValid():
		return vmnetd.Errorf(vmnetd.ErrInvalid, "cannot route %s by %s: no address on it reaches the gateway: %w", r, link.Name, err).
			WithNext("give an address of the gateway's prefix, or a route to " + r.Via.String() + " itself")
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "cannot route %s by %s: %w", r, link.Name, err)
}
