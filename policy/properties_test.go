package policy

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/vmnetd/vmnetd"
)

var (
	someUplinks  = []string{"u0", "u1", "u2"}
	someNetworks = []string{"n0", "n1", "n2"}
	someModes    = []vmnetd.Mode{vmnetd.Bridge, vmnetd.VEPA, vmnetd.Private, vmnetd.Passthru}
)

func sublist[T comparable](of []T) *rapid.Generator[[]T] {
	return rapid.SliceOfNDistinct(rapid.SampledFrom(of), 0, len(of), rapid.ID[T])
}

func grants(file string, line int) *rapid.Generator[Grant] {
	return rapid.Custom(func(t *rapid.T) Grant {
		p := at(file, line)
		g := Grant{ModesAt: p, MTUAt: p, QueuesAt: p, MACsAt: p, LinkAt: p}
		if m := sublist(someModes).Draw(t, "modes"); len(m) > 0 {
			g.Modes = m
		}
		g.MTU = rapid.SampledFrom([]int{0, 0, 1400, 1500, 9000}).Draw(t, "mtu")
		g.Queues = rapid.SampledFrom([]Queues{{}, {}, {Given: true, Auto: true}, {Given: true, N: 2}, {Given: true, N: 6}}).Draw(t, "queues")
		g.MACs = rapid.SampledFrom([][]string{nil, nil, {"52:54:00:*"}, {}}).Draw(t, "macs")
		g.Link = rapid.SampledFrom([]string{"", "", LinkKeep, LinkFollow}).Draw(t, "link")
		return g
	})
}

func sets() *rapid.Generator[*Set] {
	return rapid.Custom(func(t *rapid.T) *Set {
		s := &Set{Uplinks: someUplinks, Labels: map[string]map[string]string{"db-1": {"t": "1"}}, Defaults: grants("defaults", 1).Draw(t, "defaults")}
		for i, n := range someNetworks {
			ups := sublist(someUplinks).Filter(func(u []string) bool { return len(u) > 0 }).Draw(t, "uplinks")
			vlan := rapid.SampledFrom([]int{0, 0, 7, 8}).Draw(t, "vlan")
			s.Networks = append(s.Networks, Network{Name: n, Uplinks: ups, VLAN: vlan, Grant: grants("networks", i+1).Draw(t, "network"), At: at("networks", i+1)})
		}
		for i := range rapid.IntRange(0, 5).Draw(t, "rules") {
			r := Rule{At: at("rules", i+1), Text: fmt.Sprint("rule ", i), Grant: grants("rules", i+1).Draw(t, "grant")}
			r.VM = sublist([]string{"*", "db-*", "vm?", "db-1"}).Draw(t, "vm")
			r.NIC = rapid.SampledFrom([][]string{nil, nil, {"net0"}}).Draw(t, "nic")
			r.UUID = rapid.SampledFrom([][]string{nil, nil, nil, {seed}}).Draw(t, "uuid")
			r.Label = rapid.SampledFrom([]map[string]string{nil, nil, {"t": "1"}}).Draw(t, "label")
			r.Networks = sublist(someNetworks).Draw(t, "networks")
			r.Deny = rapid.SampledFrom([]string{"", "", "", "INC-1"}).Draw(t, "deny")
			s.Rules = append(s.Rules, r)
		}
		return s
	})
}

func requests() *rapid.Generator[vmnetd.Request] {
	return rapid.Custom(func(t *rapid.T) vmnetd.Request {
		return vmnetd.Request{
			VM:      rapid.SampledFrom([]string{"db-1", "db-2", "vm1"}).Draw(t, "vm"),
			ID:      rapid.SampledFrom([]string{"", "net0", "net4"}).Draw(t, "id"),
			Network: rapid.SampledFrom(append(someNetworks, "", "")).Draw(t, "network"),
			Uplink:  rapid.SampledFrom(append(someUplinks, "", "", "")).Draw(t, "uplink"),
			Mode:    rapid.SampledFrom(append(someModes, "", "", "", "")).Draw(t, "mode"),
			MAC:     rapid.SampledFrom([]string{"", "", "52:54:00:00:00:01", "02:00:00:00:00:01"}).Draw(t, "mac"),
			Queues:  rapid.SampledFrom([]int{0, 0, 1, 4, 200}).Draw(t, "queues"),
		}
	})
}

func facts() *rapid.Generator[Facts] {
	return rapid.Custom(func(t *rapid.T) Facts {
		f := Facts{Uplinks: map[string]Uplink{}, MACSeed: seed, VM: VM{VCPUs: rapid.IntRange(0, 20).Draw(t, "vcpus"),
			UUID: rapid.SampledFrom([]string{"", seed}).Draw(t, "uuid")}}
		for _, n := range someUplinks {
			u := uplinks(n).Draw(t, n)
			if rapid.Bool().Draw(t, "has a VLAN") {
				u.VLANs = map[int]Uplink{7: uplinks(n+".7").Draw(t, n+".7")}
			}
			f.Uplinks[n] = u
		}
		return f
	})
}

func uplinks(name string) *rapid.Generator[Uplink] {
	return rapid.Custom(func(t *rapid.T) Uplink {
		u := Uplink{Present: rapid.IntRange(0, 4).Draw(t, "present") > 0, Ifname: name, Up: true, Carrier: rapid.Bool().Draw(t, "carrier"),
			MTU: rapid.SampledFrom([]int{1500, 9000}).Draw(t, "mtu"), MAC: rapid.SampledFrom([]string{"3c:00:00:00:00:01", "52:54:00:00:00:01"}).Draw(t, "mac"),
			Master:   rapid.SampledFrom([]string{"", "", "", "br0"}).Draw(t, "master"),
			BondMode: rapid.SampledFrom([]string{"", "", "", "balance-alb"}).Draw(t, "bond")}
		switch rapid.IntRange(0, 5).Draw(t, "users") {
		case 0:
			u.Users = []User{tapOf("x/net0", vmnetd.Bridge, "02:00:00:00:00:01")}
		case 1:
			u.Users = []User{tapOf("x/net0", vmnetd.Passthru, "02:00:00:00:00:09")}
		case 2:
			u.Users = []User{{Ifname: "ipvl0", Family: vmnetd.FamilyIpvlan}}
		}
		return u
	})
}

// drawn is one request with its answer.
type drawn struct {
	set *Set
	req vmnetd.Request
	f   Facts
	d   Decision
	err error
}

func draw(t *rapid.T) drawn {
	x := drawn{set: sets().Draw(t, "set"), req: requests().Draw(t, "request"), f: facts().Draw(t, "facts")}
	x.d, x.err = x.set.Decide(x.req, x.f)
	return x
}

// rule is the first rule that matches VM, NIC and network, found the plain way.
func (x drawn) rule() *Rule {
	for i := range x.set.Rules {
		r := &x.set.Rules[i]
		about := len(r.Networks) == 0 || slices.Contains(r.Networks, x.d.Network)
		if about && r.matches(subject{x.req.VM, x.f.VM.UUID, x.d.ID, x.set.Labels[x.req.VM]}) {
			return r
		}
	}
	return nil
}

func TestAGrantStaysWithinRuleAndNetwork(t *testing.T) {
	granted := 0
	rapid.Check(t, func(t *rapid.T) {
		x := draw(t)
		if x.err != nil {
			return
		}
		granted++
		r, n := x.rule(), x.set.network(x.d.Network)
		if r == nil || r.Deny != "" || r.At != x.d.RuleAt {
			t.Fatalf("the first rule that matches is %+v, the decision names %s", r, x.d.RuleAt)
		}
		modes := []vmnetd.Mode{vmnetd.Bridge}
		for _, g := range []Grant{r.Grant, n.Grant, x.set.Defaults} {
			if g.Modes != nil {
				modes = g.Modes
				break
			}
		}
		if !slices.Contains(modes, x.d.Mode) {
			t.Fatalf("mode %s, allowed %v", x.d.Mode, modes)
		}
		if x.d.Mode == vmnetd.Passthru && !slices.Contains(r.Grant.Modes, vmnetd.Passthru) {
			t.Fatal("passthru that the rule does not list")
		}
		if !slices.Contains(n.Uplinks, x.d.Uplink) || !x.f.Uplinks[x.d.Uplink].Present {
			t.Fatalf("uplink %s of %v", x.d.Uplink, n.Uplinks)
		}
	})
	if granted == 0 {
		t.Error("nothing was granted")
	}
}

func TestAGrantHonoursWhatWasAskedFor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := draw(t)
		if x.err != nil {
			return
		}
		asked := []string{x.req.ID, x.req.Network, x.req.Uplink, string(x.req.Mode), x.req.MAC}
		got := []string{x.d.ID, x.d.Network, x.d.Uplink, string(x.d.Mode), x.d.MAC}
		for i := range asked {
			if asked[i] != "" && asked[i] != got[i] {
				t.Fatalf("asked for %q, got %q", asked[i], got[i])
			}
		}
		if x.req.Queues > 0 && x.req.Queues != x.d.Queues || x.d.Queues < 1 || x.d.Queues > maxQueues {
			t.Fatalf("asked for %d queues, got %d", x.req.Queues, x.d.Queues)
		}
	})
}

func TestAGrantFitsTheHost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := draw(t)
		if x.err != nil {
			return
		}
		up := x.f.Uplinks[x.d.Uplink]
		u := up
		if v, there := up.VLANs[x.d.VLAN]; there {
			u = v
		} else if x.d.VLAN != 0 {
			u.Users = nil
		}
		if up.Master != "" || up.BondMode == "balance-alb" || x.d.VLAN != x.set.network(x.d.Network).VLAN {
			t.Fatalf("%+v is unfit for %+v", up, x.d)
		}
		if x.d.VLAN != 0 && slices.ContainsFunc(up.Users, func(o User) bool { return o.Mode == vmnetd.Passthru }) {
			t.Fatalf("a VLAN of %+v, which a guest has whole", up)
		}
		if x.d.VLAN == 0 && x.d.Mode == vmnetd.Passthru && len(up.VLANs[7].Users) > 0 {
			t.Fatalf("all of %+v, of which guests have a VLAN", up)
		}
		if u.Master != "" || x.d.MTU > u.MTU {
			t.Fatalf("%+v is unfit for %+v", u, x.d)
		}
		if x.d.Mode != vmnetd.Passthru && u.MAC == x.d.MAC {
			t.Fatal("the uplink's own MAC")
		}
		for _, o := range u.Users {
			if o.Family != vmnetd.FamilyMacvlan || o.Mode == vmnetd.Passthru || x.d.Mode == vmnetd.Passthru || o.MAC == x.d.MAC {
				t.Fatalf("beside %+v: %+v", o, x.d)
			}
		}
	})
}

// What the host looks like now can never turn yes into denied, or denied into
// anything else.
func TestDeniedDependsOnTheConfigurationAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := draw(t)
		other := facts().Draw(t, "other facts")
		other.VM, other.MACSeed = x.f.VM, x.f.MACSeed
		_, err := x.set.Decide(x.req, other)
		if errors.Is(x.err, vmnetd.ErrDenied) != errors.Is(err, vmnetd.ErrDenied) {
			t.Fatalf("%v became %v", x.err, err)
		}
		unknown := Facts{Unknown: true, VM: x.f.VM, MACSeed: seed}
		if _, err := x.set.Decide(x.req, unknown); errors.Is(err, vmnetd.ErrDenied) != errors.Is(x.err, vmnetd.ErrDenied) || errors.Is(err, vmnetd.ErrBusy) {
			t.Fatalf("on the host %v, without one %v", x.err, err)
		}
	})
}

func TestBusyBecomesYesOnAHostWithRoom(t *testing.T) {
	busy := 0
	rapid.Check(t, func(t *rapid.T) {
		x := draw(t)
		if !errors.Is(x.err, vmnetd.ErrBusy) {
			return
		}
		busy++
		for n := range x.f.Uplinks {
			x.f.Uplinks[n] = Uplink{Present: true, Carrier: true, MTU: 9000, MAC: "3c:00:00:00:00:07"}
		}
		if _, err := x.set.Decide(x.req, x.f); err != nil {
			t.Fatalf("%v, and with room %v", x.err, err)
		}
	})
	if busy == 0 {
		t.Error("nothing was busy")
	}
}

func TestTheSameQuestionHasOneAnswerAndChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := draw(t)
		before := fmt.Sprintf("%+v %+v", *x.set, x.f)
		d, err := x.set.Decide(x.req, x.f)
		if diff := cmp.Diff(x.d, d); diff != "" || fmt.Sprint(err) != fmt.Sprint(x.err) {
			t.Fatalf("%v, then %v\n%s", x.err, err, diff)
		}
		if fmt.Sprintf("%+v %+v", *x.set, x.f) != before {
			t.Fatal("deciding changed the set or the facts")
		}
	})
}

func TestAnUplinkThatIsUnfitNeverChangesWhatTheOthersGet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := draw(t)
		if x.err != nil {
			return
		}
		n := x.set.network(x.d.Network)
		place := rapid.IntRange(0, len(n.Uplinks)).Draw(t, "place")
		n.Uplinks = slices.Insert(slices.Clone(n.Uplinks), place, "bad")
		x.f.Uplinks["bad"] = Uplink{Present: true, Carrier: rapid.Bool().Draw(t, "carrier"), Master: "br9", MTU: 1500}
		d, err := x.set.Decide(x.req, x.f)
		if err != nil || given(d) != given(x.d) {
			t.Fatalf("%s became %s, %v", given(x.d), given(d), err)
		}
	})
}

// Each key comes from the rule, else the network, else the defaults.
func TestRuleBeatsNetworkBeatsDefaults(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		layers := []Grant{grants("rules", 1).Draw(t, "rule"), grants("networks", 1).Draw(t, "network"), grants("defaults", 1).Draw(t, "defaults")}
		s := &Set{Defaults: layers[2]}
		g := s.merge(&Network{Name: "n", Grant: layers[1], At: at("networks", 1)}, &Rule{Grant: layers[0], At: at("rules", 1)})
		var mtu int
		var queues Queues
		var macs []string
		link := LinkKeep
		for _, l := range slices.Backward(layers) {
			if l.MTU != 0 {
				mtu = l.MTU
			}
			if l.Queues.Given {
				queues = l.Queues
			}
			if l.MACs != nil {
				macs = l.MACs
			}
			if l.Link != "" {
				link = l.Link
			}
		}
		if !queues.Given {
			queues = Queues{Auto: true}
		}
		if g.mtu != mtu || g.queues != queues || g.link != link || !reflect.DeepEqual(g.macs, macs) {
			t.Fatalf("merged to %+v from %+v", g, layers)
		}
		for _, from := range []struct {
			by    source
			given func(Grant) bool
		}{
			{g.mtuBy, func(l Grant) bool { return l.MTU != 0 }},
			{g.queuesBy, func(l Grant) bool { return l.Queues.Given }},
			{g.macsBy, func(l Grant) bool { return l.MACs != nil }},
			{g.linkBy, func(l Grant) bool { return l.Link != "" }},
			{g.modesBy, func(l Grant) bool { return l.Modes != nil }},
		} {
			i := slices.IndexFunc(layers, from.given)
			if want := append([]string{"rules", "networks", "defaults"}, "")[(i+4)%4]; from.by.at.File != want {
				t.Fatalf("said to come from %q, comes from %q", from.by.at.File, want)
			}
		}
	})
}

// Explain tells what Decide does, whichever way it goes.
func TestExplainAgreesWithDecide(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := draw(t)
		e := x.set.Explain(x.req, x.f)
		if e.Granted != (x.err == nil) || e.Network != x.d.Network || !slices.Equal(e.Not, x.d.Not) {
			t.Fatalf("explained as %+v, decided %+v, %v", e, x.d, x.err)
		}
		if x.err != nil {
			if e.Error != x.err.Error() || e.ExitCode != vmnetd.ClassOf(x.err).Exit || e.ExitCode == 0 {
				t.Fatalf("explained as %q (%d), decided %v", e.Error, e.ExitCode, x.err)
			}
			return
		}
		if e.Uplink != x.d.Uplink || e.Mode != string(x.d.Mode) || e.MAC != x.d.MAC || e.Queues != x.d.Queues || e.ExitCode != 0 {
			t.Fatalf("explained as %+v, decided %+v", e, x.d)
		}
	})
}

// Every network, every uplink of the network and every mode is either taken or
// listed with a reason.
func TestEveryAlternativeHasItsReason(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := draw(t)
		if x.err != nil {
			return
		}
		want := map[string]bool{}
		for _, n := range someNetworks {
			want["network "+n] = n != x.d.Network
		}
		for _, u := range x.set.network(x.d.Network).Uplinks {
			want["uplink "+u] = u != x.d.Uplink
		}
		for _, m := range vmnetd.ModeNames() {
			want["mode "+m] = vmnetd.Mode(m) != x.d.Mode
		}
		for _, r := range x.d.Not {
			if !want[r.What] || r.Because == "" {
				t.Fatalf("listed as not taken: %+v", r)
			}
			delete(want, r.What)
		}
		for what, missing := range want {
			if missing {
				t.Fatalf("%s is neither taken nor listed", what)
			}
		}
	})
}

// An uplink with carrier that fits is never passed over for one without.
func TestCarrierComesFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := draw(t)
		if x.err != nil || x.req.Uplink != "" || x.f.Uplinks[x.d.Uplink].Carrier {
			return
		}
		for _, u := range x.set.network(x.d.Network).Uplinks {
			if !x.f.Uplinks[u].Carrier || !x.f.Uplinks[u].Present {
				continue
			}
			req := x.req
			req.Network, req.Uplink = x.d.Network, u
			if _, err := x.set.Decide(req, x.f); err == nil {
				t.Fatalf("%s has carrier and fits, and %s was taken", u, x.d.Uplink)
			}
		}
	})
}
