package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

const (
	bondOfLACP = "{name: lag0, bond: {mode: 802.3ad, miimon: 50, lacp_rate: fast, min_links: 2, ports: [pa, pb]}}"
	teamOfLACP = "{name: TEAM, team: {runner: {name: lacp, fast_rate: true, min_ports: 2}, ports: [pa, pb]}}"
)

// over is a configuration with that uplink alone, under a network.
func over(name, uplink string) string {
	return `
uplinks:
  - ` + uplink + `
networks:
  - {name: lan, uplinks: [` + name + `], modes: [bridge]}
rules:
  - {vm: "*", networks: [lan]}
`
}

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
	r := newRig(t, over("lag0", bondOfLACP))
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
	// The same as a team, of which the partner knows nothing.
	r.configure(over("TEAM", teamOfLACP))
	r.must("reload")
	r.must("uplink", "apply", "--no-confirm")
	if r.there("lag0") {
		t.Error("what is declared no more is still there")
	}
	r.bothSelected(partner)
	r.onePortAndNobody(r.team, "min_ports")
}

// bothSelected holds that both ports of the team are in one group with the
// partner, and that it is shown.
func (r *rig) bothSelected(partner string) {
	r.t.Helper()
	r.eventually("both ports of the team are selected", func() bool {
		tm := r.uplink(r.team).Team
		return tm != nil && tm.LACP != nil && len(tm.Ports) == 2 && !slices.ContainsFunc(tm.Ports, func(p vmnetd.TeamPort) bool {
			return !p.Selected || p.PartnerMAC != partner || p.LACPState != "current"
		})
	})
	if out := r.must("team", "state", r.team); !strings.Contains(out, partner) || !strings.Contains(out, "current") {
		r.t.Errorf("team state:\n%s", out)
	}
}

// takenOver kills the team's teamd and waits for the next one.
func (r *rig) takenOver() {
	r.t.Helper()
	old := r.teamd()
	_ = unix.Kill(old, unix.SIGKILL)
	r.eventually("teamd is taken over", func() bool { pid := r.teamd(); return pid != 0 && pid != old })
}

func TestVMLACPSaysWhyItDoesNotCarry(t *testing.T) {
	for name, c := range map[string]struct{ uplink, least string }{
		"bond":                {bondOfLACP, "min_links"},
		"bond, any port will": {strings.Replace(bondOfLACP, "min_links: 2, ", "", 1), ""},
		"team":                {teamOfLACP, "min_ports"},
		"team, any port will": {strings.Replace(teamOfLACP, ", min_ports: 2", "", 1), ""},
	} {
		t.Run(name, func(t *testing.T) {
			device := "lag0"
			if strings.HasPrefix(name, "team") {
				device = "TEAM"
			}
			r := newRig(t, over(device, c.uplink))
			r.partner()
			r.must("uplink", "apply", "--no-confirm")
			if device == "TEAM" {
				device = r.team
				r.takenOver()
				r.bothSelected(r.net.Net.Link(t, "lag").MAC.String())
			}
			r.onePortAndNobody(device, c.least)
		})
	}
}

// onePortAndNobody takes one port of the partner away, and then the partner, and
// gives both back. least is the option by which one port is too few, if any. What
// is wrong is said each time.
func (r *rig) onePortAndNobody(name, least string) {
	r.t.Helper()
	r.isNow(name, vmnetd.StateUp)
	side := testkit.SwitchSide(testkit.PortA)
	r.net.Net.SetDown(r.t, side)
	if least == "" {
		r.isNow(name, vmnetd.StateDegraded, name+" runs on pb alone: pa has no carrier")
	} else {
		r.isNow(name, vmnetd.StateNoCarrier, name+" has no carrier: pa has no carrier, "+least+" wants 2 ports that carry, and 1 can")
	}
	r.net.Net.SetUp(r.t, side)
	r.isNow(name, vmnetd.StateUp)
	r.net.Net.SetDown(r.t, "lag")
	state := vmnetd.StateNoCarrier
	if name == "lag0" && least == "" { // a bond carries without a partner, on a port alone
		state = vmnetd.StateDegraded
	}
	r.isNow(name, state, "no LACP partner answers on pa, no LACP partner answers on pb")
	r.net.Net.SetUp(r.t, "lag")
	r.isNow(name, vmnetd.StateUp)
}

// isNow holds that an uplink comes to a state, and that its problem and  vmnetd
// status  say so and what to type.
func (r *rig) isNow(name, state string, says ...string) {
	r.t.Helper()
	var last vmnetd.UplinkState
	r.eventually(fmt.Sprintf("%s is %s, %q", name, state, says), func() bool {
		last = r.uplink(name)
		return last.State == state && !slices.ContainsFunc(says, func(s string) bool { return !strings.Contains(last.Problem, s) })
	}, func() { r.t.Logf("it is %s: %s\n%s", last.State, last.Problem, r.must("uplink", "show", name)) })
	if len(says) == 0 {
		return
	}
	out := strings.Join(strings.Fields(r.must("status")), " ") // lines are folded
	for _, s := range append(says, "next: vmnetd uplink show "+name) {
		if !strings.Contains(out, s) {
			r.t.Errorf("status does not say %q:\n%s", s, out)
		}
	}
}
