package uplink

import (
	"maps"

	"github.com/vmnetd/vmnetd/bonding"
)

// What a change needs of the device, as PlanChange.Needs has it.
const (
	needsLive    = "live"
	needsDown    = "down"
	needsNoPorts = "no-ports"
	needsRestart = "restart"
	needsNew     = "new"
)

// late says that an option names a port of the bond: it is set once the ports
// are in (bonding.Late).
func late(option string) bool { return option == "primary" || option == "active_slave" }

// changed is the options that are to be other than they are; an option that is
// not declared stays.
func changed(is, want map[string]string) map[string]string {
	out := map[string]string{}
	for name, v := range want {
		if is[name] != v {
			out[name] = v
		}
	}
	return out
}

// part is the options for which ok holds.
func part(options map[string]string, ok func(name string) bool) map[string]string {
	out := maps.Clone(options)
	maps.DeleteFunc(out, func(name, _ string) bool { return !ok(name) })
	return out
}

// needsOf is the most that a change from one device to another of that name
// needs; "" where no option differs.
func needsOf(is, want Device) string {
	switch {
	case is.Absent || is.Name == "" || rebuilt(is, want):
		return needsNew
	case want.Kind == kindTeam:
		return teamNeeds(is.Team, want.Team)
	}
	options := changed(is.Options, want.Options)
	if want.Kind == kindBond && is.Mode != want.Mode {
		options["mode"] = want.Mode
	}
	switch {
	case len(options) == 0:
		return ""
	case want.Kind == kindBond:
		return string(bonding.NeedOf(bonding.Diff(is.Options, options)))
	}
	return needsLive
}

// rebuilt says that a device cannot become the other one: it is deleted and
// made again.
func rebuilt(is, want Device) bool {
	if is.Kind != want.Kind {
		return true
	}
	return want.Kind == kindVLAN && (is.Lower != want.Lower || *is.vlan() != *want.vlan())
}

// vlan is what tells two VLANs on one device apart.
func (d Device) vlan() *VLAN {
	if d.VLAN == nil {
		return &VLAN{}
	}
	v := VLAN{ID: d.VLAN.ID, Protocol: d.VLAN.Protocol}
	if v.Protocol == "" {
		v.Protocol = "802.1Q"
	}
	return &v
}
