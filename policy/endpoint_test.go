package policy

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/vmnetd/vmnetd"
)

func TestAnEndpointIsGivenOnlyWhatHoldsThere(t *testing.T) {
	off := false
	unfiltered := Grant{Modes: bridge.Modes, Filter: Filter{Spoof: &off, DHCPServer: &off, RA: &off}}
	slow := unfiltered
	slow.Bandwidth.In.Bits = 1_000_000
	const path = "/run/netns/web"
	for name, c := range map[string]guestCase{
		"trusted":           {grant: bridge, facts: inNetns(true), want: "macvlan bridge"},
		"not trusted":       {grant: bridge, facts: inNetns(false), exit: 5, text: "the macvlan would be in the hands of " + path + "'s root, who could take filter and bandwidth off it", next: `trusted: ["` + path + `"]`},
		"no name to trust":  {grant: bridge, facts: func(f *Facts) { f.Netns = &Netns{Path: "/proc/77/ns/net"} }, exit: 5, text: "in the hands of /proc/77/ns/net's root", next: "ip netns attach NAME PID"},
		"nothing to hold":   {grant: unfiltered, facts: inNetns(false), want: "macvlan bridge"},
		"a rate to hold":    {grant: slow, facts: inNetns(false), exit: 5, text: "in the hands of"},
		"veth on a bridge":  {grant: switched, facts: inNetns(false), wan: onBridgeBr(false), want: "veth switched"},
		"ipvlan on its own": {grant: l2, facts: inNetns(true), want: "ipvlan l2"},
		"l3 on its own":     {grant: l3, facts: inNetns(true), exit: 5, text: "known beforehand"},
		"queues":            {grant: bridge, facts: inNetns(true), req: vmnetd.Request{Queues: 2}, exit: 2, text: "--queues is for a VM, and " + path + " is a network namespace"},
		"bus":               {grant: bridge, facts: inNetns(true), req: vmnetd.Request{Bus: "pci.0"}, exit: 2, text: "--bus is for a VM"},
		"config":            {grant: bridge, facts: inNetns(true), req: vmnetd.Request{Config: true}, exit: 2, text: "--config is for a VM"},
		"a name for a VM":   {grant: bridge, req: vmnetd.Request{Name: "eth0"}, exit: 2, text: "--name is for a network namespace"},
		"routes for a VM":   {grant: bridge, req: vmnetd.Request{Routes: []string{"default via 192.0.2.1"}}, exit: 2, text: "--route is for a network namespace"},
		"a bad name":        {grant: bridge, facts: inNetns(true), req: vmnetd.Request{Name: "eth%d"}, exit: 2, text: `device name "eth%d" is not letters`},
		"a name of others":  {grant: bridge, facts: inNetns(true), req: vmnetd.Request{Name: "lo"}, exit: 2, text: "stands for something else"},
		"a long id":         {grant: bridge, facts: inNetns(true), req: vmnetd.Request{ID: "a234567890123456"}, exit: 2, text: "has 16 characters, 15 are possible", next: "--name"},
		"a route to no net": {grant: bridge, facts: inNetns(true), req: vmnetd.Request{Routes: []string{"default"}}, exit: 2, text: "is not of the form"},
		"a route of both":   {grant: bridge, facts: inNetns(true), req: vmnetd.Request{Routes: []string{"10.0.0.0/8 via fe80::1"}}, exit: 2, text: "mixes IPv4 and IPv6"},
		"a route unmasked":  {grant: bridge, facts: inNetns(true), req: vmnetd.Request{Routes: []string{"10.0.0.1/8"}}, exit: 2, text: "bits beyond its length"},
		"a far gateway":     {grant: bridge, facts: inNetns(true), req: vmnetd.Request{IPs: []string{"192.0.2.5"}, Routes: []string{"default via 192.0.2.1"}}, exit: 2, text: "192.0.2.1 is in no prefix of the addresses asked for", next: "192.0.2.5/24"},
	} {
		t.Run(name, c.check)
	}
}

func TestAnEndpointHasItsNameRoutesAndPrefixesAndNoQueues(t *testing.T) {
	c := guestCase{grant: bridge, facts: inNetns(true), req: vmnetd.Request{ID: "net3", IPs: []string{"192.0.2.5/24", "2001:db8::5/64"},
		Routes: []string{"default via 192.0.2.1", "default via fe80::1", "198.51.100.0/24"}}}
	d, err := c.decide()
	if err != nil {
		t.Fatal(err)
	}
	want := Decision{Kind: vmnetd.Macvlan, Name: "eth3", IPs: []netip.Prefix{netip.MustParsePrefix("192.0.2.5/24"), netip.MustParsePrefix("2001:db8::5/64")},
		Routes: []Route{{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("192.0.2.1")}, {netip.MustParsePrefix("::/0"), netip.MustParseAddr("fe80::1")}, {To: netip.MustParsePrefix("198.51.100.0/24")}}}
	got := Decision{Kind: d.Kind, Name: d.Name, IPs: d.IPs, Routes: d.Routes, Queues: d.Queues, VHost: d.VHost, Filter: d.Filter, Bandwidth: d.Bandwidth, Learn: d.Learn}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Error(diff)
	}
	c.req.Name, c.req.ID = "", "wan"
	if d, err = c.decide(); err != nil || d.Name != "wan" {
		t.Errorf("named %q, %v", d.Name, err)
	}
}
