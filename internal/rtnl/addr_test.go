package rtnl_test

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestAddressesAndRoutesAreReadAsTheyWereGiven(t *testing.T) {
	testkit.Require(t, "netns")
	n := testkit.NewNetns(t)
	testkit.NewVeth(t, n, "v0", n, "v1")
	ctx := context.Background()
	c := n.Conn()
	addrs := []rtnl.Addr{
		{Prefix: netip.MustParsePrefix("192.0.2.17/24"), Broadcast: netip.MustParseAddr("192.0.2.255")},
		{Prefix: netip.MustParsePrefix("203.0.113.1/32"), Peer: netip.MustParsePrefix("203.0.113.2/32"), NoPrefix: true},
		{Prefix: netip.MustParsePrefix("2001:db8::17/64")},
	}
	routes := []rtnl.Route{
		{To: netip.MustParsePrefix("203.0.113.0/24"), Table: 254, Proto: 3, Scope: 253},
		{To: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("192.0.2.1"), From: netip.MustParseAddr("192.0.2.17"), Table: 254, Proto: 4, Metric: 100, MTU: 1400},
		{To: netip.MustParsePrefix("198.51.100.0/24"), Via: netip.MustParseAddr("10.9.9.9"), Table: 100, Proto: 4, OnLink: true},
		{To: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("2001:db8::1"), Table: 254, Proto: 4, Metric: 1024},
	}
	v0 := n.Link(t, "v0").Index
	both := func(do string, addr func(context.Context, int, rtnl.Addr) error, route func(context.Context, int, rtnl.Route) error) {
		t.Helper()
		for _, a := range addrs {
			if err := addr(ctx, v0, a); err != nil {
				t.Fatalf("%s %v: %v", do, a.Prefix, err)
			}
		}
		for _, r := range routes {
			if err := route(ctx, v0, r); err != nil {
				t.Fatalf("%s %v: %v", do, r, err)
			}
		}
	}
	read := func() ([]rtnl.Addr, []rtnl.Route) {
		t.Helper()
		a, err := c.AddrsOf(ctx, v0)
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.RoutesOf(ctx, v0)
		if err != nil {
			t.Fatal(err)
		}
		return a, r
	}

	both("add", c.AddAddr, c.AddRoute)
	both("add again", c.AddAddr, c.AddRoute)
	gotAddrs, gotRoutes := read()
	if !slices.Equal(gotAddrs, addrs) {
		t.Errorf("addresses\n%+v, want\n%+v", gotAddrs, addrs)
	}
	if len(gotRoutes) != len(routes) {
		t.Errorf("routes\n%+v, want\n%+v", gotRoutes, routes)
	}
	for _, r := range routes {
		if !slices.Contains(gotRoutes, r) {
			t.Errorf("no route %+v among\n%+v", r, gotRoutes)
		}
	}

	for _, r := range routes {
		if err := c.DelRoute(ctx, v0, r); err != nil {
			t.Errorf("del %v: %v", r, err)
		}
		if err := c.DelRoute(ctx, v0, r); err != nil {
			t.Errorf("del %v again: %v", r, err)
		}
	}
	for _, a := range addrs {
		if err := c.DelAddr(ctx, v0, a); err != nil {
			t.Errorf("del %v: %v", a, err)
		}
		if err := c.DelAddr(ctx, v0, a); err != nil {
			t.Errorf("del %v again: %v", a, err)
		}
	}
	if a, r := read(); len(a)+len(r) > 0 {
		t.Errorf("left: %+v %+v", a, r)
	}
}
