package policy

import (
	"testing"

	"github.com/vmnetd/vmnetd"
)

func TestASwitchedNICNeedsABridgeThatTellsItsVLANsApart(t *testing.T) {
	taken := func(u *Uplink) {
		onBridgeBr(false)(u)
		u.Ports = []User{{Ifname: "vmnx", Kind: "tap", Family: vmnetd.FamilyBridge, MAC: derived("net0"), Owner: "vm9/net0"}}
	}
	for name, c := range map[string]guestCase{
		"on a bridge":               {grant: switched, wan: onBridgeBr(false), want: "tap switched"},
		"on something else":         {grant: switched, exit: 5, text: "wan is no bridge, and a guest in mode switched is a port of one"},
		"a VLAN on a plain bridge":  {grant: switched, vlan: 7, wan: onBridgeBr(false), exit: 5, text: "wan does not tell VLANs apart", next: "ip link set wan type bridge vlan_filtering 1"},
		"a VLAN":                    {grant: switched, vlan: 7, wan: onBridgeBr(true), want: "tap switched"},
		"a trunk on a plain bridge": {grant: switched, trunk: []vmnetd.VLANRange{{From: 2, To: 9}}, wan: onBridgeBr(false), exit: 5, text: "does not tell VLANs apart"},
		"a trunk in bridge mode":    {grant: bridge, trunk: []vmnetd.VLANRange{{From: 2, To: 9}}, exit: 5, text: "network lan has a trunk (networks.yaml:6), and only a port of a bridge has one"},
		"beside macvtaps on it": {grant: switched, wan: func(u *Uplink) {
			onBridgeBr(false)(u)
			u.Users = []User{tapOf("vm2/net0", vmnetd.Bridge, "52:54:00:00:00:02")}
		}, want: "tap switched"},
		"a macvtap on a bridge": {grant: bridge, wan: onBridgeBr(false), want: "macvtap bridge"},
		"a MAC twice":           {grant: switched, wan: taken, exit: 5, text: "in use by vm9/net0 (vmnx)"},
	} {
		t.Run(name, c.check)
	}
}

func TestASwitchedNICStandsOnTheBridgeItselfWithItsPortAndTrunk(t *testing.T) {
	g := switched
	no := false
	g.Port = Port{Learning: &no}
	d, err := guestCase{grant: g, vlan: 7, trunk: []vmnetd.VLANRange{{From: 20, To: 29}}, wan: func(u *Uplink) {
		onBridgeBr(true)(u)
		u.VLANs = map[int]Uplink{7: {Ifname: "wan.7", MTU: 1400, Master: "br9"}} // no business of its
	}}.decide()
	if err != nil || d.VLAN != 7 || d.MTU != 1500 || len(d.Trunk) != 1 || d.Port != (Ported{BPDUGuard: true}) {
		t.Errorf("%+v, %v", d, err)
	}
	d, err = guestCase{grant: Grant{Modes: bridge.Modes, Port: g.Port}}.decide()
	if err != nil || d.Port != (Ported{}) || d.Trunk != nil {
		t.Errorf("a macvtap has a port: %+v, %v", d, err)
	}
}
