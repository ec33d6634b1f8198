package policy

import (
	"testing"

	"github.com/vmnetd/vmnetd"
)

func TestWhatTheSwitchDoesNotTake(t *testing.T) {
	vepa := learning(l2)
	vepa.Flag = FlagVEPA
	two := func(u *Uplink) {
		u.Users = []User{tapOf("vm2/net0", vmnetd.Bridge, "52:54:00:00:00:02")}
		u.VLANs = map[int]Uplink{7: {Ifname: "wan.7", Users: []User{tapOf("vm3/net0", vmnetd.Bridge, "52:54:00:00:00:02"), tapOf("vm4/net0", vmnetd.Bridge, "52:54:00:00:00:04")}}}
	}
	macs := func(n int) *Limits { return &Limits{MaxMACs: n, MaxMACsAt: at("vmnetd.yaml", 5)} }
	noHairpin := &Limits{NoHairpin: true, HairpinAt: at("vmnetd.yaml", 5)}
	for name, c := range map[string]guestCase{
		"one MAC":              {grant: bridge, limits: macs(1), exit: 5, text: "the switch port takes 1 MAC (limits.macs, vmnetd.yaml:5), which is the uplink's own", next: "l2"},
		"one MAC, from facts":  {grant: bridge, wan: func(u *Uplink) { u.MaxMACs = 1 }, exit: 5, text: "takes 1 MAC (limits.macs)"},
		"lifted since":         {grant: bridge, limits: macs(0), wan: func(u *Uplink) { u.MaxMACs = 1 }, want: "macvtap bridge"},
		"one MAC for l2":       {grant: learning(l2), limits: macs(1), want: "ipvtap l2"},
		"room for one":         {grant: bridge, limits: macs(4), wan: two, want: "macvtap bridge"},
		"no room, by VLAN too": {grant: bridge, limits: macs(3), wan: two, exit: 5, text: "takes 3 MACs (limits.macs, vmnetd.yaml:5), and 3 are used: the uplink's own and those of vm2/net0", next: "vmnetd detach vm2"},
		"its own is counted":   {grant: bridge, limits: macs(2), facts: func(f *Facts) { f.Own = "x" }, wan: func(u *Uplink) { u.Users = []User{{Ifname: "x", Family: vmnetd.FamilyMacvlan, MAC: derived("net0")}} }, want: "macvtap bridge"},
		"vepa, no hairpin":     {grant: modes(vmnetd.VEPA), limits: noHairpin, exit: 5, text: "the switch does not reflect (hairpin: false, vmnetd.yaml:5), and in vepa"},
		"l2 as vepa":           {grant: vepa, limits: noHairpin, exit: 5, text: "and in l2 with flag vepa"},
		"l2 as vepa, hairpin":  {grant: vepa, want: "ipvtap l2"},
		"bridge, no hairpin":   {grant: bridge, limits: noHairpin, want: "macvtap bridge"},
		"wireless":             {grant: bridge, wan: func(u *Uplink) { u.Wireless = true }, exit: 5, text: "wan is wireless, which carries frames of its own MAC alone", next: "l2"},
		"wireless with l2":     {grant: learning(l2), wan: func(u *Uplink) { u.Wireless = true }, want: "ipvtap l2"},
	} {
		t.Run(name, c.check)
	}
}

func TestPassthruNeedsOneMACForItReplacesTheUplinks(t *testing.T) {
	s := oneUplink(vmnetd.Passthru)
	s.Limits = map[string]Limits{"wan": {MaxMACs: 1}}
	if d, err := s.Decide(vmnetd.Request{VM: "vm1"}, exampleFacts()); err != nil || d.Mode != vmnetd.Passthru {
		t.Errorf("%+v, %v", d, err)
	}
}
