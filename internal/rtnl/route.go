package rtnl

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Route is a unicast route of the host out of one link (rtnetlink(7)).
type Route struct {
	To      netip.Prefix `json:"to"`               // a default route's is 0.0.0.0/0 or ::/0
	Via     netip.Addr   `json:"via,omitzero"`     // gateway, invalid: on the link
	From    netip.Addr   `json:"from,omitzero"`    // RTA_PREFSRC, invalid: the kernel chooses
	Metric  int          `json:"metric,omitempty"` // RTA_PRIORITY
	Table   int          `json:"table,omitempty"`  // RTA_TABLE, 254 is main
	Proto   int          `json:"proto,omitempty"`  // RTPROT_*: who made it
	Scope   int          `json:"scope,omitempty"`  // RT_SCOPE_*
	OnLink  bool         `json:"on_link,omitempty"`
	MTU     int          `json:"mtu,omitempty"`     // RTAX_MTU, 0: the link's
	Dynamic bool         `json:"dynamic,omitempty"` // of DHCP or a router: it goes and comes with what they say
}

// RoutesOf is the routes out of a link, those that gateways need first. What
// the kernel makes by itself with an address, and routes with several next
// hops, are left out.
func (c *Conn) RoutesOf(ctx context.Context, index int) ([]Route, error) {
	var routes []Route
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		get := func() *nl.NetlinkRequest {
			req := nl.NewNetlinkRequest(unix.RTM_GETROUTE, unix.NLM_F_DUMP)
			req.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family)}})
			req.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(index)))) // heeded since Linux 4.20: a router's million routes stay there
			return req
		}
		msgs, err := c.dump(ctx, get, unix.RTM_NEWROUTE)
		if errors.Is(err, unix.ENODEV) {
			return nil, nil
		}
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, err
		}
		for _, m := range msgs {
			if r, ok := routeOf(m, index); ok {
				routes = append(routes, r)
			}
		}
	}
	slices.SortStableFunc(routes, func(a, b Route) int {
		switch {
		case a.Via.IsValid() == b.Via.IsValid():
			return 0
		case b.Via.IsValid():
			return -1
		}
		return 1
	})
	return routes, nil
}

func routeOf(b []byte, index int) (Route, bool) {
	if len(b) < unix.SizeofRtMsg {
		return Route{}, false
	}
	msg := nl.DeserializeRtMsg(b)
	own := msg.Protocol == unix.RTPROT_KERNEL || msg.Flags&unix.RTM_F_CLONED != 0
	if own || msg.Type != unix.RTN_UNICAST || msg.Table == unix.RT_TABLE_LOCAL {
		return Route{}, false
	}
	zero := netip.IPv4Unspecified()
	if msg.Family == unix.AF_INET6 {
		zero = netip.IPv6Unspecified()
	}
	r := Route{
		To: netip.PrefixFrom(zero, int(msg.Dst_len)), Table: int(msg.Table), Proto: int(msg.Protocol), Scope: int(msg.Scope),
		OnLink:  msg.Flags&unix.RTNH_F_ONLINK != 0,
		Dynamic: msg.Protocol == unix.RTPROT_DHCP || msg.Protocol == unix.RTPROT_RA,
	}
	out := 0
	each(b[unix.SizeofRtMsg:], func(attr int, v []byte) {
		switch attr {
		case unix.RTA_OIF:
			out = int(number(v))
		default:
			r.take(attr, v)
		}
	})
	return r, out == index
}

func (r *Route) take(attr int, v []byte) {
	switch attr {
	case unix.RTA_DST:
		if a, ok := netip.AddrFromSlice(v); ok {
			r.To = netip.PrefixFrom(a, r.To.Bits())
		}
	case unix.RTA_GATEWAY:
		r.Via, _ = netip.AddrFromSlice(v)
	case unix.RTA_PREFSRC:
		r.From, _ = netip.AddrFromSlice(v)
	case unix.RTA_PRIORITY:
		r.Metric = int(number(v))
	case unix.RTA_TABLE:
		r.Table = int(number(v))
	case unix.RTA_METRICS:
		each(v, func(metric int, v []byte) {
			if metric == unix.RTAX_MTU {
				r.MTU = int(number(v))
			}
		})
	}
}

// AddRoute routes out of a link; a route to the same place with the same metric
// out of another one is replaced.
func (c *Conn) AddRoute(ctx context.Context, index int, r Route) error {
	_, err := c.run(ctx, request{msg: r.message(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, index)})
	return err
}

// NewRoute routes out of a link like AddRoute, but replaces nothing: EEXIST.
func (c *Conn) NewRoute(ctx context.Context, index int, r Route) error {
	_, err := c.run(ctx, request{msg: r.message(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, index)})
	return err
}

// DelRoute takes a route out of a link away; one that is not there is fine.
func (c *Conn) DelRoute(ctx context.Context, index int, r Route) error {
	_, err := c.run(ctx, request{msg: r.message(unix.RTM_DELROUTE, 0, index)})
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

func (r Route) message(kind, flags, index int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, flags|unix.NLM_F_ACK)
	msg := unix.RtMsg{
		Family: uint8(family(r.To.Addr())), Dst_len: uint8(r.To.Bits()), Table: unix.RT_TABLE_COMPAT,
		Protocol: uint8(r.Proto), Scope: uint8(r.Scope), Type: unix.RTN_UNICAST,
	}
	if r.OnLink {
		msg.Flags = unix.RTNH_F_ONLINK
	}
	req.AddData(&nl.RtMsg{RtMsg: msg})
	add := func(given bool, attr int, v []byte) {
		if given {
			req.AddData(nl.NewRtAttr(attr, v))
		}
	}
	add(r.To.Bits() > 0, unix.RTA_DST, r.To.Addr().AsSlice())
	add(true, unix.RTA_OIF, nl.Uint32Attr(uint32(index)))
	add(true, unix.RTA_TABLE, nl.Uint32Attr(uint32(r.Table)))
	add(r.Via.IsValid(), unix.RTA_GATEWAY, r.Via.AsSlice())
	add(r.From.IsValid(), unix.RTA_PREFSRC, r.From.AsSlice())
	add(r.Metric != 0, unix.RTA_PRIORITY, nl.Uint32Attr(uint32(r.Metric)))
	if r.MTU != 0 {
		metrics := nl.NewRtAttr(unix.RTA_METRICS, nil)
		metrics.AddChild(nl.NewRtAttr(unix.RTAX_MTU, nl.Uint32Attr(uint32(r.MTU))))
		req.AddData(metrics)
	}
	return req
}
