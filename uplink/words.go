package uplink

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/teaming"
)

// texts is every verb in words, of the device that the step is of.
var texts = map[Verb]func(s Step) string{
	verbMake: func(s Step) string { return "make " + kindText(s.Kind) + " " + s.Device },
	verbDelete: func(s Step) string {
		return "remove " + s.Device
	},
	verbUp:      func(s Step) string { return "set " + s.Device + " up" },
	verbDown:    func(s Step) string { return "set " + s.Device + " down" },
	verbEnslave: func(s Step) string { return "put " + s.Device + " into " + s.Master },
	verbRelease: func(s Step) string { return "take " + s.Device + " out of " + s.Master },
	verbMAC:     func(s Step) string { return "give " + s.Device + " the MAC " + s.MAC },
	verbMTU:     func(s Step) string { return fmt.Sprintf("give %s an MTU of %d", s.Device, s.MTU) },
	verbOptions: func(s Step) string { return "set " + optionsText(s.Mode, s.Options) + " of " + s.Device },
	verbPort: func(s Step) string {
		return "set " + optionsText("", s.Options) + " of " + s.Device + " in " + s.Master
	},
	verbTeam:     func(s Step) string { return "change the configuration of " + s.Device + " while it runs" },
	verbRestart:  func(s Step) string { return "start teamd of " + s.Device + " again with another configuration" },
	verbActivate: func(s Step) string { return "make " + s.Device + " the active port of " + s.Master },
	verbAwait:    func(s Step) string { return "wait until " + s.Device + " carries in " + s.Master },
	verbAddrAdd:  func(s Step) string { return "give " + s.Device + " the address " + s.Addr.Prefix.String() },
	verbAddrDel:  func(s Step) string { return "take the address " + s.Addr.Prefix.String() + " from " + s.Device },
	verbRouteAdd: func(s Step) string { return "route " + routeText(*s.Route) + " out of " + s.Device },
	verbRouteDel: func(s Step) string { return "take " + routeText(*s.Route) + " from " + s.Device },
}

// text is a step in words.
func (s Step) text() string {
	if text, ok := texts[s.Verb]; ok {
		return text(s)
	}
	return string(s.Verb) + " " + s.Device
}

func kindText(kind string) string {
	switch kind {
	case kindVLAN:
		return "VLAN"
	case kindNIC:
		return "device"
	}
	return kind
}

// optionsText is "mode 802.3ad, miimon 100".
func optionsText(mode string, options map[string]string) string {
	var words []string
	if mode != "" {
		words = append(words, "mode "+mode)
	}
	for _, o := range slices.Sorted(maps.Keys(options)) {
		words = append(words, o+" "+options[o])
	}
	return strings.Join(words, ", ")
}

// planOf says in words what steps change. From, Never, Pending and Problems are
// the caller's, who knows them.
func planOf(is, want World, steps []Step) vmnetd.Plan {
	w := writer{is: is, want: want}
	if len(steps) == 0 {
		return w.plan
	}
	for _, name := range want.order() {
		if d := want[name]; !d.Absent && !d.Foreign {
			w.device(d)
		}
	}
	for _, name := range want.names() {
		if d := want[name]; d.Absent && is.there(name) {
			w.add("-", is[name], needsNew, "removed: an earlier apply made it, and it is declared no more")
		}
	}
	for _, m := range moves(is, want) {
		w.plan.Changes = append(w.plan.Changes, vmnetd.PlanChange{Op: ">", Name: m.to, Text: m.text(), Needs: needsLive})
		w.host = true
	}
	w.costs()
	w.plan.Mind = append(left(is, want), w.slow()...)
	return w.plan
}

// writer writes a plan.
type writer struct {
	is, want World
	plan     vmnetd.Plan
	host     bool // the host loses its network for a moment
}

func (w *writer) add(op string, d Device, needs, text string, detail ...string) {
	w.plan.Changes = append(w.plan.Changes, vmnetd.PlanChange{
		Op: op, Name: d.Name, Kind: w.kind(d), Text: text, Detail: detail, Needs: needs, Impact: w.impact(d, needs),
	})
}

// kind is the uplink's, where it is one: an anchor is a bond to the kernel.
func (w *writer) kind(d Device) string {
	if kind := w.want[d.Name].Uplink; kind != "" {
		return kind
	}
	if d.Kind == kindNIC {
		return vmnetd.UplinkNIC
	}
	return d.Kind
}

func (w *writer) device(want Device) {
	is, there := w.is[want.Name]
	if !there || is.Absent || rebuilt(is, want) {
		if want.Kind == kindNIC {
			return
		}
		op := "+"
		if there && !is.Absent {
			op = "~"
		}
		w.add(op, want, needsNew, w.headline(want), w.identity(want))
		return
	}
	needs := needsOf(is, want)
	parts := w.differences(is, want)
	if len(parts) == 0 {
		return
	}
	if needs == "" {
		needs = needsLive
	}
	w.add("~", want, needs, strings.Join(parts, "; "), optionChanges(is, want)...)
}

// differences is what changes of a device, each in a few words.
func (w *writer) differences(is, want Device) []string {
	var parts []string
	say := func(when bool, text string) {
		if when && text != "" {
			parts = append(parts, text)
		}
	}
	say(is.Mode != want.Mode, fmt.Sprintf("mode %s -> %s", is.Mode, want.Mode))
	options := len(changed(is.Options, want.Options))
	say(options > 0 && is.Mode == want.Mode, plural(options, "option changes", "options change"))
	say(true, portDifference(is, want))
	if want.Team != nil {
		say(true, teamDifference(is, want))
		say(true, rejoinText(want.Name, teamRejoins(is, want)))
	}
	if !governed(w.is, is.Name) && !governed(w.want, want.Name) {
		say(want.MTU != 0 && is.MTU != want.MTU, fmt.Sprintf("MTU %d -> %d", is.MTU, want.MTU))
		say(want.MAC != "" && is.MAC != want.MAC, fmt.Sprintf("MAC %s -> %s", is.MAC, want.MAC))
	}
	say(!is.Up && want.Up && want.Master == is.Master, "is set up")
	say(is.Up && !want.Up, "is set down")
	return parts
}

// portDifference is what changes of a device as a port.
func portDifference(is, want Device) string {
	switch options := changed(is.PortOptions, want.PortOptions); {
	case is.Master != want.Master && want.Master == "":
		return "leaves " + is.Master
	case is.Master != want.Master:
		return "becomes a port of " + want.Master
	case len(options) > 0:
		return optionsText("", options) + " in " + want.Master
	}
	return ""
}

// teamDifference is what changes of a team's configuration beside its ports.
func teamDifference(is, want Device) string {
	return map[string]string{
		needsNoPorts: "teamd starts again with the runner " + want.Team.Runner.Name + "; the device stays, its ports leave it and come back",
		needsRestart: "teamd starts again with another configuration; the device stays",
		needsLive:    "ports get another configuration",
	}[teamNeeds(is.Team, want.Team)]
}

func optionChanges(is, want Device) []string {
	var lines []string
	options := changed(is.Options, want.Options)
	for _, o := range slices.Sorted(maps.Keys(options)) {
		from := is.Options[o]
		if from == "" {
			from = "none"
		}
		lines = append(lines, fmt.Sprintf("%s %s -> %s", o, from, options[o]))
	}
	return lines
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// headline is "team, activebackup; eno1 prio 100, eno2 prio 10 sticky".
func (w *writer) headline(d Device) string {
	ports := w.want.ports(d.Name)
	switch w.kind(d) {
	case vmnetd.UplinkTeam:
		return "team, " + d.Team.Runner.Name + semicolon(teamPorts(d.Team))
	case vmnetd.UplinkBond:
		return "bond, " + d.Mode + semicolon(ports)
	case vmnetd.UplinkAnchor:
		return "anchor over " + strings.Join(ports, ", ")
	case vmnetd.UplinkVLAN:
		return fmt.Sprintf("VLAN %d (%s) on %s", d.VLAN.ID, d.vlan().Protocol, d.Lower)
	case vmnetd.UplinkBridge:
		return "bridge" + semicolon(ports)
	}
	return d.Kind
}

func semicolon(words []string) string {
	if len(words) == 0 {
		return ", no ports"
	}
	return "; " + strings.Join(words, ", ")
}

func teamPorts(c *teaming.Config) []string {
	var out []string
	for _, p := range c.Ports {
		text := p.Name
		if p.Prio != nil {
			text += fmt.Sprintf(" prio %d", *p.Prio)
		}
		if p.Sticky != nil && *p.Sticky {
			text += " sticky"
		}
		out = append(out, text)
	}
	return out
}

// identity is "MAC 3c:ec:ef:01:02:03 (eno1's own, kept from now on), MTU 1500".
func (w *writer) identity(d Device) string {
	var words []string
	if d.MAC != "" {
		mac := "MAC " + d.MAC
		for _, port := range w.want.ports(d.Name) {
			if p := w.is[port]; p.own() == d.MAC && p.Kind == kindNIC {
				mac += fmt.Sprintf(" (%s's own, kept from now on)", port)
				break
			}
		}
		words = append(words, mac)
	}
	if d.MTU != 0 {
		words = append(words, fmt.Sprintf("MTU %d", d.MTU))
	}
	return strings.Join(words, ", ")
}

// impact is what guests on the device notice.
func (w *writer) impact(d Device, needs string) string {
	n := w.is.guests(d.Name)
	lost := w.lost(d, needs)
	if n == 0 || lost == "" || !slices.Contains(w.want.names(), d.Name) {
		return ""
	}
	return plural(n, "guest loses ", "guests lose ") + lost
}

const (
	linkLost = "link for about 1 s"
	pathLost = "the path for a moment" // the device keeps its link: a port of it rejoins
)

// lost is what is lost over a device while it is changed, "" for nothing.
func (w *writer) lost(want Device, needs string) string {
	is := w.is[want.Name]
	switch {
	case cuts(is, want, needs):
		return linkLost
	case rejoinCuts(w.is, want.Name, teamRejoins(is, want)):
		return pathLost
	}
	return ""
}

// cuts says that the link goes while the device is changed.
func cuts(is, want Device, needs string) bool {
	return needs == needsDown || needs == needsNoPorts || needs == needsRestart || needs == needsNew || is.Up && !want.Up
}

// costs says what the whole of it costs host and guests.
func (w *writer) costs() {
	if len(w.plan.Changes) > 0 {
		w.plan.Cost = []string{w.hostCost(), w.guestCost()}
	}
}

func (w *writer) hostCost() string {
	switch lost := w.hostLoses(); {
	case w.host || lost[linkLost]:
		return "host: about 1 s without network, then announced by ARP"
	case lost[pathLost]:
		return "host: loses " + pathLost
	}
	return "host: nothing"
}

// guestCost is of the worst that happens to guests: how many of them lose what.
func (w *writer) guestCost() string {
	most := map[string]int{}
	var quiet []string
	for _, c := range w.plan.Changes {
		if n := w.is.guests(c.Name); c.Impact != "" {
			lost := w.lost(w.want[c.Name], c.Needs)
			most[lost] = max(most[lost], n)
		} else if n == 0 && w.is.there(c.Name) && w.is[c.Name].Kind == kindNIC {
			quiet = append(quiet, c.Name)
		}
	}
	for _, lost := range []string{linkLost, pathLost} {
		if n := most[lost]; n > 0 {
			return "guests: " + plural(n, "loses ", "lose ") + lost
		}
	}
	if len(quiet) > 0 {
		return "guests: none on " + strings.Join(quiet, ", ")
	}
	return "guests: nothing"
}

// hostLoses is what the host's own addresses lose for a moment.
func (w *writer) hostLoses() map[string]bool {
	all := map[string]bool{}
	for _, c := range w.plan.Changes {
		if c.Op == ">" {
			continue
		}
		for _, at := range append(w.is.over(c.Name), c.Name) {
			if len(w.is[at].Addrs) > 0 {
				all[w.lost(w.want[c.Name], c.Needs)] = true
			}
		}
	}
	return all
}

// slow says of bridges with STP that they forward late.
func (w *writer) slow() []string {
	var lines []string
	for _, c := range w.plan.Changes {
		d := w.want[c.Name]
		if d.Kind == kindBridge && d.Options["stp_state"] == "1" && (c.Op == "+" || w.is[c.Name].Options["stp_state"] != "1") {
			lines = append(lines, fmt.Sprintf("%s speaks STP: it carries nothing for about 30 s, while its ports listen and learn", c.Name))
		}
	}
	return lines
}
