package policy

import (
	"testing"

	"github.com/vmnetd/vmnetd"
)

func TestOneLowerDeviceHasOneFamilyModeAndFlag(t *testing.T) {
	private := learning(l2)
	private.Flag = FlagPrivate
	on := func(us ...User) func(*Uplink) { return func(u *Uplink) { u.Users = us } }
	for name, c := range map[string]guestCase{
		"l2 beside l2":        {grant: learning(l2), wan: on(ipvtapOf("vm2/net0", vmnetd.L2, "")), want: "ipvtap l2"},
		"l3 beside l2":        {grant: l3, req: asked("", "192.0.2.5"), wan: on(ipvtapOf("vm2/net0", vmnetd.L2, "")), exit: 5, text: "in mode l2 with flag bridge, and one lower device has one mode and flag for all", next: "vmnetd detach vm2 --id net0"},
		"private beside l2":   {grant: private, wan: on(ipvtapOf("vm2/net0", vmnetd.L2, "")), exit: 5, text: "this would change theirs to l2 with flag private"},
		"private beside it":   {grant: private, wan: on(ipvtapOf("vm2/net0", vmnetd.L2, FlagPrivate)), want: "ipvtap l2"},
		"a mode not known":    {grant: learning(l2), wan: on(User{Ifname: "ipvl0", Kind: "ipvlan", Family: vmnetd.FamilyIpvlan}), exit: 5, text: "in another mode"},
		"l2 beside a macvtap": {grant: learning(l2), wan: on(tapOf("vm2/net0", vmnetd.Bridge, "52:54:00:00:00:02")), exit: 5, text: "one device carries macvlan or ipvlan, not both", next: "or give network lan a vlan: a VLAN of wan carries either"},
		"a macvtap beside l2": {grant: bridge, wan: on(ipvtapOf("vm2/net0", vmnetd.L2, "")), exit: 5, text: "one device carries ipvlan or macvlan, not both"},
		"beside a host link": {grant: learning(l2), wan: on(User{Ifname: "vml0", Kind: "macvlan", Family: vmnetd.FamilyMacvlan, Mode: vmnetd.Bridge, Owner: HostLinkOwner + "lan"}),
			exit: 5, text: "this host's link to network lan (vml0)", next: "vmnetd host-link lan --remove"},
		"a VLAN of it is free": {grant: learning(l2), vlan: 7, wan: on(tapOf("vm2/net0", vmnetd.Bridge, "52:54:00:00:00:02")), want: "ipvtap l2"},
	} {
		t.Run(name, c.check)
	}
}

func TestAnIpvtapHasTheUplinksMACAndNoOther(t *testing.T) {
	g := learning(l2)
	g.MACChange, g.Flag = ChangeAllow, FlagPrivate
	d, err := guestCase{grant: g}.decide()
	if err != nil || d.MAC != "3c:ec:ef:00:00:01" || d.MACFrom != "the uplink's: all guests of an ipvtap have it" || d.MACChange != ChangeDeny || d.Flag != FlagPrivate {
		t.Errorf("%+v, %v", d, err)
	}
	d, err = guestCase{grant: g, vlan: 7, wan: func(u *Uplink) { u.VLANs = map[int]Uplink{7: {Ifname: "wan.7", MAC: "3c:ec:ef:00:00:07", MTU: 1500}} }}.decide()
	if err != nil || d.MAC != "3c:ec:ef:00:00:07" {
		t.Errorf("on a VLAN with a MAC of its own: %s, %v", d.MAC, err)
	}
}
