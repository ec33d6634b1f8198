package uplink

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/teaming"
)

// teamOf is a team with ports as they are written, the active one first where
// the runner has one.
func teamOf(runner string, ports ...teaming.Port) *teaming.Config {
	return &teaming.Config{Runner: teaming.Runner{Name: runner}, Ports: ports}
}

func TestAPlanSaysThatAPortOfATeamRejoinsAndWhatThatCosts(t *testing.T) {
	yes, one, two := true, 1, 2
	e2 := teaming.Port{Name: "e2"}
	const changes = "ports get another configuration"
	const rejoins = changes + "; port e1 leaves team0 and rejoins for a moment"
	tests := map[string]struct {
		runner, active string
		from, to       []teaming.Port
		text, impact   string
		cost           []string
	}{
		"the active one": {
			runner: teaming.ActiveBackup, active: "e1",
			from: []teaming.Port{{Name: "e1"}, e2}, to: []teaming.Port{{Name: "e1", Sticky: &yes}, e2},
			text: rejoins, impact: "2 guests lose the path for a moment",
			cost: []string{"host: loses the path for a moment", "guests: 2 lose the path for a moment"},
		},
		"one that waits": {
			runner: teaming.ActiveBackup, active: "e2",
			from: []teaming.Port{{Name: "e1"}, e2}, to: []teaming.Port{{Name: "e1", QueueID: &two}, e2},
			text: rejoins, cost: []string{"host: nothing", "guests: nothing"},
		},
		"one of two that carry": {
			runner: teaming.LACP,
			from:   []teaming.Port{{Name: "e1"}, e2}, to: []teaming.Port{{Name: "e1", LACPKey: &one}, e2},
			text: rejoins, cost: []string{"host: nothing", "guests: nothing"},
		},
		"the only one": {
			runner: teaming.LACP,
			from:   []teaming.Port{{Name: "e1"}}, to: []teaming.Port{{Name: "e1", LACPPrio: &one}},
			text: rejoins, impact: "2 guests lose the path for a moment",
			cost: []string{"host: loses the path for a moment", "guests: 2 lose the path for a moment"},
		},
		"all of them": {
			runner: teaming.LACP,
			from:   []teaming.Port{{Name: "e1"}, e2},
			to:     []teaming.Port{{Name: "e1", LACPKey: &one}, {Name: "e2", LinkWatch: []teaming.LinkWatch{{Name: "ethtool", DelayUp: &two}}}},
			text:   changes + "; ports e1, e2 leave team0 and rejoin for a moment, one after the other",
			impact: "2 guests lose the path for a moment",
			cost:   []string{"host: loses the path for a moment", "guests: 2 lose the path for a moment"},
		},
		"a priority, which teamd reads at any time": {
			runner: teaming.ActiveBackup, active: "e1",
			from: []teaming.Port{{Name: "e1"}, e2}, to: []teaming.Port{{Name: "e1", Prio: &one}, e2},
			text: changes, cost: []string{"host: nothing", "guests: nothing"},
		},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			team0 := guests(active(team("team0", c.runner), c.active), "a", "b")
			team0.Team = teamOf(c.runner, c.from...)
			team0.Addrs = []rtnl.Addr{{Prefix: netip.MustParsePrefix("192.0.2.1/24")}}
			is := world(port(nic("e1", 1), "team0"), port(nic("e2", 2), "team0"), team0)
			if len(c.from) == 1 {
				delete(is, "e2")
			}
			spec := Spec{Name: "team0", Kind: vmnetd.UplinkTeam, Team: teamOf(c.runner, c.to...)}
			wanted, _ := want(Declared{Specs: []Spec{spec}}, is)
			plan := planOf(is, wanted, diff(is, wanted))
			change := vmnetd.PlanChange{Op: "~", Name: "team0", Kind: vmnetd.UplinkTeam, Text: c.text, Needs: needsLive, Impact: c.impact}
			if diff := cmp.Diff(vmnetd.Plan{Changes: []vmnetd.PlanChange{change}, Cost: c.cost}, plan); diff != "" {
				t.Error(diff)
			}
		})
	}
}
