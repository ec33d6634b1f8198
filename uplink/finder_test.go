package uplink

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// lab is a host with an uplink u0 and a Finder that looks at it.
type lab struct {
	*Finder
	ns, out *testkit.Netns
	watch   *rtnl.Watch
}

func newLab(t testing.TB) *lab { return newLabIn(t, "netns") }

func newLabIn(t testing.TB, tier string) *lab {
	t.Helper()
	testkit.Require(t, tier)
	l := &lab{ns: testkit.NewNetns(t), out: testkit.NewNetns(t)}
	testkit.NewVeth(t, l.ns, "u0", l.out, "far0")
	err := l.ns.Do(func() error {
		var err error
		l.watch, err = rtnl.OpenWatch()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.watch.Close() })
	l.Finder = New(l.ns.Conn(), l.watch)
	return l
}

// state brings the mirror up to date and looks.
func (l *lab) state(t testing.TB, s Spec) State {
	t.Helper()
	if err := l.watch.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	st, err := l.State(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func (l *lab) ip(t testing.TB, args ...string) {
	t.Helper()
	if out, err := l.ns.Command(context.Background(), "ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

func TestUplinkIsFoundByNameAndMAC(t *testing.T) {
	l := newLab(t)
	u0 := l.ns.Link(t, "u0")
	for _, s := range []Spec{{Name: "u0"}, {Name: "lan", Device: "u0"}, {Name: "wan", MAC: u0.MAC}} {
		if st := l.state(t, s); !st.Present || st.Link.Index != u0.Index || st.Problem != "" {
			t.Errorf("%+v: %+v", s, st)
		}
	}
}

func TestNewsIsOfAnUplinkWhereItFitsItsDeclarationOrIsWhatItWasFoundAs(t *testing.T) {
	l := newLab(t)
	u0, lo := l.ns.Link(t, "u0"), l.ns.Link(t, "lo")
	specs := []Spec{{Name: "u0"}, {Name: "lan", Device: "u0"}, {Name: "wan", MAC: u0.MAC}}
	for _, s := range append(specs, Spec{Name: "rack", Path: "pci-0000:ff:1f.7"}) {
		if fits := l.fits(s, u0); fits != (s.Path == "") || l.fits(s, lo) {
			t.Errorf("%+v: u0 %v, lo %v", s, fits, l.fits(s, lo))
		}
	}
	l.state(t, specs[0])
	l.ns.SetDown(t, "u0")
	l.ns.Set(t, "u0", rtnl.Name("u9"))
	if renamed := l.ns.Link(t, "u9"); !l.fits(specs[0], renamed) || l.fits(specs[1], renamed) {
		t.Error("an uplink that was found is not followed, or one that was not is")
	}
}

func TestAbsentUplinkIsSaidToBe(t *testing.T) {
	l := newLab(t)
	for _, s := range []Spec{{Name: "eth7"}, {Name: "a", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}}, {Name: "b", Path: "pci-0000:ff:1f.7"}} {
		if st := l.state(t, s); st.Present || !strings.HasPrefix(st.Problem, "this host has no device") {
			t.Errorf("%+v: %+v", s, st)
		}
	}
}

func TestMACThatIsNotUniqueNamesBothDevices(t *testing.T) {
	l := newLab(t)
	l.ns.Create(t, rtnl.NewLink{Name: "br0", Kind: "bridge", MAC: l.ns.Link(t, "u0").MAC})
	st := l.state(t, Spec{Name: "x", MAC: l.ns.Link(t, "u0").MAC})
	if st.Present || !strings.Contains(st.Problem, "u0") || !strings.Contains(st.Problem, "br0") {
		t.Errorf("%+v", st)
	}
}

func TestMACTakenFromALowerDeviceDoesNotMatch(t *testing.T) {
	l := newLab(t)
	u0 := l.ns.Link(t, "u0")
	l.ns.Create(t, rtnl.NewLink{Name: "m0", Kind: "macvlan", Lower: u0.Index, Data: rtnl.MacvlanMode("passthru")})
	if m := l.ns.Link(t, "m0"); m.MAC.String() != u0.MAC.String() {
		t.Fatalf("m0 has MAC %s", m.MAC)
	}
	if st := l.state(t, Spec{Name: "x", MAC: u0.MAC}); st.Link.Name != "u0" {
		t.Errorf("%+v", st)
	}
}

// TestRenamedUplinkIsFollowed renames live, while it is up and carries guests.
func TestRenamedUplinkIsFollowed(t *testing.T) {
	l := newLab(t)
	u0 := l.ns.Link(t, "u0")
	spec := Spec{Name: "lan", Device: "u0"}
	l.state(t, spec)
	l.ns.Set(t, "u0", rtnl.Name("enp1s0"))
	l.ns.Create(t, rtnl.NewLink{Name: "u0", Kind: "bridge"}) // the old name is another's now
	st := l.state(t, spec)
	if st.Link.Index != u0.Index || st.Link.Name != "enp1s0" || !strings.Contains(st.Problem, "renamed to enp1s0") {
		t.Errorf("after the rename: %+v", st)
	}
	l.ip(t, "link", "del", "u0")
	l.ns.Set(t, "enp1s0", rtnl.Name("u0"))
	if st := l.state(t, spec); st.Link.Index != u0.Index || st.Problem != "" {
		t.Errorf("after the rename back: %+v", st)
	}
}

func TestUplinkThatGoesAndComesBackIsFoundAgain(t *testing.T) {
	l := newLab(t)
	spec := Spec{Name: "u0"}
	first := l.state(t, spec).Link.Index
	l.ns.Set(t, "u0", rtnl.NetNS(l.out.NS()))
	if st := l.state(t, spec); st.Present || st.Problem == "" {
		t.Errorf("while it is away: %+v", st)
	}
	l.out.Set(t, "u0", rtnl.NetNS(l.ns.NS()))
	l.ns.SetUp(t, "u0")
	l.out.SetUp(t, "far0")
	if st := l.state(t, spec); !st.Present || st.Problem != "" {
		t.Errorf("back with index %d, was %d: %+v", st.Link.Index, first, st)
	}
}

func TestDeviceOfThatNameThatIsAnotherOneIsTakenOnceTheFirstIsGone(t *testing.T) {
	l := newLab(t)
	spec := Spec{Name: "u0"}
	old := l.state(t, spec).Link.Index
	l.ns.Delete(t, "u0")
	made := l.ns.Create(t, rtnl.NewLink{Name: "u0", Kind: "bridge"})
	if st := l.state(t, spec); st.Link.Index != made.Index || made.Index == old {
		t.Errorf("%+v, want index %d", st, made.Index)
	}
}

func TestChangedDeclarationIsLookedUpAnew(t *testing.T) {
	l := newLab(t)
	l.ns.Create(t, rtnl.NewLink{Name: "br0", Kind: "bridge"})
	l.state(t, Spec{Name: "lan", Device: "u0"})
	if st := l.state(t, Spec{Name: "lan", Device: "br0"}); st.Link.Name != "br0" {
		t.Errorf("%+v", st)
	}
}

func TestStateTellsWhatStandsOnTheUplinkAndWhoseItIs(t *testing.T) {
	l := newLab(t)
	u0 := l.ns.Link(t, "u0")
	l.ip(t, "addr", "add", "192.0.2.17/24", "dev", "u0")
	l.ns.Create(t, rtnl.NewLink{Name: "m0", Kind: "macvtap", Lower: u0.Index, Data: rtnl.MacvlanMode("bridge")})
	st := l.state(t, Spec{Name: "u0"})
	if len(st.Users) != 1 || st.Users[0].Name != "m0" || st.Users[0].Mode != "bridge" {
		t.Errorf("users: %+v", st.Users)
	}
	if !strings.Contains(fmt.Sprint(st.Hosts), "192.0.2.17/24") {
		t.Errorf("hosts: %v", st.Hosts)
	}
	l.ns.Delete(t, "m0")
	br := l.ns.Create(t, rtnl.NewLink{Name: "br0", Kind: "bridge"})
	l.ns.Set(t, "u0", rtnl.Master(br.Index))
	if st := l.state(t, Spec{Name: "u0"}); st.Master.Name != "br0" || st.Master.Kind != "bridge" {
		t.Errorf("master: %+v", st.Master)
	}
}

func TestVMStateTellsWhoseAVLANIs(t *testing.T) {
	testkit.Require(t, "vm")
	l := newLab(t)
	l.ip(t, "link", "add", "link", "u0", "name", "u0.7", "up", "type", "vlan", "id", "7")
	if st := l.state(t, Spec{Name: "u0"}); len(st.VLANs) != 1 || st.VLANs[0].Master.Name != "" {
		t.Errorf("nobody's: %d VLANs", len(st.VLANs))
	}
	l.ip(t, "link", "add", "br7", "type", "bridge")
	l.ip(t, "link", "set", "u0.7", "master", "br7")
	if st := l.state(t, Spec{Name: "u0"}); len(st.VLANs) != 1 || st.VLANs[0].Master.Name != "br7" || st.VLANs[0].Master.Kind != "bridge" {
		t.Errorf("a port: %d VLANs, not of br7", len(st.VLANs))
	}
}

func TestVMTheHostsLinkLocalAddressOnAVLANIsKnown(t *testing.T) {
	testkit.Require(t, "vm")
	l := newLab(t)
	l.ip(t, "link", "add", "link", "u0", "name", "u0.7", "type", "vlan", "id", "7")
	l.ip(t, "addr", "add", "fe80::7/64", "dev", "u0.7", "nodad")
	l.ip(t, "addr", "add", "192.0.2.17/24", "dev", "u0.7")
	st := l.state(t, Spec{Name: "u0"})
	if got := fmt.Sprint(st.VLANs[0].Hosts); got != "[192.0.2.17/24 fe80::7/64]" {
		t.Errorf("hosts: %s", got)
	}
}

func TestVMABondThatRewritesMACsIsSeenThroughWhatStandsOnIt(t *testing.T) {
	testkit.Require(t, "vm")
	l := newLab(t)
	l.ip(t, "link", "add", "tlb0", "type", "bond", "mode", "balance-tlb", "miimon", "100")
	l.ip(t, "link", "set", "u0", "down")
	l.ip(t, "link", "set", "u0", "master", "tlb0")
	l.ip(t, "link", "set", "tlb0", "up")
	l.ip(t, "link", "add", "link", "tlb0", "name", "tlb0.7", "type", "vlan", "id", "7")
	l.ip(t, "link", "add", "any0", "type", "bond", "mode", "active-backup", "miimon", "100")
	if st := l.state(t, Spec{Name: "any0"}); st.BondMode != "active-backup" {
		t.Errorf("an anchor over nothing: %q", st.BondMode)
	}
	l.ip(t, "link", "set", "tlb0.7", "master", "any0")
	l.ip(t, "link", "add", "br0", "type", "bridge")
	l.ip(t, "link", "set", "any0", "master", "br0")
	for _, name := range []string{"tlb0", "tlb0.7", "any0", "br0"} {
		if st := l.state(t, Spec{Name: name}); st.BondMode != "balance-tlb" {
			t.Errorf("%s: %q", name, st.BondMode)
		}
	}
	if st := l.state(t, Spec{Name: "u0"}); st.BondMode != "" {
		t.Errorf("the port: %q", st.BondMode)
	}
}

func TestProblemSaysWhatIsWrong(t *testing.T) {
	l := newLab(t)
	if st := l.state(t, Spec{Name: "u0", MTU: 9000}); !strings.Contains(st.Problem, "1500, not 9000") {
		t.Errorf("MTU: %q", st.Problem)
	}
	far := l.out.Link(t, "far0")
	if err := l.out.Conn().SetUp(t.Context(), far.Index, false); err != nil {
		t.Fatal(err)
	}
	if st := l.state(t, Spec{Name: "u0"}); !strings.Contains(st.Problem, "no carrier") || !st.Present {
		t.Errorf("no carrier: %q", st.Problem)
	}
	l.ip(t, "link", "set", "u0", "down")
	if st := l.state(t, Spec{Name: "u0"}); !strings.Contains(st.Problem, "is down") || !st.Present {
		t.Errorf("down: %q", st.Problem)
	}
}

func TestPathIsWrittenAsUdevWritesIt(t *testing.T) {
	for _, c := range []struct{ real, bus, want string }{
		{"/sys/devices/pci0000:00/0000:00:03.0/virtio0", "virtio", "pci-0000:00:03.0"},
		{"/sys/devices/pci0000:00/0000:00:1c.0/0000:02:00.0/virtio1", "virtio", "pci-0000:02:00.0"},
		{"/sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0", "usb", "pci-0000:00:14.0-usb-0:2:1.0"},
		{"/sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2.4/1-2.4:1.0", "usb", "pci-0000:00:14.0-usb-0:2.4:1.0"},
		{"/sys/devices/platform/d0000000.virtio_mmio/virtio2", "virtio", "platform-d0000000.virtio_mmio"},
		{"/sys/devices/virtual/net/br0", "", ""},
	} {
		if got := pathFrom(c.real, c.bus); got != c.want {
			t.Errorf("%s: %q, want %q", c.real, got, c.want)
		}
	}
	for link, want := range map[string]string{"pci 0000:01:00.0": "pci-0000:01:00.0", "": "", "virtio ../../x": "", "platform fe300000.ethernet": "platform-fe300000.ethernet"} {
		bus, dev, _ := strings.Cut(link, " ")
		if got := idPath(rtnl.Link{ParentBus: bus, ParentDev: dev}); got != want {
			t.Errorf("%q: %q, want %q", link, got, want)
		}
	}
}

// TestPathMatchesARealDevice looks, and only looks, at a NIC of the machine
// that sits on a bus.
func TestPathMatchesARealDevice(t *testing.T) {
	testkit.Require(t, "netns")
	conn, err := rtnl.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	watch, err := rtnl.OpenWatch()
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	if err := watch.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, l := range watch.All() {
		path := idPath(l)
		if path == "" {
			continue
		}
		st, err := New(conn, watch).State(t.Context(), Spec{Name: "x", Path: path})
		if err != nil || st.Link.Index != l.Index {
			t.Errorf("%s: found %+v, %v; want %s", path, st, err, l.Name)
		}
		t.Logf("%s is %s", l.Name, path)
	}
}

func BenchmarkState(b *testing.B) {
	l := newLab(b)
	l.state(b, Spec{Name: "u0"})
	for b.Loop() {
		if _, err := l.State(context.Background(), Spec{Name: "u0"}); err != nil {
			b.Fatal(err)
		}
	}
}
