package vmnetd

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestAddressesAreWrittenOneWayAndOnce(t *testing.T) {
	got, err := CheckIPs([]string{"192.0.2.101", "2001:DB8:0::0101", "192.0.2.101/32", "198.51.100.7/24", "fe80::1", "192.0.2.0/31", "10.0.0.255/8"})
	want := []string{"192.0.2.101", "2001:db8::101", "198.51.100.7/24", "fe80::1", "192.0.2.0/31", "10.0.0.255/8"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	got, err = CheckHostIPs([]string{"192.0.2.18/24", "2001:db8::18/64", "192.0.2.19/32"})
	if want := []string{"192.0.2.18/24", "2001:db8::18/64", "192.0.2.19/32"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("of the host: %v, %v", got, err)
	}
}

func TestAddressesThatNoStationCanHaveAreRefusedWithTheReason(t *testing.T) {
	for in, why := range map[string]string{
		"": "no IP address", "192.0.2.300": "no IP address", "192.0.2.01": "no IP address", "192.0.2.1/33": "no IP address", "eth0": "no IP address",
		"192.0.2.1/": "no IP address", "fe80::1%eth0": "no IP address", "192.0.2.1,x": "no IP address", "::ffff:192.0.2.1": "192.0.2.1", "192.0.2.0/24": "is a network",
		"192.0.2.255/24": "broadcast address of 192.0.2.0/24", "2001:db8::/64": "is a network", "0.0.0.0": "a station can have", "::": "a station can have",
		"127.0.0.1": "a station can have", "224.0.0.1": "a station can have", "ff02::1": "a station can have", "255.255.255.255": "a station can have", "192.0.2.1/0": "length 0",
	} {
		_, err := CheckIPs([]string{in})
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), why) || NextOf(err) == "" {
			t.Errorf("%q: %v", in, err)
		}
	}
	if _, err := CheckIPs([]string{"192.0.2.1/24", "192.0.2.1"}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "two lengths") {
		t.Errorf("two lengths: %v", err)
	}
	if _, err := CheckHostIPs([]string{"192.0.2.18"}); !errors.Is(err, ErrInvalid) || !strings.Contains(NextOf(err), "192.0.2.18/24") {
		t.Errorf("no length: %v, %s", err, NextOf(err))
	}
}

func TestRoutesAreWrittenOneWay(t *testing.T) {
	for in, want := range map[string]string{
		"default via 192.0.2.1": "default via 192.0.2.1", "0.0.0.0/0  via 192.0.2.1": "default via 192.0.2.1", "::/0 via FE80::1": "default via fe80::1",
		"198.51.100.0/24 via 192.0.2.1": "198.51.100.0/24 via 192.0.2.1", "198.51.100.7": "198.51.100.7/32", "2001:db8:1::/48": "2001:db8:1::/48",
	} {
		if got, err := CheckRoutes([]string{in, in}); err != nil || !slices.Equal(got, []string{want}) {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for in, why := range map[string]string{
		"": "none of", "default": "by which router", "default via": "none of", "default via x": "router", "default via 0.0.0.0": "router", "default dev eth0": "none of",
		"198.51.100.1/24": "in 198.51.100.0/24", "198.51.100.0/24 via 2001:db8::1": "mixes", "x via 192.0.2.1": "no prefix", "default via fe80::1%eth0": "router", "::ffff:1.2.3.4": "no prefix",
	} {
		if _, err := CheckRoutes([]string{in}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), why) || NextOf(err) == "" {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestWhatIsAnAddressReadsBackAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bytes := rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "v4")
		if rapid.Bool().Draw(t, "v6") {
			bytes = rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "v6 bytes")
		}
		a, _ := netip.AddrFromSlice(bytes)
		p := netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "length"))
		got, err := ParseIP(p.String())
		if err != nil {
			return
		}
		if again, err := ParseIP(IPText(got)); err != nil || again != p {
			t.Fatalf("%s came back as %s, %v", p, again, err)
		}
	})
}

func TestARequestMixesUpNoVMAndNamespace(t *testing.T) {
	ns := ViaNetns("/run/netns/c1")
	for name, req := range map[string]Request{
		"name": {Name: "eth0"}, "route": {Routes: []string{"default via 192.0.2.1"}, Via: "qmp"}, "queues": {Via: ns, Queues: 2}, "bus": {Via: ns, Bus: "x"},
		"addr": {Via: ns, Addr: "1"}, "handover": {Via: ns, Handover: "fd"}, "incoming": {Via: ns, Incoming: true}, "live": {Via: ns, Live: true}, "config": {Via: ns, Config: true}, "whole path": {Via: "netns:c1"}, "15 bytes": {Via: ns, Name: "a-name-that-is-long"},
	} {
		if err := CheckNetns(req); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), name) || NextOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, req := range []Request{{}, {Queues: 2, Bus: "x", IPs: []string{"192.0.2.1"}}, {Via: ns, Name: "eth0", Routes: []string{"default via 192.0.2.1"}}} {
		if err := CheckNetns(req); err != nil {
			t.Errorf("%+v: %v", req, err)
		}
	}
	for _, bad := range []string{"", ".", "..", "a/b", "a:b", "eth%d", "a b", "a\x00", "a\u00a0b", "0123456789abcdef"} {
		if err := CheckIfname(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("device name %q: %v", bad, err)
		}
	}
}
