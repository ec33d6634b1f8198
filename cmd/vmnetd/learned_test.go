package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

const learningHost = `
uplinks:
  - {name: u0, nic: {}}
networks:
  - {name: lan, uplinks: [u0], modes: [MODE], ips: learn}
rules:
  - {vm: "*", networks: [lan]}
hypervisors: {libvirt: {uri: none}}
`

// learning is learningHost with a mode.
func learning(mode vmnetd.Mode) string { return strings.ReplaceAll(learningHost, "MODE", string(mode)) }

// macvtapsThatLearn is a host whose guests stand on macvtaps.
func macvtapsThatLearn(t *testing.T) *portHost {
	testkit.Require(t, "netns")
	h := newPortHost(t, learning(vmnetd.Bridge))
	h.start()
	return h
}

// tapsThatLearn is a host whose guests stand on a bridge, which is the uplink and
// has the host's addresses.
func tapsThatLearn(t *testing.T) *portHost {
	testkit.Require(t, "netns")
	h := newPortHost(t, strings.ReplaceAll(learning(vmnetd.Switched), "{name: u0, nic: {}}", "{name: u0, external: {match: {name: br0}}}"))
	host := h.net.Host
	host.Create(t, rtnl.NewLink{Name: "br0", Kind: "bridge"})
	host.Run(t, "ip", "address", "flush", "dev", "u0")
	host.Run(t, "ip", "address", "add", hostAddress+"/24", "dev", "br0")
	host.Set(t, "u0", rtnl.Master(host.Link(t, "br0").Index))
	host.SetUp(t, "br0")
	host.WaitRunning(t, "br0")
	h.start()
	return h
}

// ipvtapsThatLearn is a host whose guests share its MAC.
func ipvtapsThatLearn(t *testing.T) *portHost { return vmPortHost(t, learning(vmnetd.L2)) }

// serveDHCP gives leases of two minutes, dnsmasq's shortest, and prefixes to those
// that make their IPv6 addresses themselves.
func (h *portHost) serveDHCP() {
	h.t.Helper()
	testkit.ServeDHCP(h.t, h.net.Peer, "peer0", "--dhcp-range=192.0.2.100,192.0.2.150,2m", "--enable-ra", "--dhcp-range=2001:db8::,ra-only")
}

func TestALeaseIsLearnedAndReleasedOnMacvtap(t *testing.T) { macvtapsThatLearn(t).leases() }
func TestALeaseIsLearnedAndReleasedOnATap(t *testing.T)    { tapsThatLearn(t).leases() }
func TestVMALeaseIsLearnedAndReleasedOnIpvtap(t *testing.T) {
	ipvtapsThatLearn(t).leases()
}

// leases follows a guest from its first lease through a restart of the daemon, a
// reset, and a change of its address.
func (h *portHost) leases() {
	t := h.t
	h.serveDHCP()
	g := h.guest("vm1", "lan", false)
	client := g.StartDHCP(t, "01aabbccddee01")
	first := client.Lease(t)
	h.learns("vm1", first)
	reach(t, "vm1", g.Netns, peerAddress)
	reach(t, "the outside", h.net.Peer, first.String())

	h.again()
	client.Vanish() // the guest is reset
	g.Run(t, "ip", "address", "flush", "dev", testkit.GuestDevice)
	client = g.StartDHCP(t, "01aabbccddee01")
	if again := client.Lease(t); again != first {
		t.Errorf("after a reset the guest has %s, before %s", again, first)
	}
	reach(t, "the outside", h.net.Peer, first.String())

	client.Release()
	h.forgets("vm1", first)
	other := netip.MustParseAddr("192.0.2.149")
	client = g.StartDHCP(t, "01aabbccddee01", "-r", other.String())
	if second := client.Lease(t); second != other {
		t.Errorf("the guest has %s, and has asked for %s", second, other)
	}
	h.learns("vm1", other)
	reach(t, "vm1", g.Netns, peerAddress)
	reach(t, "the outside", h.net.Peer, other.String())

	client.Vanish()
	g.Run(t, "ip", "address", "flush", "dev", testkit.GuestDevice)
	g.rebootsWith(t, first) // which the server refuses
	client = g.StartDHCP(t, "01aabbccddee01", "-r", other.String())
	client.Lease(t)
	reach(t, "vm1", g.Netns, peerAddress) // else the release waits for an ARP answer, and the address goes
	client.Release()
	h.forgets("vm1", other)
	before := len(h.events("address", "vm1"))
	g.rebootsWith(t, other) // a server that has authority gives it
	h.eventually("it is leased anew", func() bool {
		return slices.Contains(h.events("address", "vm1")[before:], fmt.Sprintf("uses %s, learned from DHCP lease", other))
	})
	g.has(t, other.String())
	reach(t, "the outside", h.net.Peer, other.String())
	if now := h.now("vm1"); now.Problem != "" || !slices.Equal(now.Learned, []string{other.String()}) {
		t.Errorf("%+v", now)
	}
}

func TestALeaseEndsOnMacvtapAlsoAfterARestart(t *testing.T) { macvtapsThatLearn(t).leaseEnds() }
func TestALeaseEndsOnATapAlsoAfterARestart(t *testing.T)    { tapsThatLearn(t).leaseEnds() }
func TestVMALeaseEndsOnIpvtapAlsoAfterARestart(t *testing.T) {
	ipvtapsThatLearn(t).leaseEnds()
}

// leaseEnds has a guest forget that it has a lease.
func (h *portHost) leaseEnds() {
	t := h.t
	const lease = 8 * time.Second
	testkit.ServeShortLeases(t, h.net.Peer, "peer0", netip.MustParseAddr("192.0.2.100"), netip.MustParseAddr("192.0.2.110"), lease)
	g := h.guest("vm1", "lan", false)
	for _, restart := range []bool{false, true} {
		client := g.StartDHCP(t, "01aabbccddee01")
		ip := client.Lease(t)
		leased := time.Now()
		h.learns("vm1", ip)
		client.Vanish()
		g.Run(t, "ip", "address", "flush", "dev", testkit.GuestDevice)
		if restart {
			h.again()
			if time.Since(leased) < lease/2 && !slices.Contains(h.now("vm1").Learned, ip.String()) {
				t.Errorf("%s is forgotten by a restart", ip)
			}
		}
		h.forgets("vm1", ip)
		took := time.Since(leased)
		t.Logf("restart %v: a lease of %s has ended after %s", restart, lease, took)
		if took < lease/2 || took > lease+5*time.Second {
			t.Errorf("restart %v: a lease of %s has ended after %s", restart, lease, took)
		}
		h.told("address", "vm1", "no longer uses "+ip.String(), "lease has ended")
	}
}

func TestVMGuestsOfOneMACAreToldApartByTheirClientIdentifiers(t *testing.T) {
	h := ipvtapsThatLearn(t)
	h.serveDHCP()
	one, two := h.guest("vm1", "lan", false), h.guest("vm2", "lan", false)
	client := one.StartDHCP(t, "01aabbccddee01")
	first := client.Lease(t)
	t.Logf("to the first address an offer comes twice:\n%s", client.Said())
	second := two.StartDHCP(t, "01aabbccddee02").Lease(t)
	if first == second {
		t.Fatalf("both have %s", first)
	}
	h.learns("vm1", first)
	h.learns("vm2", second)
	reach(t, "vm1", one.Netns, peerAddress, second.String())
	reach(t, "vm2", two.Netns, peerAddress, first.String())
	reach(t, "the outside", h.net.Peer, first.String(), second.String())
}

func TestVMAGuestWithoutAClientIdentifierIsOfferedWhatAnotherHasAndItIsExplained(t *testing.T) {
	h := ipvtapsThatLearn(t)
	h.serveDHCP()
	one, two := h.guest("vm1", "lan", false), h.guest("vm2", "lan", false)
	has := one.StartDHCP(t, "")
	ip := has.Lease(t)
	h.learns("vm1", ip)
	wants := two.StartDHCP(t, "")
	h.told("address-refused", "vm2", "wants "+ip.String(), "it is vm1/net0's", "share the MAC", "client identifier")
	h.becomes("vm2", "has a problem", func(a vmnetd.Attachment) bool {
		return len(a.Learned) == 0 && strings.Contains(a.Problem, "client identifier")
	})
	reach(t, "the outside", h.net.Peer, ip.String())
	reach(t, "vm1", one.Netns, peerAddress)

	has.Release() // a lease without an identifier is that of everybody with the MAC
	wants.Vanish()
	h.forgets("vm1", ip)
	first, second := one.StartDHCP(t, "01aabbccddee01").Lease(t), two.StartDHCP(t, "01aabbccddee02").Lease(t)
	for vm, ip := range map[string]netip.Addr{"vm1": first, "vm2": second} {
		h.becomes(vm, "has no problem", func(a vmnetd.Attachment) bool {
			return slices.Contains(a.Learned, ip.String()) && a.Problem == ""
		})
	}
	reach(t, "the outside", h.net.Peer, first.String(), second.String())
}

func TestAFloodOfClaimsHarmsNobodyOnMacvtap(t *testing.T)  { macvtapsThatLearn(t).flood() }
func TestAFloodOfClaimsHarmsNobodyOnATap(t *testing.T)     { tapsThatLearn(t).flood() }
func TestVMAFloodOfClaimsHarmsNobodyOnIpvtap(t *testing.T) { ipvtapsThatLearn(t).flood() }

// flood has a guest announce, and probe for, 10,000 addresses each.
func (h *portHost) flood() {
	t := h.t
	const most = 16 // max_ips
	h.serveDHCP()
	bad, good := h.guest("vm1", "lan", false), h.guest("vm2", "lan", false)
	own, others := bad.StartDHCP(t, "01aabbccddee01").Lease(t), good.StartDHCP(t, "01aabbccddee02").Lease(t)
	h.learns("vm1", own)
	h.learns("vm2", others)
	reach(t, "the outside", h.net.Peer, own.String(), others.String())
	pings := testkit.StartPings(t, h.net.Peer, 20*time.Millisecond, others)
	if !pings.Answered(5, testkit.Patience) {
		t.Fatalf("vm2 does not answer: %+v", pings.Counts())
	}
	flood := func() (harmless bool) {
		pings.Begin()
		mac, began := mustMAC(t, bad.att.MAC), time.Now()
		for n := range 10_000 {
			fake := netip.AddrFrom4([4]byte{198, 18, byte(n >> 8), byte(n)})
			bad.claims(t, arpClaim(mac, fake, fake))
			bad.claims(t, arpClaim(mac, netip.IPv4Unspecified(), fake))
			if n%1000 == 0 {
				if now := h.now("vm1"); len(now.Learned) > most || !slices.Contains(now.Learned, own.String()) {
					t.Fatalf("after %d claims: %+v", n, now)
				}
			}
		}
		took := time.Since(began)
		if !pings.Answered(5, testkit.Patience) {
			t.Error("vm2 does not answer after the flood")
		}
		counts := pings.Counts()[0]
		t.Logf("20000 claims in %s; pings of the other guest: %+v", took, counts)
		return counts.Lost <= counts.Sent/50 && counts.Gap <= time.Second
	}
	harmless := false
	for try := 0; try < 3 && !harmless; try++ { // this process may not have run for a moment
		harmless = flood()
	}
	if !harmless {
		t.Error("the other guest has suffered each time")
	}
	h.becomes("vm1", "is full", func(a vmnetd.Attachment) bool { return len(a.Learned) == most })
	reach(t, "the outside", h.net.Peer, own.String(), others.String())
	if now := h.now("vm2"); !slices.Equal(now.Learned, []string{others.String()}) || now.Problem != "" {
		t.Errorf("vm2: %+v", now)
	}
}

func TestAnAddressOfAnotherOrOfTheHostIsRefusedOnMacvtap(t *testing.T) { macvtapsThatLearn(t).thefts() }
func TestAnAddressOfAnotherOrOfTheHostIsRefusedOnATap(t *testing.T)    { tapsThatLearn(t).thefts() }
func TestVMAnAddressOfAnotherOrOfTheHostIsRefusedOnIpvtap(t *testing.T) {
	ipvtapsThatLearn(t).thefts()
}

func (h *portHost) thefts() {
	t := h.t
	h.serveDHCP()
	g := h.guest("vm1", "lan", false)
	theirs := g.StartDHCP(t, "01aabbccddee01").Lease(t)
	h.learns("vm1", theirs)
	for n, c := range []struct {
		ip  netip.Addr
		who string
	}{{theirs, "it is vm1/net0's"}, {netip.MustParseAddr(hostAddress), "it is this host's own"}} {
		for _, probe := range []bool{false, true} {
			vm := fmt.Sprintf("thief%d%v", n, probe)
			thief := h.guest(vm, "lan", false)
			sender := c.ip
			if probe {
				sender = netip.IPv4Unspecified()
			}
			thief.claims(t, arpClaim(mustMAC(t, thief.att.MAC), sender, c.ip))
			h.told("address-refused", vm, "wants "+c.ip.String(), c.who)
			if now := h.now(vm); len(now.Learned) != 0 || !strings.Contains(now.Problem, c.who) {
				t.Errorf("%+v", now)
			}
		}
	}
	reach(t, "the outside", h.net.Peer, hostAddress)
	h.net.Peer.Run(t, "ip", "neigh", "flush", "dev", "peer0")
	reach(t, "the outside", h.net.Peer, theirs.String(), hostAddress)
}

// rebootsWith has the guest do what dhclient does after a reboot: it asks for the
// address that it had.
func (g *guestOf) rebootsWith(t *testing.T, ip netip.Addr) {
	t.Helper()
	g.claims(t, rebootRequest(mustMAC(t, g.att.MAC), "\x01\xaa\xbb\xcc\xdd\xee\x01", ip))
}

// claims has the guest send a frame.
func (g *guestOf) claims(t *testing.T, frame []byte) {
	t.Helper()
	g.wireOf(t).SendBytes(t, frame)
}

// arpClaim is an ARP request (RFC 826) to all: an announcement, or without a sender
// a probe (RFC 5227).
func arpClaim(mac []byte, sender, target netip.Addr) []byte {
	b := slices.Concat(testkit.Broadcast, mac, []byte{0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1}, mac, sender.AsSlice(), make([]byte, 6), target.AsSlice())
	return append(b, make([]byte, 60-len(b))...)
}

// rebootRequest is a DHCPREQUEST in state INIT-REBOOT (RFC 2131, 4.3.2): option 50,
// and no server. Answers are to be broadcast.
func rebootRequest(mac []byte, id string, ip netip.Addr) []byte {
	dhcp := make([]byte, 236)
	copy(dhcp, []byte{1, 1, 6, 0, 0x12, 0x34, 0x56, 0x78, 0, 0, 0x80, 0})
	copy(dhcp[28:], mac)
	dhcp = append(dhcp, 0x63, 0x82, 0x53, 0x63, 53, 1, 3, 61, byte(len(id)))
	dhcp = append(append(dhcp, id...), 50, 4)
	dhcp = append(append(dhcp, ip.AsSlice()...), 255)
	udp := append([]byte{0, 68, 0, 67, 0, 0, 0, 0}, dhcp...) // without a checksum
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	header := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255}
	binary.BigEndian.PutUint16(header[2:], uint16(len(header)+len(udp)))
	sum := uint32(0) // RFC 1071
	for i := 0; i < len(header); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	binary.BigEndian.PutUint16(header[10:], ^uint16(sum>>16+sum&0xffff))
	return slices.Concat(testkit.Broadcast, mac, []byte{0x08, 0x00}, header, udp)
}
