package tapdev

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
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
// listener, and says whether the frame came. One that must is waited for: what is
// broadcast the kernel may deliver behind the marker.
func hears(t *testing.T, must bool, from *testkit.Wire, f testkit.Frame, listener, far *testkit.Wire, listenerMAC, farMAC []byte) bool {
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
	within := quiet
	if must {
		within = testkit.Patience
	}
	_, late := listener.Hear(t, f.Text, within)
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
			if got := hears(t, c.neighbours, a, unicast, b, far, mac(2), farMAC); got != c.neighbours {
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
			if got := hears(t, c.neighbours, a, all, b, far, mac(2), farMAC); got != c.neighbours {
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
		if got := hears(t, c.unicast, far, one, b, far, mac(2), farMAC); got != c.unicast {
			t.Errorf("%s: b heard the reflected frame: %v, want %v", c.mode, got, c.unicast)
		}
		all := testkit.Frame{Dst: testkit.Broadcast, Src: mac(1), Text: "a to all"}
		if got := hears(t, c.broadcast, far, all, b, far, mac(2), farMAC); got != c.broadcast {
			t.Errorf("%s: b heard the reflected broadcast: %v, want %v", c.mode, got, c.broadcast)
		}
	}
}

// party is guests of different modes on one uplink, and who is outside.
type party struct {
	*lab
	far    *testkit.Wire
	farMAC net.HardwareAddr
	wires  map[string]*testkit.Wire
	macs   map[string]net.HardwareAddr
	n      int // frames sent, which makes each one's text its own
}

func newParty(t *testing.T) *party {
	t.Helper()
	l := newLab(t, nil)
	return &party{lab: l, far: l.out.OpenWire(t, "far0"), farMAC: l.out.Link(t, "far0").MAC, wires: map[string]*testkit.Wire{}, macs: map[string]net.HardwareAddr{}}
}

// join adds a guest.
func (p *party) join(t *testing.T, name string, mode vmnetd.Mode) {
	t.Helper()
	s := p.spec(len(p.wires)+1, mode)
	p.wires[name], _ = p.guest(t, s)
	p.macs[name] = s.MAC
}

// joinHost adds the host's own stack, as it hears and speaks on the uplink.
func (p *party) joinHost(t *testing.T) {
	t.Helper()
	p.wires["host"], p.macs["host"] = p.ns.OpenWire(t, "u0"), p.u0.MAC
}

// reached sends a frame and checks that exactly these hear it: each of them is
// waited for. A broadcast from outside is sent behind it, which the kernel
// queues behind what was broadcast before (macvlan_broadcast_enqueue); nobody
// may have heard anything else when that comes, the frames before this one
// included.
func (p *party) reached(t *testing.T, what string, from *testkit.Wire, src, dst net.HardwareAddr, want ...string) {
	t.Helper()
	p.n++
	text := fmt.Sprint(p.n, ": ", what)
	from.Send(t, testkit.Frame{Dst: dst, Src: src, Text: text})
	for _, name := range want {
		before, heard := p.wires[name].Hear(t, text, testkit.Patience)
		if !heard || len(before) > 0 {
			t.Errorf("%s: %s heard it: %v, and before it %+v", what, name, heard, before)
		}
	}
	marker := text + " was it"
	p.far.Send(t, testkit.Frame{Dst: testkit.Broadcast, Src: p.farMAC, Text: marker})
	for name, w := range p.wires {
		before, heard := w.Hear(t, marker, testkit.Patience)
		if !heard {
			t.Fatalf("%s: %s did not hear the marker", what, name)
		}
		for _, f := range before {
			t.Errorf("%s: %s heard %q", what, name, f.Text)
		}
	}
}

// silent makes sure that nothing comes after the last marker.
func (p *party) silent(t *testing.T) {
	t.Helper()
	for name, w := range p.wires {
		if late, _ := w.Hear(t, "silence", quiet); len(late) > 0 {
			t.Errorf("%s heard %+v", name, late)
		}
	}
}

// leaves says what of the frames so far has left the host, in their order.
func (p *party) leaves(t *testing.T, last string) (texts []string) {
	t.Helper()
	p.n++
	text := fmt.Sprint(p.n, ": last")
	p.wires[last].Send(t, testkit.Frame{Dst: p.farMAC, Src: p.macs[last], Text: text})
	frames, heard := p.far.Hear(t, text, testkit.Patience)
	if !heard {
		t.Fatalf("the outside does not hear %s", last)
	}
	for _, f := range frames {
		texts = append(texts, f.Text)
	}
	return texts
}

// TestModesMixOnOneUplink: each guest is heard as its own mode and the
// listener's have it. Between two guests frames stay in the host only where
// both are in bridge mode (drivers/net/macvlan.c, macvlan_queue_xmit); what a
// switch reflects is a matter of the sender's mode (macvlan_multicast_rx).
func TestModesMixOnOneUplink(t *testing.T) {
	p := newParty(t)
	modes := map[string]vmnetd.Mode{
		"bridge1": vmnetd.Bridge, "bridge2": vmnetd.Bridge, "vepa1": vmnetd.VEPA, "vepa2": vmnetd.VEPA,
		"private1": vmnetd.Private, "private2": vmnetd.Private,
	}
	names := slices.Sorted(maps.Keys(modes))
	for _, name := range names {
		p.join(t, name, modes[name])
	}
	wentOut := 0
	for _, from := range names {
		for _, to := range names {
			if from == to {
				continue
			}
			var direct []string
			if modes[from] == vmnetd.Bridge && modes[to] == vmnetd.Bridge {
				direct = []string{to}
			} else {
				wentOut++
			}
			p.reached(t, from+" to "+to, p.wires[from], p.macs[from], p.macs[to], direct...)
			p.reached(t, from+" to "+to+", reflected", p.far, p.macs[from], p.macs[to], to)
		}
	}
	if out := p.leaves(t, "vepa1"); len(out) != wentOut {
		t.Errorf("%d frames left the host, want %d: %q", len(out), wentOut, out)
	}
	for from, hear := range map[string]struct{ direct, reflected []string }{
		"bridge1":  {[]string{"bridge2"}, []string{"vepa1", "vepa2"}}, // the bridge guests have heard it on its way out
		"vepa1":    {nil, []string{"bridge1", "bridge2", "vepa2"}},
		"private1": {nil, []string{"private1"}}, // who hears himself, and nobody else does
	} {
		p.reached(t, from+" to all", p.wires[from], p.macs[from], testkit.Broadcast, hear.direct...)
		p.reached(t, from+" to all, reflected", p.far, p.macs[from], testkit.Broadcast, hear.reflected...)
	}
	if out := p.leaves(t, "vepa1"); len(out) != 3 {
		t.Errorf("of 3 broadcasts these left the host: %q", out)
	}
	p.silent(t)
}

// TestPassthruIsAloneAndNoModeTurnsIntoIt: the other modes can be changed into
// each other under a running guest, passthru never (macvlan_changelink).
func TestPassthruIsAloneAndNoModeTurnsIntoIt(t *testing.T) {
	l := newLab(t, nil)
	shared := []vmnetd.Mode{vmnetd.Bridge, vmnetd.VEPA, vmnetd.Private}
	turn := func(dev Device, from, to vmnetd.Mode, want bool) {
		t.Helper()
		out, err := l.ns.Command(t.Context(), "ip", "link", "set", dev.Ifname, "type", "macvtap", "mode", string(to)).CombinedOutput()
		if now := vmnetd.Mode(l.ns.Link(t, dev.Ifname).Mode); want && (err != nil || now != to) {
			t.Errorf("%s to %s: %v, %s; it is %s", from, to, err, out, now)
		} else if !want && (err == nil || now != from || !strings.Contains(string(out), "Invalid argument")) {
			t.Errorf("%s to %s is not refused: %v, %s; it is %s", from, to, err, out, now)
		}
	}
	for _, mode := range shared {
		dev := l.ensure(t, l.spec(1, mode))
		turn(dev, mode, vmnetd.Passthru, false)
		for _, other := range shared {
			turn(dev, mode, other, true)
			turn(dev, other, mode, true)
		}
		_, err := l.Ensure(t.Context(), l.spec(1, vmnetd.Passthru))
		says(t, err, vmnetd.ErrBusy, "vm1/net0", "is there with other properties: mode "+string(mode)+", not passthru")
		_, err = l.Ensure(t.Context(), l.spec(2, vmnetd.Passthru))
		says(t, err, vmnetd.ErrBusy, "passthru needs it alone, and vm1/net0", "stands on it")
		if err := l.Remove(t.Context(), dev); err != nil {
			t.Fatal(err)
		}
	}
	dev := l.ensure(t, l.spec(1, vmnetd.Passthru))
	for _, mode := range shared {
		turn(dev, vmnetd.Passthru, mode, false)
		_, err := l.Ensure(t.Context(), l.spec(1, mode))
		says(t, err, vmnetd.ErrBusy, "vm1/net0", "is there with other properties: mode passthru, not "+string(mode))
		_, err = l.Ensure(t.Context(), l.spec(2, mode))
		says(t, err, vmnetd.ErrBusy, "vm1/net0", "has it for itself (passthru)")
	}
	if left := l.devices(t); len(left) != 1 || left[0] != dev.Ifname {
		t.Errorf("devices: %v", left)
	}
}

// TestHostAndGuestsReachEachOtherByASwitchThatReflects has the host's own stack
// listen on the uplink, and a Linux bridge with hairpin for a switch. What host
// and guest say to each other goes out and comes back, or is lost.
func TestHostAndGuestsReachEachOtherByASwitchThatReflects(t *testing.T) {
	for _, c := range []struct {
		mode                  vmnetd.Mode
		peer                  []string // hears the other guest without the switch
		toAll, toAllReflected []string // hear a guest's broadcast
	}{
		{vmnetd.Bridge, []string{"b"}, []string{"b"}, []string{"b", "host"}},
		{vmnetd.VEPA, nil, nil, []string{"b", "host"}},
		{vmnetd.Private, nil, nil, []string{"a"}}, // so neither finds the other by ARP, unless the host asks
	} {
		t.Run(string(c.mode), func(t *testing.T) {
			p := newParty(t)
			p.join(t, "a", c.mode)
			p.join(t, "b", c.mode)
			p.joinHost(t)
			ip(t, p.out, "link", "add", "sw0", "type", "bridge")
			ip(t, p.out, "link", "set", "far0", "master", "sw0")
			ip(t, p.out, "link", "set", "sw0", "up")
			says := func(what, from, to string, want ...string) {
				t.Helper()
				dst, ok := p.macs[to]
				if !ok {
					dst = testkit.Broadcast
				}
				p.reached(t, what+", "+from+" to "+to, p.wires[from], p.macs[from], dst, want...)
			}

			says("as it is", "a", "host")
			says("as it is", "host", "a")
			says("as it is", "a", "b", c.peer...)
			says("as it is", "a", "all", c.toAll...)
			says("as it is", "host", "all")
			ip(t, p.out, "link", "set", "far0", "type", "bridge_slave", "hairpin", "on")
			says("reflected", "a", "host", "host")
			says("reflected", "host", "a", "a")
			says("reflected", "a", "b", "b")
			says("reflected", "a", "all", c.toAllReflected...)
			says("reflected", "host", "all", "a", "b", "host") // its own voice, like on any such switch
			p.silent(t)
		})
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
