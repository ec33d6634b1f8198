package uplink

import (
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd/teaming"
)

// teamNeeds is what a change of a team's configuration needs; "" where nothing
// but its ports differs: they are put in and taken out one by one. A team that
// nobody runs needs a teamd, which may be of another mode.
func teamNeeds(is, want *teaming.Config) string {
	switch {
	case want == nil:
		return ""
	case is == nil || teaming.KernelMode(is.Runner.Name) != teaming.KernelMode(want.Runner.Name):
		return needsNoPorts
	}
	needs := ""
	for _, c := range teaming.Diff(*is, *want) {
		switch {
		case !c.Live && c.Path != "hwaddr": // that is the device's MAC
			if needsFreePorts(want) {
				return needsNoPorts
			}
			return needsRestart
		case c.Port != "":
			needs = needsLive
		}
	}
	return needs
}

// teamRejoins is the ports that a change of a team that needs no more takes out
// for a moment.
func teamRejoins(is, want Device) []string {
	if want.Team == nil || teamNeeds(is.Team, want.Team) != needsLive {
		return nil
	}
	return teaming.Rejoins(*is.Team, *want.Team)
}

// rejoinCuts says that a team sends nothing while ports of it rejoin: the active
// one does, or none is left that carries. They rejoin one by one, but the next
// leaves before the one before it carries again.
func rejoinCuts(is World, team string, rejoin []string) bool {
	if len(rejoin) == 0 || slices.Contains(rejoin, is[team].Active) {
		return len(rejoin) > 0
	}
	return !slices.ContainsFunc(is.ports(team), func(port string) bool {
		return is[port].Carrier && !slices.Contains(rejoin, port)
	})
}

// rejoinText is "port eno1 leaves team0 and rejoins for a moment".
func rejoinText(team string, rejoin []string) string {
	switch len(rejoin) {
	case 0:
		return ""
	case 1:
		return "port " + rejoin[0] + " leaves " + team + " and rejoins for a moment"
	}
	return "ports " + strings.Join(rejoin, ", ") + " leave " + team + " and rejoin for a moment, one after the other"
}

// teamPort is the configuration of one port of a team; of a port that has none
// only the name.
func teamPort(c *teaming.Config, name string) teaming.Port {
	if c != nil {
		for _, p := range c.Ports {
			if p.Name == name {
				return p
			}
		}
	}
	return teaming.Port{Name: name}
}

func portNamed(name string) func(teaming.Port) bool {
	return func(p teaming.Port) bool { return p.Name == name }
}
