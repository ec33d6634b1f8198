package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// Explanation is what `explain` shows for one network, or why it is denied.
type Explanation struct {
	VM       string     `json:"vm"`
	Where    string     `json:"where,omitempty"` // how the VM was found: "qmp, running"
	ID       string     `json:"id"`
	Granted  bool       `json:"granted"`
	Error    string     `json:"error,omitempty"` // why not
	Next     string     `json:"next,omitempty"`
	Network  string     `json:"network,omitempty"`
	Uplink   string     `json:"uplink,omitempty"`
	Mode     string     `json:"mode,omitempty"`
	Kind     string     `json:"kind,omitempty"`
	MAC      string     `json:"mac,omitempty"`
	Change   string     `json:"mac_change,omitempty"` // what the guest may do to its MAC: deny, allow
	MTU      int        `json:"mtu,omitempty"`
	VLAN     int        `json:"vlan,omitempty"`
	Link     string     `json:"link,omitempty"` // keep, follow
	Queues   int        `json:"queues,omitempty"`
	VHost    bool       `json:"vhost"`
	Rule     string     `json:"rule,omitempty"`
	Lines    []Line     `json:"lines"` // the chosen, a line each
	Reasons  []string   `json:"reasons"`
	Not      []Rejected `json:"not"`
	Mind     []string   `json:"mind"`
	ExitCode int        `json:"exit"` // what attach would exit with

	IPs       []string   `json:"ips,omitempty"`
	Learn     bool       `json:"learn,omitempty"`
	Flag      string     `json:"flag,omitempty"`   // l2, l3: bridge, private, vepa
	Filter    *Filtered  `json:"filter,omitempty"` // true: dropped
	Bandwidth *Bandwidth `json:"bandwidth,omitempty"`
	Extra     *Extra     `json:"extra,omitempty"`
	Name      string     `json:"name,omitempty"` // of the device in a namespace
}

// Line is one line of the chosen alternative: a label, a value, where it comes
// from.
type Line struct {
	Label string `json:"label"`
	Value string `json:"value"`
	From  string `json:"from"`
}

// Explain is Decide's answer for people: what would be given and why, or why
// nothing is. On an error it still lists what is open otherwise.
func (s *Set) Explain(req vmnetd.Request, f Facts) Explanation {
	c := s.choose(req, f)
	e := Explanation{
		VM: c.req.VM, Where: c.where(), ID: c.d.ID, Network: c.d.Network,
		Lines: c.lines(), Reasons: nonNil(c.d.Reasons), Not: nonNil(c.d.Not), Mind: nonNil(c.d.Mind),
	}
	if c.rule != nil {
		e.Rule = c.rule.At.String()
	}
	if c.err != nil {
		e.Error, e.Next, e.ExitCode = c.err.Error(), vmnetd.NextOf(c.err), vmnetd.ClassOf(c.err).Exit
		return e
	}
	e.Granted, e.Next = true, attachCommand(c.req)
	e.Uplink, e.Mode, e.Kind = c.d.Uplink, string(c.d.Mode), string(c.d.Kind)
	e.MAC, e.MTU, e.VHost = c.d.MAC, c.d.MTU, c.d.VHost
	e.VLAN, e.Link, e.Change = c.d.VLAN, c.d.Link, c.d.MACChange
	if !c.guessed() {
		e.Queues = c.d.Queues
	}
	c.explainGuest(&e)
	return e
}

// explainGuest adds what the guest may use.
func (c *choice) explainGuest(e *Explanation) {
	for _, p := range c.d.IPs {
		e.IPs = append(e.IPs, p.String())
	}
	e.Learn, e.Flag, e.Name, e.Filter = c.d.Learn, c.d.Flag, c.d.Name, &c.d.Filter
	if c.d.Bandwidth != (Bandwidth{}) {
		e.Bandwidth = &c.d.Bandwidth
	}
	if c.d.Extra.MACs != nil || c.d.Extra.IPs != nil {
		e.Extra = &c.d.Extra
	}
}

// ExplainAll explains every network: those open to the VM in the order in which
// the rules give them, then those that are denied (ExitCode 3). f gives the
// facts for the network named; req.Network is not looked at.
func (s *Set) ExplainAll(req vmnetd.Request, f func(network string) Facts) []Explanation {
	req.Network = ""
	first := s.choose(req, f(""))
	if first.verdicts == nil { // nothing that could be explained by network
		return []Explanation{s.Explain(req, f(""))}
	}
	var open, closed []Explanation
	for _, v := range first.verdicts {
		req.Network = v.network.Name
		e := s.Explain(req, f(v.network.Name))
		e.Not = withoutNetworks(e.Not)
		if v.open() {
			open = append(open, e)
			continue
		}
		closed = append(closed, e)
	}
	return append(open, closed...)
}

// withoutNetworks leaves away what has an Explanation of its own.
func withoutNetworks(not []Rejected) []Rejected {
	rest := []Rejected{}
	for _, r := range not {
		if !strings.HasPrefix(r.What, "network ") {
			rest = append(rest, r)
		}
	}
	return rest
}

func (c *choice) where() string {
	if c.f.VM.Where == "" && c.f.Unknown {
		return "host not looked at"
	}
	return c.f.VM.Where
}

// guessed says whether the number of queues depends on a VM nobody looked at.
func (c *choice) guessed() bool {
	return c.f.Unknown && c.req.Queues == 0 && c.grant.queues.Auto && c.f.VM.VCPUs <= 0
}

// lines is what was chosen, as far as the choice went.
func (c *choice) lines() []Line {
	lines := []Line{}
	if c.network != nil {
		lines = append(lines, Line{"network", c.networkLine(), c.network.At.String()})
	}
	if c.rule != nil {
		lines = append(lines, Line{"by rule", c.rule.Text, c.rule.At.String()})
	}
	if c.err != nil {
		return lines
	}
	lines = append(lines,
		Line{"uplink", c.d.Uplink, c.uplinkState()},
		Line{"mode", fmt.Sprintf("%s (%s)", c.modeWithFlag(c.d.Mode), c.d.Kind), c.whyMode(c.modesElsewhere())})
	if c.grant.mtu != 0 {
		lines = append(lines, Line{"MTU", fmt.Sprint(c.grant.mtu), c.grant.mtuBy.String()})
	}
	if c.d.Link == LinkFollow {
		lines = append(lines, Line{"link", c.d.Link, c.grant.linkBy.String()})
	}
	if c.d.MACChange == ChangeAllow {
		lines = append(lines, Line{"MAC", "guest may change it", c.grant.changeBy.String()})
	}
	lines = append(lines, Line{"NIC", c.nicLine(), ""})
	if value, from := c.ipLine(); value != "" {
		lines = append(lines, Line{"IP", value, from})
	}
	lines = append(lines, c.filterLines()...)
	if e := c.d.Extra; e.MACs != nil || e.IPs != nil {
		lines = append(lines, Line{"extra", strings.Join(append(slices.Clone(e.MACs), prefixTexts(e.IPs)...), ", "), c.grant.by["extra"].String()})
	}
	return append(lines, c.rateLines()...)
}

// modesElsewhere says where the modes are written, unless that line is shown
// already as the network's.
func (c *choice) modesElsewhere() string {
	by := c.grant.modesBy
	switch {
	case by.at == c.network.At:
		return ""
	case by.at.File == "":
		return " (" + by.what + ")"
	}
	return " (" + by.at.String() + ")"
}

func (c *choice) networkLine() string {
	if c.network.VLAN == 0 {
		return c.network.Name
	}
	return fmt.Sprintf("%s, VLAN %d", c.network.Name, c.network.VLAN)
}

func (c *choice) uplinkState() string {
	if c.f.Unknown {
		return "host not looked at"
	}
	state := "up"
	switch {
	case !c.up.Up:
		state = "down"
	case !c.up.Carrier:
		state = "no carrier"
	}
	switch {
	case c.up.Path != "" && c.up.Path != c.d.Uplink:
		state += ", by " + c.up.Path
	case c.up.Ifname != "" && c.up.Ifname != c.d.Uplink:
		state += ", is " + c.up.Ifname
	}
	return fmt.Sprintf("%s, MTU %d", state, c.on.MTU)
}

func (c *choice) nicLine() string {
	mac := fmt.Sprintf("%s (%s)", c.d.MAC, c.d.MACFrom)
	switch {
	case c.d.MAC == "" && c.d.Mode.Info().SharesMAC:
		mac = "the uplink's MAC"
	case c.d.MAC == "":
		mac = "MAC derived when it is attached"
	}
	if n := c.f.Netns; n != nil {
		return fmt.Sprintf("%s, %s, %s in %s", c.d.ID, mac, c.d.Name, n.Path)
	}
	queues := fmt.Sprintf("%d queues (%s)", c.d.Queues, c.d.QueuesBy)
	switch {
	case c.guessed():
		queues = fmt.Sprintf("as many queues as vCPUs, at most %d", maxAutoQueues)
	case c.d.Queues == 1:
		queues = fmt.Sprintf("1 queue (%s)", c.d.QueuesBy)
	}
	line := strings.Join([]string{c.d.ID, mac, queues}, ", ")
	switch {
	case c.f.Unknown:
		return line
	case c.d.VHost:
		return line + ", vhost"
	case c.f.VHostReason != "":
		return line + ", no vhost: " + c.f.VHostReason
	}
	return line + ", no vhost"
}

func nonNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// attachCommand is what to type to get what was explained.
func attachCommand(req vmnetd.Request) string {
	words := []string{"vmnetd", "attach", shellWord(req.VM)}
	flag := func(name, value string) {
		if value != "" {
			words = append(words, name, shellWord(value))
		}
	}
	flag("--network", req.Network)
	flag("--uplink", req.Uplink)
	flag("--mode", string(req.Mode))
	flag("--mac", req.MAC)
	if req.Queues > 0 {
		flag("--queues", fmt.Sprint(req.Queues))
	}
	flag("--id", req.ID)
	flag("--ip", strings.Join(req.IPs, ","))
	flag("--via", req.Via)
	flag("--name", req.Name)
	for _, route := range req.Routes {
		flag("--route", route)
	}
	flag("--bus", req.Bus)
	flag("--addr", req.Addr)
	flag("--handover", req.Handover)
	for _, f := range []struct {
		name  string
		given bool
	}{{"--live", req.Live}, {"--config", req.Config}, {"--incoming", req.Incoming}} {
		if f.given {
			words = append(words, f.name)
		}
	}
	return strings.Join(words, " ")
}

const shellPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:/@%+=,"

// shellWord quotes what a shell would not take as one plain word.
func shellWord(s string) string {
	if s != "" && strings.Trim(s, shellPlain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
