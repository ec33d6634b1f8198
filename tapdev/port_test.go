package tapdev

import (
	"encoding/hex"
	"net"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// pair is two guests on one bridge, and who is outside.
type pair struct {
	*bridged
	a, b, far *testkit.Wire
	farMAC    net.HardwareAddr
}

func newPair(t *testing.T, port Port) *pair {
	t.Helper()
	p := &pair{bridged: newBridged(t, nil)}
	s := p.tap(1, 1)
	s.Port = port
	p.a, _ = p.guest(t, s)
	s = p.tap(2, 1)
	s.Port = port
	p.b, _ = p.guest(t, s)
	p.far, p.farMAC = p.out.OpenWire(t, "far0"), p.out.Link(t, "far0").MAC
	return p
}

// bHears says whether guest b gets what is sent to a MAC.
func (p *pair) bHears(t *testing.T, must bool, from *testkit.Wire, src, dst net.HardwareAddr, text string) bool {
	t.Helper()
	return hears(t, must, from, testkit.Frame{Dst: dst, Src: src, Text: text}, p.b, p.far, mac(2), p.farMAC)
}

func TestIsolatedGuestsReachTheOutsideAndNotEachOther(t *testing.T) {
	for _, isolated := range []bool{false, true} {
		p := newPair(t, Port{Isolated: isolated, Learning: true})
		if got := p.bHears(t, !isolated, p.a, mac(1), mac(2), "a to b"); got == isolated {
			t.Errorf("isolated %v: b hears a: %v", isolated, got)
		}
		if got := p.bHears(t, !isolated, p.a, mac(1), testkit.Broadcast, "a to all"); got == isolated {
			t.Errorf("isolated %v: b hears a's broadcast: %v", isolated, got)
		}
		p.a.Send(t, testkit.Frame{Dst: p.farMAC, Src: mac(1), Text: "out"})
		if _, heard := p.far.Hear(t, "out", testkit.Patience); !heard {
			t.Errorf("isolated %v: the outside does not hear a", isolated)
		}
	}
}

func TestHairpinSendsAGuestItsOwnBroadcasts(t *testing.T) {
	for _, hairpin := range []bool{false, true} {
		p := newPair(t, Port{Hairpin: hairpin, Learning: true})
		f := testkit.Frame{Dst: testkit.Broadcast, Src: mac(1), Text: "to all"}
		if got := hears(t, hairpin, p.a, f, p.a, p.far, mac(1), p.farMAC); got != hairpin {
			t.Errorf("hairpin %v: a hears itself: %v", hairpin, got)
		}
	}
}

// TestWhatIsForAGuestIsFloodedWhereItsPortDoesNotLearn: a bridge that has not heard
// of a MAC sends what is for it to every port.
func TestWhatIsForAGuestIsFloodedWhereItsPortDoesNotLearn(t *testing.T) {
	for _, learning := range []bool{false, true} {
		p := newPair(t, Port{Learning: learning})
		p.a.Send(t, testkit.Frame{Dst: p.farMAC, Src: mac(1), Text: "here I am"})
		if _, heard := p.far.Hear(t, "here I am", testkit.Patience); !heard {
			t.Fatal("the outside does not hear a")
		}
		if got := p.bHears(t, !learning, p.far, p.farMAC, mac(1), "far to a"); got == learning {
			t.Errorf("learning %v: b hears what is for a: %v", learning, got)
		}
		if _, heard := p.a.Hear(t, "far to a", testkit.Patience); !heard {
			t.Errorf("learning %v: a does not hear it", learning)
		}
	}
}

func TestGuestOfASmallMTUDoesNotPullTheBridgeDown(t *testing.T) {
	b := newBridged(t, nil)
	for _, mtu := range []int{1400, 1300} { // new, and as it is there
		s := b.tap(1, 1)
		s.MTU = mtu
		if dev := b.ensure(t, s); dev.MTU != mtu {
			t.Errorf("the guest's MTU is %d, want %d", dev.MTU, mtu)
		}
		if now := b.ns.Link(t, "br0"); now.MTU != 1500 {
			t.Errorf("the bridge's MTU is %d", now.MTU)
		}
	}
	s := b.tap(2, 1)
	s.MTU = 1500
	b.ensure(t, s)
}

// bpdu is a configuration BPDU of a bridge that is worse than any (IEEE 802.1D
// 9.3.1).
func bpdu(t *testing.T) []byte {
	t.Helper()
	b, err := hex.DecodeString("0180c2000000" + "525400000001" + "0026" + "424203" + "0000000000" +
		"ffff525400000001" + "00000000" + "ffff525400000001" + "8001" + "0000" + "1400" + "0200" + "0f00")
	if err != nil {
		t.Fatal(err)
	}
	return append(b, make([]byte, 60-len(b))...)
}

// TestBPDUGuardCutsOffAGuestThatPlaysASwitch: the kernel looks at BPDUs only while
// it runs the spanning tree of the bridge itself (net/bridge/br_stp_bpdu.c,
// br_stp_rcv).
func TestBPDUGuardCutsOffAGuestThatPlaysASwitch(t *testing.T) {
	for _, c := range []struct{ guard, stp, off bool }{{true, true, true}, {false, true, false}, {true, false, false}} {
		p := newPair(t, Port{BPDUGuard: c.guard, Learning: true})
		if c.stp {
			ip(t, p.ns, "link", "set", "br0", "type", "bridge", "stp_state", "1")
		}
		p.a.SendBytes(t, bpdu(t))
		if got := !p.bHears(t, !c.off, p.a, mac(1), mac(2), "a to b"); got != c.off {
			t.Errorf("guard %v, spanning tree %v: cut off: %v, want %v", c.guard, c.stp, got, c.off)
		}
	}
}

// TestVMPortIsInItsVLANsAlone has three guests of VLANs on a bridge that tells them
// apart, and changes one of them while it runs.
func TestVMPortIsInItsVLANsAlone(t *testing.T) {
	testkit.Require(t, "vm")
	b := newBridged(t, nil, rtnl.Attr{Type: 7, Value: []byte{1}}) // IFLA_BR_VLAN_FILTERING
	ip(t, b.ns, "link", "set", "u0", "type", "bridge_slave", "learning", "on")
	for _, vid := range []string{"7", "8", "9"} {
		if out, err := b.ns.Command(t.Context(), "bridge", "vlan", "add", "dev", "u0", "vid", vid).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	outside := b.out.Sniff(t, "far0", testkit.EtherTest)
	leaves := func(from *testkit.Wire, text string) int {
		t.Helper()
		from.Send(t, testkit.Frame{Dst: testkit.Broadcast, Src: mac(1), Text: text})
		for {
			f, ok := outside.Next(t, testkit.Patience)
			if !ok {
				t.Fatalf("%q does not leave the host", text)
			}
			if frame, ok := testkit.ParseFrame(f.Bytes); ok && frame.Text == text {
				return f.VLAN
			}
		}
	}
	s := b.tap(1, 1)
	s.Port.PVID = 7
	guest, dev := b.guest(t, s)
	b.inVLANs(t, dev, rtnl.PortVLAN{ID: 7, PVID: true, Untagged: true})
	if got := leaves(guest, "untagged"); got != 7 {
		t.Errorf("what the guest sends has the tag %d, want 7", got)
	}
	s.Port.PVID, s.Port.Trunk = 8, []vmnetd.VLANRange{{From: 100, To: 4000}, {From: 9, To: 9}}
	b.ensure(t, s)
	vlans := []rtnl.PortVLAN{{ID: 8, PVID: true, Untagged: true}, {ID: 9}}
	for id := 100; id <= 4000; id++ {
		vlans = append(vlans, rtnl.PortVLAN{ID: id})
	}
	b.inVLANs(t, dev, vlans...)
	if got := leaves(guest, "another"); got != 8 {
		t.Errorf("what the guest sends has the tag %d, want 8", got)
	}
	b.tagged(t, outside, guest)
	s.Port.PVID, s.Port.Trunk = 0, []vmnetd.VLANRange{{From: 8, To: 9}}
	b.ensure(t, s)
	b.inVLANs(t, dev, rtnl.PortVLAN{ID: 8}, rtnl.PortVLAN{ID: 9})
	s.Port.PVID, s.Port.Trunk = 0, nil
	b.ensure(t, s)
	b.inVLANs(t, dev, rtnl.PortVLAN{ID: 1, PVID: true, Untagged: true})
	if got := leaves(guest, "as the bridge has it"); got != 0 {
		t.Errorf("what the guest sends has the tag %d, want none", got)
	}
}

// tagged sends frames of VLANs 9, which the guest is in, and 7, which it is not,
// both ways: only the first arrive, and they keep their tag.
func (b *bridged) tagged(t *testing.T, outside *testkit.Sniffer, guest *testkit.Wire) {
	t.Helper()
	frame := func(vlan byte, text string) []byte {
		f := testkit.Frame{Dst: testkit.Broadcast, Src: mac(1), Text: text}.Bytes()
		return append(append(append([]byte{}, f[:12]...), 0x81, 0, 0, vlan), f[12:]...)
	}
	guest.SendBytes(t, frame(7, "not mine"))
	guest.SendBytes(t, frame(9, "mine"))
	f, ok := outside.Next(t, testkit.Patience)
	if got, _ := testkit.ParseFrame(f.Bytes); !ok || got.Text != "mine" || f.VLAN != 9 {
		t.Errorf("outside heard %q with the tag %d", got.Text, f.VLAN)
	}
}

// inVLANs compares what the kernel says with what is wanted.
func (b *bridged) inVLANs(t *testing.T, dev Device, want ...rtnl.PortVLAN) {
	t.Helper()
	got, err := b.conn.PortVLANs(t.Context(), dev.Ifindex)
	if err != nil || len(got) != len(want) {
		t.Fatalf("it is in %d VLANs, %v, want %d", len(got), err, len(want))
	}
	for i, v := range want {
		if got[i] != v {
			t.Errorf("it is in %+v, want %+v", got[i], v)
		}
	}
}
