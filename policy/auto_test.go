package policy

import (
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
)

func TestAutoChoosesByTheUplinksFacts(t *testing.T) {
	own := func(f *Facts) { f.Own = vmnetd.Ifname("vm1", "net0") }
	promiscuous := func(u *Uplink) { u.PromiscAt = 9 }
	for name, c := range map[string]struct {
		guestCase
		why string // of the mode, in explain
	}{
		"nothing against macvtap": {guestCase{grant: learning(either), want: "macvtap bridge"}, "auto: macvtap bridge, because nothing of wan speaks against it"},
		"one MAC": {guestCase{grant: learning(either), limits: &Limits{MaxMACs: 1, MaxMACsAt: at("vmnetd.yaml", 5)}, want: "ipvtap l2"},
			"auto: ipvtap l2, because the switch port takes 1 MAC (limits.macs, vmnetd.yaml:5), which is the uplink's own"},
		"wireless":         {guestCase{grant: learning(either), wan: func(u *Uplink) { u.Wireless = true }, want: "ipvtap l2"}, "auto: ipvtap l2, because wan is wireless"},
		"ipvtaps there":    {guestCase{grant: learning(either), wan: func(u *Uplink) { u.Users = []User{ipvtapOf("vm2/net0", vmnetd.L2, "")} }, want: "ipvtap l2"}, "because wan carries vm2/net0"},
		"a full filter":    {guestCase{grant: learning(either), wan: promiscuous, want: "ipvtap l2"}, "auto: ipvtap l2, because wan became promiscuous with 9 MACs: its unicast filter was full"},
		"full, no address": {guestCase{grant: either, wan: promiscuous, want: "macvtap bridge"}, "auto: macvtap bridge, although wan became promiscuous with 9 MACs: its unicast filter was full; ipvtap l2 does not fit"},
		"full, macvtaps there": {guestCase{grant: learning(either), wan: func(u *Uplink) {
			u.PromiscAt, u.Users = 9, []User{tapOf("vm2/net0", vmnetd.Bridge, "52:54:00:00:00:02")}
		}, want: "macvtap bridge"}, "ipvtap l2 does not fit: wan carries vm2/net0"},
		"full, its own there": {guestCase{grant: learning(either), facts: own, wan: func(u *Uplink) {
			u.PromiscAt, u.Users = 9, []User{tapOf("vm1/net0", vmnetd.Bridge, derived("net0"))}
		}, want: "macvtap bridge"}, "nothing of wan"},
		"its own is an ipvtap": {guestCase{grant: learning(either), facts: own, wan: func(u *Uplink) { u.Users = []User{ipvtapOf("vm1/net0", vmnetd.L2, "")} }, want: "ipvtap l2"},
			"because vm1/net0 stands there in mode l2 already"},
		"a bridge":        {guestCase{grant: either, wan: onBridgeBr(false), want: "tap switched"}, "auto: tap switched, because wan is a bridge"},
		"a VLAN not told": {guestCase{grant: either, vlan: 7, wan: onBridgeBr(false), want: "macvtap bridge"}, "because wan does not tell VLANs apart"},
		"asked for":       {guestCase{grant: learning(either), req: asked("l2"), want: "ipvtap l2"}, "asked for; one of auto"},
		"a namespace":     {guestCase{grant: either, facts: inNetns(true), want: "macvlan bridge"}, "auto: macvlan bridge"},
		"a host not looked at": {guestCase{grant: either, facts: func(f *Facts) { *f = Facts{Unknown: true} }, want: "macvtap bridge"},
			"auto: macvtap bridge, unless the uplink's facts speak against it"},
	} {
		t.Run(name, func(t *testing.T) {
			c.check(t)
			if d, _ := c.decide(); !strings.Contains(d.Reasons[3], c.why) {
				t.Errorf("got %s, want %s", d.Reasons[3], c.why)
			}
		})
	}
	for name, c := range map[string]guestCase{
		"never passthru":      {grant: either, req: asked("passthru"), exit: 3, text: "allowed is auto"},
		"never l3":            {grant: either, req: asked("l3", "192.0.2.5"), exit: 3},
		"neither fits":        {grant: either, limits: &Limits{MaxMACs: 1}, exit: 5, text: "bridge: the switch port takes 1 MAC (limits.macs), which is the uplink's own; l2: mode l2 delivers only to known addresses"},
		"a MAC not given":     {grant: Grant{Modes: either.Modes, MACs: []string{}}, req: vmnetd.Request{MAC: "52:54:00:00:00:01"}, exit: 5, text: "bridge: MAC 52:54:00:00:00:01 is not given"},
		"two network options": {grant: learning(either), req: asked("switched"), exit: 5, text: "wan is no bridge"},
	} {
		t.Run(name, c.check)
	}
}
