package tapdev

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/queuefd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// bridged is a lab whose uplink is the bridge br0, with u0 as a port of it.
type bridged struct {
	*lab
	br0 rtnl.Link
}

func newBridged(t testing.TB, fail failpoint.Set, options ...rtnl.Attr) *bridged {
	t.Helper()
	b := &bridged{lab: newLab(t, fail)}
	b.ns.Create(t, rtnl.NewLink{Name: "br0", Kind: "bridge", Data: options})
	b.ns.SetUp(t, "br0")
	b.ns.Set(t, "u0", rtnl.MAC(net.HardwareAddr{2, 0, 0, 0, 0, 0xa0})) // lower than any tap's: random ones are not
	b.ns.Set(t, "u0", rtnl.Master(b.ns.Link(t, "br0").Index))
	b.ns.WaitRunning(t, "br0")
	b.br0 = b.ns.Link(t, "br0")
	return b
}

// tap is NIC net0 of VM "vm<n>" on br0.
func (b *bridged) tap(n, queues int) Spec {
	s := b.spec(n, vmnetd.Switched)
	s.Lower, s.Queues, s.Port.Learning = b.br0.Index, queues, true
	return s
}

func TestTapIsMadeAsAskedAndReadBack(t *testing.T) {
	for _, queues := range []int{1, 4} {
		b := newBridged(t, nil)
		s := b.tap(1, queues)
		s.Port = Port{Hairpin: true, Isolated: true, BPDUGuard: true}
		dev := b.ensure(t, s)
		link := b.ns.Link(t, s.Ifname)
		tun, _ := link.Tun()
		if want := (rtnl.Tun{Tap: true, VNetHdr: true, Persist: true, MultiQueue: queues > 1}); tun != want {
			t.Errorf("%d queues: it is %+v, want %+v", queues, tun, want)
		}
		if port, ok := link.BridgePort(); !ok || port != s.Port.flags() {
			t.Errorf("as a port it is %+v, want %+v", port, s.Port)
		}
		link.Data, link.PortData, link.Queues = nil, nil, 0
		want := rtnl.Link{
			Index: dev.Ifindex, Name: s.Ifname, Kind: "tun", Master: b.br0.Index, MAC: HostMAC(vmnetd.Tap, s.MAC), MTU: 1500,
			Inet6: true, AddrGenNone: true, PortKind: "bridge", Promisc: link.Promisc, Alias: "vmnetd:vm1/net0", Group: Group,
		}
		if got := fmt.Sprintf("%+v", link); got != fmt.Sprintf("%+v", want) {
			t.Errorf("got  %s\nwant %+v", got, want)
		}
		if dev.Queues != queues || dev.Lower != b.br0.Index || dev.Mode != vmnetd.Switched || dev.Kind != vmnetd.Tap || dev.Rdev != 0 || dev.Up {
			t.Errorf("returned %+v", dev)
		}
		if br0 := b.ns.Link(t, "br0"); br0.MAC.String() != b.br0.MAC.String() {
			t.Errorf("the bridge took the MAC %s of the tap", br0.MAC)
		}
	}
}

func TestHostMACIsNeverTheGuests(t *testing.T) {
	for _, guest := range []string{"52:54:00:00:00:01", "fe:54:00:00:00:01", "fa:54:00:00:00:01"} {
		mac, _ := net.ParseMAC(guest)
		for _, kind := range []vmnetd.Kind{vmnetd.Tap, vmnetd.Veth} {
			got := HostMAC(kind, mac)
			if got.String() == guest || got[0]&3 != 2 || !slices.Equal(got[1:], mac[1:]) {
				t.Errorf("%s of %s: %s", kind, guest, got)
			}
		}
		if got := HostMAC(vmnetd.Macvtap, mac); got.String() != guest {
			t.Errorf("of a macvtap: %s", got)
		}
	}
}

// hearAny waits until one of a guest's queues gets a frame.
func hearAny(t *testing.T, queues []int, text string) bool {
	t.Helper()
	for deadline := time.Now().Add(testkit.Patience); time.Now().Before(deadline); {
		for _, fd := range queues {
			if _, heard := testkit.TapWire(fd, 10).Hear(t, text, time.Millisecond); heard {
				return true
			}
		}
	}
	return false
}

func TestFramesGoThroughEveryQueueOfATapAndBack(t *testing.T) {
	for _, queues := range []int{1, 4} {
		b := newBridged(t, nil)
		dev := b.ensure(t, b.tap(1, queues))
		set := b.open(t, dev)
		if len(set.Queues) != queues {
			t.Fatalf("%d queues, want %d", len(set.Queues), queues)
		}
		if err := b.SetUp(t.Context(), dev, true); err != nil {
			t.Fatal(err)
		}
		b.ns.WaitRunning(t, dev.Ifname)
		far, farMAC := b.out.OpenWire(t, "far0"), b.out.Link(t, "far0").MAC
		for i, fd := range set.Queues {
			text := fmt.Sprint("from queue ", i)
			testkit.TapWire(fd, 10).Send(t, testkit.Frame{Dst: farMAC, Src: mac(1), Text: text})
			if _, heard := far.Hear(t, text, testkit.Patience); !heard {
				t.Errorf("%d queues: nothing comes out of queue %d", queues, i)
			}
		}
		far.Send(t, testkit.Frame{Dst: mac(1), Src: farMAC, Text: "to the guest"})
		if !hearAny(t, set.Queues, "to the guest") {
			t.Errorf("%d queues: the guest hears nothing", queues)
		}
		tun, _ := b.ns.Link(t, dev.Ifname).Tun()
		if queues > 1 && tun.Queues != queues {
			t.Errorf("the kernel counts %d queues, want %d", tun.Queues, queues)
		}
	}
}

func TestSameTapTwiceIsOneAndItsPortChangesUnderTheGuest(t *testing.T) {
	b := newBridged(t, nil)
	guest, dev := b.guest(t, b.tap(1, 1))
	dev.Up = true
	if again := b.ensure(t, b.tap(1, 1)); fmt.Sprint(again) != fmt.Sprint(dev) {
		t.Errorf("%+v, want %+v", again, dev)
	}
	for _, p := range []Port{{Hairpin: true}, {Isolated: true, Learning: true}, {BPDUGuard: true}, {Learning: true}} {
		s := b.tap(1, 1)
		s.Port = p
		b.ensure(t, s)
		if got, _ := b.ns.Link(t, dev.Ifname).BridgePort(); got != p.flags() {
			t.Errorf("as a port it is %+v, want %+v", got, p)
		}
	}
	far, farMAC := b.out.OpenWire(t, "far0"), b.out.Link(t, "far0").MAC
	guest.Send(t, testkit.Frame{Dst: farMAC, Src: mac(1), Text: "still here"})
	if _, heard := far.Hear(t, "still here", testkit.Patience); !heard {
		t.Error("the guest is cut off")
	}
}

func TestTapThatWasTakenOutOfItsBridgeIsPutBack(t *testing.T) {
	b := newBridged(t, nil)
	_, dev := b.guest(t, b.tap(1, 1))
	b.ns.Set(t, dev.Ifname, rtnl.Master(0), rtnl.MAC(mac(99)))
	again := b.ensure(t, b.tap(1, 1))
	if again.Ifindex != dev.Ifindex || again.Lower != b.br0.Index || !again.Up || again.MAC.String() != HostMAC(vmnetd.Tap, mac(1)).String() {
		t.Errorf("%+v", again)
	}
}

func TestTapWithOtherPropertiesIsBusyAndStaysAsItIs(t *testing.T) {
	b := newBridged(t, nil)
	other := b.ns.Create(t, rtnl.NewLink{Name: "br1", Kind: "bridge"})
	one := b.ensure(t, b.tap(1, 1))
	four := b.ensure(t, b.tap(2, 4))
	b.open(t, four)
	for part, c := range map[string]struct {
		s      Spec
		change func(*Spec)
	}{
		"1 queue, not 4":            {b.tap(1, 1), func(s *Spec) { s.Queues = 4 }},
		"several queues, not 1":     {b.tap(2, 4), func(s *Spec) { s.Queues = 1 }},
		"4 queues are open, not 2":  {b.tap(2, 4), func(s *Spec) { s.Queues = 2 }},
		"kind tun, not macvtap":     {b.tap(1, 1), func(s *Spec) { s.Mode, s.Lower = vmnetd.Bridge, b.u0.Index }},
		"belongs to":                {b.tap(1, 1), func(s *Spec) { s.VM = "other" }},
		"the device with index":     {b.tap(1, 1), func(s *Spec) { s.Lower = other.Index }},
		"does not tell VLANs apart": {b.tap(1, 1), func(s *Spec) { s.Port.PVID = 7 }},
	} {
		c.change(&c.s)
		_, err := b.Ensure(t.Context(), c.s)
		says(t, err, vmnetd.ErrBusy, part)
	}
	for _, dev := range []Device{one, four} {
		if now, err := b.Find(t.Context(), dev.Ifname); err != nil || now.Lower != dev.Lower || now.Ifindex != dev.Ifindex || now.Queues != dev.Queues {
			t.Errorf("the device is %+v, %v; was %+v", now, err, dev)
		}
	}
}

// ports is the names of all devices of ours that there are, half made or not.
func ports(t testing.TB, n *testkit.Netns) (names []string) {
	t.Helper()
	links, err := n.Conn().Links(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if _, ours := device(l); ours {
			names = append(names, l.Name)
		}
	}
	return names
}

func TestNothingIsLeftOfATapWhenAStepFails(t *testing.T) {
	for _, p := range []failpoint.Point{failpoint.TapCreated, failpoint.TapMarked} {
		b := newBridged(t, parse(t, string(p)+"=error"))
		for _, queues := range []int{1, 4} {
			if _, err := b.Ensure(t.Context(), b.tap(1, queues)); err == nil {
				t.Fatalf("%s did not fail", p)
			}
			if _, err := b.conn.LinkByName(t.Context(), b.tap(1, 1).Ifname); vmnetd.ClassOf(err).Err != vmnetd.ErrNotFound {
				t.Errorf("%s: left a device: %v", p, err)
			}
		}
	}
	b := newBridged(t, nil)
	on := b.tap(1, 1)
	on.Lower = b.u0.Index
	_, err := b.Ensure(t.Context(), on)
	says(t, err, vmnetd.ErrUnsupported, "tap switched on u0", "no bridge")
	b.tun = "/dev/vmnetd-has-no-such-device"
	_, err = b.Ensure(t.Context(), b.tap(1, 1))
	says(t, err, vmnetd.ErrUnsupported, "no tap")
	if lacking := b.Lacking(t.Context()); lacking[vmnetd.Tap] == "" || lacking[vmnetd.Macvtap] != "" || lacking[vmnetd.Veth] != "" {
		t.Errorf("lacking: %v", lacking)
	}
	b.tun = tunDevice
	b.found.lackFor = 0
	if why := b.Lacking(t.Context())[vmnetd.Tap]; why != "" {
		t.Errorf("a module that was loaded meanwhile is not seen: %s", why)
	}
	if left := ports(t, b.ns); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestHalfMadeTapIsMadeAnew(t *testing.T) {
	b := newBridged(t, nil)
	s := b.tap(1, 4)
	s.MTU = 1500
	if err := (tunMaker{}).make(t.Context(), b.Host, s, 0); err != nil { // what a kill between create and mark leaves
		t.Fatal(err)
	}
	half := b.ns.Link(t, s.Ifname)
	if d, ours := device(half); !ours || !d.halfMade() {
		t.Fatalf("it is not known for ours: %+v", half)
	}
	if dev := b.ensure(t, s); dev.Ifindex == half.Index {
		t.Error("the half-made device was taken")
	}
}

// TestTapAndHolderOfAnotherNamespaceAreToldApart has two taps of one name in two
// namespaces, and a third process that holds a queue of one of them.
func TestTapAndHolderOfAnotherNamespaceAreToldApart(t *testing.T) {
	here, there := newBridged(t, nil), newBridged(t, nil)
	dev, other := here.ensure(t, here.tap(1, 4)), there.ensure(t, there.tap(1, 4))
	there.open(t, other)
	here.heldBy(t, dev)
	cmd, stdin := holding(t, here.open(t, dev).Queues[0])
	here.heldBy(t, dev, os.Getpid(), cmd.Process.Pid)
	_ = stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	here.ns.Delete(t, dev.Ifname)
	here.heldBy(t, dev)
}

// holding is a process that holds a queue until its standard input is closed.
func holding(t *testing.T, queue int) (*exec.Cmd, io.Closer) {
	t.Helper()
	fd, err := unix.Dup(queue)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "queue")
	defer file.Close()
	cmd := exec.CommandContext(t.Context(), "cat")
	cmd.ExtraFiles = []*os.File{file}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, stdin
}

func TestQueuesOfATapAreNotOpenedWhereTheyAreNotTheDevices(t *testing.T) {
	b := newBridged(t, nil)
	dev := b.ensure(t, b.tap(1, 1))
	b.open(t, dev)
	_, err := b.Open(t.Context(), dev)
	says(t, err, vmnetd.ErrBusy, "vm1/net0", "are open")
	lost := b.ensure(t, b.tap(2, 2))
	link := b.ns.Link(t, lost.Ifname)
	b.ns.Delete(t, lost.Ifname)
	before := testkit.OpenFDs()
	_, err = b.Open(t.Context(), lost)
	says(t, err, vmnetd.ErrNotFound, "gone")
	set := &queuefd.Set{}
	says(t, tunQueues{}.open(b.Host, set, link, 2), vmnetd.ErrFailed, "vm2/net0", "gone") // TUNSETIFF has made another one
	if err := set.Close(); err != nil {
		t.Error(err)
	}
	if after := testkit.OpenFDs(); len(after) != len(before) {
		t.Errorf("%d descriptors, were %d", len(after), len(before))
	}
	if left := ports(t, b.ns); !slices.Equal(left, []string{dev.Ifname}) {
		t.Errorf("left %v", left)
	}
}

// TestTapOpenedByNameHasNoNodeOfAnother: libvirt would open that instead
// (virNetDevMacVLanIsMacvtap).
func TestTapOpenedByNameHasNoNodeOfAnother(t *testing.T) {
	b := newBridged(t, nil)
	other := newLab(t, nil)
	foreign := other.ensure(t, other.spec(2, vmnetd.Bridge))
	s := b.tap(1, 2)
	s.ByName = true
	base := 1<<20 + rand.IntN(1<<30) // another one than a copy of this test has
	b.plant(t, base, foreign.Rdev, 0o600)
	t.Cleanup(func() { _ = os.Remove(b.nodePath(base)) })
	tries := []int{base, base + 1}
	b.index = func() int { next := tries[0]; tries = tries[1:]; return next }
	dev := b.ensure(t, s)
	if dev.Ifindex != base+1 {
		t.Errorf("it has the index %d", dev.Ifindex)
	}
	b.hasNoNode(t, dev.Ifindex)
	// One comes: the device goes, while nobody holds it.
	b.plant(t, dev.Ifindex, foreign.Rdev, 0o600)
	t.Cleanup(func() { _ = os.Remove(b.nodePath(dev.Ifindex)) })
	tries = []int{base + 2}
	if again := b.ensure(t, s); again.Ifindex != base+2 {
		t.Errorf("it has the index %d", again.Ifindex)
	}
	// One that is left of a device that has gone is removed.
	b.plant(t, base+2, unix.Mkdev(240, 1<<19), 0o600)
	if again := b.ensure(t, s); again.Ifindex != base+2 {
		t.Errorf("it has the index %d", again.Ifindex)
	}
	b.hasNoNode(t, base+2)
}
