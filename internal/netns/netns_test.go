package netns_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/netns"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestMain(m *testing.M) { testkit.LeakCheck(m) }

func make1(t *testing.T) *netns.NS {
	t.Helper()
	testkit.Require(t, "netns")
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return ns
}

func current(t *testing.T) *netns.NS {
	t.Helper()
	ns, err := netns.Current()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return ns
}

func TestDoRunsInTheNamespaceAndComesBack(t *testing.T) {
	home, ns := current(t), make1(t)
	err := ns.Do(func() error {
		if !current(t).Same(ns) {
			t.Error("ran somewhere else")
		}
		// Already there: no change of namespace, and the same answer.
		return ns.Do(func() error {
			if !current(t).Same(ns) {
				t.Error("the inner one ran somewhere else")
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if !current(t).Same(home) {
		t.Error("the thread did not come back")
	}
}

func TestManyAtOnceEachRunInTheirOwn(t *testing.T) {
	a, b := make1(t), make1(t)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			want := a
			if i%2 == 1 {
				want = b
			}
			err := want.Do(func() error {
				here, err := netns.Current()
				if err != nil {
					return err
				}
				defer here.Close()
				if !here.Same(want) {
					return errors.New("ran in another namespace")
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestErrorAndPanicReachTheCaller(t *testing.T) {
	home, ns := current(t), make1(t)
	want := errors.New("mine")
	if err := ns.Do(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
	defer func() {
		if recover() != "mine" {
			t.Error("the panic did not arrive")
		}
		if !current(t).Same(home) {
			t.Error("the thread did not come back after a panic")
		}
	}()
	_ = ns.Do(func() error { panic("mine") })
}

func TestGoexitEndsTheCallerAsWell(t *testing.T) {
	ns := make1(t)
	reached, ended := false, make(chan struct{})
	go func() {
		defer close(ended)
		_ = ns.Do(func() error { runtime.Goexit(); return nil })
		reached = true
	}()
	<-ended
	if reached {
		t.Error("the caller went on after a Goexit in f")
	}
}

func TestPathOpensTheSameNamespace(t *testing.T) {
	ns := make1(t)
	again, err := netns.Open(ns.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if !again.Same(ns) {
		t.Error("another namespace")
	}
}

func TestOpenRefusesWhatIsNoNetworkNamespace(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo") // opening one waits for a writer
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/proc/self/ns/mnt", "/dev/null", os.TempDir(), fifo, "/nowhere"} {
		if ns, err := netns.Open(path); err == nil {
			_ = ns.Close()
			t.Errorf("%s was taken", path)
		}
	}
}

func TestADescriptorStandsForItsNamespaceAndIsTakenOver(t *testing.T) {
	ns := make1(t)
	fd, err := unix.FcntlInt(uintptr(ns.Fd()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	again, err := netns.FromFD(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if !again.Same(ns) || again.ID() != ns.ID() || ns.ID() == current(t).ID() {
		t.Errorf("%s is not %s, or the one that we are in", again.ID(), ns.ID())
	}
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := netns.FromFD(null); err == nil {
		t.Error("/dev/null was taken")
	}
}

func TestADescriptorIsOpenAsLongAsItIsKept(t *testing.T) {
	ns := make1(t)
	fd := ns.Fd()
	open := func() bool {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		return err == nil
	}
	var leaves []func() error
	for range 2 {
		leave, err := ns.Keep()
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, leave)
	}
	if err := errors.Join(ns.Close(), ns.Close(), leaves[0]()); err != nil || !open() || ns.Fd() != -1 {
		t.Errorf("closed while it is kept: %v, open %v, Fd %d", err, open(), ns.Fd())
	}
	if _, err := ns.Keep(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("kept after it was closed: %v", err)
	}
	if err := leaves[1](); err != nil || open() {
		t.Errorf("left by all: %v, open %v", err, open())
	}
}
