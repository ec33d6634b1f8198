package policy

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
)

const (
	maxQueues     = 256 // drivers/net/tap.c, MAX_TAP_QUEUES: the next one is EBUSY
	maxAutoQueues = 8   // beyond that more queues cost more memory than they bring frames
)

const noModes = "none is configured"

// source is who gave a key its value.
type source struct {
	what string // "the default", "network lan", "the rule", or that nobody did
	at   Pos
}

func (s source) String() string {
	if s.at.File == "" {
		return s.what
	}
	return fmt.Sprintf("%s, %s", s.what, s.at)
}

// grant is a Grant after merging: every key with who gave it.
type grant struct {
	modes    []vmnetd.Mode
	withheld []vmnetd.Mode // listed, but not by the rule itself as they would have to be
	modesBy  source
	mtu      int
	mtuBy    source
	queues   Queues
	queuesBy source
	macs     []string
	macsBy   source
	link     string
	linkBy   source
	change   string
	changeBy source

	ips       IPs
	maxIPs    int
	bcQueue   int
	filter    Filtered
	extra     Extra
	bandwidth Bandwidth
	port      Ported
	flag      string
	by        map[string]source // who gave one of these, by the key's name; not in it: nobody did
}

// merge puts defaults, network and rule over each other, key by key. Bridge is
// the one mode of a configuration that gives none: it is the only one that
// neither needs something of the switch nor takes something from the guests.
func (s *Set) merge(n *Network, r *Rule) grant {
	g := grant{
		modes: []vmnetd.Mode{vmnetd.Bridge}, modesBy: source{what: noModes}, queues: Queues{Auto: true}, link: LinkKeep, change: ChangeDeny,
		maxIPs: DefaultMaxIPs, flag: FlagBridge, filter: Filtered{Spoof: true, DHCPServer: true, RA: true},
		port: Ported{Learning: true, BPDUGuard: true}, by: map[string]source{},
	}
	g.put("the default", s.Defaults, Pos{})
	g.put("network "+n.Name, n.Grant, n.At)
	g.put("the rule", r.Grant, r.At)
	g.extra = r.Grant.Extra
	if r.Grant.Modes == nil {
		g.withhold()
	}
	return g
}

// put lays one layer over what is there; at is where the layer begins, for keys
// whose own place is not known.
func (g *grant) put(what string, over Grant, at Pos) {
	from := func(p Pos) source {
		if p.File == "" {
			p = at
		}
		return source{what, p}
	}
	if over.Modes != nil {
		g.modes, g.modesBy = over.Modes, from(over.ModesAt)
	}
	if over.MTU != 0 {
		g.mtu, g.mtuBy = over.MTU, from(over.MTUAt)
	}
	if over.Queues.Given {
		g.queues, g.queuesBy = over.Queues, from(over.QueuesAt)
	}
	if over.MACs != nil {
		g.macs, g.macsBy = over.MACs, from(over.MACsAt)
	}
	if over.Link != "" {
		g.link, g.linkBy = over.Link, from(over.LinkAt)
	}
	if over.MACChange != "" {
		g.change, g.changeBy = over.MACChange, from(over.MACChangeAt)
	}
	g.putRest(over, from)
}

// withhold takes out the modes that only a rule can give: such a mode takes the
// uplink away from every other guest, and from the host.
func (g *grant) withhold() {
	var rest []vmnetd.Mode
	for _, m := range g.modes {
		if m.Info().Exclusive {
			g.withheld = append(g.withheld, m)
			continue
		}
		rest = append(rest, m)
	}
	g.modes = rest
}

// checkAsked denies what was asked for beyond what the rule allows.
func (c *choice) checkAsked() error {
	c.grant = c.set.merge(c.network, c.rule)
	for _, check := range []func() error{c.checkUplink, c.checkMode, c.chooseMAC, c.chooseQueues, c.chooseIPs, c.chooseName} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *choice) notGiven(format string, args ...any) *vmnetd.Error {
	return vmnetd.Errorf(vmnetd.ErrDenied, "%s does not give %s %s", c.rule.name(), c.nic(), fmt.Sprintf(format, args...))
}

func (c *choice) checkUplink() error {
	u, n := c.req.Uplink, c.network
	if u == "" || slices.Contains(n.Uplinks, u) {
		return nil
	}
	return c.notGiven("uplink %s: network %s (%s) has %s", u, n.Name, n.At, listOr(n.Uplinks, "none")).
		WithNext("ask for one of these with --uplink, or for none")
}

func (c *choice) checkMode() error {
	m, g := c.req.Mode, c.grant
	switch {
	case m == "" && len(g.modes) > 0 || slices.Contains(g.modes, m):
		return nil
	case g.auto() && (slices.Contains(vmnetd.AutoModes, m) || slices.Contains(vmnetd.AutoOnBridge, m)):
		return nil // what it may choose may be asked for
	case m == "" && len(g.withheld) > 0:
		m = g.withheld[0]
	case m == "":
		return c.notGiven("any mode (%s)", g.modesBy)
	}
	if slices.Contains(g.withheld, m) {
		return c.notGiven("mode %s: %s lists it, and it counts only where the rule itself does", m, sourceWithAt(g.modesBy)).
			WithNext(fmt.Sprintf("a rule with modes: [%s] must stand before %s", m, c.rule.At))
	}
	return c.notGiven("mode %s: allowed is %s (%s)", m, listOr(words(g.modes), "none"), g.modesBy).
		WithNext("ask for one of these with --mode, or for none")
}

func sourceWithAt(s source) string {
	if s.at.File == "" {
		return s.what
	}
	return fmt.Sprintf("%s (%s)", s.what, s.at)
}

// chooseMAC takes the MAC asked for or derives one. The derived one may always
// be asked for: it is what the NIC has anyway.
func (c *choice) chooseMAC() error {
	derived := c.derivedMAC(c.f.MACSeed)
	switch {
	case c.req.MAC != "":
		return c.askedMAC()
	case derived == "" && !c.f.Unknown:
		return vmnetd.Errorf(vmnetd.ErrFailed, "no MAC can be derived for %s: neither the VM's UUID nor this host's machine-id is known", c.nic()).
			WithNext("give one with --mac")
	}
	c.mac, c.d.MAC, c.d.MACFrom = derived, derived, "derived"
	return nil
}

func (c *choice) derivedMAC(seed string) string {
	if seed == "" {
		return ""
	}
	return vmnetd.DeriveMAC(seed, c.d.ID).String()
}

func (c *choice) askedMAC() error {
	c.mac, c.d.MAC, c.d.MACFrom = c.req.MAC, c.req.MAC, "asked for"
	if c.grant.macs == nil || c.req.MAC == c.derivedMAC(c.f.MACSeed) || c.req.MAC == c.derivedMAC(c.f.NameSeed) {
		return nil
	}
	for _, glob := range c.grant.macs {
		if ok, err := path.Match(strings.ToLower(glob), c.req.MAC); ok && err == nil {
			return nil
		}
	}
	if c.mayShareMAC() { // then it may be the uplink's, which nobody chooses
		c.foreignMAC = true
		return nil
	}
	return c.notGiven("MAC %s: allowed is %s (%s)", c.req.MAC, listOr(c.grant.macs, "none"), c.grant.macsBy).
		WithNext("leave --mac away: one is derived")
}

func (c *choice) chooseQueues() error {
	n, q := c.req.Queues, c.grant.queues
	switch {
	case c.f.Netns != nil: // what a namespace's stack sends needs none
		return nil
	case n > 0 && !q.Auto && n > q.N:
		return c.notGiven("%d queues: at most %d (%s)", n, q.N, c.grant.queuesBy).WithNext(fmt.Sprintf("ask with --queues %d, or leave it away", q.N))
	case n > 0:
		c.d.Queues, c.d.QueuesBy = n, "asked for"
	case !q.Auto:
		c.d.Queues, c.d.QueuesBy = q.N, c.grant.queuesBy.at.String()
	case c.f.VM.VCPUs <= 0:
		c.d.Queues, c.d.QueuesBy = 1, "its vCPUs are not known"
	default:
		c.d.Queues, c.d.QueuesBy = min(c.f.VM.VCPUs, maxAutoQueues), "its vCPUs"
	}
	return nil
}

func words(modes []vmnetd.Mode) []string {
	var w []string
	for _, m := range modes {
		w = append(w, string(m))
	}
	return w
}

func listOr(items []string, none string) string {
	if len(items) == 0 {
		return none
	}
	return strings.Join(items, ", ")
}
