package tapdev

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/queuefd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestQueuesAreTheDevicesOwnAndAllAlike(t *testing.T) {
	for _, queues := range []int{1, 2, 4, 8} {
		l := newLab(t, nil)
		s := l.spec(1, vmnetd.Bridge)
		s.Queues = queues
		dev := l.ensure(t, s)
		set := l.open(t, dev)
		if len(set.Queues) != queues {
			t.Fatalf("%d queues, want %d", len(set.Queues), queues)
		}
		want := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		if queues > 1 {
			want |= unix.IFF_MULTI_QUEUE
		}
		for i, fd := range set.Queues {
			ifr, _ := unix.NewIfreq("")
			if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, ifr); err != nil {
				t.Fatal(err)
			}
			if ifr.Name() != dev.Ifname || ifr.Uint16() != want {
				t.Errorf("queue %d: %s %#x, want %s %#x", i, ifr.Name(), ifr.Uint16(), dev.Ifname, want)
			}
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("queue %d would be inherited: %v", i, err)
			}
		}
	}
}

func TestDeviceTakes256QueuesAndNamesTheLimit(t *testing.T) {
	l := newLab(t, nil)
	s := l.spec(1, vmnetd.Bridge)
	s.Queues = MaxQueues
	dev := l.ensure(t, s)
	l.open(t, dev)
	before := testkit.OpenFDs()
	_, err := l.Open(t.Context(), dev)
	says(t, err, vmnetd.ErrBusy, "256", "vm1/net0")
	if after := testkit.OpenFDs(); len(after) != len(before) {
		t.Errorf("%d descriptors, were %d", len(after), len(before))
	}
}

// collide makes a device with the same ifindex in two namespaces. The second
// one's /dev/tapN, if there is any, is the first one's.
func collide(t *testing.T) (first, second *lab, a, b Device) {
	t.Helper()
	index := 1<<20 + rand.IntN(1<<30) // another one than a copy of this test has
	first, second = newLab(t, nil), newLab(t, nil)
	for i, l := range []*lab{first, second} {
		m := macvtap(l.spec(1, vmnetd.Bridge))
		m.Index = index
		l.ns.Create(t, m)
		ip(t, l.ns, "link", "set", m.Name, "alias", vmnetd.Alias("vm1", "net0"))
		dev, err := l.Find(t.Context(), m.Name)
		if err != nil {
			t.Fatalf("device %d: %v", i, err)
		}
		if i == 0 {
			a = dev
		} else {
			b = dev
		}
	}
	return first, second, a, b
}

// TestSameIndexNameAndMACInTwoNamespacesAreToldApart provokes the collision in
// /dev: both devices agree in everything but their number.
func TestSameIndexNameAndMACInTwoNamespacesAreToldApart(t *testing.T) {
	first, second, a, b := collide(t)
	if a.Ifindex != b.Ifindex || a.Ifname != b.Ifname || a.MAC.String() != b.MAC.String() || a.Rdev == b.Rdev {
		t.Fatalf("no collision: %+v and %+v", a, b)
	}
	for i, c := range []struct {
		l   *lab
		dev Device
	}{{first, a}, {second, b}} {
		set := c.l.open(t, c.dev)
		if err := c.l.SetUp(t.Context(), c.dev, true); err != nil {
			t.Fatal(err)
		}
		far, text := c.l.out.OpenWire(t, "far0"), fmt.Sprintf("from device %d", i)
		testkit.TapWire(set.Queues[0], 10).Send(t, testkit.Frame{Dst: testkit.Broadcast, Src: c.dev.MAC, Text: text})
		if _, heard := far.Hear(t, text, testkit.Patience); !heard {
			t.Errorf("the queue of device %d is another device's", i)
		}
	}
}

func TestForeignNodeIsNeverOpened(t *testing.T) {
	first, second, a, b := collide(t)
	// The shared node is one of the two's; whose was it?
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/dev/tap%d", a.Ifindex), &st); err != nil {
		t.Fatal(err)
	}
	victim, opener, dev := first, second, b
	if st.Rdev == b.Rdev {
		victim, opener, dev = second, first, a
	}
	// The victim's device has all its queues but one: a stranger would take it.
	n, err := victim.openNode(a.Ifindex, st.Rdev)
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	set := &queuefd.Set{}
	defer set.Close()
	for range MaxQueues - 1 {
		fd, err := n.open()
		if err != nil {
			t.Fatal(err)
		}
		set.Queues = append(set.Queues, fd)
	}
	opener.open(t, dev)
	fd, err := n.open()
	if err != nil {
		t.Fatalf("the victim's last queue is taken: %v", err)
	}
	set.Queues = append(set.Queues, fd)
}

func TestOpensWithoutTheSharedNodeAndLeavesNone(t *testing.T) {
	l := newLab(t, nil)
	l.ownDev(t)
	l.open(t, l.ensure(t, l.spec(1, vmnetd.Bridge)))
	noFolderLeft(t, l.dev)
}

// lonely is a device whose name no other namespace has, nor a copy of this
// test: /sys/dev/char shows all of them.
func (l *lab) lonely() Spec {
	s := l.spec(1, vmnetd.Bridge)
	s.VM = fmt.Sprintf("vm-%d-%d", os.Getpid(), rand.Int())
	s.Ifname = vmnetd.Ifname(s.VM, s.ID)
	return s
}

func TestFoundWithoutPrivilegeToMountSysfs(t *testing.T) {
	l := newLab(t, nil)
	dev := l.ensure(t, l.lonely())
	link := l.ns.Link(t, dev.Ifname)
	text, err := findCharDev(link)
	if err != nil {
		t.Fatal(err)
	}
	if rdev, err := parseRdev(text); err != nil || rdev != dev.Rdev {
		t.Errorf("found %s, want %x: %v", text, dev.Rdev, err)
	}
	if err := l.Close(); err != nil { // from here on without
		t.Fatal(err)
	}
	l.open(t, dev)
	first, _, a, _ := collide(t)
	if _, err := findCharDev(first.ns.Link(t, a.Ifname)); err == nil {
		t.Error("guessed between two devices")
	}
}

// TestEveryWayIntoANamespaceOpensTheRightDevice runs Open in a process whose
// /sys is the one of another namespace, in one whose /sys is right, and in one
// with no other privileges than the daemon's unit has; /run and /tmp are nodev
// there, as systemd mounts them.
func TestEveryWayIntoANamespaceOpensTheRightDevice(t *testing.T) {
	if name := os.Getenv("TAPDEV_TEST_OPEN"); name != "" {
		openHere(t, name)
		return
	}
	nodev := "mount -t tmpfs -o nodev none /run && mount -t tmpfs -o nodev none /tmp && cd / && "
	for way, prepare := range map[string]string{
		"as nsenter and unshare": nodev + "exec ",
		"as ip netns exec":       nodev + "mount -t sysfs none /sys && exec ",
		"as the daemon's unit":   nodev + "exec setpriv --bounding-set=-all,+net_admin,+net_raw,+mknod ",
	} {
		t.Run(way, func(t *testing.T) {
			l := newLab(t, nil)
			dev := l.ensure(t, l.lonely())
			binary := testBinary(t) // /tmp, where it lies, is about to be covered
			script := prepare + "/proc/self/fd/3 -test.run='^TestEveryWayIntoANamespaceOpensTheRightDevice$'"
			cmd := l.ns.Command(t.Context(), "unshare", "-m", "sh", "-c", script)
			cmd.ExtraFiles = []*os.File{binary}
			cmd.Env = append(os.Environ(), "TAPDEV_TEST_OPEN="+dev.Ifname)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

func openHere(t *testing.T, ifname string) {
	for _, dir := range []string{"/run", "/tmp"} {
		node := filepath.Join(dir, "node")
		if err := unix.Mknod(node, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
			t.Fatal(err)
		}
		if fd, err := unix.Open(node, unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
			_ = unix.Close(fd)
			t.Fatalf("%s is not mounted nodev", dir)
		}
	}
	conn, err := rtnl.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	h := New(conn, nil, nil)
	defer h.Close()
	dev, err := h.Find(t.Context(), ifname)
	if err != nil {
		t.Fatal(err)
	}
	for _, without := range []bool{false, true} { // with /dev/tapN, and without
		if without {
			l := &lab{Host: h}
			l.ownDev(t)
		}
		set, err := h.Open(t.Context(), dev)
		if err != nil {
			t.Fatal(err)
		}
		if err := set.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestThousandFailedAttachesLeaveNoDescriptor(t *testing.T) {
	l := newLab(t, nil)
	dev := l.ensure(t, l.spec(1, vmnetd.Bridge))
	lost := dev
	lost.Ifindex = 4711
	l.ownDev(t)
	shared := l.dev
	l.open(t, dev) // warm: sockets are open
	before := len(testkit.OpenFDs())
	for i := range 1000 {
		var err error
		switch i % 4 {
		case 0: // no such device
			_, err = l.Open(t.Context(), lost)
		case 1: // no folder for a node
			l.dev = filepath.Join(shared, "nowhere")
			_, err = l.Open(t.Context(), dev)
			l.dev = shared
		case 2: // the number belongs to no device: the node opens nothing
			err = l.openQueues(&queuefd.Set{}, l.ns.Link(t, dev.Ifname), unix.Mkdev(4000, 1))
		case 3: // the node is another device's
			bad := &queuefd.Set{}
			err = l.openQueues(bad, l.ns.Link(t, dev.Ifname), unix.Mkdev(1, 3))
			err = errors.Join(err, bad.Close())
		}
		if err == nil {
			t.Fatalf("attempt %d went well", i)
		}
	}
	if after := len(testkit.OpenFDs()); after != before {
		t.Errorf("%d descriptors, were %d", after, before)
	}
	noFolderLeft(t, l.dev)
}

func TestDeviceThatWentWhileItsQueuesWereOpenedIsNotHandedOut(t *testing.T) {
	l := newLab(t, nil)
	dev := l.ensure(t, l.spec(1, vmnetd.Bridge))
	link := l.ns.Link(t, dev.Ifname)
	set := &queuefd.Set{}
	defer set.Close()
	if err := l.openQueues(set, link, dev.Rdev); err != nil {
		t.Fatal(err)
	}
	l.ns.Delete(t, dev.Ifname)
	says(t, l.stillThere(t.Context(), dev, dev.Rdev), vmnetd.ErrNotFound, "gone")
	// The queue of the dead device reads and writes as if nothing were.
	if err := checkQueue(set.Queues[0], link); err == nil {
		t.Error("the queue of a deleted device passes the check")
	}
	m := macvtap(l.spec(1, vmnetd.Bridge)) // the next device has its index and name
	m.Index = dev.Ifindex
	l.ns.Create(t, m)
	ip(t, l.ns, "link", "set", m.Name, "alias", vmnetd.Alias("vm1", "net0"))
	if again, err := l.Find(t.Context(), dev.Ifname); err != nil {
		t.Fatal(err)
	} else if again.Rdev != dev.Rdev {
		says(t, l.stillThere(t.Context(), dev, dev.Rdev), vmnetd.ErrFailed, "replaced")
	}
	if err := checkQueue(set.Queues[0], link); err == nil {
		t.Error("the same name and index revive a dead queue")
	}
}

// TestVHostIsOpenedOncePerQueueOrSaysWhyNot has the null device stand for
// vhost-net: the descriptors are counted, not used.
func TestVHostIsOpenedOncePerQueueOrSaysWhyNot(t *testing.T) {
	l := newLab(t, nil, WithVHost("/dev/null"))
	s := l.spec(1, vmnetd.Bridge)
	s.Queues = 3
	dev := l.ensure(t, s)
	if set := l.open(t, dev); len(set.VHost) != 3 || set.VHostReason != "" {
		t.Errorf("with vhost: %+v", set)
	}
	if ok, reason := l.VHost(); !ok || reason != "" {
		t.Errorf("with vhost: %v %q", ok, reason)
	}
	l.vhost = "/dev/vmnetd-has-no-such-device"
	if set := l.open(t, dev); len(set.VHost) != 0 || set.VHostReason == "" || len(set.Queues) != 3 {
		t.Errorf("without vhost: %+v", set)
	}
	if ok, reason := l.VHost(); ok || reason == "" {
		t.Errorf("without vhost: %v %q", ok, reason)
	}
}

func TestHoldersAreFoundWhateverTheNodeWasNamed(t *testing.T) {
	l := newLab(t, nil)
	l.ownDev(t)
	dev := l.ensure(t, l.spec(1, vmnetd.Bridge))
	l.heldBy(t, dev)
	cmd, stdin := holding(t, l.open(t, dev).Queues[0])
	l.heldBy(t, dev, os.Getpid(), cmd.Process.Pid)
	_ = stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	l.ns.Delete(t, dev.Ifname)
	l.heldBy(t, dev)
}

func TestWhoHoldsADeviceThatHasGoneDoesNotHoldTheNextOneOfItsNumber(t *testing.T) {
	l := newLab(t, nil)
	var dev Device
	for tries := 0; ; tries++ { // somebody else's device may take the number that comes free
		gone := l.ensure(t, l.spec(1, vmnetd.Bridge))
		set := l.open(t, gone)
		cmd, stdin := holding(t, set.Queues[0])
		_ = set.Close()
		t.Cleanup(func() { _, _ = stdin.Close(), cmd.Wait() })
		l.ns.Delete(t, gone.Ifname)
		dev = l.ensure(t, l.spec(1, vmnetd.Bridge))
		if dev.Rdev == gone.Rdev {
			break
		}
		if l.ns.Delete(t, dev.Ifname); tries == 20 {
			t.Fatal("no device got the number of the one before it")
		}
	}
	l.heldBy(t, dev) // the child holds what has gone
	l.open(t, dev)
	l.heldBy(t, dev, os.Getpid())
}

func TestAProcessIsWaitedForThatIsAboutToRunAnotherProgram(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	pid, settle := testkit.Leaderless(t, null)
	m := func(_, fd int, _ uint64) (bool, bool) { return fd == 3, true }
	if holds, searched, shown, _ := look(pid, m); holds || !searched || shown != 0 {
		t.Errorf("%d of its descriptors are shown: %v, %v", shown, holds, searched)
	}
	begins, found := make(chan struct{}), make(chan bool)
	go func() {
		close(begins)
		holds, searched := holdsDevice(pid, testkit.Patience, m)
		found <- holds && searched
	}()
	<-begins
	settle()
	if !<-found {
		t.Error("it was not found")
	}
}

func TestSearchThatMayNotLookIntoAProcessSaysItIsNotComplete(t *testing.T) {
	if path := os.Getenv("TAPDEV_TEST_HOLDERS"); path != "" {
		searchWithoutPrivilege(t, path)
		return
	}
	l := newLab(t, nil)
	dev := l.ensure(t, l.spec(1, vmnetd.Bridge))
	if k := kernelThread(t); !neverHolds(k) || !neverHolds(1) || neverHolds(os.Getpid()) {
		t.Errorf("kernel thread %d, init or this process is taken for something else", k)
	}
	binary := testBinary(t) // by descriptor: nobody may not look into the folder it lies in
	script := "exec setpriv --bounding-set -sys_ptrace --inh-caps -sys_ptrace --reuid 65534 --clear-groups -- /proc/self/fd/3 -test.run='^TestSearchThatMayNotLookIntoAProcessSaysItIsNotComplete$'"
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{binary}
	cmd.Env = append(os.Environ(), "TAPDEV_TEST_HOLDERS="+fmt.Sprint(dev.Rdev))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func searchWithoutPrivilege(t *testing.T, rdev string) {
	var number uint64
	if _, err := fmt.Sscan(rdev, &number); err != nil {
		t.Fatal(err)
	}
	m := func(_, _ int, rdev uint64) (bool, bool) { return rdev == number, true }
	if _, searched := holdsDevice(1, 0, m); searched {
		t.Error("claims to have searched a process of root's")
	}
	if _, searched := holdsDevice(os.Getpid(), 0, m); !searched {
		t.Error("could not search its own process")
	}
	if _, searched := holdsDevice(1<<30, 0, m); !searched {
		t.Error("a process that has ended counts as not searched")
	}
}

// kernelThread is kthreadd, the child of nobody that is not init; it is not
// visible in a pid namespace.
func kernelThread(t *testing.T) int {
	t.Helper()
	if comm, err := os.ReadFile("/proc/2/comm"); err == nil && string(comm) == "kthreadd\n" {
		return 2
	}
	return 1
}

// testBinary is this program, open.
func testBinary(t *testing.T) *os.File {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}
