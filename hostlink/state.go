package hostlink

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// Numbers by which we know what we made (FRA_PROTOCOL, rtm_protocol; those above
// 127 and a few below are taken, /etc/iproute2/rt_protos).
const (
	proto        = 0x76
	rulePriority = 30500 // before the main table's, 32766
	metric6      = 1024  // what the kernel gives an IPv6 route without one (IP6_RT_PRIO_USER)
)

// state is what a link has, apart from being there.
type state struct {
	addrs  []rtnl.Addr
	rules  []rtnl.Rule
	routes []rtnl.Route
}

// want is what a link of that spec has to have; connected is the prefixes to which
// other devices of the host have a connected route.
func want(spec Spec, connected []netip.Prefix) state {
	var s state
	var plain []netip.Prefix
	for _, p := range spec.IPs {
		apart := slices.ContainsFunc(connected, p.Overlaps)
		s.addrs = append(s.addrs, rtnl.Addr{Prefix: p, NoPrefix: apart})
		if !apart {
			plain = append(plain, p)
			continue
		}
		s.rules = append(s.rules, rtnl.Rule{From: host(p.Addr()), Priority: rulePriority, Table: tableOf(spec.Network), Proto: proto})
		if !p.IsSingleIP() {
			s.routes = append(s.routes, onLink(p.Masked(), tableOf(spec.Network), netip.Addr{}))
		}
	}
	for _, g := range spec.Guests {
		contains := func(p netip.Prefix) bool { return p.Contains(g) && !p.IsSingleIP() }
		if from, ok := nearest(spec.IPs, g); ok && !slices.ContainsFunc(plain, contains) {
			s.routes = append(s.routes, onLink(host(g), unix.RT_TABLE_MAIN, from))
		}
	}
	s.routes = unique(s.routes)
	return s
}

// host is the prefix of one address.
func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func onLink(to netip.Prefix, table int, from netip.Addr) rtnl.Route {
	r := rtnl.Route{To: to, Table: table, Proto: proto, From: from, Scope: unix.RT_SCOPE_LINK}
	if to.Addr().Is6() {
		r.Scope, r.Metric = unix.RT_SCOPE_UNIVERSE, metric6
	}
	return r
}

// nearest is the address of ours that a guest is spoken to from: one in whose prefix
// it is, or else any of its family. None for a link-local address, which every
// link's connected route reaches, and for ours.
func nearest(ours []netip.Prefix, guest netip.Addr) (from netip.Addr, ok bool) {
	for _, p := range ours {
		switch {
		case p.Addr() == guest || guest.IsLinkLocalUnicast():
			return netip.Addr{}, false
		case p.Contains(guest):
			return p.Addr(), true
		case p.Addr().BitLen() == guest.BitLen() && !ok:
			from, ok = p.Addr(), true
		}
	}
	return from, ok
}

func unique[T comparable](list []T) []T {
	var out []T
	for _, v := range list {
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// minus is what is in a and not in b.
func minus[T comparable](a, b []T) []T {
	return slices.DeleteFunc(slices.Clone(a), func(v T) bool { return slices.Contains(b, v) })
}

// have is what the link has of what we make: every address, and what has our
// number of rules and routes.
func (h *Host) have(ctx context.Context, index int, network string) (state, error) {
	var s state
	addrs, err := h.conn.AddrsOf(ctx, index)
	if err != nil {
		return s, err
	}
	for _, a := range addrs {
		a.Scope = 0
		s.addrs = append(s.addrs, a)
	}
	if s.rules, err = h.rules(ctx, network); err != nil {
		return s, err
	}
	s.routes, err = h.conn.RoutesOf(ctx, index)
	s.routes = slices.DeleteFunc(s.routes, func(r rtnl.Route) bool { return r.Proto != proto })
	return s, err
}

func (h *Host) rules(ctx context.Context, network string) ([]rtnl.Rule, error) {
	rules, err := h.conn.Rules(ctx)
	foreign := func(r rtnl.Rule) bool {
		return r.Proto != proto || r.Priority != rulePriority || r.Table != tableOf(network)
	}
	return slices.DeleteFunc(rules, foreign), err
}

// bring makes a link have exactly s. What goes, goes first: with an address that
// has gone, the kernel takes routes and other addresses of its prefix away
// (net/ipv4/devinet.c, __inet_del_ifa), so it is looked at again.
func (h *Host) bring(ctx context.Context, index int, network string, s state) error {
	now, err := h.have(ctx, index, network)
	if err != nil {
		return err
	}
	if err := h.take(ctx, index, state{minus(now.addrs, s.addrs), minus(now.rules, s.rules), minus(now.routes, s.routes)}); err != nil {
		return err
	}
	if now, err = h.have(ctx, index, network); err != nil {
		return err
	}
	return h.give(ctx, index, state{minus(s.addrs, now.addrs), minus(s.rules, now.rules), minus(s.routes, now.routes)})
}

func (h *Host) take(ctx context.Context, index int, s state) error {
	var errs []error
	for _, r := range s.routes {
		errs = append(errs, h.conn.DelRoute(ctx, index, r))
	}
	for _, r := range s.rules {
		errs = append(errs, h.conn.DelRule(ctx, r))
	}
	for _, a := range s.addrs {
		errs = append(errs, h.conn.DelAddr(ctx, index, a))
	}
	return errors.Join(errs...)
}

func (h *Host) give(ctx context.Context, index int, s state) error {
	for _, a := range s.addrs {
		if err := h.conn.AddAddr(ctx, index, a); err != nil {
			return whyNoAddress(a.Prefix, err)
		}
	}
	for _, r := range s.rules {
		if err := h.conn.AddRule(ctx, r); err != nil {
			return whyNoRoute("the rule for what is sent from "+r.From.Addr().String(), err)
		}
	}
	for _, r := range s.routes {
		err := h.conn.NewRoute(ctx, index, r)
		if errors.Is(err, unix.EEXIST) && r.Table == unix.RT_TABLE_MAIN {
			continue // the operator has one of his own to that guest: it counts
		}
		if err != nil {
			return whyNoRoute("the route to "+r.To.String(), err)
		}
	}
	return nil
}

// connected is the prefixes to which the host's other devices have connected
// routes.
func (h *Host) connected(ctx context.Context, but int) ([]netip.Prefix, error) {
	all, err := h.conn.AllAddrs(ctx)
	if err != nil {
		return nil, err
	}
	var out []netip.Prefix
	for index, addrs := range all {
		for _, a := range addrs {
			p := a.Prefix
			if a.Peer.IsValid() {
				p = a.Peer
			}
			if index != but && !a.NoPrefix && !p.IsSingleIP() {
				out = append(out, p.Masked())
			}
		}
	}
	return out, nil
}
