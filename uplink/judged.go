package uplink

import (
	"fmt"
	"slices"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/teaming"
)

// judged is what a link watch or LACP says against a port that has carrier.
func (m *Manager) judged(name string, u vmnetd.UplinkState) string {
	switch {
	case u.Team != nil && u.Team.Controller == teaming.Running:
		i := slices.IndexFunc(u.Team.Ports, func(p vmnetd.TeamPort) bool { return p.Name == name })
		if i >= 0 {
			return teamPortIdle(u.Team.Ports[i], u.Team.LACP != nil)
		}
	case u.Bond != nil && u.Bond.Aggregator != nil:
		i := slices.IndexFunc(u.Bond.Ports, func(p vmnetd.BondPort) bool { return p.Name == name })
		if i >= 0 {
			return bondPortIdle(u.Bond.Ports[i], *u.Bond.Aggregator)
		}
	}
	return ""
}

const (
	nobodyAnswers = "no LACP partner answers on %s"
	notInGroup    = "%s is not in the LACP group that carries"
)

func teamPortIdle(p vmnetd.TeamPort, lacp bool) string {
	switch {
	case !p.Link:
		return "the link watch of " + p.Name + " sees no link"
	case !lacp:
		return ""
	case !isPartner(p.PartnerMAC) || p.LACPState != "current": // teamd/teamd_runner_lacp.c, lacp_port_state_name
		return fmt.Sprintf(nobodyAnswers, p.Name)
	case !p.Selected:
		return fmt.Sprintf(notInGroup, p.Name)
	}
	return ""
}

// bondPortIdle goes by what the kernel says of itself: while a port hears of no
// partner it is "expired" and then "defaulted" (drivers/net/bonding/bond_3ad.c,
// ad_rx_machine).
func bondPortIdle(p vmnetd.BondPort, active vmnetd.Aggregator) string {
	switch {
	case slices.Contains(p.Actor, "defaulted"), slices.Contains(p.Actor, "expired"):
		return fmt.Sprintf(nobodyAnswers, p.Name)
	case p.Aggregator != active.ID:
		return fmt.Sprintf(notInGroup, p.Name)
	}
	return ""
}
