package tapdev

import (
	"fmt"
	"slices"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// cable is an endpoint of NIC net0 of VM "vm<n>" in another namespace.
func (b *bridged) cable(n int, to *testkit.Netns) Spec {
	s := b.spec(n, vmnetd.Switched)
	s.Kind, s.Lower, s.Queues, s.Port.Learning, s.Peer = vmnetd.Veth, b.br0.Index, 0, true, to.NS()
	return s
}

func TestVethIsMadeWithItsFarEndInItsNamespace(t *testing.T) {
	b, box := newBridged(t, nil), testkit.NewNetns(t)
	s := b.cable(1, box)
	s.Port.Isolated = true
	dev := b.ensure(t, s)
	here, there := b.ns.Link(t, s.Ifname), box.Link(t, s.Ifname)
	if here.MAC.String() != HostMAC(vmnetd.Veth, s.MAC).String() || there.MAC.String() != s.MAC.String() || here.MTU != 1500 || there.MTU != 1500 {
		t.Errorf("the ends are %+v and %+v", here, there)
	}
	if there.Alias != "" || there.Group != Group || here.Alias != "vmnetd:vm1/net0" || here.IPv6 || here.AllMulti {
		t.Errorf("the ends are %+v and %+v", here, there)
	}
	if port, _ := here.BridgePort(); port != s.Port.flags() || dev.Lower != b.br0.Index || dev.Queues != 0 || dev.Kind != vmnetd.Veth || dev.Mode != vmnetd.Switched {
		t.Errorf("%+v, as a port %+v", dev, port)
	}
	if err := b.SetUp(t.Context(), dev, true); err != nil {
		t.Fatal(err)
	}
	box.SetUp(t, s.Ifname)
	b.ns.WaitRunning(t, s.Ifname)
	box.WaitRunning(t, s.Ifname)
	far, farMAC, wire := b.out.OpenWire(t, "far0"), b.out.Link(t, "far0").MAC, box.OpenWire(t, s.Ifname)
	far.Send(t, testkit.Frame{Dst: s.MAC, Src: farMAC, Text: "in"})
	if _, heard := wire.Hear(t, "in", testkit.Patience); !heard {
		t.Error("the namespace does not hear the outside")
	}
	wire.Send(t, testkit.Frame{Dst: farMAC, Src: s.MAC, Text: "out"})
	if _, heard := far.Hear(t, "out", testkit.Patience); !heard {
		t.Error("the outside does not hear the namespace")
	}
	s.Port.Isolated = false
	again := b.ensure(t, s)
	dev.Up = true
	if fmt.Sprint(again) != fmt.Sprint(dev) {
		t.Errorf("the second time %+v, want %+v", again, dev)
	}
	if err := b.Remove(t.Context(), dev); err != nil || len(ports(t, box)) > 0 {
		t.Errorf("%v, left %v", err, ports(t, box))
	}
}

func TestNothingIsLeftOfAVethWhenAStepFails(t *testing.T) {
	for _, p := range []failpoint.Point{failpoint.TapCreated, failpoint.TapMarked} {
		b, box := newBridged(t, parse(t, string(p)+"=error")), testkit.NewNetns(t)
		if _, err := b.Ensure(t.Context(), b.cable(1, box)); err == nil {
			t.Fatalf("%s did not fail", p)
		}
		if here, there := ports(t, b.ns), ports(t, box); len(here)+len(there) > 0 {
			t.Errorf("%s: left %v and %v", p, here, there)
		}
	}
}

func TestFarEndsNameThatIsTakenIsSaid(t *testing.T) {
	b, box := newBridged(t, nil), testkit.NewNetns(t)
	s := b.cable(1, box)
	box.Create(t, rtnl.NewLink{Name: s.Ifname, Kind: "bridge"})
	_, err := b.Ensure(t.Context(), s)
	says(t, err, vmnetd.ErrBusy, "far end", s.Ifname)
	if left := ports(t, b.ns); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestMacvlanIsMadeDownAndMarkedWithoutQueues(t *testing.T) {
	for _, mode := range []vmnetd.Mode{vmnetd.Bridge, vmnetd.VEPA, vmnetd.Private, vmnetd.Passthru} {
		l := newLab(t, nil)
		s := l.spec(1, mode)
		s.Kind, s.Queues = vmnetd.Macvlan, 0
		dev := l.ensure(t, s)
		link := l.ns.Link(t, s.Ifname)
		if link.Kind != "macvlan" || link.Mode != string(mode) || link.MAC.String() != s.MAC.String() || link.Up || link.IPv6 || link.Group != Group {
			t.Errorf("%+v", link)
		}
		if dev.Kind != vmnetd.Macvlan || dev.Mode != mode || dev.Queues != 0 || dev.Rdev != 0 || dev.Lower != l.u0.Index {
			t.Errorf("%+v", dev)
		}
		if again := l.ensure(t, s); fmt.Sprint(again) != fmt.Sprint(dev) {
			t.Errorf("the second time %+v, want %+v", again, dev)
		}
		_, err := l.Open(t.Context(), dev)
		says(t, err, vmnetd.ErrInvalid, "macvlan", "no queues")
		if pids, complete, err := l.Holders(t.Context(), dev); len(pids) > 0 || !complete || err != nil {
			t.Errorf("holders: %v, %v, %v", pids, complete, err)
		}
		_, err = l.Ensure(t.Context(), l.spec(1, mode))
		says(t, err, vmnetd.ErrBusy, "kind macvlan, not macvtap")
		if err := l.Remove(t.Context(), dev); err != nil {
			t.Fatal(err)
		}
		if now := l.ns.Link(t, "u0"); now.MAC.String() != l.u0.MAC.String() {
			t.Errorf("%s: the uplink's MAC is %s, was %s", mode, now.MAC, l.u0.MAC)
		}
	}
}

func TestNothingIsLeftOfAMacvlanWhenAStepFails(t *testing.T) {
	for _, p := range []failpoint.Point{failpoint.TapCreated, failpoint.TapMarked} {
		l := newLab(t, parse(t, string(p)+"=error"))
		s := l.spec(1, vmnetd.Passthru)
		s.Kind, s.Queues = vmnetd.Macvlan, 0
		if _, err := l.Ensure(t.Context(), s); err == nil {
			t.Fatalf("%s did not fail", p)
		}
		if left := ports(t, l.ns); len(left) > 0 || l.ns.Link(t, "u0").MAC.String() != l.u0.MAC.String() {
			t.Errorf("%s: left %v", p, left)
		}
	}
}

// TestRemoveTakesEveryKindAtOnce is one batch, and what is not in it stays.
func TestRemoveTakesEveryKindAtOnce(t *testing.T) {
	b, box := newBridged(t, nil), testkit.NewNetns(t)
	testkit.NewVeth(t, b.ns, "u1", b.out, "far1")
	on := func(s Spec) Spec { s.Lower = b.ns.Link(t, "u1").Index; return s }
	lan := on(b.spec(5, vmnetd.Bridge))
	lan.Kind, lan.Queues = vmnetd.Macvlan, 0
	doomed := []Device{
		b.ensure(t, b.tap(1, 1)), b.ensure(t, b.tap(2, 4)), b.ensure(t, b.cable(3, box)),
		b.ensure(t, on(b.spec(4, vmnetd.Bridge))), b.ensure(t, lan),
	}
	stays := b.ensure(t, b.tap(6, 1))
	if ours, err := b.Ours(t.Context()); err != nil || len(ours) != 6 {
		t.Errorf("ours: %+v, %v", ours, err)
	}
	if err := b.Remove(t.Context(), doomed...); err != nil {
		t.Fatal(err)
	}
	if left := ports(t, b.ns); !slices.Equal(left, []string{stays.Ifname}) || len(ports(t, box)) > 0 {
		t.Errorf("left %v and %v", left, ports(t, box))
	}
}

func TestFollowedMACOfAGuestBehindABridgeIsNotTheTaps(t *testing.T) {
	b := newBridged(t, nil)
	dev := b.ensure(t, b.tap(1, 1))
	if err := b.SetFilter(t.Context(), dev, mac(9), nil, false); err != nil {
		t.Fatal(err)
	}
	if now := b.ns.Link(t, dev.Ifname); now.MAC.String() != HostMAC(vmnetd.Tap, mac(9)).String() || now.AllMulti {
		t.Errorf("%+v", now)
	}
	s := b.tap(1, 1)
	s.Filtered = true
	if again := b.ensure(t, s); again.MAC.String() != HostMAC(vmnetd.Tap, mac(9)).String() {
		t.Errorf("%+v", again)
	}
}
