package rtnl_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/netns"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// watchNSIDs runs a watch in n until the test ends.
func watchNSIDs(t *testing.T, n *testkit.Netns) <-chan int {
	t.Helper()
	w, err := n.Conn().WatchNSIDs()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	gone, ended := make(chan int, 100), make(chan error, 1)
	go func() { ended <- w.Run(ctx, func(id int) { gone <- id }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
	return gone
}

func TestTheEndOfANamespaceIsToldByItsNumberWhichDoesNotHoldIt(t *testing.T) {
	n := newNetns(t)
	gone := watchNSIDs(t, n)
	other, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if id, ok, err := n.Conn().NSID(t.Context(), other.Fd()); ok || err != nil {
		t.Errorf("a namespace that nobody numbered has %d, %v", id, err)
	}
	id, err := n.Conn().EnsureNSID(t.Context(), other.Fd())
	if err != nil || id < 1<<16 {
		t.Fatalf("drawn: %d, %v", id, err)
	}
	for range 2 {
		if again, err := n.Conn().EnsureNSID(t.Context(), other.Fd()); err != nil || again != id {
			t.Errorf("once more: %d, %v, want %d", again, err, id)
		}
	}
	if asked, ok, err := n.Conn().NSID(t.Context(), other.Fd()); err != nil || !ok || asked != id {
		t.Errorf("asked: %d, %v, %v, want %d", asked, ok, err, id)
	}
	select {
	case got := <-gone:
		t.Errorf("%d has gone before it has", got)
	default:
	}
	_ = other.Close()
	select {
	case got := <-gone:
		if got != id {
			t.Errorf("%d has gone, want %d", got, id)
		}
	case <-time.After(testkit.Patience):
		t.Fatal("its end is not told")
	}
}

// A veth between both has the kernel number them, from 0.
func TestANumberThatTheKernelGaveStays(t *testing.T) {
	n, other := newNetns(t), newNetns(t)
	testkit.NewVeth(t, n, "v0", other, "v1")
	if id, err := n.Conn().EnsureNSID(t.Context(), other.NS().Fd()); err != nil || id != 0 {
		t.Errorf("%d, %v", id, err)
	}
}

func TestWhatIsNoNamespaceHasNoNumber(t *testing.T) {
	n := newNetns(t)
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if id, err := n.Conn().EnsureNSID(t.Context(), fd); err == nil || errors.Is(err, rtnl.ErrDumpInterrupted) {
		t.Errorf("%d, %v", id, err)
	}
}
