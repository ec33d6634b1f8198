package tapdev

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/queuefd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestMain(m *testing.M) { testkit.LeakCheck(m) }

// lab is a host with one uplink, u0, whose other end is outside.
type lab struct {
	*Host
	ns, out *testkit.Netns
	u0      rtnl.Link
}

func newLab(t testing.TB, fail failpoint.Set, opts ...Option) *lab {
	t.Helper()
	testkit.Require(t, "netns")
	l := &lab{ns: testkit.NewNetns(t), out: testkit.NewNetns(t)}
	testkit.NewVeth(t, l.ns, "u0", l.out, "far0")
	l.u0 = l.ns.Link(t, "u0")
	l.Host = New(l.ns.Conn(), nil, fail, opts...)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// watched is a lab whose Host has a mirror of the links.
func watched(t *testing.T) (*lab, *rtnl.Watch) {
	t.Helper()
	l := newLab(t, nil)
	var w *rtnl.Watch
	err := l.ns.Do(func() error {
		var err error
		w, err = rtnl.OpenWatch()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	l.links = w
	return l, w
}

func mac(n int) net.HardwareAddr { return net.HardwareAddr{0x52, 0x54, 0, 0, byte(n >> 8), byte(n)} }

// spec is NIC net0 of VM "vm<n>".
func (l *lab) spec(n int, mode vmnetd.Mode) Spec {
	vm := fmt.Sprintf("vm%d", n)
	return Spec{VM: vm, ID: "net0", Ifname: vmnetd.Ifname(vm, "net0"), Lower: l.u0.Index, Mode: mode, MAC: mac(n), Queues: 1}
}

func (l *lab) ensure(t testing.TB, s Spec) Device {
	t.Helper()
	dev, err := l.Ensure(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	return dev
}

func (l *lab) open(t testing.TB, dev Device) *queuefd.Set {
	t.Helper()
	set, err := l.Open(context.Background(), dev)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = set.Close() })
	return set
}

// heldBy waits until these processes, and no others, are found to hold a device.
func (l *lab) heldBy(t testing.TB, dev Device, want ...int) {
	t.Helper()
	finds(t, func() ([]int, bool, error) { return l.Holders(context.Background(), dev) }, want)
}

// finds waits until a complete search finds these processes and no others: another
// process that searches, too, holds copies of descriptors for a moment.
func finds(t testing.TB, search func() (pids []int, complete bool, err error), want []int) {
	t.Helper()
	slices.Sort(want)
	for deadline := time.Now().Add(testkit.Patience); ; time.Sleep(time.Millisecond) {
		pids, complete, err := search()
		slices.Sort(pids)
		if err == nil && complete && slices.Equal(pids, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("held by %v, complete: %v, %v; want %v", pids, complete, err, want)
			return
		}
	}
}

// guest is a device that is up and whose first queue the test holds.
func (l *lab) guest(t testing.TB, s Spec) (*testkit.Wire, Device) {
	t.Helper()
	dev := l.ensure(t, s)
	set := l.open(t, dev)
	if err := l.SetUp(context.Background(), dev, true); err != nil {
		t.Fatal(err)
	}
	l.ns.WaitRunning(t, dev.Ifname)
	return testkit.TapWire(set.Queues[0], 10), dev
}

// devices is the names of all macvtaps there are.
func (l *lab) devices(t testing.TB) []string {
	t.Helper()
	links, err := l.conn.Links(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range links {
		if l.Kind == "macvtap" {
			names = append(names, l.Name)
		}
	}
	return names
}

func ip(t testing.TB, n *testkit.Netns, args ...string) {
	t.Helper()
	if out, err := n.Command(context.Background(), "ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

func parse(t testing.TB, text string) failpoint.Set {
	t.Helper()
	set, err := failpoint.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// ownDev gives the Host a folder of its own on devtmpfs in the place of /dev:
// empty, so that no shared node is ever found.
func (l *lab) ownDev(t testing.TB) {
	t.Helper()
	dir, err := os.MkdirTemp("/dev", ".vmnetd-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l.dev = dir
}

// noFolderLeft makes sure that no private folder stays in a Host's own dev.
func noFolderLeft(t testing.TB, dev string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dev, ".vmnetd-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left in %s: %v, %v", dev, left, err)
	}
}

// says checks an error's class and what its sentence must contain.
func says(t testing.TB, err, class error, parts ...string) {
	t.Helper()
	if vmnetd.ClassOf(err).Err != class || err == nil {
		t.Errorf("class %v of %v, want %v", vmnetd.ClassOf(err).Err, err, class)
		return
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%q does not say %q", err, p)
		}
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}
