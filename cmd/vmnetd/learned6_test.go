package main

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// Values of addr_gen_mode (uapi/linux/if_link.h).
const (
	byEUI64       = "0"
	stablePrivacy = "3" // of a secret that the kernel draws
)

// makes6 has the guest make its IPv6 addresses in a way, from its link-local one on.
func (g *guestOf) makes6(t *testing.T, mode string) {
	t.Helper()
	g.SetDown(t, testkit.GuestDevice)
	g.Run(t, "sh", "-c", "echo "+mode+" >/proc/sys/net/ipv6/conf/"+testkit.GuestDevice+"/addr_gen_mode")
	g.SetUp(t, testkit.GuestDevice)
}

// has6 is the guest's addresses that are in use, link-local or not, without those
// that were found to be another's.
func (g *guestOf) has6(t *testing.T, local bool) (ips []netip.Addr) {
	t.Helper()
	scope := map[bool]string{true: "link", false: "global"}[local]
	for line := range strings.Lines(g.Run(t, "ip", "-6", "-o", "address", "show", "dev", testkit.GuestDevice, "scope", scope)) {
		if strings.Contains(line, "tentative") || strings.Contains(line, "dadfailed") {
			continue
		}
		if p, err := netip.ParsePrefix(strings.Fields(line)[3]); err == nil {
			ips = append(ips, p.Addr())
		}
	}
	return ips
}

// gets6 waits until the guest has an address that others know.
func (h *portHost) gets6(g *guestOf, local bool) netip.Addr {
	h.t.Helper()
	var ips []netip.Addr
	h.eventually(g.vm+" has an IPv6 address", func() bool { ips = g.has6(h.t, local); return len(ips) > 0 },
		func() { h.t.Log(g.Run(h.t, "ip", "-6", "address")) })
	h.learns(g.vm, ips[0])
	return ips[0]
}

func TestIPv6AddressesAreLearnedAndReachableOnMacvtap(t *testing.T) {
	h := macvtapsThatLearn(t)
	h.addresses6(byEUI64)
}

func TestIPv6AddressesAreLearnedAndReachableOnATap(t *testing.T) {
	tapsThatLearn(t).addresses6(byEUI64)
}

func TestVMIPv6AddressesAreLearnedAndReachableOnIpvtap(t *testing.T) {
	ipvtapsThatLearn(t).addresses6(stablePrivacy)
}

// addresses6 has two guests make theirs, the second one by stable privacy.
func (h *portHost) addresses6(first string) {
	t := h.t
	h.serveDHCP()
	one, two := h.guest("vm1", "lan", true), h.guest("vm2", "lan", true)
	one.makes6(t, first)
	two.makes6(t, stablePrivacy)
	for _, g := range []*guestOf{one, two} {
		local, global := h.gets6(g, true), h.gets6(g, false)
		reach(t, g.vm, g.Netns, peerAddress6)
		reach(t, "the outside", h.net.Peer, global.String(), local.String()+"%peer0")
	}
	reach(t, "vm1", one.Netns, h.gets6(two, false).String())
	h.again()
	reach(t, "the outside", h.net.Peer, h.gets6(one, false).String(), h.gets6(two, false).String())
	two.Run(t, "ip", "address", "add", "2001:db8::77/64", "dev", testkit.GuestDevice) // with DAD
	h.learns("vm2", netip.MustParseAddr("2001:db8::77"))
	reach(t, "the outside", h.net.Peer, "2001:db8::77")
	for _, vm := range []string{"vm1", "vm2"} {
		if now := h.now(vm); now.Problem != "" {
			t.Errorf("%+v", now)
		}
	}
}

func TestVMLinkLocalAddressesOfOneMACCollideAndItIsExplained(t *testing.T) {
	h := ipvtapsThatLearn(t)
	h.serveDHCP()
	zero := h.guest("vm0", "lan", true)
	zero.makes6(t, byEUI64)
	h.told("address-refused", "vm0", "wants fe80::", "it is this host's own", "share the MAC", "addr_gen_mode=3")
	h.gone(zero)
	h.net.Host.Run(t, "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/u0/disable_ipv6") // else it is always the host's
	one := h.guest("vm1", "lan", true)
	one.makes6(t, byEUI64)
	local := h.gets6(one, true)
	two := h.guest("vm2", "lan", true)
	two.makes6(t, byEUI64)
	h.told("address-refused", "vm2", "wants "+local.String(), "it is vm1/net0's", "share the MAC", "addr_gen_mode=3")
	h.becomes("vm2", "has a problem", func(a vmnetd.Attachment) bool {
		return strings.Contains(a.Problem, "addr_gen_mode=3") && !slices.Contains(a.Learned, local.String())
	})
	h.eventually("vm2 notices it, too", func() bool { return strings.Contains(two.Run(t, "ip", "-6", "address"), "dadfailed") },
		func() { t.Log(two.Run(t, "ip", "-6", "address")) })
	reach(t, "the outside", h.net.Peer, local.String()+"%peer0")
	two.makes6(t, stablePrivacy)
	other := h.gets6(two, true)
	h.becomes("vm2", "has no problem", func(a vmnetd.Attachment) bool { return a.Problem == "" })
	reach(t, "the outside", h.net.Peer, local.String()+"%peer0", other.String()+"%peer0", h.gets6(two, false).String())
}
