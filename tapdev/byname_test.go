package tapdev

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// byName is a Spec whose queues somebody else opens.
func (l *lab) byName(n int) Spec {
	s := l.spec(n, vmnetd.Bridge)
	s.ByName = true
	return s
}

// isNodeOf makes sure that /dev/tapIFINDEX is the device's and root's alone.
func (l *lab) isNodeOf(t testing.TB, dev Device) {
	t.Helper()
	st, err := lstat(l.nodePath(dev.Ifindex))
	if err != nil {
		t.Fatal(err)
	}
	if !st.is(dev.Rdev) || !st.rootsAlone() {
		t.Errorf("the node of %s is %o %x of %d, want 600 %x of 0", dev.Ifname, st.Mode, st.Rdev, st.Uid, dev.Rdev)
	}
}

func (l *lab) hasNoNode(t testing.TB, index int) {
	t.Helper()
	if _, err := os.Lstat(l.nodePath(index)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left: %v", l.nodePath(index), err)
	}
}

// plant puts a device's number where another device's node belongs.
func (l *lab) plant(t testing.TB, index int, rdev uint64, mode uint32) {
	t.Helper()
	if err := unix.Mknod(l.nodePath(index), unix.S_IFCHR|mode, int(rdev)); err != nil {
		t.Fatal(err)
	}
}

// TestNodeThatWentWithItsFirstDeviceIsMadeAndGoesWithOurs is the collision in
// /dev itself: two devices of one index, and the one that made the node dies.
func TestNodeThatWentWithItsFirstDeviceIsMadeAndGoesWithOurs(t *testing.T) {
	first, second, a, b := collide(t)
	if st, err := lstat(first.nodePath(a.Ifindex)); err != nil {
		t.Fatal(err)
	} else if st.is(b.Rdev) {
		first, second, a, b = second, first, b, a
	}
	first.ns.Delete(t, a.Ifname)
	second.hasNoNode(t, b.Ifindex)
	dev := second.ensure(t, second.byName(1))
	if dev.Ifindex != b.Ifindex {
		t.Errorf("the device was made anew for a node that was only missing: %+v", dev)
	}
	second.isNodeOf(t, dev)
	second.ensure(t, second.byName(1)) // changes nothing
	second.isNodeOf(t, dev)
	if err := second.Remove(t.Context(), dev); err != nil {
		t.Fatal(err)
	}
	second.hasNoNode(t, dev.Ifindex)
}

func TestForeignNodeGivesANewDeviceAnotherIndex(t *testing.T) {
	other := newLab(t, nil)
	foreign := other.ensure(t, other.spec(9, vmnetd.Bridge))
	for _, mode := range []vmnetd.Mode{vmnetd.Bridge, vmnetd.Passthru} {
		l := newLab(t, nil)
		l.ownDev(t)
		s := l.byName(1)
		s.Mode = mode
		next := l.ensure(t, s).Ifindex + 1
		if err := l.Remove(t.Context(), Device{VM: s.VM, ID: s.ID, Ifname: s.Ifname, Ifindex: next - 1}); err != nil {
			t.Fatal(err)
		}
		l.hasNoNode(t, next-1)
		l.plant(t, next, foreign.Rdev, 0o600)
		dev := l.ensure(t, s)
		if dev.Ifindex < 1<<24 {
			t.Errorf("%s: index %d, whose node is another device's", mode, dev.Ifindex)
		}
		l.isNodeOf(t, dev)
		if st, err := lstat(l.nodePath(next)); err != nil || !st.is(foreign.Rdev) {
			t.Errorf("the other device's node was touched: %v", err)
		}
		// Once it is up and held it stays what it is, whatever becomes of the node.
		l.heldStays(t, s, dev, foreign.Rdev)
	}
}

// heldStays makes the node of a device another one's, and ensures the device
// while it is held, while it is up, and while it is neither.
func (l *lab) heldStays(t *testing.T, s Spec, dev Device, foreign uint64) {
	t.Helper()
	set := l.open(t, dev)
	if err := os.Remove(l.nodePath(dev.Ifindex)); err != nil {
		t.Fatal(err)
	}
	l.plant(t, dev.Ifindex, foreign, 0o600)
	_, err := l.Ensure(t.Context(), s)
	says(t, err, vmnetd.ErrBusy, fmt.Sprintf("process %d holds it", os.Getpid()), l.nodePath(dev.Ifindex))
	_ = set.Close()
	if err := l.SetUp(t.Context(), dev, true); err != nil {
		t.Fatal(err)
	}
	_, err = l.Ensure(t.Context(), s)
	says(t, err, vmnetd.ErrBusy, "it is up")
	if now := l.ns.Link(t, dev.Ifname); now.Index != dev.Ifindex || !now.Up {
		t.Errorf("the device was touched: %+v", now)
	}
	if err := l.SetUp(t.Context(), dev, false); err != nil {
		t.Fatal(err)
	}
	again := l.ensure(t, s)
	if again.Ifindex == dev.Ifindex {
		t.Error("the device kept an index whose node is another one's")
	}
	l.isNodeOf(t, again)
}

func TestNodeOfADeadDeviceOrOpenToOthersIsReplaced(t *testing.T) {
	l := newLab(t, nil)
	l.ownDev(t)
	dev := l.ensure(t, l.byName(1))
	other := newLab(t, nil)
	dead := other.ensure(t, other.spec(9, vmnetd.Bridge))
	if err := other.Remove(t.Context(), dead); err != nil {
		t.Fatal(err)
	}
	numberOfNone := unix.Mkdev(unix.Major(dev.Rdev), 1<<20-1)
	for what, plant := range map[string]func(){
		"of a number that no device has": func() { l.plant(t, dev.Ifindex, numberOfNone, 0o600) },
		"open to others": func() {
			l.plant(t, dev.Ifindex, dev.Rdev, 0o600)
			if err := os.Chmod(l.nodePath(dev.Ifindex), 0o666); err != nil {
				t.Fatal(err)
			}
		},
		"another user's": func() {
			l.plant(t, dev.Ifindex, dev.Rdev, 0o600)
			if err := os.Chown(l.nodePath(dev.Ifindex), 65534, 0); err != nil {
				t.Fatal(err)
			}
		},
	} {
		if err := os.Remove(l.nodePath(dev.Ifindex)); err != nil {
			t.Fatal(err)
		}
		plant()
		if now := l.ensure(t, l.byName(1)); now.Ifindex != dev.Ifindex {
			t.Errorf("a node %s cost the device its index", what)
		}
		l.isNodeOf(t, dev)
	}
}

func TestNodeGoesWithADeviceThatWentWithItsUplink(t *testing.T) {
	l := newLab(t, nil)
	l.ownDev(t)
	dev := l.ensure(t, l.byName(1))
	l.ns.Delete(t, "u0")
	if err := l.Remove(t.Context(), dev); err != nil {
		t.Fatal(err)
	}
	l.hasNoNode(t, dev.Ifindex)
}

func TestNodeWhoseNumberIsAnotherDevicesByNowGoesUnlessItIsThatDevices(t *testing.T) {
	l, other := newLab(t, nil), newLab(t, nil)
	l.ownDev(t)
	alive := other.ensure(t, other.spec(9, vmnetd.Bridge))
	gone := Device{VM: "gone", ID: "net0", Ifname: vmnetd.Ifname("gone", "net0"), Ifindex: alive.Ifindex + 1000, Rdev: alive.Rdev}
	l.plant(t, gone.Ifindex, alive.Rdev, 0o600)
	if err := l.Remove(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	l.hasNoNode(t, gone.Ifindex)
	gone.Ifindex = alive.Ifindex
	l.plant(t, gone.Ifindex, alive.Rdev, 0o600)
	if err := l.Remove(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	if !isNode(l.nodePath(gone.Ifindex), alive.Rdev) {
		t.Error("a living device's node is removed")
	}
}

func TestTriesForAnIndexEndWithASentence(t *testing.T) {
	l := newLab(t, nil)
	l.ownDev(t)
	other := newLab(t, nil)
	foreign := other.ensure(t, other.spec(9, vmnetd.Bridge))
	l.index = func() int { return 1 << 24 }
	l.plant(t, 1<<24, foreign.Rdev, 0o600)
	next := l.ensure(t, l.byName(1)).Ifindex + 1
	l.plant(t, next, foreign.Rdev, 0o600)
	_, err := l.Ensure(t.Context(), l.byName(2))
	says(t, err, vmnetd.ErrFailed, "no free device number")
	if left := l.devices(t); len(left) != 1 {
		t.Errorf("left %v", left)
	}
}

// TestNodeIsMadeWithThePrivilegesOfTheUnit runs in a process with no other
// privileges than the daemon's unit has.
func TestNodeIsMadeWithThePrivilegesOfTheUnit(t *testing.T) {
	if dir := os.Getenv("TAPDEV_TEST_NODE"); dir != "" {
		nodeHere(t, dir)
		return
	}
	l := newLab(t, nil)
	l.ownDev(t)
	script := "exec setpriv --bounding-set=-all,+net_admin,+net_raw,+mknod,+sys_ptrace,+dac_override /proc/self/fd/3 -test.run='^TestNodeIsMadeWithThePrivilegesOfTheUnit$'"
	cmd := l.ns.Command(t.Context(), "unshare", "-m", "sh", "-c", script)
	cmd.ExtraFiles = []*os.File{testBinary(t)}
	cmd.Env = append(os.Environ(), "TAPDEV_TEST_NODE="+l.dev)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "FAIL") {
		t.Errorf("%v: %s", err, out)
	}
}

func nodeHere(t *testing.T, dir string) {
	conn, err := rtnl.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	l := &lab{Host: New(conn, nil, nil)}
	defer l.Close()
	l.dev = dir
	if l.sysfs.fd >= 0 {
		t.Error("this process has more privileges than the unit")
	}
	if l.u0, err = conn.LinkByName(t.Context(), "u0"); err != nil {
		t.Fatal(err)
	}
	s := l.lonely()
	s.ByName = true
	dev := l.ensure(t, s)
	l.isNodeOf(t, dev)
	if err := l.Remove(t.Context(), dev); err != nil {
		t.Fatal(err)
	}
	l.hasNoNode(t, dev.Ifindex)
}
