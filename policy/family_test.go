package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vmnetd/vmnetd"
)

// crowd is an uplink on which NICs are attached one after the other.
type crowd struct {
	f     Facts
	ports int // switched NICs
}

func (c *crowd) add(d Decision, vm string) {
	u := User{Ifname: vmnetd.Ifname(vm, d.ID), Kind: string(d.Kind), Family: d.Mode.Info().Family, Mode: d.Mode, Flag: d.Flag, MAC: d.MAC, Owner: vm + "/" + d.ID}
	for _, p := range d.IPs {
		c.f.Held[p.Addr()] = append(c.f.Held[p.Addr()], Holder{Owner: u.Owner, Network: d.Network, Uplink: d.Uplink, VLAN: d.VLAN})
	}
	c.f = c.f.with("wan", func(up *Uplink) {
		switch {
		case onBridge(d.Mode.Info()):
			c.ports++
			up.Ports = append(slices.Clone(up.Ports), u)
		case d.VLAN == 0:
			up.Users = append(slices.Clone(up.Users), u)
		default:
			vlans := map[int]Uplink{}
			for id, v := range up.VLANs {
				vlans[id] = v
			}
			v, there := vlans[d.VLAN]
			if !there {
				v = Uplink{Ifname: fmt.Sprintf("wan.%d", d.VLAN), MTU: up.MTU, MAC: up.MAC}
			}
			v.Users = append(slices.Clone(v.Users), u)
			vlans[d.VLAN] = v
			up.VLANs = vlans
		}
	})
}

func crowds() *rapid.Generator[*crowd] {
	return rapid.Custom(func(t *rapid.T) *crowd {
		f := exampleFacts().with("wan", func(u *Uplink) {
			u.BondMode = ""
			u.Kind = rapid.SampledFrom([]string{"", kindBridge}).Draw(t, "kind")
			u.Filtering = rapid.Bool().Draw(t, "filtering")
			u.MaxMACs = rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(t, "macs")
			u.NoHairpin = rapid.Bool().Draw(t, "no hairpin")
			u.Wireless = rapid.IntRange(0, 4).Draw(t, "wireless") == 0
			u.PromiscAt = rapid.SampledFrom([]int{0, 0, 2}).Draw(t, "promisc")
		})
		f.Held = map[netip.Addr][]Holder{}
		return &crowd{f: f}
	})
}

func crowdSets() *rapid.Generator[*Set] {
	return rapid.Custom(func(t *rapid.T) *Set {
		s := guestSet(Grant{})
		s.Networks = nil
		for i, name := range []string{"a", "b", "c"} {
			g := Grant{Modes: rapid.SampledFrom([][]vmnetd.Mode{{vmnetd.Auto}, {vmnetd.Bridge}, {vmnetd.L2}, {vmnetd.L3, vmnetd.L2}, {vmnetd.VEPA, vmnetd.L2}, {vmnetd.Switched, vmnetd.Private}}).Draw(t, "modes")}
			g.Flag = rapid.SampledFrom([]string{"", "", FlagPrivate, FlagVEPA}).Draw(t, "flag")
			g.IPs = IPs{Given: true, Learn: rapid.Bool().Draw(t, "learn")}
			vlan := rapid.SampledFrom([]int{0, 0, 7}).Draw(t, "vlan")
			s.Networks = append(s.Networks, Network{Name: name, Uplinks: []string{"wan"}, VLAN: vlan, At: at("n", i+1), Grant: g})
		}
		s.Rules = []Rule{{VM: []string{"alone"}, Grant: Grant{Modes: []vmnetd.Mode{vmnetd.Passthru}}, At: at("r", 1)}, {At: at("r", 2)}}
		return s
	})
}

// Whoever comes later, in whatever order, never breaks who is there.
func TestNobodyWhoComesLaterBreaksWhoIsThere(t *testing.T) {
	most := 0
	rapid.Check(t, func(t *rapid.T) {
		c, s := crowds().Draw(t, "uplink"), crowdSets().Draw(t, "set")
		granted := 0
		for i := range rapid.IntRange(2, 8).Draw(t, "NICs") {
			vm := rapid.SampledFrom([]string{fmt.Sprint("vm", i), fmt.Sprint("vm", i), "alone"}).Draw(t, "vm")
			f := c.f
			f.MACSeed = fmt.Sprint(vm, i)
			req := vmnetd.Request{VM: vm, ID: fmt.Sprint("net", i), Network: rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "network")}
			if n := rapid.IntRange(0, 3).Draw(t, "ip"); n > 0 {
				req.IPs = []string{fmt.Sprint("192.0.2.", n)}
			}
			before := s.standing(c.f.Uplinks["wan"])
			d, err := s.Decide(req, f)
			if err != nil {
				continue
			}
			granted++
			c.add(d, vm)
			peaceful(t, c.f.Uplinks["wan"], d, before)
		}
		most = max(most, granted)
	})
	if most < 2 {
		t.Error("no two NICs were ever granted")
	}
}

// Neither shared MACs nor addresses make denied depend on what the host looks like.
func TestDeniedDependsOnTheConfigurationAloneInEveryMode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := crowdSets().Draw(t, "set")
		for i := range s.Networks {
			s.Networks[i].Grant.MACs = rapid.SampledFrom([][]string{nil, {}, {"52:54:00:*"}}).Draw(t, "macs")
			s.Networks[i].Grant.IPs.Within = rapid.SampledFrom([][]netip.Prefix{nil, {netip.MustParsePrefix("192.0.2.0/31")}}).Draw(t, "within")
		}
		req := vmnetd.Request{
			VM: "vm1", Network: rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "network"),
			Mode: rapid.SampledFrom([]vmnetd.Mode{"", "", vmnetd.L2, vmnetd.L3, vmnetd.Bridge, vmnetd.Switched}).Draw(t, "mode"),
			MAC:  rapid.SampledFrom([]string{"", "", "3c:ec:ef:00:00:01", "52:54:00:00:00:01", "02:00:00:00:00:01"}).Draw(t, "mac"),
			IPs:  rapid.SampledFrom([][]string{nil, {"192.0.2.1"}, {"192.0.2.9"}}).Draw(t, "ips"),
		}
		var denied []bool
		for _, f := range []Facts{crowds().Draw(t, "one host").f, crowds().Draw(t, "another").f, {Unknown: true, MACSeed: seed}} {
			_, err := s.Decide(req, f)
			denied = append(denied, errors.Is(err, vmnetd.ErrDenied))
		}
		if denied[0] != denied[1] || denied[0] != denied[2] {
			t.Fatalf("denied: %v", denied)
		}
	})
}

// standing is the MACs that the switch saw before.
func (s *Set) standing(u Uplink) int {
	macs, _ := (&choice{}).macsOn(u)
	return len(macs)
}

// peaceful checks what may stand beside each other, written down apart from how it
// is decided.
func peaceful(t *rapid.T, up Uplink, d Decision, before int) {
	lower := []Uplink{up}
	for _, v := range up.VLANs {
		lower = append(lower, v)
	}
	for _, u := range lower {
		seen := map[string]bool{}
		for _, x := range u.Users {
			first := u.Users[0]
			switch {
			case x.Family != first.Family:
				t.Fatalf("%s beside %s", x.Family, first.Family)
			case x.Family == vmnetd.FamilyIpvlan && (x.Mode != first.Mode || x.Flag != first.Flag):
				t.Fatalf("%s %s beside %s %s", x.Mode, x.Flag, first.Mode, first.Flag)
			case x.Mode == vmnetd.Passthru && len(u.Users) > 1:
				t.Fatal("passthru beside others")
			case x.Family == vmnetd.FamilyMacvlan && (seen[strings.ToLower(x.MAC)] || up.Wireless):
				t.Fatalf("MAC %s is there twice, or on the air", x.MAC)
			case x.Mode == vmnetd.VEPA && up.NoHairpin || x.Flag == FlagVEPA && up.NoHairpin:
				t.Fatal("vepa without a switch that reflects")
			}
			seen[strings.ToLower(x.MAC)] = true
		}
	}
	if after := (&Set{}).standing(up); up.MaxMACs > 0 && d.Mode != vmnetd.Passthru && after > max(before, up.MaxMACs) {
		t.Fatalf("%d MACs, the port takes %d", after, up.MaxMACs)
	}
	if d.Mode.Info().NeedsIPs && len(d.IPs) == 0 && !d.Learn {
		t.Fatal("no address is known, nor learned")
	}
	if len(up.Ports) > 0 && up.Kind != kindBridge {
		t.Fatal("a port of what is no bridge")
	}
}
