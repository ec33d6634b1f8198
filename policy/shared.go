package policy

import (
	"fmt"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// mayShareMAC says whether a mode in question gives guests the uplink's MAC.
func (c *choice) mayShareMAC() bool {
	for _, m := range c.modesOn(Uplink{}) {
		if m.Info().SharesMAC {
			return true
		}
	}
	return false
}

// otherMAC: the MAC of an ipvlan is its lower device's (drivers/net/ipvlan/ipvlan_main.c,
// ipvlan_link_new), and another one that is set is ignored.
func (c *choice) otherMAC(s spot) []unfit {
	if c.req.MAC == "" || !s.info.SharesMAC || strings.EqualFold(c.req.MAC, s.on.MAC) {
		return nil
	}
	return []unfit{{
		why:     fmt.Sprintf("MAC %s is asked for, and all guests of an %s have the uplink's (%s)", c.req.MAC, c.kind(s.mode), s.on.MAC),
		fix:     "leave --mac away; of a NIC that libvirt keeps, detach it with --config and attach it again",
		request: true,
	}}
}

// foreign: a MAC that the grant does not give, in a mode in which it would be the
// guest's own.
func (c *choice) foreign(s spot) []unfit {
	if s.info.SharesMAC || !c.foreignMAC {
		return nil
	}
	return []unfit{{
		why:     fmt.Sprintf("MAC %s is not given: allowed is %s (%s)", c.req.MAC, listOr(c.grant.macs, "none"), c.grant.macsBy),
		fix:     "leave --mac away: one is derived",
		request: true,
	}}
}

// otherFlavour: mode and flag are the lower device's, so that the newest ipvlan
// would change those of all (drivers/net/ipvlan/ipvlan_main.c, ipvlan_set_port_mode).
func (c *choice) otherFlavour(s spot) []unfit {
	if !s.info.SharesMAC {
		return nil
	}
	var others []User
	for _, u := range s.on.Users {
		if u.Family == s.info.Family && !c.own(u) && (u.Mode != s.mode || flagOr(u.Flag) != c.grant.flag) {
			others = append(others, u)
		}
	}
	if len(others) == 0 {
		return nil
	}
	theirs := "another mode"
	if m := others[0].Mode; m != "" {
		theirs = fmt.Sprintf("mode %s with flag %s", m, flagOr(others[0].Flag))
	}
	return []unfit{{
		why: fmt.Sprintf("%s carries %s in %s, and one lower device has one mode and flag for all: this would change theirs to %s with flag %s",
			device(s.label, s.on), holders(others), theirs, s.mode, c.grant.flag),
		fix: release(others),
	}}
}

func flagOr(flag string) string {
	if flag == "" {
		return FlagBridge
	}
	return flag
}

// neighbour is how guests of one uplink reach each other in a mode: as
// ModeInfo.Neighbours, with the flag of lower devices that have one.
func (c *choice) neighbour(info vmnetd.ModeInfo) string {
	if !info.SharesMAC {
		return info.Neighbours
	}
	return map[string]string{FlagBridge: info.Neighbours, FlagPrivate: "never", FlagVEPA: "reflected"}[c.grant.flag]
}

// modeWithFlag names a mode with its flag, where it has one that is not usual.
func (c *choice) modeWithFlag(m vmnetd.Mode) string {
	if !m.Info().SharesMAC || c.grant.flag == FlagBridge {
		return string(m)
	}
	return fmt.Sprintf("%s with flag %s", m, c.grant.flag)
}
