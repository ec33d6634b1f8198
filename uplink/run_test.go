package uplink

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/bonding"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// box is a host with NICs e1 to e4, each with a cable to another namespace.
type box struct {
	*kernel
	ns, out *testkit.Netns
	made    map[string]string
}

func newBox(t testing.TB) *box {
	t.Helper()
	testkit.Require(t, "vm")
	b := &box{ns: testkit.NewNetns(t), out: testkit.NewNetns(t), made: map[string]string{}}
	for i := 1; i <= 4; i++ {
		testkit.NewVeth(t, b.ns, fmt.Sprintf("e%d", i), b.out, fmt.Sprintf("f%d", i))
	}
	b.kernel = &kernel{conn: b.ns.Conn()}
	return b
}

func (b *box) world(t testing.TB) World {
	t.Helper()
	w, err := b.look(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// do carries steps out.
func (b *box) do(t testing.TB, steps []Step) {
	t.Helper()
	for _, s := range steps {
		if err := b.run(context.Background(), s); err != nil {
			t.Fatalf("%v\nof %q", err, inWords(steps))
		}
	}
}

// apply brings what is declared, and holds that nothing differs then.
func (b *box) apply(t testing.TB, specs ...Spec) []Step {
	t.Helper()
	is := b.world(t)
	w, checks := want(Declared{Specs: specs, Made: b.made}, is)
	if checks = append(checks, refuse(is, w)...); len(checks) > 0 {
		t.Fatalf("refused: %+v", checks)
	}
	steps := diff(is, w)
	b.do(t, steps)
	left := slices.DeleteFunc(diff(b.world(t), w), func(s Step) bool {
		return s.Verb == verbMAC && s.Kind == kindBridge // a veth has no MAC of the factory that a bridge could be given
	})
	if len(left) > 0 {
		t.Fatalf("left to do: %q\nof %q\nfrom %+v", inWords(left), inWords(steps), is)
	}
	b.made = map[string]string{}
	for _, s := range specs {
		if k := w[s.Name].Kind; k != kindNIC {
			b.made[s.Name] = k
		}
	}
	return steps
}

// modeOptions is an option that each mode has, before and after a live change.
var modeOptions = map[string][2]map[string]string{
	bonding.BalanceRR:    {{"packets_per_slave": "4", "miimon": "100"}, {"packets_per_slave": "8", "miimon": "50"}},
	bonding.ActiveBackup: {{"miimon": "100", "primary": "e1", "num_grat_arp": "2"}, {"miimon": "50", "primary": "e2", "num_grat_arp": "3"}},
	bonding.BalanceXOR:   {{"miimon": "100", "xmit_hash_policy": "layer2"}, {"xmit_hash_policy": "layer3+4"}},
	bonding.Broadcast:    {{"miimon": "100", "min_links": "0"}, {"miimon": "20", "resend_igmp": "3"}},
	bonding.LACP:         {{"miimon": "100", "lacp_rate": "slow"}, {"lacp_rate": "fast", "ad_select": "count"}},
	bonding.BalanceTLB:   {{"miimon": "100", "lp_interval": "2"}, {"lp_interval": "3", "primary": "e1"}},
	bonding.BalanceALB:   {{"miimon": "100", "lp_interval": "2"}, {"lp_interval": "3"}},
}

func TestVMEveryBondModeIsMadeReadBackChangedExchangedAndRemoved(t *testing.T) {
	b := newBox(t)
	before := b.world(t)
	for _, mode := range bonding.Modes() {
		b.apply(t, bondSpec("bond0", mode, modeOptions[mode][0], "e1", "e2"))
		is := b.world(t)["bond0"]
		for option, v := range modeOptions[mode][0] {
			if is.Options[option] != v {
				t.Errorf("%s: %s is %q, want %q", mode, option, is.Options[option], v)
			}
		}
		changed := bondSpec("bond0", mode, modeOptions[mode][1], "e1", "e2")
		for _, s := range b.apply(t, changed) {
			if s.Verb == verbRelease || s.Verb == verbMake {
				t.Errorf("%s: a change of options has %q", mode, s.text())
			}
		}
		if steps := b.apply(t, changed); len(steps) > 0 {
			t.Errorf("%s: adopted with %q", mode, inWords(steps))
		}
		b.apply(t, bondSpec("bond0", mode, nil, "e2", "e3"))
	}
	b.apply(t)
	same(t, before, b.world(t))
}

func TestVMVLANsAndBridgesAreMadeChangedAndRemoved(t *testing.T) {
	b := newBox(t)
	before := b.world(t)
	bridge := Spec{Name: "br0", Kind: vmnetd.UplinkBridge, Bridge: &Bridge{Ports: []string{"e3", "e4"}, VLANFiltering: true, AgeingTime: 60}}
	outer := Spec{Name: "s7", Kind: vmnetd.UplinkVLAN, VLAN: &VLAN{Over: "bond0", ID: 7, Protocol: "802.1ad"}}
	inner := Spec{Name: "c8", Kind: vmnetd.UplinkVLAN, VLAN: &VLAN{Over: "s7", ID: 8}}
	lower := bondSpec("bond0", bonding.ActiveBackup, nil, "e1")
	b.apply(t, inner, outer, bridge, lower)
	w := b.world(t)
	if got := w["br0"].Options; got["vlan_filtering"] != "1" || got["ageing_time"] != "6000" {
		t.Errorf("br0: %v", got)
	}
	if v := w["s7"]; v.Lower != "bond0" || v.VLAN.ID != 7 || v.VLAN.Protocol != "802.1ad" {
		t.Errorf("s7: %+v", v)
	}
	bridge.Bridge = &Bridge{Ports: []string{"e4"}, STP: true}
	lower.MTU = 2000
	inner.VLAN = &VLAN{Over: "s7", ID: 9}
	b.apply(t, lower, bridge, outer, inner)
	if w := b.world(t); w["e1"].MTU != 2000 || w["c8"].VLAN.ID != 9 || w["e3"].Master != "" {
		t.Errorf("changed: e1 %+v, c8 %+v, e3 %+v", w["e1"], w["c8"], w["e3"])
	}
	b.apply(t)
	same(t, before, b.world(t))
}

// state is what a rollback must bring back; a device that was made anew has
// another ifindex, and which port has the bond's MAC is balance-alb's to choose.
func state(w World) World {
	out := World{}
	for name, d := range w {
		d.Index, d.Carrier, d.Active, d.Ports, d.Uplink = 0, false, "", nil, ""
		if governed(w, name) {
			d.MAC = ""
		}
		out[name] = d
	}
	return out
}

func TestVMWhateverIsAppliedIsTakenBackCompletely(t *testing.T) {
	b := newBox(t)
	ctx := context.Background()
	e1 := b.ns.Link(t, "e1").Index
	for _, prefix := range []string{"192.0.2.17/24", "2001:db8::17/64"} {
		if err := b.conn.AddAddr(ctx, e1, rtnl.Addr{Prefix: netip.MustParsePrefix(prefix)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []rtnl.Route{
		{To: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("192.0.2.1"), Table: 254, Proto: 4},
		{To: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("2001:db8::1"), Table: 254, Proto: 4, Metric: 1024},
	} {
		if err := b.conn.AddRoute(ctx, e1, r); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(1)
	if given, err := strconv.ParseUint(os.Getenv("UPLINK_SEED"), 10, 64); err == nil { // to look for more
		seed = given
	}
	random := rand.New(rand.NewPCG(seed, 1))
	for round := range 12 {
		specs := randomSpecs(random)
		before := b.world(t)
		w, checks := want(Declared{Specs: specs, Made: b.made}, before)
		if checks = append(checks, refuse(before, w)...); len(checks) > 0 {
			t.Fatalf("seed %d, round %d: refused: %+v", seed, round, checks)
		}
		steps := diff(before, w)
		half := steps[:random.IntN(len(steps)+1)] // killed on its way
		b.do(t, half)
		b.takeBack(t, before)
		if d := cmp.Diff(state(before), state(b.world(t)), worldEqual...); d != "" {
			t.Fatalf("seed %d, round %d: after %q and back: %s", seed, round, inWords(half), d)
		}
		b.apply(t, specs...)
	}
}

var worldEqual = []cmp.Option{cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})}

func (b *box) takeBack(t testing.TB, before World) {
	t.Helper()
	is := b.world(t)
	back := before.clone()
	for name := range is {
		if !before.there(name) {
			back[name] = Device{Name: name, Kind: is[name].Kind, Absent: true}
		}
	}
	b.do(t, diff(is, back))
	if left := diff(b.world(t), back); len(left) > 0 { // what a step changed that no plan foresees
		b.do(t, left)
	}
}

// randomSpecs is a host that could be declared.
func randomSpecs(r *rand.Rand) []Spec {
	nics := []string{"e1", "e2", "e3", "e4"}
	r.Shuffle(len(nics), func(i, j int) { nics[i], nics[j] = nics[j], nics[i] })
	modes := bonding.Modes()
	var specs []Spec
	mode := modes[r.IntN(len(modes))]
	lower := bondSpec([]string{"bond0", "bond1"}[r.IntN(2)], mode, modeOptionsFor(mode, nics[:2], r.IntN(2)), nics[:2]...)
	lower.MTU = []int{0, 1600}[r.IntN(2)]
	specs = append(specs, lower)
	switch r.IntN(4) {
	case 0:
		specs = append(specs, Spec{Name: "v7", Kind: vmnetd.UplinkVLAN, VLAN: &VLAN{Over: lower.Name, ID: 7 + r.IntN(2)}})
	case 1:
		a := anchorSpec("wan", lower.Name)
		a.MTU = lower.MTU
		specs = append(specs, a)
	case 2:
		specs = append(specs, Spec{Name: "br0", Kind: vmnetd.UplinkBridge, Bridge: &Bridge{Ports: nics[2:], VLANFiltering: r.IntN(2) == 0}})
	}
	return specs
}

func modeOptionsFor(mode string, ports []string, i int) map[string]string {
	options := with(modeOptions[mode][i], nil)
	if options["primary"] != "" {
		options["primary"] = ports[i]
	}
	return options
}

func TestVMTheKernelTakesParametersThatAreReadBackEqual(t *testing.T) {
	b := newBox(t)
	b.apply(t, Spec{Name: "br0", Kind: vmnetd.UplinkBridge, Bridge: &Bridge{Ports: []string{"e3"}}})
	br, e3 := b.world(t)["br0"], b.world(t)["e3"]
	if len(br.Options) < len(bridgeTable)-3 || len(e3.PortOptions) < len(bridgePortTable)-2 {
		t.Errorf("a bridge says %v, its port %v", br.Options, e3.PortOptions)
	}
	for name, v := range map[string]string{"ageing_time": "1234", "priority": "4096", "multicast_snooping": "0", "vlan_protocol": "34984", "group_fwd_mask": "8"} {
		b.do(t, []Step{{Verb: verbOptions, Device: "br0", Kind: kindBridge, Options: map[string]string{name: v}}})
		if got := b.world(t)["br0"].Options[name]; got != v {
			t.Errorf("%s is %s, want %s", name, got, v)
		}
	}
	for name, v := range map[string]string{"learning": "0", "path_cost": "7", "hairpin_mode": "1", "isolated": "1"} {
		b.do(t, []Step{{Verb: verbPort, Device: "e3", Master: "br0", Kind: kindBridge, Options: map[string]string{name: v}}})
		if got := b.world(t)["e3"].PortOptions[name]; got != v {
			t.Errorf("%s is %s, want %s", name, got, v)
		}
	}
	b.do(t, []Step{{Verb: verbOptions, Device: "br0", Kind: kindBridge, Options: br.Options}, {Verb: verbPort, Device: "e3", Master: "br0", Kind: kindBridge, Options: e3.PortOptions}})
	w := b.world(t)
	if !reflect.DeepEqual(w["br0"].Options, br.Options) || !reflect.DeepEqual(w["e3"].PortOptions, e3.PortOptions) {
		t.Errorf("back: %s %s", cmp.Diff(br.Options, w["br0"].Options), cmp.Diff(e3.PortOptions, w["e3"].PortOptions))
	}
	if !slices.Equal(w.ports("br0"), []string{"e3"}) {
		t.Errorf("ports: %v", w.ports("br0"))
	}
}
