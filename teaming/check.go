package teaming

import (
	"bytes"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// Problem is one mistake in a Config.
type Problem struct {
	Key  string // where: "runner.name", "ports[1].link_watch[0].target_host"
	Text string // one sentence
	Next string // what to do
}

// Runners of teamd (teamd.conf(5)).
const (
	Broadcast    = "broadcast"
	RoundRobin   = "roundrobin"
	Random       = "random"
	ActiveBackup = "activebackup"
	LoadBalance  = "loadbalance"
	LACP         = "lacp"
)

// runners says which keys beside its name each runner has.
var runners = map[string][]string{
	Broadcast: {}, RoundRobin: {}, Random: {},
	ActiveBackup: {"hwaddr_policy"},
	LoadBalance:  {"tx_hash", "tx_balancer"},
	LACP:         {"active", "sys_prio", "fast_rate", "tx_hash", "tx_balancer", "min_ports", "agg_select_policy"},
}

// portKeys says which keys of a port only some runners have.
var portKeys = map[string]string{"prio": ActiveBackup, "sticky": ActiveBackup, "lacp_prio": LACP, "lacp_key": LACP}

// byPortConfig is the policy of LACP that goes by prio and sticky, too.
const byPortConfig = "port_config"

// linkWatches says which keys beside its name each link watch has. There is a
// fourth, tipc, which needs a cluster's own network.
var linkWatches = map[string][]string{
	"ethtool":   {"delay_up", "delay_down"},
	"arp_ping":  {"interval", "init_wait", "missed_max", "source_host", "target_host", "validate_active", "validate_inactive", "send_always", "vlanid"},
	"nsna_ping": {"interval", "init_wait", "missed_max", "target_host"},
}

var (
	hwaddrPolicies = []string{"same_all", "by_active", "only_active"}
	selectPolicies = []string{"lacp_prio", "lacp_prio_stable", "bandwidth", "count", byPortConfig}
	hashes         = []string{"eth", "vlan", "ipv4", "ipv6", "ip", "l3", "tcp", "udp", "sctp", "l4"}
)

// Runners is the names of all runners.
func Runners() []string { return slices.Sorted(maps.Keys(runners)) }

// KernelMode is the mode of the team driver in which a runner works (teamd's
// struct teamd_runner, team_mode_name). The driver changes it only while there
// is no port in the team.
func KernelMode(runner string) string {
	if runner == LACP {
		return LoadBalance
	}
	return runner
}

// AllPorts says that a team with that runner sends on all its ports.
func AllPorts(runner string) bool { return runner != ActiveBackup }

// Check finds every mistake that can be seen without the host.
func (c Config) Check() []Problem {
	k := &checker{}
	k.runner(c.Runner)
	k.watches("link_watch", c.LinkWatch)
	k.mac("hwaddr", c.HWAddr)
	for key, b := range map[string]*Burst{"notify_peers": c.NotifyPeers, "mcast_rejoin": c.McastRejoin} {
		if b != nil {
			k.atLeast(key+".count", b.Count, 0)
			k.atLeast(key+".interval", b.Interval, 0)
		}
	}
	seen := map[string]bool{}
	for i, p := range c.Ports {
		key := fmt.Sprintf("ports[%d]", i)
		if seen[p.Name] {
			k.add(key, "port %s is named twice", vmnetd.Printable(p.Name)).Next = "remove one of them"
		}
		seen[p.Name] = true
		k.port(key, p, c.Runner)
	}
	slices.SortStableFunc(k.problems, func(a, b Problem) int { return strings.Compare(a.Key, b.Key) })
	return k.problems
}

type checker struct{ problems []Problem }

func (k *checker) add(key, format string, args ...any) *Problem {
	k.problems = append(k.problems, Problem{Key: key, Text: fmt.Sprintf(format, args...)})
	return &k.problems[len(k.problems)-1]
}

func (k *checker) runner(r Runner) {
	has, known := runners[r.Name]
	switch {
	case r.Name == "":
		k.add("runner.name", "this team has no runner").Next = "add  runner: {name: activebackup}, or another of " + strings.Join(Runners(), ", ")
		return
	case !known:
		k.add("runner.name", "teamd has no runner %q", r.Name).Next = "runners are " + strings.Join(Runners(), ", ")
		return
	}
	for key, given := range map[string]bool{
		"hwaddr_policy": r.HWAddrPolicy != "", "tx_hash": r.TxHash != nil, "tx_balancer": r.TxBalancer != nil, "active": r.Active != nil,
		"fast_rate": r.FastRate != nil, "sys_prio": r.SysPrio != nil, "min_ports": r.MinPorts != nil, "agg_select_policy": r.AggSelectPolicy != "",
	} {
		if given && !slices.Contains(has, key) {
			k.add("runner."+key, "runner %s has no %s: it is for %s", r.Name, key, strings.Join(with(key), ", ")).Next = "leave it out, or take another runner"
		}
	}
	k.oneOf("runner.hwaddr_policy", r.HWAddrPolicy, hwaddrPolicies)
	k.oneOf("runner.agg_select_policy", r.AggSelectPolicy, selectPolicies)
	for i, hash := range r.TxHash {
		k.oneOf(fmt.Sprintf("runner.tx_hash[%d]", i), hash, hashes)
	}
	if b := r.TxBalancer; b != nil {
		k.oneOf("runner.tx_balancer.name", b.Name, []string{"basic"})
		k.atLeast("runner.tx_balancer.balancing_interval", b.BalancingInterval, 1)
	}
	k.between("runner.sys_prio", r.SysPrio, 0, 65535)
	k.between("runner.min_ports", r.MinPorts, 1, 255)
}

func with(key string) []string {
	var names []string
	for _, name := range Runners() {
		if slices.Contains(runners[name], key) {
			names = append(names, name)
		}
	}
	return names
}

func (k *checker) port(key string, p Port, r Runner) {
	for name, given := range map[string]bool{"prio": p.Prio != nil, "sticky": p.Sticky != nil, "lacp_prio": p.LACPPrio != nil, "lacp_key": p.LACPKey != nil} {
		only := portKeys[name]
		counts := only == r.Name || only == ActiveBackup && r.Name == LACP && r.AggSelectPolicy == byPortConfig
		if given && !counts && runners[r.Name] != nil {
			k.add(key+"."+name, "%s is for ports of runner %s, not of %s", name, only, r.Name).Next = "leave it out"
		}
	}
	// teamd/teamd_json.c: in the path ports.eno1.7.prio, 7 is a key of eno1.
	if strings.ContainsAny(p.Name, ".[") && !reflect.DeepEqual(p, Port{Name: p.Name}) {
		k.add(key, "teamd reads nothing that is written for %s: its name has a dot or a bracket", vmnetd.Printable(p.Name)).Next = "give the device another name, or leave all but the name out"
	}
	k.atLeast(key+".queue_id", p.QueueID, 0)
	k.between(key+".lacp_prio", p.LACPPrio, 0, 65535)
	k.between(key+".lacp_key", p.LACPKey, 0, 65535)
	k.watches(key+".link_watch", p.LinkWatch)
}

func (k *checker) watches(key string, list []LinkWatch) {
	for i, w := range list {
		k.watch(fmt.Sprintf("%s[%d]", key, i), w)
	}
}

func (k *checker) watch(key string, w LinkWatch) {
	has, known := linkWatches[w.Name]
	if !known {
		k.add(key+".name", "teamd has no link watch %q", w.Name).Next = "link watches are ethtool, arp_ping, nsna_ping"
		return
	}
	for name, given := range map[string]bool{
		"delay_up": w.DelayUp != nil, "delay_down": w.DelayDown != nil, "interval": w.Interval != nil, "init_wait": w.InitWait != nil,
		"missed_max": w.MissedMax != nil, "source_host": w.SourceHost != "", "target_host": w.TargetHost != "",
		"validate_active": w.ValidateActive != nil, "validate_inactive": w.ValidateInactive != nil, "send_always": w.SendAlways != nil, "vlanid": w.VLANID != nil,
	} {
		if given && !slices.Contains(has, name) {
			k.add(key+"."+name, "link watch %s has no %s", w.Name, name).Next = "keys here are " + strings.Join(has, ", ")
		}
	}
	for name, n := range map[string]*int{"delay_up": w.DelayUp, "delay_down": w.DelayDown, "interval": w.Interval, "init_wait": w.InitWait, "missed_max": w.MissedMax} {
		k.atLeast(key+"."+name, n, 0)
	}
	k.between(key+".vlanid", w.VLANID, 1, 4094)
	k.hosts(key, w)
}

func (k *checker) hosts(key string, w LinkWatch) {
	if w.Name == "ethtool" {
		return
	}
	ip, err := netip.ParseAddr(w.TargetHost)
	switch v6 := w.Name == "nsna_ping"; {
	case w.TargetHost == "":
		k.add(key, "%s has nobody to ask", w.Name).Next = "add  target_host: ADDRESS"
	case err != nil || ip.Is6() != v6:
		k.add(key+".target_host", "%q is no address that %s can ask", w.TargetHost, w.Name)
	}
	if source, err := netip.ParseAddr(w.SourceHost); w.SourceHost != "" && (err != nil || !source.Is4()) {
		k.add(key+".source_host", "%q is no IPv4 address", w.SourceHost)
	}
}

func (k *checker) mac(key, text string) {
	mac, err := net.ParseMAC(text)
	// teamd takes no other way of writing it, and the kernel neither groups nor zeros.
	bad := err != nil || len(mac) != 6 || mac[0]&1 == 1 || bytes.Equal(mac, make([]byte, 6)) || !strings.EqualFold(mac.String(), text)
	if text != "" && bad {
		k.add(key, "%q is no MAC such as 02:00:00:00:00:01", text)
	}
}

func (k *checker) oneOf(key, text string, of []string) {
	if text != "" && !slices.Contains(of, text) {
		k.add(key, "%s is one of %s, not %q", lastOf(key), strings.Join(of, ", "), text)
	}
}

func (k *checker) atLeast(key string, n *int, low int) { k.between(key, n, low, 1<<31-1) }

func (k *checker) between(key string, n *int, low, high int) {
	if n != nil && (*n < low || *n > high) {
		k.add(key, "%s takes %d to %d, not %d", lastOf(key), low, high, *n)
	}
}

// lastOf is the name at the end of a path: tx_hash of runner.tx_hash[1].
func lastOf(key string) string {
	name, _, _ := strings.Cut(key[strings.LastIndexByte(key, '.')+1:], "[")
	return name
}
