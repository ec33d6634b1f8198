package policy

import (
	"net/netip"
	"testing"

	"github.com/vmnetd/vmnetd"
)

func TestWhatAGuestsModeNeeds(t *testing.T) {
	here := Holder{Owner: "vm9/net0", Network: "lan", Uplink: "lan9"}
	within := Grant{Modes: l2.Modes, IPs: IPs{Given: true, Within: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, IPsAt: at("networks.yaml", 4)}
	for name, c := range map[string]guestCase{
		"l2 with an address":                      {grant: l2, req: asked("", "192.0.2.5"), want: "ipvtap l2"},
		"l2 that learns":                          {grant: learning(l2), want: "ipvtap l2"},
		"l2 without addresses":                    {grant: l2, exit: 5, text: "mode l2 delivers only to known addresses, none of vm1/net0 is known", next: "--ip"},
		"l2 by name without addresses":            {grant: l2, req: asked("l2"), exit: 2, text: "mode l2 delivers only to known addresses", next: "--ip"},
		"l3 with an address":                      {grant: l3, req: asked("", "192.0.2.5"), want: "ipvtap l3"},
		"l3 does not learn":                       {grant: learning(l3), exit: 5, text: "known beforehand"},
		"l3 by name without addresses":            {grant: learning(l3), req: asked("l3"), exit: 2, text: "known beforehand", next: "--ip"},
		"an address that is none":                 {grant: l2, req: asked("", "192.0.2.300"), exit: 2, text: `IP "192.0.2.300" is no address`},
		"a group's":                               {grant: l2, req: asked("", "ff02::1"), exit: 2, text: "that of a group"},
		"a network's broadcast address":           {grant: l2, req: asked("", "192.0.2.255/24"), exit: 2, text: "of everybody in it"},
		"twice":                                   {grant: l2, req: asked("", "192.0.2.5", "192.0.2.5/24"), exit: 2, text: "asked for twice"},
		"within the network's":                    {grant: within, req: asked("", "192.0.2.5"), want: "ipvtap l2"},
		"beyond the network's":                    {grant: within, req: asked("", "192.0.3.5"), exit: 3, text: "does not give vm1/net0 IP 192.0.3.5: allowed is 192.0.2.0/24 (network lan, networks.yaml:4)"},
		"held in the network":                     {grant: bridge, req: asked("", "192.0.2.5"), facts: held("192.0.2.5", here), exit: 5, text: "IP 192.0.2.5 is held by vm9/net0"},
		"held on the uplink":                      {grant: bridge, req: asked("", "192.0.2.5"), facts: held("192.0.2.5", Holder{Owner: "vm9/net0", Network: "x", Uplink: "wan"}), exit: 5, text: "held by vm9/net0"},
		"held on another VLAN of another network": {grant: bridge, req: asked("", "192.0.2.5"), facts: held("192.0.2.5", Holder{Owner: "vm9/net0", Network: "x", Uplink: "wan", VLAN: 7}), want: "macvtap bridge"},
		"held by itself":                          {grant: bridge, req: asked("", "192.0.2.5"), facts: held("192.0.2.5", Holder{Owner: "vm1/net0", Network: "lan", Uplink: "wan"}), want: "macvtap bridge"},
		"the host's own":                          {grant: bridge, req: asked("", "192.0.2.17"), exit: 5, text: "IP 192.0.2.17 is this host's own on wan"},
		"another MAC than the uplink's":           {grant: learning(l2), req: vmnetd.Request{MAC: "52:54:00:00:00:01"}, exit: 5, text: "all guests of an ipvtap have the uplink's (3c:ec:ef:00:00:01)", next: "leave --mac away"},
		"another MAC with the mode by name":       {grant: learning(l2), req: vmnetd.Request{MAC: "52:54:00:00:00:01", Mode: "l2"}, exit: 2, text: "all guests of an ipvtap have the uplink's"},
		"the uplink's MAC, which nobody allows":   {grant: learning(Grant{Modes: l2.Modes, MACs: []string{}}), req: vmnetd.Request{MAC: "3c:ec:ef:00:00:01"}, want: "ipvtap l2"},
		"the uplink's MAC, left to auto":          {grant: learning(Grant{Modes: either.Modes, MACs: []string{}}), req: vmnetd.Request{MAC: "3c:ec:ef:00:00:01"}, want: "ipvtap l2"},
		"a kernel without ipvtap": {grant: learning(l2), facts: func(f *Facts) { f.Lacking = map[vmnetd.Kind]string{vmnetd.Ipvtap: "this kernel has no ipvtap"} },
			exit: 5, text: "uplink wan: this kernel has no ipvtap", next: "vmnetd doctor"},
	} {
		t.Run(name, c.check)
	}
}

func TestAddressesComeFromTheRequestElseTheGrant(t *testing.T) {
	own := Grant{Modes: bridge.Modes, IPs: IPs{Given: true, Own: []netip.Addr{netip.MustParseAddr("192.0.2.8"), netip.MustParseAddr("192.0.2.9")}}}
	for name, c := range map[string]struct {
		guestCase
		want  string
		learn bool
	}{
		"the grant's":        {guestCase{grant: own}, "192.0.2.8, 192.0.2.9", false},
		"the request's":      {guestCase{grant: own, req: asked("", "192.0.2.9/24")}, "192.0.2.9", false},
		"learned as well":    {guestCase{grant: learning(bridge, "192.0.2.0/24"), req: asked("", "192.0.2.9")}, "192.0.2.9", true},
		"learned on an veth": {guestCase{grant: learning(switched), facts: inNetns(false), wan: onBridgeBr(false)}, "", true},
		"not heard":          {guestCase{grant: learning(bridge), facts: inNetns(true)}, "", false},
		"none":               {guestCase{grant: bridge}, "", false},
	} {
		d, err := c.decide()
		if got := joinPrefixes(d.IPs); err != nil || got != c.want || d.Learn != c.learn || d.MaxIPs != DefaultMaxIPs {
			t.Errorf("%s: %q, learn %v, max %d, %v", name, got, d.Learn, d.MaxIPs, err)
		}
	}
}
