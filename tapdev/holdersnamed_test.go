package tapdev

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// movedAway is a macvtap in another namespace, whose queue a child holds and nobody
// else. Its name is nobody else's on the machine: what is searched is not one
// namespace.
func movedAway(t *testing.T) (l *lab, dev Device, child int, end func()) {
	t.Helper()
	l = newLab(t, nil)
	room := testkit.NewNetns(t)
	s := l.spec(1, vmnetd.Bridge)
	s.VM = fmt.Sprint("vm-", os.Getpid(), "-", room.NS().ID())
	s.Ifname = vmnetd.Ifname(s.VM, s.ID)
	dev = l.ensure(t, s)
	set, err := l.Open(t.Context(), dev)
	if err != nil {
		t.Fatal(err)
	}
	cmd, stdin := holding(t, set.Queues[0])
	_ = set.Close()
	end = func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	ip(t, l.ns, "link", "set", dev.Ifname, "netns", fmt.Sprint("/proc/", os.Getpid(), "/fd/", room.NS().Fd()))
	if room.Link(t, dev.Ifname).Kind != "macvtap" {
		t.Fatal("it was not moved")
	}
	return l, dev, cmd.Process.Pid, end
}

// namedHeldBy is heldBy by a name.
func (l *lab) namedHeldBy(t testing.TB, ifname string, want ...int) {
	t.Helper()
	finds(t, func() ([]int, bool, error) { return l.HoldersNamed(context.Background(), ifname) }, want)
}

func TestHoldersOfADeviceThatWasMovedAreFoundByItsName(t *testing.T) {
	l, dev, child, end := movedAway(t)
	other := l.ensure(t, l.spec(2, vmnetd.Bridge))
	l.open(t, other)
	l.namedHeldBy(t, dev.Ifname, child)
	end()
	l.namedHeldBy(t, dev.Ifname)
}

func TestNobodyHoldsADeviceThatHasGoneAfterItWasMoved(t *testing.T) {
	l := newLab(t, nil)
	s := l.spec(1, vmnetd.Bridge)
	s.VM = fmt.Sprint("gone-", os.Getpid())
	s.Ifname = vmnetd.Ifname(s.VM, s.ID)
	dev := l.ensure(t, s)
	l.open(t, dev)
	l.ns.Delete(t, dev.Ifname)
	l.namedHeldBy(t, dev.Ifname)
}

func TestSearchThatMayNotCopyADescriptorSaysItIsNotComplete(t *testing.T) {
	l, dev, _, end := movedAway(t)
	defer end()
	type found struct {
		pids     []int
		complete bool
		err      error
	}
	got := make(chan found)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with what it may not do
		if err := refuse(unix.SYS_PIDFD_GETFD); err != nil {
			got <- found{err: err}
			return
		}
		pids, complete, err := l.HoldersNamed(t.Context(), dev.Ifname)
		got <- found{pids, complete, err}
	}()
	if f := <-got; f.err != nil || f.complete || len(f.pids) > 0 {
		t.Errorf("%+v", f)
	}
}

// refuse has a system call fail with EPERM in this thread (seccomp(2)).
func refuse(number uint32) error {
	code := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // struct seccomp_data, nr
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: number},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
	runtime.KeepAlive(code)
	return err
}
