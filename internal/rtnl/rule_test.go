package rtnl_test

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestRulesBySourceAreReadAsTheyWereWritten(t *testing.T) {
	n := newNetns(t)
	c := n.Conn()
	// One that goes by more than the source is another's.
	ip(t, n, "rule", "add", "from", "192.0.2.1", "iif", "lo", "lookup", "100", "pref", "5")
	before, err := c.Rules(t.Context())
	if err != nil || len(before) != 0 {
		t.Fatalf("before: %+v, %v", before, err)
	}
	want := []rtnl.Rule{
		{From: netip.MustParsePrefix("192.0.2.1/32"), Priority: 30500, Table: 0x76123456, Proto: 0x76},
		{From: netip.MustParsePrefix("2001:db8::/64"), Priority: 7, Table: 100, Proto: 4},
	}
	for range 2 {
		for _, r := range want {
			if err := c.AddRule(t.Context(), r); err != nil {
				t.Fatalf("add %+v: %v", r, err)
			}
		}
	}
	if got, err := c.Rules(t.Context()); err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for range 2 {
		for _, r := range want {
			if err := c.DelRule(t.Context(), r); err != nil {
				t.Errorf("del %+v: %v", r, err)
			}
		}
	}
	if left, err := c.Rules(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("left: %+v, %v", left, err)
	}
}

func TestANewRouteReplacesNone(t *testing.T) {
	n := newNetns(t)
	testkit.NewVeth(t, n, "v0", n, "v1")
	c := n.Conn()
	v0, v1 := n.Link(t, "v0").Index, n.Link(t, "v1").Index
	for _, r := range []rtnl.Route{
		{To: netip.MustParsePrefix("192.0.2.1/32"), Table: 254, Proto: 4, Scope: 253},
		{To: netip.MustParsePrefix("2001:db8::1/128"), Table: 254, Proto: 4, Metric: 1024},
	} {
		if err := c.NewRoute(t.Context(), v0, r); err != nil {
			t.Fatal(err)
		}
		if err := c.NewRoute(t.Context(), v1, r); !errors.Is(err, unix.EEXIST) {
			t.Errorf("%v: %v", r.To, err)
		}
		if routes, err := c.RoutesOf(t.Context(), v0); err != nil || !slices.Contains(routes, r) {
			t.Errorf("%+v, %v", routes, err)
		}
		if routes, err := c.RoutesOf(t.Context(), v1); err != nil || slices.Contains(routes, r) {
			t.Errorf("by the other link: %+v, %v", routes, err)
		}
	}
	if routes, err := c.RoutesOf(t.Context(), 4711); err != nil || len(routes) != 0 {
		t.Errorf("by no link: %+v, %v", routes, err)
	}
	ip(t, n, "addr", "add", "198.51.100.1/24", "dev", "v0")
	ip(t, n, "addr", "add", "2001:db8:1::1/64", "dev", "v1")
	all, err := c.AllAddrs(t.Context())
	if err != nil || len(all[v0]) != 1 || len(all[v1]) != 1 || all[v0][0].Prefix.String() != "198.51.100.1/24" || all[v1][0].Prefix.String() != "2001:db8:1::1/64" {
		t.Errorf("%+v, %v", all, err)
	}
	ip(t, n, "addr", "add", "fe80::7/64", "dev", "v1")
	whole, err := c.AddrsByLink(t.Context())
	if err != nil || len(whole[v0]) < 1 || !slices.Contains(whole[v1], netip.MustParsePrefix("fe80::7/64")) || !slices.Contains(whole[v1], netip.MustParsePrefix("2001:db8:1::1/64")) {
		t.Errorf("with link-local ones: %v, %v", whole, err)
	}
}
