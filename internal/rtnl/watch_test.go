package rtnl_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// watch opens a Watch in n; run starts it and ends it with the test.
func watch(t *testing.T, n *testkit.Netns, opts ...rtnl.WatchOption) (w *rtnl.Watch, run func()) {
	t.Helper()
	err := n.Do(func() error {
		var err error
		w, err = rtnl.OpenWatch(opts...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w, func() {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run ended with %v", err)
			}
		})
	}
}

func names(links []rtnl.Link) []string {
	var names []string
	for _, l := range links {
		names = append(names, l.Name)
	}
	slices.Sort(names)
	return names
}

func TestMirrorFollowsTheKernel(t *testing.T) {
	n, out := newNetns(t), newNetns(t)
	testkit.NewVeth(t, n, "u0", out, "far0")
	u0 := n.Link(t, "u0")
	w, run := watch(t, n)
	run()
	select {
	case <-w.Ready():
	case <-time.After(testkit.Patience):
		t.Fatal("never ready")
	}
	if l, ok := w.ByName("u0"); !ok || l.Index != u0.Index {
		t.Fatalf("u0 after the first sync: %+v, %v", l, ok)
	}
	tap := n.Create(t, rtnl.NewLink{Name: "m0", Kind: "macvtap", Lower: u0.Index, Data: rtnl.MacvlanMode("bridge")})
	eventually(t, "m0 stands on u0", func() bool { return slices.Equal(names(w.On(u0.Index)), []string{"m0"}) })

	n.Set(t, "m0", rtnl.Name("m1"))
	eventually(t, "the new name is known and the old one is not", func() bool {
		_, old := w.ByName("m0")
		l, ok := w.ByName("m1")
		return !old && ok && l.Index == tap.Index
	})
	// The old name is taken by another link before m1 goes: m1's end must not
	// take the name away from it.
	n.Create(t, rtnl.NewLink{Name: "m0", Kind: "bridge"})
	n.Delete(t, "m1")
	eventually(t, "m1 is gone and m0 is the bridge", func() bool {
		_, gone := w.ByIndex(tap.Index)
		l, ok := w.ByName("m0")
		return !gone && ok && l.Kind == "bridge" && len(w.On(u0.Index)) == 0
	})
}

func TestPortLeavingABridgeIsNotTakenForADeletedLink(t *testing.T) {
	n, out := newNetns(t), newNetns(t)
	testkit.NewVeth(t, n, "u0", out, "far0")
	br := n.Create(t, rtnl.NewLink{Name: "br0", Kind: "bridge"})
	w, run := watch(t, n)
	run()
	n.Set(t, "u0", rtnl.Master(br.Index))
	eventually(t, "u0 is a port", func() bool { l, _ := w.ByName("u0"); return l.Master == br.Index })
	n.Set(t, "u0", rtnl.Master(0))
	n.Create(t, rtnl.NewLink{Name: "after", Kind: "bridge"}) // its news come after all of u0's
	eventually(t, "the mirror is past the change", func() bool { _, ok := w.ByName("after"); return ok })
	if l, ok := w.ByName("u0"); !ok || l.Master != 0 {
		t.Errorf("u0 is shown as %+v, %v", l, ok)
	}
}

func TestAddressesAreToldWhenTheyComeAndGoAndNotWhenTheyAreProlonged(t *testing.T) {
	n, out := newNetns(t), newNetns(t)
	testkit.NewVeth(t, n, "u0", out, "far0")
	w, run := watch(t, n, rtnl.WithAddrs())
	heard := make(chan string, 100)
	w.OnAddr(func(index int, a rtnl.Addr) { heard <- fmt.Sprint(index, " ", a.Prefix, " ", a.NoPrefix) })
	run()
	u0 := n.Link(t, "u0").Index
	ip := func(args ...string) {
		t.Helper()
		if out, err := n.Command(t.Context(), "ip", append([]string{"address"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	// Nothing but what is wanted may come: what is between is not told.
	told := func(want string) {
		t.Helper()
		select {
		case got := <-heard:
			if want := fmt.Sprint(u0, " ", want); got != want {
				t.Fatalf("told %s, want %s", got, want)
			}
		case <-time.After(testkit.Patience):
			t.Fatalf("not told of %s", want)
		}
	}
	for _, a := range []string{"192.0.2.5/24", "2001:db8::5/64"} {
		ip("add", a, "dev", "u0", "nodad", "valid_lft", "1000", "preferred_lft", "1000")
		told(a + " false")
		ip("change", a, "dev", "u0", "nodad", "valid_lft", "2000", "preferred_lft", "2000")
		ip("add", "fe80::77/64", "dev", "u0", "nodad")
		ip("del", "fe80::77/64", "dev", "u0")
		ip("del", a, "dev", "u0")
		told(a + " false")
		ip("add", a, "dev", "u0", "nodad", "noprefixroute")
		told(a + " true")
		ip("del", a, "dev", "u0")
		told(a + " true")
	}
}

func TestLostMessagesEndInAFullResync(t *testing.T) {
	n := newNetns(t)
	n.Create(t, rtnl.NewLink{Name: "early", Kind: "bridge"})
	w, run := watch(t, n, rtnl.WithBuffer(1))
	resynced := make(chan struct{}, 100)
	w.OnChange(func(index int) {
		if index == 0 {
			resynced <- struct{}{}
		}
	})
	if err := w.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-resynced
	// Nobody reads yet: the buffer overruns for certain.
	for i := range 100 {
		n.Create(t, rtnl.NewLink{Name: fmt.Sprintf("flood%d", i), Kind: "bridge"})
	}
	n.Delete(t, "early")
	run()
	select {
	case <-resynced:
	case <-time.After(testkit.Patience):
		t.Fatal("no resync")
	}
	if w.Overruns() == 0 {
		t.Error("the overrun was not counted")
	}
	if got := len(w.All()); got != 101 { // lo and the flood
		t.Errorf("%d links after the resync, want 101", got)
	}
	if _, ok := w.ByName("early"); ok {
		t.Error("a link whose end was lost is still shown")
	}
}

func TestBufferHoldsAThousandNewLinks(t *testing.T) {
	n, out := newNetns(t), newNetns(t)
	testkit.NewVeth(t, n, "u0", out, "far0")
	u0 := n.Link(t, "u0")
	w, run := watch(t, n)
	for i := range 1000 {
		n.Create(t, rtnl.NewLink{Name: fmt.Sprintf("l%d", i), Kind: "macvtap", Lower: u0.Index, Group: 9})
	}
	run()
	eventually(t, "all are in the mirror", func() bool { return len(w.On(u0.Index)) == 1000 })
	if w.Overruns() != 0 {
		t.Errorf("%d overruns", w.Overruns())
	}
	if err := n.Conn().DeleteGroup(t.Context(), 9); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are gone from the mirror", func() bool { return len(w.On(u0.Index)) == 0 })
}

func TestRunEndsWithItsContextWithoutNews(t *testing.T) {
	w, _ := watch(t, newNetns(t))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	<-w.Ready()
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(testkit.Patience):
		t.Fatal("still runs")
	}
}
