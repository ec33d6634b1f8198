package nexthop

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

var group = net.HardwareAddr{0x33, 0x33, 0xff, 0, 0, 1}

// slla is the option that says who asks (RFC 4861 4.6.1).
func (g *guest) slla() []byte { return append([]byte{1, 1}, g.mac...) }

func TestAGuestThatAsksForANextHopIsAnswered(t *testing.T) {
	g := newGuest(t)
	g.answer()
	for name, dst := range map[string]net.HardwareAddr{"broadcast": testkit.Broadcast, "probe of a known neighbour": MAC} {
		for _, target := range []string{"192.0.2.1", "203.0.113.250"} { // its gateway, anybody
			for _, padding := range []int{0, 18} {
				g.send(append(g.arp(dst, 1, "192.0.2.9", target), make([]byte, padding)...))
				got := g.hear(testkit.Patience, isARP)
				a := netip.MustParseAddr(target).As4()
				want := ethernet(g.mac, MAC, 0x0806, []byte{0, 1, 8, 0, 6, 4, 0, 2}, MAC, a[:], g.mac, []byte{192, 0, 2, 9})
				if !bytes.Equal(got[:min(42, len(got))], want) {
					t.Errorf("%s for %s: got\n%x, want\n%x", name, target, got, want)
				}
			}
		}
	}
	for name, c := range map[string]struct {
		dst     net.HardwareAddr
		src     string
		options []byte
	}{
		"without an option":               {group, "2001:db8::9", nil},
		"with who asks":                   {group, "2001:db8::9", g.slla()},
		"from a link-local address":       {group, "fe80::5054:ff:fe00:1", g.slla()},
		"with a nonce (RFC 7527) besides": {group, "2001:db8::9", append(g.slla(), 14, 1, 1, 2, 3, 4, 5, 6)},
		"probe of a known neighbour":      {MAC, "2001:db8::9", g.slla()},
	} {
		for _, target := range []string{"2001:db8::1", "fe80::1"} {
			g.send(g.solicit(c.dst, c.src, target, c.options...))
			got := g.hear(testkit.Patience, isND)
			src, to := netip.MustParseAddr(target).As16(), netip.MustParseAddr(c.src).As16()
			msg := append(append([]byte{136, 0, 0, 0, 0xe0, 0, 0, 0}, src[:]...), append([]byte{2, 1}, MAC...)...)
			want := ethernet(g.mac, MAC, 0x86dd, ipv6(src[:], to[:], 58, 32), msg)
			if len(got) != len(want) {
				t.Errorf("%s for %s: got\n%x, want\n%x", name, target, got, want)
				continue
			}
			if icmpSum(src[:], to[:], got[54:]) != 0 {
				t.Errorf("%s for %s: wrong checksum in %x", name, target, got[54:])
			}
			copy(want[56:58], got[56:58])
			if !bytes.Equal(got, want) {
				t.Errorf("%s for %s: got\n%x, want\n%x", name, target, got, want)
			}
		}
	}
}

// What is no question for a next hop goes out as it is, and nothing comes back.
func TestProbesAndAllElsePassUntouched(t *testing.T) {
	g := newGuest(t)
	g.answer()
	outside := g.sniff()
	broken := g.solicit(group, "2001:db8::9", "2001:db8::1")
	broken[21] = 254 // hop limit: it came through a router
	options := append(g.slla(), g.slla()...)
	frames := map[string][]byte{
		"ARP probe":                    g.arp(testkit.Broadcast, 1, "0.0.0.0", "192.0.2.9"),
		"ARP announcement":             g.arp(testkit.Broadcast, 1, "192.0.2.9", "192.0.2.9"),
		"ARP reply":                    g.arp(testkit.Broadcast, 2, "192.0.2.9", "192.0.2.1"),
		"DAD":                          g.solicit(group, "::", "2001:db8::9"),
		"solicitation of its own":      g.solicit(group, "2001:db8::9", "2001:db8::9", options...),
		"solicitation of a group":      g.solicit(group, "2001:db8::9", "ff02::1"),
		"solicitation from afar":       broken,
		"IPv4":                         g.ipv4(testkit.Broadcast),
		"IPv6 UDP":                     g.udp6(testkit.Broadcast),
		"test frame":                   testkit.Frame{Dst: testkit.Broadcast, Src: g.mac, Text: "hello"}.Bytes(),
		"tagged ARP":                   tagged(g.arp(testkit.Broadcast, 1, "192.0.2.9", "192.0.2.1")),
		"ARP cut short":                g.arp(testkit.Broadcast, 1, "192.0.2.9", "192.0.2.1")[:30],
		"IPv6 cut short":               g.solicit(group, "2001:db8::9", "2001:db8::1")[:60],
		"a neighbour's advertisement":  g.advertise(),
		"ARP of another kind of links": func() []byte { b := g.arp(testkit.Broadcast, 1, "192.0.2.9", "192.0.2.1"); b[15] = 6; return b }(),
	}
	for name, frame := range frames {
		g.send(frame)
		f, ok := outside.Next(t, testkit.Patience)
		if !ok || !bytes.Equal(f.Bytes[:min(len(frame), len(f.Bytes))], frame) && f.VLAN == 0 {
			t.Errorf("%s: sent\n%x, outside came\n%x", name, frame, f.Bytes)
		}
	}
	if got := g.hear(50*time.Millisecond, func(b []byte) bool { return isARP(b) || isND(b) }); got != nil {
		t.Errorf("answered: %x", got)
	}
	if f, ok := outside.Next(t, 0); ok {
		t.Errorf("outside there is %x, too", f.Bytes)
	}
}

// sniff hears what comes out at the other end of the uplink.
func (g *guest) sniff() *testkit.Sniffer { return g.far.Sniff(g.t, "far0") }

func (g *guest) ipv4(dst net.HardwareAddr) []byte {
	header := []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 9, 192, 0, 2, 1}
	s := sum(header)
	header[10], header[11] = byte(s>>8), byte(s)
	return ethernet(dst, g.mac, 0x0800, header, []byte{0, 7, 0, 7, 0, 8, 0, 0})
}

func (g *guest) udp6(dst net.HardwareAddr) []byte {
	a, b := netip.MustParseAddr("2001:db8::9").As16(), netip.MustParseAddr("2001:db8::1").As16()
	return ethernet(dst, g.mac, 0x86dd, ipv6(a[:], b[:], 17, 40), make([]byte, 40))
}

func (g *guest) advertise() []byte {
	b := g.solicit(group, "2001:db8::9", "2001:db8::1")
	b[54] = 136
	return b
}

func tagged(frame []byte) []byte {
	return append(append(bytes.Clone(frame[:12]), 0x81, 0, 0, 7), frame[12:]...)
}

// Two guests of one uplink have one MAC, and a NIC takes in what is for its own.
func TestWhatIsSentToTheNextHopIsForTheUplinksMAC(t *testing.T) {
	g := newGuest(t)
	g.answer()
	for name, frame := range map[string][]byte{"IPv4": g.ipv4(MAC), "IPv6": g.udp6(MAC)} {
		g.send(frame)
		copy(frame, g.mac) // which has a macvtap in mode bridge give it back
		if g.hear(testkit.Patience, func(b []byte) bool { return bytes.Equal(b, frame) }) == nil {
			t.Errorf("%s: %x never came", name, frame)
		}
	}
}

func TestAnswerTwiceIsOneFilterBesideThoseOfOthers(t *testing.T) {
	g := newGuest(t)
	tc := func(args ...string) string {
		t.Helper()
		out, err := g.ns.Command(t.Context(), "tc", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("tc %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	answers := func() bool {
		t.Helper()
		ok, err := Answers(t.Context(), g.ns.Conn(), g.index)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if answers() {
		t.Error("it answers before")
	}
	tc("qdisc", "add", "dev", "g0", "clsact")
	tc("filter", "add", "dev", "g0", "ingress", "pref", "1", "protocol", "all", "u32", "match", "u32", "0", "0", "flowid", ":1")
	tc("filter", "add", "dev", "g0", "egress", "pref", "40000", "protocol", "all", "u32", "match", "u32", "0", "0", "flowid", ":1")
	if answers() {
		t.Error("filters of others count")
	}
	others := tc("filter", "show", "dev", "g0", "ingress")
	g.answer()
	first := tc("filter", "show", "dev", "g0", "egress")
	g.answer()
	if second := tc("filter", "show", "dev", "g0", "egress"); second != first || strings.Count(second, "vmnetd-nexthop") != 1 || !strings.Contains(second, "pref 40000") {
		t.Errorf("first\n%s\nsecond\n%s", first, second)
	}
	if now := tc("filter", "show", "dev", "g0", "ingress"); now != others {
		t.Errorf("ingress was\n%s\nand is\n%s", others, now)
	}
	if !answers() {
		t.Error("it does not answer")
	}
	tc("filter", "del", "dev", "g0", "egress", "pref", "30317")
	if answers() {
		t.Error("it answers without its filter")
	}
	// A version of ours that does something else is replaced.
	tc("filter", "add", "dev", "g0", "egress", "pref", "30317", "handle", "1", "protocol", "all", "bpf", "da", "bytecode", "1,6 0 0 4294967295")
	if answers() {
		t.Error("a filter of another name counts")
	}
	g.answer()
	g.send(g.arp(testkit.Broadcast, 1, "192.0.2.9", "192.0.2.1"))
	if g.hear(testkit.Patience, isARP) == nil {
		t.Error("no answer")
	}
	if got := strings.Count(tc("filter", "show", "dev", "g0", "egress"), "pref 30317 bpf chain 0 handle"); got != 1 {
		t.Errorf("%d filters of ours", got)
	}
}

func TestWhatStandsInTheWayIsSaid(t *testing.T) {
	g := newGuest(t)
	if err := Answer(t.Context(), g.ns.Conn(), 4711); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("no device: %v", err)
	}
	if _, err := Answers(t.Context(), g.ns.Conn(), 4711); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("no device: %v", err)
	}
	tc := func(args ...string) {
		t.Helper()
		if out, err := g.ns.Command(t.Context(), "tc", args...).CombinedOutput(); err != nil {
			t.Fatalf("tc %v: %v: %s", args, err, out)
		}
	}
	tc("qdisc", "add", "dev", "g0", "ingress")
	if err := Answer(t.Context(), g.ns.Conn(), g.index); !errors.Is(err, vmnetd.ErrBusy) || !strings.Contains(err.Error(), "ingress") {
		t.Errorf("an ingress qdisc: %v", err)
	}
	tc("qdisc", "del", "dev", "g0", "ingress")
	tc("qdisc", "add", "dev", "g0", "clsact")
	tc("filter", "add", "dev", "g0", "egress", "pref", "30317", "protocol", "all", "u32", "match", "u32", "0", "0", "flowid", ":1")
	if err := Answer(t.Context(), g.ns.Conn(), g.index); !errors.Is(err, vmnetd.ErrBusy) || vmnetd.NextOf(err) == "" || strings.Contains(err.Error(), "\n") {
		t.Errorf("the place taken: %v", err)
	}
}
