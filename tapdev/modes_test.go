package tapdev

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// quiet is how long a frame that must not come is waited for, after the frame
// sent behind it has come.
const quiet = 50 * time.Millisecond

// hears sends a frame from one wire and then, from outside, a marker to the
// listener, and says whether the frame came before it.
func hears(t *testing.T, from *testkit.Wire, f testkit.Frame, listener, far *testkit.Wire, listenerMAC, farMAC []byte) bool {
	t.Helper()
	from.Send(t, f)
	marker := f.Text + " was it"
	far.Send(t, testkit.Frame{Dst: listenerMAC, Src: farMAC, Text: marker})
	before, heard := listener.Hear(t, marker, testkit.Patience)
	if !heard {
		t.Fatalf("the marker after %q never came", f.Text)
	}
	for _, o := range before {
		if o.Text == f.Text {
			return true
		}
	}
	_, late := listener.Hear(t, f.Text, quiet)
	return late
}

// TestWhoHearsWhom has two guests on one uplink, both of one mode, and reads on
// the far side of the cable too.
func TestWhoHearsWhom(t *testing.T) {
	for _, c := range []struct {
		mode       vmnetd.Mode
		neighbours bool // a neighbour hears the guest directly
		goesOut    bool // what is for a neighbour leaves the host
	}{
		{vmnetd.Bridge, true, false},
		{vmnetd.VEPA, false, true},
		{vmnetd.Private, false, true},
	} {
		t.Run(string(c.mode), func(t *testing.T) {
			l := newLab(t, nil)
			a, _ := l.guest(t, l.spec(1, c.mode))
			b, _ := l.guest(t, l.spec(2, c.mode))
			far := l.out.OpenWire(t, "far0")
			farMAC := l.out.Link(t, "far0").MAC

			unicast := testkit.Frame{Dst: mac(2), Src: mac(1), Text: "a to b"}
			if got := hears(t, a, unicast, b, far, mac(2), farMAC); got != c.neighbours {
				t.Errorf("b heard what a sent it: %v, want %v", got, c.neighbours)
			}
			a.Send(t, testkit.Frame{Dst: farMAC, Src: mac(1), Text: "a to far"})
			before, heard := far.Hear(t, "a to far", testkit.Patience)
			if !heard {
				t.Fatal("the outside does not hear a")
			}
			out := false
			for _, f := range before {
				out = out || f.Text == "a to b"
			}
			if out != c.goesOut {
				t.Errorf("what a sent to b left the host: %v, want %v", out, c.goesOut)
			}

			all := testkit.Frame{Dst: testkit.Broadcast, Src: mac(1), Text: "a to all"}
			if got := hears(t, a, all, b, far, mac(2), farMAC); got != c.neighbours {
				t.Errorf("b heard a's broadcast: %v, want %v", got, c.neighbours)
			}
			if _, heard := far.Hear(t, "a to all", testkit.Patience); !heard {
				t.Error("the outside does not hear a's broadcast")
			}
			far.Send(t, testkit.Frame{Dst: testkit.Broadcast, Src: farMAC, Text: "far to all"})
			for name, w := range map[string]*testkit.Wire{"a": a, "b": b} {
				if _, heard := w.Hear(t, "far to all", testkit.Patience); !heard {
					t.Errorf("%s does not hear a broadcast from outside", name)
				}
			}
		})
	}
}

// TestWhatTheSwitchReflectsReachesTheNeighbour plays the switch that vepa
// counts on. It is a fact of the kernel that private keeps reflected
// broadcasts from a neighbour and not reflected unicast frames
// (drivers/net/macvlan.c, macvlan_handle_frame), whatever ip-link(8) says.
func TestWhatTheSwitchReflectsReachesTheNeighbour(t *testing.T) {
	for _, c := range []struct {
		mode               vmnetd.Mode
		unicast, broadcast bool
	}{
		{vmnetd.VEPA, true, true},
		{vmnetd.Private, true, false},
	} {
		l := newLab(t, nil)
		l.guest(t, l.spec(1, c.mode))
		b, _ := l.guest(t, l.spec(2, c.mode))
		far := l.out.OpenWire(t, "far0")
		farMAC := l.out.Link(t, "far0").MAC
		one := testkit.Frame{Dst: mac(2), Src: mac(1), Text: "a to b"}
		if got := hears(t, far, one, b, far, mac(2), farMAC); got != c.unicast {
			t.Errorf("%s: b heard the reflected frame: %v, want %v", c.mode, got, c.unicast)
		}
		all := testkit.Frame{Dst: testkit.Broadcast, Src: mac(1), Text: "a to all"}
		if got := hears(t, far, all, b, far, mac(2), farMAC); got != c.broadcast {
			t.Errorf("%s: b heard the reflected broadcast: %v, want %v", c.mode, got, c.broadcast)
		}
	}
}

func TestPassthruHearsWhateverComes(t *testing.T) {
	l := newLab(t, nil)
	a, _ := l.guest(t, l.spec(1, vmnetd.Passthru))
	far := l.out.OpenWire(t, "far0")
	farMAC := l.out.Link(t, "far0").MAC
	far.Send(t, testkit.Frame{Dst: mac(1), Src: farMAC, Text: "to its MAC"})
	far.Send(t, testkit.Frame{Dst: mac(77), Src: farMAC, Text: "to another MAC"}) // a nested guest's
	for _, text := range []string{"to its MAC", "to another MAC"} {
		if _, heard := a.Hear(t, text, testkit.Patience); !heard {
			t.Errorf("the guest does not hear %q", text)
		}
	}
	a.Send(t, testkit.Frame{Dst: farMAC, Src: mac(1), Text: "out"})
	if _, heard := far.Hear(t, "out", testkit.Patience); !heard {
		t.Error("the outside does not hear the guest")
	}
}

// TestGuestsLoseEachOtherWithoutCarrier is a fact of the kernel that explain
// and status tell operators.
func TestGuestsLoseEachOtherWithoutCarrier(t *testing.T) {
	l := newLab(t, nil)
	a, _ := l.guest(t, l.spec(1, vmnetd.Bridge))
	b, _ := l.guest(t, l.spec(2, vmnetd.Bridge))
	n := 0
	bHearsA := func() bool {
		n++
		text := fmt.Sprint("frame ", n)
		a.Send(t, testkit.Frame{Dst: mac(2), Src: mac(1), Text: text})
		_, heard := b.Hear(t, text, quiet)
		return heard
	}
	// The kernel works a change of carrier off in the background (linkwatch).
	waitFor(t, "b hears a", bHearsA)
	ip(t, l.out, "link", "set", "far0", "down")
	waitFor(t, "b no longer hears a", func() bool { return !bHearsA() })
	for range 5 {
		if bHearsA() {
			t.Error("b hears a without carrier: this kernel is better than we tell people")
		}
	}
	l.out.SetUp(t, "far0")
	waitFor(t, "b hears a again", bHearsA)
}

// TestHostSaysNothingOnAGuestsDevice is why IPv6 is off and why up comes last:
// a device like the kernel makes it speaks with the guest's MAC.
func TestHostSaysNothingOnAGuestsDevice(t *testing.T) {
	l := newLab(t, nil)
	_, dev := l.guest(t, l.spec(1, vmnetd.Bridge))
	addrs, err := l.conn.Addrs(t.Context(), dev.Ifindex)
	if err != nil || len(addrs) > 0 {
		t.Errorf("addresses on the guest's device: %v, %v", addrs, err)
	}
	plain := l.ns.Create(t, rtnl.NewLink{Name: "plain", Kind: "macvtap", Lower: l.u0.Index, MAC: mac(9), Data: rtnl.MacvlanMode("bridge")})
	l.ns.SetUp(t, "plain")
	waitFor(t, "the kernel's own address on a plain device", func() bool {
		addrs, err := l.conn.Addrs(t.Context(), plain.Index)
		return err == nil && len(addrs) > 0
	})
	addrs, err = l.conn.Addrs(t.Context(), dev.Ifindex)
	if err != nil || len(addrs) > 0 {
		t.Errorf("addresses on the guest's device: %v, %v", addrs, err)
	}
}

func TestSecondHolderOfAMACIsNamedTheFirst(t *testing.T) {
	for _, mirror := range []bool{false, true} {
		l := newLab(t, nil)
		sync := func(context.Context) error { return nil }
		if mirror {
			var w *rtnl.Watch
			l, w = watched(t)
			sync = w.Sync
		}
		l.guest(t, l.spec(1, vmnetd.Bridge))
		s := l.spec(2, vmnetd.Private)
		s.MAC = mac(1)
		second := l.ensure(t, s)
		if err := sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := l.SetUp(t.Context(), second, true)
		says(t, err, vmnetd.ErrBusy, mac(1).String(), "taken by vm1/net0", "vm2/net0")
		if now := l.ns.Link(t, second.Ifname); now.Up {
			t.Error("it is up all the same")
		}

		s = l.spec(3, vmnetd.Bridge)
		s.MAC = l.u0.MAC
		says(t, l.SetUp(t.Context(), l.ensure(t, s), true), vmnetd.ErrBusy, "uplink u0 itself")
	}
}

func TestUpAndDownAreDoneOnceAndOnlyToTheDeviceMeant(t *testing.T) {
	l := newLab(t, nil)
	dev := l.ensure(t, l.spec(1, vmnetd.Bridge))
	for _, up := range []bool{true, true, false, false} {
		if err := l.SetUp(t.Context(), dev, up); err != nil {
			t.Fatal(err)
		}
		if now := l.ns.Link(t, dev.Ifname); now.Up != up {
			t.Errorf("up is %v, want %v", now.Up, up)
		}
	}
	stale := dev
	stale.Ifindex = l.u0.Index
	says(t, l.SetUp(t.Context(), stale, false), vmnetd.ErrNotFound, "gone")
	if !l.ns.Link(t, "u0").Up {
		t.Error("the uplink was set down in place of a device that has gone")
	}
}

func TestPassthruTakesTheUplinksMACAndGivesItBack(t *testing.T) {
	l := newLab(t, nil)
	dev := l.ensure(t, l.spec(1, vmnetd.Passthru))
	if now := l.ns.Link(t, "u0"); now.MAC.String() != mac(1).String() {
		t.Errorf("the uplink's MAC is %s: passthru no longer changes it", now.MAC)
	}
	if err := l.Remove(t.Context(), dev); err != nil {
		t.Fatal(err)
	}
	if now := l.ns.Link(t, "u0"); now.MAC.String() != l.u0.MAC.String() {
		t.Errorf("the uplink's MAC is %s, want %s", now.MAC, l.u0.MAC)
	}
}

// TestRestoreMACGivesBackWhatTheKernelDidNot: the kernel goes by the MAC that
// the uplink had when its first macvtap came, which may have been a guest's.
func TestRestoreMACGivesBackWhatTheKernelDidNot(t *testing.T) {
	l := newLab(t, nil)
	l.ns.Set(t, "u0", rtnl.MAC(mac(1)))
	if err := l.Remove(t.Context(), l.ensure(t, l.spec(1, vmnetd.Passthru))); err != nil {
		t.Fatal(err)
	}
	if err := l.RestoreMAC(t.Context(), l.u0.Index, l.u0.MAC); err != nil {
		t.Fatal(err)
	}
	if now := l.ns.Link(t, "u0"); now.MAC.String() != l.u0.MAC.String() {
		t.Errorf("the uplink's MAC is %s, want %s", now.MAC, l.u0.MAC)
	}
	says(t, l.RestoreMAC(t.Context(), 4711, l.u0.MAC), vmnetd.ErrNotFound, "4711")
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(testkit.Patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never came: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
