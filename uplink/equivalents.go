package uplink

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vmnetd/vmnetd/bonding"
	"github.com/vmnetd/vmnetd/teaming"
)

// modeOf is the bond's mode for a runner of teamd; a random runner has none.
var modeOf = map[string]string{
	"activebackup": bonding.ActiveBackup, "roundrobin": bonding.BalanceRR, "broadcast": bonding.Broadcast,
	"loadbalance": bonding.BalanceXOR, "lacp": bonding.LACP, "random": bonding.BalanceRR,
}

// runnerOf is the runner for a bond's mode.
var runnerOf = map[string]string{
	bonding.ActiveBackup: "activebackup", bonding.BalanceRR: "roundrobin", bonding.Broadcast: "broadcast",
	bonding.BalanceXOR: "loadbalance", bonding.LACP: "lacp", bonding.BalanceTLB: "loadbalance", bonding.BalanceALB: "loadbalance",
}

// defaultMiimon is how often, in ms, a bond looks at its ports' carrier where a
// team was told of it by events.
const defaultMiimon = "100"

// toBond collects the equivalent of a team.
type toBond struct {
	team    *teaming.Config
	bond    bonding.Config
	differs []string
}

func (t *toBond) say(format string, args ...any) {
	t.differs = append(t.differs, fmt.Sprintf(format, args...))
}

// teamAsBond is the bond that does what a team does, and where it does not.
func teamAsBond(c *teaming.Config) (*bonding.Config, []string) {
	t := toBond{team: c, bond: bonding.Config{Mode: modeOf[c.Runner.Name], Options: map[string]string{}}}
	if c.Runner.Name == "random" {
		t.say("a bond has no runner random: balance-rr sends on all ports in turn")
	}
	t.watches()
	t.lacp()
	t.hash()
	t.ports()
	t.bursts()
	if c.HWAddr != "" {
		t.say("hwaddr %s: the uplink keeps its MAC, a bond is not told it", c.HWAddr)
	}
	switch c.Runner.HWAddrPolicy {
	case "by_active":
		t.bond.Options["fail_over_mac"] = "active"
	case "only_active":
		t.bond.Options["fail_over_mac"] = "follow"
		t.say("hwaddr_policy only_active: fail_over_mac follow is the nearest")
	}
	return &t.bond, t.differs
}

// watches: a bond has one monitor for all its ports.
func (t *toBond) watches() {
	watches := t.team.LinkWatch
	for _, p := range t.team.Ports {
		if len(p.LinkWatch) > 0 {
			t.say("the link watch of %s alone: a bond watches all its ports the same way", p.Name)
			if len(watches) == 0 {
				watches = p.LinkWatch
			}
		}
	}
	if len(watches) > 1 {
		t.say("several link watches: a bond has one, the first is taken")
	}
	watch := teaming.LinkWatch{Name: "ethtool"}
	if len(watches) > 0 {
		watch = watches[0]
	}
	o := t.bond.Options
	switch {
	case watch.Name == "ethtool":
		o["miimon"] = defaultMiimon
		setInt(o, "updelay", watch.DelayUp)
		setInt(o, "downdelay", watch.DelayDown)
	case t.bond.Mode == bonding.LACP:
		o["miimon"] = defaultMiimon
		t.say("link watch %s: a bond in 802.3ad watches the carrier (miimon)", watch.Name)
	default:
		t.pings(watch)
	}
}

func (t *toBond) pings(watch teaming.LinkWatch) {
	o := t.bond.Options
	o["arp_interval"] = "1000"
	setInt(o, "arp_interval", watch.Interval)
	setInt(o, "arp_missed_max", watch.MissedMax)
	target := "arp_ip_target"
	if watch.Name == "nsna_ping" {
		target = "ns_ip6_target"
	}
	o[target] = watch.TargetHost
	if isTrue(watch.ValidateActive) {
		o["arp_validate"] = "active"
	}
	if isTrue(watch.ValidateInactive) {
		o["arp_validate"] = "all"
	}
	if watch.SourceHost != "" {
		t.say("source_host %s: a bond asks from the host's own address on it", watch.SourceHost)
	}
	if watch.VLANID != nil {
		t.say("vlanid %d: a bond asks in the VLAN that its target is routed to", *watch.VLANID)
	}
}

func (t *toBond) lacp() {
	if t.bond.Mode != bonding.LACP {
		return
	}
	r, o := t.team.Runner, t.bond.Options
	o["lacp_rate"] = "slow"
	if isTrue(r.FastRate) {
		o["lacp_rate"] = "fast"
	}
	if r.Active != nil && !*r.Active {
		o["lacp_active"] = "off"
	}
	setInt(o, "ad_actor_sys_prio", r.SysPrio)
	setInt(o, "min_links", r.MinPorts)
	switch r.AggSelectPolicy {
	case "bandwidth", "count":
		o["ad_select"] = r.AggSelectPolicy
	case "lacp_prio", "port_config":
		t.say("agg_select_policy %s: a bond chooses its aggregator by bandwidth, count, or keeps it (stable)", r.AggSelectPolicy)
	}
	for _, p := range t.team.Ports {
		if p.LACPPrio != nil {
			t.say("lacp_prio %d of %s: the ports of a bond have no priority of their own in LACP", *p.LACPPrio, p.Name)
		}
		if p.LACPKey != nil {
			t.say("lacp_key %d of %s: a bond makes its keys of the speed", *p.LACPKey, p.Name)
		}
	}
}

// hash: teamd hashes over any set of fields, a bond over one of a few.
func (t *toBond) hash() {
	r := t.team.Runner
	if t.bond.Mode != bonding.BalanceXOR && t.bond.Mode != bonding.LACP {
		return
	}
	if r.TxBalancer != nil && r.TxBalancer.Name != "" {
		t.say("tx_balancer %s: a bond does not move flows between ports by their load (balance-tlb does, and rewrites guests' MACs)", r.TxBalancer.Name)
	}
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(r.TxHash, n) })
	}
	policy := "layer2"
	switch {
	case has("tcp", "udp", "sctp", "l4"):
		policy = "layer3+4"
	case has("ipv4", "ipv6", "ip", "l3"):
		policy = "layer2+3"
	case has("vlan"):
		policy = "vlan+srcmac"
	}
	if len(r.TxHash) == 0 { // teamd.conf(5): eth, ipv4, ipv6
		policy = "layer2+3"
	}
	t.bond.Options["xmit_hash_policy"] = policy
	if len(r.TxHash) > 0 {
		t.say("tx_hash %s: xmit_hash_policy %s is the nearest", strings.Join(r.TxHash, ", "), policy)
	}
}

// ports: where one port is active, the one with the highest priority is
// preferred; a sticky one is not left for a better one.
func (t *toBond) ports() {
	best, prio, sticky := "", 0, false
	for _, p := range t.team.Ports {
		port := bonding.Port{Name: p.Name}
		if p.QueueID != nil {
			port.Options = map[string]string{"queue_id": strconv.Itoa(*p.QueueID)}
		}
		t.bond.Ports = append(t.bond.Ports, port)
		sticky = sticky || isTrue(p.Sticky)
		if p.Prio != nil && (best == "" || *p.Prio > prio) {
			best, prio = p.Name, *p.Prio
		}
	}
	if t.bond.Mode != bonding.ActiveBackup {
		return
	}
	if best != "" {
		t.bond.Options["primary"] = best
		if len(t.team.Ports) > 2 {
			t.say("prio: a bond knows one preferred port (primary), the others are equal")
		}
	}
	if sticky {
		t.bond.Options["primary_reselect"] = "failure"
		t.say("sticky is a port's, primary_reselect failure is the whole bond's: no port that carries is left for a better one")
	}
}

func (t *toBond) bursts() {
	if b := t.team.NotifyPeers; b != nil {
		setInt(t.bond.Options, "num_grat_arp", b.Count)
	}
	if b := t.team.McastRejoin; b != nil {
		setInt(t.bond.Options, "resend_igmp", b.Count)
	}
}

func setInt(o map[string]string, name string, v *int) {
	if v != nil {
		o[name] = strconv.Itoa(*v)
	}
}

func isTrue(b *bool) bool { return b != nil && *b }

// toTeam collects the equivalent of a bond.
type toTeam struct {
	bond    *bonding.Config
	team    teaming.Config
	taken   map[string]bool // options that have an equivalent
	differs []string
}

func (t *toTeam) say(format string, args ...any) {
	t.differs = append(t.differs, fmt.Sprintf(format, args...))
}

func (t *toTeam) take(name string) (string, bool) {
	v, ok := t.bond.Options[name]
	t.taken[name] = true
	return v, ok
}

func (t *toTeam) takeInt(name string) *int {
	v, ok := t.take(name)
	n, err := strconv.Atoi(v)
	if !ok || err != nil {
		return nil
	}
	return &n
}

// bondAsTeam is the team that does what a bond does, and where it does not.
func bondAsTeam(c *bonding.Config) (*teaming.Config, []string) {
	t := toTeam{bond: c, taken: map[string]bool{}}
	t.team.Runner.Name = runnerOf[c.Mode]
	if c.Mode == bonding.BalanceTLB || c.Mode == bonding.BalanceALB {
		t.team.Runner.TxBalancer = &teaming.TxBalancer{Name: "basic"}
		t.say("mode %s: runner loadbalance with tx_balancer basic is the nearest; the switch's ports must be in one group", c.Mode)
	}
	t.watch()
	t.lacp()
	t.hash()
	t.ports()
	if n := t.takeInt("num_grat_arp"); n != nil {
		t.team.NotifyPeers = &teaming.Burst{Count: n}
	}
	if n := t.takeInt("resend_igmp"); n != nil {
		t.team.McastRejoin = &teaming.Burst{Count: n}
	}
	var rest []string
	for name := range c.Options {
		if !t.taken[name] {
			rest = append(rest, name)
		}
	}
	for _, name := range sortedSet(rest) {
		t.say("%s %s: a team has nothing like it", name, c.Options[name])
	}
	return &t.team, t.differs
}

func (t *toTeam) watch() {
	interval := t.takeInt("arp_interval")
	targets, byARP := t.take("arp_ip_target")
	targets6, byNS := t.take("ns_ip6_target")
	missed := t.takeInt("arp_missed_max")
	validate, _ := t.take("arp_validate")
	t.take("miimon")
	t.take("use_carrier")
	if interval == nil || *interval == 0 || !byARP && !byNS {
		t.team.LinkWatch = []teaming.LinkWatch{{Name: "ethtool", DelayUp: t.takeInt("updelay"), DelayDown: t.takeInt("downdelay")}}
		return
	}
	add := func(kind, list string) {
		for target := range strings.SplitSeq(list, ",") {
			if target != "" {
				t.team.LinkWatch = append(t.team.LinkWatch, teaming.LinkWatch{Name: kind, Interval: interval, MissedMax: missed, TargetHost: target})
			}
		}
	}
	add("arp_ping", targets)
	add("nsna_ping", targets6)
	t.validate(validate)
	if len(t.team.LinkWatch) > 1 {
		t.say("several targets: a team's port is up while one of its link watches sees its target")
	}
}

// validate is arp_validate of each arp_ping.
func (t *toTeam) validate(which string) {
	yes := true
	for i := range t.team.LinkWatch {
		w := &t.team.LinkWatch[i]
		if w.Name != "arp_ping" {
			continue
		}
		if which == "active" || which == "all" {
			w.ValidateActive = &yes
		}
		if which == "backup" || which == "all" {
			w.ValidateInactive = &yes
		}
	}
}

func (t *toTeam) lacp() {
	if t.bond.Mode != bonding.LACP {
		return
	}
	r := &t.team.Runner
	if v, ok := t.take("lacp_rate"); ok {
		fast := v == "fast"
		r.FastRate = &fast
	}
	active := true
	if v, ok := t.take("lacp_active"); ok {
		active = v != "off"
	}
	r.Active = &active
	r.SysPrio, r.MinPorts = t.takeInt("ad_actor_sys_prio"), t.takeInt("min_links")
	if v, ok := t.take("ad_select"); ok && v != "stable" {
		r.AggSelectPolicy = v
	}
}

func (t *toTeam) hash() {
	fields := map[string][]string{
		"layer2": {"eth"}, "layer2+3": {"eth", "ipv4", "ipv6"}, "layer3+4": {"ipv4", "ipv6", "tcp", "udp"}, "vlan+srcmac": {"eth", "vlan"},
	}
	name := t.team.Runner.Name
	policy, ok := t.take("xmit_hash_policy")
	if name != "loadbalance" && name != "lacp" {
		return
	}
	if !ok {
		policy = "layer2"
	}
	hash, known := fields[policy]
	if !known {
		t.say("xmit_hash_policy %s: teamd does not look into tunnels", policy)
		hash = fields["layer3+4"]
	}
	t.team.Runner.TxHash = hash
}

func (t *toTeam) ports() {
	primary, _ := t.take("primary")
	reselect, _ := t.take("primary_reselect")
	failOver, _ := t.take("fail_over_mac")
	for _, p := range t.bond.Ports {
		port := teaming.Port{Name: p.Name}
		if n, err := strconv.Atoi(p.Options["queue_id"]); err == nil {
			port.QueueID = &n
		}
		if n, err := strconv.Atoi(p.Options["prio"]); err == nil {
			port.Prio = &n
		}
		if p.Name == primary {
			most := 100
			port.Prio = &most
		}
		if t.bond.Mode == bonding.ActiveBackup && reselect == "failure" {
			yes := true
			port.Sticky = &yes
		}
		t.team.Ports = append(t.team.Ports, port)
	}
	if t.bond.Mode != bonding.ActiveBackup {
		return
	}
	if reselect == "better" {
		t.say("primary_reselect better: a team goes back to the port with the highest prio, whatever its speed")
	}
	t.team.Runner.HWAddrPolicy = map[string]string{"active": "by_active", "follow": "only_active"}[failOver]
}
