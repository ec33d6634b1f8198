package tapdev

import (
	"context"
	"errors"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

func (l *lab) many(t testing.TB, n int) []Device {
	t.Helper()
	var devs []Device
	for i := range n {
		devs = append(devs, l.ensure(t, l.spec(i+1, vmnetd.Bridge)))
	}
	return devs
}

func TestRemoveTakesExactlyTheDevicesGiven(t *testing.T) {
	for _, n := range []int{1, 3, 40} { // one by one, and as a batch
		l := newLab(t, nil)
		devs := l.many(t, n+1)
		stays := devs[n]
		if err := l.Remove(t.Context(), devs[:n]...); err != nil {
			t.Fatal(err)
		}
		if left := l.devices(t); !slices.Equal(left, []string{stays.Ifname}) {
			t.Errorf("%d removed: left %v, want %s", n, left, stays.Ifname)
		}
		if err := l.Remove(t.Context(), devs[:n]...); err != nil {
			t.Errorf("what has gone is an error: %v", err)
		}
	}
}

func TestBatchThatAForeignDeviceGotIntoIsDoneOneByOne(t *testing.T) {
	l := newLab(t, nil)
	devs := l.many(t, 5)
	foreign := l.ns.Create(t, rtnl.NewLink{Name: "foreign", Kind: "bridge", Group: 4711})
	var doomed []rtnl.Link
	for _, d := range devs {
		l.ns.Set(t, d.Ifname, rtnl.Group(4711))
		doomed = append(doomed, l.ns.Link(t, d.Ifname))
	}
	links, err := l.conn.Links(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if onlyThese(links, 4711, doomed) == nil {
		t.Error("a foreign device in the group is not seen")
	}
	reused := slices.Clone(doomed)
	reused[0].Name = "renamed"
	if onlyThese(links[:len(links)-1], 4711, reused) == nil {
		t.Error("a device under another name is not seen")
	}
	if err := l.Remove(t.Context(), devs...); err != nil || len(l.devices(t)) > 0 {
		t.Errorf("%v, left %v", err, l.devices(t))
	}
	if now := l.ns.Link(t, "foreign"); now.Index != foreign.Index {
		t.Error("the foreign device was touched")
	}
}

func TestIndexOrNameThatBelongsToAnotherDeviceIsNotRemoved(t *testing.T) {
	l := newLab(t, nil)
	dev := l.ensure(t, l.spec(1, vmnetd.Bridge))
	other := l.ensure(t, l.spec(2, vmnetd.Bridge))
	l.ns.Delete(t, dev.Ifname)

	byIndex := dev
	byIndex.Ifindex = other.Ifindex
	// The name is back, on somebody else's bridge with the old index.
	l.ns.Create(t, rtnl.NewLink{Name: dev.Ifname, Kind: "bridge", Index: dev.Ifindex})
	if err := l.Remove(t.Context(), byIndex, dev); err != nil {
		t.Fatal(err)
	}
	if now := l.ns.Link(t, dev.Ifname); now.Kind != "bridge" {
		t.Errorf("it is %+v", now)
	}
	if now := l.ns.Link(t, other.Ifname); now.Index != other.Ifindex {
		t.Errorf("it is %+v", now)
	}
}

// TestDeviceWhoseMACWasChangedThroughItsQueueIsStillOurs: QEMU can do this
// without any privilege.
func TestDeviceWhoseMACWasChangedThroughItsQueueIsStillOurs(t *testing.T) {
	l := newLab(t, nil)
	dev := l.ensure(t, l.spec(1, vmnetd.Bridge))
	set := l.open(t, dev)
	req := ifreqHardware{family: unix.ARPHRD_ETHER}
	copy(req.name[:], dev.Ifname)
	copy(req.data[:], mac(66))
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(set.Queues[0]), unix.SIOCSIFHWADDR, uintptr(unsafe.Pointer(&req))); errno != 0 {
		t.Fatal(errno)
	}
	if now := l.ns.Link(t, dev.Ifname); now.MAC.String() != mac(66).String() {
		t.Fatalf("the MAC is %s: the kernel no longer allows it", now.MAC)
	}
	if err := l.Remove(t.Context(), dev); err != nil || len(l.devices(t)) > 0 {
		t.Errorf("%v, left %v", err, l.devices(t))
	}
}

func TestRemoveEndsWithItsContext(t *testing.T) {
	l := newLab(t, nil)
	dev := l.ensure(t, l.spec(1, vmnetd.Bridge))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Remove(ctx, dev); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestOursAreThoseWithOurPrefixAndMark(t *testing.T) {
	l := newLab(t, nil)
	want := []string{l.ensure(t, l.spec(1, vmnetd.Bridge)).Ifname, l.ensure(t, l.spec(2, vmnetd.Private)).Ifname, "vmnhalf"}
	for _, f := range []rtnl.NewLink{
		{Name: "vmnhalf", Kind: "macvtap", Lower: l.u0.Index, Group: Group},
		{Name: "vmnforeign", Kind: "macvtap", Lower: l.u0.Index},
		{Name: "vmnbridge", Kind: "bridge", Group: Group},
		{Name: "other", Kind: "macvtap", Lower: l.u0.Index, Group: Group},
		{Name: "vmnsomebody", Kind: "macvtap", Lower: l.u0.Index, Group: Group},
	} {
		l.ns.Create(t, f)
	}
	l.ns.Set(t, "other", rtnl.Alias("vmnetd:vm9/net0"))
	l.ns.Set(t, "vmnsomebody", rtnl.Alias("somebody's own"))
	ours, err := l.Ours(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range ours {
		got = append(got, d.Ifname)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
