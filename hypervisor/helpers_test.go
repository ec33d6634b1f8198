package hypervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/queuefd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestMain(m *testing.M) { testkit.LeakCheck(m) }

// longEnough is how long a test waits for what should come at once.
const longEnough = 20 * time.Second

// hastily are limits for tests that wait for them to run out.
var hastily = Limits{Greeting: 150 * time.Millisecond, Busy: 400 * time.Millisecond, Command: time.Second, Eject: 250 * time.Millisecond}

// newQMP is a QMP whose pattern is a directory of its own.
func newQMP(t *testing.T, limits Limits) (q *QMP, dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "vmnqmp") // not t.TempDir: QEMU's socket path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	log := slog.New(slog.NewTextHandler(testLog{t}, nil))
	return NewQMP(Options{Patterns: []string{dir + "/{vm}.sock"}, Limits: limits, Log: log}), dir
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func find(t *testing.T, q *QMP, name string) VM {
	t.Helper()
	vm, err := q.Find(t.Context(), name, "")
	if err != nil {
		t.Fatalf("Find(%s): %v", name, err)
	}
	return vm
}

// tap makes a tap device in a namespace of the test's own and opens its queues,
// as a NIC's Open does.
func tap(t *testing.T, queues int) func(context.Context) (*queuefd.Set, error) {
	t.Helper()
	testkit.Require(t, "netns")
	ns := testkit.NewNetns(t)
	return func(context.Context) (*queuefd.Set, error) {
		set := &queuefd.Set{}
		err := ns.Do(func() error {
			for range queues {
				fd, err := openTap(queues > 1)
				if err != nil {
					return err
				}
				set.Queues = append(set.Queues, fd)
			}
			return nil
		})
		if err != nil {
			_ = set.Close()
		}
		return set, err
	}
}

func openTap(multi bool) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	ifr, err := unix.NewIfreq("vmntest0")
	if err != nil {
		return -1, err
	}
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if multi {
		flags |= unix.IFF_MULTI_QUEUE
	}
	ifr.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func nic(t *testing.T, id string, queues int) NIC {
	t.Helper()
	return NIC{ID: id, MAC: net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}, MTU: 1400, Queues: queues, Open: tap(t, queues)}
}

// inside is what QEMU has of a NIC: the device, its netdevs.
func inside(t *testing.T, vm *testkit.QEMU, id string) (device bool, netdevs []string) {
	t.Helper()
	var text string
	if err := json.Unmarshal(vm.QMP("human-monitor-command", map[string]string{"command-line": "info network"}), &text); err != nil {
		t.Fatal(err)
	}
	var props []property
	if err := json.Unmarshal(vm.QMP("qom-list", map[string]string{"path": peripheral}), &props); err != nil {
		t.Fatal(err)
	}
	for _, p := range props {
		device = device || p.Name == deviceID(id)
	}
	return device, parseNetdevs(text, id)
}

// tapsOf counts the tap queues that a process holds.
func tapsOf(pid int) int {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	n := 0
	for _, l := range links {
		if target, err := os.Readlink(l); err == nil && target == "/dev/net/tun" {
			n++
		}
	}
	return n
}

// clean fails the test unless QEMU holds nothing of the NIC: no device, no
// netdev, no fd, named or not.
func clean(t *testing.T, vm *testkit.QEMU, id string) {
	t.Helper()
	device, netdevs := inside(t, vm, id)
	if device || len(netdevs) > 0 {
		t.Errorf("QEMU still has NIC %s: device %v, netdevs %v", id, device, netdevs)
	}
	if n := tapsOf(vm.PID); n != 0 {
		t.Errorf("QEMU still holds %d queues", n)
	}
}

// at has f run when a step is reached, and its error fail the step.
func (q *QMP) at(p failpoint.Point, f func() error) {
	q.hit = func(now failpoint.Point) error {
		if now == p {
			return f()
		}
		return nil
	}
}

var errProvoked = errors.New("provoked by the test")

func within(t *testing.T, limit time.Duration, what string, f func()) {
	t.Helper()
	start := time.Now()
	f()
	if took := time.Since(start); took > limit {
		t.Errorf("%s took %v, want at most %v", what, took, limit)
	}
}

// soonest fails the test when f takes longer than the limit three times: once the
// machine may be at something else. f says how long it took.
func soonest(t *testing.T, limit time.Duration, what string, f func() time.Duration) {
	t.Helper()
	var took []time.Duration
	for range 3 {
		last := f()
		if last <= limit {
			return
		}
		took = append(took, last)
	}
	t.Errorf("%s took %v, want at most %v", what, took, limit)
}

func dup(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3) }

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
