package tapdev

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// away is another namespace with a Host of its own, and a device of vm1's in the
// lab's that can be moved there.
type away struct {
	*Host
	ns  *testkit.Netns
	dev Device
}

func newAway(t *testing.T, l *lab) *away {
	t.Helper()
	a := &away{ns: testkit.NewNetns(t)}
	a.Host = New(a.ns.Conn(), nil, nil)
	t.Cleanup(func() { _ = a.Close() })
	a.dev = l.endpoint(t, "vm1")
	return a
}

// endpoint is a macvlan of a VM's net0, marked, in the lab's namespace.
func (l *lab) endpoint(t *testing.T, vm string) Device {
	t.Helper()
	name := vmnetd.Ifname(vm, "net0")
	l.ns.Create(t, rtnl.NewLink{Name: name, Kind: "macvlan", Lower: l.u0.Index, MAC: mac(1), Group: Group, Data: rtnl.MacvlanMode("bridge")})
	l.ns.Set(t, name, rtnl.Alias(vmnetd.Alias(vm, "net0")))
	dev, err := l.FindNIC(t.Context(), vm, "net0")
	if err != nil {
		t.Fatal(err)
	}
	return dev
}

func (a *away) moved(t *testing.T, l *lab) Device {
	t.Helper()
	if err := l.Move(t.Context(), a.dev, a.ns.NS()); err != nil {
		t.Fatal(err)
	}
	dev, err := a.FindNIC(t.Context(), "vm1", "net0")
	if err != nil {
		t.Fatal(err)
	}
	return dev
}

func (a *away) settle(t *testing.T, dev Device, s Settings) Device {
	t.Helper()
	s.VM, s.ID, s.Ifname = dev.VM, dev.ID, vmnetd.Ifname(dev.VM, dev.ID)
	dev, err := a.Settle(t.Context(), dev, s)
	if err != nil {
		t.Fatal(err)
	}
	return dev
}

func TestADeviceWhoseMarkItsNamespacesRootChangedIsRemoved(t *testing.T) {
	l := newLab(t, nil)
	a := newAway(t, l)
	dev := a.moved(t, l)
	nsid, err := l.ns.Conn().EnsureNSID(t.Context(), a.ns.NS().Fd())
	if err != nil {
		t.Fatal(err)
	}
	a.ns.Set(t, dev.Ifname, rtnl.Alias("mine"))
	for _, change := range []func(*Device){
		func(d *Device) { d.Kind = vmnetd.Ipvlan }, func(d *Device) { d.Lower++ }, func(d *Device) { d.Lower = 0 },
	} {
		other := dev
		change(&other)
		if err := l.RemoveLeft(t.Context(), nsid, other); err != nil {
			t.Fatal(err)
		}
		a.ns.Link(t, dev.Ifname) // still there
	}
	if err := l.RemoveLeft(t.Context(), nsid, dev); err != nil {
		t.Fatal(err)
	}
	if link, err := a.ns.Conn().LinkByIndex(t.Context(), dev.Ifindex); err == nil {
		t.Errorf("%+v is left", link)
	}
}

func TestAnMTUIsSettled(t *testing.T) {
	l := newLab(t, nil)
	a := newAway(t, l)
	dev := a.moved(t, l)
	if dev = a.settle(t, dev, Settings{MTU: 1400}); dev.MTU != 1400 {
		t.Errorf("%+v", dev)
	}
	if dev = a.settle(t, dev, Settings{}); dev.MTU != 1400 {
		t.Errorf("%+v", dev)
	}
	larger := Settings{VM: dev.VM, ID: dev.ID, Ifname: dev.Ifname, MTU: 9000} // than its lower device's
	if _, err := a.Settle(t.Context(), dev, larger); err == nil || !strings.Contains(err.Error(), "cannot give vm1/net0 the MTU 9000") {
		t.Errorf("%v", err)
	}
	if now := a.ns.Link(t, dev.Ifname); now.MTU != 1400 {
		t.Errorf("%+v", now)
	}
}

func prefixes(list ...string) (ps []netip.Prefix) {
	for _, p := range list {
		ps = append(ps, netip.MustParsePrefix(p))
	}
	return ps
}

func has(t *testing.T, got Device, want ...string) {
	t.Helper()
	same := len(got.IPs) == len(want)
	for _, p := range prefixes(want...) {
		same = same && slices.Contains(got.IPs, p)
	}
	if !same {
		t.Errorf("it has %v, want %v", got.IPs, want)
	}
}

func sysctl(t *testing.T, n *testkit.Netns, ifname, name string) string {
	t.Helper()
	var b []byte
	err := n.Do(func() (err error) {
		b, err = os.ReadFile(filepath.Join("/proc/sys/net/ipv6/conf", ifname, name))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestAMovedDeviceIsFoundByItsMarkAndIsDown(t *testing.T) {
	l := newLab(t, nil)
	a := newAway(t, l)
	l.ns.SetUp(t, a.dev.Ifname)
	dev := a.moved(t, l)
	if dev.Up || dev.Ifname != a.dev.Ifname || dev.Kind != vmnetd.Macvlan || dev.Mode != vmnetd.Bridge || dev.Lower != l.u0.Index {
		t.Errorf("it arrived as %+v", dev)
	}
	if _, err := l.FindNIC(t.Context(), "vm1", "net0"); err == nil {
		t.Error("it is still where it was")
	}
	says(t, l.Move(t.Context(), a.dev, a.ns.NS()), vmnetd.ErrNotFound, "vm1/net0", "has gone")
	if _, err := a.FindNIC(t.Context(), "vm1", "net1"); err == nil {
		t.Error("a NIC that was never made is found")
	}
}

func TestAMoveToWhereTheNameIsTakenLeavesTheDeviceWhereItIs(t *testing.T) {
	l := newLab(t, nil)
	a := newAway(t, l)
	a.ns.Create(t, rtnl.NewLink{Name: a.dev.Ifname, Kind: "bridge"})
	says(t, l.Move(t.Context(), a.dev, a.ns.NS()), vmnetd.ErrBusy, "name "+a.dev.Ifname, "taken")
	if _, err := l.FindNIC(t.Context(), "vm1", "net0"); err != nil {
		t.Error(err)
	}
}

func TestAGuestsDeviceGetsItsAddressesAndNothingThatANamespaceWouldMakeItself(t *testing.T) {
	l := newLab(t, nil)
	a := newAway(t, l)
	dev := a.moved(t, l)
	s := Settings{Guest: true, IPs: prefixes("192.0.2.10/24", "2001:db8::10/64", "fe80::5054:ff:fe00:1/64")}
	for range 2 { // again changes nothing
		dev = a.settle(t, dev, s)
		has(t, dev, "192.0.2.10/32", "2001:db8::10/128", "fe80::5054:ff:fe00:1/128")
	}
	if err := a.SetNICUp(t.Context(), dev, true); err != nil {
		t.Fatal(err)
	}
	a.ns.WaitRunning(t, dev.Ifname)
	placed, err := a.conn.PlacedOn(t.Context(), dev.Ifindex)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range placed {
		if !p.NoPrefix || p.Prefix.Addr().Is6() && !p.NoDAD || p.Kernels() {
			t.Errorf("%+v", p)
		}
	}
	link := a.ns.Link(t, dev.Ifname)
	if !link.AllMulti || !link.AddrGenNone || len(placed) != 3 {
		t.Errorf("%+v has %+v", link, placed)
	}
	for name, want := range map[string]string{"accept_ra": "0", "autoconf": "0", "disable_ipv6": "0"} {
		if got := sysctl(t, a.ns, dev.Ifname, name); got != want {
			t.Errorf("%s is %s", name, got)
		}
	}
	routes, err := a.ns.Command(t.Context(), "ip", "route", "show").Output()
	if err != nil || len(routes) > 0 {
		t.Errorf("the namespace got routes: %s, %v", routes, err)
	}
}

func TestAGuestHasNoAddressButThoseAskedFor(t *testing.T) {
	l := newLab(t, nil)
	a := newAway(t, l)
	dev := a.settle(t, a.moved(t, l), Settings{Guest: true, IPs: prefixes("192.0.2.10/32", "192.0.2.11/32", "2001:db8::10/128")})
	ip(t, a.ns, "addr", "add", "203.0.113.9/24", "dev", dev.Ifname) // by hand
	has(t, a.settle(t, dev, Settings{Guest: true, IPs: prefixes("192.0.2.11/32", "2001:db8::11/128")}), "192.0.2.11/32", "2001:db8::11/128")
	has(t, a.settle(t, dev, Settings{Guest: true}))
}

func TestAGuestsAddressesOutliveALinkThatIsSetDown(t *testing.T) {
	l := newLab(t, nil)
	a := newAway(t, l)
	s := Settings{Guest: true, IPs: prefixes("192.0.2.10/32", "2001:db8::10/128", "fe80::1/128")}
	dev := a.settle(t, a.moved(t, l), s)
	for _, up := range []bool{true, false} {
		if err := a.SetNICUp(t.Context(), dev, up); err != nil {
			t.Fatal(err)
		}
	}
	now, err := a.FindNIC(t.Context(), "vm1", "net0")
	if err != nil {
		t.Fatal(err)
	}
	if missing := lacks(now.IPs, prefixes("192.0.2.10/32", "2001:db8::10/128")); missing.IsValid() {
		t.Errorf("%s has gone", missing)
	}
	has(t, a.settle(t, dev, s), "192.0.2.10/32", "2001:db8::10/128", "fe80::1/128")
}

func TestAnEndpointGetsNameMACAddressesAndRoutesAndIsMarked(t *testing.T) {
	l := newLab(t, nil)
	a := newAway(t, l)
	dev := a.moved(t, l)
	a.ns.Set(t, dev.Ifname, rtnl.Alias("")) // as a veth's far end is made
	if err := a.ns.Do(func() error {
		return os.WriteFile("/proc/sys/net/ipv6/conf/"+dev.Ifname+"/disable_ipv6", []byte("1"), 0)
	}); err != nil {
		t.Fatal(err)
	}
	s := Settings{Name: "eth0", MAC: mac(7), IPs: prefixes("192.0.2.10/24", "2001:db8::10/64"), Routes: []Route{
		{To: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("203.0.113.1")}, // reached by the next one
		{To: netip.MustParsePrefix("203.0.113.1/32")},
		{To: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("2001:db8::1")},
	}}
	for range 2 {
		dev = a.settle(t, dev, s)
		has(t, dev, "192.0.2.10/24", "2001:db8::10/64")
		if dev.Ifname != "eth0" || dev.MAC.String() != mac(7).String() || !dev.Up {
			t.Errorf("%+v", dev)
		}
	}
	if link := a.ns.Link(t, "eth0"); link.Alias != vmnetd.Alias("vm1", "net0") {
		t.Errorf("its mark is %q", link.Alias)
	}
	routes, err := a.conn.RoutesOf(t.Context(), dev.Ifindex)
	if err != nil || len(routes) != 3 {
		t.Errorf("routes %+v, %v", routes, err)
	}
	found, err := a.FindNIC(t.Context(), "vm1", "net0")
	if err != nil || found.Ifindex != dev.Ifindex {
		t.Errorf("under its new name it is %+v, %v", found, err)
	}
	nics, err := a.NICs(t.Context())
	if err != nil || len(nics) != 1 || nics[0].Ifname != "eth0" {
		t.Errorf("ours are %+v, %v", nics, err)
	}
	if err := a.RemoveNICs(t.Context(), dev, dev); err != nil {
		t.Error(err)
	}
	if _, err := a.FindNIC(t.Context(), "vm1", "net0"); err == nil {
		t.Error("it is still there")
	}
}

func TestWhatANamespaceGaveAnEndpointItselfStaysAndWhatWeGaveGoes(t *testing.T) {
	l := newLab(t, nil)
	a := newAway(t, l)
	route := func(p string) Route { return Route{To: netip.MustParsePrefix(p)} }
	dev := a.settle(t, a.moved(t, l), Settings{IPs: prefixes("192.0.2.10/24", "192.0.2.11/24"), Routes: []Route{route("198.51.100.0/24"), route("198.51.101.0/24")}})
	ip(t, a.ns, "addr", "add", "192.0.2.12/24", "dev", dev.Ifname)
	ip(t, a.ns, "route", "add", "10.0.0.0/8", "dev", dev.Ifname)
	now := a.settle(t, dev, Settings{IPs: prefixes("192.0.2.11/24"), Routes: []Route{route("198.51.101.0/24")}})
	for _, p := range prefixes("192.0.2.11/24", "192.0.2.12/24") {
		if !slices.Contains(now.IPs, p) {
			t.Errorf("it has %v and not %s", now.IPs, p)
		}
	}
	if slices.Contains(now.IPs, netip.MustParsePrefix("192.0.2.10/24")) {
		t.Errorf("it has %v", now.IPs)
	}
	out, err := a.ns.Command(context.Background(), "ip", "-o", "-6", "addr", "show", "dev", dev.Ifname, "scope", "link").Output()
	if err != nil || !strings.Contains(string(out), "fe80::") {
		t.Errorf("its link-local address has gone: %s, %v", out, err)
	}
	out, err = a.ns.Command(context.Background(), "ip", "route", "show").Output()
	for line, want := range map[string]bool{"10.0.0.0/8": true, "198.51.101.0/24": true, "198.51.100.0/24": false} {
		if strings.Contains(string(out), line) != want || err != nil {
			t.Errorf("%s is there: %v\n%s %v", line, !want, out, err)
		}
	}
}

func TestAnAddressCanGetAnotherLength(t *testing.T) {
	l := newLab(t, nil)
	a := newAway(t, l)
	dev := a.settle(t, a.moved(t, l), Settings{IPs: prefixes("192.0.2.10/24", "2001:db8::10/64")})
	has(t, a.settle(t, dev, Settings{IPs: prefixes("192.0.2.10/16", "2001:db8::10/56")}), "192.0.2.10/16", "2001:db8::10/56")
}

func TestWhatIsInTheWayOfAnEndpointIsNamed(t *testing.T) {
	l := newLab(t, nil)
	a := newAway(t, l)
	dev := a.moved(t, l)
	a.ns.Create(t, rtnl.NewLink{Name: "eth0", Kind: "bridge"})
	a.ns.SetUp(t, "eth0")
	ip(t, a.ns, "route", "add", "default", "dev", "eth0")
	try := func(s Settings) error {
		s.VM, s.ID, s.Ifname = dev.VM, dev.ID, dev.Ifname
		_, err := a.Settle(t.Context(), dev, s)
		return err
	}
	says(t, try(Settings{Name: "eth0"}), vmnetd.ErrBusy, "name eth0", "taken")
	says(t, try(Settings{Name: "default"}), vmnetd.ErrInvalid, "default")
	says(t, try(Settings{Name: "a/b"}), vmnetd.ErrInvalid, "a/b")
	says(t, try(Settings{Guest: true, Name: "eth1"}), vmnetd.ErrInvalid, "guest")
	says(t, try(Settings{Routes: []Route{{To: netip.MustParsePrefix("0.0.0.0/0")}}}), vmnetd.ErrBusy, "0.0.0.0/0", "route")
	says(t, try(Settings{Routes: []Route{{To: netip.MustParsePrefix("10.0.0.0/8"), Via: netip.MustParseAddr("192.0.2.1")}}}), vmnetd.ErrInvalid, "gateway")
	says(t, try(Settings{Routes: []Route{{To: netip.MustParsePrefix("10.0.0.1/8")}}}), vmnetd.ErrInvalid, "10.0.0.1/8")
	a.ns.Set(t, dev.Ifname, rtnl.MTU(1000))
	says(t, try(Settings{IPs: prefixes("2001:db8::1/64")}), vmnetd.ErrUnsupported, "2001:db8::1", "1000")
	a.ns.Delete(t, dev.Ifname)
	says(t, try(Settings{}), vmnetd.ErrNotFound, "vm1/net0")
	says(t, a.SetNICUp(t.Context(), dev, true), vmnetd.ErrNotFound, "gone")
}
