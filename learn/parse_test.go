package learn

import (
	"net/netip"
	"slices"
	"testing"
)

// edited is a copy with one byte changed.
func edited(b []byte, at int, to byte) []byte {
	b = slices.Clone(b)
	b[at] = to
	return b
}

func TestMalformedPacketsAreNone(t *testing.T) {
	a, v6 := ip("192.0.2.7"), ip("2001:db8::7")
	request := arp(opRequest, guestMAC, a, a)[etherHeader:]
	advert := nd(advertisement, guestMAC, v6, ip("ff02::1"), v6, guestMAC)[etherHeader:]
	probe := dad(guestMAC, v6)[etherHeader:]
	c := client{mac: guestMAC, xid: 7}
	discover := c.sends(dhcpDiscover, noIP, optionIP(optRequested, a))[etherHeader:]
	arpOK := func(b []byte) bool { _, ok := parseARP(b); return ok }
	ndOK := func(b []byte) bool { _, ok := parseND(b); return ok }
	dhcpOK := func(b []byte) bool { _, ok := clientMessage(b); return ok }
	const dhcpAt = ipv4Header + udpHeader
	for _, c := range []struct {
		what string
		ok   func([]byte) bool
		b    []byte
		want bool
	}{
		{"ARP", arpOK, request, true},
		{"ARP cut short", arpOK, request[:27], false},
		{"ARP of token ring", arpOK, edited(request, 1, 6), false},
		{"RARP's operation", arpOK, edited(request, 7, 3), false},
		{"NA", ndOK, advert, true},
		{"NA cut short", ndOK, advert[:70], false},
		{"NA through a router", ndOK, edited(advert, 7, 254), false},
		{"NA with a code", ndOK, edited(advert, 41, 1), false},
		{"NA for a group", ndOK, edited(advert, 48, 0xff), false},
		{"NA to a group that says solicited", ndOK, edited(advert, 44, solicited), false},
		{"NA with an option of no length", ndOK, edited(advert, 65, 0), false},
		{"NA with an option beyond its end", ndOK, edited(advert, 65, 2), false},
		{"NA longer than its packet", ndOK, edited(advert, 5, 40), false},
		{"RA", ndOK, edited(advert, 40, 134), false},
		{"IPv4 in an IPv6 frame", ndOK, edited(advert, 0, 0x45), false},
		{"DAD", ndOK, probe, true},
		{"DAD to another group", ndOK, edited(probe, 39, 8), false},
		{"DAD with a source link-layer address", ndOK, nd(solicitation, guestMAC, netip.IPv6Unspecified(), solicitedNode(v6), v6, guestMAC)[etherHeader:], false},
		{"DISCOVER", dhcpOK, discover, true},
		{"DISCOVER cut short", dhcpOK, discover[:200], false},
		{"a fragment", dhcpOK, edited(discover, 6, 0x20), false},
		{"a later fragment", dhcpOK, edited(discover, 7, 1), false},
		{"TCP", dhcpOK, edited(discover, 9, 6), false},
		{"an IPv4 header beyond its end", dhcpOK, edited(discover, 0, 0x44), false},
		{"UDP longer than its packet", dhcpOK, edited(discover, ipv4Header+4, 0xff), false},
		{"DHCP over token ring", dhcpOK, edited(discover, dhcpAt+1, 6), false},
		{"a server's message from a client", dhcpOK, edited(discover, dhcpAt, bootReply), false},
		{"BOOTP", dhcpOK, edited(discover, dhcpAt+dhcpHeader, 0), false},
		{"a relay's message", dhcpOK, edited(discover, dhcpAt+24, 10), false},
		{"a kind of two bytes", dhcpOK, edited(discover, dhcpAt+dhcpHeader+5, 2), false},
		{"an address of three bytes", dhcpOK, edited(discover, dhcpAt+dhcpHeader+8, 3), false},
	} {
		if got := c.ok(c.b); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

func TestOptionsInTheFieldsOfOthersAreRead(t *testing.T) {
	c := client{mac: guestMAC, xid: 7}
	b := c.message(bootReply, dhcpAck, noIP, ip("192.0.2.7"), option(optOverload, 3))
	copy(b[108:], leaseTime(600))                      // file
	copy(b[44:], optionIP(optServer, ip("192.0.2.1"))) // sname
	d, ok := parseDHCP(b)
	if !ok || d.lease != 600 || d.server != ip("192.0.2.1") {
		t.Errorf("%v %+v", ok, d)
	}
	copy(b[108:], []byte{optLease, 200})
	if d, ok := parseDHCP(b); ok {
		t.Errorf("malformed in the field file: %+v", d)
	}
}

func TestAddressesOfNoStationAreNotUsable(t *testing.T) {
	for _, no := range []string{"0.0.0.0", "255.255.255.255", "224.0.0.1", "127.0.0.1", "::", "::1", "ff02::1", "::ffff:192.0.2.1"} {
		if usable(ip(no)) {
			t.Errorf("%s is usable", no)
		}
	}
	for _, yes := range []string{"192.0.2.1", "10.0.0.255", "fe80::1", "2001:db8::"} {
		if !usable(ip(yes)) {
			t.Errorf("%s is not usable", yes)
		}
	}
	if usable(netip.Addr{}) {
		t.Error("no address is usable")
	}
}

func FuzzARP(f *testing.F) {
	f.Add(arp(opRequest, guestMAC, ip("192.0.2.7"), ip("192.0.2.1"))[etherHeader:])
	f.Add(arp(opReply, guestMAC, noIP, noIP)[etherHeader:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, ok := parseARP(b); ok && (len(b) < arpLength || !p.senderIP.Is4() || !p.target.Is4()) {
			t.Errorf("%x: %+v", b, p)
		}
		hearAnything(t, etherARP, b)
	})
}

func FuzzND(f *testing.F) {
	f.Add(dad(guestMAC, ip("fe80::1"))[etherHeader:])
	f.Add(nd(advertisement, guestMAC, ip("fe80::1"), ip("ff02::1"), ip("fe80::1"), guestMAC)[etherHeader:])
	f.Add(nd(solicitation, guestMAC, ip("fe80::1"), ip("ff02::1:ff00:2"), ip("fe80::2"), guestMAC)[etherHeader:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, ok := parseND(b); ok && (p.target.IsMulticast() || b[7] != 255) {
			t.Errorf("%x: %+v", b, p)
		}
		hearAnything(t, etherIPv6, b)
	})
}

func FuzzDHCP(f *testing.F) {
	c := client{mac: guestMAC, xid: 7, id: "\x01abcdef"}
	f.Add(c.sends(dhcpRequest, noIP, optionIP(optRequested, ip("192.0.2.7")), option(optOverload, 3))[etherHeader:])
	f.Add(c.gets(dhcpAck, ip("192.0.2.7"), leaseTime(120), optionIP(optServer, ip("192.0.2.1")))[etherHeader:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if payload, _, ok := udpPayload(b); ok && len(payload) > len(b)-ipv4Header-udpHeader {
			t.Errorf("%x: %x", b, payload)
		}
		hearAnything(t, etherIPv4, b)
	})
}

// hearAnything has a guest hear a packet in both directions: nothing that cannot be
// a station's address is told.
func hearAnything(t *testing.T, etherType uint16, b []byte) {
	t.Helper()
	g := testGuest(t)
	g.hear(client{mac: guestMAC, xid: 7, id: "\x01abcdef"}.sends(dhcpDiscover, noIP), true, began)
	for _, outgoing := range []bool{true, false} {
		g.hear(ethernet(everyone, guestMAC, etherType, b), outgoing, began)
	}
	for _, e := range g.news.take(began) {
		if !usable(e.IP) || e.Key != "vm/nic" {
			t.Errorf("%x: told %+v", b, e)
		}
	}
}
