package main

import (
	"net"
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

const autoHost = `
uplinks:
  - {name: u0, nic: {}LIMITS}
networks:
  - {name: lan, uplinks: [u0], modes: auto}
  - {name: own, uplinks: [u0], modes: [bridge]}
  - {name: one, uplinks: [u0], modes: [l2]}
  - {name: vepa, uplinks: [u0], modes: [vepa]}
  - {name: either, uplinks: [u0], modes: [vepa, bridge]}
rules:
  - {vm: "*", networks: [lan, own, one, vepa, either]}
hypervisors: {libvirt: {uri: none}}
`

// withLimits is autoHost with what is known of the switch.
func withLimits(limits string) string { return strings.ReplaceAll(autoHost, "LIMITS", limits) }

// onSecurePort is a host on a switch port that takes one MAC, which is the host's.
func onSecurePort(t *testing.T, limits string) (*portHost, *testkit.PortSecurity) {
	t.Helper()
	testkit.Require(t, "vm")
	h := newPortHost(t, withLimits(limits))
	port := testkit.NewPortSecurity(t, h.net.Net, "port", 1)
	reach(t, "the host", h.net.Host, peerAddress, peerAddress6)
	if macs := port.MACs(t); len(macs) != 1 || macs[0] != h.uplinkMAC() {
		t.Fatalf("the port takes %v, the host has %s", macs, h.uplinkMAC())
	}
	h.start()
	return h, port
}

func (h *portHost) uplinkMAC() string { return h.net.Host.Link(h.t, "u0").MAC.String() }

func TestVMTwoIpvtapGuestsAndTheirHostWorkBehindAPortThatTakesOneMAC(t *testing.T) {
	h, port := onSecurePort(t, ", limits: {macs: 1}")
	because := []string{"auto: ipvtap l2", "the switch port takes 1 MAC (limits.macs", "which is the uplink's own"}
	h.explains(0, because, "vm1", "--network", "lan", "--ip", "192.0.2.11")
	one := h.guest("vm1", "lan", true, "192.0.2.11", "2001:db8::11")
	two := h.guest("vm2", "lan", true, "192.0.2.12", "2001:db8::12")
	for _, g := range []*guestOf{one, two} {
		if g.att.Mode != vmnetd.L2 || g.att.Kind != vmnetd.Ipvtap || g.att.MAC != h.uplinkMAC() {
			t.Errorf("%s: %s %s, MAC %s", g.vm, g.att.Kind, g.att.Mode, g.att.MAC)
		}
		if !saysAll(strings.Join(g.att.Reasons, " "), because) {
			t.Errorf("%s: attach does not say why: %q", g.vm, g.att.Reasons)
		}
	}
	reach(t, "vm1", one.Netns, peerAddress, peerAddress6, "192.0.2.12", "2001:db8::12")
	reach(t, "vm2", two.Netns, peerAddress, peerAddress6, "192.0.2.11", "2001:db8::11")
	reach(t, "the host", h.net.Host, peerAddress, peerAddress6)
	reach(t, "the outside", h.net.Peer, "192.0.2.11", "2001:db8::11", "192.0.2.12", "2001:db8::12", hostAddress, hostAddress6)
	if dropped := port.Dropped(t); dropped != 0 {
		t.Errorf("the port has dropped %d frames", dropped)
	}
	h.refused(5, []string{"the switch port takes 1 MAC"}, "attach", "vm3", "--via", "netns:"+h.net.Peer.Path(), "--network", "own")
	h.explains(5, []string{"the switch port takes 1 MAC"}, "vm3", "--network", "own")
}

func TestVMAMacvtapGuestIsCutOffBehindAPortThatTakesOneMAC(t *testing.T) {
	h, port := onSecurePort(t, "")
	g := h.guest("vm1", "lan", false, "192.0.2.11")
	if g.att.Mode != vmnetd.Bridge || g.att.MAC == h.uplinkMAC() || !saysAll(strings.Join(g.att.Reasons, " "), []string{"auto: macvtap bridge", "nothing of u0 speaks against it"}) {
		t.Fatalf("nothing is known of the switch: %+v", g.att)
	}
	atPort, atPeer := h.net.Net.Sniff(t, "port"), h.net.Peer.Sniff(t, "peer0")
	g.OpenWire(t, testkit.GuestDevice).Send(t, testkit.Frame{Dst: testkit.Broadcast, Src: mustMAC(t, g.att.MAC), Text: "from vm1"})
	if reaches(t, g.Netns, peerAddress, 0) || reaches(t, h.net.Peer, "192.0.2.11", 0) {
		t.Error("a second MAC passes: what is the port's security for?")
	}
	reach(t, "the host", h.net.Host, peerAddress)
	if sent := framesOf(t, atPort, g.att.MAC); sent == 0 {
		t.Error("the guest's frames do not come to the port")
	}
	if passed := framesOf(t, atPeer, g.att.MAC); passed != 0 || port.Dropped(t) == 0 {
		t.Errorf("%d frames have passed the port, %d were dropped", passed, port.Dropped(t))
	}
	h.laterGuestsChangeNothing(g)
}

// laterGuestsChangeNothing has the operator learn of the port, and more VMs come.
func (h *portHost) laterGuestsChangeNothing(g *guestOf) {
	h.t.Helper()
	h.configure(withLimits(", limits: {macs: 1}"))
	h.must("reload")
	h.explains(5, []string{"the switch port takes 1 MAC", "carries vm1/net0", "one device carries macvlan or ipvlan, not both"}, "vm2", "--network", "lan", "--ip", "192.0.2.12")
	h.explains(5, []string{"carries vm1/net0", "a VLAN of u0 carries either"}, "vm2", "--network", "one", "--ip", "192.0.2.12")
	if now := h.now("vm1"); now.Phase != vmnetd.Attached || now.Mode != vmnetd.Bridge || now.Ifindex != g.att.Ifindex {
		h.t.Errorf("the earlier NIC is %+v", now)
	}
	h.gone(g)
	h.explains(0, []string{"auto: ipvtap l2"}, "vm2", "--network", "lan", "--ip", "192.0.2.12")
}

func mustMAC(t *testing.T, text string) net.HardwareAddr {
	t.Helper()
	mac, err := vmnetd.ParseMAC(text)
	if err != nil {
		t.Fatal(err)
	}
	return mac
}

// framesOf is how many frames of a MAC's a sniffer has heard.
func framesOf(t *testing.T, at *testkit.Sniffer, mac string) (n int) {
	t.Helper()
	for {
		f, ok := at.Next(t, 0)
		if !ok {
			return n
		}
		if len(f.Bytes) > 14 && net.HardwareAddr(f.Bytes[6:12]).String() == mac {
			n++
		}
	}
}

func TestVMAutoGoesByWhatStandsOnTheUplinkAlready(t *testing.T) {
	h := vmPortHost(t, withLimits(""))
	one := h.guest("vm1", "one", false, "192.0.2.11")
	reach(t, "vm1", one.Netns, peerAddress)
	h.explains(0, []string{"auto: ipvtap l2", "carries vm1/net0"}, "vm2", "--network", "lan", "--ip", "192.0.2.12")
	two := h.guest("vm2", "lan", false, "192.0.2.12")
	if two.att.Mode != vmnetd.L2 || !saysAll(strings.Join(two.att.Reasons, " "), []string{"carries vm1/net0"}) {
		t.Errorf("beside an ipvtap: %+v", two.att)
	}
	reach(t, "vm2", two.Netns, peerAddress, "192.0.2.11")
	reach(t, "vm1", one.Netns, peerAddress, "192.0.2.12")
	h.explains(5, []string{"carries vm1/net0", "one device carries ipvlan or macvlan, not both", "a VLAN of u0 carries either"}, "vm3", "--network", "own")
	h.gone(one, two)
	h.explains(0, []string{"auto: macvtap bridge", "nothing of u0 speaks against it"}, "vm3", "--network", "lan")
}

func TestVMAFullUnicastFilterIsToldAndTurnsAuto(t *testing.T) {
	h := vmPortHost(t, withLimits("")) // a veth has no unicast filter: a second MAC is one too many
	if promiscuous := h.net.Host.Link(t, "u0").Promisc; promiscuous != 0 {
		t.Fatalf("u0 is promiscuous without a guest: %d", promiscuous)
	}
	g := h.guest("vm1", "lan", false, "192.0.2.11")
	h.told("promiscuous", "vm1", "with 2 MACs the unicast filter of u0 is full")
	if h.net.Host.Link(t, "u0").Promisc == 0 {
		t.Error("told, and not so")
	}
	why := []string{"became promiscuous with 2 MACs: its unicast filter was full"}
	h.explains(0, append([]string{"auto: macvtap bridge", "although"}, why...), "vm2", "--network", "lan", "--ip", "192.0.2.12")
	two := h.guest("vm2", "lan", false, "192.0.2.12")
	reach(t, "vm1", g.Netns, peerAddress, "192.0.2.12")
	reach(t, "vm2", two.Netns, peerAddress)
	if n := len(h.events("promiscuous", "vm2")); n != 0 {
		t.Errorf("told %d times more", n)
	}
	h.again() // a restart knows it still
	h.explains(0, append([]string{"auto: macvtap bridge", "although"}, why...), "vm3", "--network", "lan", "--ip", "192.0.2.13")
	h.gone(g, two)
	h.explains(0, append([]string{"auto: ipvtap l2"}, why...), "vm3", "--network", "lan", "--ip", "192.0.2.13")
	three := h.guest("vm3", "lan", false, "192.0.2.13")
	if three.att.Mode != vmnetd.L2 {
		t.Errorf("without guests on it: %+v", three.att)
	}
	reach(t, "vm3", three.Netns, peerAddress)
	if promiscuous := h.net.Host.Link(t, "u0").Promisc; promiscuous != 0 {
		t.Errorf("u0 is promiscuous with ipvtaps alone: %d", promiscuous)
	}
}

func TestVMASwitchThatDoesNotReflectMakesVepaUnfit(t *testing.T) {
	h := vmPortHost(t, withLimits(", hairpin: false"))
	why := []string{"the switch does not reflect (hairpin: false"}
	h.explains(5, why, "vm1", "--network", "vepa")
	h.explains(0, append([]string{"mode bridge (macvtap)"}, why...), "vm1", "--network", "either")
	h.configure(withLimits(""))
	h.must("reload")
	h.explains(0, []string{"mode vepa (macvtap)"}, "vm1", "--network", "vepa")
	one, two := h.guest("vm1", "vepa", false, "192.0.2.11"), h.guest("vm2", "vepa", false, "192.0.2.12")
	reach(t, "vm1", one.Netns, peerAddress)
	if reaches(t, one.Netns, "192.0.2.12", 0) {
		t.Error("guests reach each other by a switch that does not reflect: the declaration would be wrong")
	}
	h.net.Net.Run(t, "bridge", "link", "set", "dev", "port", "hairpin", "on")
	reach(t, "vm1", one.Netns, "192.0.2.12")
	reach(t, "vm2", two.Netns, "192.0.2.11")
}
