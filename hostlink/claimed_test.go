package hostlink

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/vmnetd/vmnetd/internal/rtnl"
)

func TestOnlyClaimsInsideTheLinksPrefixThatAreNobodyElsesGetARoute(t *testing.T) {
	l := newLab(t)
	l.ip("address", "add", "192.0.2.17/24", "dev", "u0")
	l.ip("route", "add", "default", "via", "192.0.2.1", "dev", "u0")
	want := spec(l, "192.0.2.18/24")
	for _, a := range []string{"192.0.2.1", "192.0.2.17", "9.9.9.9", "192.0.2.101"} {
		want.Claimed = append(want.Claimed, netip.MustParseAddr(a))
	}
	link := l.ensure(want)
	routes, err := l.ns.Conn().RoutesOf(t.Context(), link.Ifindex)
	if err != nil {
		t.Fatal(err)
	}
	has := func(to string) bool {
		return slices.ContainsFunc(routes, func(r rtnl.Route) bool { return r.Table == 254 && r.To == netip.MustParsePrefix(to) })
	}
	if !has("192.0.2.101/32") || has("192.0.2.1/32") || has("192.0.2.17/32") || has("9.9.9.9/32") {
		t.Errorf("%+v", routes)
	}
}
