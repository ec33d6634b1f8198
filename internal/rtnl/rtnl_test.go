package rtnl_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestMain(m *testing.M) { testkit.LeakCheck(m) }

func newNetns(t *testing.T) *testkit.Netns {
	t.Helper()
	testkit.Require(t, "netns")
	return testkit.NewNetns(t)
}

func ip(t *testing.T, n *testkit.Netns, args ...string) {
	t.Helper()
	if out, err := n.Command(t.Context(), "ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

func TestLinkShowsWhatIPLinkShows(t *testing.T) {
	n, out := newNetns(t), newNetns(t)
	testkit.NewVeth(t, n, "u0", out, "far0")
	mac, _ := net.ParseMAC("52:54:00:00:00:01")
	made := n.Create(t, rtnl.NewLink{
		Name: "m0", Kind: "macvtap", Lower: n.Link(t, "u0").Index, MAC: mac, MTU: 1400, Queues: 3, Group: 77,
		Data: rtnl.MacvlanMode("vepa"),
	})
	want := rtnl.Link{
		Index: made.Index, Name: "m0", Kind: "macvtap", Lower: n.Link(t, "u0").Index, LowerHere: true,
		MAC: mac, MTU: 1400, Queues: 3, Group: 77, Mode: "vepa", Inet6: true, IPv6: true,
	}
	rtnl.Each(made.Data, func(attr int, v []byte) {
		if attr == unix.IFLA_MACVLAN_MODE && !bytes.Equal(v, []byte{2, 0, 0, 0}) {
			t.Errorf("the mode among the attributes of the kind: %v", v)
		}
	})
	if made.Data == nil {
		t.Error("no attributes of the kind")
	}
	want.Data = made.Data
	if got := fmt.Sprintf("%+v", made); got != fmt.Sprintf("%+v", want) {
		t.Errorf("got  %s\nwant %+v", got, want)
	}
	n.Set(t, "m0", rtnl.Alias("vmnetd:a/net0"), rtnl.AddrGenNone(), rtnl.Group(5))
	ip(t, n, "link", "set", "m0", "allmulticast", "on", "up")
	ip(t, n, "link", "property", "add", "dev", "m0", "altname", "another-name-of-it")
	got := n.Link(t, "m0")
	if got.Alias != "vmnetd:a/net0" || !got.AddrGenNone || got.Group != 5 || !got.AllMulti || !got.Up || !got.Carrier || len(got.AltNames) != 1 {
		t.Errorf("after the changes: %+v", got)
	}
	if u0 := n.Link(t, "u0"); u0.Lower != 0 || u0.LowerHere {
		t.Errorf("a veth's peer is shown as its lower device: %+v", u0)
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	c := newNetns(t).Conn()
	for _, name := range []string{"", "gone0", "sixteen-letters-", "a-name-far-longer-than-any-name"} {
		if _, err := c.LinkByName(t.Context(), name); !errors.Is(err, vmnetd.ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, index := range []int{-1, 0, 4711} {
		if _, err := c.LinkByIndex(t.Context(), index); !errors.Is(err, vmnetd.ErrNotFound) {
			t.Errorf("%d: %v", index, err)
		}
	}
	if addrs, err := c.Addrs(t.Context(), 4711); err != nil || len(addrs) != 0 {
		t.Errorf("addresses of no link: %v, %v", addrs, err)
	}
}

func TestConnStaysInItsNamespaceWhateverThreadUsesIt(t *testing.T) {
	n, other := newNetns(t), newNetns(t)
	n.Create(t, rtnl.NewLink{Name: "only-here", Kind: "bridge"})
	var wg sync.WaitGroup
	for range 20 { // more at once than sockets are open: new ones are opened from foreign threads
		wg.Go(func() {
			err := other.Do(func() error {
				_, err := n.Conn().LinkByName(t.Context(), "only-here")
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestAddrsAreThoseOfTheLinkAlone(t *testing.T) {
	n := newNetns(t)
	n.Create(t, rtnl.NewLink{Name: "b0", Kind: "bridge"})
	n.Create(t, rtnl.NewLink{Name: "b1", Kind: "bridge"})
	ip(t, n, "addr", "add", "192.0.2.1/24", "dev", "b0")
	ip(t, n, "addr", "add", "192.0.2.9", "peer", "192.0.2.10/31", "dev", "b0")
	ip(t, n, "addr", "add", "2001:db8::1/64", "dev", "b0")
	ip(t, n, "addr", "add", "198.51.100.1/24", "dev", "b1")
	got, err := n.Conn().Addrs(t.Context(), n.Link(t, "b0").Index)
	if err != nil {
		t.Fatal(err)
	}
	want := []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("192.0.2.9/31"), netip.MustParsePrefix("2001:db8::1/64")}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestDumpUnderChurnIsWholeOrSaysItIsNot(t *testing.T) {
	n := newNetns(t)
	for i := range 60 {
		n.Create(t, rtnl.NewLink{Name: fmt.Sprintf("stays%d", i), Kind: "bridge"})
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			name := fmt.Sprintf("churn%d", i%7)
			_ = n.Conn().Create(context.Background(), rtnl.NewLink{Name: name, Kind: "bridge"})
			_ = n.Conn().DeleteName(context.Background(), name)
		}
	})
	interrupted := 0
	for range 15 {
		links, err := n.Conn().Links(t.Context())
		if errors.Is(err, rtnl.ErrDumpInterrupted) {
			interrupted++
			continue
		}
		if err != nil {
			t.Error(err)
			continue
		}
		seen := map[string]bool{}
		for _, l := range links {
			seen[l.Name] = true
		}
		for i := range 60 {
			if !seen[fmt.Sprintf("stays%d", i)] {
				t.Errorf("stays%d is missing from a dump that says it is whole", i)
			}
		}
	}
	cancel()
	wg.Wait()
	t.Logf("%d of 15 dumps given up", interrupted)
}

func TestRequestEndsWithItsContext(t *testing.T) {
	n := newNetns(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 { // the answer may win the race; then it must be right
		if l, err := n.Conn().LinkByName(ctx, "lo"); err != nil && !errors.Is(err, context.Canceled) || err == nil && l.Name != "lo" {
			t.Fatalf("got %+v, %v", l, err)
		}
	}
}

func TestDeviceThatNobodyWaitsForAnyMoreIsDeletedAgain(t *testing.T) {
	n := newNetns(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	late := 0
	for i := range 40 {
		name := fmt.Sprintf("late%d", i)
		err := n.Conn().Create(ctx, rtnl.NewLink{Name: name, Kind: "bridge"})
		if err == nil {
			n.Delete(t, name)
			continue
		}
		late++
		eventually(t, "the request has ended", func() bool { return n.Conn().Pending() == 0 })
		if _, err := n.Conn().LinkByName(t.Context(), name); !errors.Is(err, vmnetd.ErrNotFound) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	if late == 0 {
		t.Error("no request was given up")
	}
}

func TestALinkThatNobodyWaitsForGoesWhereItWasSent(t *testing.T) {
	n := newNetns(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	late := 0
	for i := range 40 {
		name := fmt.Sprintf("late%d", i)
		n.Create(t, rtnl.NewLink{Name: name, Kind: "veth"})
		link := n.Link(t, name)
		target := newNetns(t)
		to, err := target.NS().Clone()
		if err != nil {
			t.Fatal(err)
		}
		err = n.Conn().Set(ctx, rtnl.Change{Index: link.Index, Attrs: []rtnl.Attr{rtnl.NetNS(to)}})
		_ = to.Close()
		newNetns(t) // whose descriptor gets the number that is free now
		eventually(t, "the request has ended", func() bool { return n.Conn().Pending() == 0 })
		if err != nil {
			late++
		}
		if _, err := target.Conn().LinkByName(t.Context(), name); err != nil {
			t.Errorf("%s did not get there: %v", name, err)
		}
	}
	if late == 0 {
		t.Error("no request was given up")
	}
}

func TestARequestThatIsNotSentKeepsNoNamespace(t *testing.T) {
	n := newNetns(t)
	ns, err := newNetns(t).NS().Clone()
	if err != nil {
		t.Fatal(err)
	}
	fd := ns.Fd()
	into := rtnl.Change{Index: n.Link(t, "lo").Index, Attrs: []rtnl.Attr{rtnl.NetNS(ns)}}
	var closed *rtnl.Conn
	if err := n.Do(func() (err error) { closed, err = rtnl.Open(); return err }); err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	if err := closed.Set(t.Context(), into); err == nil {
		t.Error("a connection that is closed sends")
	}
	_ = ns.Close()
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); !errors.Is(err, unix.EBADF) {
		t.Errorf("its descriptor is still open: %v", err)
	}
	if err := n.Conn().Set(t.Context(), into); !errors.Is(err, os.ErrClosed) {
		t.Errorf("into a namespace that was closed: %v", err)
	}
}

func TestGroupIsDeletedAtOnce(t *testing.T) {
	n := newNetns(t)
	for i := range 30 {
		n.Create(t, rtnl.NewLink{Name: fmt.Sprintf("g%d", i), Kind: "bridge", Group: 4711})
	}
	n.Create(t, rtnl.NewLink{Name: "stays", Kind: "bridge"})
	if err := n.Conn().DeleteGroup(t.Context(), 4711); err != nil {
		t.Fatal(err)
	}
	links, err := n.Conn().Links(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Group == 4711 {
			t.Errorf("%s is still there", l.Name)
		}
	}
	n.Link(t, "stays")
}

// TestQuestionsAreAnsweredWhileLinksAreDeletedInMass: each waits for the
// kernel's one lock, none for ever.
func TestQuestionsAreAnsweredWhileLinksAreDeletedInMass(t *testing.T) {
	n, out := newNetns(t), newNetns(t)
	testkit.NewVeth(t, n, "u0", out, "far0")
	u0 := n.Link(t, "u0")
	for i := range 500 {
		n.Create(t, rtnl.NewLink{Name: fmt.Sprintf("l%d", i), Kind: "macvtap", Lower: u0.Index, Group: 9})
	}
	done := make(chan error, 1)
	go func() { done <- n.Conn().DeleteGroup(context.Background(), 9) }()
	asked, slowest := 0, time.Duration(0)
	for running := true; running; asked++ {
		start := time.Now()
		if _, err := n.Conn().LinkByName(t.Context(), "u0"); err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(start))
		select {
		case err := <-done:
			running = false
			if err != nil {
				t.Error(err)
			}
		default:
		}
	}
	t.Logf("%d questions, the slowest took %v", asked, slowest)
}

// eventually waits until ok holds; every wait in these tests is for something
// that must come.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(testkit.Patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
