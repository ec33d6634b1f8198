package hostlink

import (
	"context"
	"net/netip"
	"slices"
)

// believed is what guests were heard to claim as their own and this host can speak
// to them by: inside a prefix of the link, and neither an address of this host nor a
// next hop of its routes. Otherwise a guest could draw to itself what the host sends
// to others.
func (h *Host) believed(ctx context.Context, spec Spec) ([]netip.Addr, error) {
	if len(spec.Claimed) == 0 {
		return nil, nil
	}
	taken, err := h.ownAndNextHops(ctx)
	if err != nil {
		return nil, err
	}
	var all []netip.Addr
	for _, a := range spec.Claimed {
		inside := slices.ContainsFunc(spec.IPs, func(p netip.Prefix) bool { return p.Contains(a) && !p.IsSingleIP() })
		if inside && !taken[a] {
			all = append(all, a)
		}
	}
	return all, nil
}

// ownAndNextHops is the addresses of this host, and the gateways of its routes.
func (h *Host) ownAndNextHops(ctx context.Context) (map[netip.Addr]bool, error) {
	addrs, err := h.conn.AllAddrs(ctx)
	if err != nil {
		return nil, err
	}
	taken := map[netip.Addr]bool{}
	for index, own := range addrs {
		for _, a := range own {
			taken[a.Prefix.Addr()] = true
		}
		routes, err := h.conn.RoutesOf(ctx, index)
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			taken[r.Via] = true
		}
	}
	return taken, nil
}
