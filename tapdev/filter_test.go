package tapdev

import (
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// groupMAC is an IPv6 group's (RFC 2464).
func groupMAC(n int) net.HardwareAddr {
	return net.HardwareAddr{0x33, 0x33, 0xff, 0, byte(n), byte(n * 37)}
}

// heardGroups is which of 32 groups the guest gets frames to. What ends the list
// goes through the same queue of macvlan's as they do (macvlan_broadcast_enqueue).
func heardGroups(t *testing.T, l *lab, far, guest *testkit.Wire, round string) []int {
	t.Helper()
	farMAC := l.out.Link(t, "far0").MAC
	for n := range 32 {
		far.Send(t, testkit.Frame{Dst: groupMAC(n), Src: farMAC, Text: fmt.Sprintf("%s %d", round, n)})
	}
	far.Send(t, testkit.Frame{Dst: testkit.Broadcast, Src: farMAC, Text: round + " end"})
	before, heard := guest.Hear(t, round+" end", testkit.Patience)
	if !heard {
		t.Fatal("the guest hears no broadcast")
	}
	var list []int
	for _, f := range before {
		for n := range 32 {
			if f.Text == fmt.Sprintf("%s %d", round, n) {
				list = append(list, n)
			}
		}
	}
	return list
}

func (l *lab) filter(t *testing.T, dev Device, mac net.HardwareAddr, all bool, groups ...int) {
	t.Helper()
	var macs []net.HardwareAddr
	for _, n := range groups {
		macs = append(macs, groupMAC(n))
	}
	if err := l.SetFilter(t.Context(), dev, mac, macs, all); err != nil {
		t.Fatal(err)
	}
}

// has compares the groups that the kernel has joined by ioctl.
func (l *lab) has(t *testing.T, dev Device, groups ...int) {
	t.Helper()
	var joined map[group]bool
	err := l.conn.Do(func() (err error) {
		joined, err = joinedGroups(dev.Ifindex)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range groups {
		if !joined[group(groupMAC(n))] {
			t.Errorf("group %d is not joined", n)
		}
	}
	if len(joined) != len(groups) {
		t.Errorf("joined %v, want %v", joined, groups)
	}
}

func TestGuestHearsTheGroupsItAskedFor(t *testing.T) {
	l := newLab(t, nil)
	guest, dev := l.guest(t, l.spec(1, vmnetd.Bridge))
	far := l.out.OpenWire(t, "far0")
	if heard := heardGroups(t, l, far, guest, "new"); len(heard) != 32 {
		t.Errorf("a new device hears %v, not all", heard)
	}
	l.filter(t, dev, dev.MAC, false, 3, 17)
	l.has(t, dev, 3, 17)
	// The kernel's filter is a hash of 256 values: now and then a group comes
	// along (mc_hash).
	heard := heardGroups(t, l, far, guest, "two")
	if !slices.Contains(heard, 3) || !slices.Contains(heard, 17) || len(heard) > 10 {
		t.Errorf("joined 3 and 17, heard %v", heard)
	}
	l.filter(t, dev, dev.MAC, false, 17, 20)
	l.has(t, dev, 17, 20)
	heard = heardGroups(t, l, far, guest, "other")
	if !slices.Contains(heard, 17) || !slices.Contains(heard, 20) || len(heard) > 10 {
		t.Errorf("joined 17 and 20, heard %v", heard)
	}
	l.filter(t, dev, dev.MAC, true)
	l.has(t, dev)
	if heard := heardGroups(t, l, far, guest, "all"); len(heard) != 32 {
		t.Errorf("asked for all, heard %v", heard)
	}
	l.filter(t, dev, dev.MAC, false)
	if heard := heardGroups(t, l, far, guest, "none"); len(heard) > 8 {
		t.Errorf("asked for none, heard %v", heard)
	}
}

func TestGuestHearsTheMACItTook(t *testing.T) {
	for _, mode := range []vmnetd.Mode{vmnetd.Bridge, vmnetd.Passthru} {
		l := newLab(t, nil)
		guest, dev := l.guest(t, l.spec(1, mode))
		far := l.out.OpenWire(t, "far0")
		farMAC := l.out.Link(t, "far0").MAC
		l.filter(t, dev, mac(77), false)
		was := testkit.Frame{Dst: mac(1), Src: farMAC, Text: "to the MAC it had"}
		if hears(t, false, far, was, guest, far, mac(77), farMAC) && mode == vmnetd.Bridge {
			t.Errorf("%s: the guest hears the MAC that it had", mode)
		}
		if now := l.ns.Link(t, dev.Ifname); now.MAC.String() != mac(77).String() {
			t.Errorf("%s: the device has %s", mode, now.MAC)
		}
	}
}

func TestMACThatIsTakenIsRefusedAndItsHolderNamed(t *testing.T) {
	l := newLab(t, nil)
	_, dev := l.guest(t, l.spec(1, vmnetd.Bridge))
	l.guest(t, l.spec(2, vmnetd.Bridge))
	err := l.SetFilter(t.Context(), dev, mac(2), []net.HardwareAddr{groupMAC(5)}, false)
	says(t, err, vmnetd.ErrBusy, mac(2).String(), "vm2/net0", "vm1/net0")
	l.has(t, dev, 5)
	err = l.SetFilter(t.Context(), dev, l.ns.Link(t, "u0").MAC, nil, false)
	says(t, err, vmnetd.ErrBusy, "the uplink u0 itself")
	if now := l.ns.Link(t, dev.Ifname); now.MAC.String() != dev.MAC.String() || now.AllMulti {
		t.Errorf("afterwards the device is %+v", now)
	}
	says(t, l.SetFilter(t.Context(), dev, testkit.Broadcast, nil, false), vmnetd.ErrInvalid)
	l.filter(t, dev, dev.MAC, false)
	err = l.SetFilter(t.Context(), dev, dev.MAC, []net.HardwareAddr{mac(5), {1}, nil}, false)
	if err != nil {
		t.Errorf("what is no group is an error: %v", err)
	}
	l.has(t, dev)
	l.ns.Delete(t, dev.Ifname)
	says(t, l.SetFilter(t.Context(), dev, dev.MAC, nil, false), vmnetd.ErrNotFound)
}

func TestEnsureLeavesAFilterThatItIsToldOf(t *testing.T) {
	l := newLab(t, nil)
	s := l.spec(1, vmnetd.Bridge)
	s.Filtered = true // of a new device there is no filter yet
	_, dev := l.guest(t, s)
	if now := l.ns.Link(t, dev.Ifname); !now.AllMulti || now.MAC.String() != s.MAC.String() {
		t.Errorf("a new device is %+v", now)
	}
	l.filter(t, dev, mac(77), false, 4)
	again := l.ensure(t, s)
	if now := l.ns.Link(t, dev.Ifname); now.AllMulti || now.MAC.String() != mac(77).String() || again.MAC.String() != mac(77).String() {
		t.Errorf("Ensure changed the filter: %+v", now)
	}
	l.has(t, dev, 4)
	s.Filtered = false
	l.ensure(t, s)
	if now := l.ns.Link(t, dev.Ifname); !now.AllMulti || now.MAC.String() != s.MAC.String() {
		t.Errorf("nobody tells the filter, and the device is %+v", now)
	}
}
