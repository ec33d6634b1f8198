package policy

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
)

// guestSet is one network on wan with its grant, open to everybody.
func guestSet(g Grant) *Set {
	g.ModesAt = at("networks.yaml", 2)
	return &Set{
		Uplinks:  []string{"wan"},
		Networks: []Network{{Name: "lan", Uplinks: []string{"wan"}, At: at("networks.yaml", 2), Grant: g}},
		Rules:    []Rule{{VM: []string{"*"}, Text: `vm: "*"`, At: at("rules.yaml", 3)}},
	}
}

func modes(m ...vmnetd.Mode) Grant { return Grant{Modes: m} }

func learning(g Grant, within ...string) Grant {
	g.IPs, g.IPsAt = IPs{Given: true, Learn: true}, at("networks.yaml", 4)
	for _, w := range within {
		g.IPs.Within = append(g.IPs.Within, netip.MustParsePrefix(w))
	}
	return g
}

func ipvtapOf(owner string, mode vmnetd.Mode, flag string) User {
	vm, id, _ := vmnetd.SplitFullName(owner)
	return User{Ifname: vmnetd.Ifname(vm, id), Kind: "ipvtap", Family: vmnetd.FamilyIpvlan, Mode: mode, Flag: flag, MAC: "3c:ec:ef:00:00:01", Owner: owner}
}

// guestCase is one decision: what is given, or why not.
type guestCase struct {
	grant  Grant
	vlan   int
	trunk  []vmnetd.VLANRange
	limits *Limits
	req    vmnetd.Request
	wan    func(*Uplink)
	facts  func(*Facts)
	want   string // "ipvtap l2" when it is granted
	exit   int    // otherwise
	text   string // a part of the sentence
	next   string // a part of what to do
}

func (c guestCase) decide() (Decision, error) {
	s, f := guestSet(c.grant), exampleFacts()
	s.Networks[0].VLAN, s.Networks[0].Trunk, s.Networks[0].TrunkAt = c.vlan, c.trunk, at("networks.yaml", 6)
	if c.limits != nil {
		s.Limits = map[string]Limits{"wan": *c.limits}
	}
	if c.wan != nil {
		f = f.with("wan", c.wan)
	}
	if c.facts != nil {
		c.facts(&f)
	}
	if c.req.VM == "" {
		c.req.VM = "vm1"
	}
	return s.Decide(c.req, f)
}

func (c guestCase) check(t *testing.T) {
	t.Helper()
	d, err := c.decide()
	if c.want != "" {
		if got := string(d.Kind) + " " + string(d.Mode); err != nil || got != c.want {
			t.Errorf("got %s, %v, want %s", got, err, c.want)
		}
		return
	}
	if err == nil {
		t.Fatalf("granted: %+v", d)
	}
	if got := vmnetd.ClassOf(err).Exit; got != c.exit {
		t.Errorf("exit %d, want %d", got, c.exit)
	}
	if !strings.Contains(err.Error(), c.text) || !strings.Contains(vmnetd.NextOf(err), c.next) {
		t.Errorf("got  %v\nnext %s\nwant %s\nnext %s", err, vmnetd.NextOf(err), c.text, c.next)
	}
}

func asked(mode vmnetd.Mode, ips ...string) vmnetd.Request {
	return vmnetd.Request{Mode: mode, IPs: ips}
}

func held(ip string, h Holder) func(*Facts) {
	return func(f *Facts) { f.Held = map[netip.Addr][]Holder{netip.MustParseAddr(ip): {h}} }
}

func inNetns(trusted bool) func(*Facts) {
	return func(f *Facts) { f.Netns = &Netns{Path: "/run/netns/web", Trusted: trusted} }
}

func onBridgeBr(filtering bool) func(*Uplink) {
	return func(u *Uplink) { u.Kind, u.BondMode, u.Filtering = kindBridge, "", filtering }
}

var (
	l2, l3   = modes(vmnetd.L2), modes(vmnetd.L3)
	bridge   = modes(vmnetd.Bridge)
	switched = modes(vmnetd.Switched)
	either   = modes(vmnetd.Auto)
)

func TestTheCommandAsksForTheSameAgain(t *testing.T) {
	e := guestSet(bridge).Explain(vmnetd.Request{VM: "web", Via: "netns:/run/netns/web", IPs: []string{"192.0.2.5/24", "2001:db8::5/64"}, Name: "eth7", Routes: []string{"default via 192.0.2.1"}}, Facts{Unknown: true})
	want := "vmnetd attach web --ip 192.0.2.5/24,2001:db8::5/64 --via netns:/run/netns/web --name eth7 --route 'default via 192.0.2.1'"
	if e.Next != want || e.Kind != "macvlan" || e.Name != "eth7" {
		t.Errorf("%+v", e)
	}
}
