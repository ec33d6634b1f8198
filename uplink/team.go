package uplink

import (
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
			return needsRestart
		case c.Port != "":
			needs = needsLive
		}
	}
	return needs
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
