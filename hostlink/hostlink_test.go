package hostlink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestMain(m *testing.M) { testkit.LeakCheck(m) }

// lab is a host with one uplink, u0, and a guest with a macvlan on it, g0.
type lab struct {
	*Host
	t                *testing.T
	ns, out, guestNS *testkit.Netns
	u0               rtnl.Link
}

var guestMAC = net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}

func newLab(t *testing.T) *lab {
	t.Helper()
	testkit.Require(t, "netns")
	l := &lab{t: t, ns: testkit.NewNetns(t), out: testkit.NewNetns(t), guestNS: testkit.NewNetns(t)}
	testkit.NewVeth(t, l.ns, "u0", l.out, "far0")
	l.u0 = l.ns.Link(t, "u0")
	l.Host = New(l.ns.Conn())
	return l
}

// guest puts an endpoint with that address into the guest's namespace.
func (l *lab) guest(kind string, data []rtnl.Attr, addrs ...string) {
	l.t.Helper()
	link := rtnl.NewLink{Name: "g0", Kind: kind, Lower: l.u0.Index, Data: data}
	if kind == "macvlan" {
		link.MAC = guestMAC
	}
	l.ns.Create(l.t, link)
	l.ns.Set(l.t, "g0", rtnl.NetNS(l.guestNS.NS()))
	for _, a := range addrs {
		l.guestIP("addr", "add", a, "dev", "g0", "nodad")
	}
	l.guestNS.SetUp(l.t, "g0")
	l.guestNS.WaitRunning(l.t, "g0")
}

func run(t *testing.T, n *testkit.Netns, name string, args ...string) string {
	t.Helper()
	out, err := n.Command(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return string(out)
}

func (l *lab) ip(args ...string) string      { l.t.Helper(); return run(l.t, l.ns, "ip", args...) }
func (l *lab) guestIP(args ...string) string { l.t.Helper(); return run(l.t, l.guestNS, "ip", args...) }

// reaches pings until an answer comes.
func reaches(t *testing.T, from *testkit.Netns, to string, more ...string) bool {
	t.Helper()
	args := append([]string{"-n", "-c", "1", "-w", "10", "-i", "0.2"}, more...)
	return from.Command(t.Context(), "ping", append(args, to)...).Run() == nil
}

// silent pings and hears nothing for a second.
func silent(t *testing.T, from *testkit.Netns, to string) bool {
	t.Helper()
	return from.Command(t.Context(), "ping", "-n", "-c", "1", "-w", "1", to).Run() != nil
}

func spec(l *lab, ips ...string) Spec {
	s := Spec{Network: "wan", Lower: l.u0.Index, Kind: vmnetd.Macvlan, Mode: vmnetd.Bridge, MAC: vmnetd.DeriveMAC("host", "wan")}
	for _, ip := range ips {
		s.IPs = append(s.IPs, netip.MustParsePrefix(ip))
	}
	return s
}

func (l *lab) ensure(s Spec) Link {
	l.t.Helper()
	link, err := l.Ensure(l.t.Context(), s)
	if err != nil {
		l.t.Fatal(err)
	}
	return link
}

// everything is what the host has of links, addresses, rules and routes, without
// what counts or passes.
func (l *lab) everything() string {
	l.t.Helper()
	var b strings.Builder
	for _, args := range [][]string{
		{"-br", "link"}, {"-br", "addr"}, {"rule"}, {"-6", "rule"}, {"route", "show", "table", "all"}, {"-6", "route", "show", "table", "all"},
	} {
		lines := slices.DeleteFunc(strings.Split(l.ip(args...), "\n"), func(line string) bool {
			return strings.Contains(line, "table local ") // the kernel's own, some of it a moment later
		})
		slices.Sort(lines)
		fmt.Fprintf(&b, "ip %s\n%s\n", strings.Join(args, " "), strings.Join(lines, "\n"))
	}
	return b.String()
}

// quiet has nothing of the kernel's own come late: link-local addresses.
func (l *lab) quiet() {
	for _, name := range []string{"u0"} {
		l.ns.Set(l.t, name, rtnl.AddrGenNone())
		l.ip("-6", "addr", "flush", "dev", name)
	}
}

func TestNamesAreThePromisedOnes(t *testing.T) {
	seen := map[string]bool{}
	for _, network := range []string{"wan", "lan", "a network with a long name"} {
		name := Ifname(network)
		if len(name) != 13 || !strings.HasPrefix(name, "vml") || strings.HasPrefix(name, vmnetd.IfnamePrefix) || seen[name] || name != Ifname(network) {
			t.Errorf("%s: %s", network, name)
		}
		seen[name] = true
	}
}

func TestHostAndGuestReachEachOther(t *testing.T) {
	for name, c := range map[string]struct{ uplink, ips, guest []string }{
		"in a prefix of their own": {
			ips: []string{"192.0.2.1/24", "2001:db8::1/64"}, guest: []string{"192.0.2.9/24", "2001:db8::9/64"},
		},
		"in the uplink's own prefix": {
			uplink: []string{"192.0.2.5/24", "2001:db8::5/64"},
			ips:    []string{"192.0.2.1/24", "2001:db8::1/64"}, guest: []string{"192.0.2.9/24", "2001:db8::9/64"},
		},
		"with an address without a prefix": {
			uplink: []string{"192.0.2.5/24", "2001:db8::5/64"},
			ips:    []string{"192.0.2.1/32", "2001:db8::1/128"}, guest: []string{"192.0.2.9/24", "2001:db8::9/64"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.guest("macvlan", rtnl.MacvlanMode("bridge"), c.guest...)
			for _, a := range c.uplink {
				l.ip("addr", "add", a, "dev", "u0", "nodad")
			}
			run(t, l.out, "ip", "addr", "add", "192.0.2.77/24", "dev", "far0")
			guests := []string{"192.0.2.9", "2001:db8::9"}
			if c.uplink != nil && !silent(t, l.ns, guests[0]) {
				t.Fatal("the uplink's own stack reaches the guest: there is nothing to show")
			}
			before := l.ip("route", "show", "dev", "u0") + l.ip("-6", "route", "show", "dev", "u0")
			s := spec(l, c.ips...)
			for _, g := range guests {
				s.Guests = append(s.Guests, netip.MustParseAddr(g))
			}
			l.ensure(s)
			for i, own := range []string{"192.0.2.1", "2001:db8::1"} {
				if !reaches(t, l.ns, guests[i]) {
					t.Errorf("the host does not reach %s\n%s", guests[i], l.everything())
				}
				if !reaches(t, l.ns, guests[i], "-I", own) {
					t.Errorf("the host does not reach %s from %s", guests[i], own)
				}
				run(t, l.guestNS, "ip", "neigh", "flush", "dev", "g0")
				l.ip("neigh", "flush", "dev", Ifname("wan"))
				if !reaches(t, l.guestNS, own) {
					t.Errorf("the guest does not reach %s\n%s", own, l.everything())
				}
			}
			if after := l.ip("route", "show", "dev", "u0") + l.ip("-6", "route", "show", "dev", "u0"); after != before {
				t.Errorf("routes by the uplink were\n%s\nand are\n%s", before, after)
			}
			if c.uplink != nil && !reaches(t, l.ns, "192.0.2.77", "-I", "192.0.2.5") {
				t.Error("the uplink's own stack does not reach the outside any more")
			}
		})
	}
}

// A guest that asks who has the uplink's own address gets no answer by the link,
// which would lead the frames there.
func TestTheLinkAnswersARPForItsOwnAddressesAlone(t *testing.T) {
	l := newLab(t)
	l.guest("macvlan", rtnl.MacvlanMode("bridge"), "192.0.2.9/24")
	l.ip("addr", "add", "192.0.2.5/24", "dev", "u0")
	l.ensure(spec(l, "192.0.2.1/24"))
	if !reaches(t, l.guestNS, "192.0.2.1") {
		t.Fatal("the guest does not reach the link")
	}
	if !silent(t, l.guestNS, "192.0.2.5") {
		t.Error("the guest reaches the uplink's own address")
	}
	if neigh := l.guestIP("neigh", "show", "192.0.2.5"); strings.Contains(neigh, "lladdr") {
		t.Errorf("answered: %s", neigh)
	}
}

func TestEnsureTwiceIsOneLinkAndNoNews(t *testing.T) {
	l := newLab(t)
	l.ip("addr", "add", "192.0.2.5/24", "dev", "u0")
	s := spec(l, "192.0.2.1/24", "2001:db8::1/64", "198.51.100.1/32")
	s.Guests = []netip.Addr{netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8:7::9"), netip.MustParseAddr("fe80::1"), netip.MustParseAddr("192.0.2.9")}
	first := l.ensure(s)
	want := Link{
		Network: "wan", Ifname: Ifname("wan"), Ifindex: first.Ifindex, Lower: l.u0.Index, Kind: vmnetd.Macvlan, Mode: vmnetd.Bridge, MAC: s.MAC, Up: true,
		IPs: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("198.51.100.1/32"), netip.MustParsePrefix("2001:db8::1/64")},
	}
	less := cmp.Options{cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}
	if diff := cmp.Diff(want, first, less); diff != "" {
		t.Error(diff)
	}
	if link := l.ns.Link(t, first.Ifname); link.Alias != "vmnetd-host:wan" || link.Group != 0 || !link.ARPOfItsOwn {
		t.Errorf("%+v", link)
	}
	l.ns.WaitRunning(t, first.Ifname)
	sniff := newNews(t, l.ns)
	before := l.everything()
	second := l.ensure(s)
	if diff := cmp.Diff(first, second, less); diff != "" {
		t.Error(diff)
	}
	if after := l.everything(); after != before {
		t.Error(cmp.Diff(before, after))
	}
	if n := sniff(); n != 0 {
		t.Errorf("%d messages about links", n)
	}
	if ours, err := l.Ours(t.Context()); err != nil || len(ours) != 1 || cmp.Diff(ours[0], first, less) != "" {
		t.Errorf("ours: %+v, %v", ours, err)
	}
}

// newNews counts the messages about links from now on.
func newNews(t *testing.T, n *testkit.Netns) func() int {
	t.Helper()
	var w *rtnl.Watch
	err := n.Do(func() error {
		var err error
		w, err = rtnl.OpenWatch()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	count, last := 0, make(chan int, 1)
	marker := 0
	w.OnChange(func(index int) {
		switch l, _ := w.ByIndex(index); {
		case l.Name == "marker":
			marker = index
			select {
			case last <- count:
			default:
			}
		case index != 0 && index != marker:
			count++
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return func() int {
		t.Helper()
		n.Create(t, rtnl.NewLink{Name: "marker", Kind: "bridge"}) // its news come after all others
		return <-last
	}
}

func TestRemoveLeavesNothing(t *testing.T) {
	l := newLab(t)
	l.quiet()
	l.ip("addr", "add", "192.0.2.5/24", "dev", "u0")
	l.ip("rule", "add", "from", "192.0.2.1", "lookup", "100", "pref", "30500") // the operator's own
	before := l.everything()
	s := spec(l, "192.0.2.1/24", "2001:db8::1/64")
	s.Guests = []netip.Addr{netip.MustParseAddr("192.0.2.9")}
	l.ensure(s)
	if l.everything() == before {
		t.Fatal("nothing was made")
	}
	for range 2 {
		if err := l.Remove(t.Context(), "wan"); err != nil {
			t.Fatal(err)
		}
		if after := l.everything(); after != before {
			t.Error(cmp.Diff(before, after))
		}
	}
	// The device goes with its uplink, or by hand; the rules stay for Remove.
	l.ensure(s)
	l.ns.Delete(t, Ifname("wan"))
	if err := l.Remove(t.Context(), "wan"); err != nil {
		t.Fatal(err)
	}
	if after := l.everything(); after != before {
		t.Error(cmp.Diff(before, after))
	}
}

func TestALinkFollowsWhatIsAsked(t *testing.T) {
	l := newLab(t)
	l.ip("addr", "add", "192.0.2.5/24", "dev", "u0")
	s := spec(l, "192.0.2.1/24")
	s.Guests = []netip.Addr{netip.MustParseAddr("192.0.2.9")}
	first := l.ensure(s)
	for _, step := range []struct {
		ips, guests []string
		routes      []string // to be in the main table
		not         []string
	}{
		{[]string{"192.0.2.2/24", "192.0.2.3/24"}, []string{"192.0.2.9", "192.0.2.10"}, []string{"192.0.2.9", "192.0.2.10"}, nil},
		{[]string{"192.0.2.3/24"}, []string{"192.0.2.10"}, []string{"192.0.2.10"}, []string{"192.0.2.9 "}},
		{[]string{"198.51.100.1/24", "2001:db8::1/64"}, []string{"198.51.100.9", "2001:db8::9"}, []string{"198.51.100.0/24"}, []string{"198.51.100.9", "192.0.2.10"}},
		{[]string{"192.0.2.1/24"}, []string{"192.0.2.9"}, []string{"192.0.2.9"}, []string{"198.51"}},
	} {
		s := spec(l, step.ips...)
		for _, g := range step.guests {
			s.Guests = append(s.Guests, netip.MustParseAddr(g))
		}
		link := l.ensure(s)
		if link.Ifindex != first.Ifindex {
			t.Errorf("%v: made anew", step.ips)
		}
		var ips []string
		for _, p := range link.IPs {
			ips = append(ips, p.String())
		}
		if !slices.Equal(ips, step.ips) {
			t.Errorf("addresses %v, want %v", ips, step.ips)
		}
		routes := l.ip("route", "show", "dev", Ifname("wan"))
		for _, r := range step.routes {
			if !strings.Contains(routes, r) {
				t.Errorf("%v: no route %s in\n%s", step.ips, r, routes)
			}
		}
		for _, r := range step.not {
			if strings.Contains(routes, r) {
				t.Errorf("%v: route %s in\n%s", step.ips, r, routes)
			}
		}
		if rules := strings.Count(l.ip("rule"), "30500:"); rules > len(step.ips) {
			t.Errorf("%v: %d rules", step.ips, rules)
		}
		v6, err := readIn(l.ns, "/proc/sys/net/ipv6/conf/"+link.Ifname+"/disable_ipv6")
		if err != nil || (v6 == "0") != has6(s.IPs) {
			t.Errorf("%v: disable_ipv6 is %q, %v", step.ips, v6, err)
		}
	}
}

func readIn(n *testkit.Netns, path string) (text string, err error) {
	err = n.Do(func() error {
		b, err := os.ReadFile(path)
		text = strings.TrimSpace(string(b))
		return err
	})
	return text, err
}

// A router on the uplink would give it more addresses, and the host a default
// route.
func TestTheLinkListensToNoRouter(t *testing.T) {
	l := newLab(t)
	link := l.ensure(spec(l, "2001:db8::1/64"))
	for file, want := range map[string]string{"accept_ra": "0", "autoconf": "0"} {
		if got, err := readIn(l.ns, "/proc/sys/net/ipv6/conf/"+link.Ifname+"/"+file); err != nil || got != want {
			t.Errorf("%s is %q, %v", file, got, err)
		}
	}
}

func TestWhatWasChangedByHandIsPutRight(t *testing.T) {
	l := newLab(t)
	l.ip("addr", "add", "192.0.2.5/24", "dev", "u0")
	s := spec(l, "192.0.2.1/24", "2001:db8::1/64")
	s.Guests = []netip.Addr{netip.MustParseAddr("192.0.2.9")}
	name := l.ensure(s).Ifname
	good := l.everything()
	for _, by := range [][]string{
		{"link", "set", name, "down"},
		{"addr", "flush", "dev", name, "scope", "global"},
		{"addr", "add", "203.0.113.1/24", "dev", name},
		{"rule", "del", "pref", "30500"},
		{"route", "del", "192.0.2.9"},
		{"link", "set", name, "address", "52:54:00:12:34:56"},
		{"link", "set", name, "mtu", "1400"},
	} {
		l.ip(by...)
		l.ensure(s)
		if now := l.everything(); now != good {
			t.Errorf("after ip %v: %s", by, cmp.Diff(good, now))
		}
	}
	// Deleted, or on another device: made anew.
	l.ns.Delete(t, name)
	l.ensure(s)
	testkit.NewVeth(t, l.ns, "u1", l.out, "far1")
	s.Lower = l.ns.Link(t, "u1").Index
	if link := l.ensure(s); link.Lower != s.Lower {
		t.Errorf("%+v", link)
	}
}

// The operator's own route to a guest counts.
func TestARouteOfTheOperatorsIsNotReplaced(t *testing.T) {
	l := newLab(t)
	l.ip("addr", "add", "192.0.2.5/24", "dev", "u0")
	l.ip("route", "add", "192.0.2.9/32", "dev", "u0")
	s := spec(l, "192.0.2.1/24")
	s.Guests = []netip.Addr{netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("192.0.2.10")}
	l.ensure(s)
	if r := l.ip("route", "show", "192.0.2.9"); !strings.Contains(r, "u0") {
		t.Errorf("it is now %s", r)
	}
	if r := l.ip("route", "show", "192.0.2.10"); !strings.Contains(r, Ifname("wan")) {
		t.Errorf("the other guest's is %s", r)
	}
}

func TestTwoNetworksOnOneUplinkHaveALinkEach(t *testing.T) {
	l := newLab(t)
	a, b := spec(l, "192.0.2.1/24"), spec(l, "192.0.2.2/24")
	b.Network, b.MAC = "lan", vmnetd.DeriveMAC("host", "lan")
	l.ensure(a)
	l.ensure(b) // in the prefix of the first
	good := l.everything()
	l.ensure(a)
	if now := l.everything(); now != good {
		t.Errorf("the first link changed for the second one: %s", cmp.Diff(good, now))
	}
	if tableOf("wan") == tableOf("lan") {
		t.Error("one table")
	}
	if err := l.Remove(t.Context(), "wan"); err != nil {
		t.Fatal(err)
	}
	if ours, err := l.Ours(t.Context()); err != nil || len(ours) != 1 || ours[0].Network != "lan" {
		t.Errorf("%+v, %v", ours, err)
	}
}

func TestAnEnsureThatFailsLeavesWhatWas(t *testing.T) {
	taken := func(l *lab) { // by another on the same uplink, up
		l.ns.Create(l.t, rtnl.NewLink{Name: "m0", Kind: "macvtap", Lower: l.u0.Index, MAC: vmnetd.DeriveMAC("host", "wan"), Data: rtnl.MacvlanMode("bridge")})
		l.ns.SetUp(l.t, "m0")
	}
	for name, c := range map[string]struct {
		prepare func(*lab)
		change  func(*lab, *Spec)
		class   error
		says    string
	}{
		"MAC taken":         {taken, nil, vmnetd.ErrBusy, "is taken by macvtap m0"},
		"MAC of the uplink": {nil, func(l *lab, s *Spec) { s.MAC = l.u0.MAC }, vmnetd.ErrBusy, "the uplink u0 itself"},
		"no such uplink":    {nil, func(_ *lab, s *Spec) { s.Lower = 4711 }, vmnetd.ErrNotFound, "4711"},
		"port of a bridge": {func(l *lab) {
			br := l.ns.Create(l.t, rtnl.NewLink{Name: "br0", Kind: "bridge"})
			l.ns.Set(l.t, "br0", rtnl.AddrGenNone())
			l.ns.Set(l.t, "u0", rtnl.Master(br.Index))
		}, nil, vmnetd.ErrBusy, "port of another device"},
		"passthru": {func(l *lab) {
			l.ns.Create(l.t, rtnl.NewLink{Name: "p0", Kind: "macvtap", Lower: l.u0.Index, Data: rtnl.MacvlanMode("passthru")})
		}, nil, vmnetd.ErrBusy, "for itself (passthru)"},
		"no Ethernet": {nil, func(l *lab, s *Spec) { s.Lower = l.ns.Link(l.t, "lo").Index }, vmnetd.ErrUnsupported, "of this kind"},
		"name taken": {func(l *lab) {
			l.ns.Create(l.t, rtnl.NewLink{Name: Ifname("wan"), Kind: "bridge"})
		}, nil, vmnetd.ErrBusy, "not ours"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.quiet()
			if c.prepare != nil {
				c.prepare(l)
			}
			before := l.everything()
			s := spec(l, "192.0.2.1/24", "2001:db8::1/64")
			if c.change != nil {
				c.change(l, &s)
			}
			_, err := l.Ensure(t.Context(), s)
			if !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v", err)
			}
			if after := l.everything(); after != before {
				t.Error(cmp.Diff(before, after))
			}
		})
	}
}

func TestALinkThatIsThereIsAsItWasWhenItsChangeFails(t *testing.T) {
	l := newLab(t)
	l.quiet()
	l.ip("addr", "add", "192.0.2.5/24", "dev", "u0")
	testkit.NewVeth(t, l.ns, "u1", l.out, "far1")
	l.ns.Create(t, rtnl.NewLink{Name: "p0", Kind: "macvtap", Lower: l.ns.Link(t, "u1").Index, Data: rtnl.MacvlanMode("passthru")})
	s := spec(l, "192.0.2.1/24", "2001:db8::1/64")
	s.Guests = []netip.Addr{netip.MustParseAddr("192.0.2.9")}
	before := l.ensure(s)
	routes := func() string { return l.ip("route") + l.ip("-6", "route") + l.ip("rule") }
	was := routes()
	for name, change := range map[string]func(*Spec){
		"the other uplink is a passthru's": func(s *Spec) { s.Lower = l.ns.Link(t, "u1").Index },
		"the MAC is the uplink's":          func(s *Spec) { s.MAC = l.u0.MAC; s.IPs = s.IPs[:1] },
	} {
		bad := s
		change(&bad)
		if _, err := l.Ensure(t.Context(), bad); !errors.Is(err, vmnetd.ErrBusy) {
			t.Errorf("%s: %v", name, err)
		}
		ours, err := l.Ours(t.Context())
		if err != nil || len(ours) != 1 || !ours[0].Up || ours[0].MAC.String() != before.MAC.String() || ours[0].Lower != before.Lower || !slices.Equal(ours[0].IPs, before.IPs) {
			t.Errorf("%s: %+v, %v; it was %+v", name, ours, err, before)
		}
		if now := routes(); now != was {
			t.Errorf("%s: %s", name, cmp.Diff(was, now))
		}
	}
}

func TestBadSpecsAreRefusedInOneSentence(t *testing.T) {
	l := newLab(t)
	for name, change := range map[string]func(*Spec){
		"no network":      func(s *Spec) { s.Network = "" },
		"escape":          func(s *Spec) { s.Network = "a\x1b[0m" },
		"a tap":           func(s *Spec) { s.Kind = vmnetd.Macvtap },
		"passthru":        func(s *Spec) { s.Mode = vmnetd.Passthru },
		"flag":            func(s *Spec) { s.Flag = "bridge" },
		"no MAC":          func(s *Spec) { s.MAC = nil },
		"no address":      func(s *Spec) { s.IPs = nil },
		"invalid address": func(s *Spec) { s.IPs = []netip.Prefix{{}} },
		"multicast":       func(s *Spec) { s.IPs = []netip.Prefix{netip.MustParsePrefix("224.0.0.1/4")} },
		"link-local":      func(s *Spec) { s.IPs = []netip.Prefix{netip.MustParsePrefix("fe80::1/64")} },
		"twice":           func(s *Spec) { s.IPs = append(s.IPs, netip.MustParsePrefix("192.0.2.1/25")) },
		"ipvlan mode":     func(s *Spec) { s.Kind, s.Mode = vmnetd.Ipvlan, vmnetd.Bridge },
		"ipvlan flag":     func(s *Spec) { s.Kind, s.Mode, s.Flag = vmnetd.Ipvlan, vmnetd.L2, "isolated" },
	} {
		s := spec(l, "192.0.2.1/24")
		change(&s)
		if _, err := l.Ensure(t.Context(), s); !errors.Is(err, vmnetd.ErrInvalid) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if ours, err := l.Ours(t.Context()); err != nil || len(ours) != 0 {
		t.Errorf("%+v, %v", ours, err)
	}
}

// One that was made and not marked is nobody's: whoever made it ended.
func TestAHalfMadeLinkIsMadeAnew(t *testing.T) {
	l := newLab(t)
	old := l.ns.Create(t, rtnl.NewLink{Name: Ifname("wan"), Kind: "macvlan", Lower: l.u0.Index, Data: rtnl.MacvlanMode("vepa")})
	if ours, err := l.Ours(t.Context()); err != nil || len(ours) != 0 {
		t.Errorf("%+v, %v", ours, err)
	}
	if link := l.ensure(spec(l, "192.0.2.1/24")); link.Ifindex == old.Index || link.Mode != vmnetd.Bridge {
		t.Errorf("%+v", link)
	}
}
