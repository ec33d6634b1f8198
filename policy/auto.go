package policy

import (
	"fmt"
	"slices"

	"github.com/vmnetd/vmnetd"
)

// auto says whether the uplink's facts choose the mode.
func (g *grant) auto() bool { return slices.Contains(g.modes, vmnetd.Auto) }

// modesOn is the modes in question on an uplink, in the order they are tried.
func (c *choice) modesOn(up Uplink) []vmnetd.Mode {
	if c.req.Mode != "" {
		return []vmnetd.Mode{c.req.Mode}
	}
	return c.grant.modesOn(up)
}

// modesOn is the modes that are allowed on an uplink: auto's are another list on a
// bridge.
func (g *grant) modesOn(up Uplink) []vmnetd.Mode {
	switch {
	case !g.auto():
		return g.modes
	case up.Kind == kindBridge:
		return vmnetd.AutoOnBridge
	}
	return vmnetd.AutoModes
}

// byAuto says whether the mode is left to the uplink's facts.
func (c *choice) byAuto() bool { return c.req.Mode == "" && c.grant.auto() }

// better says why auto rather takes another mode than one that fits; "" when
// nothing speaks against it. What stands there already stays as it is. A device
// that had to become promiscuous for guests' MACs hears, and has the host drop,
// everything that a switch floods.
func (c *choice) better(s spot) string {
	if !c.byAuto() || c.f.Unknown {
		return ""
	}
	beneath := slices.Concat(s.on.Users, s.on.Ports)
	if i := slices.IndexFunc(beneath, c.own); i >= 0 {
		if beneath[i].Mode == s.mode {
			return ""
		}
		return fmt.Sprintf("%s stands there in mode %s already", c.nic(), beneath[i].Mode)
	}
	if s.up.PromiscAt == 0 || !addsMAC(s.info) || onBridge(s.info) {
		return ""
	}
	return promiscuous(s)
}

func promiscuous(s spot) string {
	return fmt.Sprintf("%s became promiscuous with %s: its unicast filter was full", device(s.name, s.up), count(s.up.PromiscAt, "MAC"))
}

// whyAuto says what decided, for a mode that auto chose.
func (c *choice) whyAuto(by string) string {
	took := "auto: " + c.withMode(c.d.Mode)
	tried := c.trials[slices.IndexFunc(c.trials, func(t trial) bool { return t.name == c.d.Uplink })].modes
	first := tried[0]
	switch {
	case c.f.Unknown:
		return took + ", unless the uplink's facts speak against it" + by
	case first.mode == c.d.Mode && onBridge(first.mode.Info()):
		return fmt.Sprintf("%s, because %s is a bridge%s", took, c.d.Uplink, by)
	case first.mode == c.d.Mode && first.soft != "":
		return fmt.Sprintf("%s, although %s; %s does not fit: %s%s", took, first.soft, c.withMode(tried[1].mode), joinWhy(tried[1].no), by)
	case first.mode == c.d.Mode:
		return fmt.Sprintf("%s, because nothing of %s speaks against it%s", took, c.d.Uplink, by)
	case len(first.no) > 0:
		return fmt.Sprintf("%s, because %s%s", took, joinWhy(first.no), by)
	}
	return fmt.Sprintf("%s, because %s%s", took, first.soft, by)
}
