package uplink

import (
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/bonding"
	"github.com/vmnetd/vmnetd/teaming"
)

const aPartner = "02:00:00:00:00:99"

func TestAPortOfATeamIsIdleForTheFirstReasonThatHolds(t *testing.T) {
	for want, c := range map[string]struct {
		port vmnetd.TeamPort
		lacp bool
	}{
		"":                                  {vmnetd.TeamPort{Link: true, Selected: true, PartnerMAC: aPartner, LACPState: "current"}, true},
		"the link watch of e1 sees no link": {vmnetd.TeamPort{}, true},
		"no LACP partner answers on e1":     {vmnetd.TeamPort{Link: true, PartnerMAC: noPartner, LACPState: "defaulted"}, true},
		"e1 is not in the LACP group that carries": {vmnetd.TeamPort{Link: true, PartnerMAC: aPartner, LACPState: "current"}, true},
	} {
		c.port.Name = "e1"
		if got := teamPortIdle(c.port, c.lacp); got != want {
			t.Errorf("%+v: %q, want %q", c.port, got, want)
		}
	}
	silent := vmnetd.TeamPort{Name: "e1", Link: true, Selected: true, PartnerMAC: aPartner, LACPState: "expired"}
	if got := teamPortIdle(silent, true); got != "no LACP partner answers on e1" {
		t.Errorf("one that has just fallen silent: %q", got)
	}
	if got := teamPortIdle(vmnetd.TeamPort{Name: "e1", Link: true}, false); got != "" {
		t.Errorf("where LACP is not spoken: %q", got)
	}
}

func TestAPortOfABondIsIdleWithoutAPartnerOrOutsideTheGroup(t *testing.T) {
	for want, p := range map[string]vmnetd.BondPort{
		"":                              {Aggregator: 1, Actor: []string{"activity", "distributing"}},
		"no LACP partner answers on e1": {Aggregator: 1, Actor: []string{"activity", "defaulted"}},
		"e1 is not in the LACP group that carries": {Aggregator: 2, Actor: []string{"activity"}},
	} {
		p.Name = "e1"
		if got := bondPortIdle(p, vmnetd.Aggregator{ID: 1}); got != want {
			t.Errorf("%+v: %q, want %q", p, got, want)
		}
	}
}

func TestTheFewestPortsAreTheOptionsOfTheKind(t *testing.T) {
	one, two := 1, 2
	lacp := func(n *int) Spec {
		return Spec{Team: &teaming.Config{Runner: teaming.Runner{Name: teaming.LACP, MinPorts: n}}}
	}
	links := func(options map[string]string) Spec { return Spec{Bond: &bonding.Config{Options: options}} }
	for _, c := range []struct {
		spec   Spec
		option string
		ports  int
	}{
		{lacp(nil), "", 0},
		{lacp(&one), "", 0},
		{lacp(&two), "min_ports", 2},
		{links(nil), "", 0},
		{links(map[string]string{"min_links": "3"}), "min_links", 3},
		{Spec{}, "", 0},
	} {
		if option, ports := fewest(c.spec); option != c.option || ports != c.ports {
			t.Errorf("%+v: %q, %d", c.spec, option, ports)
		}
	}
}
