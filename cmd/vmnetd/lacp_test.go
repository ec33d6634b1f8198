package main

import (
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

const lacpBondConfig = `
uplinks:
  - {name: lag0, bond: {mode: 802.3ad, miimon: 50, lacp_rate: fast, min_links: 2, ports: [pa, pb]}}
networks:
  - {name: lan, uplinks: [lag0], modes: [bridge]}
rules:
  - {vm: "*", networks: [lan]}
`

// partner has the switches' side of both ports speak LACP, in one group.
func (r *rig) partner() {
	r.t.Helper()
	r.net.Net.Run(r.t, "ip", "link", "add", "lag", "type", "bond", "mode", "802.3ad", "miimon", "50", "lacp_rate", "fast")
	for _, port := range []string{testkit.PortA, testkit.PortB} {
		side := testkit.SwitchSide(port)
		r.net.Net.Run(r.t, "ip", "link", "set", side, "nomaster", "down")
		r.net.Net.Run(r.t, "ip", "link", "set", side, "master", "lag")
	}
	r.net.Net.SetUp(r.t, "lag")
}

func TestVMLACPNeedsAPartnerAndShowsIt(t *testing.T) {
	r := newRig(t, lacpBondConfig)
	r.refused(1, []string{"no LACP partner answers lag0", "as it was before"}, "uplink", "apply", "--no-confirm")
	if r.there("lag0") || !r.net.Host.Link(t, "pa").Up {
		t.Fatal("a refused apply left something")
	}
	r.partner()
	r.must("uplink", "apply", "--no-confirm")
	partner := r.net.Net.Link(t, "lag").MAC.String()
	r.eventually("both ports are in one group with the partner", func() bool {
		b := r.uplink("lag0").Bond
		return b != nil && b.Aggregator != nil && b.Aggregator.PartnerMAC == partner && b.Aggregator.Ports == 2
	})
	r.eventually("both ports send", func() bool {
		return strings.Count(r.must("bond", "state", "lag0"), "distributing") == 4 // actor and partner of each
	})
	r.onePortAndNobody("lag0", vmnetd.StateNoCarrier) // min_links: 2
	// The same as a team.
	r.configure(strings.Replace(lacpBondConfig, "{name: lag0, bond: {mode: 802.3ad, miimon: 50, lacp_rate: fast, min_links: 2, ports: [pa, pb]}}",
		"{name: TEAM, team: {runner: {name: lacp, fast_rate: true}, ports: [pa, pb]}}", 1))
	r.configure(strings.ReplaceAll(r.text, "uplinks: [lag0]", "uplinks: ["+r.team+"]"))
	r.must("reload")
	r.must("uplink", "apply", "--no-confirm")
	r.eventually("both ports of the team are selected", func() bool {
		tm := r.uplink(r.team).Team
		return tm != nil && tm.LACP != nil && len(tm.Ports) == 2 && tm.Ports[0].Selected && tm.Ports[1].Selected && tm.Ports[0].PartnerMAC == partner
	})
	if out := r.must("team", "state", r.team); !strings.Contains(out, partner) || !strings.Contains(out, "current") {
		t.Errorf("team state:\n%s", out)
	}
	if r.there("lag0") {
		t.Error("what is declared no more is still there")
	}
}

func TestVMLACPOfATeamOutlivesAPortAndItsPartner(t *testing.T) {
	for minPorts, state := range map[string]string{"": vmnetd.StateDegraded, ", min_ports: 2": vmnetd.StateNoCarrier} {
		t.Run(state, func(t *testing.T) {
			r := newRig(t, strings.NewReplacer("{name: lag0, bond: {mode: 802.3ad, miimon: 50, lacp_rate: fast, min_links: 2, ports: [pa, pb]}}",
				"{name: TEAM, team: {runner: {name: lacp, fast_rate: true"+minPorts+"}, ports: [pa, pb]}}", "uplinks: [lag0]", "uplinks: [TEAM]").Replace(lacpBondConfig))
			r.partner()
			r.must("uplink", "apply", "--no-confirm")
			r.onePortAndNobody(r.team, state)
		})
	}
}

// onePortAndNobody takes one port of the partner away, with which the uplink has
// that state, and then the partner, and gives both back.
func (r *rig) onePortAndNobody(name, state string) {
	r.t.Helper()
	up := func() bool { return r.uplink(name).State == vmnetd.StateUp }
	r.eventually(name+" is up", up)
	side := testkit.SwitchSide(testkit.PortA)
	r.net.Net.SetDown(r.t, side)
	r.eventually(name+" is "+state+" with one port of two", func() bool {
		u := r.uplink(name)
		return u.State == state && (state != vmnetd.StateDegraded || strings.Contains(u.Problem, "pa has no carrier"))
	})
	r.net.Net.SetUp(r.t, side)
	r.eventually(name+" is up again", up)
	r.net.Net.SetDown(r.t, "lag")
	r.eventually(name+" misses its partner", func() bool { return r.uplink(name).State != vmnetd.StateUp })
	r.net.Net.SetUp(r.t, "lag")
	r.eventually(name+" is up with its partner", up)
}
