package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// limited is the uplink with what is declared of the switch behind it, which
// counts whatever was applied.
func (s *Set) limited(name string, u Uplink) Uplink {
	if l, declared := s.Limits[name]; declared {
		u.MaxMACs, u.NoHairpin = l.MaxMACs, l.NoHairpin
	}
	return u
}

// limitAt is a key of an uplink's with its place, where that is known.
func (c *choice) limitAt(key string, at Pos) string {
	if at.File == "" {
		return key
	}
	return key + ", " + at.String()
}

// addsMAC says whether a guest brings a MAC of its own to the switch.
func addsMAC(info vmnetd.ModeInfo) bool { return !info.SharesMAC && !info.Exclusive }

// fullPort: a switch port with port security drops, or shuts itself, at the next
// MAC.
func (c *choice) fullPort(s spot) []unfit {
	if s.up.MaxMACs == 0 || !addsMAC(s.info) {
		return nil
	}
	macs, who := c.macsOn(s.up)
	if macs[strings.ToLower(c.mac)] || len(macs) < s.up.MaxMACs {
		return nil
	}
	takes := fmt.Sprintf("the switch port takes %s (%s)", count(s.up.MaxMACs, "MAC"), c.limitAt("limits.macs", c.set.Limits[s.name].MaxMACsAt))
	if len(who) == 0 {
		return []unfit{{why: takes + ", which is the uplink's own", fix: "use mode l2 (ipvtap), whose guests have the uplink's MAC, or another uplink"}}
	}
	return []unfit{{why: fmt.Sprintf("%s, and %d are used: the uplink's own and those of %s", takes, len(macs), holders(who)), fix: release(who)}}
}

// macsOn is the MACs that the switch sees on an uplink's port, and who brings
// those that are not the uplink's own. The NIC asked for is left out.
func (c *choice) macsOn(up Uplink) (macs map[string]bool, who []User) {
	macs = map[string]bool{strings.ToLower(up.MAC): true}
	all := slices.Concat(up.Users, up.Ports)
	for _, id := range slices.Sorted(maps.Keys(up.VLANs)) {
		all = append(all, up.VLANs[id].Users...)
	}
	for _, u := range all {
		mac := strings.ToLower(u.MAC)
		if mac != "" && !macs[mac] && !c.own(u) {
			macs[mac] = true
			who = append(who, u)
		}
	}
	return macs, who
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// unreflected: guests that reach each other by the switch alone, and a switch that
// does not send back what came in by the same port (802.1Q 8.6.1).
func (c *choice) unreflected(s spot) []unfit {
	if !s.up.NoHairpin || c.neighbour(s.info) != "reflected" {
		return nil
	}
	return []unfit{{
		why: fmt.Sprintf("the switch does not reflect (%s), and in %s guests of one uplink reach each other by that alone",
			c.limitAt("hairpin: false", c.set.Limits[s.name].HairpinAt), c.modeWithFlag(s.mode)),
		fix: "use mode bridge, or l2 with flag bridge",
	}}
}

// oneStation: an access point sends to a station by the one MAC that it knows it
// by (IEEE 802.11 9.3.2.1: three addresses a frame), so that a guest needs that
// one as well.
func (c *choice) oneStation(s spot) []unfit {
	if !s.up.Wireless || s.info.SharesMAC {
		return nil
	}
	return []unfit{{
		why: fmt.Sprintf("%s is wireless, which carries frames of its own MAC alone", device(s.name, s.up)),
		fix: "use mode l2 (ipvtap), whose guests have that MAC",
	}}
}

// lacking: a kernel without the driver, in the words of whoever asked it.
func (c *choice) lacking(s spot) []unfit {
	why, lacks := c.f.Lacking[c.kind(s.mode)]
	if !lacks {
		return nil
	}
	return []unfit{{why: why, fix: "vmnetd doctor", kernel: true}}
}
